/* Keys of what only some families have: windows, experts, and Gemma's global layers. */
#include "convert/convert_internal.h"
#include "model/config.h"
#include "ops/numerics.h"

#include <string.h>

static bool is_arch(const struct ds_conversion *c, const char *name) { return strcmp(c->arch, name) == 0; }
static bool is_gemma_target(const struct ds_conversion *c) { return is_arch(c, "gemma3") || is_arch(c, "gemma4"); }

/* One window for all layers that slide; which these are is said where there are others, or where readers expect it. */
static ds_status add_windows(struct ds_conversion *c, struct ds_error *err) {
    const struct ds_model_config *config = c->config;
    bool slides[DS_MOST_LAYERS], all = true;
    for (uint32_t l = 0; l < config->layers; l++) all &= slides[l] = ds_config_window(config, l) > 0;
    if (!config->window) return DS_OK;
    char key[DS_KEY_MAX];
    DS_TRY(ds_convert_add_size(c, "attention.sliding_window", config->window, err));
    if (all && !c->is_drafter && !is_gemma_target(c)) return DS_OK;
    return ds_gguf_add_bools(c->writer, ds_convert_key(c, "attention.sliding_window_pattern", key), slides, config->layers, err);
}

static ds_status add_experts(struct ds_conversion *c, struct ds_error *err) {
    const struct ds_expert_config *expert = &c->config->expert;
    if (!expert->experts) return DS_OK;
    if (!expert->normalise)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: norm_topk_prob is false; a GGUF file of architecture %s means true", ds_ckpt_path(c->source), c->arch);
    DS_TRY(ds_convert_add_size(c, "expert_count", expert->experts, err));
    DS_TRY(ds_convert_add_size(c, "expert_used_count", expert->slots, err));
    return ds_convert_add_size(c, "expert_feed_forward_length", expert->feed_forward, err);
}

static ds_status add_softcaps(struct ds_conversion *c, struct ds_error *err) {
    if (c->config->attention_softcap > 0) DS_TRY(ds_convert_add_real(c, "attn_logit_softcapping", (double)c->config->attention_softcap, err));
    return c->config->logit_softcap > 0 ? ds_convert_add_real(c, "final_logit_softcapping", (double)c->config->logit_softcap, err) : DS_OK;
}

/* GGUF's Gemma 3 has no key for the scale that other runtimes read; ours is written where their rule gives another. */
static ds_status add_gemma3(struct ds_conversion *c, struct ds_error *err) {
    enum { LAYERS_27B = 62 };
    const struct ds_model_config *config = c->config;
    const uint32_t divisor = config->layers == LAYERS_27B ? config->hidden / config->heads : config->head_dim;
    const float usual = ds_div(1.0f, ds_sqrt((float)divisor));
    if (config->attention_scale == usual) return DS_OK;
    ds_logf(&c->log, DS_LOG_WARNING, "scores are scaled by %g, for which GGUF's gemma3 has no key that other runtimes read (they would take %g)",
            (double)config->attention_scale, (double)usual);
    return ds_convert_add_real(c, "attention.scale", (double)config->attention_scale, err);
}

/* A number a layer where layers differ, else one number. */
static ds_status add_by_layer(struct ds_conversion *c, const char *name, const int32_t *values, struct ds_error *err) {
    char key[DS_KEY_MAX];
    bool same = true;
    for (uint32_t l = 1; l < c->config->layers; l++) same &= values[l] == values[0];
    if (same) return ds_convert_add_size(c, name, (uint32_t)values[0], err);
    return ds_gguf_add_i32s(c->writer, ds_convert_key(c, name, key), values, c->config->layers, err);
}

static ds_status add_gemma4(struct ds_conversion *c, struct ds_error *err) {
    const struct ds_model_config *config = c->config;
    DS_TRY(ds_convert_add_size(c, "attention.key_length_swa", config->head_dim, err));
    DS_TRY(ds_convert_add_size(c, "attention.value_length_swa", config->head_dim, err));
    DS_TRY(ds_convert_add_size(c, "rope.dimension_count", config->rope.n_rot, err));
    DS_TRY(ds_convert_add_size(c, "rope.dimension_count_swa", config->local_rope.n_rot, err));
    DS_TRY(ds_convert_add_size(c, "attention.shared_kv_layers", config->shared_layers, err));
    return ds_convert_add_size(c, "embedding_length_per_layer_input", config->per_layer, err);
}

static ds_status add_lengths(struct ds_conversion *c, struct ds_error *err) {
    const struct ds_model_config *config = c->config;
    int32_t kv_heads[DS_MOST_LAYERS], widths[DS_MOST_LAYERS];
    for (uint32_t l = 0; l < config->layers; l++) {
        const bool global = !ds_config_window(config, l);
        kv_heads[l] = (int32_t)(global && config->global_kv_heads ? config->global_kv_heads : config->kv_heads);
        widths[l] = (int32_t)ds_config_feed_forward(config, l);
    }
    const uint32_t head_dim = config->global_head_dim ? config->global_head_dim : config->head_dim;
    DS_TRY(add_by_layer(c, "feed_forward_length", widths, err));
    DS_TRY(add_by_layer(c, "attention.head_count_kv", kv_heads, err));
    DS_TRY(ds_convert_add_size(c, "attention.key_length", head_dim, err));
    return ds_convert_add_size(c, "attention.value_length", head_dim, err);
}

/* Gemma 4's layers in a drafter, as llama.cpp's converter states them. */
static ds_status add_gemma_drafter(struct ds_conversion *c, struct ds_error *err) {
    DS_TRY(ds_convert_add_text(c, "hidden_activation", "gelu_pytorch_tanh", err));
    DS_TRY(ds_convert_add_real(c, "embedding_scale", (double)c->config->embedding_scale, err));
    DS_TRY(ds_convert_add_real(c, "attention.scale", 1.0, err));
    return ds_convert_add_size(c, "rope.dimension_count", c->config->rope.n_rot, err);
}

ds_status ds_convert_family_keys(struct ds_conversion *c, struct ds_error *err) {
    DS_TRY(add_lengths(c, err));
    if (is_arch(c, "llama")) {
        DS_TRY(ds_convert_add_size(c, "vocab_size", c->config->vocabulary, err));
        DS_TRY(ds_convert_add_size(c, "rope.dimension_count", c->config->rope.n_rot, err));
    }
    DS_TRY(add_windows(c, err));
    DS_TRY(add_experts(c, err));
    DS_TRY(add_softcaps(c, err));
    if (c->draft && c->draft->gemma) return add_gemma_drafter(c, err);
    if (is_arch(c, "gemma3")) return add_gemma3(c, err);
    return is_arch(c, "gemma4") ? add_gemma4(c, err) : DS_OK;
}
