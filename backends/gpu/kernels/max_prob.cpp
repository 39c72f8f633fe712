/*
 * Meaning: cpu/ref/max_prob.c. A block reads one row twice: for its largest logit, and for the masses beside it, which are integers, so that it does
 * not matter in which order they are added. A graph has few rows, often one: as many threads as a block may have, each with several reads under way.
 */
#include "common.h"

namespace {

enum { THREADS = 1024, TEAMS = THREADS / GPU_TEAM, AHEAD = 8 };

struct max_prob {
    struct matrix<const float> logits;
    struct matrix<float> log_odds;
};

/* What the teams have found. */
struct found {
    float largest[TEAMS];
    uint32_t not_finite[TEAMS];
    uint64_t mass[TEAMS];
};

/* A thread's next logits, all asked for before the first is looked at; behind the row's end `none`. */
GPU_FN void fetch(const float *logits, uint32_t n, uint32_t first, float none, float value[AHEAD]) {
    GPU_UNROLL for (uint32_t i = 0; i < AHEAD; i++) value[i] = first + i * THREADS < n ? logits[first + i * THREADS] : none;
}

/* The largest of a row whose logits are all finite, and whether they are; the same for all threads of the block. */
GPU_FN bool find_largest(const float *logits, uint32_t n, float *out, struct found &s) {
    const float any = logits[0];
    float largest = any, value[AHEAD];
    uint32_t not_finite = 0;
    for (uint32_t first = gpu_thread(); first < n; first += AHEAD * THREADS) {
        fetch(logits, n, first, any, value);
        GPU_UNROLL for (uint32_t i = 0; i < AHEAD; i++) {
            not_finite |= !ds_is_finite(value[i]);
            largest = value[i] > largest ? value[i] : largest;
        }
    }
    for (uint32_t mask = GPU_TEAM / 2; mask > 0; mask /= 2) {
        const float other = gpu_shuffle_xor_f(largest, mask);
        largest = other > largest ? other : largest;
        not_finite |= gpu_shuffle_xor(not_finite, mask);
    }
    if (gpu_lane() == 0) {
        s.largest[gpu_team()] = largest;
        s.not_finite[gpu_team()] = not_finite;
    }
    gpu_barrier();
    for (uint32_t i = 0; i < TEAMS; i++) {
        largest = s.largest[i] > largest ? s.largest[i] : largest;
        not_finite |= s.not_finite[i];
    }
    *out = largest;
    return !not_finite;
}

/* The same for all threads of the block. */
GPU_FN uint64_t mass_of(const float *logits, uint32_t n, float largest, struct found &s) {
    uint64_t mass = 0;
    for (uint32_t first = gpu_thread(); first < n; first += AHEAD * THREADS) {
        float value[AHEAD];
        fetch(logits, n, first, ds_float(DS_NUM_INF | DS_NUM_SIGN), value); /* of no mass */
        GPU_UNROLL for (uint32_t i = 0; i < AHEAD; i++) mass += ds_mass(value[i] - largest);
    }
    for (uint32_t mask = GPU_TEAM / 2; mask > 0; mask /= 2) mass += gpu_shuffle_xor_64(mass, mask);
    if (gpu_lane() == 0) s.mass[gpu_team()] = mass;
    gpu_barrier();
    uint64_t total = 0;
    for (uint32_t i = 0; i < TEAMS; i++) total += s.mass[i];
    return total;
}

GPU_KERNEL(THREADS) max_prob_of_rows(struct max_prob p, struct active active) {
    gpu_begin();
    GPU_SHARED(struct found, s);
    const uint32_t r = gpu_block_x(), n = p.logits.cols;
    if (r >= active.get()) return;
    const float *const logits = p.logits.row(r);
    float largest, log_odds = ds_float(DS_NUM_INF | DS_NUM_SIGN);
    if (find_largest(logits, n, &largest, s)) {
        const uint64_t rest = mass_of(logits, n, largest, s) - (UINT64_C(1) << 32);
        log_odds = ds_top_log_odds(static_cast<uint32_t>(rest >> 32), static_cast<uint32_t>(rest));
    }
    if (gpu_thread() == 0) p.log_odds.row(r)[0] = log_odds;
}

} // namespace

gpuError_t GPU_OP(max_prob)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_max_prob &p = params->max_prob;
    const struct max_prob max_prob = {matrix_of<const float>(p.logits), matrix_of<float>(p.log_odds)};
    return gpu_launch(max_prob_of_rows, gpu_grid_of(p.logits.rows), THREADS, 0, where_of(launch), max_prob, active_of(p.count, p.logits.rows));
}
