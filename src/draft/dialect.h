/*
 * Inside src/draft: what the dialects differ in, and what all drafters read in the same way. The facts, and what is read or
 * refused: docs/formats.md.
 */
#ifndef DSPARK_DRAFT_DIALECT_H
#define DSPARK_DRAFT_DIALECT_H

#include "draft/draft.h"

/* What the checkpoint is. DS_ERROR_UNSUPPORTED for what is not run, with the way out where there is one. */
struct ds_draft_kind {
    const struct ds_draft_arch *arch;
    ds_dialect dialect;
    bool gemma; /* layers are Gemma 4's */
};
ds_status ds_draft_recognise(const struct ds_ckpt *ckpt, struct ds_draft_kind *kind, struct ds_error *err);

/* Names of tensors and keys; keys of the layers lie in an object of their own in speculators' config.json. */
struct ds_naming ds_draft_naming(const struct ds_draft_model *draft);
/* The same for keys about the drafter itself. */
struct ds_naming ds_draft_naming_own(const struct ds_draft_model *draft);

/* Hidden size, vocabulary, number of layers: what must be the target's. `own_width`: another hidden size is allowed. */
ds_status ds_draft_check_target(struct ds_draft_model *draft, const struct ds_model *target, bool own_width, struct ds_error *err);
/* Taps under the key of the dialect, counted as ours. `fallback`: [3] for an absent key; NULL: it must be there. */
ds_status ds_draft_read_taps(struct ds_draft_model *draft, const struct ds_model *target, const char *hf, const int32_t *fallback,
                             struct ds_error *err);

/* The head's rows and, where they are fewer than the target's vocabulary, which tokens they are. */
ds_status ds_draft_read_vocabulary(struct ds_draft_model *draft, const struct ds_model *target, struct ds_error *err);
/* vocabulary_ids; embedding and head: the drafter's own where it has them, else the target's. */
ds_status ds_draft_load_vocabulary(struct ds_draft_model *draft, const struct ds_model *target, struct ds_loader *loader, struct ds_error *err);

/*
 * One token a row of compact logits: out_tokens, of draft `k`, slot-major. `confidence`: f32 [drafts * sequences, 1] or absent; where the drafter has
 * no head for it, the log-odds of the greatest probability of what the token is drawn from.
 */
void ds_draft_sample(const struct ds_draft_model *draft, struct ds_graph *graph, const struct ds_draft_rows *rows, uint32_t k,
                     struct ds_view logits, struct ds_view confidence);
/* Copies x to `out` from row `first_row` on, where that is wanted. */
void ds_draft_keep(struct ds_graph *graph, struct ds_view x, struct ds_view out, uint32_t first_row);

#endif
