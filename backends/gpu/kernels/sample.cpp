/*
 * Meaning: cpu/ref/sample.c. A block draws one row's token and looks through the vocabulary several times: for the largest logit; for
 * each filter that is on, eight times (four digits of a key, four of an id) to find the last token it keeps; and for the largest
 * sum of logit and noise. Masses and counts are integers, so that it does not matter in which order they are added.
 */
#include "filters.h"

#include "base/philox.h"

namespace {

/* Noise lies in [-2.82, 22.2] (numerics.h): what is further below the best than this cannot win. */
#define NOISE_SPAN 26.0f

struct sample {
    struct matrix<const float> logits;
    const struct ds_sample_row *rows;
    const float *bias; /* or null */
    int32_t *tokens;
    uint32_t *flags; /* or null */
};

GPU_FN uint32_t draw(const struct row &row, struct shared &s) {
    const uint64_t seed = row.how.seed_low | static_cast<uint64_t>(row.how.seed_high) << 32;
    struct champion mine = {0, 0xffffffffu};
    for (uint32_t i = gpu_thread(); i < row.n; i += THREADS) {
        const float t = heat(row, i);
        if (!(t >= -NOISE_SPAN) || !kept(row, i)) continue; /* the largest logit is always kept, and its t is 0 */
        const float score = t + ds_gumbel(ds_philox_word(seed, i, row.how.position, row.how.purpose, row.how.stream));
        challenge(&mine, score, i);
    }
    return best_of_block(mine, s).id;
}

/* --- the row --- */

GPU_KERNEL(THREADS) sample_rows(struct sample p, struct active active) {
    gpu_begin();
    GPU_SHARED(struct shared, s);
    const uint32_t r = gpu_block_x();
    if (r >= active.get()) return;
    struct row row = {p.logits.row(r), nullptr, p.rows[r], p.logits.cols, 0, {0, 0}, {0, 0}, 0};
    if (p.bias && row.how.bias_row >= 0) row.bias = p.bias + static_cast<size_t>(row.how.bias_row) * row.n;
    if (gpu_thread() == 0) s.raised = 0;
    gpu_barrier();
    struct champion mine = {0, 0xffffffffu};
    for (uint32_t i = gpu_thread(); i < row.n; i += THREADS) {
        if (!ds_is_finite(row.logits[i])) gpu_atomic_or(&s.raised, DS_FLAG_LOGIT);
        if (!forbidden(row, i)) challenge(&mine, biased(row, i), i);
    }
    const struct champion top = best_of_block(mine, s);
    const uint32_t raised = s.raised ? s.raised : top.id == 0xffffffffu ? DS_FLAG_MASKED : 0;
    uint32_t token = raised ? 0xffffffffu : top.id;
    if (!raised && row.how.inverse_temperature > 0) {
        row.top = top.value;
        filter(&row, s);
        token = draw(row, s);
    }
    if (gpu_thread() != 0) return;
    p.tokens[r] = static_cast<int32_t>(token);
    if (p.flags && raised) p.flags[r] |= raised;
}

} // namespace

gpuError_t GPU_OP(sample)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_sample &p = params->sample;
    const struct sample sample = {matrix_of<const float>(p.logits), at<const struct ds_sample_row>(p.rows), at<const float>(p.bias),
                                  at<int32_t>(p.tokens), at<uint32_t>(p.flags)};
    return gpu_launch(sample_rows, gpu_grid_of(p.logits.rows), THREADS, 0, where_of(launch), sample, active_of(p.count, p.logits.rows));
}
