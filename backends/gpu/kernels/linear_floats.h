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

/* EACH inputs from x on, which is aligned to 16 bytes. */
template <ds_type TYPE, uint32_t EACH> GPU_FN void inputs_of(const typename floats<TYPE>::input *x, float out[EACH]) {
    using F = floats<TYPE>;
    constexpr uint32_t SIZE = sizeof(typename F::input), IN_PIECE = DS_GPU_PIECE / SIZE;
    GPU_UNROLL for (uint32_t at = 0; at < EACH; at += IN_PIECE) {
        const struct gpu_words piece = gpu_read16(x + at);
        GPU_UNROLL for (uint32_t k = 0; k < IN_PIECE; k++) {
            const uint32_t word = piece.w[k * SIZE / 4];
            out[at + k] = SIZE == 4 ? ds_float(word) : F::input_value(static_cast<typename F::input>(word >> (k % 2 * 16)));
        }
    }
}

template <ds_type TYPE> GPU_FN float weight_of(const struct gpu_words &piece, uint32_t k) {
    using F = floats<TYPE>;
    constexpr uint32_t SIZE = sizeof(typename F::weight);
    const uint32_t word = piece.w[k * SIZE / 4];
    return SIZE == 4 ? ds_float(word) : F::widen(static_cast<typename F::weight>(word >> (k % 2 * 16)));
}

/* Pieces of a run that a lane reads before it uses the first of them. */
enum { FLOATS_AHEAD = 4 };
struct held_pieces {
    struct gpu_words piece[FLOATS_AHEAD];
};

/* A lane's pieces of a tile; beyond the last one that one again. */
template <ds_type TYPE> struct lane_pieces {
    static constexpr uint32_t EACH = DS_GPU_PIECE / sizeof(typename floats<TYPE>::weight), OF_RUN = DS_RUN / EACH;
    const uint8_t *from;
    uint32_t last;
    GPU_FN_MEMBER lane_pieces(const struct linear &p, const uint8_t *tile) : from(tile + gpu_lane() * DS_GPU_PIECE), last((p.inputs - 1) / EACH) {}
    GPU_FN_MEMBER struct gpu_words get(uint32_t piece) const { return gpu_load16(from + static_cast<size_t>(least(piece, last)) * DS_GPU_TILE * DS_GPU_PIECE); }
    GPU_FN_MEMBER void read(uint32_t first, struct held_pieces &held) const {
        GPU_UNROLL for (uint32_t i = 0; i < FLOATS_AHEAD; i++) held.piece[i] = get(first + i);
    }
};

/* ROWS rows, of which the last repeats beyond `rows`; `held`: the run's first pieces. What follows whole groups of pieces goes one by one, and
   everything where rows of x begin anywhere. */
template <ds_type TYPE, int ROWS>
GPU_FN void run_of_floats(const struct linear &p, const struct held_pieces &held, const uint8_t *tile, uint32_t run, uint32_t first_row, uint32_t rows,
                          float out[ROWS]) {
    using F = floats<TYPE>;
    using L = lane_pieces<TYPE>;
    constexpr uint32_t EACH = L::EACH, GROUP = FLOATS_AHEAD * EACH;
    const struct lane_pieces<TYPE> pieces(p, tile);
    const uint32_t end = least(p.inputs, (run + 1) * DS_RUN);
    const typename F::input *x[ROWS];
    GPU_UNROLL for (int n = 0; n < ROWS; n++) {
        out[n] = 0;
        x[n] = reinterpret_cast<const typename F::input *>(p.row(first_row + n, rows));
    }
    struct held_pieces now = held;
    uint32_t i = run * DS_RUN;
    for (; p.x_aligned && i + GROUP <= end; i += GROUP) {
        struct held_pieces next = now;
        if (i + GROUP < end) pieces.read((i + GROUP) / EACH, next);
        GPU_UNROLL for (uint32_t a = 0; a < FLOATS_AHEAD; a++)
            GPU_UNROLL for (int n = 0; n < ROWS; n++) {
                float value[EACH];
                inputs_of<TYPE, EACH>(x[n] + i + a * EACH, value);
                GPU_UNROLL for (uint32_t k = 0; k < EACH; k++) out[n] = F::add(out[n], value[k], weight_of<TYPE>(now.piece[a], k));
            }
        now = next;
    }
    for (; i < end; i += EACH) {
        const struct gpu_words piece = pieces.get(i / EACH);
        GPU_UNROLL for (uint32_t k = 0; k < EACH; k++) {
            if (i + k >= end) continue;
            GPU_UNROLL for (int n = 0; n < ROWS; n++) out[n] = F::add(out[n], F::input_value(x[n][i + k]), weight_of<TYPE>(piece, k));
        }
    }
}

template <ds_type TYPE, int NT> struct tile_run_of_floats {
    using held = struct held_pieces;
    GPU_FN_MEMBER static void read(const struct linear &p, const uint8_t *tile, uint32_t run, held &pieces) {
        lane_pieces<TYPE>(p, tile).read(run * lane_pieces<TYPE>::OF_RUN, pieces);
    }
    GPU_FN_MEMBER static void go(const struct linear &p, const held &pieces, const uint8_t *tile, uint32_t run, uint32_t first_row, uint32_t rows,
                                 float (*sums)[DS_GPU_TILE]) {
        for (uint32_t at = 0; at < NT * 8 && first_row + at < rows; at += 8) {
            float out[8];
            const uint32_t present = rows - first_row - at;
            if (present == 1) run_of_floats<TYPE, 1>(p, pieces, tile, run, first_row + at, rows, out);
            else if (present == 2) run_of_floats<TYPE, 2>(p, pieces, tile, run, first_row + at, rows, out);
            else if (present <= 4) run_of_floats<TYPE, 4>(p, pieces, tile, run, first_row + at, rows, out);
            else run_of_floats<TYPE, 8>(p, pieces, tile, run, first_row + at, rows, out);
            GPU_UNROLL for (uint32_t n = 0; n < 8; n++)
                if (n < present) sums[at + n][gpu_lane()] = out[n];
        }
    }
};

} // namespace

#endif
