/* Meaning: cpu/ref/quantize.c. A team of 32 lanes quantises a run of 256 inputs, eight neighbours a lane. */
#include "common.h"

namespace {

enum { THREADS = 128, TEAMS = THREADS / GPU_TEAM, EACH = DS_RUN / GPU_TEAM };

struct quantize {
    struct matrix<const float> x;
    uint8_t *out;       /* rows of `pitch` bytes */
    uint32_t pitch;
    uint32_t scale_at, sum_at; /* in a row */
    uint32_t *flags;    /* or null */
    uint32_t groups, cols; /* a row of x holds `groups` rows of `cols` */
};

GPU_KERNEL(THREADS) to_bf16(struct quantize p, struct active active) {
    const uint32_t r = gpu_block_y(), c = gpu_block_x() * THREADS + gpu_thread();
    if (r >= active.get() || c >= p.x.cols) return;
    const float x = p.x.row(r)[c];
    const size_t row = static_cast<size_t>(r) * p.groups + c / p.cols;
    reinterpret_cast<uint16_t *>(p.out + row * p.pitch)[c % p.cols] = static_cast<uint16_t>(ds_bf16_activation(x));
    if (p.flags && !ds_is_finite(x)) gpu_atomic_or(&p.flags[r], DS_FLAG_ACTIVATION);
}

/* SHARE lanes have a scale in common: 32, or 4 of them for blocks of 32. */
template <uint32_t SHARE> GPU_KERNEL(THREADS) to_q8(struct quantize p, struct active active) {
    const uint32_t r = gpu_block_y(), unit = gpu_block_x() * TEAMS + gpu_team(), lane = gpu_lane(), runs = ds_q8_padded(p.cols) / DS_RUN;
    const uint32_t group = unit / runs, run = unit % runs;
    const bool present = group < p.groups; /* else: a lane that only takes part in the shuffles */
    if (r >= active.get()) return;
    const uint32_t first = run * DS_RUN + lane * EACH;
    float x[EACH];
    int32_t most = 0; /* the largest magnitude; as integers their order is that of floats, with what is not finite on top */
    for (uint32_t i = 0; i < EACH; i++) {
        x[i] = present && first + i < p.cols ? p.x.row(r)[static_cast<size_t>(group) * p.cols + first + i] : 0.0f;
        const int32_t magnitude = ds_abs_bits(x[i]);
        most = magnitude > most ? magnitude : most;
    }
    for (uint32_t mask = 1; mask < SHARE; mask *= 2) {
        const int32_t other = static_cast<int32_t>(gpu_shuffle_xor(static_cast<uint32_t>(most), mask));
        most = other > most ? other : most;
    }
    const bool finite = most < 0x7f800000;
    const float amax = finite ? ds_float(static_cast<uint32_t>(most)) : 0.0f; /* else zeros */
    const float pre = ds_quant_pre(amax), inverse = ds_quant_inverse(amax);
    int32_t q[EACH], sum = 0;
    for (uint32_t i = 0; i < EACH; i++) {
        q[i] = amax > 0 ? ds_quant(x[i], pre, inverse) : 0;
        sum += q[i];
    }
    sum += static_cast<int32_t>(gpu_shuffle_xor(static_cast<uint32_t>(sum), 1)); /* sums of 16 */
    if (!present) return;

    uint8_t *const row = p.out + (static_cast<size_t>(r) * p.groups + group) * p.pitch;
    uint32_t *const words = reinterpret_cast<uint32_t *>(row + first);
    for (uint32_t w = 0; w < EACH / 4; w++) {
        uint32_t word = 0;
        for (uint32_t i = 0; i < 4; i++) word |= (static_cast<uint32_t>(q[4 * w + i]) & 0xffu) << (8 * i);
        words[w] = word;
    }
    if (lane % SHARE == 0) reinterpret_cast<float *>(row + p.scale_at)[first / (SHARE * EACH)] = ds_quant_scale(amax);
    if (lane % 2 == 0) reinterpret_cast<int16_t *>(row + p.sum_at)[first / DS_SUM_GROUP] = static_cast<int16_t>(sum);
    if (p.flags && !finite && lane % SHARE == 0) gpu_atomic_or(&p.flags[r], DS_FLAG_ACTIVATION);
    /* What rounds a row up is zeros; the last run's team sees to it. */
    const uint32_t end = p.sum_at + runs * (DS_RUN / DS_SUM_GROUP) * 2;
    for (uint32_t byte = end + lane; run == runs - 1 && byte < p.pitch; byte += GPU_TEAM) row[byte] = 0;
}

} // namespace

gpuError_t GPU_OP(quantize)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_quantize &p = params->quantize;
    const struct active active = active_of(p.count, p.x.rows);
    const uint32_t groups = p.groups > 1 ? p.groups : 1;
    struct quantize quantize = {matrix_of<const float>(p.x), at<uint8_t>(p.out.at), static_cast<uint32_t>(ds_view_pitch(&p.out)), 0, 0,
                                at<uint32_t>(p.flags), groups, p.out.cols};
    if (p.out.elem == DS_ELEM_BF16)
        return gpu_launch(to_bf16, gpu_grid_of(ceil_div(p.x.cols, THREADS), p.x.rows), THREADS, 0, launch->stream, quantize, active);
    const bool narrow = p.out.elem == DS_ELEM_Q8_32;
    quantize.scale_at = ds_q8_scale_offset(p.out.cols);
    quantize.sum_at = narrow ? ds_q8_32_sum_offset(p.out.cols) : ds_q8_sum_offset(p.out.cols);
    return gpu_launch(narrow ? to_q8<4> : to_q8<32>, gpu_grid_of(ceil_div(ds_q8_padded(p.out.cols) / DS_RUN * groups, TEAMS), p.x.rows), THREADS, 0,
                      launch->stream, quantize, active);
}
