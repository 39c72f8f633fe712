/* What every kernel file starts from: operands as kernels see them. */
#ifndef DSPARK_GPU_COMMON_H
#define DSPARK_GPU_COMMON_H

#include "gpu.h"
#include "kernels.h"

/* The entry of an op in the table of this wave size: ds_cuda_copy_32(launch, params). */
#define GPU_OP(name) DS_GPU_JOIN(DS_GPU_NAME(name##_), DS_GPU_WAVE)
#define GPU_OP_SCRATCH(name) DS_GPU_JOIN(DS_GPU_NAME(name##_scratch_), DS_GPU_WAVE)
#define GPU_OP_CAN(name) DS_GPU_JOIN(DS_GPU_NAME(name##_can_), DS_GPU_WAVE)

#define DS_OP(name, text) gpuError_t GPU_OP(name)(const struct ds_gpu_launch *launch, const union ds_op_params *params);
#include "ops/ops.def"
#undef DS_OP
bool GPU_OP_CAN(attention)(const union ds_op_params *params);
bool GPU_OP_CAN(heads)(const union ds_op_params *params);
bool GPU_OP_CAN(norm_quantize)(const union ds_op_params *params);
uint64_t GPU_OP_SCRATCH(attention)(const union ds_op_params *params, uint32_t processors);
uint64_t GPU_OP_SCRATCH(max_prob)(const union ds_op_params *params, uint32_t processors);
uint64_t GPU_OP_SCRATCH(top_linear)(const union ds_op_params *params, uint32_t processors);
gpuError_t DS_GPU_JOIN(DS_GPU_NAME(linears_), DS_GPU_WAVE)(const struct ds_gpu_launch *launch, const union ds_op_params *const *params, uint32_t n);
bool DS_GPU_JOIN(DS_GPU_NAME(may_join_), DS_GPU_WAVE)(const union ds_op_params *a, const union ds_op_params *b);
bool DS_GPU_JOIN(DS_GPU_NAME(overlaps_), DS_GPU_WAVE)(void);
gpuError_t DS_GPU_JOIN(DS_GPU_NAME(unpack_), DS_GPU_WAVE)(const struct ds_gpu_launch *launch, const struct ds_weight *weight, uint32_t first, uint32_t n,
                                                          uint32_t pitch, void *out);
gpuError_t DS_GPU_JOIN(DS_GPU_NAME(finish_), DS_GPU_WAVE)(const struct ds_gpu_launch *launch, const struct ds_op_linear *p, uint32_t first, uint32_t n,
                                                          const float *sums);
gpuError_t DS_GPU_JOIN(DS_GPU_NAME(probe_), DS_GPU_WAVE)(const struct ds_gpu_launch *launch, uint32_t *out, uint32_t count);

namespace {

GPU_HOST_FN struct gpu_where where_of(const struct ds_gpu_launch *launch) { return gpu_where(launch->stream, launch->overlap); }

/* --- operands, filled on the host --- */

template <class T> T *at(const struct ds_slice &slice) {
    if (!slice.buffer) return nullptr;
    return reinterpret_cast<T *>(reinterpret_cast<const struct ds_gpu_buffer *>(slice.buffer)->data + slice.offset);
}

/* Rows of 32-bit words. */
template <class T> struct matrix {
    T *data;
    uint32_t cols, stride;
    GPU_FN_MEMBER T *row(uint32_t r) const { return data + static_cast<size_t>(r) * stride; }
};
template <class T> struct matrix<T> matrix_of(const struct ds_view &view) { return {at<T>(view.at), view.cols, view.stride}; }

/* How many rows are computed: the common rule about `count`. */
struct active {
    const uint32_t *count;
    uint32_t rows;
    GPU_FN_MEMBER uint32_t get() const {
        const uint32_t n = count ? *count : rows;
        return n < rows ? n : rows;
    }
};
GPU_HOST_FN struct active active_of(const struct ds_slice &count, uint32_t rows) { return {at<const uint32_t>(count), rows}; }

/* Pages of sequences. */
struct paging {
    const int32_t *table, *sequence, *positions;
    uint32_t pages_per_sequence;
    /* The page that holds `position` of row r's sequence. */
    GPU_FN_MEMBER uint32_t page(uint32_t r, uint32_t position) const {
        return static_cast<uint32_t>(table[static_cast<size_t>(sequence[r]) * pages_per_sequence + position / DS_PAGE]);
    }
};
GPU_HOST_FN struct paging paging_of(const struct ds_paging &p) {
    return {at<const int32_t>(p.page_table), at<const int32_t>(p.row_sequence), at<const int32_t>(p.positions), p.pages_per_sequence};
}

/* --- on the device --- */

GPU_FN uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }
GPU_HOST_FN uint32_t ceil_div(uint64_t a, uint32_t b) { return static_cast<uint32_t>((a + b - 1) / b); }

/* The halving tree of a row reduction: lane i += lane i + 16, then + 8, 4, 2, 1. All lanes get lane 0's sum: at each step both
   partners add the same two numbers. */
GPU_FN float tree_sum(float lane_sum) {
    for (uint32_t half = DS_LANES / 2; half > 0; half /= 2) {
        const float other = gpu_shuffle_xor_f(lane_sum, half);
        lane_sum = lane_sum + other;
    }
    return lane_sum;
}

} // namespace

#endif
