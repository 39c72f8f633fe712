#include "kernels.h"

const struct ds_cpu_kernels DS_CPU_NAME(kernels) = {
    .op = {
#define DS_OP(name, text) [DS_OP_##name] = DS_CPU_NAME(name),
#include "ops/ops.def"
#undef DS_OP
    },
    .pack_tile = DS_CPU_NAME(pack_tile),
    .peak = DS_CPU_NAME(peak),
};
