/*
 * For people who add a drafter: what one is. A drafter reads tapped hidden states of the target ("context"), keeps keys and
 * values of its own for them in pages parallel to the target's, and proposes a block of tokens behind an anchor.
 *
 * A drafter file reads the checkpoint, asks a loader for weights and appends two graphs: one that takes context rows in,
 * one that drafts. Notation and index rules: docs/speculation.md; sources: the DSpark paper (arXiv 2607.05147), DeepSpec,
 * DFlash (arXiv 2602.06036), EAGLE-3 (arXiv 2503.01840).
 */
#ifndef DSPARK_DRAFT_DRAFT_H
#define DSPARK_DRAFT_DRAFT_H

#include "model/history.h"
#include "model/layer.h"

typedef enum ds_markov { DS_MARKOV_NONE, DS_MARKOV_VANILLA, DS_MARKOV_GATED, DS_MARKOV_RNN } ds_markov;

/* Who wrote the checkpoint: what keys are called, from where taps count, what an absent key means (docs/formats.md). */
typedef enum ds_dialect { DS_DIALECT_DEEPSPEC, DS_DIALECT_DFLASH, DS_DIALECT_SPECULATORS, DS_DIALECT_GGUF } ds_dialect;

/* Most tokens of a block, the anchor included. */
enum { DS_MAX_BLOCK_ROWS = 64 };

/* Logits of tokens that a reduced vocabulary does not have: finite, and of no weight beside any other. */
#define DS_LOGIT_ABSENT (-1e30f)

struct ds_draft_model;
struct ds_gemma_layer;

/* The rows of a drafting pass, slot-major: row k * sequences + s is slot k of sequence s. */
struct ds_draft_rows {
    struct ds_rows rows;        /* as ds_draft_arch.steps says; sample rows and out_tokens for each draft */
    uint32_t sequences;         /* s in 0..sequences-1 */
    uint32_t slots;             /* drafts made, from the first: 1..block_size. A block's rows are all there nevertheless: they see each other */
    struct ds_view carried;     /* steps: f32 [sequences, hidden], the context feature in front of the anchor */
    /* Of extended passes (model/target.h). */
    struct ds_view sampled;     /* f32 [slots * sequences, vocabulary]: the logits that drafts are drawn from; absent: they are not kept */
    const struct ds_history *history; /* NULL: no penalties, no biases */
    bool rejects;               /* drafts may be drawn by masses */
};

struct ds_draft_outputs {
    struct ds_view confidence;  /* f32 [drafts * sequences, 1]: before the sigmoid; without a head: of its own greatest probability (DS_OP_max_prob) */
    /* For comparison with references; absent: not kept. */
    struct ds_view hidden;      /* f32 [drafts * sequences, hidden]: after the final norm (steps: before it) */
    struct ds_view base_logits; /* f32 [drafts * sequences, draft_vocabulary]: before the sequential head (blocks alone) */
    struct ds_view logits;      /* f32 [drafts * sequences, draft_vocabulary] */
};

struct ds_draft_arch {
    const char *name;
    /*
     * How it drafts. False: one pass over a block; ids are anchors, then masks, at positions n..n+rows-1, and every row sees the
     * context and the whole block. True: token after token; row k stands at position n+k-1 and sees n+k positions, ids are
     * anchors, features are paired with the token behind them, and a proposal ends at its first stop token.
     */
    bool steps;
    /* Reads and checks the configuration: what does not fit the target is refused. */
    ds_status (*configure)(struct ds_draft_model *draft, const struct ds_model *target, struct ds_error *err);
    ds_status (*load)(struct ds_draft_model *draft, const struct ds_model *target, struct ds_loader *loader, struct ds_error *err);
    /* Context rows `features` [rows, n_taps * target hidden] at rows->positions: their K and V into the cache. steps: rows->ids are the tokens behind them. */
    void (*build_context)(const struct ds_draft_model *draft, struct ds_graph *graph, const struct ds_rows *rows,
                          const struct ds_cache *cache, struct ds_view features, struct ds_view feature_out);
    /* The first `slots` drafts of a block: tokens into rows.out_tokens. They are those of the whole block. */
    void (*build_block)(const struct ds_draft_model *draft, struct ds_graph *graph, const struct ds_draft_rows *rows,
                        const struct ds_cache *cache, const struct ds_draft_outputs *out);
};

/* Immutable after loading. The checkpoint and the target must outlive it. */
struct ds_draft_model {
    const struct ds_draft_arch *arch;
    const struct ds_ckpt *ckpt;
    ds_dialect dialect;
    struct ds_model_config config; /* vocabulary: the target's */
    uint32_t target_hidden;
    uint32_t block_size;           /* drafts a block proposes */
    uint32_t block_rows;           /* rows of a pass for them: one more where the anchor's slot predicts nothing */
    int32_t mask_token;
    int32_t tap_layers[DS_MAX_TAPS]; /* outputs of decoder layers, 0-based, -1 the embedding: whatever the dialect's convention */
    uint32_t n_taps;
    bool causal_windows;           /* in layers with a sliding window a block's row does not see the rows behind it */
    ds_markov markov;
    uint32_t markov_rank;
    uint32_t markov_top;           /* the sequential head is applied to so many tokens of a slot, those with the greatest base logits; 0: to all */
    bool has_confidence, confidence_with_markov;
    bool norm_before_fc, norm_before_residual; /* Eagle3 */
    uint32_t draft_vocabulary;     /* rows of the head in use; fewer than the target's vocabulary: reduced */
    int32_t *vocabulary_map;       /* [draft_vocabulary] the target's ids, owned; NULL: not reduced */
    uint32_t head_rows;            /* of the head as stored */
    int32_t *shortlist;            /* [draft_vocabulary] rows of the stored head that are used, owned; NULL: all */
    struct ds_weight embedding, head, fc, markov_w1, markov_w2, markov_gate, confidence; /* markov_gate: also the rnn's joint matrix */
    struct ds_slice hidden_norm, final_norm, input_norm, confidence_bias, markov_bias, vocabulary_ids;
    struct ds_slice rope_cos, rope_sin;
    uint32_t rope_positions;
    bool gemma;                         /* layers are Gemma 4's */
    struct ds_layer *layers;            /* [config.layers], owned; the other one is NULL */
    struct ds_gemma_layer *gemma_layers;
};

/*
 * Recognises the drafter and checks that it fits the target: DS_ERROR_MISMATCH names the key, the expected and the found value. A target without
 * a checkpoint is a description: sizes alone are compared, and loading asks for none of its tables.
 */
ds_status ds_draft_open(const struct ds_ckpt *ckpt, const struct ds_model *target, struct ds_draft_model **out, struct ds_error *err);
void ds_draft_close(struct ds_draft_model *draft); /* accepts NULL */
/*
 * Only these tokens are drafted from now on: head and sequential head have a row for each. Before loading. `tokens` [n]: the target's ids,
 * which were checked to be different and in the vocabulary; those that a reduced vocabulary lacks are left out. DS_ERROR_UNSUPPORTED, and
 * nothing is changed, where weights are packed; DS_ERROR_ARGUMENT where no token is left.
 */
ds_status ds_draft_shorten(struct ds_draft_model *draft, const struct ds_model *target, const int32_t *tokens, uint32_t n, struct ds_error *err);
/*
 * A slot drafts one of the `top` tokens with the greatest base logits, and the sequential head is applied to these alone (draft->markov_top).
 * Behind ds_draft_shorten and before graphs are built; 0, or no fewer than the drafter's vocabulary: all. DS_ERROR_ARGUMENT without a
 * sequential head.
 */
ds_status ds_draft_restrict(struct ds_draft_model *draft, uint32_t top, struct ds_error *err);
/* Asks for all weights. A tensor of the checkpoint that has no part in the drafter is refused. */
ds_status ds_draft_load(struct ds_draft_model *draft, const struct ds_model *target, struct ds_loader *loader, uint32_t positions,
                        struct ds_error *err);

/* What files hold besides: tables that are computed, what is read on the host, and what only training needs. */
bool ds_draft_is_spare(const char *name);

extern const struct ds_draft_arch ds_draft_dspark; /* with a sequential or a confidence head */
extern const struct ds_draft_arch ds_draft_dflash; /* without */
extern const struct ds_draft_arch ds_draft_eagle3;

#endif
