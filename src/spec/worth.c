#include "spec/worth.h"

#include "base/status.h"
#include "spec/schedule.h"

static const double HOPE = 1.02; /* what speculation must gain where all drafts are right, to be looked at */

/* --- one sequence's part --- */

double ds_worth_pass(const struct ds_pace *p, uint32_t rows, uint32_t context) {
    const struct ds_costs *c = &p->learned.costs;
    const uint32_t others = p->company.rows, decoding = DS_MAX(p->company.decoding, 1);
    if (!others) return ds_cost_pass(c, rows, context);
    return ds_cost_pass(c, decoding, context) / decoding + ds_cost_pass(c, others + rows, context) - ds_cost_pass(c, others + 1, context);
}

double ds_worth_draft(const struct ds_pace *p, uint32_t slots, uint32_t context) {
    const uint32_t drafting = DS_MAX(p->company.drafting, 1);
    return ds_cost_draft_of_several(&p->learned.costs, slots, drafting, context) / drafting;
}

double ds_worth_plain_rate(const struct ds_pace *p, uint32_t context) { return 1 / ds_worth_pass(p, 1, context); }

double ds_pace_gain(const struct ds_pace *p) {
    const struct ds_pace_learned *l = &p->learned;
    return l->seen ? l->tokens / l->passes : 1;
}

/* What time is worth: the rate of the better of the two ways. */
double ds_pace_rate(const struct ds_pace *p, uint32_t context) { return ds_worth_plain_rate(p, context) * DS_MAX(ds_pace_gain(p), 1); }

/* --- one block --- */

/* Feeding is counted for every row, accepted or not: it is cheap, and the choice should not depend on small things. */
void ds_worth_pass_costs(const struct ds_pace *p, uint32_t context, uint32_t rows, double *seconds) {
    seconds[0] = 0;
    for (uint32_t b = 1; b <= rows; b++) seconds[b] = ds_worth_pass(p, b, context) + ds_cost_feed(&p->learned.costs, b);
}

struct ds_worth ds_worth_of_block(const struct ds_pace *p, uint32_t context, const float *confidence, uint32_t n, uint32_t slots) {
    double survival[DS_MAX_BLOCK], seconds[DS_MAX_BLOCK + 2];
    ds_reliability_survival(&p->learned.reliability, confidence, n, survival);
    ds_worth_pass_costs(p, context, n + 1, seconds);
    const double draft = ds_worth_draft(p, slots, context);
    const struct ds_schedule_costs costs = {.pass = seconds, .rows = n + 1, .fixed = draft, .rate = ds_pace_rate(p, context)};
    const struct ds_schedule_request request = {.survival = survival, .n = n};
    struct ds_schedule best;
    (p->coupled ? ds_schedule_search : ds_schedule_admit)(&costs, &request, 1, &best);
    return (struct ds_worth){.length = best.lengths[0], .tokens = best.tokens, .seconds = draft + seconds[best.rows]};
}

uint32_t ds_worth_next_length(uint32_t slots, uint32_t block) { return DS_MIN(2 * slots, block); }

struct ds_worth ds_worth_of_look(const struct ds_pace *p, uint32_t context, const float *confidence, uint32_t n) {
    struct ds_worth best = ds_worth_of_block(p, context, confidence, 1, 1);
    for (uint32_t slots = 1; slots < n;) {
        slots = DS_MIN(ds_worth_next_length(slots, p->block), n);
        const struct ds_worth value = ds_worth_of_block(p, context, confidence, slots, slots);
        if (value.tokens * best.seconds > best.tokens * value.seconds) best = value;
    }
    return best;
}

/* --- before anything is drafted --- */

bool ds_worth_is_hopeless(const struct ds_pace *p, uint32_t context) {
    const struct ds_costs *c = &p->learned.costs;
    const double plain = ds_worth_pass(p, 1, context);
    if (c->table.spread > DS_COST_DISTURBED) return false;
    for (uint32_t slots = 1;; slots = ds_worth_next_length(slots, p->block)) {
        const double seconds = ds_worth_draft(p, slots, context) + ds_worth_pass(p, 1 + slots, context) + ds_cost_feed(c, 1 + slots);
        if ((1 + slots) * plain > HOPE * seconds) return false;
        if (slots == p->block) return true;
    }
}

double ds_worth_gain_in(const struct ds_pace *p, const struct ds_pace_company *company, uint32_t context) {
    struct ds_pace there = *p;
    there.company = *company;
    double tokens = 1, best = 0;
    for (uint32_t length = 1, slots = 1; length <= p->block; length++) {
        if (length > slots) slots = ds_worth_next_length(slots, p->block);
        tokens += p->learned.reached[length - 1];
        const double seconds = ds_worth_draft(&there, slots, context) + ds_worth_pass(&there, 1 + length, context) + ds_cost_feed(&p->learned.costs, 1 + length);
        best = DS_MAX(best, tokens / (seconds * ds_worth_plain_rate(&there, context)));
    }
    return best;
}
