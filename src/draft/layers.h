/*
 * Inside src/draft: a drafter's layers are of its target's family, Qwen3's (model/layer.h) or Gemma 4's (model/gemma.h); behind these
 * functions both look the same.
 */
#ifndef DSPARK_DRAFT_LAYERS_H
#define DSPARK_DRAFT_LAYERS_H

#include "draft/draft.h"

/* Gemma 4's configuration, its layers all global and plain. */
ds_status ds_draft_gemma_read(struct ds_draft_model *draft, struct ds_error *err);

ds_status ds_draft_layers_load(struct ds_draft_model *draft, struct ds_loader *loader, struct ds_error *err);

/* Token embeddings, in the family's scale. */
struct ds_view ds_draft_embed(const struct ds_draft_model *draft, struct ds_graph *graph, struct ds_slice ids, uint32_t rows);
/* The norm in front of layer l's attention. */
struct ds_slice ds_draft_attention_norm(const struct ds_draft_model *draft, uint32_t l);
/* K and V of rows `x` (already normalised), rotated and stored. */
void ds_draft_layer_store(const struct ds_draft_model *draft, struct ds_graph *graph, const struct ds_rows *rows, const struct ds_cache *cache, uint32_t l,
                          struct ds_view x);
/* The layer's output for rows x. */
struct ds_view ds_draft_layer_build(const struct ds_draft_model *draft, struct ds_graph *graph, const struct ds_rows *rows, const struct ds_cache *cache,
                                    uint32_t l, struct ds_view x);
/* The same where attention reads `x` (already normalised), and the residual is another. */
struct ds_view ds_draft_layer_build_from(const struct ds_draft_model *draft, struct ds_graph *graph, const struct ds_rows *rows, const struct ds_cache *cache,
                                         uint32_t l, struct ds_view x, struct ds_view residual);
/* The head's logits of rows h, soft-capped where the family has it. */
struct ds_view ds_draft_head(const struct ds_draft_model *draft, struct ds_graph *graph, struct ds_view h);

#endif
