/*
 * First all threads look through the vocabulary together, each a stretch of it, for every row's largest logit and for what ends a
 * row. Then noise is made for the few tokens that it can lift above the best: by all threads again, each for its stretch, unless a
 * filter needs the whole row, which one thread then selects from (select.h). Meaning: ref/sample.c.
 */
#include "kernels.h"
#include "kernels/filters.h"
#include "kernels/sample.h"

#include "base/philox.h"

enum { BLOCK = 512, BATCH = 64, NONE = -1 };

/* Noise is within these (numerics.h); both are rounded outwards. */
#define NOISE_MOST 22.25f
#define NOISE_SPAN 26.0f

static struct row row_of(const struct ds_op_sample *p, uint32_t r) {
    const struct ds_sample_row *how = (const struct ds_sample_row *)ds_host_at(&p->rows) + r;
    const float *bias = ds_host_at(&p->bias);
    return (struct row){.logits = ds_host_row(&p->logits, r), .n = p->logits.cols,
                        .bias = bias && how->bias_row >= 0 ? bias + (size_t)how->bias_row * p->logits.cols : NULL};
}

/* --- first phase --- */

static void look(const struct row *row, uint64_t first, uint64_t end, struct ds_sample_part *part) {
    *part = (struct ds_sample_part){.id = NONE};
    for (uint32_t n; first < end; first += n) {
        float x[BLOCK];
        n = (uint32_t)DS_MIN(end - first, (uint64_t)BLOCK);
        if (!all_finite(row->logits + first, n)) part->not_finite = true;
        biased_logits(row, (uint32_t)first, n, x);
        const float largest = ds_largest(x, n);
        if (part->id != NONE && !(largest > part->largest)) continue;
        for (uint32_t i = 0; i < n; i++) {
            if (x[i] != largest) continue;
            part->largest = largest;
            part->id = (int32_t)(first + i);
            break;
        }
    }
}

/* The threads' parts of one row, in the order of ids: among equals the first stays. */
static struct ds_sample_part combine(const struct ds_sample_part *parts, uint32_t rows, uint32_t r, unsigned members) {
    struct ds_sample_part all = parts[r];
    for (unsigned i = 1; i < members; i++) {
        const struct ds_sample_part *part = &parts[(size_t)i * rows + r];
        all.not_finite |= part->not_finite;
        if (part->id == NONE || (all.id != NONE && !(part->largest > all.largest))) continue;
        all.id = part->id;
        all.largest = part->largest;
    }
    return all;
}

/* --- second phase --- */

/* The search for the largest t + noise: tokens in ascending order, a batch at a time so that noise is made by vectors. */
struct race {
    const struct ds_sample_row *how;
    int32_t best_id;
    float best;
    float bound; /* tokens with a lower t cannot win */
    uint32_t count, ids[BATCH];
    float t[BATCH];
};

/* One token near t = 0 is always there. */
static struct race race_of(const struct ds_sample_row *how) { return (struct race){.how = how, .best_id = NONE, .bound = -NOISE_SPAN}; }

static void score_batch(struct race *race) {
    const struct ds_sample_row *how = race->how;
    const uint64_t seed = how->seed_low | (uint64_t)how->seed_high << 32;
    uint32_t words[BATCH];
    float noise[BATCH];
    for (uint32_t i = 0; i < race->count; i++) words[i] = ds_philox_word(seed, race->ids[i], how->position, how->purpose, how->stream);
    for (uint32_t i = 0; i < race->count; i++) noise[i] = ds_gumbel(words[i]);
    for (uint32_t i = 0; i < race->count; i++) {
        const float score = race->t[i] + noise[i];
        if (race->best_id != NONE && !(score > race->best)) continue;
        race->best = score;
        race->best_id = (int32_t)race->ids[i];
    }
    if (race->count > 0) race->bound = DS_MAX(race->bound, race->best - NOISE_MOST);
    race->count = 0;
}

static inline void enter_race(struct race *race, uint32_t id, float t) {
    race->ids[race->count] = id;
    race->t[race->count++] = t;
    if (race->count == BATCH) score_batch(race);
}

enum { FOURS = BLOCK / 4 + 1 };

/* ds_philox of FOURS counters, round by round, so that lanes are counters. */
static void philox_of_fours(uint32_t k0, uint32_t k1, uint32_t c[4][FOURS]) {
    for (int round = 0; round < 10; round++, k0 += 0x9e3779b9u, k1 += 0xbb67ae85u) {
        for (uint32_t i = 0; i < FOURS; i++) {
            const uint64_t p0 = (uint64_t)0xd2511f53u * c[0][i], p1 = (uint64_t)0xcd9e8d57u * c[2][i];
            const uint32_t c1 = c[1][i], c3 = c[3][i];
            c[0][i] = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
            c[1][i] = (uint32_t)p1;
            c[2][i] = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
            c[3][i] = (uint32_t)p0;
        }
    }
}

/* The random words of `n` tokens from `first` on, n at most BLOCK: four tokens share one evaluation. */
static void words_of(const struct ds_sample_row *how, uint32_t first, uint32_t n, uint32_t *words) {
    uint32_t c[4][FOURS];
    for (uint32_t i = 0; i < FOURS; i++) {
        c[0][i] = first / 4 + i;
        c[1][i] = how->position;
        c[2][i] = how->purpose;
        c[3][i] = how->stream;
    }
    philox_of_fours(how->seed_low, how->seed_high, c);
    uint32_t four = 0, word = first % 4;
    for (uint32_t i = 0; i < n; i++) {
        words[i] = c[word][four];
        word = (word + 1) % 4;
        four += word == 0;
    }
}

/*
 * Noise of at least x needs v <= exp(-x), v being a token's word in units of 2^32: from -log(-log1p(-v)) and -log1p(-v) >= v. So
 * most words tell without a logarithm that their token stays below a score that another one has reached. The factor is wide
 * enough for all roundings.
 */
static float largest_word(float t, float reached) { return ds_exp(ds_min(t - reached, 0.0f)) * (4294967296.0f * 1.001f) + 4.0f; }

/* The best of a stretch of the vocabulary, without filters. The score of the whole row's largest logit is the first one to be reached. */
static void race_stretch(const struct row *row, const struct ds_sample_row *how, const struct ds_sample_part *whole, uint64_t first, uint64_t end,
                         struct ds_sample_part *part) {
    const uint64_t seed = how->seed_low | (uint64_t)how->seed_high << 32;
    const float leader = ds_gumbel(ds_philox_word(seed, (uint32_t)whole->id, how->position, how->purpose, how->stream));
    struct race race = race_of(how);
    race.bound = DS_MAX(race.bound, leader - NOISE_MOST);
    for (uint32_t n; first < end; first += n) {
        float t[BLOCK], limit[BLOCK];
        uint32_t words[BLOCK];
        n = (uint32_t)DS_MIN(end - first, (uint64_t)BLOCK);
        biased_logits(row, (uint32_t)first, n, t);
        for (uint32_t i = 0; i < n; i++) t[i] = (t[i] - whole->largest) * how->inverse_temperature;
        if (!(ds_largest(t, n) >= race.bound)) continue;
        const float reached = race.best_id == NONE ? leader : DS_MAX(leader, race.best);
        words_of(how, (uint32_t)first, n, words);
        for (uint32_t i = 0; i < n; i++) limit[i] = largest_word(t[i], reached);
        for (uint32_t i = 0; i < n; i++)
            if (t[i] >= race.bound && (float)words[i] <= limit[i]) enter_race(&race, (uint32_t)first + i, t[i]);
    }
    score_batch(&race);
    part->winner = race.best_id;
    part->score = race.best;
}

/* Among equal scores the first thread's stays: its ids are lower. */
static int32_t winner_of(const struct ds_sample_part *parts, uint32_t rows, uint32_t r, unsigned members) {
    const struct ds_sample_part *best = &parts[r];
    for (unsigned i = 1; i < members; i++) {
        const struct ds_sample_part *part = &parts[(size_t)i * rows + r];
        if (part->winner != NONE && (best->winner == NONE || part->score > best->score)) best = part;
    }
    return best->winner;
}

static int32_t draw(const struct row *row, const struct ds_sample_row *how, float largest, uint8_t *scratch) {
    float *t = (float *)(void *)scratch, *mass = t + row->n;
    biased_logits(row, 0, row->n, t);
    if (how->top_k > 0) keep_top_k(t, row->n, how->top_k, (uint32_t *)(void *)mass);
    masses(t, row->n, largest, how->inverse_temperature, mass);
    const struct ds_selection kept = keep_top_p(mass, row->n, how->top_p);
    const float least_mass = how->min_p > 0 ? (float)fixed_point(how->min_p) : 0.0f;

    struct race race = race_of(how);
    for (uint32_t i = 0; i < row->n; i++)
        if (t[i] >= race.bound && !(mass[i] < least_mass) && ds_selected(&kept, ds_bits(mass[i]), i)) enter_race(&race, i, t[i]);
    score_batch(&race);
    return race.best_id;
}

static bool filtered(const struct ds_sample_row *how) { return how->top_k > 0 || (how->top_p > 0 && how->top_p < 1) || how->min_p > 0; }

/* Whether the row's token is found by all threads together. */
static bool is_raced(const struct ds_op_sample *p, uint32_t r, const struct ds_sample_part *part) {
    const struct ds_sample_row *how = (const struct ds_sample_row *)ds_host_at(&p->rows) + r;
    return !part->not_finite && part->id != NONE && how->inverse_temperature > 0 && !filtered(how);
}

/* A row that is not raced. */
static void finish_row(const struct ds_cpu_work *work, const struct ds_op_sample *p, uint32_t r, struct ds_sample_part part) {
    const struct ds_sample_row *how = (const struct ds_sample_row *)ds_host_at(&p->rows) + r;
    int32_t *tokens = ds_host_at(&p->tokens);
    uint32_t *flags = ds_host_at(&p->flags);
    if (part.not_finite) {
        tokens[r] = NONE;
        if (flags) flags[r] |= DS_FLAG_LOGIT;
    } else if (part.id == NONE) {
        tokens[r] = NONE;
        if (flags) flags[r] |= DS_FLAG_MASKED;
    } else if (how->inverse_temperature > 0) {
        const struct row row = row_of(p, r);
        tokens[r] = draw(&row, how, part.largest, work->scratch);
    } else {
        tokens[r] = part.id;
    }
}

void DS_CPU_NAME(sample)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    const struct ds_op_sample *p = &params->sample;
    const uint32_t rows = ds_host_rows(&p->count, p->logits.rows);
    struct ds_sample_part *parts = (struct ds_sample_part *)(void *)work->shared, *mine = parts + (size_t)work->member * rows;
    uint64_t first, end;
    ds_cpu_share(work, p->logits.cols, &first, &end);
    for (uint32_t r = 0; r < rows; r++) {
        const struct row row = row_of(p, r);
        look(&row, first, end, &mine[r]);
    }
    ds_cpu_meet(work);

    bool raced = false;
    for (uint32_t r = 0; r < rows; r++) {
        const struct ds_sample_part part = combine(parts, rows, r, work->members);
        if (is_raced(p, r, &part)) {
            const struct row row = row_of(p, r);
            race_stretch(&row, (const struct ds_sample_row *)ds_host_at(&p->rows) + r, &part, first, end, &mine[r]);
            raced = true;
        } else if (r % work->members == work->member) {
            finish_row(work, p, r, part);
        }
    }
    if (!raced) return;
    ds_cpu_meet(work);
    for (uint32_t r = work->member; r < rows; r += work->members) {
        const struct ds_sample_part part = combine(parts, rows, r, work->members);
        if (is_raced(p, r, &part)) ((int32_t *)ds_host_at(&p->tokens))[r] = winner_of(parts, rows, r, work->members);
    }
}
