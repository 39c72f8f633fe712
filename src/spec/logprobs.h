/*
 * Log-probabilities of the target's tokens: of the model itself, before temperature, penalties, biases and filters. Made on the host of the
 * rows of logits whose tokens were committed, by numerics.h alone, so that they are the same bits wherever the logits are.
 */
#ifndef DSPARK_SPEC_LOGPROBS_H
#define DSPARK_SPEC_LOGPROBS_H

#include "dspark.h"
#include "spec/survival.h"

enum { DS_MOST_LOGPROBS = 20 };

struct ds_row_logprobs {
    ds_token_logprob chosen, top[DS_MOST_LOGPROBS];
};

/* What a session keeps for them. */
struct ds_logprobs {
    uint32_t n_top;
    float *logits; /* f32 [vocabulary] scratch */
    struct ds_row_logprobs rows[DS_MAX_BLOCK + 1]; /* of a turn's tokens, in order */
};

/*
 * log p_i = (l_i - max) - log(W 2^-32), W the sum of the masses round(exp(l_j - max) 2^32), rounded to f32: every l_j below max by more than 23
 * weighs nothing, and each mass is off by at most half a unit, so log p is off by at most n 2^-33 and the rounding of the logarithm. The
 * `n_top` largest, ties to the lowest id (fewer where the vocabulary has fewer: token -1). All logits are finite.
 */
void ds_logprobs_of(const float *logits, uint32_t n, ds_token chosen, uint32_t n_top, struct ds_row_logprobs *out);

#endif
