/*
 * Speculative decoding of one sequence: extend it by its own tokens (prefill), or by one round of draft, verify, accept.
 * Algorithms and index rules: docs/speculation.md. Output tokens are those of plain decoding, whatever is drafted.
 *
 * Device work is done under `lock`, callbacks outside of it. A sequence belongs to one thread at a time.
 */
#ifndef DSPARK_SPEC_SPEC_H
#define DSPARK_SPEC_SPEC_H

#include "base/os.h"
#include "draft/drafter.h"
#include "spec/accept.h"
#include "spec/pace.h"

#include <stdatomic.h>



/* What all sequences of an engine share. */
struct ds_spec {
    struct ds_target *target;
    struct ds_drafter *drafter; /* NULL: none */
    struct ds_pager *pager;
    struct ds_os_mutex *lock;
    uint32_t context; /* positions a sequence may hold */
    uint32_t chunk;   /* rows of a prefill pass */
    const float *temperature; /* [block_size] of the drafter's confidences (STS); NULL: all 1 */
};

enum { DS_STORED_TAPS = 64 }; /* positions: a batch that the drafter takes in efficiently */

/*
 * tokens[0..length): the sequence. Positions below `computed` are in the target's cache, those below `drafted_context` (never
 * more) in the drafter's. Between rounds computed == length - 1: the last token, the anchor, has not run yet.
 *
 * While speculation is parked the drafter's context does not follow; the features of the `stored` positions behind drafted_context
 * wait in `taps` until it does (ds_spec_catch_up).
 */
struct ds_sequence {
    int32_t slot; /* row of the page table */
    ds_token *tokens;
    uint32_t length, capacity;
    uint32_t computed, drafted_context, stored;
    struct ds_buffer *taps; /* f32 [DS_STORED_TAPS][n_taps * hidden] on the target's device; NULL: nothing can be stored */
    bool paired; /* the drafter pairs each feature with the token behind it (ds_draft_arch.steps) */
    ds_sampling sampling;
    ds_bias_fn bias; /* NULL: none */
    void *bias_user;
    float *bias_rows; /* [DS_MAX_BLOCK + 1][vocabulary] scratch, present with `bias` */
};

/* Forgets positions from `computed` on. */
void ds_sequence_forget(struct ds_sequence *sequence, uint32_t computed);

struct ds_extend {
    bool feed_drafter;       /* its context follows */
    bool sample;             /* draw the token after the last one */
    uint32_t logits_from;    /* logits of tokens[logits_from..length) are wanted ... */
    float *logits;           /* ... here, f32 [length - logits_from, vocabulary]; NULL: none */
    const atomic_bool *cancel; /* looked at before each pass; NULL: never */
};
/* Runs tokens[computed..length) through the target in chunks. *next: the token drawn, when asked for. */
ds_status ds_spec_extend(const struct ds_spec *spec, struct ds_sequence *sequence, const struct ds_extend *how, ds_token *next,
                         struct ds_error *err);

/* True when the drafter's context, with what is stored, reaches as far as the target's cache. */
bool ds_sequence_can_draft(const struct ds_sequence *sequence);
/* Takes the stored features into the drafter's context. */
ds_status ds_spec_catch_up(const struct ds_spec *spec, struct ds_sequence *sequence, struct ds_error *err);

/* One round; the arrays hold n_draft entries. */
struct ds_round_result {
    uint32_t position;
    ds_token anchor;
    ds_token draft[DS_MAX_BLOCK];
    float confidence[DS_MAX_BLOCK]; /* of each draft's own acceptance, in (0, 1) */
    const float *logits; /* of the confidences, before their temperatures: the drafter's own, until its next block; NULL: no head */
    uint32_t n_draft, verified, accepted;
    ds_token next;
    double draft_seconds, verify_seconds; /* all of either half */
    double block_seconds, pass_seconds;   /* the drafter's block alone, the target's pass alone */
};

/* What becomes of the tapped features of a round's rows. */
enum ds_round_taps {
    DS_TAPS_IGNORE, /* the session does not speculate */
    DS_TAPS_STORE,  /* they wait: speculation is parked */
    DS_TAPS_FEED,   /* the drafter's context follows at once */
};

struct ds_round_plan {
    bool draft;           /* where the drafter's context is complete, or can be completed */
    uint32_t verify_most; /* drafts */
    /* How many of at most `most` drafts to verify, when they are there; NULL: as many as possible. */
    uint32_t (*choose)(void *user, const struct ds_round_result *drafted, uint32_t most);
    void *user;
    enum ds_round_taps taps;
};
/*
 * Drafts, verifies, accepts, as planned. The sequence's tokens are not changed; its caches hold the anchor and the accepted drafts
 * afterwards. Allocates nothing.
 */
ds_status ds_spec_round(const struct ds_spec *spec, struct ds_sequence *sequence, const struct ds_round_plan *plan,
                        struct ds_round_result *result, struct ds_error *err);

#endif
