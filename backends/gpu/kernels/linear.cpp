/*
 * y = x W^T (+ bias) (+ residual). Meaning: cpu/ref/linear.c.
 *
 * A block computes a tile of 32 outputs for up to eight rows. Its teams of 32 lanes take runs of 256 inputs in turn; the runs'
 * sums go through shared memory and are added in ascending order by the thread that owns (row, output). Inside a run
 *   block types   are matrix products of int8 (gpu_mma): exact, in any order; then the run's formula
 *   float types   are one lane an output, inputs ascending
 */
#include "weights.h"

namespace {

enum { THREADS = 128, TEAMS = THREADS / GPU_TEAM, ROWS = 8 };

struct linear {
    const uint8_t *weight;
    uint64_t tile_bytes;
    uint32_t outputs, inputs;
    const uint8_t *x; /* rows of x_pitch bytes */
    uint32_t x_pitch;
    uint32_t scale_at, sum_at; /* in a row of x, where it is quantised */
    struct matrix<float> y;
    const float *bias;             /* or null */
    struct matrix<const float> residual; /* data null: none */
};

/* The sums of one run for all rows and outputs of the block. */
struct sums {
    float run[TEAMS][ROWS][DS_GPU_TILE];
};

/* --- a run of a block type --- */

/* What a lane knows of a row of activations. `q` null: there is no such row. */
GPU_FN const uint8_t *row_of(const struct linear &p, uint32_t row, uint32_t rows) {
    return row < rows ? p.x + static_cast<size_t>(row) * p.x_pitch : nullptr;
}

/* Sum of the 16 activations of group `group` of a row. */
GPU_FN int32_t sum_of_16(const struct linear &p, const uint8_t *x, uint32_t group) {
    return x ? reinterpret_cast<const int16_t *>(x + p.sum_at)[group] : 0;
}
GPU_FN float scale_of(const struct linear &p, const uint8_t *x, uint32_t i) {
    return x ? reinterpret_cast<const float *>(x + p.scale_at)[i] : 0.0f;
}

/*
 * Lane (g, t) ends with the run's sums of outputs g + 8j and rows first_row + 2t + n in out[j][n]. All lanes of a wave call this
 * together.
 */
template <ds_type TYPE>
GPU_FN void run_of_blocks(const struct linear &p, const uint8_t *record, uint32_t run, uint32_t first_row, uint32_t rows, float out[4][2]) {
    using P = packed<TYPE>;
    constexpr bool WIDE = P::GROUPS != 0;
    const uint32_t lane = gpu_lane(), g = lane / 4, t = lane % 4;
    const uint8_t *const mine = row_of(p, first_row + g, rows); /* whose activations this lane hands to gpu_mma */
    const uint8_t *const xs[2] = {row_of(p, first_row + 2 * t, rows), row_of(p, first_row + 2 * t + 1, rows)};

    int32_t isum[4][2] = {}, msum[4][2] = {};
    float total[4][2] = {};
    for (uint32_t step = 0; step < DS_RUN / 32; step++) {
        uint32_t w[8], b[2] = {0, 0};
        step_weights<TYPE>(record, step, lane, w);
        if (mine) {
            const uint32_t *const q = reinterpret_cast<const uint32_t *>(mine + run * DS_RUN + step * 32 + 8 * t);
            b[0] = q[0];
            b[1] = q[1];
        }
        /* Groups of 16 take two products, each with the other group's activations left out. */
        constexpr uint32_t PARTS = P::GROUPS == 16 ? 2 : 1;
        GPU_UNROLL for (uint32_t part = 0; part < PARTS; part++) {
            const bool inside = PARTS == 1 || t / 2 == part;
            const uint32_t part_b[2] = {inside ? b[0] : 0, inside ? b[1] : 0};
            int32_t dot[2][4] = {};
            GPU_UNROLL for (int half = 0; half < 2; half++) {
                const uint32_t a[4] = {w[4 * half], w[4 * half + 2], w[4 * half + 1], w[4 * half + 3]};
                gpu_mma(dot[half], a, part_b);
            }
            const uint32_t group = step * PARTS + part; /* of the weights, in the run */
            GPU_UNROLL for (uint32_t j = 0; j < 4; j++) {
                const uint32_t place = 4 * g + j;
                const float d = WIDE ? 0.0f : scale_value<TYPE>(scale_bits(record, ds_gpu_d_at(P::get()), step, place));
                const float m = !WIDE && P::MINIMUM ? scale_value<TYPE>(scale_bits(record, ds_gpu_dmin_at(P::get()), step, place)) : 0.0f;
                const int32_t scale = WIDE ? static_cast<int8_t>(record[ds_gpu_scale_at(P::get()) + group * DS_GPU_TILE + place]) : 0;
                const int32_t minimum = WIDE && P::MINIMUM ? record[ds_gpu_minimum_at(P::get()) + group * DS_GPU_TILE + place] : 0;
                GPU_UNROLL for (uint32_t n = 0; n < 2; n++) {
                    const int32_t product = dot[j / 2][j % 2 * 2 + n];
                    int32_t x_sum = 0;
                    if (P::MINIMUM) {
                        const uint32_t sixteen = (run * DS_RUN + step * 32) / DS_SUM_GROUP;
                        x_sum = PARTS == 2 ? sum_of_16(p, xs[n], sixteen + part) : sum_of_16(p, xs[n], sixteen) + sum_of_16(p, xs[n], sixteen + 1);
                    }
                    if (WIDE) {
                        isum[j][n] += scale * product;
                        msum[j][n] += minimum * x_sum;
                    } else if (P::NARROW) {
                        const float both = d * scale_of(p, xs[n], run * (DS_RUN / DS_Q8_BLOCK) + step);
                        const float term = static_cast<float>(product) * both;
                        total[j][n] = total[j][n] + term;
                    } else {
                        const float left = static_cast<float>(product) * d, right = static_cast<float>(x_sum) * m;
                        const float term = P::MINIMUM ? left + right : left;
                        total[j][n] = total[j][n] + term;
                    }
                }
            }
        }
    }
    GPU_UNROLL for (uint32_t j = 0; j < 4; j++) {
        const uint32_t place = 4 * g + j;
        GPU_UNROLL for (uint32_t n = 0; n < 2; n++) {
            if (P::NARROW) {
                out[j][n] = total[j][n];
                continue;
            }
            const float d_x = scale_of(p, xs[n], run);
            if (!WIDE) {
                out[j][n] = d_x * total[j][n];
                continue;
            }
            const float d = ds_f16_to_f32(scale_bits(record, ds_gpu_d_at(P::get()), 0, place)) * d_x;
            const float left = d * static_cast<float>(isum[j][n]);
            out[j][n] = left;
            if (P::MINIMUM) {
                const float dmin = ds_f16_to_f32(scale_bits(record, ds_gpu_dmin_at(P::get()), 0, place)) * d_x;
                const float right = dmin * static_cast<float>(msum[j][n]);
                out[j][n] = left - right;
            }
        }
    }
}

/* --- a run of a float type: lane = output --- */

template <ds_type TYPE> struct floats;
template <> struct floats<DS_TYPE_F32> {
    using weight = float;
    using input = float;
    GPU_FN_MEMBER static float widen(float w) { return w; }
    GPU_FN_MEMBER static float input_value(float x) { return x; }
};
template <> struct floats<DS_TYPE_F16> {
    using weight = uint16_t;
    using input = float;
    GPU_FN_MEMBER static float widen(uint16_t w) { return ds_f16_to_f32(w); }
    GPU_FN_MEMBER static float input_value(float x) { return x; }
};
template <> struct floats<DS_TYPE_BF16> {
    using weight = uint16_t;
    using input = uint16_t;
    GPU_FN_MEMBER static float widen(uint16_t w) { return ds_bf16_to_f32(w); }
    GPU_FN_MEMBER static float input_value(uint16_t x) { return ds_bf16_to_f32(x); }
};

template <ds_type TYPE>
GPU_FN void run_of_floats(const struct linear &p, const uint8_t *tile, uint32_t run, uint32_t first_row, uint32_t rows, float out[ROWS]) {
    using F = floats<TYPE>;
    constexpr uint32_t EACH = DS_GPU_PIECE / sizeof(typename F::weight);
    const uint32_t end = least(p.inputs, (run + 1) * DS_RUN), present = least(rows - first_row, ROWS), lane = gpu_lane();
    const typename F::weight *const weights = reinterpret_cast<const typename F::weight *>(tile);
    for (uint32_t n = 0; n < ROWS; n++) out[n] = 0;
    for (uint32_t i = run * DS_RUN; i < end; i++) {
        const float w = F::widen(weights[(static_cast<size_t>(i / EACH) * DS_GPU_TILE + lane) * EACH + i % EACH]);
        GPU_UNROLL for (uint32_t n = 0; n < ROWS; n++) {
            if (n >= present) continue;
            const float x = F::input_value(reinterpret_cast<const typename F::input *>(p.x + static_cast<size_t>(first_row + n) * p.x_pitch)[i]);
            const float product = x * w;
            out[n] = out[n] + product;
        }
    }
}

/* --- the block --- */

/* A run's sums into shared memory. */
template <ds_type TYPE> struct run_into {
    GPU_FN_MEMBER static void go(const struct linear &p, const uint8_t *tile, uint32_t run, uint32_t first_row, uint32_t rows,
                                 float sums[ROWS][DS_GPU_TILE]) {
        const uint32_t g = gpu_lane() / 4, t = gpu_lane() % 4;
        float out[4][2];
        run_of_blocks<TYPE>(p, tile + static_cast<size_t>(run) * ds_gpu_run_bytes(packed<TYPE>::get()), run, first_row, rows, out);
        for (uint32_t j = 0; j < 4; j++)
            for (uint32_t n = 0; n < 2; n++) sums[2 * t + n][g + 8 * j] = out[j][n];
    }
};
template <ds_type TYPE>
GPU_FN void float_run_into(const struct linear &p, const uint8_t *tile, uint32_t run, uint32_t first_row, uint32_t rows,
                           float sums[ROWS][DS_GPU_TILE]) {
    float out[ROWS];
    run_of_floats<TYPE>(p, tile, run, first_row, rows, out);
    for (uint32_t n = 0; n < ROWS; n++) sums[n][gpu_lane()] = out[n];
}
#define FLOAT_RUN(type)                                                                                                     \
    template <> struct run_into<type> {                                                                                     \
        GPU_FN_MEMBER static void go(const struct linear &p, const uint8_t *tile, uint32_t run, uint32_t first_row, uint32_t rows, \
                                     float sums[ROWS][DS_GPU_TILE]) {                                                       \
            float_run_into<type>(p, tile, run, first_row, rows, sums);                                                      \
        }                                                                                                                   \
    };
FLOAT_RUN(DS_TYPE_F32)
FLOAT_RUN(DS_TYPE_F16)
FLOAT_RUN(DS_TYPE_BF16)
#undef FLOAT_RUN

GPU_FN void finish(const struct linear &p, uint32_t row, uint32_t output, float sum) {
    if (p.bias) sum = sum + p.bias[output];
    if (p.residual.data) sum = sum + p.residual.row(row)[output];
    p.y.row(row)[output] = sum;
}

template <ds_type TYPE> GPU_KERNEL(THREADS) multiply(struct linear p, struct active active) {
    GPU_SHARED(struct sums, sums);
    const uint32_t rows = active.get(), first_row = gpu_block_y() * ROWS, first_output = gpu_block_x() * DS_GPU_TILE;
    if (first_row >= rows) return;
    const uint8_t *const tile = p.weight + gpu_block_x() * p.tile_bytes;
    const uint32_t runs = (p.inputs + DS_RUN - 1) / DS_RUN;
    constexpr uint32_t EACH = ROWS * DS_GPU_TILE / THREADS; /* (row, output) pairs a thread owns */
    float total[EACH] = {};
    for (uint32_t base = 0; base < runs; base += TEAMS) {
        const uint32_t run = base + gpu_team();
        /* Teams without a run of their own repeat the last one: gpu_mma wants whole waves. Nobody reads their sums. */
        run_into<TYPE>::go(p, tile, least(run, runs - 1), first_row, rows, sums.run[gpu_team()]);
        gpu_barrier();
        for (uint32_t k = 0; k < least(TEAMS, runs - base); k++)
            for (uint32_t i = 0; i < EACH; i++) {
                const uint32_t pair = i * THREADS + gpu_thread();
                total[i] = total[i] + sums.run[k][pair / DS_GPU_TILE][pair % DS_GPU_TILE];
            }
        gpu_barrier();
    }
    for (uint32_t i = 0; i < EACH; i++) {
        const uint32_t pair = i * THREADS + gpu_thread(), row = first_row + pair / DS_GPU_TILE, output = first_output + pair % DS_GPU_TILE;
        if (row < rows && output < p.outputs) finish(p, row, output, total[i]);
    }
}

using kernel = void (*)(struct linear, struct active);

kernel kernel_of(ds_type type) {
    switch (type) {
    case DS_TYPE_F32: return multiply<DS_TYPE_F32>;
    case DS_TYPE_F16: return multiply<DS_TYPE_F16>;
    case DS_TYPE_BF16: return multiply<DS_TYPE_BF16>;
#define PACK(type, ...) \
    case DS_TYPE_##type: return multiply<DS_TYPE_##type>;
        DS_GPU_PACKS(PACK)
#undef PACK
    default: return nullptr;
    }
}

} // namespace

uint64_t GPU_OP_SCRATCH(linear)(const union ds_op_params *params, uint32_t processors) {
    (void)params;
    (void)processors;
    return 0;
}

gpuError_t GPU_OP(linear)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_linear &p = params->linear;
    struct linear linear = {at<const uint8_t>(p.weight.at), ds_gpu_tile_bytes(p.weight.type, p.weight.cols), p.weight.rows, p.weight.cols,
                            at<const uint8_t>(p.x.at), static_cast<uint32_t>(ds_view_pitch(&p.x)), 0, 0, matrix_of<float>(p.y),
                            at<const float>(p.bias), matrix_of<const float>(p.residual)};
    linear.scale_at = ds_q8_scale_offset(p.x.cols);
    linear.sum_at = p.x.elem == DS_ELEM_Q8_32 ? ds_q8_32_sum_offset(p.x.cols) : ds_q8_sum_offset(p.x.cols);
    return gpu_launch(kernel_of(p.weight.type), gpu_grid_of(ceil_div(p.weight.rows, DS_GPU_TILE), ceil_div(p.x.rows, ROWS)), THREADS, 0,
                      launch->stream, linear, active_of(p.count, p.x.rows));
}
