/* A run of 256 values into the form that linears read, by a team of 32 lanes with eight neighbours each. Meaning: cpu/ref/quantize.c. */
#ifndef DSPARK_GPU_QUANTIZE_H
#define DSPARK_GPU_QUANTIZE_H

#include "common.h"

namespace {

enum { EACH = DS_RUN / GPU_TEAM };

/* Lanes that share a scale: all of them, or those of a block of 32. BF16 has none. */
enum { SHARE_Q8 = 32, SHARE_Q8_32 = 4, SHARE_BF16 = 1 };

struct quantized {
    uint8_t *out; /* rows of `pitch` bytes */
    uint32_t pitch;
    uint32_t scale_at, sum_at; /* in a row */
    uint32_t *flags;           /* or null */
    uint32_t cols;             /* of a row */
    uint32_t share;
    GPU_FN_MEMBER uint32_t runs() const { return (cols + DS_RUN - 1) / DS_RUN; }
};

GPU_HOST_FN struct quantized quantized_of(const struct ds_view &out, const struct ds_slice &flags) {
    const bool narrow = out.elem == DS_ELEM_Q8_32;
    return {at<uint8_t>(out.at), static_cast<uint32_t>(ds_view_pitch(&out)), ds_q8_scale_offset(out.cols),
            narrow ? ds_q8_32_sum_offset(out.cols) : ds_q8_sum_offset(out.cols), at<uint32_t>(flags), out.cols,
            out.elem == DS_ELEM_BF16 ? static_cast<uint32_t>(SHARE_BF16) : narrow ? static_cast<uint32_t>(SHARE_Q8_32) : static_cast<uint32_t>(SHARE_Q8)};
}

GPU_FN void run_to_bf16(const struct quantized &p, uint32_t row, uint32_t flag_row, uint32_t first, const float x[EACH]) {
    uint16_t *const out = reinterpret_cast<uint16_t *>(p.out + static_cast<size_t>(row) * p.pitch);
    bool finite = true;
    GPU_UNROLL for (uint32_t i = 0; i < EACH; i++) {
        if (first + i >= p.cols) continue;
        finite = finite && ds_is_finite(x[i]);
        out[first + i] = static_cast<uint16_t>(ds_bf16_activation(x[i]));
    }
    if (p.flags && !finite) gpu_atomic_or(&p.flags[flag_row], DS_FLAG_ACTIVATION);
}

template <uint32_t SHARE> GPU_FN void run_to_q8(const struct quantized &p, uint32_t out_row, uint32_t flag_row, uint32_t run, bool present, const float x[EACH]) {
    const uint32_t lane = gpu_lane(), first = run * DS_RUN + lane * EACH;
    int32_t most = 0; /* the largest magnitude; as integers their order is that of floats, with what is not finite on top */
    GPU_UNROLL for (uint32_t i = 0; i < EACH; i++) {
        const int32_t magnitude = ds_abs_bits(x[i]);
        most = magnitude > most ? magnitude : most;
    }
    GPU_UNROLL for (uint32_t mask = 1; mask < SHARE; mask *= 2) {
        const int32_t other = static_cast<int32_t>(gpu_shuffle_xor(static_cast<uint32_t>(most), mask));
        most = other > most ? other : most;
    }
    const bool finite = most < 0x7f800000;
    const float amax = finite ? ds_float(static_cast<uint32_t>(most)) : 0.0f; /* else zeros */
    const float pre = ds_quant_pre(amax), inverse = ds_quant_inverse(amax);
    int32_t q[EACH], sum = 0;
    GPU_UNROLL for (uint32_t i = 0; i < EACH; i++) {
        q[i] = amax > 0 ? ds_quant(x[i], pre, inverse) : 0;
        sum += q[i];
    }
    sum += static_cast<int32_t>(gpu_shuffle_xor(static_cast<uint32_t>(sum), 1)); /* sums of 16 */
    if (!present) return;

    uint8_t *const row = p.out + static_cast<size_t>(out_row) * p.pitch;
    uint32_t *const words = reinterpret_cast<uint32_t *>(row + first);
    GPU_UNROLL for (uint32_t w = 0; w < EACH / 4; w++) {
        uint32_t word = 0;
        GPU_UNROLL for (uint32_t i = 0; i < 4; i++) word |= (static_cast<uint32_t>(q[4 * w + i]) & 0xffu) << (8 * i);
        words[w] = word;
    }
    if (lane % SHARE == 0) reinterpret_cast<float *>(row + p.scale_at)[first / (SHARE * EACH)] = ds_quant_scale(amax);
    if (lane % 2 == 0) reinterpret_cast<int16_t *>(row + p.sum_at)[first / DS_SUM_GROUP] = static_cast<int16_t>(sum);
    if (p.flags && !finite && lane % SHARE == 0) gpu_atomic_or(&p.flags[flag_row], DS_FLAG_ACTIVATION);
    /* What rounds a row up is zeros; the last run's team sees to it. */
    const uint32_t end = p.sum_at + p.runs() * (DS_RUN / DS_SUM_GROUP) * 2;
    for (uint32_t byte = end + lane; run == p.runs() - 1 && byte < p.pitch; byte += GPU_TEAM) row[byte] = 0;
}

/*
 * Lane l's eight values of a run, zeros beyond the row's end, into row `out_row`; `flag_row`: whose flag is raised. All lanes of a wave call
 * this together, those of a team that is not `present` with zeros.
 */
GPU_FN void quantize_run(const struct quantized &p, uint32_t out_row, uint32_t flag_row, uint32_t run, bool present, const float x[EACH]) {
    if (p.share == SHARE_BF16) {
        if (present) run_to_bf16(p, out_row, flag_row, run * DS_RUN + gpu_lane() * EACH, x);
    } else if (p.share == SHARE_Q8_32) {
        run_to_q8<SHARE_Q8_32>(p, out_row, flag_row, run, present, x);
    } else {
        run_to_q8<SHARE_Q8>(p, out_row, flag_row, run, present, x);
    }
}

} // namespace

#endif
