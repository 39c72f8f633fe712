/*
 * A run of 256 inputs of a block type: 32 outputs times NT * 8 rows, by one team. The integers are matrix products (gpu_mma), exact in
 * any order; what follows them is the formula of cpu/ref/linear.c, in its order.
 *
 * Lane (g, t) ends with outputs g + 8j and rows 8 nt + 2t + n. All lanes of a wave call these together.
 */
#ifndef DSPARK_GPU_LINEAR_BLOCKS_H
#define DSPARK_GPU_LINEAR_BLOCKS_H

#include "linear.h"

namespace {

/* Integer dots of outputs g + 8j with rows 2t + n, as [j][n], over one step. */
struct dots {
    int32_t c[2][4];
    GPU_FN_MEMBER void add(const uint32_t w[8], const uint32_t b[2]) {
        GPU_UNROLL for (int half = 0; half < 2; half++) {
            const uint32_t a[4] = {w[4 * half], w[4 * half + 2], w[4 * half + 1], w[4 * half + 3]};
            gpu_mma(c[half], a, b);
        }
    }
    GPU_FN_MEMBER int32_t get(int j, int n) const { return c[j / 2][j % 2 * 2 + n]; }
};

/* The rows that a lane hands to gpu_mma and those whose results it keeps: COLS of the two of each product, 1 where there is one row in all. */
template <int NT, int COLS> struct lane_rows {
    const uint8_t *given[NT], *got[NT][COLS];
    GPU_FN_MEMBER lane_rows(const struct linear &p, uint32_t first_row, uint32_t rows) {
        const uint32_t g = gpu_lane() / 4, t = gpu_lane() % 4;
        GPU_UNROLL for (int i = 0; i < NT; i++) {
            given[i] = p.row(first_row + 8 * i + g, rows) + 8 * t;
            GPU_UNROLL for (int n = 0; n < COLS; n++) got[i][n] = p.row(first_row + 8 * i + 2 * t + n, rows);
        }
    }
    /* Eight activations of input `at` on. */
    GPU_FN_MEMBER void activations(int i, uint32_t at, uint32_t b[2]) const {
        const uint32_t *const q = reinterpret_cast<const uint32_t *>(given[i] + at);
        b[0] = q[0];
        b[1] = q[1];
    }
};

/* Two sums of 16 activations, in the halves of a word; and both together. */
GPU_FN int32_t low_sum(uint32_t two) { return static_cast<int16_t>(two & 0xffffu); }
GPU_FN int32_t high_sum(uint32_t two) { return static_cast<int16_t>(two >> 16); }

/* sum of minimum * (sum of the activations it belongs to), over the run. */
template <ds_type TYPE> GPU_FN int32_t minimum_sum(const struct lane_run<TYPE> &weights, const uint32_t *sums, int j) {
    int32_t msum = 0;
    GPU_UNROLL for (int s = 0; s < 8; s++) {
        if (packed<TYPE>::GROUPS == 16)
            msum += weights.minimum_of(2 * s, j) * low_sum(sums[s]) + weights.minimum_of(2 * s + 1, j) * high_sum(sums[s]);
        else
            msum += weights.minimum_of(s, j) * (low_sum(sums[s]) + high_sum(sums[s]));
    }
    return msum;
}

/* Blocks of 256: (d * d_x) * f32(isum) (- (dmin * d_x) * f32(msum)). */
template <ds_type TYPE, int NT, int COLS>
GPU_FN void superblock(const struct linear &p, const struct lane_run<TYPE> &weights, const struct lane_rows<NT, COLS> &rows, uint32_t run,
                       float out[NT][4][COLS]) {
    using P = packed<TYPE>;
    constexpr uint32_t PARTS = P::GROUPS == 16 ? 2 : 1;
    int32_t isum[NT][4][COLS] = {};
    GPU_UNROLL for (uint32_t s = 0; s < 8; s++) {
        uint32_t w[8];
        weights.weights(s, w);
        GPU_UNROLL for (int i = 0; i < NT; i++) {
            uint32_t b[2];
            rows.activations(i, run * DS_RUN + s * 32, b);
            /* Groups of 16 take two products, each with the other group's activations left out. */
            GPU_UNROLL for (uint32_t part = 0; part < PARTS; part++) {
                const bool inside = PARTS == 1 || gpu_lane() % 4 / 2 == part;
                const uint32_t masked[2] = {inside ? b[0] : 0, inside ? b[1] : 0};
                struct dots dot = {};
                dot.add(w, masked);
                GPU_UNROLL for (int j = 0; j < 4; j++)
                    GPU_UNROLL for (int n = 0; n < COLS; n++) isum[i][j][n] += weights.scale_of(s * PARTS + part, j) * dot.get(j, n);
            }
        }
    }
    GPU_UNROLL for (int i = 0; i < NT; i++)
        GPU_UNROLL for (int n = 0; n < COLS; n++) {
            const float d_x = reinterpret_cast<const float *>(rows.got[i][n] + p.scale_at)[run];
            uint32_t sums[8] = {};
            if (P::MINIMUM) {
                const uint32_t *const from = reinterpret_cast<const uint32_t *>(rows.got[i][n] + p.sum_at) + run * 8;
                GPU_UNROLL for (int s = 0; s < 8; s++) sums[s] = from[s];
            }
            GPU_UNROLL for (int j = 0; j < 4; j++) {
                const float d = weights.d_of(0, j) * d_x, left = d * static_cast<float>(isum[i][j][n]);
                out[i][j][n] = left;
                if (P::MINIMUM) {
                    const float dmin = weights.dmin_of(0, j) * d_x, right = dmin * static_cast<float>(minimum_sum<TYPE>(weights, sums, j));
                    out[i][j][n] = left - right;
                }
            }
        }
}

/* Blocks of 32: d_x * sum of (f32(dot) * d (+ f32(sum of x) * m)); or, with narrow activations, sum of f32(dot) * (d * d_x). */
template <ds_type TYPE, int NT, int COLS>
GPU_FN void blocks_of_32(const struct linear &p, const struct lane_run<TYPE> &weights, const struct lane_rows<NT, COLS> &rows, uint32_t run,
                       float out[NT][4][COLS]) {
    using P = packed<TYPE>;
    GPU_UNROLL for (int i = 0; i < NT; i++)
        GPU_UNROLL for (int j = 0; j < 4; j++)
            GPU_UNROLL for (int n = 0; n < COLS; n++) out[i][j][n] = 0;
    GPU_UNROLL for (uint32_t s = 0; s < 8; s++) {
        uint32_t w[8];
        weights.weights(s, w);
        GPU_UNROLL for (int i = 0; i < NT; i++) {
            uint32_t b[2];
            rows.activations(i, run * DS_RUN + s * 32, b);
            struct dots dot = {};
            dot.add(w, b);
            GPU_UNROLL for (int n = 0; n < COLS; n++) {
                const float narrow = P::NARROW ? reinterpret_cast<const float *>(rows.got[i][n] + p.scale_at)[run * 8 + s] : 0;
                const uint32_t two = P::MINIMUM ? reinterpret_cast<const uint32_t *>(rows.got[i][n] + p.sum_at)[run * 8 + s] : 0;
                const float x_sum = static_cast<float>(low_sum(two) + high_sum(two));
                GPU_UNROLL for (int j = 0; j < 4; j++) {
                    const float d = P::NARROW ? weights.d_of(s, j) * narrow : weights.d_of(s, j);
                    float term = static_cast<float>(dot.get(j, n)) * d;
                    if (P::MINIMUM) {
                        const float right = x_sum * weights.dmin_of(s, j);
                        term = term + right;
                    }
                    out[i][j][n] = out[i][j][n] + term;
                }
            }
        }
    }
    if constexpr (!P::NARROW) {
        GPU_UNROLL for (int i = 0; i < NT; i++)
            GPU_UNROLL for (int n = 0; n < COLS; n++) {
                const float d_x = reinterpret_cast<const float *>(rows.got[i][n] + p.scale_at)[run];
                GPU_UNROLL for (int j = 0; j < 4; j++) out[i][j][n] = d_x * out[i][j][n];
            }
    }
}

/* A run's sums of a tile, sums[row][output]; `read`: what is read of the weights, before anything else is needed. */
template <ds_type TYPE, int NT, int COLS> struct tile_run {
    using held = struct lane_run<TYPE>;
    GPU_FN_MEMBER static void read(const struct linear &p, const uint8_t *tile, uint32_t run, held &weights) {
        (void)p;
        weights.load(tile + static_cast<size_t>(run) * ds_gpu_run_bytes(packed<TYPE>::get()), gpu_lane());
    }
    GPU_FN_MEMBER static void go(const struct linear &p, const held &weights, const uint8_t *tile, uint32_t run, uint32_t first_row, uint32_t rows,
                                 float (*sums)[DS_GPU_TILE]) {
        using P = packed<TYPE>;
        (void)tile;
        const uint32_t g = gpu_lane() / 4, t = gpu_lane() % 4;
        const struct lane_rows<NT, COLS> lane(p, first_row, rows);
        float out[NT][4][COLS];
        if constexpr (P::GROUPS != 0) superblock<TYPE, NT, COLS>(p, weights, lane, run, out);
        else blocks_of_32<TYPE, NT, COLS>(p, weights, lane, run, out);
        GPU_UNROLL for (int i = 0; i < NT; i++)
            GPU_UNROLL for (int j = 0; j < 4; j++)
                GPU_UNROLL for (int n = 0; n < COLS; n++) sums[8 * i + 2 * t + n][g + 8 * j] = out[i][j][n];
    }
};

} // namespace

#endif
