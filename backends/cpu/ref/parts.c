/* A fused op, part after part. */
#include "ref/ref.h"

static ds_status run(ds_op op, const union ds_op_params *params, struct ds_error *err) {
    switch (op) {
#define DS_OP(name, text) \
    case DS_OP_##name: return ds_ref_##name(&params->name, err);
#include "ops/ops.def"
#undef DS_OP
    case DS_OP_COUNT: break;
    }
    return DS_OK;
}

ds_status ds_ref_parts(ds_op op, const union ds_op_params *params, struct ds_error *err) {
    ds_op ops[DS_MOST_PARTS];
    union ds_op_params parts[DS_MOST_PARTS];
    const uint32_t n = ds_op_parts(op, params, ops, parts);
    for (uint32_t i = 0; i < n; i++) DS_TRY(run(ops[i], &parts[i], err));
    return DS_OK;
}
