/*
 * A fixed list of ops on one device, built once and run many times.
 *
 * Model code asks for tensors and appends ops; a failure is remembered in the graph and reported by ds_graph_plan, so
 * that builders read like the model they build. Then the scratch memory of all tensors is planned by their lifetimes
 * (ds_graph_plan), placed in a buffer that graphs of one stream may share (ds_graph_place), and the list is recorded if
 * the device records. What changes between runs is data in buffers; a run allocates nothing.
 *
 * Not thread-safe; a run belongs to the thread that owns the stream.
 */
#ifndef DSPARK_GRAPH_GRAPH_H
#define DSPARK_GRAPH_GRAPH_H

#include "ops/device.h"

struct ds_graph;

/* NULL when memory is out. `count`: u32 in device memory, the active rows of every op appended afterwards; buffer NULL: all. */
struct ds_graph *ds_graph_create(struct ds_device *device);
void ds_graph_destroy(struct ds_graph *graph); /* accepts NULL */

/* --- building --- */

/* From here on ops compute only min(rows, *count) rows. */
void ds_graph_set_count(struct ds_graph *graph, struct ds_slice count);
struct ds_slice ds_graph_get_count(const struct ds_graph *graph);
/* Where ops that quantise raise the flags of their rows (u32 a row); buffer NULL: nowhere. */
void ds_graph_set_flags(struct ds_graph *graph, struct ds_slice flags);

/* A tensor of the plan. Its memory is shared with tensors whose lifetimes do not meet its own. */
struct ds_view ds_graph_tensor(struct ds_graph *graph, ds_elem elem, uint32_t rows, uint32_t cols);
/* A tensor that already has a place. */
struct ds_view ds_view_of(struct ds_slice at, ds_elem elem, uint32_t rows, uint32_t cols);
/* Part of a view: `rows` from `row` on, `cols` from `col` on (not for columns of DS_ELEM_Q8, DS_ELEM_Q8_32). */
struct ds_view ds_view_part(struct ds_view view, uint32_t row, uint32_t rows, uint32_t col, uint32_t cols);
/* The first rows of a view, at most `rows`. An absent view stays absent. */
struct ds_view ds_view_first_rows(struct ds_view view, uint32_t rows);
struct ds_slice ds_slice_add(struct ds_slice slice, uint64_t bytes);

/* Appends any op as it is (its count included). */
void ds_graph_append(struct ds_graph *graph, ds_op op, const union ds_op_params *params);

/* The ops models are made of. Results are new tensors unless `out` is given. */
struct ds_view ds_graph_embed(struct ds_graph *graph, const struct ds_weight *table, struct ds_slice ids, uint32_t rows, float scale);
void ds_graph_embed_into(struct ds_graph *graph, const struct ds_weight *table, struct ds_slice ids, float scale, struct ds_view out);
struct ds_view ds_graph_rms_norm(struct ds_graph *graph, struct ds_view x, uint32_t dim, struct ds_slice weight, float eps);
/* norm(x) + residual */
struct ds_view ds_graph_rms_norm_add(struct ds_graph *graph, struct ds_view x, uint32_t dim, struct ds_slice weight, float eps,
                                     struct ds_view residual);
/*
 * Quantises x first when the weight's type asks for it; linears in a row that share x share the result. An x that the op before has made, a
 * norm or a glu, is quantised by that one if the device can. bias, residual: may be absent.
 */
struct ds_view ds_graph_linear(struct ds_graph *graph, const struct ds_weight *weight, struct ds_view x, struct ds_slice bias,
                               struct ds_view residual);
void ds_graph_linear_into(struct ds_graph *graph, const struct ds_weight *weight, struct ds_view x, struct ds_slice bias,
                          struct ds_view residual, struct ds_view y);
/* A linear for the outputs with the `top` greatest residuals; the others become `fill`. */
struct ds_view ds_graph_top_linear(struct ds_graph *graph, const struct ds_weight *weight, struct ds_view x, struct ds_view residual, uint32_t top,
                                   float fill);
/* Norms, rope and storing of heads: one op where the device has it, else its parts. */
void ds_graph_heads(struct ds_graph *graph, const struct ds_op_heads *heads);
struct ds_view ds_graph_glu(struct ds_graph *graph, struct ds_view gate, struct ds_view up, ds_activation activation);
/* In place: x * scale, then the soft-cap (0: none). */
void ds_graph_scale(struct ds_graph *graph, struct ds_view x, float scale, float softcap);
/* Experts' linears: x f32 [rows, inputs], or [rows, slots * inputs] without gaps where every slot has inputs of its own. [rows, slots * outputs] */
struct ds_view ds_graph_expert_linear(struct ds_graph *graph, const struct ds_weight *weight, uint32_t experts, uint32_t outputs,
                                      struct ds_view x, struct ds_view ids);
void ds_graph_copy(struct ds_graph *graph, struct ds_view x, struct ds_slice index, struct ds_view out);

/* --- finishing --- */

/* Reports the first failure of building, checks every op, lays the tensors out. *bytes: scratch this graph needs. */
ds_status ds_graph_plan(struct ds_graph *graph, uint64_t *bytes, struct ds_error *err);
/* Puts the tensors into `scratch` (which must outlive the graph) and records. Needs ds_graph_plan; all other buffers must be real. */
ds_status ds_graph_place(struct ds_graph *graph, struct ds_buffer *scratch, struct ds_error *err);

ds_status ds_graph_run(struct ds_graph *graph, struct ds_stream *stream, struct ds_error *err);

uint32_t ds_graph_node_count(const struct ds_graph *graph);
/* The ops in their order, for measurements; they belong to the graph. */
const struct ds_graph_node *ds_graph_nodes(const struct ds_graph *graph);

#endif
