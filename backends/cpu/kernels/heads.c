/* Part after part. Meaning: ref/heads.c. A head stays with one thread from its norm to the cache (grid.h), so that nobody waits. */
#include "kernels.h"

void DS_CPU_NAME(heads)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    ds_op ops[DS_MOST_PARTS];
    union ds_op_params parts[DS_MOST_PARTS];
    const uint32_t n = ds_op_parts(DS_OP_heads, params, ops, parts);
    for (uint32_t i = 0; i < n; i++) DS_CPU_NAME(kernels).op[ops[i]](work, &parts[i]);
}
