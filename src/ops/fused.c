/* Fused ops as the ops that they are made of. */
#include "ops/ops.h"

static struct ds_op_rope rope_of(const struct ds_op_heads *p, struct ds_view x) {
    return (struct ds_op_rope){.x = x, .head_dim = p->kv.head_dim, .n_rot = p->n_rot, .neox = p->neox, .cos = p->cos, .sin = p->sin,
                               .table_positions = p->table_positions, .positions = p->paging.positions, .count = p->count};
}

static struct ds_op_rms_norm norm_of(const struct ds_op_heads *p, struct ds_view x, struct ds_slice weight) {
    return (struct ds_op_rms_norm){.x = x, .out = x, .dim = p->kv.head_dim, .weight = weight, .eps = p->eps, .count = p->count};
}

static uint32_t parts_of_heads(const struct ds_op_heads *p, ds_op *ops, union ds_op_params *parts) {
    uint32_t n = 0;
    if (p->q.at.buffer && p->q_norm.buffer) {
        ops[n] = DS_OP_rms_norm;
        parts[n++].rms_norm = norm_of(p, p->q, p->q_norm);
    }
    if (p->k_norm.buffer) {
        ops[n] = DS_OP_rms_norm;
        parts[n++].rms_norm = norm_of(p, p->k, p->k_norm);
    }
    if (p->q.at.buffer) {
        ops[n] = DS_OP_rope;
        parts[n++].rope = rope_of(p, p->q);
    }
    ops[n] = DS_OP_rope;
    parts[n++].rope = rope_of(p, p->k);
    ops[n] = DS_OP_kv_store;
    parts[n++].kv_store = (struct ds_op_kv_store){.k = p->k, .v = p->v, .kv = p->kv, .paging = p->paging, .count = p->count};
    return n;
}

uint32_t ds_op_parts(ds_op op, const union ds_op_params *params, ds_op ops[DS_MOST_PARTS], union ds_op_params parts[DS_MOST_PARTS]) {
    if (op == DS_OP_heads) return parts_of_heads(&params->heads, ops, parts);
    ops[1] = DS_OP_quantize;
    if (op == DS_OP_norm_quantize) {
        const struct ds_op_norm_quantize *p = &params->norm_quantize;
        ops[0] = DS_OP_rms_norm;
        parts[0].rms_norm = (struct ds_op_rms_norm){.x = p->x, .out = p->normed, .dim = p->x.cols, .weight = p->weight, .eps = p->eps, .count = p->count};
        parts[1].quantize = (struct ds_op_quantize){.x = p->normed, .out = p->out, .flags = p->flags, .count = p->count};
        return 2;
    }
    if (op == DS_OP_glu_quantize) {
        const struct ds_op_glu_quantize *p = &params->glu_quantize;
        ops[0] = DS_OP_glu;
        parts[0].glu = (struct ds_op_glu){.gate = p->gate, .up = p->up, .out = p->gated, .activation = p->activation, .count = p->count};
        parts[1].quantize = (struct ds_op_quantize){.x = p->gated, .out = p->out, .groups = p->groups, .flags = p->flags, .count = p->count};
        return 2;
    }
    return 0;
}
