#include "kernels.h"

#include "kernels/attention.h"
#include "kernels/experts.h"
#include "kernels/linear_rows.h"
#include "kernels/sample.h"

/* One unit's state: attention.c, struct unit. */
static uint64_t attention_bytes(const struct ds_op_attention *p) {
    const uint64_t rows = DS_MIN(p->q.rows, (uint32_t)DS_ATTENTION_ROWS), queries = p->heads / p->kv.kv_heads, dim = p->kv.head_dim;
    return sizeof(float) * (queries * DS_CHUNK + rows * queries * (2 * dim + 2) + queries * dim);
}

static uint64_t linear_bytes(const struct ds_op_linear *p) {
    return ds_linear_prepared_bytes(p->weight.type, p->x.rows, p->x.cols);
}

/* Its own, then that of the `linear` it calls. */
static uint64_t expert_linear_bytes(const struct ds_op_expert_linear *p) {
    return ds_expert_bytes(p) + ds_linear_prepared_bytes(p->weight.type, DS_EXPERT_ROWS, p->x.cols);
}

struct ds_cpu_scratch ds_cpu_scratch_of(ds_op op, const union ds_op_params *params, unsigned members) {
    switch (op) {
    case DS_OP_attention: return (struct ds_cpu_scratch){.each = attention_bytes(&params->attention)};
    case DS_OP_linear: return (struct ds_cpu_scratch){.each = linear_bytes(&params->linear)};
    case DS_OP_sample:
        return (struct ds_cpu_scratch){.each = 2 * sizeof(float) * (uint64_t)params->sample.logits.cols,
                                       .shared = sizeof(struct ds_sample_part) * (uint64_t)members * params->sample.logits.rows};
    case DS_OP_expert_linear: return (struct ds_cpu_scratch){.each = expert_linear_bytes(&params->expert_linear)};
    default: return (struct ds_cpu_scratch){0};
    }
}
