/*
 * Meaning: cpu/ref/max_prob.c. A graph has few rows, often one, and a mass costs dozens of instructions, so that blocks share a row: each finds the
 * largest logit of a stretch; then its masses beside the row's largest; then they are added up. Masses are integers: no order is in their sum.
 */
#include "common.h"

namespace {

enum { THREADS = 256, TEAMS = THREADS / GPU_TEAM, EACH = 8, STRETCH = THREADS * EACH };

/* What is known of a stretch. */
struct part {
    uint64_t mass;
    float largest; /* where all are finite */
    uint32_t not_finite;
};

struct max_prob {
    struct matrix<const float> logits;
    struct matrix<float> log_odds;
    struct part *parts; /* [rows, stretches] */
    uint32_t stretches; /* of a row */
    GPU_FN_MEMBER struct part *row(uint32_t r) const { return parts + static_cast<size_t>(r) * stretches; }
};

struct shared {
    float largest[TEAMS];
    uint32_t not_finite[TEAMS];
    uint64_t mass[TEAMS];
};

/* The thread's logits of the block's stretch, all asked for before the first is looked at; behind the row's end `none`. */
GPU_FN void fetch(const float *logits, uint32_t n, float none, float value[EACH]) {
    const uint32_t first = gpu_block_x() * STRETCH + gpu_thread();
    GPU_UNROLL for (uint32_t i = 0; i < EACH; i++) value[i] = first + i * THREADS < n ? logits[first + i * THREADS] : none;
}

/* Of all lanes of a team; the same for each of them. */
GPU_FN void largest_of_team(float *largest, uint32_t *not_finite) {
    for (uint32_t mask = GPU_TEAM / 2; mask > 0; mask /= 2) {
        const float other = gpu_shuffle_xor_f(*largest, mask);
        *largest = other > *largest ? other : *largest;
        *not_finite |= gpu_shuffle_xor(*not_finite, mask);
    }
}
GPU_FN uint64_t sum_of_team(uint64_t mass) {
    for (uint32_t mask = GPU_TEAM / 2; mask > 0; mask /= 2) mass += gpu_shuffle_xor_64(mass, mask);
    return mass;
}

GPU_KERNEL(THREADS) find_largest(struct max_prob p, struct active active) {
    gpu_begin();
    GPU_SHARED(struct shared, s);
    const uint32_t r = gpu_block_y();
    if (r >= active.get()) return;
    const float *const logits = p.logits.row(r);
    float largest = logits[gpu_block_x() * STRETCH], value[EACH];
    uint32_t not_finite = 0;
    fetch(logits, p.logits.cols, largest, value);
    GPU_UNROLL for (uint32_t i = 0; i < EACH; i++) {
        not_finite |= !ds_is_finite(value[i]);
        largest = value[i] > largest ? value[i] : largest;
    }
    largest_of_team(&largest, &not_finite);
    if (gpu_lane() == 0) {
        s.largest[gpu_team()] = largest;
        s.not_finite[gpu_team()] = not_finite;
    }
    gpu_barrier();
    if (gpu_thread() != 0) return;
    for (uint32_t i = 1; i < TEAMS; i++) {
        largest = s.largest[i] > largest ? s.largest[i] : largest;
        not_finite |= s.not_finite[i];
    }
    struct part *const part = p.row(r) + gpu_block_x();
    part->largest = largest;
    part->not_finite = not_finite;
}

/* Whether a row is finite, and its largest logit then: each team looks through what was found of its stretches. */
GPU_FN bool largest_of_row(const struct part *parts, uint32_t stretches, float *largest) {
    uint32_t not_finite = 0;
    *largest = parts[0].largest;
    for (uint32_t i = gpu_lane(); i < stretches; i += GPU_TEAM) {
        const float other = parts[i].largest;
        *largest = other > *largest ? other : *largest;
        not_finite |= parts[i].not_finite;
    }
    largest_of_team(largest, &not_finite);
    return !not_finite;
}

GPU_KERNEL(THREADS) add_masses(struct max_prob p, struct active active) {
    gpu_begin();
    GPU_SHARED(struct shared, s);
    const uint32_t r = gpu_block_y();
    float largest, value[EACH];
    if (r >= active.get() || !largest_of_row(p.row(r), p.stretches, &largest)) return;
    fetch(p.logits.row(r), p.logits.cols, ds_float(DS_NUM_INF | DS_NUM_SIGN), value); /* of no mass */
    uint64_t mass = 0;
    GPU_UNROLL for (uint32_t i = 0; i < EACH; i++) mass += ds_mass(value[i] - largest);
    mass = sum_of_team(mass);
    if (gpu_lane() == 0) s.mass[gpu_team()] = mass;
    gpu_barrier();
    if (gpu_thread() != 0) return;
    for (uint32_t i = 1; i < TEAMS; i++) mass += s.mass[i];
    p.row(r)[gpu_block_x()].mass = mass;
}

/* By one wave, whose teams do the same. */
GPU_KERNEL(DS_GPU_WAVE) finish(struct max_prob p, struct active active) {
    gpu_begin();
    const uint32_t r = gpu_block_x();
    if (r >= active.get()) return;
    const struct part *const parts = p.row(r);
    float largest, log_odds = ds_float(DS_NUM_INF | DS_NUM_SIGN);
    if (largest_of_row(parts, p.stretches, &largest)) {
        uint64_t mass = 0;
        for (uint32_t i = gpu_lane(); i < p.stretches; i += GPU_TEAM) mass += parts[i].mass;
        const uint64_t rest = sum_of_team(mass) - (UINT64_C(1) << 32);
        log_odds = ds_top_log_odds(static_cast<uint32_t>(rest >> 32), static_cast<uint32_t>(rest));
    }
    if (gpu_thread() == 0) p.log_odds.row(r)[0] = log_odds;
}

} // namespace

uint64_t GPU_OP_SCRATCH(max_prob)(const union ds_op_params *params, uint32_t processors) {
    (void)processors;
    const struct ds_view &logits = params->max_prob.logits;
    return sizeof(struct part) * static_cast<uint64_t>(logits.rows) * ceil_div(logits.cols, STRETCH);
}

gpuError_t GPU_OP(max_prob)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_max_prob &p = params->max_prob;
    const struct active active = active_of(p.count, p.logits.rows);
    const struct max_prob max_prob = {matrix_of<const float>(p.logits), matrix_of<float>(p.log_odds), reinterpret_cast<struct part *>(launch->scratch),
                                      ceil_div(p.logits.cols, STRETCH)};
    const struct gpu_grid stretches = gpu_grid_of(max_prob.stretches, p.logits.rows);
    gpuError_t error = gpu_launch(find_largest, stretches, THREADS, 0, where_of(launch), max_prob, active);
    if (error == gpuSuccess) error = gpu_launch(add_masses, stretches, THREADS, 0, where_of(launch), max_prob, active);
    if (error != gpuSuccess) return error;
    return gpu_launch(finish, gpu_grid_of(p.logits.rows), DS_GPU_WAVE, 0, where_of(launch), max_prob, active);
}
