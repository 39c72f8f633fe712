/*
 * For people who add a drafter: what one is. A drafter reads tapped hidden states of the target ("context"), keeps keys and
 * values of its own for them in pages parallel to the target's, and proposes a block of tokens behind an anchor.
 *
 * A drafter file reads the checkpoint, asks a loader for weights and appends two graphs: one that takes context rows in,
 * one that drafts. Notation and index rules: docs/speculation.md; sources: the DSpark paper (arXiv 2607.05147), DeepSpec.
 */
#ifndef DSPARK_DRAFT_DRAFT_H
#define DSPARK_DRAFT_DRAFT_H

#include "model/layer.h"

typedef enum ds_markov { DS_MARKOV_NONE, DS_MARKOV_VANILLA } ds_markov;

struct ds_draft_model;

/* The rows of a drafting pass, slot-major: row k * sequences + s is slot k of sequence s. */
struct ds_draft_rows {
    struct ds_rows rows;        /* ids: anchors, then masks; positions n..n+g-1; visible n+g for all; sample rows for each slot */
    uint32_t sequences;         /* s in 0..sequences-1 */
};

struct ds_draft_outputs {
    struct ds_view confidence;  /* f32 [g * sequences, 1]: before the sigmoid; absent without a head */
    /* For comparison with references; absent: not kept. */
    struct ds_view hidden;      /* f32 [g * sequences, hidden]: after the final norm */
    struct ds_view base_logits; /* f32 [g * sequences, vocabulary]: before the sequential head */
    struct ds_view logits;      /* f32 [g * sequences, vocabulary] */
};

struct ds_draft_arch {
    const char *name;
    /* Whether this file describes the drafter in `ckpt`. */
    bool (*recognise)(const struct ds_ckpt *ckpt);
    ds_status (*configure)(struct ds_draft_model *draft, const struct ds_model *target, struct ds_error *err);
    ds_status (*load)(struct ds_draft_model *draft, const struct ds_model *target, struct ds_loader *loader, struct ds_error *err);
    /* Context rows `features` [rows, n_taps * hidden] at rows->positions: their K and V into the cache. */
    void (*build_context)(const struct ds_draft_model *draft, struct ds_graph *graph, const struct ds_rows *rows,
                          const struct ds_cache *cache, struct ds_view features, struct ds_view feature_out);
    /* The block: tokens into rows.out_tokens. */
    void (*build_block)(const struct ds_draft_model *draft, struct ds_graph *graph, const struct ds_draft_rows *rows,
                        const struct ds_cache *cache, const struct ds_draft_outputs *out);
};

/* Immutable after loading. The checkpoint and the target must outlive it. */
struct ds_draft_model {
    const struct ds_draft_arch *arch;
    const struct ds_ckpt *ckpt;
    struct ds_model_config config; /* hidden, vocabulary: the target's */
    uint32_t block_size;           /* g: drafts a block proposes */
    int32_t mask_token;
    int32_t tap_layers[DS_MAX_TAPS];
    uint32_t n_taps;
    ds_markov markov;
    uint32_t markov_rank;
    bool has_confidence, confidence_with_markov;
    struct ds_weight embedding, head, fc, markov_w1, markov_w2, confidence;
    struct ds_slice hidden_norm, final_norm, confidence_bias;
    struct ds_slice rope_cos, rope_sin;
    uint32_t rope_positions;
    struct ds_layer *layers; /* [config.layers], owned */
};

/* Recognises the drafter and checks that it fits the target: DS_ERROR_MISMATCH names the key, the expected and the found value. */
ds_status ds_draft_open(const struct ds_ckpt *ckpt, const struct ds_model *target, struct ds_draft_model **out, struct ds_error *err);
void ds_draft_close(struct ds_draft_model *draft); /* accepts NULL */
ds_status ds_draft_load(struct ds_draft_model *draft, const struct ds_model *target, struct ds_loader *loader, uint32_t positions,
                        struct ds_error *err);

extern const struct ds_draft_arch ds_draft_dspark;

#endif
