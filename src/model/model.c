#include "model/layer.h"

#include "base/quote.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Every target architecture: one file and one line. */
static const struct ds_model_arch *const architectures[] = {&ds_arch_qwen3, &ds_arch_qwen2, &ds_arch_llama, &ds_arch_mistral,
                                                           &ds_arch_qwen3moe, &ds_arch_gemma3, &ds_arch_gemma4};

/* What the file calls itself: GGUF's general.architecture, or architectures[0] of config.json. */
static ds_status read_name(const struct ds_ckpt *ckpt, char *name, size_t capacity, struct ds_error *err) {
    if (ds_ckpt_get_format(ckpt) == DS_CKPT_GGUF) {
        const char *text;
        DS_TRY(ds_ckpt_string(ckpt, "general.architecture", &text, err));
        snprintf(name, capacity, "%s", text);
        return DS_OK;
    }
    const struct ds_value *value = ds_ckpt_value(ckpt, "architectures");
    if (!value || value->kind != DS_VALUE_ARRAY || value->element != DS_VALUE_STRING || value->length < 1)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: config.json has no `architectures`, a list with the model's class", ds_ckpt_path(ckpt));
    const struct ds_text *text = value->array;
    snprintf(name, capacity, "%.*s", (int)DS_MIN(text->length, capacity - 1), text->data);
    return DS_OK;
}

static ds_status unknown_architecture(const struct ds_ckpt *ckpt, const char *name, struct ds_error *err) {
    char known[512] = "";
    for (size_t i = 0; i < DS_COUNT(architectures); i++) {
        const size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s (%s)", i ? ", " : "", architectures[i]->name, architectures[i]->hf_name);
    }
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: architecture '%s' is not a target this version runs; it runs: %s", ds_ckpt_path(ckpt),
                   name, known);
}

/* Quantised by a method of its own (AWQ, GPTQ, FP8): the tensors would not be what their names say. */
static ds_status refuse_quantized(const struct ds_ckpt *ckpt, struct ds_error *err) {
    static const char key[] = "quantization_config.quant_method";
    const struct ds_value *value = ds_ckpt_get_format(ckpt) == DS_CKPT_SAFETENSORS ? ds_ckpt_value(ckpt, key) : NULL;
    if (!value || value->kind == DS_VALUE_NULL) return DS_OK;
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: %s is '%s'; expected plain weights (BF16, F16, F32): take the original checkpoint, or a GGUF file",
                   ds_ckpt_path(ckpt), key, value->kind == DS_VALUE_STRING ? ds_quote_name(value->string).text : "?");
}

ds_status ds_model_open(const struct ds_ckpt *ckpt, struct ds_model **out, struct ds_error *err) {
    *out = NULL;
    char name[128];
    DS_TRY(read_name(ckpt, name, sizeof name, err));
    const struct ds_model_arch *arch = NULL;
    for (size_t i = 0; i < DS_COUNT(architectures) && !arch; i++) {
        const bool gguf = ds_ckpt_get_format(ckpt) == DS_CKPT_GGUF;
        const struct ds_model_arch *a = architectures[i];
        if (strcmp(name, gguf ? a->name : a->hf_name) == 0 || (!gguf && a->hf_multimodal && strcmp(name, a->hf_multimodal) == 0)) arch = a;
    }
    if (!arch) return unknown_architecture(ckpt, name, err);
    struct ds_model *model = calloc(1, sizeof *model);
    if (!model) return ds_fail_memory(err, sizeof *model, "the model");
    model->arch = arch;
    model->ckpt = ckpt;
    ds_status status = refuse_quantized(ckpt, err);
    if (status == DS_OK) status = arch->configure(model, err);
    if (status == DS_OK) status = ds_config_stops(ckpt, model->stop_ids, &model->n_stops, err);
    if (status == DS_OK) {
        model->layers = calloc(model->config.layers, sizeof *model->layers);
        if (!model->layers) status = ds_fail_memory(err, model->config.layers * sizeof *model->layers, "the model's layers");
    }
    if (status != DS_OK) {
        ds_model_close(model);
        return status;
    }
    *out = model;
    return DS_OK;
}

void ds_model_close(struct ds_model *model) {
    if (!model) return;
    free(model->layers);
    free(model->family);
    free(model);
}

static bool ends_with(const char *name, const char *end) {
    const size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

bool ds_model_is_spare(const char *name) {
    static const char *const ends[] = {"rotary_emb.inv_freq", "rope_freqs.weight", "lm_head.weight"};
    static const char *const begins[] = {"vision_tower.", "multi_modal_projector.", "audio_tower.", "embed_vision.", "embed_audio."};
    for (size_t i = 0; i < DS_COUNT(ends); i++)
        if (ends_with(name, ends[i])) return true;
    if (strncmp(name, "model.", 6) == 0) name += 6;
    for (size_t i = 0; i < DS_COUNT(begins); i++)
        if (strncmp(name, begins[i], strlen(begins[i])) == 0) return true;
    return false;
}

/* A tensor that nobody asked for says that the model is not what we take it for: a bias, a norm, an expert. */
static ds_status refuse_unused(const struct ds_model *model, struct ds_error *err) {
    const struct ds_ckpt_tensor *tensor;
    struct ds_loader *loaders[DS_MOST_STAGES];
    for (uint32_t s = 0; s < model->n_stages; s++) loaders[s] = model->stages[s].loader;
    DS_TRY(ds_loader_find_unused(loaders, model->n_stages, model->ckpt, ds_model_is_spare, &tensor, err));
    if (!tensor) return DS_OK;
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor '%s' is not part of a %s model as this version knows it; leaving it out would change the result",
                   ds_ckpt_path(model->ckpt), ds_quote_name(tensor->name).text, model->arch->name);
}

static ds_status load_ropes(const struct ds_model *model, struct ds_model_stage *stage, uint32_t positions, struct ds_error *err) {
    DS_TRY(ds_rope_load_from(model->ckpt, &model->config.rope, positions, stage->loader, &stage->rope_cos, &stage->rope_sin, err));
    if (!model->config.local_rope.n_rot) return DS_OK;
    return ds_rope_load(&model->config.local_rope, positions, stage->loader, &stage->local_cos, &stage->local_sin, err);
}

ds_status ds_model_load_cut(struct ds_model *model, const struct ds_model_cut *cut, uint32_t positions, struct ds_error *err) {
    assert(cut->n >= 1 && cut->n <= DS_MOST_STAGES && cut->ends[cut->n - 1] == model->config.layers);
    model->rope_positions = positions;
    model->n_stages = cut->n;
    for (uint32_t s = 0; s < cut->n; s++) {
        struct ds_model_stage *stage = &model->stages[s];
        *stage = (struct ds_model_stage){.loader = cut->loaders[s], .first = s ? cut->ends[s - 1] : 0, .end = cut->ends[s]};
        if (stage->first < stage->end) DS_TRY(load_ropes(model, stage, positions, err));
    }
    DS_TRY(model->arch->load(model, err));
    return refuse_unused(model, err);
}

ds_status ds_model_load(struct ds_model *model, struct ds_loader *loader, uint32_t positions, struct ds_error *err) {
    return ds_model_load_cut(model, &(struct ds_model_cut){.n = 1, .ends = {model->config.layers}, .loaders = {loader}}, positions, err);
}

struct ds_loader *ds_model_loader(const struct ds_model *model, uint32_t layer) {
    uint32_t s = 0;
    while (model->stages[s].end <= layer) s++;
    return model->stages[s].loader;
}

bool ds_config_may_cut(const struct ds_model_config *c, uint32_t layer) {
    for (uint32_t l = layer; l < c->layers; l++)
        if (ds_config_kv_shape(c, l).source < layer) return false;
    return true;
}

uint32_t ds_config_carried(const struct ds_model_config *c) { return c->layers * c->per_layer; }

bool ds_model_stops_at(const struct ds_model *model, int32_t token) {
    for (uint32_t i = 0; i < model->n_stops; i++)
        if (model->stop_ids[i] == token) return true;
    return false;
}
