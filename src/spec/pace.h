/*
 * The scheduler of one sequence over time: whether to draft at all, how many slots, how many drafts to verify, when to park and when
 * to look again. Promise: never much slower than plain decoding, whatever the drafter, the machine and the text.
 *
 *   speculating   each round drafts, then verifies what maximises tokens minus rate * time (schedule.h), rate being what rounds
 *                 have attained of late, and at least plain decoding's. What plain decoding would have made in the same
 *                 time is kept count of: when it is ahead by some tokens, speculation parks. At first one or two tokens are
 *                 enough; the more has been generated, the more patience there is for a few bad rounds. Now and then, and
 *                 at the very beginning, some rounds are plain, so that what the other way would cost is known and not only
 *                 believed; the first of them does not count, because it finds the caches full of the drafter.
 *   parked        plain decoding; features are only stored. Now and then a block is drafted and compared with the tokens
 *                 that plain decoding gives anyway: a probe costs one draft and no verification, and tells of every slot. Probes back
 *                 off. They and the context they need are paid from one account, into which one part in a hundred of all time goes.
 *                 When what is stored must become context and the account does not hold that, the context of this sequence is
 *                 forgone: it is plain from then on, at no cost.
 *   company       sequences come and go, and what pays alone need not pay beside three others. What slots have been worth is known apart from
 *                 what rows cost, so the means of rounds are carried over to each new company by what it would make of them, and a
 *                 sequence parks, or goes on, at once.
 *   forgone       also from the first token on, and its prompt's context with it, where not even drafts that are all accepted would
 *                 pay: there is nothing to look for.
 *
 * Deterministic given what it is told; no clock, no allocation. With coupled sampling nothing here can change a token. With rejection
 * sampling every decision about y[k] is made before y[k] is looked at: lengths come from Algorithm 1, and a probe is a round.
 */
#ifndef DSPARK_SPEC_PACE_H
#define DSPARK_SPEC_PACE_H

#include "spec/cost.h"
#include "spec/survival.h"

enum ds_pace_step {
    DS_PACE_PLAIN,     /* the anchor alone */
    DS_PACE_PROBE,     /* draft, but verify nothing */
    DS_PACE_SPECULATE, /* draft and verify */
};

/*
 * Others whose rows travel in the same pass. What a sequence is then charged with: its part of a pass in which all that decode have one
 * row, what its own drafts add to the pass, and its part of the drafter's pass. Alone (all 0) that is the pass and the draft.
 */
struct ds_pace_company {
    uint32_t rows;     /* of the pass, beside this sequence's own */
    uint32_t decoding; /* sequences that decode in it, this one included */
    uint32_t drafting; /* of them, those that draft together, this one included */
};

/* What one engine's sequences learn from each other. */
struct ds_pace_learned {
    struct ds_costs costs;
    struct ds_reliability reliability;
    double tokens, passes;          /* means over the latest rounds: expected tokens, predicted time in plain passes */
    uint32_t seen;                  /* rounds and probes behind these means */
    double shortfall;               /* tokens that plain decoding would be ahead by, since it was last behind */
    double committed;               /* tokens altogether */
    double use[DS_MAX_BLOCK];       /* mean worth of a slot: tokens it adds beyond the time its row costs */
    double reached[DS_MAX_BLOCK];   /* mean chance that a slot and all before it are accepted: whoever else is there */
    struct ds_pace_company met;     /* the company that `passes` is told for */
    bool parked;
    double credit;        /* plain passes that may be spent on looking while parked; below 0 by less than one: owed */
    uint32_t wait;        /* parked: tokens until the next probe */
    uint32_t since;       /* parked: tokens since the last probe, or since it parked, in whatever sequence */
    uint32_t rounds;      /* speculated since it unparked */
    uint32_t since_plain; /* rounds since passes of one row were timed */
};

struct ds_pace {
    struct ds_pace_learned learned;
    struct ds_pace_company company, announced; /* as accounts are kept, and as it was before the step */
    uint32_t block;  /* slots of a whole draft */
    bool coupled;    /* else: rejection */
    bool forgone;    /* the drafter's context does not follow any more: nothing can be drafted */
    uint32_t plain_run;  /* plain rounds in a row */
    uint32_t plain_left; /* plain rounds still to run, so that their cost is known */
    uint32_t partial; /* rounds in a row that drafted fewer slots than the block */
    /* The block of a probe, compared with tokens as they are committed. */
    uint32_t pending, matched; /* pending 0: none */
    uint32_t position;         /* of the next token to compare */
    int32_t draft[DS_MAX_BLOCK];
    float confidence[DS_MAX_BLOCK];
};

void ds_pace_learned_start(struct ds_pace_learned *learned, const struct ds_cost_table *table, enum ds_confidence_source source);
/* A sequence begins with what is known. */
void ds_pace_start(struct ds_pace *pace, const struct ds_pace_learned *learned, uint32_t block, bool coupled);

/*
 * An answer begins behind `context` positions. `complete`: the drafter's context, with what is stored, is that of all positions computed so
 * far. False: it need not follow. Once forgone it stays so while positions are missing, because they would have to be run again.
 */
bool ds_pace_follows(struct ds_pace *pace, uint32_t context, bool complete);

enum { DS_STORED_TAPS = 64 }; /* positions whose features can wait: a batch that the drafter takes in efficiently */

struct ds_pace_plan {
    enum ds_pace_step step;
    uint32_t slots; /* to draft: a power of two or the block; 0 for PLAIN */
    bool keep;      /* features are kept; where as many wait as can, these are taken in first */
};
/*
 * What the next round should do. `context`: the anchor's position; `stored`: positions whose features wait to be taken in; `room`: most
 * drafts that could be of use (0: none, because the answer or the context ends).
 */
struct ds_pace_plan ds_pace_next(struct ds_pace *pace, uint32_t context, uint32_t stored, uint32_t room);

/* Of `n` drafts with these confidences, how many to verify: at most `room`. */
uint32_t ds_pace_choose(struct ds_pace *pace, uint32_t context, const float *confidence, uint32_t n, uint32_t room);

/* What a token of this sequence is worth in seconds: the better of plain decoding and what rounds attain of late. */
double ds_pace_rate(const struct ds_pace *pace, uint32_t context);

/* A speculating round is over. */
struct ds_pace_round {
    uint32_t context;
    const float *confidence;
    uint32_t slots, verified, accepted;
    double draft_seconds, pass_seconds; /* 0: not measured, or not of this sequence alone */
};
void ds_pace_speculated(struct ds_pace *pace, const struct ds_pace_round *round);

/* A plain round is over, or a probe's; a probe has drafted `n` tokens for positions context + 1, .. */
void ds_pace_plain(struct ds_pace *pace, uint32_t context, double pass_seconds);
void ds_pace_probed(struct ds_pace *pace, uint32_t context, const int32_t *draft, const float *confidence, uint32_t n, double draft_seconds);
/* `token` is now at `position` of the sequence: any round's. */
void ds_pace_committed(struct ds_pace *pace, uint32_t position, int32_t token);

/*
 * The table was made while the machine had much else to do: passes take less than half of what it says. Averages follow it, but what
 * was never run stays as wrong as it was, so it is better made again.
 */
bool ds_pace_table_is_stale(const struct ds_pace_learned *learned);

/* Speed of speculation over plain decoding as the means have it; 1 when nothing is known. */
double ds_pace_gain(const struct ds_pace *pace);

#endif
