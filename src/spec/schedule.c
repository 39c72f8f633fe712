#include "spec/schedule.h"

#include <assert.h>
#include <stdbool.h>

static double objective(const struct ds_schedule_costs *c, double tokens, uint32_t rows) {
    const double seconds = c->pass[rows] + c->fixed;
    return c->rate > 0 ? tokens - c->rate * seconds : tokens / seconds;
}

/* The request whose next draft has the largest survival, ties to the first; n when none has a draft left. */
static uint32_t next_draft(const struct ds_schedule_request *requests, uint32_t n, const uint32_t *taken) {
    uint32_t best = n;
    for (uint32_t r = 0; r < n; r++) {
        if (taken[r] == requests[r].n) continue;
        if (best == n || requests[r].survival[taken[r]] > requests[best].survival[taken[best]]) best = r;
    }
    return best;
}

static void schedule(const struct ds_schedule_costs *costs, const struct ds_schedule_request *requests, uint32_t n, bool stop_early,
                     struct ds_schedule *out) {
    assert(n >= 1 && n <= DS_SCHEDULE_MOST_REQUESTS && costs->rows >= n);
    struct ds_schedule at = {.rows = n, .tokens = n};
    at.value = objective(costs, at.tokens, at.rows);
    *out = at;
    /* For each number of rows the best choice is the drafts with the largest survival, and these are prefixes. */
    while (at.rows < costs->rows) {
        const uint32_t r = next_draft(requests, n, at.lengths);
        if (r == n) break;
        at.tokens += requests[r].survival[at.lengths[r]++];
        at.rows++;
        at.value = objective(costs, at.tokens, at.rows);
        if (at.value > out->value) *out = at;
        else if (stop_early) break;
    }
}

void ds_schedule_search(const struct ds_schedule_costs *costs, const struct ds_schedule_request *requests, uint32_t n, struct ds_schedule *out) {
    schedule(costs, requests, n, false, out);
}

void ds_schedule_admit(const struct ds_schedule_costs *costs, const struct ds_schedule_request *requests, uint32_t n, struct ds_schedule *out) {
    schedule(costs, requests, n, true, out);
}
