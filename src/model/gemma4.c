/*
 * Gemma 4 (text): global layers with heads and a rope of their own, V normed and perhaps made of K, a scale on each layer's output,
 * capped logits; per-layer inputs and shared keys and values (E2B, E4B), experts beside the dense feed-forward (26B-A4B).
 */
#include "model/decoder.h"
#include "model/gemma.h"

static ds_status configure(struct ds_model *model, struct ds_error *err) {
    const struct ds_naming naming = ds_decoder_naming(model);
    DS_TRY(ds_gemma4_config_read(&naming, &model->config, err));
    DS_TRY(ds_decoder_vocabulary(model, &naming, true, err));
    if (!model->config.per_layer || ds_ckpt_get_format(model->ckpt) == DS_CKPT_GGUF) return DS_OK;
    char key[DS_KEY_MAX];
    int64_t rows;
    DS_TRY(ds_ckpt_int_or(model->ckpt, ds_naming_key(&naming, "vocab_size_per_layer_input", "", key), 1, INT32_MAX, model->config.vocabulary, &rows, err));
    if (rows == model->config.vocabulary) return DS_OK;
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: %s is %lld; expected as many as the vocabulary's %u tokens", ds_ckpt_path(model->ckpt), key,
                   (long long)rows, model->config.vocabulary);
}

static ds_status load(struct ds_model *model, struct ds_error *err) {
    return ds_gemma_load(model, false, err);
}

static void build(const struct ds_model *model, struct ds_graph *graph, const struct ds_model_part *part, const struct ds_rows *rows,
                  const struct ds_cache *cache, const struct ds_model_outputs *out) {
    ds_gemma_build(model, graph, part, rows, cache, out, true);
}

const struct ds_model_arch ds_arch_gemma4 = {.name = "gemma4", .hf_name = "Gemma4ForCausalLM", .hf_multimodal = "Gemma4ForConditionalGeneration",
                                             .configure = configure, .load = load, .build = build};
