#include "draft/layers.h"

#include "draft/dialect.h"
#include "model/config.h"
#include "model/gemma.h"

ds_status ds_draft_gemma_read(struct ds_draft_model *draft, struct ds_error *err) {
    const struct ds_naming naming = ds_draft_naming(draft);
    struct ds_model_config *c = &draft->config;
    const char *const path = ds_ckpt_path(draft->ckpt);
    DS_TRY(ds_gemma4_config_read(&naming, c, err));
    if (ds_config_slides(c))
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: layer_types has sliding layers; expected 'full_attention' for every layer of a Gemma 4 drafter", path);
    if (c->shared_layers || c->per_layer || c->expert.experts)
        return ds_fail(err, DS_ERROR_UNSUPPORTED,
                       "%s: num_kv_shared_layers, hidden_size_per_layer_input or num_experts is not 0; expected plain layers of a Gemma 4 drafter", path);
    return DS_OK;
}

ds_status ds_draft_layers_load(struct ds_draft_model *draft, struct ds_loader *loader, struct ds_error *err) {
    const struct ds_naming naming = ds_draft_naming(draft);
    const struct ds_model_config *c = &draft->config;
    for (uint32_t l = 0; l < c->layers; l++) {
        if (draft->gemma) DS_TRY(ds_gemma_layer_load(&draft->gemma_layers[l], c, &naming, l, false, loader, err));
        else DS_TRY(ds_layer_load(&draft->layers[l], c, &naming, l, loader, err));
    }
    return DS_OK;
}

static struct ds_layer_context context_of(const struct ds_draft_model *draft, const struct ds_rows *rows) {
    return (struct ds_layer_context){.config = &draft->config, .rows = rows, .rope_cos = draft->rope_cos, .rope_sin = draft->rope_sin,
                                     .rope_positions = draft->rope_positions};
}

static struct ds_gemma_context gemma_context_of(const struct ds_draft_model *draft, const struct ds_rows *rows) {
    return (struct ds_gemma_context){.config = &draft->config, .rows = rows, .rope_cos = draft->rope_cos, .rope_sin = draft->rope_sin,
                                     .rope_positions = draft->rope_positions, .norm_v = true};
}

struct ds_view ds_draft_embed(const struct ds_draft_model *draft, struct ds_graph *graph, struct ds_slice ids, uint32_t rows) {
    const float scale = draft->config.embedding_scale;
    return ds_graph_embed(graph, &draft->embedding, ids, rows, scale != 0 ? scale : 1.0f);
}

struct ds_slice ds_draft_attention_norm(const struct ds_draft_model *draft, uint32_t l) {
    return draft->gemma ? draft->gemma_layers[l].attn_norm : draft->layers[l].attn_norm;
}

void ds_draft_layer_store(const struct ds_draft_model *draft, struct ds_graph *graph, const struct ds_rows *rows, const struct ds_cache *cache, uint32_t l,
                          struct ds_view x) {
    if (draft->gemma) {
        const struct ds_gemma_context context = gemma_context_of(draft, rows);
        ds_gemma_layer_store(graph, &context, &draft->gemma_layers[l], l, &cache->layers[l], x);
    } else {
        const struct ds_layer_context context = context_of(draft, rows);
        ds_layer_store(graph, &context, &draft->layers[l], &cache->layers[l], x);
    }
}

struct ds_view ds_draft_layer_build(const struct ds_draft_model *draft, struct ds_graph *graph, const struct ds_rows *rows, const struct ds_cache *cache,
                                    uint32_t l, struct ds_view x) {
    const struct ds_view normed = ds_graph_rms_norm(graph, x, x.cols, ds_draft_attention_norm(draft, l), draft->config.rms_eps);
    return ds_draft_layer_build_from(draft, graph, rows, cache, l, normed, x);
}

struct ds_view ds_draft_layer_build_from(const struct ds_draft_model *draft, struct ds_graph *graph, const struct ds_rows *rows, const struct ds_cache *cache,
                                         uint32_t l, struct ds_view x, struct ds_view residual) {
    if (draft->gemma) {
        const struct ds_gemma_context context = gemma_context_of(draft, rows);
        return ds_gemma_layer_build_from(graph, &context, &draft->gemma_layers[l], l, &cache->layers[l], x, residual, (struct ds_view){0});
    }
    const struct ds_layer_context context = context_of(draft, rows);
    const struct ds_layer *layer = &draft->layers[l];
    const struct ds_view attended = ds_layer_attend(graph, &context, layer, &cache->layers[l], x);
    return ds_layer_feed_forward(graph, &context, layer, ds_graph_linear(graph, &layer->o, attended, layer->o_bias, residual));
}

struct ds_view ds_draft_head(const struct ds_draft_model *draft, struct ds_graph *graph, struct ds_view h) {
    const struct ds_view logits = ds_graph_linear(graph, &draft->head, h, (struct ds_slice){0}, (struct ds_view){0});
    if (draft->config.logit_softcap != 0) ds_graph_scale(graph, logits, 1.0f, draft->config.logit_softcap);
    return logits;
}
