/* The plan of a graph: how long each tensor lives, and where it lies in the scratch memory that all share. */
#include "graph/graph_internal.h"

#include <assert.h>
#include <stdlib.h>

static struct ds_planned_tensor *find_tensor(const struct ds_graph *graph, const struct ds_buffer *buffer) {
    if (buffer->device) return NULL;
    for (struct ds_planned_tensor *t = graph->tensors; t; t = t->next)
        if (&t->buffer == buffer) return t;
    return NULL; /* planned by somebody else (weights that are not placed yet) */
}

static struct ds_slice *operand_slice(struct ds_graph_node *node, const struct ds_operand *operand) {
    return (struct ds_slice *)(void *)((char *)&node->params + operand->offset);
}

/* --- lifetimes --- */

static ds_status check_node(const struct ds_graph *graph, uint32_t i, struct ds_error *err) {
    const struct ds_graph_node *node = &graph->nodes[i];
    if (ds_op_check(node->op, &node->params, err) != DS_OK) return ds_fail_context(err, "graph node %u", i);
    if (graph->device->fns->can_run(graph->device, node->op, &node->params)) return DS_OK;
    struct ds_device_limits limits;
    graph->device->fns->limits(graph->device, &limits);
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "device '%s' cannot run op %s of this model; choose another device", limits.name,
                   ds_op_name(node->op));
}

static void note_uses(const struct ds_graph *graph, uint32_t i) {
    struct ds_graph_node *node = &graph->nodes[i];
    struct ds_operand operands[DS_MAX_OPERANDS];
    const uint32_t n = ds_op_operands(node->op, &node->params, operands);
    for (uint32_t k = 0; k < n; k++) {
        struct ds_planned_tensor *t = find_tensor(graph, operand_slice(node, &operands[k])->buffer);
        if (!t) continue;
        if (!t->used) t->first = i;
        t->used = true;
        t->last = i;
    }
}

static ds_status find_lifetimes(const struct ds_graph *graph, struct ds_error *err) {
    for (uint32_t i = 0; i < graph->n_nodes; i++) {
        DS_TRY(check_node(graph, i, err));
        note_uses(graph, i);
    }
    return DS_OK;
}

/* --- places --- */

static int by_first_use(const void *a, const void *b) {
    const struct ds_planned_tensor *x = *(struct ds_planned_tensor *const *)a, *y = *(struct ds_planned_tensor *const *)b;
    return x->first != y->first ? (x->first < y->first ? -1 : 1) : (x->buffer.bytes < y->buffer.bytes) - (x->buffer.bytes > y->buffer.bytes);
}

/*
 * A tensor keeps its place for a few nodes longer than it is used. Otherwise the next op's result would often lie where this
 * one's operand was, and a device that runs neighbouring ops side by side, or lets threads run ahead, would have to wait for
 * nothing but the place.
 */
enum { REST = 4 };
static bool alive_with(const struct ds_planned_tensor *earlier, const struct ds_planned_tensor *t) { return (uint64_t)earlier->last + REST >= t->first; }

/* The lowest offset at which `t` meets none of the n tensors placed before it that are alive with it. */
static uint64_t first_fit(struct ds_planned_tensor *const *placed, uint32_t n, const struct ds_planned_tensor *t) {
    uint64_t offset = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (uint32_t i = 0; i < n; i++) {
            const struct ds_planned_tensor *o = placed[i];
            const bool alive = alive_with(o, t) && o->first <= t->last; /* they are placed by first use */
            const bool meets = o->offset < offset + t->buffer.bytes && offset < o->offset + o->buffer.bytes;
            if (alive && meets) {
                offset = o->offset + o->buffer.bytes;
                moved = true;
            }
        }
    }
    return offset;
}

/* The tensors that are used, by first use. *order: the caller frees it. */
static ds_status sort_tensors(const struct ds_graph *graph, struct ds_planned_tensor ***order, uint32_t *count, struct ds_error *err) {
    size_t n = 0;
    *count = 0;
    for (struct ds_planned_tensor *t = graph->tensors; t; t = t->next) n += t->used;
    *order = malloc(DS_MAX(n, 1) * sizeof **order);
    if (!*order) return ds_fail_memory(err, n * sizeof **order, "a graph's plan");
    for (struct ds_planned_tensor *t = graph->tensors; t; t = t->next)
        if (t->used) (*order)[(*count)++] = t;
    qsort(*order, n, sizeof **order, by_first_use);
    return DS_OK;
}

static ds_status lay_out(struct ds_graph *graph, uint64_t *bytes, struct ds_error *err) {
    struct ds_planned_tensor **order;
    uint32_t n = 0;
    DS_TRY(sort_tensors(graph, &order, &n, err));
    *bytes = 0;
    uint32_t live = 0; /* order[0..live) holds only tensors that may still be alive: the plan stays near linear */
    for (uint32_t i = 0; i < n; i++) {
        struct ds_planned_tensor *t = order[i];
        uint32_t kept = 0;
        for (uint32_t k = 0; k < live; k++)
            if (alive_with(order[k], t)) order[kept++] = order[k];
        t->offset = first_fit(order, kept, t);
        *bytes = DS_MAX(*bytes, t->offset + t->buffer.bytes);
        order[kept] = t;
        live = kept + 1;
    }
    free(order);
    return DS_OK;
}

/* --- the plan, and what comes of it --- */

ds_status ds_graph_plan(struct ds_graph *graph, uint64_t *bytes, struct ds_error *err) {
    if (graph->failure.status != DS_OK) {
        *err = graph->failure;
        return err->status;
    }
    DS_TRY(find_lifetimes(graph, err));
    DS_TRY(lay_out(graph, bytes, err));
    graph->planned = true;
    return DS_OK;
}

static void place_operands(struct ds_graph *graph, struct ds_graph_node *node, struct ds_buffer *scratch) {
    struct ds_operand operands[DS_MAX_OPERANDS];
    const uint32_t n = ds_op_operands(node->op, &node->params, operands);
    for (uint32_t k = 0; k < n; k++) {
        struct ds_slice *slice = operand_slice(node, &operands[k]);
        const struct ds_planned_tensor *t = find_tensor(graph, slice->buffer);
        if (t) *slice = (struct ds_slice){scratch, t->offset + slice->offset};
    }
}

ds_status ds_graph_place(struct ds_graph *graph, struct ds_buffer *scratch, struct ds_error *err) {
    assert(graph->planned && !graph->placed);
    for (uint32_t i = 0; i < graph->n_nodes; i++) {
        struct ds_graph_node *node = &graph->nodes[i];
        place_operands(graph, node, scratch);
        if (ds_op_check(node->op, &node->params, err) != DS_OK) return ds_fail_context(err, "placed graph node %u", i);
    }
    const struct ds_device_fns *fns = graph->device->fns;
    if (fns->graph_create) DS_TRY(fns->graph_create(graph->device, graph->nodes, graph->n_nodes, &graph->recording, err));
    graph->placed = true;
    return DS_OK;
}
