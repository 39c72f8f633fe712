#include "graph.h"
#include "grid.h"

#include <stdlib.h>
#include <string.h>

/* A stretch of a buffer that an op since the last meeting has touched. */
struct touched {
    const struct ds_buffer *buffer;
    uint64_t begin, end;
    bool written;
    struct ds_cpu_grid grid; /* units 0: not unit by unit */
    uint32_t stride;         /* with a grid: of the view */
    struct ds_slice count;   /* likewise: the active rows */
};

/* --- which operands an op touches unit by unit --- */

static const void *slice_at(const union ds_op_params *params, size_t offset) { return (const char *)params + offset; }

/* The grid of an op on the view whose slice lies at `offset` of its parameters, and the view. */
static struct ds_cpu_grid grid_of(ds_op op, const union ds_op_params *params, size_t offset, const struct ds_view **view) {
    const void *slice = slice_at(params, offset);
    *view = slice; /* views begin with their slice; unused where there is no grid */
    switch (op) {
    case DS_OP_rms_norm: {
        const struct ds_op_rms_norm *p = &params->rms_norm;
        if (slice == &p->out.at || slice == &p->residual.at || (slice == &p->x.at && !ds_cpu_norm_by_runs(p))) return ds_cpu_norm_grid(p);
        break;
    }
    case DS_OP_quantize:
        if (slice == &params->quantize.x.at && params->quantize.groups <= 1) return ds_cpu_grid_of_runs(&params->quantize.x);
        break;
    case DS_OP_glu: {
        const struct ds_op_glu *p = &params->glu;
        if (slice == &p->gate.at || slice == &p->up.at || slice == &p->out.at) return ds_cpu_grid_of_runs(&p->gate);
        break;
    }
    case DS_OP_embed:
        if (slice == &params->embed.out.at) return ds_cpu_grid_of_runs(&params->embed.out);
        break;
    case DS_OP_rope:
        if (slice == &params->rope.x.at) return ds_cpu_grid_of_groups(&params->rope.x, params->rope.head_dim);
        break;
    case DS_OP_kv_store: {
        const struct ds_op_kv_store *p = &params->kv_store;
        if (slice == &p->k.at || slice == &p->v.at) return ds_cpu_grid_of_groups(&p->k, p->kv.head_dim);
        break;
    }
    default: break;
    }
    return (struct ds_cpu_grid){0};
}

static struct ds_slice count_of(const struct ds_operand *operands, uint32_t n, const union ds_op_params *params) {
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(operands[i].name, "count") == 0) return *(const struct ds_slice *)slice_at(params, operands[i].offset);
    return (struct ds_slice){0};
}

static uint32_t operands_of(const struct ds_graph_node *node, struct touched out[DS_MAX_OPERANDS]) {
    struct ds_operand operands[DS_MAX_OPERANDS];
    const uint32_t n = ds_op_operands(node->op, &node->params, operands);
    for (uint32_t i = 0; i < n; i++) {
        const struct ds_slice *slice = slice_at(&node->params, operands[i].offset);
        const struct ds_view *view;
        out[i] = (struct touched){.buffer = slice->buffer, .begin = slice->offset, .end = slice->offset + operands[i].bytes,
                                  .written = operands[i].access & DS_WRITE, .grid = grid_of(node->op, &node->params, operands[i].offset, &view)};
        if (!out[i].grid.units) continue;
        out[i].stride = view->stride;
        out[i].count = count_of(operands, n, &node->params);
    }
    return n;
}

/* --- who must wait for whom --- */

static bool same_units(const struct touched *a, const struct touched *b) {
    return a->grid.units > 0 && a->grid.units == b->grid.units && a->grid.rows == b->grid.rows && a->grid.width == b->grid.width && a->begin == b->begin &&
           a->stride == b->stride && a->count.buffer == b->count.buffer && a->count.offset == b->count.offset;
}

/* Strided views that interleave count as overlapping: a meeting too many costs a microsecond. */
static bool conflict(const struct touched *a, const struct touched *b) {
    return a->buffer == b->buffer && (a->written || b->written) && a->begin < b->end && b->begin < a->end && !same_units(a, b);
}

/* Ops whose threads share the device's scratch must not run side by side. */
static bool shares_scratch(const struct ds_graph_node *node) { return ds_cpu_scratch_of(node->op, &node->params, 2).shared > 0; }

ds_status ds_cpu_plan_steps(const struct ds_graph_node *nodes, uint32_t count, const struct ds_cpu_kernels *kernels,
                            struct ds_cpu_step *steps, struct ds_error *err) {
    enum { REMEMBERED = 64 * DS_MAX_OPERANDS }; /* more without a meeting are not looked for */
    struct touched *since = malloc(REMEMBERED * sizeof *since);
    if (!since) return ds_fail_memory(err, REMEMBERED * sizeof *since, "a graph's operands");
    uint32_t remembered = 0;
    bool scratch = false; /* is in use since the last meeting */
    for (uint32_t i = 0; i < count; i++) {
        struct touched mine[DS_MAX_OPERANDS];
        const uint32_t operands = operands_of(&nodes[i], mine);
        bool wait = remembered + operands > REMEMBERED || (scratch && shares_scratch(&nodes[i]));
        for (uint32_t a = 0; a < operands && !wait; a++)
            for (uint32_t b = 0; b < remembered && !wait; b++) wait = conflict(&mine[a], &since[b]);
        if (wait) {
            remembered = 0;
            scratch = false;
        }
        for (uint32_t a = 0; a < operands; a++) since[remembered++] = mine[a];
        scratch |= shares_scratch(&nodes[i]);
        steps[i] = (struct ds_cpu_step){.kernel = kernels->op[nodes[i].op], .params = &nodes[i].params, .wait = wait};
    }
    free(since);
    return DS_OK;
}
