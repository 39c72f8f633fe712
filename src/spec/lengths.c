#include "spec/lengths.h"

#include "base/status.h"

#include <assert.h>

enum { MOST = DS_SCHEDULE_MOST_REQUESTS, MOST_ROWS = 512 };

void ds_lengths_announce(struct ds_pace *pace, uint32_t n, uint32_t others, uint32_t drafting) {
    pace->announced = pace->company = (struct ds_pace_company){.rows = n - 1 + others, .decoding = n, .drafting = DS_MAX(drafting, 1)};
}

/* Of the others' drafts half lie below this sequence's: where passes cost more and more by the row, that divides the cost evenly. */
void ds_lengths_settle(struct ds_pace *pace, uint32_t n, uint32_t rows, uint32_t own, uint32_t drafting) {
    const uint32_t others = rows - own, plain = n - 1;
    pace->company = (struct ds_pace_company){.rows = others > plain ? plain + (others - plain + 1) / 2 : others, .decoding = n,
                                             .drafting = DS_MAX(drafting, 1)};
}

/* Those with this kind of sampling. *rows: of the pass so far, their anchors included. */
static void choose(struct ds_lengths_request *requests, uint32_t n, bool coupled, uint32_t *rows, uint32_t *drafts) {
    double survival[MOST][DS_MAX_BLOCK], seconds[MOST_ROWS + 1], rate = 0;
    struct ds_schedule_request wanted[MOST];
    struct ds_lengths_request *chosen[MOST];
    uint32_t count = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct ds_lengths_request *r = &requests[i];
        if (r->pace->coupled != coupled) continue;
        ds_reliability_survival(&r->pace->learned.reliability, r->confidence, r->n, survival[count]);
        wanted[count] = (struct ds_schedule_request){survival[count], r->n};
        rate += ds_pace_rate(r->pace, r->context);
        chosen[count++] = r;
    }
    if (!count) return;
    /* schedule.h counts an anchor for each of its requests; in front of these lie the rows of others. */
    const struct ds_costs *costs = &chosen[0]->pace->learned.costs;
    const uint32_t before = *rows - count, most = DS_MIN(count + *drafts, (uint32_t)MOST_ROWS);
    uint64_t context = 0;
    for (uint32_t i = 0; i < count; i++) context += chosen[i]->context;
    seconds[0] = 0;
    for (uint32_t b = count; b <= most; b++)
        seconds[b] = ds_cost_pass(costs, before + b, (uint32_t)(context / count)) + ds_cost_feed(costs, b);
    const struct ds_schedule_costs table = {.pass = seconds, .rows = most, .rate = rate / count};
    struct ds_schedule best;
    (coupled ? ds_schedule_search : ds_schedule_admit)(&table, wanted, count, &best);
    for (uint32_t i = 0; i < count; i++) {
        chosen[i]->length = best.lengths[i];
        *rows += best.lengths[i];
        *drafts -= best.lengths[i];
    }
}

void ds_lengths_choose(struct ds_lengths_request *requests, uint32_t n, uint32_t others, uint32_t most_drafts) {
    assert(n <= MOST);
    uint32_t rows = others + n, drafts = most_drafts;
    choose(requests, n, false, &rows, &drafts);
    choose(requests, n, true, &rows, &drafts);
}
