/* Activations are quantised once, and by the op that makes them where the device can. */
#include "graph/graph_internal.h"

#include <assert.h>

void ds_graph_forget_overwritten(struct ds_graph *graph, ds_op op, const union ds_op_params *params) {
    if (!graph->quantized.at.buffer) return;
    struct ds_operand operands[DS_MAX_OPERANDS];
    const uint32_t n = ds_op_operands(op, params, operands);
    for (uint32_t k = 0; k < n; k++) {
        const struct ds_slice *slice = (const struct ds_slice *)(const void *)((const char *)params + operands[k].offset);
        const bool meets = slice->buffer == graph->quantized_from.at.buffer || slice->buffer == graph->quantized.at.buffer;
        if (operands[k].access & DS_WRITE && meets) graph->quantized.at.buffer = NULL;
    }
}

static bool same_view(const struct ds_view *a, const struct ds_view *b) {
    return a->at.buffer && a->at.buffer == b->at.buffer && a->at.offset == b->at.offset && a->rows == b->rows && a->cols == b->cols &&
           a->stride == b->stride && a->elem == b->elem;
}

static bool same_slice(const struct ds_slice *a, const struct ds_slice *b) { return a->buffer == b->buffer && a->offset == b->offset; }

/* A norm of whole rows that keeps its input: with what is quantised of its result. */
static bool fuses_norm(const struct ds_op_rms_norm *p, const struct ds_op_quantize *q, struct ds_graph_node *out) {
    const bool whole = p->dim == p->x.cols && !p->residual.at.buffer && !same_view(&p->x, &p->out) && q->groups <= 1;
    if (!whole || !same_view(&p->out, &q->x) || !same_slice(&p->count, &q->count)) return false;
    *out = (struct ds_graph_node){DS_OP_norm_quantize, {.norm_quantize = {.x = p->x, .weight = p->weight, .eps = p->eps, .normed = p->out,
                                                                          .out = q->out, .flags = q->flags, .count = q->count}}};
    return true;
}

static bool fuses_glu(const struct ds_op_glu *p, const struct ds_op_quantize *q, struct ds_graph_node *out) {
    if (!same_view(&p->out, &q->x) || !same_slice(&p->count, &q->count)) return false;
    *out = (struct ds_graph_node){DS_OP_glu_quantize, {.glu_quantize = {.gate = p->gate, .up = p->up, .activation = p->activation, .gated = p->out,
                                                                        .out = q->out, .groups = q->groups, .flags = q->flags, .count = q->count}}};
    return true;
}

/* The op that does `quantize` together with the node before it, which makes what is quantised. False: there is none. */
static bool fuses_with(const struct ds_graph_node *before, const struct ds_op_quantize *q, struct ds_graph_node *out) {
    if (before->op == DS_OP_rms_norm) return fuses_norm(&before->params.rms_norm, q, out);
    if (before->op == DS_OP_glu) return fuses_glu(&before->params.glu, q, out);
    return false;
}

static void append_quantize(struct ds_graph *graph, const struct ds_op_quantize *q) {
    struct ds_graph_node *const last = graph->n_nodes ? &graph->nodes[graph->n_nodes - 1] : NULL;
    struct ds_graph_node fused;
    if (last && fuses_with(last, q, &fused) && ds_graph_has_op(graph, fused.op, &fused.params)) *last = fused;
    else ds_graph_append(graph, DS_OP_quantize, &(union ds_op_params){.quantize = *q});
}

struct ds_view ds_graph_quantized(struct ds_graph *graph, struct ds_view x, ds_elem elem, uint32_t groups) {
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
