/* rms_norm of heads, rope, kv_store: by definition. Fast kernels: every head of every row is on its own. */
#include "ref/ref.h"

ds_status ds_ref_heads(const struct ds_op_heads *p, struct ds_error *err) {
    return ds_ref_parts(DS_OP_heads, &(union ds_op_params){.heads = *p}, err);
}
