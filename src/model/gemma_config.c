/* What Gemma 3 and 4 are configured by, from config.json (perhaps inside a multimodal model's) or GGUF metadata. */
#include "model/config.h"
#include "model/gemma.h"

#include "base/quote.h"
#include "ops/numerics.h"

#include <stdio.h>
#include <string.h>

enum { MOST_HEADS = 1024, MOST_HEAD_DIM = 1024 };

static bool is_gguf(const struct ds_naming *naming) { return ds_ckpt_get_format(naming->ckpt) == DS_CKPT_GGUF; }

/* Gemma's files leave out what transformers has a default for. */
static ds_status read_sizes(const struct ds_naming *n, struct ds_model_config *c, struct ds_error *err) {
    char key[DS_KEY_MAX];
    double eps;
    DS_TRY(ds_config_size(n, "hidden_size", "embedding_length", DS_MOST_WIDTH, &c->hidden, err));
    DS_TRY(ds_config_size(n, "num_hidden_layers", "block_count", DS_MOST_LAYERS, &c->layers, err));
    DS_TRY(ds_config_size_or(n, "num_attention_heads", "attention.head_count", MOST_HEADS, 8, &c->heads, err));
    DS_TRY(ds_config_size_or(n, "max_position_embeddings", "context_length", DS_MOST_CONTEXT, 131072, &c->context, err));
    DS_TRY(ds_ckpt_real_or(n->ckpt, ds_naming_key(n, "rms_norm_eps", "attention.layer_norm_rms_epsilon", key), 0.0, 1.0, 1e-6, &eps, err));
    c->rms_eps = (float)eps;
    c->qk_norm = true;
    c->embedding_scale = ds_sqrt((float)c->hidden);
    DS_TRY(ds_config_real_or_none(n, "attn_logit_softcapping", "attn_logit_softcapping", &c->attention_softcap, err));
    return ds_config_real_or_none(n, "final_logit_softcapping", "final_logit_softcapping", &c->logit_softcap, err);
}

static ds_status refuse(const struct ds_naming *n, struct ds_error *err) {
    static const struct ds_refusal list[] = {
        {"attention_bias", NULL, 0}, {NULL, "rope.scaling.attn_factor", 1}, {NULL, "attention.causal", 1}, {NULL, "expert_shared_count", 0},
        {NULL, "activation_sparsity_scale", 0}, {"use_cache_shared", NULL, 0}, {NULL, "attention.clamp_kqv", 0}, {NULL, "logit_scale", 1},
    };
    DS_TRY(ds_config_refuse(n, list, DS_COUNT(list), err));
    if (is_gguf(n)) return DS_OK;
    char key[DS_KEY_MAX];
    const char *activation;
    DS_TRY(ds_ckpt_string_or(n->ckpt, ds_naming_key(n, "hidden_activation", "", key), "gelu_pytorch_tanh", &activation, err));
    if (strcmp(activation, "gelu_pytorch_tanh") != 0)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: %s is '%s'; expected 'gelu_pytorch_tanh'", ds_ckpt_path(n->ckpt), key, ds_quote_name(activation).text);
    /* "vision": only between the parts of an image. */
    const struct ds_value *both = ds_ckpt_value(n->ckpt, ds_naming_key(n, "use_bidirectional_attention", "", key));
    const bool off = !both || both->kind == DS_VALUE_NULL || (both->kind == DS_VALUE_BOOL && !both->boolean) ||
                     (both->kind == DS_VALUE_STRING && strcmp(both->string, "vision") == 0);
    if (off) return DS_OK;
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: %s is on; text is generated with causal attention, expected false or \"vision\"", ds_ckpt_path(n->ckpt), key);
}

/* Which layers slide: a list, or every layer but each n-th. */
static ds_status read_windows(const struct ds_naming *n, struct ds_model_config *c, uint32_t each, struct ds_error *err) {
    bool found;
    DS_TRY(ds_config_layer_types(n, c, &found, err));
    if (!found && is_gguf(n)) { /* nothing slides where there is no window */
        char key[DS_KEY_MAX];
        const struct ds_value *window = ds_ckpt_value(n->ckpt, ds_naming_key(n, "", "attention.sliding_window", key));
        if (!window || (window->kind == DS_VALUE_INT && window->integer == 0)) return ds_config_require_window(n, c, err);
    }
    if (!found && each) {
        DS_TRY(ds_config_size_or(n, "_sliding_window_pattern", "attention.sliding_window_pattern", DS_MOST_LAYERS, each, &each, err));
        DS_TRY(ds_config_size_or(n, "sliding_window_pattern", "attention.sliding_window_pattern", DS_MOST_LAYERS, each, &each, err));
        for (uint32_t l = 0; l < c->layers; l++)
            if ((l + 1) % each) ds_config_slide(c, l);
    } else if (!found) {
        char key[DS_KEY_MAX];
        return ds_fail(err, DS_ERROR_FORMAT, "%s: %s is missing: it says which layers slide", ds_ckpt_path(n->ckpt),
                       ds_naming_key(n, "layer_types", "attention.sliding_window_pattern", key));
    }
    return ds_config_require_window(n, c, err);
}

/* A rope for each kind of layer: newer files have an object for each, older ones keys of their own for sliding layers. */
static ds_status read_ropes(const struct ds_naming *n, struct ds_model_config *c, struct ds_error *err) {
    char key[DS_KEY_MAX];
    const uint32_t global = c->global_head_dim ? c->global_head_dim : c->head_dim;
    if (is_gguf(n)) {
        DS_TRY(ds_rope_read_gguf(n, c->context, global, &c->rope, err));
        c->local_rope = (struct ds_rope_config){.n_rot = c->head_dim, .max_context = c->context};
        int64_t turning;
        DS_TRY(ds_ckpt_int_or(n->ckpt, ds_naming_key(n, "", "rope.dimension_count_swa", key), c->head_dim, c->head_dim, c->head_dim, &turning, err));
        return ds_ckpt_real_or(n->ckpt, ds_naming_key(n, "", "rope.freq_base_swa", key), 1.0, 1e12, 10000.0, &c->local_rope.theta, err);
    }
    if (ds_ckpt_value(n->ckpt, ds_naming_key(n, "rope_parameters.full_attention.rope_type", "", key)) ||
        ds_ckpt_value(n->ckpt, ds_naming_key(n, "rope_parameters.full_attention.rope_theta", "", key))) {
        DS_TRY(ds_rope_read_json(n, "rope_parameters.full_attention", "rope_theta", 1e6, c->context, global, &c->rope, err));
        return ds_rope_read_json(n, "rope_parameters.sliding_attention", "rope_local_base_freq", 1e4, c->context, c->head_dim, &c->local_rope, err);
    }
    DS_TRY(ds_rope_read_json(n, "rope_scaling", "rope_theta", 1e6, c->context, global, &c->rope, err));
    c->local_rope = (struct ds_rope_config){.n_rot = c->head_dim, .max_context = c->context};
    return ds_ckpt_real_or(n->ckpt, ds_naming_key(n, "rope_local_base_freq", "", key), 1.0, 1e12, 1e4, &c->local_rope.theta, err);
}

/* --- Gemma 3 --- */

/* GGUF does not say how scores are scaled; the 27B (62 layers) alone differs from 1 / sqrt(head_dim). */
static ds_status read_attention_scale(const struct ds_naming *n, struct ds_model_config *c, struct ds_error *err) {
    float scalar;
    if (is_gguf(n)) {
        DS_TRY(ds_config_real_or_none(n, "", "attention.scale", &c->attention_scale, err));
        if (c->attention_scale == 0 && c->layers == 62) c->attention_scale = ds_div(1.0f, ds_sqrt((float)(c->hidden / c->heads)));
        return DS_OK;
    }
    DS_TRY(ds_config_real_or_none(n, "query_pre_attn_scalar", "", &scalar, err));
    c->attention_scale = ds_div(1.0f, ds_sqrt(scalar > 0 ? scalar : 256.0f));
    return DS_OK;
}

ds_status ds_gemma3_config_read(const struct ds_naming *n, struct ds_model_config *c, struct ds_error *err) {
    enum { GLOBAL_EACH = 6 };
    DS_TRY(read_sizes(n, c, err));
    DS_TRY(ds_config_size_or(n, "num_key_value_heads", "attention.head_count_kv", MOST_HEADS, 4, &c->kv_heads, err));
    DS_TRY(ds_config_size_or(n, "head_dim", "attention.key_length", MOST_HEAD_DIM, 256, &c->head_dim, err));
    DS_TRY(ds_config_size(n, "intermediate_size", "feed_forward_length", DS_MOST_WIDTH, &c->feed_forward, err));
    DS_TRY(ds_config_check_heads(n, c->heads, c->kv_heads, c->head_dim, err));
    DS_TRY(refuse(n, err));
    DS_TRY(read_windows(n, c, GLOBAL_EACH, err));
    DS_TRY(read_attention_scale(n, c, err));
    return read_ropes(n, c, err);
}

/* --- Gemma 4 --- */

/* GGUF: one number, or one for each layer, the same for all layers of a kind. */
static ds_status read_by_kind(const struct ds_naming *n, const char *gguf, int64_t most, const struct ds_model_config *c, uint32_t *sliding,
                              uint32_t *global, struct ds_error *err) {
    char key[DS_KEY_MAX];
    const struct ds_value *value = ds_ckpt_value(n->ckpt, ds_naming_key(n, "", gguf, key));
    if (!value || value->kind != DS_VALUE_ARRAY) {
        DS_TRY(ds_config_size(n, "", gguf, most, sliding, err));
        *global = *sliding;
        return DS_OK;
    }
    const int64_t *values;
    size_t count;
    DS_TRY(ds_ckpt_ints(n->ckpt, key, c->layers, c->layers, 1, most, &values, &count, err));
    *sliding = *global = 0;
    for (uint32_t l = 0; l < c->layers; l++) {
        uint32_t *const kind = ds_config_window(c, l) ? sliding : global;
        if (*kind && *kind != values[l])
            return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: %s[%u] is %lld, for other layers of its kind %u; expected one number a kind", ds_ckpt_path(n->ckpt),
                           key, l, (long long)values[l], *kind);
        *kind = (uint32_t)values[l];
    }
    if (!*sliding) *sliding = *global;
    if (!*global) *global = *sliding;
    return DS_OK;
}

/* Newer folders: "per_layer_config" has what differs from layer to layer. It must be what the layer's kind says. */
static ds_status check_layer_config(const struct ds_naming *n, const struct ds_model_config *c, struct ds_error *err) {
    for (uint32_t l = 0; l < c->layers; l++) {
        const struct ds_kv_shape shape = ds_config_kv_shape(c, l);
        const struct {
            const char *name;
            uint32_t expected;
        } members[] = {{"head_dim", shape.head_dim}, {"num_key_value_heads", shape.kv_heads}, {"intermediate_size", ds_config_feed_forward(c, l)}};
        for (size_t i = 0; i < DS_COUNT(members); i++) {
            char name[64], key[DS_KEY_MAX];
            int64_t value;
            snprintf(name, sizeof name, "per_layer_config.%u.%s", l, members[i].name);
            DS_TRY(ds_ckpt_int_or(n->ckpt, ds_naming_key(n, name, "", key), 1, INT32_MAX, members[i].expected, &value, err));
            if (value != members[i].expected)
                return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: %s is %lld; expected %u, as the other keys say", ds_ckpt_path(n->ckpt), key, (long long)value,
                               members[i].expected);
        }
    }
    return DS_OK;
}

/* The first global layer's member of per_layer_config, or the fallback. */
static ds_status read_global(const struct ds_naming *n, const struct ds_model_config *c, const char *key, const char *member, uint32_t fallback,
                             uint32_t *out, struct ds_error *err) {
    char name[64];
    uint32_t l = 0;
    while (l < c->layers && ds_config_window(c, l)) l++;
    snprintf(name, sizeof name, "per_layer_config.%u.%s", l, member);
    DS_TRY(ds_config_size_or(n, name, "", MOST_HEADS, fallback, out, err));
    return ds_config_size_or(n, key, "", MOST_HEADS, *out, out, err);
}

static ds_status read_shapes_json(const struct ds_naming *n, struct ds_model_config *c, struct ds_error *err) {
    DS_TRY(ds_config_size_or(n, "head_dim", "", MOST_HEAD_DIM, 256, &c->head_dim, err));
    DS_TRY(ds_config_size(n, "num_key_value_heads", "", MOST_HEADS, &c->kv_heads, err));
    DS_TRY(ds_config_size(n, "intermediate_size", "", DS_MOST_WIDTH, &c->feed_forward, err));
    DS_TRY(ds_config_flag(n, "attention_k_eq_v", false, &c->k_eq_v, err));
    DS_TRY(ds_config_flag(n, "use_double_wide_mlp", false, &c->double_wide, err));
    DS_TRY(read_global(n, c, "global_head_dim", "head_dim", c->head_dim, &c->global_head_dim, err));
    c->global_kv_heads = c->kv_heads;
    if (c->k_eq_v) DS_TRY(read_global(n, c, "num_global_key_value_heads", "num_key_value_heads", c->kv_heads, &c->global_kv_heads, err));
    return check_layer_config(n, c, err);
}

static ds_status read_feed_forward_gguf(const struct ds_naming *n, struct ds_model_config *c, struct ds_error *err) {
    char key[DS_KEY_MAX];
    const struct ds_value *value = ds_ckpt_value(n->ckpt, ds_naming_key(n, "", "feed_forward_length", key));
    if (!value || value->kind != DS_VALUE_ARRAY) return ds_config_size(n, "", "feed_forward_length", DS_MOST_WIDTH, &c->feed_forward, err);
    const int64_t *values;
    size_t count;
    DS_TRY(ds_ckpt_ints(n->ckpt, key, c->layers, c->layers, 1, DS_MOST_WIDTH, &values, &count, err));
    c->feed_forward = (uint32_t)values[0];
    c->double_wide = values[count - 1] != values[0];
    for (uint32_t l = 0; l < c->layers; l++)
        if (values[l] != ds_config_feed_forward(c, l))
            return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: %s[%u] is %lld; expected %u, twice as much only in layers that share keys and values",
                           ds_ckpt_path(n->ckpt), key, l, (long long)values[l], ds_config_feed_forward(c, l));
    return DS_OK;
}

static ds_status read_shapes_gguf(const struct ds_naming *n, struct ds_model_config *c, struct ds_error *err) {
    DS_TRY(ds_config_size(n, "", "attention.key_length", MOST_HEAD_DIM, &c->global_head_dim, err));
    DS_TRY(ds_config_size_or(n, "", "attention.key_length_swa", MOST_HEAD_DIM, c->global_head_dim, &c->head_dim, err));
    DS_TRY(read_by_kind(n, "attention.head_count_kv", MOST_HEADS, c, &c->kv_heads, &c->global_kv_heads, err));
    DS_TRY(read_feed_forward_gguf(n, c, err));
    /* A global layer without V makes it of K. */
    for (uint32_t l = 0; l < c->layers - c->shared_layers; l++)
        if (!ds_config_window(c, l)) c->k_eq_v = c->k_eq_v || !ds_naming_has(n, "", "blk.%u.attn_v.weight", l);
    return DS_OK;
}

static ds_status read_experts(const struct ds_naming *n, struct ds_model_config *c, struct ds_error *err) {
    bool on;
    DS_TRY(ds_config_flag(n, "enable_moe_block", is_gguf(n), &on, err));
    if (!on) return DS_OK;
    if (is_gguf(n)) DS_TRY(ds_config_size_or(n, "", "expert_count", DS_MOST_EXPERTS, 0, &c->expert.experts, err));
    else DS_TRY(ds_config_size(n, "num_experts", "", DS_MOST_EXPERTS, &c->expert.experts, err));
    if (!c->expert.experts) return DS_OK;
    DS_TRY(ds_config_size(n, "top_k_experts", "expert_used_count", DS_MIN(c->expert.experts, (uint32_t)DS_MOST_SLOTS), &c->expert.slots, err));
    DS_TRY(ds_config_size(n, "moe_intermediate_size", "expert_feed_forward_length", DS_MOST_WIDTH, &c->expert.feed_forward, err));
    c->expert.normalise = true;
    return DS_OK;
}

/* Shared layers read the last layer of their kind that has keys and values: there must be one. */
static ds_status check_shared(const struct ds_naming *n, const struct ds_model_config *c, struct ds_error *err) {
    for (uint32_t l = c->layers - c->shared_layers; l < c->layers; l++) {
        const uint32_t source = ds_config_kv_shape(c, l).source;
        if (!ds_config_window(c, l) != !ds_config_window(c, source))
            return ds_fail(err, DS_ERROR_FORMAT, "%s: layer %u shares keys and values, but none of the first %u layers is of its kind", ds_ckpt_path(n->ckpt), l,
                           c->layers - c->shared_layers);
    }
    return DS_OK;
}

ds_status ds_gemma4_config_read(const struct ds_naming *n, struct ds_model_config *c, struct ds_error *err) {
    DS_TRY(read_sizes(n, c, err));
    DS_TRY(refuse(n, err));
    DS_TRY(read_windows(n, c, 0, err));
    if (c->layers > 1) DS_TRY(ds_config_size_or(n, "num_kv_shared_layers", "attention.shared_kv_layers", c->layers - 1, 0, &c->shared_layers, err));
    DS_TRY(ds_config_size_or(n, "hidden_size_per_layer_input", "embedding_length_per_layer_input", DS_MOST_WIDTH / 64, 0, &c->per_layer, err));
    DS_TRY(is_gguf(n) ? read_shapes_gguf(n, c, err) : read_shapes_json(n, c, err));
    DS_TRY(ds_config_check_heads(n, c->heads, c->kv_heads, c->head_dim, err));
    DS_TRY(ds_config_check_heads(n, c->heads, c->global_kv_heads, c->global_head_dim, err));
    DS_TRY(check_shared(n, c, err));
    DS_TRY(read_experts(n, c, err));
    c->attention_scale = 1.0f;
    return read_ropes(n, c, err);
}
