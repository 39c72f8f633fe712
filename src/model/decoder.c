#include "model/decoder.h"

#include <stdio.h>

static bool is_gguf(const struct ds_model *model) { return ds_ckpt_get_format(model->ckpt) == DS_CKPT_GGUF; }

/* Where the text part of a multimodal folder may lie. */
static const struct {
    const char *prefix, *beside;
} places[] = {{"model.", ""}, {"model.language_model.", ""}, {"language_model.model.", "language_model."}};

static size_t place_of(const struct ds_model *model) {
    for (size_t i = 1; i < DS_COUNT(places) && !is_gguf(model); i++) {
        char name[64];
        snprintf(name, sizeof name, "%sembed_tokens.weight", places[i].prefix);
        if (ds_ckpt_find(model->ckpt, name)) return i;
    }
    return 0;
}

struct ds_naming ds_decoder_naming(const struct ds_model *model) {
    const bool nested = !is_gguf(model) && ds_ckpt_value(model->ckpt, "text_config.hidden_size");
    return (struct ds_naming){.ckpt = model->ckpt, .hf_prefix = places[place_of(model)].prefix, .gguf_arch = model->arch->name,
                              .hf_keys = nested ? "text_config." : NULL};
}

struct ds_naming ds_decoder_naming_beside(const struct ds_model *model) {
    struct ds_naming naming = ds_decoder_naming(model);
    naming.hf_prefix = places[place_of(model)].beside;
    return naming;
}

/* --- configuration --- */

/* The embedding's rows are the vocabulary: config.json's number must agree, GGUF has none. */
ds_status ds_decoder_vocabulary(struct ds_model *model, const struct ds_naming *naming, bool tied, struct ds_error *err) {
    struct ds_model_config *c = &model->config;
    const char *const path = ds_ckpt_path(model->ckpt);
    char key[DS_KEY_MAX];
    const struct ds_ckpt_tensor *embedding = ds_naming_find(naming, "embed_tokens.weight", "token_embd.weight", 0);
    int64_t vocabulary = embedding && embedding->dims == 2 && embedding->shape[0] <= INT32_MAX ? (int64_t)embedding->shape[0] : 0;
    if (!is_gguf(model) && (vocabulary < 1 || !naming->hf_keys))
        DS_TRY(ds_ckpt_int(model->ckpt, ds_naming_key(naming, "vocab_size", "", key), 1, INT32_MAX, &vocabulary, err));
    if (vocabulary < 1) return ds_fail(err, DS_ERROR_FORMAT, "%s: no token embedding [vocabulary, %u] found", path, c->hidden);
    c->vocabulary = (uint32_t)vocabulary;

    const struct ds_naming beside = ds_decoder_naming_beside(model);
    const bool has_head = ds_naming_has(&beside, "lm_head.weight", "output.weight", 0);
    c->tied = !has_head;
    if (is_gguf(model)) return DS_OK;
    DS_TRY(ds_ckpt_bool_or(naming->ckpt, "tie_word_embeddings", tied, &tied, err));
    DS_TRY(ds_ckpt_bool_or(naming->ckpt, ds_naming_key(naming, "tie_word_embeddings", "", key), tied, &tied, err));
    if (!tied && !has_head)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: tie_word_embeddings is false, but there is no tensor '%slm_head.weight'", path, beside.hf_prefix);
    c->tied = tied;
    return DS_OK;
}

ds_status ds_decoder_configure(struct ds_model *model, const struct ds_family *family, struct ds_error *err) {
    const struct ds_naming naming = ds_decoder_naming(model);
    DS_TRY(ds_config_read_family(&naming, family, &model->config, err));
    return ds_decoder_vocabulary(model, &naming, false, err);
}

/* --- weights --- */

ds_status ds_decoder_load_ends(struct ds_model *model, float offset, struct ds_error *err) {
    struct ds_loader *const loader = model->stages[0].loader;
    const struct ds_naming naming = ds_decoder_naming(model), beside = ds_decoder_naming_beside(model);
    const struct ds_model_config *c = &model->config;
    DS_TRY(ds_naming_matrix(&naming, loader, "embed_tokens.weight", "token_embd.weight", 0, c->vocabulary, c->hidden, &model->embedding, err));
    const struct ds_ckpt_tensor *norm;
    DS_TRY(ds_naming_tensor(&naming, "norm.weight", "output_norm.weight", 0, 1, (uint64_t[]){c->hidden}, &norm, err));
    DS_TRY(ds_loader_vector_affine(loader, model->ckpt, norm, 1.0f, offset, &model->final_norm, err));
    if (c->tied)
        return ds_naming_matrix(&naming, loader, "embed_tokens.weight", "token_embd.weight", 0, c->vocabulary, c->hidden, &model->head, err);
    return ds_naming_matrix(&beside, loader, "lm_head.weight", "output.weight", 0, c->vocabulary, c->hidden, &model->head, err);
}

ds_status ds_decoder_load(struct ds_model *model, struct ds_error *err) {
    const struct ds_naming naming = ds_decoder_naming(model);
    DS_TRY(ds_decoder_load_ends(model, 0.0f, err));
    for (uint32_t l = 0; l < model->config.layers; l++)
        DS_TRY(ds_layer_load(&model->layers[l], &model->config, &naming, l, ds_model_loader(model, l), err));
    return DS_OK;
}

/* --- the graph --- */

/* Copies x into the columns of every tap of layer `l`. */
static void tap(struct ds_graph *graph, const struct ds_model_outputs *out, int32_t l, struct ds_view x) {
    if (!out->taps.at.buffer) return;
    for (uint32_t i = 0; i < out->n_taps; i++)
        if (out->tap_layers[i] == l)
            ds_graph_copy(graph, x, (struct ds_slice){0}, ds_view_part(out->taps, 0, x.rows, i * x.cols, x.cols));
}

static void keep_hidden(struct ds_graph *graph, const struct ds_model_outputs *out, uint32_t index, struct ds_view x) {
    if (out->hidden.at.buffer)
        ds_graph_copy(graph, x, (struct ds_slice){0}, ds_view_part(out->hidden, index * x.rows, x.rows, 0, x.cols));
}

struct ds_view ds_decoder_begin(const struct ds_model *model, struct ds_graph *graph, const struct ds_model_part *part, const struct ds_rows *rows,
                                const struct ds_model_outputs *out) {
    ds_graph_set_count(graph, rows->count);
    ds_graph_set_flags(graph, rows->flags);
    if (part->in.at.buffer) return ds_view_part(part->in, 0, rows->rows, 0, model->config.hidden);
    const struct ds_view x = ds_graph_embed(graph, &model->embedding, rows->ids, rows->rows, model->config.embedding_scale ? model->config.embedding_scale : 1.0f);
    tap(graph, out, -1, x);
    keep_hidden(graph, out, 0, x);
    return x;
}

void ds_decoder_layer_done(const struct ds_model *model, struct ds_graph *graph, const struct ds_model_outputs *out, uint32_t layer,
                           struct ds_view x) {
    tap(graph, out, (int32_t)layer, x);
    if (layer + 1 < model->config.layers) keep_hidden(graph, out, layer + 1, x);
}

void ds_decoder_finish(const struct ds_model *model, struct ds_graph *graph, const struct ds_model_part *part, const struct ds_rows *rows,
                       const struct ds_model_outputs *out, struct ds_view x) {
    const struct ds_model_config *c = &model->config;
    if (part->out.at.buffer) {
        ds_graph_copy(graph, x, (struct ds_slice){0}, ds_view_part(part->out, 0, rows->rows, 0, c->hidden));
        return;
    }
    if (out->hidden.at.buffer)
        keep_hidden(graph, out, c->layers, ds_graph_rms_norm(graph, x, c->hidden, model->final_norm, c->rms_eps));
    if (!out->logits.at.buffer) return;

    /* Only rows whose logits are wanted go on. Their activation flags are their logits' business: a NaN stays one. */
    ds_graph_set_count(graph, rows->out_count);
    ds_graph_set_flags(graph, rows->out_flags);
    const struct ds_view picked = ds_graph_tensor(graph, DS_ELEM_F32, rows->out_rows, c->hidden);
    ds_graph_copy(graph, x, rows->out_index, picked);
    const struct ds_view normed = ds_graph_rms_norm(graph, picked, c->hidden, model->final_norm, c->rms_eps);
    ds_graph_linear_into(graph, &model->head, normed, (struct ds_slice){0}, (struct ds_view){0}, out->logits);
    if (c->logit_softcap > 0) ds_graph_scale(graph, out->logits, 1.0f, c->logit_softcap);
}

struct ds_layer_context ds_decoder_context(const struct ds_model *model, const struct ds_model_part *part, const struct ds_rows *rows) {
    return (struct ds_layer_context){.config = &model->config, .rows = rows, .rope_cos = part->stage->rope_cos, .rope_sin = part->stage->rope_sin,
                                     .rope_positions = model->rope_positions};
}

void ds_decoder_build(const struct ds_model *model, struct ds_graph *graph, const struct ds_model_part *part, const struct ds_rows *rows,
                      const struct ds_cache *cache, const struct ds_model_outputs *out) {
    const struct ds_layer_context context = ds_decoder_context(model, part, rows);
    struct ds_view x = ds_decoder_begin(model, graph, part, rows, out);
    for (uint32_t l = part->first; l < part->end; l++) {
        x = ds_layer_build(graph, &context, &model->layers[l], &cache->layers[l], x);
        ds_decoder_layer_done(model, graph, out, l, x);
    }
    ds_decoder_finish(model, graph, part, rows, out, x);
}
