/*
 * Meaning: cpu/ref/norm_quantize.c. A block takes a row: all its threads read it, its first team adds up the squares in the order of the
 * definition, then each team norms and quantises runs of 256.
 */
#include "quantize.h"

namespace {

enum { MOST_THREADS = 1024, MOST_SHARED = 48 << 10, AHEAD = 8 };

struct norm {
    struct matrix<const float> x;
    struct matrix<float> normed;
    const float *weight; /* [cols], or null */
    float eps;
};

/* Squares side by side, so that nothing but the sum is left to do one after the other. */
GPU_FN float sum_of_squares(const float *staged, uint32_t cols) {
    float sum = 0;
    uint32_t c = gpu_lane();
    for (; c + (AHEAD - 1) * DS_LANES < cols; c += AHEAD * DS_LANES) {
        float square[AHEAD];
        GPU_UNROLL for (uint32_t i = 0; i < AHEAD; i++) square[i] = staged[c + i * DS_LANES] * staged[c + i * DS_LANES];
        GPU_UNROLL for (uint32_t i = 0; i < AHEAD; i++) sum = sum + square[i];
    }
    for (; c < cols; c += DS_LANES) {
        const float square = staged[c] * staged[c];
        sum = sum + square;
    }
    return tree_sum(sum);
}

GPU_FN void weights_of(const struct norm &p, uint32_t run, float w[EACH]) {
    const uint32_t first = run * DS_RUN + gpu_lane() * EACH;
    GPU_UNROLL for (uint32_t i = 0; i < EACH; i++) w[i] = p.weight && first + i < p.x.cols ? p.weight[first + i] : 1.0f;
}

GPU_KERNEL(MOST_THREADS) norm_and_quantize(struct norm p, struct quantized q, struct active active) {
    gpu_begin();
    GPU_DYNAMIC_SHARED(memory);
    GPU_SHARED(float, factor);
    float *const staged = reinterpret_cast<float *>(memory);
    const uint32_t r = gpu_block_y(), cols = p.x.cols, threads = gpu_threads();
    float w[EACH];
    weights_of(p, gpu_team(), w); /* of the team's first run: they arrive while the squares are added */
    if (r >= active.get()) return;
    const float *const x = p.x.row(r);
    for (uint32_t base = gpu_thread(); base < cols; base += AHEAD * threads) {
        float value[AHEAD];
        GPU_UNROLL for (uint32_t i = 0; i < AHEAD; i++) value[i] = base + i * threads < cols ? x[base + i * threads] : 0.0f;
        GPU_UNROLL for (uint32_t i = 0; i < AHEAD; i++)
            if (base + i * threads < cols) staged[base + i * threads] = value[i];
    }
    gpu_barrier();
    if (gpu_thread() < DS_GPU_WAVE) {
        const float mean = ds_div(sum_of_squares(staged, cols), static_cast<float>(cols));
        if (gpu_thread() == 0) factor = ds_div(1.0f, ds_sqrt(mean + p.eps));
    }
    gpu_barrier();
    const uint32_t runs = q.runs(), teams = gpu_teams();
    for (uint32_t base = 0; base < runs; base += teams) {
        const uint32_t run = base + gpu_team(), first = run * DS_RUN + gpu_lane() * EACH;
        if (base) weights_of(p, run, w);
        float value[EACH];
        GPU_UNROLL for (uint32_t i = 0; i < EACH; i++) {
            const bool inside = first + i < cols;
            float scaled = inside ? staged[first + i] * factor : 0.0f;
            if (p.weight) scaled = scaled * w[i];
            value[i] = scaled;
            if (inside) p.normed.row(r)[first + i] = scaled;
        }
        quantize_run(q, r, r, run, run < runs, value);
    }
}

} // namespace

bool GPU_OP_CAN(norm_quantize)(const union ds_op_params *params) { return params->norm_quantize.x.cols * sizeof(float) <= MOST_SHARED - 64; }

gpuError_t GPU_OP(norm_quantize)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_norm_quantize &p = params->norm_quantize;
    const struct norm norm = {matrix_of<const float>(p.x), matrix_of<float>(p.normed), at<const float>(p.weight), p.eps};
    const uint32_t wanted = ceil_div(ceil_div(p.x.cols, DS_RUN) * GPU_TEAM, DS_GPU_WAVE) * DS_GPU_WAVE;
    const uint32_t threads = wanted < 128 ? 128 : wanted > MOST_THREADS ? static_cast<uint32_t>(MOST_THREADS) : wanted;
    return gpu_launch(norm_and_quantize, gpu_grid_of(1, p.x.rows), threads, p.x.cols * sizeof(float), where_of(launch), norm,
                      quantized_of(p.out, p.flags), active_of(p.count, p.x.rows));
}
