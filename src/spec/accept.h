/*
 * What the target's tokens decide about the drafts of one sequence: pure functions of what a verifying pass gave for its rows. The
 * sequences of a batch are accepted one by one.
 */
#ifndef DSPARK_SPEC_ACCEPT_H
#define DSPARK_SPEC_ACCEPT_H

#include "dspark.h"
#include "ops/ops.h"

/* Row 0 is the anchor's, row j that of draft[j - 1]; row j's token belongs to position + j + 1. Arrays are the caller's. */
struct ds_verified_rows {
    const int32_t *tokens;      /* [n_draft + 1], what the target put behind each row */
    const uint32_t *flags;      /* [n_draft + 1], DS_FLAG_* of the logits and their sampling */
    const uint32_t *flags_rows; /* [n_draft + 1], DS_FLAG_* of the pass */
    const ds_token *draft;      /* [n_draft] */
    uint32_t n_draft;           /* drafts that were verified */
    uint32_t position;          /* the anchor's */
};

/*
 * *accepted: the longest prefix of drafts that equal the target's tokens; *next: the target's token behind it. A row behind the first
 * that could not be computed ends the prefix in front of it; the first row is an error (DS_ERROR_NUMERIC, DS_ERROR_ARGUMENT).
 */
ds_status ds_accept(const struct ds_verified_rows *rows, uint32_t *accepted, ds_token *next, struct ds_error *err);

/* Why a row at `position` has no token. */
ds_status ds_check_row_flags(uint32_t flags, uint32_t position, struct ds_error *err);

/* How the token at `position` is drawn: the same for a draft and for the target (coupled sampling). */
struct ds_sample_row ds_sample_row_of(const ds_sampling *sampling, uint32_t position);

#endif
