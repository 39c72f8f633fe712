#include "kernels.h"

#include "kernels/attention.h"
#include "kernels/experts.h"
#include "kernels/linear_rows.h"
#include "kernels/max_prob.h"
#include "kernels/sample.h"
#include "kernels/top.h"

static struct ds_cpu_scratch attention_scratch(const struct ds_op_attention *p, unsigned members) {
    const uint32_t queries = p->heads / p->kv.kv_heads, rows = DS_MIN(p->q.rows, ds_attention_rows(queries));
    const bool split = members > 1 && p->q.rows <= DS_ATTENTION_SPLIT_ROWS;
    return (struct ds_cpu_scratch){.each = sizeof(float) * ds_attention_floats((uint64_t)rows * queries, p->kv.head_dim),
                                   .shared = split ? sizeof(float) * ds_attention_shared_floats(p) : 0};
}

static uint64_t linear_bytes(const struct ds_op_linear *p) {
    return ds_linear_prepared_bytes(p->weight.type, p->x.rows, p->x.cols);
}

/* Its own, then that of the `linear` it calls. */
static uint64_t expert_linear_bytes(const struct ds_op_expert_linear *p) {
    return ds_expert_bytes(p) + ds_linear_prepared_bytes(p->weight.type, DS_EXPERT_ROWS, p->x.cols);
}

static struct ds_cpu_scratch top_linear_scratch(const struct ds_op_top_linear *p) {
    return (struct ds_cpu_scratch){.each = ds_top_list_bytes(p->weight.rows) + ds_linear_prepared_bytes(p->weight.type, 1, p->x.cols),
                                   .shared = sizeof(uint32_t) * (uint64_t)ds_top_groups(p->weight.rows) * p->x.rows};
}

struct ds_cpu_scratch ds_cpu_scratch_of(ds_op op, const union ds_op_params *params, unsigned members) {
    switch (op) {
    case DS_OP_attention: return attention_scratch(&params->attention, members);
    case DS_OP_linear: return (struct ds_cpu_scratch){.each = linear_bytes(&params->linear)};
    case DS_OP_sample:
        return (struct ds_cpu_scratch){.each = 3 * sizeof(float) * (uint64_t)params->sample.logits.cols,
                                       .shared = sizeof(struct ds_sample_part) * (uint64_t)members * params->sample.logits.rows};
    case DS_OP_adjust: return (struct ds_cpu_scratch){.each = sizeof(uint32_t) * (uint64_t)params->adjust.x.cols};
    case DS_OP_reject: return (struct ds_cpu_scratch){.each = 3 * sizeof(float) * (uint64_t)params->reject.logits.cols};
    case DS_OP_expert_linear: return (struct ds_cpu_scratch){.each = expert_linear_bytes(&params->expert_linear)};
    case DS_OP_top_linear: return top_linear_scratch(&params->top_linear);
    case DS_OP_max_prob:
        return (struct ds_cpu_scratch){.shared = sizeof(struct ds_max_prob_part) * (uint64_t)members * params->max_prob.logits.rows};
    default: return (struct ds_cpu_scratch){0};
    }
}
