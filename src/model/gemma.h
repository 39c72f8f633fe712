/*
 * The decoder layer of Gemma 3 and 4, for targets and for drafters trained on them: a norm in front of and behind each half, sliding
 * and global layers of different shapes, V normed without a weight (Gemma 4) and perhaps made of K, a scale on the layer's output.
 */
#ifndef DSPARK_MODEL_GEMMA_H
#define DSPARK_MODEL_GEMMA_H

#include "model/experts.h"
#include "model/layer.h"

/* Absent weights have no buffer. */
struct ds_gemma_layer {
    struct ds_slice attn_norm, attn_post_norm, ffn_norm, ffn_post_norm, q_norm, k_norm;
    struct ds_weight q, k, v, o, gate, up, down; /* k, v absent where an earlier layer's are read; v alone: it is made of k */
    bool scaled;
    float scale; /* of the layer's output */
    /* Per-layer inputs (Gemma 4 E2B, E4B). */
    struct ds_weight input_gate, input_projection;
    struct ds_slice input_norm;
    /* Experts beside the dense feed-forward (Gemma 4 26B-A4B). */
    struct ds_experts experts;
    struct ds_slice dense_post_norm, expert_norm, expert_post_norm, router_norm;
};

struct ds_gemma_context {
    const struct ds_model_config *config;
    const struct ds_rows *rows;
    struct ds_slice rope_cos, rope_sin, local_cos, local_sin;
    uint32_t rope_positions;
    bool norm_v; /* Gemma 4 */
};

/* `zero_centred`: norms are stored less 1, as Hugging Face's Gemma 3 has them. */
ds_status ds_gemma_layer_load(struct ds_gemma_layer *layer, const struct ds_model_config *config, const struct ds_naming *naming,
                              uint32_t index, bool zero_centred, struct ds_loader *loader, struct ds_error *err);

/* The layer's output for rows x. `inputs`: f32 [rows, config.per_layer], or absent. */
struct ds_view ds_gemma_layer_build(struct ds_graph *graph, const struct ds_gemma_context *context, const struct ds_gemma_layer *layer,
                                    uint32_t index, const struct ds_kv *kv, struct ds_view x, struct ds_view inputs);
/* The same where attention reads `normed` (already normalised), and the residual is another. */
struct ds_view ds_gemma_layer_build_from(struct ds_graph *graph, const struct ds_gemma_context *context, const struct ds_gemma_layer *layer,
                                         uint32_t index, const struct ds_kv *kv, struct ds_view normed, struct ds_view residual, struct ds_view inputs);
/* K and V of rows `x` (already normalised), rotated and stored: what a drafter does with its context. */
void ds_gemma_layer_store(struct ds_graph *graph, const struct ds_gemma_context *context, const struct ds_gemma_layer *layer,
                          uint32_t index, const struct ds_kv *kv, struct ds_view x);

ds_status ds_gemma3_config_read(const struct ds_naming *naming, struct ds_model_config *config, struct ds_error *err);
/* The configuration of Gemma 4's text part, shared with drafters (vocabulary and `tied` excepted). */
ds_status ds_gemma4_config_read(const struct ds_naming *naming, struct ds_model_config *config, struct ds_error *err);

/* --- targets --- */
ds_status ds_gemma_load(struct ds_model *model, bool zero_centred, struct ds_error *err);
void ds_gemma_build(const struct ds_model *model, struct ds_graph *graph, const struct ds_model_part *part, const struct ds_rows *rows,
                    const struct ds_cache *cache, const struct ds_model_outputs *out, bool norm_v);

#endif
