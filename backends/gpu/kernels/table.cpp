/* The kernels of one wave size. */
#include "common.h"

extern "C" {
extern const struct ds_gpu_kernels DS_GPU_TABLE_OF(DS_GPU_WAVE);
}

#if !defined(__HIP_DEVICE_COMPILE__) /* hipcc would have constants on the device, too, where these functions are not */
/* In the order of the structs' members and of ops.def: embed, rms_norm, quantize, linear, rope, kv_store, attention, ... */
const struct ds_gpu_kernels DS_GPU_TABLE_OF(DS_GPU_WAVE) = {
    DS_GPU_WAVE,
    {
#define DS_OP(name, text) GPU_OP(name),
#include "ops/ops.def"
#undef DS_OP
    },
    {nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, GPU_OP_SCRATCH(attention), nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
     nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, GPU_OP_SCRATCH(top_linear),
     GPU_OP_SCRATCH(max_prob)},
    {nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, GPU_OP_CAN(attention), nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
     nullptr, nullptr, nullptr, nullptr, GPU_OP_CAN(norm_quantize), nullptr, GPU_OP_CAN(heads)},
    DS_GPU_JOIN(DS_GPU_NAME(linears_), DS_GPU_WAVE),
    DS_GPU_JOIN(DS_GPU_NAME(may_join_), DS_GPU_WAVE),
    DS_GPU_JOIN(DS_GPU_NAME(overlaps_), DS_GPU_WAVE),
    DS_GPU_JOIN(DS_GPU_NAME(unpack_), DS_GPU_WAVE),
    DS_GPU_JOIN(DS_GPU_NAME(finish_), DS_GPU_WAVE),
    DS_GPU_JOIN(DS_GPU_NAME(probe_), DS_GPU_WAVE),
};
static_assert(DS_OP_linear == 3 && DS_OP_attention == 6 && DS_OP_norm_quantize == 18 && DS_OP_heads == 20 && DS_OP_top_linear == 21 && DS_OP_max_prob == 22,
              "the lists above follow ops.def");
#endif
