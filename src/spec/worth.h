/*
 * What rounds cost a sequence and give it, as its scheduler (pace.h) knows costs, drafts and company. Pure functions: for pace.c, which decides.
 */
#ifndef DSPARK_SPEC_WORTH_H
#define DSPARK_SPEC_WORTH_H

#include "spec/pace.h"

/* Seconds of a pass that a sequence with so many rows in it is charged with; of a draft of so many slots; tokens a second of plain decoding. */
double ds_worth_pass(const struct ds_pace *pace, uint32_t rows, uint32_t context);
double ds_worth_draft(const struct ds_pace *pace, uint32_t slots, uint32_t context);
double ds_worth_plain_rate(const struct ds_pace *pace, uint32_t context);
/* seconds[0..rows]: of passes, what taking their rows into the drafter's context costs included; [0] is 0. */
void ds_worth_pass_costs(const struct ds_pace *pace, uint32_t context, uint32_t rows, double *seconds);

/* The number of slots behind `slots` that there is a graph for. */
uint32_t ds_worth_next_length(uint32_t slots, uint32_t block);

/* A round, expected. */
struct ds_worth {
    uint32_t length;        /* drafts to verify */
    double tokens, seconds; /* of the whole round, a draft of all its slots included */
};
/* Of a block of `n` confidences, drafted with `slots` slots. */
struct ds_worth ds_worth_of_block(const struct ds_pace *pace, uint32_t context, const float *confidence, uint32_t n, uint32_t slots);
/* Of a block that was drafted to look: what a draft of as many slots as are best would have given. */
struct ds_worth ds_worth_of_look(const struct ds_pace *pace, uint32_t context, const float *confidence, uint32_t n);

/* Speculation would lose though every draft were right; and the table that says so was made in peace. */
bool ds_worth_is_hopeless(const struct ds_pace *pace, uint32_t context);
/* What the best fixed length would gain over plain decoding in some company, as the means of slots have it. */
double ds_worth_gain_in(const struct ds_pace *pace, const struct ds_pace_company *company, uint32_t context);

#endif
