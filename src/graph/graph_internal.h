/*
 * A graph from inside (graph.h), and what its files share.
 *
 *   graph.c      its life: made, appended to, run, destroyed
 *   view.c       views of tensors and their parts
 *   build.c      the ops that models are made of
 *   quantized.c  activations are quantised once, and by the op that makes them where the device can
 *   plan.c       where its tensors lie
 */
#ifndef DSPARK_GRAPH_GRAPH_INTERNAL_H
#define DSPARK_GRAPH_GRAPH_INTERNAL_H

#include "graph/graph.h"

/* A planned tensor. Views of it carry the address of `buffer` until the graph is placed. */
struct ds_planned_tensor {
    struct ds_buffer buffer; /* a view's buffer is one of these while it has no device and is found in the list */
    struct ds_planned_tensor *next;
    uint32_t first, last; /* nodes that touch it */
    bool used;
    uint64_t offset;
};

struct ds_graph {
    struct ds_device *device;
    struct ds_graph_node *nodes;
    uint32_t n_nodes, capacity;
    struct ds_planned_tensor *tensors; /* newest first */
    struct ds_slice count, flags;
    struct ds_device_graph *recording;
    bool planned, placed;
    struct ds_error failure; /* the first one of building; status DS_OK: none */
    /* The last quantisation, shared by linears that follow each other. */
    struct ds_view quantized_from, quantized;
};

/* The device has the op, for these parameters. */
bool ds_graph_has_op(const struct ds_graph *graph, ds_op op, const union ds_op_params *params);

/* x as `elem`, `groups` rows of the result for each of its own: x itself, or what has been quantised before, or an op more. */
struct ds_view ds_graph_quantized(struct ds_graph *graph, struct ds_view x, ds_elem elem, uint32_t groups);
/* An op that writes where the last quantisation read makes that one stale. */
void ds_graph_forget_overwritten(struct ds_graph *graph, ds_op op, const union ds_op_params *params);

#endif
