/* glu, then quantize: by definition. Fast kernels: every run of 256 columns is on its own. */
#include "ref/ref.h"

ds_status ds_ref_glu_quantize(const struct ds_op_glu_quantize *p, struct ds_error *err) {
    return ds_ref_parts(DS_OP_glu_quantize, &(union ds_op_params){.glu_quantize = *p}, err);
}
