/* Part after part. Meaning: ref/norm_quantize.c. */
#include "kernels.h"

void DS_CPU_NAME(norm_quantize)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    ds_op ops[DS_MOST_PARTS];
    union ds_op_params parts[DS_MOST_PARTS];
    ds_op_parts(DS_OP_norm_quantize, params, ops, parts);
    DS_CPU_NAME(rms_norm)(work, &parts[0]);
    DS_CPU_NAME(quantize)(work, &parts[1]); /* a thread quantises the runs that it has normed (grid.h) */
}
