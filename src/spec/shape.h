/*
 * How the tokens of one sequence are drawn beyond its ds_sampling: penalties, biases of single tokens, rejection sampling. What a pass is
 * told of it are rows of data; target and drafter are told the same.
 */
#ifndef DSPARK_SPEC_SHAPE_H
#define DSPARK_SPEC_SHAPE_H

#include "base/philox.h"
#include "dspark.h"
#include "model/history.h"

struct ds_shaping {
    bool rejects;     /* rejection sampling, and the temperature is above 0 */
    bool adjusts;     /* there are penalties or biases */
    ds_penalties penalties;
    uint32_t biases;  /* that the histories hold of this sequence */
    uint32_t told[2]; /* tokens of the sequence that the histories of the target's device and of a bridged drafter's know */
};

/* Whether a pass over the sequence is an extended one. */
static inline bool ds_shaping_extends(const struct ds_shaping *s) { return s->rejects || s->adjusts; }

/* Tokens that stand behind those of the history: the token at position `from` + i is tokens[at + i * stride] of the pass's own. */
struct ds_drafted_tokens {
    uint32_t from, at, stride;
};
/* How the logits that predict the token at `position` are changed: all tokens before it count, or the last ones of the window. */
struct ds_adjust_row ds_adjust_row_of(const struct ds_shaping *shaping, int32_t slot, uint32_t position, const struct ds_drafted_tokens *drafted);

/* Draws by masses: a draft (purpose DS_PHILOX_DRAFT), or the token where there is no draft to reject (DS_PHILOX_RESIDUAL: all is residual). */
void ds_draw_by_mass(struct ds_sample_row *row, uint32_t purpose);
void ds_draw_by_rejection(struct ds_sample_row *row, ds_token draft, uint32_t draft_row);

#endif
