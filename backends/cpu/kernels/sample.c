/*
 * First all threads look through the vocabulary together, each a stretch of it, for every row's largest logit and for what ends a
 * row. Then noise is made for the few tokens that it can lift above the best: by all threads again, each for its stretch, unless a
 * filter needs the whole row, which one thread then selects from (select.h). Meaning: ref/sample.c.
 */
#include "kernels.h"
#include "kernels/sample.h"
#include "kernels/survivors.h"

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

enum { FOURS = BLOCK / 4 };

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

/* The random words of the block that `first` lies in the first four of: words[w][i] is token first / 4 * 4 + 4 i + w's. */
static void words_of(const struct ds_sample_row *how, uint32_t first, uint32_t words[4][FOURS]) {
    for (uint32_t i = 0; i < FOURS; i++) {
        words[0][i] = first / 4 + i;
        words[1][i] = how->position;
        words[2][i] = how->purpose;
        words[3][i] = how->stream;
    }
    philox_of_fours(how->seed_low, how->seed_high, words);
}

/*
 * Noise of at least x needs v <= exp(-x), v being a token's word in units of 2^32: from -log(-log1p(-v)) and -log1p(-v) >= v. So
 * most words tell without a logarithm that their token stays below a score that another one has reached. The factor is wide
 * enough for all roundings.
 */
static float largest_word(float t, float reached) { return ds_exp(ds_min(t - reached, 0.0f)) * (4294967296.0f * 1.001f) + 4.0f; }

/*
 * The tokens [first, first + n) of a block, t their distances from the row's largest logit, enter the race if their words let them. One limit
 * for the whole block, that of its largest t, rules nearly all out, four at a time.
 */
static void race_block(struct race *race, const float *t, float top, uint32_t first, uint32_t n, float leader) {
    const float reached = race->best_id == NONE ? leader : DS_MAX(leader, race->best), limit = largest_word(top, reached);
    uint32_t words[4][FOURS], least[FOURS];
    words_of(race->how, first, words);
    for (uint32_t i = 0; i < FOURS; i++) {
        const uint32_t a = DS_MIN(words[0][i], words[1][i]), b = DS_MIN(words[2][i], words[3][i]);
        least[i] = DS_MIN(a, b);
    }
    for (uint32_t i = 0; i < FOURS; i++) {
        if (!((float)least[i] <= limit)) continue;
        for (uint32_t w = 0; w < 4; w++) {
            const uint32_t at = 4 * i + w - first % 4; /* wraps, and is out of range, for what lies in front of `first` */
            if (at < n && t[at] >= race->bound && (float)words[w][i] <= largest_word(t[at], reached)) enter_race(race, first + at, t[at]);
        }
    }
}

/* The best of a stretch of the vocabulary, without filters. The score of the whole row's largest logit is the first one to be reached. */
static void race_stretch(const struct row *row, const struct ds_sample_row *how, const struct ds_sample_part *whole, uint64_t first, uint64_t end,
                         struct ds_sample_part *part) {
    const uint64_t seed = how->seed_low | (uint64_t)how->seed_high << 32;
    const float leader = ds_gumbel(ds_philox_word(seed, (uint32_t)whole->id, how->position, how->purpose, how->stream));
    struct race race = race_of(how);
    race.bound = DS_MAX(race.bound, leader - NOISE_MOST);
    for (uint32_t n; first < end; first += n) {
        float t[BLOCK];
        n = (uint32_t)DS_MIN(end - first, BLOCK - first % 4); /* from the second block on they begin at a four */
        biased_logits(row, (uint32_t)first, n, t);
        for (uint32_t i = 0; i < n; i++) t[i] = (t[i] - whole->largest) * how->inverse_temperature;
        const float top = ds_largest(t, n);
        if (top >= race.bound) race_block(&race, t, top, (uint32_t)first, n, leader);
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

/* Without top-k and top-p: what t must be at least. A mass may be half a unit off, so that a small min-p is missed by a factor of 2. */
static float lowest_t(float min_p) { return min_p > 0 ? DS_MAX(ds_log(ds_min(min_p, 1.0f)) - 1.0f, -NOISE_SPAN) : -NOISE_SPAN; }

/* The filters' choice of the row, in three arrays of its length. */
static struct survivors survivors_of(const struct row *row, const struct ds_sample_row *how, float largest, uint8_t *scratch) {
    struct survivors s = {.x = (float *)(void *)scratch, .n = row->n, .whole = true};
    s.mass = s.x + row->n;
    s.ids = (uint32_t *)(void *)(s.mass + row->n);
    const bool top_p = how->top_p > 0 && how->top_p < 1;
    biased_logits(row, 0, s.n, s.x);
    if (how->top_k > 0) survive_top_k(&s, how->top_k);
    for (uint32_t i = 0; i < s.n; i++) s.x[i] = (s.x[i] - largest) * how->inverse_temperature;
    if (how->top_k == 0 && !top_p) {
        (void)group_tops(s.x, s.n, s.mass);
        keep_from_row(&s, s.mass, lowest_t(how->min_p));
    }
    for (uint32_t i = 0; i < s.n; i++) s.mass[i] = ds_mass_float(s.x[i]);
    if (top_p) survive_top_p(&s, how->top_p);
    if (how->min_p > 0) keep_masses(&s, (float)fixed_point(how->min_p));
    return s;
}

static int32_t draw(const struct row *row, const struct ds_sample_row *how, float largest, uint8_t *scratch) {
    const struct survivors s = survivors_of(row, how, largest, scratch);
    struct race race = race_of(how);
    for (uint32_t i = 0; i < s.n; i++)
        if (s.x[i] >= race.bound) enter_race(&race, s.ids[i], s.x[i]);
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
