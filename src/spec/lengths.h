/*
 * How many drafts of each sequence of a step to verify: schedule.h, with what the sequences' schedulers (pace.h) know. One pass carries the
 * rows of all, so a draft is admitted where it is worth most.
 *
 * Pure functions, as those are; nothing here can change a token of a sequence whose sampling is coupled.
 */
#ifndef DSPARK_SPEC_LENGTHS_H
#define DSPARK_SPEC_LENGTHS_H

#include "spec/pace.h"
#include "spec/schedule.h"

struct ds_lengths_request {
    struct ds_pace *pace;
    uint32_t context;        /* the anchor's position */
    const float *confidence; /* [n] */
    uint32_t n;              /* drafts that may be verified */
    uint32_t length;         /* out */
};

/*
 * `n` requests (at most DS_SCHEDULE_MOST_REQUESTS) that have drafted; their pass has `others` rows beside theirs and may have `most_drafts`
 * more than these and one anchor for each. Sequences with rejection sampling are served first, by Algorithm 1, because what they get may not
 * depend on their own later drafts; the search then divides what is left among the others.
 */
void ds_lengths_choose(struct ds_lengths_request *requests, uint32_t n, uint32_t others, uint32_t most_drafts);

/* Before a step: `n` sequences that decode and `others` rows beside them, `drafting` of them likely to draft. */
void ds_lengths_announce(struct ds_pace *pace, uint32_t n, uint32_t others, uint32_t drafting);
/* When lengths are known: the pass has `rows` rows, `own` of them this sequence's; `drafting` sequences have drafted. */
void ds_lengths_settle(struct ds_pace *pace, uint32_t n, uint32_t rows, uint32_t own, uint32_t drafting);

#endif
