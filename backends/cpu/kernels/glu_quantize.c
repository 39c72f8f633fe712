/* Part after part. Meaning: ref/glu_quantize.c. */
#include "kernels.h"

void DS_CPU_NAME(glu_quantize)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    ds_op ops[DS_MOST_PARTS];
    union ds_op_params parts[DS_MOST_PARTS];
    ds_op_parts(DS_OP_glu_quantize, params, ops, parts);
    DS_CPU_NAME(glu)(work, &parts[0]);
    if (parts[1].quantize.groups > 1) ds_cpu_meet(work); /* else a thread quantises the runs that it has gated (grid.h) */
    DS_CPU_NAME(quantize)(work, &parts[1]);
}
