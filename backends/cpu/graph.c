#include "graph.h"

#include <stdlib.h>

/* A stretch of a buffer that an op since the last meeting has touched. */
struct touched {
    const struct ds_buffer *buffer;
    uint64_t begin, end;
    bool written;
};

/* Strided views that interleave count as overlapping: a meeting too many costs a microsecond. */
static bool conflict(const struct touched *a, const struct touched *b) {
    return a->buffer == b->buffer && (a->written || b->written) && a->begin < b->end && b->begin < a->end;
}

static uint32_t operands_of(const struct ds_graph_node *node, struct touched out[DS_MAX_OPERANDS]) {
    struct ds_operand operands[DS_MAX_OPERANDS];
    const uint32_t count = ds_op_operands(node->op, &node->params, operands);
    for (uint32_t i = 0; i < count; i++) {
        const struct ds_slice *slice = (const struct ds_slice *)(const void *)((const char *)&node->params + operands[i].offset);
        out[i] = (struct touched){.buffer = slice->buffer, .begin = slice->offset, .end = slice->offset + operands[i].bytes,
                                  .written = operands[i].access & DS_WRITE};
    }
    return count;
}

ds_status ds_cpu_plan_steps(const struct ds_graph_node *nodes, uint32_t count, const struct ds_cpu_kernels *kernels,
                            struct ds_cpu_step *steps, struct ds_error *err) {
    enum { REMEMBERED = 64 * DS_MAX_OPERANDS }; /* more without a meeting are not looked for */
    struct touched *since = malloc(REMEMBERED * sizeof *since);
    if (!since) return ds_fail_memory(err, REMEMBERED * sizeof *since, "a graph's operands");
    uint32_t remembered = 0;
    bool sampling = false; /* ops that share the device's scratch must not run side by side */
    for (uint32_t i = 0; i < count; i++) {
        struct touched mine[DS_MAX_OPERANDS];
        const uint32_t operands = operands_of(&nodes[i], mine);
        bool wait = remembered + operands > REMEMBERED || (sampling && nodes[i].op == DS_OP_sample);
        for (uint32_t a = 0; a < operands && !wait; a++)
            for (uint32_t b = 0; b < remembered && !wait; b++) wait = conflict(&mine[a], &since[b]);
        if (wait) {
            remembered = 0;
            sampling = false;
        }
        for (uint32_t a = 0; a < operands; a++) since[remembered++] = mine[a];
        sampling |= nodes[i].op == DS_OP_sample;
        steps[i] = (struct ds_cpu_step){.kernel = kernels->op[nodes[i].op], .params = &nodes[i].params, .wait = wait};
    }
    free(since);
    return DS_OK;
}
