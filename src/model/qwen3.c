/* Qwen3 (dense): pre-norm decoder, RMS norms per head on q and k, grouped queries, SwiGLU, tied head or not. */
#include "model/layer.h"

static struct ds_naming naming_of(const struct ds_model *model) {
    return (struct ds_naming){.ckpt = model->ckpt, .hf_prefix = "model.", .gguf_arch = "qwen3"};
}

static ds_status configure(struct ds_model *model, struct ds_error *err) {
    const struct ds_naming naming = naming_of(model);
    DS_TRY(ds_config_read(&naming, &model->config, err));
    /* The embedding's rows are the vocabulary: config.json's number must agree, GGUF has none. */
    const bool gguf = ds_ckpt_get_format(model->ckpt) == DS_CKPT_GGUF;
    const struct ds_ckpt_tensor *embedding = ds_ckpt_find(model->ckpt, gguf ? "token_embd.weight" : "model.embed_tokens.weight");
    int64_t vocabulary = embedding && embedding->dims == 2 ? (int64_t)embedding->shape[0] : 0;
    if (!gguf) DS_TRY(ds_ckpt_int(model->ckpt, "vocab_size", 1, INT32_MAX, &vocabulary, err));
    if (vocabulary < 1 || vocabulary > INT32_MAX)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: no token embedding [vocabulary, %u] found", ds_ckpt_path(model->ckpt), model->config.hidden);
    model->config.vocabulary = (uint32_t)vocabulary;
    bool tied = false;
    if (!gguf) DS_TRY(ds_ckpt_bool_or(model->ckpt, "tie_word_embeddings", false, &tied, err));
    model->config.tied = tied || !ds_ckpt_find(model->ckpt, gguf ? "output.weight" : "lm_head.weight");
    if (!gguf && model->config.tied && !tied)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: tie_word_embeddings is false, but there is no tensor 'lm_head.weight'", ds_ckpt_path(model->ckpt));
    return DS_OK;
}

static ds_status load(struct ds_model *model, struct ds_loader *loader, struct ds_error *err) {
    const struct ds_naming naming = naming_of(model);
    const struct ds_naming top = {.ckpt = model->ckpt, .hf_prefix = "", .gguf_arch = "qwen3"};
    const struct ds_model_config *c = &model->config;
    DS_TRY(ds_naming_matrix(&naming, loader, "embed_tokens.weight", "token_embd.weight", 0, c->vocabulary, c->hidden, &model->embedding, err));
    DS_TRY(ds_naming_vector(&naming, loader, "norm.weight", "output_norm.weight", 0, c->hidden, &model->final_norm, err));
    if (c->tied)
        DS_TRY(ds_naming_matrix(&naming, loader, "embed_tokens.weight", "token_embd.weight", 0, c->vocabulary, c->hidden, &model->head, err));
    else
        DS_TRY(ds_naming_matrix(&top, loader, "lm_head.weight", "output.weight", 0, c->vocabulary, c->hidden, &model->head, err));
    for (uint32_t l = 0; l < c->layers; l++) DS_TRY(ds_layer_load(&model->layers[l], c, &naming, l, loader, err));
    return DS_OK;
}

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

static void build(const struct ds_model *model, struct ds_graph *graph, const struct ds_rows *rows, const struct ds_cache *cache,
                  const struct ds_model_outputs *out) {
    const struct ds_model_config *c = &model->config;
    const struct ds_slice none = {0};
    const struct ds_view no_view = {0};
    const struct ds_layer_context context = {.config = c, .rows = rows, .rope_cos = model->rope_cos, .rope_sin = model->rope_sin,
                                             .rope_positions = model->rope_positions};
    ds_graph_set_count(graph, rows->count);
    ds_graph_set_flags(graph, rows->flags);
    struct ds_view x = ds_graph_embed(graph, &model->embedding, rows->ids, rows->rows, 1.0f);
    tap(graph, out, -1, x);
    keep_hidden(graph, out, 0, x);
    for (uint32_t l = 0; l < c->layers; l++) {
        x = ds_layer_build(graph, &context, &model->layers[l], &cache->layers[l], x);
        tap(graph, out, (int32_t)l, x);
        if (l + 1 < c->layers) keep_hidden(graph, out, l + 1, x);
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
    ds_graph_linear_into(graph, &model->head, normed, none, no_view, out->logits);
}

const struct ds_model_arch ds_arch_qwen3 = {
    .name = "qwen3", .hf_name = "Qwen3ForCausalLM", .configure = configure, .load = load, .build = build};
