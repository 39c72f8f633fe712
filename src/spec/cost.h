/*
 * What a round costs on this machine: seconds of a target pass by rows and context, of a draft, of taking features in as a
 * drafter's context. Measured once (engine/costs.c), fitted here so that more rows or more context never cost less, and
 * corrected by the times of real rounds.
 *
 * Pure functions over plain structs; no clock, no allocation. Nothing here can change a token, only when it comes.
 */
#ifndef DSPARK_SPEC_COST_H
#define DSPARK_SPEC_COST_H

#include <stdbool.h>
#include <stdint.h>

enum { DS_COST_MOST_WIDTHS = 16 };

/* Seconds at context 0, and more for each position of context. Neither is negative. */
struct ds_cost_line {
    double base, per_position;
};

/* The table: what is kept in a file. All times in seconds. */
struct ds_cost_table {
    uint32_t n_widths;
    uint32_t widths[DS_COST_MOST_WIDTHS];         /* rows of a pass: ascending, the first is 1 */
    struct ds_cost_line pass[DS_COST_MOST_WIDTHS]; /* both members ascend with the width */
    uint32_t block;                               /* slots of a whole draft; 0: no drafter */
    struct ds_cost_line draft;                    /* what does not depend on the slots drafted */
    double draft_slot;                            /* more for each slot */
    double draft_sequence;                        /* more for each sequence after the first that a whole block is drafted for in the same pass */
    double feed, feed_row;                        /* context: once, and for each row */
    double spread;                                /* how disturbed it was measured: the middle of several times over the least; 0: not known */
    uint32_t measured;                            /* times, the calmest of which this is */
};

/* A spread above this says that others kept the machine busy. */
#define DS_COST_DISTURBED 1.25

/* One width's times at two contexts, as measured. */
struct ds_cost_sample {
    uint32_t rows;
    double near, far; /* seconds behind contexts of near_context and far_context positions; far 0: not measured */
};
struct ds_cost_samples {
    uint32_t n, near_context, far_context; /* near_context < far_context, or no far times */
    struct ds_cost_sample pass[DS_COST_MOST_WIDTHS]; /* rows ascending, the first is 1 */
    uint32_t block;
    uint32_t draft_sequences;                        /* of draft_many; 0: several were not measured, and cost as much as one after the other */
    double draft_many;                               /* whole blocks for so many sequences */
    double draft_one, draft_whole, draft_whole_far; /* one slot, all slots; far 0: not measured */
    uint32_t feed_rows;                             /* of feed_many */
    double feed_one, feed_many;
};
/* Fits a table: least squares under the condition that times ascend (isotonic regression, pool adjacent violators). */
void ds_cost_fit(const struct ds_cost_samples *samples, struct ds_cost_table *out);
/* True for a table as ds_cost_fit makes one: finite, positive, ascending. For what was read from a file. */
bool ds_cost_valid(const struct ds_cost_table *table);

/* The latest observations of one thing: the median of three counts, so that a single interruption counts for nothing. */
struct ds_cost_recent {
    double last[2];
    uint32_t n;
};
/* Exponential averages of (seconds measured / seconds in the table): `all` follows the machine, the others one part of a round. */
struct ds_cost_tuning {
    double all, pass[DS_COST_MOST_WIDTHS], draft;
    double seen_pass[DS_COST_MOST_WIDTHS], seen_draft; /* observations behind each: the first ones weigh most */
    struct ds_cost_recent recent_pass[DS_COST_MOST_WIDTHS], recent_draft;
};
void ds_cost_tuning_start(struct ds_cost_tuning *tuning); /* nothing known: 1 everywhere */

/* A table as corrected: what decisions are made from. */
struct ds_costs {
    struct ds_cost_table table;
    struct ds_cost_tuning tuning;
};
/* rows >= 1. Ascends with rows and with context; linear between measured widths, in proportion beyond the last. */
double ds_cost_pass(const struct ds_costs *costs, uint32_t rows, uint32_t context);
/* Drafting of the first `slots` of a block. */
double ds_cost_draft(const struct ds_costs *costs, uint32_t slots, uint32_t context);
/* The same for several sequences in one pass of the drafter. */
double ds_cost_draft_of_several(const struct ds_costs *costs, uint32_t slots, uint32_t sequences, uint32_t context);
/* Taking `rows` positions in as context, in one pass of the drafter; `rows` may be an expectation. 0 for none. */
double ds_cost_feed(const struct ds_costs *costs, double rows);

/* What really happened. A time that is more than four times off counts as four: one interruption is no new machine. */
void ds_cost_observe_pass(struct ds_costs *costs, uint32_t rows, uint32_t context, double seconds);
void ds_cost_observe_draft(struct ds_costs *costs, uint32_t slots, uint32_t context, double seconds);
/* A pass of one row among others like it: nothing is there to compare it with, so it tells of the machine's pace alone. */
void ds_cost_observe_machine(struct ds_costs *costs, uint32_t context, double seconds);
/* A draft in the midst of such passes: it tells of the draft alone. */
void ds_cost_observe_probe(struct ds_costs *costs, uint32_t slots, uint32_t context, double seconds);

#endif
