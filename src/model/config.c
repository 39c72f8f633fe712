/* Hyper-parameters of Qwen- and Llama-like models from config.json or GGUF metadata, every one checked for sense. */
#include "model/config.h"

#include "base/quote.h"

#include <stdio.h>
#include <string.h>

/* Bounds that no model of this kind passes; they keep every product of two sizes far below 2^63. */
enum { MOST_HEADS = 1024, MOST_HEAD_DIM = 1024 };

ds_status ds_config_size(const struct ds_naming *naming, const char *hf, const char *gguf, int64_t most, uint32_t *out,
                         struct ds_error *err) {
    char key[DS_KEY_MAX];
    int64_t value;
    DS_TRY(ds_ckpt_int(naming->ckpt, ds_naming_key(naming, hf, gguf, key), 1, most, &value, err));
    *out = (uint32_t)value;
    return DS_OK;
}

ds_status ds_config_size_or(const struct ds_naming *naming, const char *hf, const char *gguf, int64_t most, int64_t fallback,
                            uint32_t *out, struct ds_error *err) {
    char key[DS_KEY_MAX];
    int64_t value;
    DS_TRY(ds_ckpt_int_or(naming->ckpt, ds_naming_key(naming, hf, gguf, key), fallback == 0 ? 0 : 1, most, fallback, &value, err));
    *out = (uint32_t)value;
    return DS_OK;
}

ds_status ds_config_flag(const struct ds_naming *naming, const char *hf, bool fallback, bool *out, struct ds_error *err) {
    char key[DS_KEY_MAX];
    *out = fallback;
    if (ds_ckpt_get_format(naming->ckpt) == DS_CKPT_GGUF) return DS_OK;
    return ds_ckpt_bool_or(naming->ckpt, ds_naming_key(naming, hf, "", key), fallback, out, err);
}

ds_status ds_config_real_or_none(const struct ds_naming *naming, const char *hf, const char *gguf, float *out, struct ds_error *err) {
    char key[DS_KEY_MAX];
    double value;
    DS_TRY(ds_ckpt_real_or(naming->ckpt, ds_naming_key(naming, hf, gguf, key), 0.0, 1e6, 0.0, &value, err));
    *out = (float)value;
    return DS_OK;
}

ds_status ds_config_check_heads(const struct ds_naming *naming, uint32_t heads, uint32_t kv_heads, uint32_t head_dim, struct ds_error *err) {
    if (heads % kv_heads)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: %u attention heads cannot be shared by %u key/value heads; expected a multiple",
                       ds_ckpt_path(naming->ckpt), heads, kv_heads);
    if (head_dim % 2)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: head_dim is %u; rotary embedding needs an even number", ds_ckpt_path(naming->ckpt), head_dim);
    return DS_OK;
}

ds_status ds_config_sizes(const struct ds_naming *naming, struct ds_model_config *c, struct ds_error *err) {
    DS_TRY(ds_config_size(naming, "hidden_size", "embedding_length", DS_MOST_WIDTH, &c->hidden, err));
    DS_TRY(ds_config_size(naming, "num_hidden_layers", "block_count", DS_MOST_LAYERS, &c->layers, err));
    DS_TRY(ds_config_size(naming, "num_attention_heads", "attention.head_count", MOST_HEADS, &c->heads, err));
    DS_TRY(ds_config_size(naming, "max_position_embeddings", "context_length", DS_MOST_CONTEXT, &c->context, err));
    char key[DS_KEY_MAX];
    double eps;
    DS_TRY(ds_ckpt_real(naming->ckpt, ds_naming_key(naming, "rms_norm_eps", "attention.layer_norm_rms_epsilon", key), 0.0, 1.0, &eps, err));
    c->rms_eps = (float)eps;
    return DS_OK;
}

static ds_status read_layer_sizes(const struct ds_naming *naming, struct ds_model_config *c, struct ds_error *err) {
    DS_TRY(ds_config_size_or(naming, "num_key_value_heads", "attention.head_count_kv", MOST_HEADS, c->heads, &c->kv_heads, err));
    DS_TRY(ds_config_size_or(naming, "head_dim", "attention.key_length", MOST_HEAD_DIM, DS_MAX(c->hidden / c->heads, 1), &c->head_dim, err));
    DS_TRY(ds_config_size(naming, "intermediate_size", "feed_forward_length", DS_MOST_WIDTH, &c->feed_forward, err));
    return ds_config_check_heads(naming, c->heads, c->kv_heads, c->head_dim, err);
}

/* --- what must be absent or neutral because it changes the result and is not implemented --- */

static bool is_neutral(const struct ds_value *value, double neutral) {
    switch (value->kind) {
    case DS_VALUE_NULL: return true;
    case DS_VALUE_BOOL: return (value->boolean ? 1.0 : 0.0) == neutral;
    case DS_VALUE_INT:
    case DS_VALUE_REAL: return value->real == neutral;
    default: return false;
    }
}

ds_status ds_config_refuse(const struct ds_naming *naming, const struct ds_refusal *list, size_t count, struct ds_error *err) {
    const bool gguf = ds_ckpt_get_format(naming->ckpt) == DS_CKPT_GGUF;
    for (size_t i = 0; i < count; i++) {
        if (gguf ? !list[i].gguf : !list[i].hf) continue;
        char key[DS_KEY_MAX];
        const struct ds_value *value = ds_ckpt_value(naming->ckpt, ds_naming_key(naming, list[i].hf, list[i].gguf, key));
        if (!value || is_neutral(value, list[i].neutral)) continue;
        char found[64] = "";
        if (value->kind == DS_VALUE_INT || value->kind == DS_VALUE_REAL) snprintf(found, sizeof found, " is %g", value->real);
        else if (value->kind == DS_VALUE_BOOL) snprintf(found, sizeof found, " is %s", value->boolean ? "true" : "false");
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: %s%s; it changes the result, and only %g is supported for this architecture",
                       ds_ckpt_path(naming->ckpt), key, found, list[i].neutral);
    }
    return DS_OK;
}

static ds_status refuse_unknown(const struct ds_naming *naming, struct ds_error *err) {
    static const struct ds_refusal list[] = {
        {"attn_logit_softcapping", "attn_logit_softcapping", 0},
        {"final_logit_softcapping", "final_logit_softcapping", 0},
        {"partial_rotary_factor", NULL, 1},
        {"logit_scale", "logit_scale", 1},
        {"logits_scaling", "embedding_scale", 1},
        {"residual_multiplier", "residual_scale", 1},
        {"embedding_multiplier", NULL, 1},
        {"attention_multiplier", "attention.scale", 0},
        {"clip_qkv", "attention.clamp_kqv", 0},
        {NULL, "attention.max_alibi_bias", 0},
        {NULL, "attention.temperature_scale", 0},
        {NULL, "attention.causal", 1},
        {NULL, "rope.scaling.attn_factor", 1},
        {"use_mrope", NULL, 0},
    };
    DS_TRY(ds_config_refuse(naming, list, DS_COUNT(list), err));
    if (ds_ckpt_get_format(naming->ckpt) != DS_CKPT_SAFETENSORS) return DS_OK;
    char key[DS_KEY_MAX];
    const char *activation;
    DS_TRY(ds_ckpt_string_or(naming->ckpt, ds_naming_key(naming, "hidden_act", "", key), "silu", &activation, err));
    if (strcmp(activation, "silu") != 0)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: %s is '%s'; expected 'silu'", ds_ckpt_path(naming->ckpt), key, ds_quote_name(activation).text);
    return DS_OK;
}

/* GGUF states the lengths of keys and values apart. */
static ds_status check_value_length(const struct ds_naming *naming, const struct ds_model_config *c, struct ds_error *err) {
    if (ds_ckpt_get_format(naming->ckpt) != DS_CKPT_GGUF) return DS_OK;
    char key[DS_KEY_MAX];
    int64_t value;
    DS_TRY(ds_ckpt_int_or(naming->ckpt, ds_naming_key(naming, "", "attention.value_length", key), 1, INT32_MAX, c->head_dim, &value, err));
    if (value != c->head_dim)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: %s is %lld, but attention.key_length %u; expected equal lengths", ds_ckpt_path(naming->ckpt), key,
                       (long long)value, c->head_dim);
    return DS_OK;
}

/* --- biases: config.json says it, GGUF has the tensors --- */

static ds_status read_biases(const struct ds_naming *naming, const struct ds_family *family, struct ds_model_config *c, struct ds_error *err) {
    c->qk_norm = family->qk_norm;
    if (ds_ckpt_get_format(naming->ckpt) == DS_CKPT_GGUF) {
        c->qkv_bias = family->qkv_bias || ds_naming_has(naming, "", "blk.%u.attn_q.bias", 0);
        c->o_bias = ds_naming_has(naming, "", "blk.%u.attn_output.bias", 0);
        c->mlp_bias = ds_naming_has(naming, "", "blk.%u.ffn_up.bias", 0);
        return DS_OK;
    }
    bool attention;
    DS_TRY(ds_config_flag(naming, "attention_bias", false, &attention, err));
    c->qkv_bias = family->qkv_bias || attention;
    c->o_bias = attention;
    return ds_config_flag(naming, "mlp_bias", false, &c->mlp_bias, err);
}

/* --- sliding windows --- */

struct ds_kv_shape ds_config_kv_shape(const struct ds_model_config *c, uint32_t layer) {
    const bool global = !ds_config_window(c, layer);
    struct ds_kv_shape shape = {.kv_heads = c->kv_heads, .head_dim = c->head_dim, .source = layer};
    if (global && c->global_head_dim) shape.head_dim = c->global_head_dim;
    if (global && c->global_kv_heads) shape.kv_heads = c->global_kv_heads;
    if (layer < c->layers - c->shared_layers) return shape;
    /* The last layer of its kind that has its own; the reader has checked that there is one. */
    shape.source = c->layers - c->shared_layers - 1;
    while (shape.source > 0 && !ds_config_window(c, shape.source) != global) shape.source--;
    return shape;
}

uint32_t ds_config_feed_forward(const struct ds_model_config *c, uint32_t layer) {
    return c->double_wide && layer >= c->layers - c->shared_layers ? 2 * c->feed_forward : c->feed_forward;
}

void ds_config_slide(struct ds_model_config *c, uint32_t layer) { c->sliding[layer / 8] |= (uint8_t)(1u << layer % 8); }

static bool text_is(const struct ds_text *text, const char *word) {
    return text->length == strlen(word) && memcmp(text->data, word, text->length) == 0;
}

static ds_status bad_pattern(const struct ds_naming *naming, const char *key, uint32_t layers, struct ds_error *err) {
    return ds_fail(err, DS_ERROR_FORMAT, "%s: %s must have an entry for each of the %u layers", ds_ckpt_path(naming->ckpt), key, layers);
}

ds_status ds_config_layer_types(const struct ds_naming *naming, struct ds_model_config *c, bool *found, struct ds_error *err) {
    const bool gguf = ds_ckpt_get_format(naming->ckpt) == DS_CKPT_GGUF;
    char key[DS_KEY_MAX];
    const struct ds_value *value = ds_ckpt_value(naming->ckpt, ds_naming_key(naming, "layer_types", "attention.sliding_window_pattern", key));
    *found = value && value->kind == DS_VALUE_ARRAY;
    if (!*found) return DS_OK;
    if (value->element != (gguf ? DS_VALUE_BOOL : DS_VALUE_STRING) || value->length != c->layers) return bad_pattern(naming, key, c->layers, err);
    for (uint32_t l = 0; l < c->layers; l++) {
        bool sliding;
        if (gguf) {
            sliding = ((const bool *)value->array)[l];
        } else {
            const struct ds_text *text = &((const struct ds_text *)value->array)[l];
            sliding = text_is(text, "sliding_attention");
            if (!sliding && !text_is(text, "full_attention"))
                return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: %s[%u] is '%s'; expected 'full_attention' or 'sliding_attention'",
                               ds_ckpt_path(naming->ckpt), key, l, ds_quote(text->data, text->length).text);
        }
        if (sliding) ds_config_slide(c, l);
    }
    return DS_OK;
}

bool ds_config_slides(const struct ds_model_config *c) {
    for (uint32_t l = 0; l < c->layers; l++)
        if (c->sliding[l / 8] >> l % 8 & 1) return true;
    return false;
}

ds_status ds_config_require_window(const struct ds_naming *naming, struct ds_model_config *c, struct ds_error *err) {
    if (!ds_config_slides(c)) {
        c->window = 0;
        return DS_OK;
    }
    return ds_config_size(naming, "sliding_window", "attention.sliding_window", DS_MOST_CONTEXT, &c->window, err);
}

static ds_status read_windows(const struct ds_naming *naming, const struct ds_family *family, struct ds_model_config *c, struct ds_error *err) {
    bool in_force, found;
    DS_TRY(ds_config_flag(naming, "use_sliding_window", family->window || ds_ckpt_get_format(naming->ckpt) == DS_CKPT_GGUF, &in_force, err));
    DS_TRY(ds_config_layer_types(naming, c, &found, err));
    if (!found && in_force) {
        uint32_t window, first = 0;
        DS_TRY(ds_config_size_or(naming, "sliding_window", "attention.sliding_window", DS_MOST_CONTEXT, 0, &window, err));
        if (ds_ckpt_get_format(naming->ckpt) == DS_CKPT_SAFETENSORS)
            DS_TRY(ds_config_size_or(naming, "max_window_layers", "", INT32_MAX, 0, &first, err));
        for (uint32_t l = first; l < c->layers && window; l++) ds_config_slide(c, l);
    }
    return ds_config_require_window(naming, c, err);
}

/* --- all of it --- */

static ds_status read_rope(const struct ds_naming *naming, const struct ds_family *family, struct ds_model_config *c, struct ds_error *err) {
    if (ds_ckpt_get_format(naming->ckpt) == DS_CKPT_GGUF) {
        c->interleaved = family->interleaved;
        return ds_rope_read_gguf(naming, c->context, c->head_dim, &c->rope, err);
    }
    char key[DS_KEY_MAX];
    const bool newer = ds_ckpt_value(naming->ckpt, ds_naming_key(naming, "rope_parameters.rope_theta", "", key)) ||
                       ds_ckpt_value(naming->ckpt, ds_naming_key(naming, "rope_parameters.rope_type", "", key));
    return ds_rope_read_json(naming, newer ? "rope_parameters" : "rope_scaling", "rope_theta", 10000.0, c->context, c->head_dim, &c->rope, err);
}

ds_status ds_config_read_family(const struct ds_naming *naming, const struct ds_family *family, struct ds_model_config *config,
                                struct ds_error *err) {
    DS_TRY(ds_config_sizes(naming, config, err));
    DS_TRY(read_layer_sizes(naming, config, err));
    DS_TRY(check_value_length(naming, config, err));
    DS_TRY(refuse_unknown(naming, err));
    DS_TRY(read_biases(naming, family, config, err));
    DS_TRY(read_windows(naming, family, config, err));
    return read_rope(naming, family, config, err);
}

ds_status ds_config_read(const struct ds_naming *naming, struct ds_model_config *config, struct ds_error *err) {
    return ds_config_read_family(naming, &(struct ds_family){.qk_norm = true}, config, err);
}
