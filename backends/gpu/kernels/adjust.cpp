/* Meaning: cpu/ref/adjust.c. A block takes a stretch of one row's vocabulary and counts the history's tokens that lie in it. */
#include "common.h"

namespace {

enum { THREADS = 256, STRETCH = 2048 };

struct adjust {
    struct matrix<const float> x;
    struct matrix<float> out;
    const struct ds_adjust_row *rows;
    struct matrix<const int32_t> history;
    const int32_t *drafted; /* or null */
    struct matrix<const int32_t> bias_ids;
    struct matrix<const float> bias_values;
};

GPU_FN float clamped(float x) { return ds_max(-DS_NUM_LARGEST, ds_min(DS_NUM_LARGEST, x)); }

GPU_FN uint32_t token_at(const struct adjust &p, const struct ds_adjust_row &row, uint32_t position) {
    if (position < row.drafted_from) return static_cast<uint32_t>(p.history.row(static_cast<uint32_t>(row.sequence))[position]);
    return static_cast<uint32_t>(p.drafted[row.drafted_at + static_cast<size_t>(position - row.drafted_from) * row.drafted_stride]);
}

GPU_FN float penalised(float x, uint32_t count, const struct ds_adjust_row &row) {
    const float scaled = x > 0 ? ds_div(x, row.repetition) : x * row.repetition;
    const float often = static_cast<float>(static_cast<int32_t>(count)) * row.frequency;
    return clamped((scaled - row.presence) - often);
}

struct counts {
    uint32_t of[STRETCH];
};

GPU_KERNEL(THREADS) adjust_rows(struct adjust p, struct active active) {
    gpu_begin();
    GPU_SHARED(struct counts, s);
    const uint32_t r = gpu_block_y(), first = gpu_block_x() * STRETCH, n = least(p.x.cols - first, STRETCH);
    if (r >= active.get()) return;
    const struct ds_adjust_row row = p.rows[r];
    for (uint32_t i = gpu_thread(); i < n; i += THREADS) s.of[i] = 0;
    gpu_barrier();
    for (uint32_t position = row.first + gpu_thread(); row.sequence >= 0 && position < row.end; position += THREADS) {
        const uint32_t at = token_at(p, row, position) - first;
        if (at < n) gpu_atomic_add(&s.of[at], 1u);
    }
    gpu_barrier();
    const float *x = p.x.row(r) + first;
    float *out = p.out.row(r) + first;
    for (uint32_t i = gpu_thread(); i < n; i += THREADS) {
        const float value = x[i];
        out[i] = s.of[i] && ds_is_finite(value) ? penalised(value, s.of[i], row) : value;
    }
    gpu_barrier();
    if (row.sequence < 0) return;
    const int32_t *ids = p.bias_ids.row(static_cast<uint32_t>(row.sequence));
    const float *biases = p.bias_values.row(static_cast<uint32_t>(row.sequence));
    for (uint32_t i = gpu_thread(); i < row.biases; i += THREADS) {
        const uint32_t at = static_cast<uint32_t>(ids[i]) - first;
        if (at < n && ds_is_finite(out[at])) out[at] = clamped(out[at] + biases[i]);
    }
}

} // namespace

gpuError_t GPU_OP(adjust)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_adjust &p = params->adjust;
    const struct adjust adjust = {matrix_of<const float>(p.x), matrix_of<float>(p.out), at<const struct ds_adjust_row>(p.rows),
                                  matrix_of<const int32_t>(p.history), at<const int32_t>(p.drafted), matrix_of<const int32_t>(p.bias_ids),
                                  matrix_of<const float>(p.bias_values)};
    return gpu_launch(adjust_rows, gpu_grid_of(ceil_div(p.x.cols, STRETCH), p.x.rows), THREADS, 0, where_of(launch), adjust,
                      active_of(p.count, p.x.rows));
}
