/*
 * Inside src/draft: the heads over the slots of a block. h_k is slot k's hidden state, e_k = W1[the token before it]:
 *
 *   none     logits_k = U_k
 *   vanilla  logits_k = U_k + W2 e_k
 *   gated    logits_k = U_k + W2 (sigmoid(W_gate [h_k ; e_k] + b) * e_k)
 *   rnn      [gate ; candidate ; output] = W_joint [s_{k-1} ; e_k ; h_k] + b,  s_0 = 0
 *            s_k = sigmoid(gate) * s_{k-1} + (1 - sigmoid(gate)) * tanh(candidate),  logits_k = U_k + W2 tanh(output)
 *   with draft->markov_top  logits_k of the tokens with the greatest U_k alone, DS_LOGIT_ABSENT for the others
 *   confidence, before the sigmoid: w . [h_k ; e_k] + b, or w . h_k + b
 */
#ifndef DSPARK_DRAFT_MARKOV_H
#define DSPARK_DRAFT_MARKOV_H

#include "draft/draft.h"

/* config.json says which heads there are; in GGUF their tensors and `dspark.markov_head_type` do. */
ds_status ds_markov_read(struct ds_draft_model *draft, struct ds_error *err);
ds_status ds_markov_load(struct ds_draft_model *draft, struct ds_loader *loader, struct ds_error *err);

/* Draws token after token, slot k of all sequences at once. `h`, `base`: [slots * sequences, hidden or draft_vocabulary]. */
void ds_markov_build(const struct ds_draft_model *draft, struct ds_graph *graph, const struct ds_draft_rows *rows, struct ds_view h,
                     struct ds_view base, const struct ds_draft_outputs *out);

#endif
