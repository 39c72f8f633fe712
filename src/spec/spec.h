/*
 * Speculative decoding of one or many sequences: known tokens go through the target (prefill), or rounds of draft, verify, accept. A
 * pass mixes all of it: rows of several sequences never look at each other, and each has the bits it would have alone.
 * Algorithms and index rules: docs/speculation.md. Output tokens are those of plain decoding, whatever is drafted.
 *
 * Device work is done under `lock`, callbacks outside of it. A sequence belongs to one thread at a time.
 */
#ifndef DSPARK_SPEC_SPEC_H
#define DSPARK_SPEC_SPEC_H

#include "base/os.h"
#include "draft/drafter.h"
#include "model/prefix.h"
#include "spec/accept.h"
#include "spec/logprobs.h"
#include "spec/pace.h"
#include "spec/shape.h"

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
    struct ds_prefix *prefix; /* pages kept of past sequences; of capacity 0: none */
};

/*
 * tokens[0..length): the sequence. Positions below `computed` are in the target's cache, those below `drafted_context` (never
 * more) in the drafter's. Between rounds computed == length - 1: the last token, the anchor, has not run yet.
 *
 * While speculation is parked the drafter's context does not follow; the features of the `stored` positions behind drafted_context
 * wait in `taps` until it does (ds_spec_catch_up). Where it has been given up, it ends somewhere in front, and what is stored with it.
 */
struct ds_sequence {
    int32_t slot; /* row of the page table */
    ds_token *tokens;
    uint32_t length, capacity;
    uint32_t computed, drafted_context, stored;
    struct ds_buffer *taps; /* f32 [DS_STORED_TAPS][n_taps * hidden] on the target's device; NULL: nothing can be stored */
    bool paired; /* the drafter pairs each feature with the token behind it (ds_draft_arch.steps) */
    ds_sampling sampling;
    struct ds_shaping shaping;
    struct ds_logprobs *logprobs; /* filled for the tokens of each turn; NULL: not wanted */
    ds_bias_fn bias; /* NULL: none */
    void *bias_user;
    float *bias_rows; /* [DS_MAX_BLOCK + 1][vocabulary] scratch, present with `bias` */
};

/* Forgets positions from `computed` on. */
void ds_sequence_forget(struct ds_sequence *sequence, uint32_t computed);

/* True when the drafter's context, with what is stored, reaches as far as the target's cache. */
bool ds_sequence_can_draft(const struct ds_sequence *sequence);

/* The lock is held, for these three. Stored features become context; those of the last pass's rows [row, row + n) are stored. */
ds_status ds_sequence_catch_up(const struct ds_spec *spec, struct ds_sequence *sequence, struct ds_error *err);
ds_status ds_sequence_store(const struct ds_spec *spec, struct ds_sequence *sequence, uint32_t row, uint32_t n, struct ds_error *err);
/* The histories of devices hold all tokens of the sequence; `drafter`: that of the drafter's, if it has its own. */
ds_status ds_sequence_tell(const struct ds_spec *spec, struct ds_sequence *sequence, bool drafter, struct ds_error *err);
/* Pages for positions below `positions`, those that are written from here on the sequence's own. */
ds_status ds_sequence_reserve(const struct ds_spec *spec, const struct ds_sequence *sequence, uint32_t positions, struct ds_error *err);

/* An empty cache begins with what the prefix cache has of its tokens, the last two excepted; `follows`: with a drafter's context. *found: positions. */
ds_status ds_spec_adopt(const struct ds_spec *spec, struct ds_sequence *sequence, bool follows, uint32_t *found, struct ds_error *err);
/* Keeps what has been computed for others; `follows`: the drafter's context does; `over`: the sequence will not go on from its last page. */
void ds_spec_keep(const struct ds_spec *spec, const struct ds_sequence *sequence, bool follows, bool over);

/* Takes the stored features into the drafter's context. */
ds_status ds_spec_catch_up(const struct ds_spec *spec, struct ds_sequence *sequence, struct ds_error *err);

/* --- one sequence's part in a pass --- */

/* Known tokens: tokens[computed..length) go through the target, as far as a pass allows. */
struct ds_extend {
    bool feed_drafter;       /* its context follows */
    bool sample;             /* draw the token after the last one */
    uint32_t logits_from;    /* logits of tokens[logits_from..length) are wanted ... */
    float *logits;           /* ... here, f32 [length - logits_from, vocabulary]; NULL: none */
    const atomic_bool *cancel; /* looked at before each pass; NULL: never */
};

/* What became of a round; the arrays hold n_draft entries. */
struct ds_round_result {
    uint32_t position;
    ds_token anchor;
    ds_token draft[DS_MAX_BLOCK];
    float confidence[DS_MAX_BLOCK]; /* of each draft's own acceptance, in (0, 1) */
    float logits[DS_MAX_BLOCK];     /* of the confidences, before their temperatures */
    uint32_t n_draft, verified, accepted;
    ds_token next;
    double draft_seconds, verify_seconds; /* all of either half, whoever else had a part in it */
    double block_seconds, pass_seconds;   /* the drafter's pass alone, the target's pass alone */
    uint32_t drafting, rows;              /* sequences of the drafter's pass, rows of the target's */
};

/* What becomes of the tapped features of a round's rows. */
enum ds_round_taps {
    DS_TAPS_IGNORE, /* the session does not speculate, or not any more */
    DS_TAPS_STORE,  /* they wait: speculation is parked */
    DS_TAPS_FEED,   /* the drafter's context follows at once */
};

struct ds_round_plan {
    bool draft;           /* where the drafter's context is complete, or can be completed */
    uint32_t slots;       /* of the block to draft, from the first; 0: all */
    uint32_t verify_most; /* drafts */
    enum ds_round_taps taps;
    /*
     * Lengths do not depend on what is drafted: where drafter and target share a device with memory of its own, the drafts go from one to the
     * other there, and the host reads them with the target's tokens. A round is then one submission. How much of
     * its time was the drafter's is told by the device's clock; where there is none, all of it is the target's.
     */
    bool fused;
};

/*
 * What one sequence does in a pass: a round, or some rows of known tokens. A turn that fails ends with a status of its own and leaves
 * the others alone.
 */
struct ds_turn {
    struct ds_sequence *sequence;
    bool round; /* else an extension */
    struct ds_extend extend;
    struct ds_round_plan plan;
    uint32_t rows;     /* of the pass: an extension's are given (ds_turn_chunk), a round's are 1 + result.verified */
    struct ds_round_result result;
    ds_token next;     /* of an extension that has come to its end and samples; else -1 */
    ds_status status;
    struct ds_error error;
    bool unseen;          /* it drafts in `run`, and is verified there before the host has seen what: result.draft holds nothing yet */
    uint32_t drafting_as; /* its number in the drafter's pass, while unseen */
    uint32_t sampled_row, sampled_stride; /* a draft's logits: row sampled_row + k * sampled_stride of the drafter's (rejection sampling) */
    /* Its place in the pass. */
    uint32_t first_row, first_out, outputs;
    bool biased[DS_MAX_BLOCK + 1]; /* its output rows */
};

/* A turn at the beginning of a round: the last token is the anchor. */
void ds_turn_begin_round(struct ds_turn *turn, struct ds_sequence *sequence, const struct ds_round_plan *plan);
/* Known tokens, in at most `rows` rows of which at most `outputs` give logits. */
void ds_turn_begin_extend(struct ds_turn *turn, struct ds_sequence *sequence, const struct ds_extend *how, uint32_t rows, uint32_t outputs);

/*
 * The steps of a pass over many turns, in this order; turns whose status is not DS_OK are passed over. The status returned is of what
 * all share (a device that fails); nothing is allocated.
 *
 *   draft    one pass of the drafter over the rounds that draft (several where they are more than it takes at once); nothing where they are fused
 *   limit    most drafts of a round that can be verified; between this and `run` the caller may lower result.verified
 *   run      one pass of the target over all rows; accepts, and takes features in
 *
 * All rows together must fit into a pass, and so must all that give logits.
 */
ds_status ds_spec_draft(const struct ds_spec *spec, struct ds_turn *turns, uint32_t n, struct ds_error *err);
uint32_t ds_spec_most_drafts(const struct ds_spec *spec, const struct ds_turn *turn);
ds_status ds_spec_run(const struct ds_spec *spec, struct ds_turn *turns, uint32_t n, struct ds_error *err);

/* --- a single sequence --- */

/* Runs tokens[computed..length) through the target in chunks. *next: the token drawn, when asked for. */
ds_status ds_spec_extend(const struct ds_spec *spec, struct ds_sequence *sequence, const struct ds_extend *how, ds_token *next,
                         struct ds_error *err);

/*
 * Drafts, verifies as many as planned, accepts. The sequence's tokens are not changed; its caches hold the anchor and the accepted drafts
 * afterwards.
 */
ds_status ds_spec_round(const struct ds_spec *spec, struct ds_sequence *sequence, const struct ds_round_plan *plan,
                        struct ds_round_result *result, struct ds_error *err);

#endif
