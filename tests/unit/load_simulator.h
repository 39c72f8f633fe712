/*
 * Many sequences in a simulator without a clock: steps are planned by the functions the engine plans them with (pace.h,
 * lengths.h), drafts are accepted by chance, and time is what a table modelled on a device says.
 */
#ifndef DSPARK_TESTS_LOAD_SIMULATOR_H
#define DSPARK_TESTS_LOAD_SIMULATOR_H

#include "chance.h"
#include "check.h"

#include "ops/numerics.h"
#include "spec/lengths.h"

#include <math.h>

enum { BLOCK = 7, MOST_TOGETHER = 32, LAST_ROWS = 256 };

/* --- machines: milliseconds --- */

static const struct machine {
    const char *name;
    uint32_t widths[9]; /* rows of a pass; 0: no more */
    double row[9];      /* and its time */
    double draft, draft_sequence;   /* a block for one sequence, and for each further one in the same pass; 0: as much as the first */
    double feed, feed_row;          /* a row is about a fiftieth of a row of the target's arithmetic */
} machines[] = {
    /* t(w)/t(1) of docs/performance.md's 4B shape on a CPU: 1.33 at 4, 2.03 at 8, beyond that arithmetic alone */
    {"CPU", {1, 2, 3, 4, 6, 8, 16, 32, 64}, {188, 209, 230, 250, 316, 382, 740, 1460, 2900}, 60, 45, 1.43, 0.57},
    /* passes cost little more by the row until arithmetic is the limit */
    {"GPU", {1, 2, 3, 4, 6, 8, 16, 32, 64}, {10, 10.05, 10.1, 10.2, 10.3, 10.4, 10.9, 12.0, 15.0}, 1.2, 0.05, 0.03, 0.002},
    /*
     * Measured by `dspark bench` with a pair of Qwen3-4B's shape in Q4_K_M (docs/performance.md, docs/gpu.md): two cores of a Zen 3, 16 threads of a
     * Xeon, an H200. What a draft for several takes was not, nor context: a fiftieth of a row's arithmetic.
     */
    {"Zen 3", {1, 2, 4, 8}, {204, 245, 310, 503}, 119.5, 0, 1.5, 0.8},
    {"Xeon", {1, 2, 4, 8, 16}, {46.9, 45.8, 49.8, 60.0, 95.3}, 14.3, 0, 0.3, 0.1},
    {"H200", {1, 2, 4, 8, 12, 16}, {2.69, 2.90, 3.15, 3.77, 5.58, 6.34}, 1.27, 0, 0.03, 0.005},
};

static inline struct ds_costs costs_of(const struct machine *m) {
    struct ds_cost_samples s = {.near_context = 1, .block = BLOCK, .draft_one = m->draft, .draft_whole = m->draft,
                                .draft_sequences = m->draft_sequence > 0 ? 8 : 0, .draft_many = m->draft + 7 * m->draft_sequence, .feed_rows = 8, .feed_one = m->feed + m->feed_row,
                                .feed_many = m->feed + 8 * m->feed_row};
    for (; s.n < 9 && m->widths[s.n]; s.n++) s.pass[s.n] = (struct ds_cost_sample){m->widths[s.n], m->row[s.n], 0};
    struct ds_costs costs;
    ds_cost_fit(&s, &costs.table);
    ds_cost_tuning_start(&costs.tuning);
    return costs;
}

/* --- drafters --- */

static const struct drafter {
    const char *name;
    double odds, spread; /* log-odds of a draft's acceptance, and between blocks */
    double bias;         /* what the confidence says too much */
} drafters[] = {{"good", 1.6, 0.8, 0.2}, {"mediocre", 0.1, 1.0, 0.3}, {"hopeless", -8, 0.5, 8.5}};

struct block {
    float confidence[BLOCK];
    uint32_t right;
};

static inline struct block block_at(const struct drafter *d, uint32_t position, uint64_t seed) {
    struct chance c = {mixed(seed * 0x9e3779b97f4a7c15u + position)};
    const double ease = d->odds + d->spread * bell(&c);
    struct block b = {.right = BLOCK};
    for (uint32_t k = 0; k < BLOCK; k++) {
        const double odds = ease + 0.3 * bell(&c) - 0.05 * k;
        if (draw(&c) >= 1 / (1 + exp(-odds)) && b.right == BLOCK) b.right = k;
        b.confidence[k] = ds_sigmoid((float)(odds + d->bias + 0.4 * bell(&c)));
    }
    return b;
}

/* --- a step of several sequences --- */

enum { PLAIN = 0, AUTO = -1 }; /* else a fixed length */

struct sequence {
    struct ds_pace pace;
    uint64_t seed;
    uint32_t done, stored, probe_at, probe_right;
    /* of the step under way */
    enum ds_pace_step step;
    struct block block;
    uint32_t slots, length;
    bool keep;
};

struct world {
    const struct machine *machine;
    const struct drafter *drafter;
    struct ds_costs truth; /* what times really are */
    int mode;
    struct sequence *all[MOST_TOGETHER];
    uint32_t n;
};

static inline void commit(struct sequence *s, bool automatic) {
    s->done++;
    if (automatic) ds_pace_committed(&s->pace, s->done, s->done - s->probe_at <= s->probe_right);
}

static inline uint32_t plan(struct world *w, uint32_t prompt_rows, double *time) {
    uint32_t likely = 0, drafting = 0, most = 0, fixed = 1; /* there are graphs for 1, 2, 4 slots and all */
    while ((int)fixed < w->mode) fixed = DS_MIN(2 * fixed, (uint32_t)BLOCK);
    for (uint32_t i = 0; i < w->n; i++) likely += !w->all[i]->pace.learned.parked;
    for (uint32_t i = 0; i < w->n; i++) {
        struct sequence *s = w->all[i];
        s->slots = w->mode > 0 ? fixed : 0;
        s->step = w->mode > 0 ? DS_PACE_SPECULATE : DS_PACE_PLAIN;
        if (w->mode == AUTO) {
            ds_lengths_announce(&s->pace, w->n, prompt_rows, likely + s->pace.learned.parked);
            const struct ds_pace_plan p = ds_pace_next(&s->pace, s->done, s->stored, BLOCK);
            s->step = p.step;
            s->slots = p.slots;
            s->keep = p.keep;
        }
        if (!s->slots) continue;
        drafting++;
        most = DS_MAX(most, s->slots);
        if (s->stored) *time += ds_cost_feed(&w->truth, s->stored);
        s->stored = 0;
        s->block = block_at(w->drafter, s->done, s->seed);
    }
    if (drafting) *time += ds_cost_draft_of_several(&w->truth, most, drafting, 0);
    return drafting;
}

static inline uint32_t choose(struct world *w, uint32_t prompt_rows) {
    struct ds_lengths_request requests[MOST_TOGETHER];
    uint32_t count = 0, rows = w->n;
    for (uint32_t i = 0; i < w->n; i++) {
        struct sequence *s = w->all[i];
        s->length = w->mode > 0 ? (uint32_t)w->mode : 0;
        if (w->mode == AUTO && s->step == DS_PACE_SPECULATE)
            requests[count++] = (struct ds_lengths_request){.pace = &s->pace, .context = s->done, .confidence = s->block.confidence, .n = s->slots};
    }
    if (count) ds_lengths_choose(requests, count, w->n - count + prompt_rows, LAST_ROWS - w->n);
    for (uint32_t i = 0, next = 0; i < w->n; i++) {
        struct sequence *s = w->all[i];
        if (w->mode == AUTO && s->step == DS_PACE_SPECULATE) s->length = requests[next++].length;
        rows += s->length;
    }
    return rows;
}

static inline void finish(struct world *w, struct sequence *s, uint32_t rows, uint32_t drafting, double pass, uint32_t *fed) {
    static const int32_t ones[BLOCK] = {1, 1, 1, 1, 1, 1, 1};
    const bool automatic = w->mode == AUTO;
    const uint32_t accepted = DS_MIN(s->block.right, s->length), context = s->done;
    if (automatic) {
        ds_lengths_settle(&s->pace, w->n, rows, s->length + 1, s->slots ? drafting : 0);
        if (rows == 1 + s->length) ds_cost_observe_pass(&s->pace.learned.costs, rows, context, pass);
    }
    if (s->step == DS_PACE_SPECULATE) {
        *fed += accepted + 1;
        const struct ds_pace_round round = {.context = context, .confidence = s->block.confidence, .slots = s->slots, .verified = s->length,
                                            .accepted = accepted};
        if (automatic) ds_pace_speculated(&s->pace, &round);
        for (uint32_t i = 0; i <= accepted; i++) commit(s, automatic);
        return;
    }
    if (s->step == DS_PACE_PROBE) {
        ds_pace_probed(&s->pace, context, ones, s->block.confidence, s->slots, 0);
        s->probe_at = context;
        s->probe_right = s->block.right;
    }
    if (automatic) ds_pace_plain(&s->pace, context, 0);
    if (automatic && s->keep && s->stored == DS_STORED_TAPS) {
        *fed += s->stored;
        s->stored = 0;
    }
    s->stored += automatic && s->keep;
    commit(s, automatic);
}

/* Milliseconds of a step of all sequences of the world, with `prompt_rows` rows of prompts beside them. */
static inline double run_step(struct world *w, uint32_t prompt_rows) {
    double time = 0;
    const uint32_t drafting = w->n ? plan(w, prompt_rows, &time) : 0, rows = (w->n ? choose(w, prompt_rows) : 0) + prompt_rows;
    const double pass = ds_cost_pass(&w->truth, rows, 0);
    uint32_t fed = w->mode == AUTO || w->mode > 0 ? prompt_rows : 0;
    for (uint32_t i = 0; i < w->n; i++) finish(w, w->all[i], rows, drafting, pass, &fed);
    return time + pass + ds_cost_feed(&w->truth, fed);
}

static inline void begin(struct sequence *s, const struct ds_pace_learned *learned, uint64_t seed) {
    *s = (struct sequence){.seed = seed};
    ds_pace_start(&s->pace, learned, BLOCK, true);
}

static inline struct ds_pace_learned nothing_learned(const struct machine *m) {
    const struct ds_costs costs = costs_of(m);
    struct ds_pace_learned learned;
    ds_pace_learned_start(&learned, &costs.table, DS_CONFIDENCE_HEAD);
    return learned;
}

enum { REQUESTS = 240, PROMPT = 96, PIECE = 32, MEAN_ANSWER = 120 };

#endif
