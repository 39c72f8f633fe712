#include "spec/pace.h"

#include "base/status.h"
#include "spec/worth.h"

#include <assert.h>
#include <string.h>

static const double MEAN_WEIGHT = 1.0 / 8, PROBE_WEIGHT = 1.0 / 4; /* of the newest round; of a probe: they are few, and long apart */
static const double LOOKING_SHARE = 0.01;  /* of the time, spent on probes and their context at most */
static const double UNPARK_GAIN = 1.01;    /* parking and unparking in turns would gain nothing */
/* Tokens that plain decoding may be ahead by: a few at first, and a share of what has been generated, but no more than lets a
   drafter that gains a tenth through its bad luck. */
static const double FIRST_PATIENCE = 1, PATIENCE_SHARE = 0.02, MOST_PATIENCE = 8;
enum {
    FIRST_WAIT = 16, MOST_WAIT = 64,  /* tokens between probes: doubled each time one fails; what they may cost is bounded apart */
    ROUNDS_TO_TRUST = 16,             /* having paid for so long, parking again starts with the first wait */
    PLAIN_EVERY = 24, PLAIN_RUN = 3,  /* rounds: as many, and more the more speculation gains; so many plain ones then */
    WHOLE_BLOCK_EVERY = 16,           /* rounds: what slots beyond the usual ones are worth is looked at again */
};

void ds_pace_learned_start(struct ds_pace_learned *l, const struct ds_cost_table *table, enum ds_confidence_source source) {
    *l = (struct ds_pace_learned){.costs.table = *table, .wait = FIRST_WAIT};
    ds_cost_tuning_start(&l->costs.tuning);
    ds_reliability_start(&l->reliability, source);
}

void ds_pace_start(struct ds_pace *p, const struct ds_pace_learned *learned, uint32_t block, bool coupled) {
    assert(block <= DS_MAX_BLOCK);
    *p = (struct ds_pace){.learned = *learned, .block = block, .coupled = coupled};
}

/* --- means --- */

bool ds_pace_table_is_stale(const struct ds_pace_learned *l) {
    static const double busy = 0.5;
    return l->costs.tuning.all * l->costs.tuning.pass[0] < busy && l->costs.tuning.recent_pass[0].n >= 2;
}

/* The first rounds are averaged plainly. */
static double weight_of_next(const struct ds_pace_learned *l) { return DS_MAX(MEAN_WEIGHT, 1.0 / (l->seen + 1)); }

static void add_to_means(struct ds_pace_learned *l, double weight, double tokens, double passes) {
    weight = DS_MAX(weight, weight_of_next(l));
    l->tokens += weight * (tokens - l->tokens);
    l->passes += weight * (passes - l->passes);
    l->seen += l->seen < UINT32_MAX;
}

/* --- one block --- */

/* Slot k is worth what its draft adds beyond the cost of its row, or nothing; unseen slots keep what they have. */
static void learn_use(struct ds_pace *p, uint32_t context, const float *confidence, uint32_t n) {
    double survival[DS_MAX_BLOCK], seconds[DS_MAX_BLOCK + 2];
    ds_reliability_survival(&p->learned.reliability, confidence, n, survival);
    ds_worth_pass_costs(p, context, n + 1, seconds);
    const double r = ds_pace_rate(p, context);
    const double weight = weight_of_next(&p->learned);
    for (uint32_t k = 0; k < n; k++) {
        const double worth = DS_MAX(survival[k] - r * (seconds[k + 2] - seconds[k + 1]), 0);
        p->learned.use[k] += weight * (worth - p->learned.use[k]);
        p->learned.reached[k] += weight * (survival[k] - p->learned.reached[k]);
    }
}

/* As many slots as pay for their drafting, the whole block at first and now and then. */
static uint32_t slots_worth_drafting(struct ds_pace *p, uint32_t context) {
    const struct ds_pace_learned *l = &p->learned;
    const double none = ds_worth_draft(p, 0, context), r = ds_pace_rate(p, context);
    if (!(ds_worth_draft(p, 1, context) > none) || !l->seen || p->partial >= WHOLE_BLOCK_EVERY) {
        p->partial = 0;
        return p->block;
    }
    uint32_t best = 1;
    double use = 0, most = 0;
    for (uint32_t slots = 1, k = 0;; slots = ds_worth_next_length(slots, p->block)) {
        for (; k < slots; k++) use += l->use[k];
        const double worth = use - (ds_worth_draft(p, slots, context) - none) * r;
        if (worth > most || slots == 1) {
            most = worth;
            best = slots;
        }
        if (slots == p->block) break;
    }
    p->partial = best < p->block ? p->partial + 1 : 0;
    return best;
}

/* --- steps --- */

/* In plain passes, as credit is. */
static double looking_costs(const struct ds_pace *p, uint32_t context, uint32_t slots, uint32_t fed) {
    return ((slots ? ds_worth_draft(p, slots, context) : 0) + ds_cost_feed(&p->learned.costs, fed)) * ds_worth_plain_rate(p, context);
}

static bool spend(struct ds_pace *p, double cost) {
    if (p->learned.credit < cost) return false;
    p->learned.credit -= cost;
    return true;
}

static bool probe_is_due(struct ds_pace *p, uint32_t context, uint32_t stored) {
    const struct ds_pace_learned *l = &p->learned;
    if (p->pending || l->since < l->wait || ds_worth_is_hopeless(p, context)) return false;
    return spend(p, looking_costs(p, context, p->block, stored));
}

/*
 * To store features costs next to nothing. When no more can wait, taking them in is paid for like a probe; where that is within the share of
 * the tokens they are of, they are not forgone because a probe has just emptied the account: the next one waits for longer.
 */
static bool worth_keeping(struct ds_pace *p, uint32_t context, uint32_t stored) {
    if (stored < DS_STORED_TAPS) return true;
    if (ds_worth_is_hopeless(p, context)) return false;
    const double cost = looking_costs(p, context, 0, stored);
    if (cost > LOOKING_SHARE * stored) return spend(p, cost);
    p->learned.credit -= cost;
    return true;
}

/* The cost of plain decoding is what speculation is judged by; rounds spent on it cost the more, the more speculation gains. */
static bool plain_is_due(const struct ds_pace *p) {
    const struct ds_pace_learned *l = &p->learned;
    if (p->company.rows) return false; /* it would not be a pass of one row */
    if (!l->seen) return l->costs.tuning.seen_pass[0] <= 0;
    return l->since_plain > PLAIN_EVERY * (1 + 8 * DS_MAX(ds_pace_gain(p) - 1, 0));
}

static void park(struct ds_pace *p, uint32_t wait) {
    struct ds_pace_learned *l = &p->learned;
    l->shortfall = 0;
    l->wait = wait;
    l->parked = true;
    l->since = l->rounds = p->pending = p->plain_left = 0;
}

/* Costs may say so before anything has been tried. */
static void park_if_hopeless(struct ds_pace *p, uint32_t context) {
    if (!p->learned.seen && !p->learned.parked && ds_worth_is_hopeless(p, context)) park(p, FIRST_WAIT);
}

bool ds_pace_follows(struct ds_pace *p, uint32_t context, bool complete) {
    const struct ds_pace_company company = p->company;
    p->company = (struct ds_pace_company){0}; /* whoever is there now may leave */
    park_if_hopeless(p, context);
    p->forgone = p->learned.parked && ((p->forgone && !complete) || ds_worth_is_hopeless(p, context));
    p->company = company;
    return !p->forgone;
}

static bool is_same(const struct ds_pace_company *a, const struct ds_pace_company *b) {
    return a->rows == b->rows && a->decoding == b->decoding && a->drafting == b->drafting;
}

/* Means are carried over to the company that has been announced; where that changes what pays, nothing has to be tried first. */
static void meet(struct ds_pace *p, uint32_t context) {
    struct ds_pace_learned *l = &p->learned;
    if (is_same(&p->announced, &l->met)) return;
    if (l->seen) {
        l->passes *= ds_worth_gain_in(p, &l->met, context) / ds_worth_gain_in(p, &p->announced, context);
        if (l->parked && ds_pace_gain(p) > UNPARK_GAIN) {
            l->parked = false;
            l->since = l->rounds = p->pending = 0;
        } else if (!l->parked && ds_pace_gain(p) < 1) {
            park(p, FIRST_WAIT);
        }
    }
    l->met = p->announced;
}

struct ds_pace_plan ds_pace_next(struct ds_pace *p, uint32_t context, uint32_t stored, uint32_t room) {
    struct ds_pace_plan plain = {DS_PACE_PLAIN, 0, .keep = true};
    struct ds_pace_learned *l = &p->learned;
    if (p->block == 0 || p->forgone) return (struct ds_pace_plan){DS_PACE_PLAIN, 0, .keep = false};
    meet(p, context);
    if (room) park_if_hopeless(p, context);
    if (l->parked) {
        if (room && probe_is_due(p, context, stored)) return (struct ds_pace_plan){p->coupled ? DS_PACE_PROBE : DS_PACE_SPECULATE, p->block, .keep = true};
        plain.keep = worth_keeping(p, context, stored);
        p->forgone = !plain.keep;
        return plain;
    }
    if (!room) return plain;
    if (!p->plain_left && plain_is_due(p)) p->plain_left = PLAIN_RUN;
    if (p->plain_left) return plain;
    return (struct ds_pace_plan){DS_PACE_SPECULATE, slots_worth_drafting(p, context), .keep = true};
}

uint32_t ds_pace_choose(struct ds_pace *p, uint32_t context, const float *confidence, uint32_t n, uint32_t room) {
    return ds_worth_of_block(p, context, confidence, DS_MIN(n, room), n).length;
}

static double patience(const struct ds_pace_learned *l) {
    return DS_MIN(FIRST_PATIENCE + PATIENCE_SHARE * l->committed, MOST_PATIENCE);
}

/* After a look at a block while parked: does speculation pay now? */
static void reconsider(struct ds_pace *p) {
    p->learned.parked = ds_pace_gain(p) <= UNPARK_GAIN;
    p->learned.wait = p->learned.parked ? DS_MIN(2 * p->learned.wait, (uint32_t)MOST_WAIT) : p->learned.wait;
    p->learned.since = p->learned.rounds = 0;
}

void ds_pace_speculated(struct ds_pace *p, const struct ds_pace_round *r) {
    struct ds_pace_learned *l = &p->learned;
    if (r->draft_seconds > 0) ds_cost_observe_draft(&l->costs, r->slots, r->context, r->draft_seconds);
    if (r->pass_seconds > 0) ds_cost_observe_pass(&l->costs, r->verified + 1, r->context, r->pass_seconds);
    l->since_plain++;
    p->plain_run = 0;
    learn_use(p, r->context, r->confidence, r->slots);
    const bool probe = l->parked;
    /* The outcome is learned first: a round that failed should say so in its own expectation. */
    ds_reliability_observe(&l->reliability, r->confidence, r->verified, r->accepted);
    const struct ds_worth value = ds_worth_of_block(p, r->context, r->confidence, r->slots, r->slots), look = probe ? ds_worth_of_look(p, r->context, r->confidence, r->slots) : value;
    l->rounds++;
    add_to_means(l, probe ? PROBE_WEIGHT : MEAN_WEIGHT, look.tokens, look.seconds * ds_worth_plain_rate(p, r->context));
    l->shortfall = DS_MAX(l->shortfall + value.seconds * ds_worth_plain_rate(p, r->context) - value.tokens, 0);
    if (probe) reconsider(p);
    else if (l->shortfall > patience(l)) park(p, l->rounds >= ROUNDS_TO_TRUST ? FIRST_WAIT : DS_MIN(2 * l->wait, (uint32_t)MOST_WAIT));
}

void ds_pace_plain(struct ds_pace *p, uint32_t context, double pass_seconds) {
    struct ds_pace_learned *l = &p->learned;
    if (pass_seconds > 0 && p->plain_run > 0) {
        if (l->parked) ds_cost_observe_machine(&l->costs, context, pass_seconds);
        else ds_cost_observe_pass(&l->costs, 1, context, pass_seconds);
    }
    p->plain_run++;
    l->since += l->since < UINT32_MAX;
    if (p->plain_left && --p->plain_left == 0) l->since_plain = 0;
}

void ds_pace_probed(struct ds_pace *p, uint32_t context, const int32_t *draft, const float *confidence, uint32_t n, double draft_seconds) {
    if (draft_seconds > 0) ds_cost_observe_probe(&p->learned.costs, n, context, draft_seconds);
    p->learned.since = 0;
    p->plain_run = 0;
    p->pending = n;
    p->matched = 0;
    p->position = context + 1;
    memcpy(p->draft, draft, n * sizeof *draft);
    memcpy(p->confidence, confidence, n * sizeof *confidence);
}

static void finish_probe(struct ds_pace *p, uint32_t context) {
    const uint32_t n = p->pending;
    ds_reliability_observe(&p->learned.reliability, p->confidence, n, p->matched);
    learn_use(p, context, p->confidence, n);
    const struct ds_worth value = ds_worth_of_look(p, context, p->confidence, n);
    add_to_means(&p->learned, PROBE_WEIGHT, value.tokens, value.seconds * ds_worth_plain_rate(p, context));
    p->pending = 0;
    reconsider(p);
}

void ds_pace_committed(struct ds_pace *p, uint32_t position, int32_t token) {
    static const double most_credit = 16; /* a draft that costs more passes is hopeless */
    p->learned.committed++;
    p->learned.credit = DS_MIN(p->learned.credit + LOOKING_SHARE, most_credit);
    if (!p->pending) return;
    if (position != p->position) { /* the sequence was rewound or extended by others */
        p->pending = 0;
        return;
    }
    const bool same = p->draft[p->matched] == token;
    p->matched += same;
    p->position++;
    if (!same || p->matched == p->pending) finish_probe(p, position);
}
