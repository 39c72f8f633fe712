/*
 * Inside src/spec: one pass over many turns (spec.h), and what its files share.
 *
 *   spec.c          turns, and the order of it all
 *   drafting.c      the drafter's pass, whose drafts the host reads first or leaves unseen until the target's pass is over
 *   pass_rows.c     what the target's pass is told: tokens, positions, biases, how tokens are drawn
 *   pass_outcome.c  what came of it: tokens, logits, and features that become the drafter's context
 *
 * All of it under the lock, biases excepted.
 */
#ifndef DSPARK_SPEC_PASS_H
#define DSPARK_SPEC_PASS_H

#include "spec/spec.h"

/* The target's pass, as turns add their rows to it. */
struct ds_pass {
    uint32_t rows, outputs;
    bool extended; /* some row has a bias, penalties or rejection sampling (model/target.h) */
};

/* --- turns --- */

/* The position of the turn's first row. */
static inline uint32_t ds_turn_first(const struct ds_turn *t) { return t->round ? t->result.position : t->sequence->computed; }

static inline bool ds_turn_is_last_chunk(const struct ds_turn *t) { return t->sequence->computed + t->rows == t->sequence->length; }

/* Rows whose features are of use: the anchor and what was accepted, or all. */
static inline uint32_t ds_turn_surviving_rows(const struct ds_turn *t) { return t->round ? t->result.accepted + 1 : t->rows; }

/* --- drafts that the host has not seen --- */

/* One pass of the drafter whose drafts the host does not wait for: of the turns that are `unseen`, if there are any. */
ds_status ds_drafting_begin_unseen(const struct ds_spec *spec, struct ds_turn *turns, uint32_t n, struct ds_error *err);
/*
 * These drafts go to their rows on the device, and all that the drafter found to where it is read with the target's results.
 * *any: there are such drafts.
 */
ds_status ds_drafting_hand_over(const struct ds_spec *spec, const struct ds_turn *turns, uint32_t n, bool *any, struct ds_error *err);
/* The target's results are there, and what was drafted with them. *seconds: what the device spent on it; 0: it has no clock. */
ds_status ds_drafting_see(const struct ds_spec *spec, struct ds_turn *turns, uint32_t n, double *seconds, struct ds_error *err);

/* --- the rows of a pass --- */

/* The host's biases for the rows that tokens are drawn from. Outside of the lock. */
void ds_pass_ask_biases(const struct ds_spec *spec, struct ds_turn *turn);
/* Pages for the turn's rows, and room for their features. A failure is the turn's own. */
ds_status ds_pass_make_room(const struct ds_spec *spec, struct ds_turn *turn, struct ds_error *err);
/* The turn's rows and outputs behind those that the pass has. */
ds_status ds_pass_add(const struct ds_spec *spec, struct ds_turn *turn, struct ds_pass *pass, struct ds_error *err);

/* --- what came of it --- */

/* The pass that takes its rows into the drafter's context as well; NULL: there is none, or nobody's are wanted there. */
struct ds_graph *ds_pass_joined_graph(const struct ds_spec *spec, const struct ds_turn *turns, uint32_t n, const struct ds_pass *pass);
/* Accepts drafts, reads tokens and logits. A failure is the turn's own. */
ds_status ds_pass_finish(const struct ds_spec *spec, struct ds_turn *turn, struct ds_error *err);
/*
 * Features of all surviving rows, in one pass of the drafter unless the target's was `joined`; where speculation is parked they
 * wait.
 */
ds_status ds_pass_keep_taps(const struct ds_spec *spec, struct ds_turn *turns, uint32_t n, bool joined, struct ds_error *err);

#endif
