/* The kernels of one wave size. */
#include "common.h"

extern "C" {
extern const struct ds_gpu_kernels DS_GPU_TABLE_OF(DS_GPU_WAVE);
}

/* In the order of the structs' members and of ops.def: embed, rms_norm, quantize, linear, rope, kv_store, attention, ... */
const struct ds_gpu_kernels DS_GPU_TABLE_OF(DS_GPU_WAVE) = {
    DS_GPU_WAVE,
    {GPU_OP(embed), GPU_OP(rms_norm), GPU_OP(quantize), GPU_OP(linear), GPU_OP(rope), GPU_OP(kv_store), GPU_OP(attention), GPU_OP(glu),
     GPU_OP(copy), GPU_OP(sample), GPU_OP(scale), nullptr, nullptr, nullptr, GPU_OP(rnn_cell), GPU_OP(scatter)}, /* no experts yet:
     graphs with them are refused when they are planned */
    {nullptr, nullptr, nullptr, GPU_OP_SCRATCH(linear), nullptr, nullptr, GPU_OP_SCRATCH(attention), nullptr, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, GPU_OP_CAN(attention), nullptr, nullptr, nullptr},
    DS_GPU_JOIN(DS_GPU_NAME(probe_), DS_GPU_WAVE),
};
static_assert(DS_OP_scale == 10 && DS_OP_route == 11 && DS_OP_expert_sum == 13 && DS_OP_rnn_cell == 14 && DS_OP_scatter == 15 && DS_OP_COUNT == 16, "so does the first");
static_assert(DS_OP_linear == 3 && DS_OP_attention == 6, "the lists above follow ops.def");
