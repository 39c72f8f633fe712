/*
 * A run of 256 inputs of a float type: 32 outputs times NT * 8 rows, by one team. Lane = output, inputs ascending; eight rows at a time
 * share what is read of the weights.
 */
#ifndef DSPARK_GPU_LINEAR_FLOATS_H
#define DSPARK_GPU_LINEAR_FLOATS_H

#include "linear.h"

namespace {

template <ds_type TYPE> struct floats;
template <> struct floats<DS_TYPE_F32> {
    using weight = float;
    using input = float;
    GPU_FN_MEMBER static float widen(float w) { return w; }
    GPU_FN_MEMBER static float input_value(float x) { return x; }
    GPU_FN_MEMBER static float add(float sum, float x, float w) {
        const float product = x * w;
        return sum + product;
    }
};
template <> struct floats<DS_TYPE_F16> {
    using weight = uint16_t;
    using input = float;
    GPU_FN_MEMBER static float widen(uint16_t w) { return gpu_from_f16(w); }
    GPU_FN_MEMBER static float input_value(float x) { return x; }
    GPU_FN_MEMBER static float add(float sum, float x, float w) { return floats<DS_TYPE_F32>::add(sum, x, w); }
};
template <> struct floats<DS_TYPE_BF16> {
    using weight = uint16_t;
    using input = uint16_t;
    GPU_FN_MEMBER static float widen(uint16_t w) { return ds_bf16_to_f32(w); }
    GPU_FN_MEMBER static float input_value(uint16_t x) { return ds_bf16_to_f32(x); }
    GPU_FN_MEMBER static float add(float sum, float x, float w) { return gpu_fma(x, w, sum); } /* both are bounded: exact product */
};

/* As many whole pieces of 16 bytes as a run has, and what is left one by one. ROWS rows, of which the last repeats beyond `rows`. */
template <ds_type TYPE, int ROWS>
GPU_FN void run_of_floats(const struct linear &p, const uint8_t *tile, uint32_t run, uint32_t first_row, uint32_t rows, float out[ROWS]) {
    using F = floats<TYPE>;
    constexpr uint32_t EACH = DS_GPU_PIECE / sizeof(typename F::weight);
    const uint32_t end = least(p.inputs, (run + 1) * DS_RUN), lane = gpu_lane();
    const typename F::input *x[ROWS];
    GPU_UNROLL for (int n = 0; n < ROWS; n++) {
        out[n] = 0;
        x[n] = reinterpret_cast<const typename F::input *>(p.row(first_row + n, rows));
    }
    GPU_UNROLL_BY(4) for (uint32_t i = run * DS_RUN; i < end; i += EACH) {
        const struct gpu_words piece = gpu_load16(tile + (static_cast<size_t>(i / EACH) * DS_GPU_TILE + lane) * DS_GPU_PIECE);
        const uint32_t count = least(end - i, EACH);
        GPU_UNROLL for (uint32_t k = 0; k < EACH; k++) {
            if (k >= count) continue;
            const uint32_t word = piece.w[k * sizeof(typename F::weight) / 4];
            const float w = sizeof(typename F::weight) == 4 ? ds_float(word) : F::widen(static_cast<typename F::weight>(word >> (k % 2 * 16)));
            GPU_UNROLL for (int n = 0; n < ROWS; n++) out[n] = F::add(out[n], F::input_value(x[n][i + k]), w);
        }
    }
}

template <ds_type TYPE, int NT> struct tile_run_of_floats {
    GPU_FN_MEMBER static void go(const struct linear &p, const uint8_t *tile, uint32_t run, uint32_t first_row, uint32_t rows,
                                 float (*sums)[DS_GPU_TILE]) {
        for (uint32_t at = 0; at < NT * 8 && first_row + at < rows; at += 8) {
            float out[8];
            const uint32_t present = rows - first_row - at;
            if (present == 1) run_of_floats<TYPE, 1>(p, tile, run, first_row + at, rows, out);
            else if (present <= 4) run_of_floats<TYPE, 4>(p, tile, run, first_row + at, rows, out);
            else run_of_floats<TYPE, 8>(p, tile, run, first_row + at, rows, out);
            GPU_UNROLL for (uint32_t n = 0; n < 8; n++)
                if (n < present) sums[at + n][gpu_lane()] = out[n];
        }
    }
};

} // namespace

#endif
