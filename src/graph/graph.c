#include "graph/graph.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* A planned tensor. Views of it carry the address of `buffer` until the graph is placed. */
struct tensor {
    struct ds_buffer buffer; /* first: a view's buffer is a tensor while device is NULL and it is one of ours */
    struct tensor *next;
    uint32_t first, last; /* nodes that touch it */
    bool used;
    uint64_t offset;
};

struct ds_graph {
    struct ds_device *device;
    struct ds_graph_node *nodes;
    uint32_t n_nodes, capacity;
    struct tensor *tensors; /* newest first */
    struct ds_slice count, flags;
    struct ds_device_graph *recording;
    bool planned, placed;
    struct ds_error failure; /* the first one of building; status DS_OK: none */
    /* The last quantisation, shared by linears that follow each other. */
    struct ds_view quantized_from, quantized;
};

struct ds_graph *ds_graph_create(struct ds_device *device) {
    struct ds_graph *graph = calloc(1, sizeof *graph);
    if (graph) graph->device = device;
    return graph;
}

void ds_graph_destroy(struct ds_graph *graph) {
    if (!graph) return;
    if (graph->recording) graph->device->fns->graph_destroy(graph->recording);
    for (struct tensor *t = graph->tensors; t;) {
        struct tensor *next = t->next;
        free(t);
        t = next;
    }
    free(graph->nodes);
    free(graph);
}

static void remember_failure(struct ds_graph *graph, const struct ds_error *err) {
    if (graph->failure.status == DS_OK) graph->failure = *err;
}

static void out_of_memory(struct ds_graph *graph, size_t bytes) {
    struct ds_error err;
    ds_fail_memory(&err, bytes, "a graph");
    remember_failure(graph, &err);
}

void ds_graph_set_count(struct ds_graph *graph, struct ds_slice count) {
    graph->count = count;
    graph->quantized.at.buffer = NULL; /* made for other rows */
}

struct ds_slice ds_graph_get_count(const struct ds_graph *graph) { return graph->count; }

void ds_graph_set_flags(struct ds_graph *graph, struct ds_slice flags) { graph->flags = flags; }

struct ds_view ds_graph_tensor(struct ds_graph *graph, ds_elem elem, uint32_t rows, uint32_t cols) {
    struct ds_view view = {.elem = elem, .rows = rows, .cols = cols, .stride = cols};
    struct tensor *t = calloc(1, sizeof *t);
    if (!t) {
        out_of_memory(graph, sizeof *t);
        return view;
    }
    t->buffer.bytes = DS_ALIGN_UP(ds_view_bytes(&view), (uint64_t)DS_ALIGN);
    t->next = graph->tensors;
    graph->tensors = t;
    view.at.buffer = &t->buffer;
    return view;
}

struct ds_view ds_view_of(struct ds_slice at, ds_elem elem, uint32_t rows, uint32_t cols) {
    return (struct ds_view){.at = at, .elem = elem, .rows = rows, .cols = cols, .stride = cols};
}

struct ds_view ds_view_first_rows(struct ds_view view, uint32_t rows) {
    view.rows = DS_MIN(view.rows, rows);
    return view;
}

struct ds_slice ds_slice_add(struct ds_slice slice, uint64_t bytes) {
    slice.offset += bytes;
    return slice;
}

struct ds_view ds_view_part(struct ds_view view, uint32_t row, uint32_t rows, uint32_t col, uint32_t cols) {
    assert(!ds_elem_is_q8(view.elem) || (col == 0 && cols == view.cols));
    view.at.offset += row * ds_view_pitch(&view) + (uint64_t)col * (view.elem == DS_ELEM_BF16 ? 2 : 4);
    view.rows = rows;
    view.cols = cols;
    return view;
}

/* An op that writes where the last quantisation read makes that one stale. */
static void forget_overwritten(struct ds_graph *graph, ds_op op, const union ds_op_params *params) {
    if (!graph->quantized.at.buffer) return;
    struct ds_operand operands[DS_MAX_OPERANDS];
    const uint32_t n = ds_op_operands(op, params, operands);
    for (uint32_t k = 0; k < n; k++) {
        const struct ds_slice *slice = (const struct ds_slice *)(const void *)((const char *)params + operands[k].offset);
        const bool meets = slice->buffer == graph->quantized_from.at.buffer || slice->buffer == graph->quantized.at.buffer;
        if (operands[k].access & DS_WRITE && meets) graph->quantized.at.buffer = NULL;
    }
}

void ds_graph_append(struct ds_graph *graph, ds_op op, const union ds_op_params *params) {
    assert(!graph->planned);
    forget_overwritten(graph, op, params);
    if (graph->n_nodes == graph->capacity) {
        const uint32_t capacity = graph->capacity ? 2 * graph->capacity : 64;
        struct ds_graph_node *nodes = realloc(graph->nodes, capacity * sizeof *nodes);
        if (!nodes) {
            out_of_memory(graph, capacity * sizeof *nodes);
            return;
        }
        graph->nodes = nodes;
        graph->capacity = capacity;
    }
    graph->nodes[graph->n_nodes++] = (struct ds_graph_node){.op = op, .params = *params};
}

/* --- the ops models are made of --- */

void ds_graph_embed_into(struct ds_graph *graph, const struct ds_weight *table, struct ds_slice ids, float scale, struct ds_view out) {
    ds_graph_append(graph, DS_OP_embed, &(union ds_op_params){
        .embed = {.table = *table, .ids = ids, .out = out, .scale = scale, .count = graph->count}});
}

struct ds_view ds_graph_embed(struct ds_graph *graph, const struct ds_weight *table, struct ds_slice ids, uint32_t rows, float scale) {
    const struct ds_view out = ds_graph_tensor(graph, DS_ELEM_F32, rows, table->cols);
    ds_graph_embed_into(graph, table, ids, scale, out);
    return out;
}

struct ds_view ds_graph_rms_norm(struct ds_graph *graph, struct ds_view x, uint32_t dim, struct ds_slice weight, float eps) {
    return ds_graph_rms_norm_add(graph, x, dim, weight, eps, (struct ds_view){0});
}

struct ds_view ds_graph_rms_norm_add(struct ds_graph *graph, struct ds_view x, uint32_t dim, struct ds_slice weight, float eps,
                                     struct ds_view residual) {
    const struct ds_view out = ds_graph_tensor(graph, DS_ELEM_F32, x.rows, x.cols);
    ds_graph_append(graph, DS_OP_rms_norm, &(union ds_op_params){
        .rms_norm = {.x = x, .out = out, .dim = dim, .weight = weight, .eps = eps, .residual = residual, .count = graph->count}});
    return out;
}

static bool same_view(const struct ds_view *a, const struct ds_view *b) {
    return a->at.buffer && a->at.buffer == b->at.buffer && a->at.offset == b->at.offset && a->rows == b->rows && a->cols == b->cols &&
           a->stride == b->stride && a->elem == b->elem;
}

static bool has_op(const struct ds_graph *graph, ds_op op, const union ds_op_params *params) {
    const struct ds_device_fns *fns = graph->device->fns;
    return fns->op[op] && fns->can_run(graph->device, op, params);
}

static bool same_slice(const struct ds_slice *a, const struct ds_slice *b) { return a->buffer == b->buffer && a->offset == b->offset; }

/* The op that does `quantize` together with the node before it, which makes what is quantised. False: there is none. */
static bool fused_with(const struct ds_graph_node *before, const struct ds_op_quantize *q, struct ds_graph_node *out) {
    if (before->op == DS_OP_rms_norm) {
        const struct ds_op_rms_norm *p = &before->params.rms_norm;
        const bool whole = p->dim == p->x.cols && !p->residual.at.buffer && !same_view(&p->x, &p->out) && q->groups <= 1;
        if (!whole || !same_view(&p->out, &q->x) || !same_slice(&p->count, &q->count)) return false;
        *out = (struct ds_graph_node){DS_OP_norm_quantize, {.norm_quantize = {.x = p->x, .weight = p->weight, .eps = p->eps, .normed = p->out, .out = q->out,
                                                                              .flags = q->flags, .count = q->count}}};
        return true;
    }
    if (before->op == DS_OP_glu) {
        const struct ds_op_glu *p = &before->params.glu;
        if (!same_view(&p->out, &q->x) || !same_slice(&p->count, &q->count)) return false;
        *out = (struct ds_graph_node){DS_OP_glu_quantize, {.glu_quantize = {.gate = p->gate, .up = p->up, .activation = p->activation, .gated = p->out,
                                                                            .out = q->out, .groups = q->groups, .flags = q->flags, .count = q->count}}};
        return true;
    }
    return false;
}

static void append_quantize(struct ds_graph *graph, const struct ds_op_quantize *q) {
    struct ds_graph_node *const last = graph->n_nodes ? &graph->nodes[graph->n_nodes - 1] : NULL;
    struct ds_graph_node fused;
    if (last && fused_with(last, q, &fused) && has_op(graph, fused.op, &fused.params)) *last = fused;
    else ds_graph_append(graph, DS_OP_quantize, &(union ds_op_params){.quantize = *q});
}

/* `groups` rows of the result for each row of x. */
static struct ds_view quantized(struct ds_graph *graph, struct ds_view x, ds_elem elem, uint32_t groups) {
    if (x.elem == elem && groups == 1) return x;
    if (x.elem == elem) {
        assert(x.stride == x.cols); /* rows of `groups` parts are as many rows of one */
        return ds_view_of(x.at, elem, x.rows * groups, x.cols / groups);
    }
    if (graph->quantized.at.buffer && graph->quantized.elem == elem && same_view(&graph->quantized_from, &x) &&
        graph->quantized.rows == x.rows * groups)
        return graph->quantized;
    const struct ds_view out = ds_graph_tensor(graph, elem, x.rows * groups, x.cols / groups);
    append_quantize(graph, &(struct ds_op_quantize){.x = x, .out = out, .groups = groups, .flags = graph->flags, .count = graph->count});
    graph->quantized_from = x;
    graph->quantized = out;
    return out;
}

void ds_graph_linear_into(struct ds_graph *graph, const struct ds_weight *weight, struct ds_view x, struct ds_slice bias,
                          struct ds_view residual, struct ds_view y) {
    const struct ds_view input = quantized(graph, x, ds_linear_input(weight->type), 1);
    ds_graph_append(graph, DS_OP_linear, &(union ds_op_params){
        .linear = {.weight = *weight, .x = input, .y = y, .bias = bias, .residual = residual, .count = graph->count}});
}

struct ds_view ds_graph_linear(struct ds_graph *graph, const struct ds_weight *weight, struct ds_view x, struct ds_slice bias,
                               struct ds_view residual) {
    const struct ds_view y = ds_graph_tensor(graph, DS_ELEM_F32, x.rows, weight->rows);
    ds_graph_linear_into(graph, weight, x, bias, residual, y);
    return y;
}

struct ds_view ds_graph_top_linear(struct ds_graph *graph, const struct ds_weight *weight, struct ds_view x, struct ds_view residual, uint32_t top,
                                   float fill) {
    const struct ds_view y = ds_graph_tensor(graph, DS_ELEM_F32, x.rows, weight->rows), input = quantized(graph, x, ds_linear_input(weight->type), 1);
    ds_graph_append(graph, DS_OP_top_linear, &(union ds_op_params){
        .top_linear = {.weight = *weight, .x = input, .residual = residual, .y = y, .top = top, .fill = fill, .count = graph->count}});
    return y;
}

void ds_graph_heads(struct ds_graph *graph, const struct ds_op_heads *heads) {
    const union ds_op_params params = {.heads = *heads};
    if (has_op(graph, DS_OP_heads, &params)) {
        ds_graph_append(graph, DS_OP_heads, &params);
        return;
    }
    ds_op ops[DS_MOST_PARTS];
    union ds_op_params parts[DS_MOST_PARTS];
    const uint32_t n = ds_op_parts(DS_OP_heads, &params, ops, parts);
    for (uint32_t i = 0; i < n; i++) ds_graph_append(graph, ops[i], &parts[i]);
}

struct ds_view ds_graph_glu(struct ds_graph *graph, struct ds_view gate, struct ds_view up, ds_activation activation) {
    const struct ds_view out = ds_graph_tensor(graph, DS_ELEM_F32, gate.rows, gate.cols);
    ds_graph_append(graph, DS_OP_glu, &(union ds_op_params){
        .glu = {.gate = gate, .up = up, .out = out, .activation = activation, .count = graph->count}});
    return out;
}

void ds_graph_scale(struct ds_graph *graph, struct ds_view x, float scale, float softcap) {
    ds_graph_append(graph, DS_OP_scale, &(union ds_op_params){
        .scale = {.x = x, .out = x, .scale = scale, .softcap = softcap, .count = graph->count}});
}

struct ds_view ds_graph_expert_linear(struct ds_graph *graph, const struct ds_weight *weight, uint32_t experts, uint32_t outputs,
                                      struct ds_view x, struct ds_view ids) {
    const struct ds_view input = quantized(graph, x, ds_linear_input(weight->type), x.cols / weight->cols);
    const struct ds_view y = ds_graph_tensor(graph, DS_ELEM_F32, ids.rows, ids.cols * outputs);
    ds_graph_append(graph, DS_OP_expert_linear, &(union ds_op_params){
        .expert_linear = {.weight = *weight, .experts = experts, .outputs = outputs, .x = input, .ids = ids, .y = y, .count = graph->count}});
    return y;
}

void ds_graph_copy(struct ds_graph *graph, struct ds_view x, struct ds_slice index, struct ds_view out) {
    ds_graph_append(graph, DS_OP_copy, &(union ds_op_params){.copy = {.x = x, .out = out, .index = index, .count = graph->count}});
}

/* --- planning --- */

static struct tensor *find_tensor(const struct ds_graph *graph, const struct ds_buffer *buffer) {
    if (buffer->device) return NULL;
    for (struct tensor *t = graph->tensors; t; t = t->next)
        if (&t->buffer == buffer) return t;
    return NULL; /* planned by somebody else (weights that are not placed yet) */
}

static struct ds_slice *operand_slice(struct ds_graph_node *node, const struct ds_operand *operand) {
    return (struct ds_slice *)(void *)((char *)&node->params + operand->offset);
}

static ds_status find_lifetimes(struct ds_graph *graph, struct ds_error *err) {
    for (uint32_t i = 0; i < graph->n_nodes; i++) {
        struct ds_graph_node *node = &graph->nodes[i];
        if (ds_op_check(node->op, &node->params, err) != DS_OK) return ds_fail_context(err, "graph node %u", i);
        if (!graph->device->fns->can_run(graph->device, node->op, &node->params)) {
            struct ds_device_limits limits;
            graph->device->fns->limits(graph->device, &limits);
            return ds_fail(err, DS_ERROR_UNSUPPORTED, "device '%s' cannot run op %s of this model; choose another device",
                           limits.name, ds_op_name(node->op));
        }
        struct ds_operand operands[DS_MAX_OPERANDS];
        const uint32_t n = ds_op_operands(node->op, &node->params, operands);
        for (uint32_t k = 0; k < n; k++) {
            struct tensor *t = find_tensor(graph, operand_slice(node, &operands[k])->buffer);
            if (!t) continue;
            if (!t->used) t->first = i;
            t->used = true;
            t->last = i;
        }
    }
    return DS_OK;
}

static int by_first_use(const void *a, const void *b) {
    const struct tensor *x = *(struct tensor *const *)a, *y = *(struct tensor *const *)b;
    return x->first != y->first ? (x->first < y->first ? -1 : 1) : (x->buffer.bytes < y->buffer.bytes) - (x->buffer.bytes > y->buffer.bytes);
}

/*
 * A tensor keeps its place for a few nodes longer than it is used. Otherwise the next op's result would often lie where this one's operand
 * was, and a device that runs neighbouring ops side by side, or lets threads run ahead, would have to wait for nothing but the place.
 */
enum { REST = 4 };
static bool alive_with(const struct tensor *earlier, const struct tensor *t) { return (uint64_t)earlier->last + REST >= t->first; }

/* The lowest offset at which `t` meets none of the n tensors placed before it that are alive with it. */
static uint64_t first_fit(struct tensor *const *placed, uint32_t n, const struct tensor *t) {
    uint64_t offset = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (uint32_t i = 0; i < n; i++) {
            const struct tensor *o = placed[i];
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

static ds_status lay_out(struct ds_graph *graph, uint64_t *bytes, struct ds_error *err) {
    uint32_t n = 0;
    for (struct tensor *t = graph->tensors; t; t = t->next) n += t->used;
    struct tensor **order = malloc(DS_MAX(n, 1) * sizeof *order);
    if (!order) return ds_fail_memory(err, n * sizeof *order, "a graph's plan");
    n = 0;
    for (struct tensor *t = graph->tensors; t; t = t->next)
        if (t->used) order[n++] = t;
    qsort(order, n, sizeof *order, by_first_use);
    *bytes = 0;
    uint32_t live = 0; /* order[0..live) holds only tensors that may still be alive: the plan stays near linear */
    for (uint32_t i = 0; i < n; i++) {
        struct tensor *t = order[i];
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

ds_status ds_graph_place(struct ds_graph *graph, struct ds_buffer *scratch, struct ds_error *err) {
    assert(graph->planned && !graph->placed);
    for (uint32_t i = 0; i < graph->n_nodes; i++) {
        struct ds_graph_node *node = &graph->nodes[i];
        struct ds_operand operands[DS_MAX_OPERANDS];
        const uint32_t n = ds_op_operands(node->op, &node->params, operands);
        for (uint32_t k = 0; k < n; k++) {
            struct ds_slice *slice = operand_slice(node, &operands[k]);
            const struct tensor *t = find_tensor(graph, slice->buffer);
            if (t) *slice = (struct ds_slice){scratch, t->offset + slice->offset};
        }
        if (ds_op_check(node->op, &node->params, err) != DS_OK) return ds_fail_context(err, "placed graph node %u", i);
    }
    const struct ds_device_fns *fns = graph->device->fns;
    if (fns->graph_create) DS_TRY(fns->graph_create(graph->device, graph->nodes, graph->n_nodes, &graph->recording, err));
    graph->placed = true;
    return DS_OK;
}

ds_status ds_graph_run(struct ds_graph *graph, struct ds_stream *stream, struct ds_error *err) {
    assert(graph->placed);
    const struct ds_device_fns *fns = graph->device->fns;
    if (graph->recording) return fns->graph_run(stream, graph->recording, err);
    for (uint32_t i = 0; i < graph->n_nodes; i++)
        DS_TRY(fns->op[graph->nodes[i].op](stream, &graph->nodes[i].params, err));
    return DS_OK;
}

uint32_t ds_graph_node_count(const struct ds_graph *graph) { return graph->n_nodes; }
const struct ds_graph_node *ds_graph_nodes(const struct ds_graph *graph) { return graph->nodes; }
