/*
 * All threads look through the vocabulary together, each a stretch of it: first for every row's largest logit, then for the masses beside
 * it. Stretches are walked through in blocks; one whose largest logit is so far below the row's that all its masses round to 0 is passed over.
 * Meaning: ref/max_prob.c.
 */
#include "kernels.h"
#include "kernels/filters.h"
#include "kernels/max_prob.h"

enum { BLOCK = 512 };

#define WEIGHTLESS (-23.0f) /* round(exp(x) 2^32) is 0 from -22.88 on */

static struct ds_max_prob_part look(const float *x, uint64_t first, uint64_t end) {
    struct ds_max_prob_part part = {.largest = ds_largest(x + first, (uint32_t)(end - first))};
    part.not_finite = !all_finite(x + first, (uint32_t)(end - first));
    return part;
}

/* Of at most BLOCK tokens: halves of masses, added up by vectors of 32 bits. */
static uint64_t block_mass(const float *x, uint32_t n, float largest) {
    uint32_t high = 0, low = 0;
    for (uint32_t i = 0; i < n; i++) {
        const float m = ds_mass_float(x[i] - largest);
        const int32_t upper = (int32_t)(m * 1.52587890625e-5f);
        high += (uint32_t)upper;
        low += (uint32_t)(int32_t)(m - (float)upper * 65536.0f);
    }
    return ((uint64_t)high << 16) + low;
}

static uint64_t mass_of(const float *x, uint64_t first, uint64_t end, float largest) {
    uint64_t sum = 0;
    for (uint32_t n; first < end; first += n) {
        n = (uint32_t)DS_MIN(end - first, (uint64_t)BLOCK);
        if (ds_largest(x + first, n) - largest > WEIGHTLESS) sum += block_mass(x + first, n, largest);
    }
    return sum;
}

/* What the threads have found of row r. */
static float largest_of(const struct ds_max_prob_part *parts, uint32_t rows, uint32_t r, unsigned members, bool *not_finite) {
    float largest = parts[r].largest;
    *not_finite = false;
    for (unsigned i = 0; i < members; i++) {
        const struct ds_max_prob_part *part = &parts[(size_t)i * rows + r];
        largest = part->largest > largest ? part->largest : largest;
        *not_finite |= part->not_finite;
    }
    return largest;
}

static float log_odds_of(const struct ds_max_prob_part *parts, uint32_t rows, uint32_t r, unsigned members) {
    bool not_finite;
    (void)largest_of(parts, rows, r, members, &not_finite);
    if (not_finite) return ds_float(DS_NUM_INF | DS_NUM_SIGN);
    uint64_t rest = 0 - (UINT64_C(1) << 32);
    for (unsigned i = 0; i < members; i++) rest += parts[(size_t)i * rows + r].mass;
    return ds_top_log_odds((uint32_t)(rest >> 32), (uint32_t)rest);
}

void DS_CPU_NAME(max_prob)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    const struct ds_op_max_prob *p = &params->max_prob;
    const uint32_t rows = ds_host_rows(&p->count, p->logits.rows);
    struct ds_max_prob_part *parts = (struct ds_max_prob_part *)(void *)work->shared, *mine = parts + (size_t)work->member * rows;
    uint64_t first, end;
    ds_cpu_share(work, p->logits.cols, &first, &end);
    for (uint32_t r = 0; r < rows; r++) mine[r] = look(ds_host_row(&p->logits, r), first, end);
    ds_cpu_meet(work);
    for (uint32_t r = 0; r < rows; r++) {
        bool not_finite;
        const float largest = largest_of(parts, rows, r, work->members, &not_finite);
        if (!not_finite) mine[r].mass = mass_of(ds_host_row(&p->logits, r), first, end, largest);
    }
    ds_cpu_meet(work);
    for (uint32_t r = work->member; r < rows; r += work->members) {
        float *out = ds_host_row(&p->log_odds, r);
        *out = log_odds_of(parts, rows, r, work->members);
    }
}
