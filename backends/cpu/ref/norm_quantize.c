/* rms_norm, then quantize: by definition. Fast kernels: as those of the parts. */
#include "ref/ref.h"

ds_status ds_ref_norm_quantize(const struct ds_op_norm_quantize *p, struct ds_error *err) {
    return ds_ref_parts(DS_OP_norm_quantize, &(union ds_op_params){.norm_quantize = *p}, err);
}
