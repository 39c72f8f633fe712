/* Hyper-parameters of Qwen3-like models from config.json or GGUF metadata, every one checked for sense. */
#include "model/layer.h"

#include <stdio.h>
#include <string.h>

/* Bounds that no model of this kind passes; they keep every product of two sizes far below 2^63. */
enum { MOST_LAYERS = 1024, MOST_HEADS = 1024, MOST_HEAD_DIM = 1024, MOST_WIDTH = 1 << 20, MOST_CONTEXT = 1 << 26 };

static ds_status read_size(const struct ds_naming *naming, const char *hf, const char *gguf, int64_t most, uint32_t *out,
                           struct ds_error *err) {
    char key[DS_KEY_MAX];
    int64_t value;
    DS_TRY(ds_ckpt_int(naming->ckpt, ds_naming_key(naming, hf, gguf, key), 1, most, &value, err));
    *out = (uint32_t)value;
    return DS_OK;
}

static ds_status read_size_or(const struct ds_naming *naming, const char *hf, const char *gguf, int64_t most, int64_t fallback,
                              uint32_t *out, struct ds_error *err) {
    char key[DS_KEY_MAX];
    int64_t value;
    DS_TRY(ds_ckpt_int_or(naming->ckpt, ds_naming_key(naming, hf, gguf, key), 1, most, fallback, &value, err));
    *out = (uint32_t)value;
    return DS_OK;
}

static ds_status read_sizes(const struct ds_naming *naming, struct ds_model_config *c, struct ds_error *err) {
    DS_TRY(read_size(naming, "hidden_size", "embedding_length", MOST_WIDTH, &c->hidden, err));
    DS_TRY(read_size(naming, "num_hidden_layers", "block_count", MOST_LAYERS, &c->layers, err));
    DS_TRY(read_size(naming, "num_attention_heads", "attention.head_count", MOST_HEADS, &c->heads, err));
    DS_TRY(read_size_or(naming, "num_key_value_heads", "attention.head_count_kv", MOST_HEADS, c->heads, &c->kv_heads, err));
    DS_TRY(read_size_or(naming, "head_dim", "attention.key_length", MOST_HEAD_DIM, DS_MAX(c->hidden / c->heads, 1), &c->head_dim, err));
    DS_TRY(read_size(naming, "intermediate_size", "feed_forward_length", MOST_WIDTH, &c->feed_forward, err));
    DS_TRY(read_size(naming, "max_position_embeddings", "context_length", MOST_CONTEXT, &c->context, err));
    char key[DS_KEY_MAX];
    double eps;
    DS_TRY(ds_ckpt_real(naming->ckpt, ds_naming_key(naming, "rms_norm_eps", "attention.layer_norm_rms_epsilon", key), 0.0, 1.0, &eps, err));
    c->rms_eps = (float)eps;
    if (c->heads % c->kv_heads)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: %u attention heads cannot be shared by %u key/value heads; expected a multiple",
                       ds_ckpt_path(naming->ckpt), c->heads, c->kv_heads);
    if (c->head_dim % 2)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: head_dim is %u; rotary embedding needs an even number", ds_ckpt_path(naming->ckpt),
                       c->head_dim);
    return DS_OK;
}

/* What must be absent or off because it changes the result and is not implemented for these models. */
static ds_status refuse_unknown(const struct ds_naming *naming, struct ds_error *err) {
    if (ds_ckpt_get_format(naming->ckpt) != DS_CKPT_SAFETENSORS) return DS_OK;
    const char *const path = ds_ckpt_path(naming->ckpt);
    bool flag;
    DS_TRY(ds_ckpt_bool_or(naming->ckpt, "attention_bias", false, &flag, err));
    if (flag) return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: attention_bias is true; only projections without bias are supported here", path);
    DS_TRY(ds_ckpt_bool_or(naming->ckpt, "use_sliding_window", false, &flag, err));
    if (flag) return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: use_sliding_window is true; only full attention is supported here", path);
    const char *activation;
    DS_TRY(ds_ckpt_string_or(naming->ckpt, "hidden_act", "silu", &activation, err));
    if (strcmp(activation, "silu") != 0)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: hidden_act is '%s'; expected 'silu'", path, activation);
    return DS_OK;
}

/* The object that holds rope settings: new files `rope_parameters`, older ones `rope_scaling` with a top-level rope_theta. */
static const char *rope_object(const struct ds_ckpt *ckpt) {
    return ds_ckpt_value(ckpt, "rope_parameters.rope_theta") || ds_ckpt_value(ckpt, "rope_parameters.rope_type") ? "rope_parameters"
                                                                                                                : "rope_scaling";
}

struct rope_reader {
    const struct ds_ckpt *ckpt;
    const char *prefix; /* "rope_parameters", "rope_scaling" or "<arch>.rope.scaling" */
};

static ds_status rope_real(const struct rope_reader *reader, const char *name, double fallback, double *out, struct ds_error *err) {
    char key[2 * DS_KEY_MAX];
    snprintf(key, sizeof key, "%s.%s", reader->prefix, name);
    return ds_ckpt_real_or(reader->ckpt, key, -1e9, 1e9, fallback, out, err);
}

static ds_status rope_kind(const struct rope_reader *reader, const char *name, enum ds_rope_kind *kind, struct ds_error *err) {
    static const struct {
        const char *name;
        enum ds_rope_kind kind;
    } kinds[] = {{"default", DS_ROPE_NONE}, {"none", DS_ROPE_NONE}, {"linear", DS_ROPE_LINEAR}, {"yarn", DS_ROPE_YARN}};
    for (size_t i = 0; i < DS_COUNT(kinds); i++) {
        if (strcmp(name, kinds[i].name) == 0) {
            *kind = kinds[i].kind;
            return DS_OK;
        }
    }
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: rope scaling '%s' (under %s) is not supported for this model; expected default, linear or yarn",
                   ds_ckpt_path(reader->ckpt), name, reader->prefix);
}

static ds_status read_scaling(const struct ds_naming *naming, struct ds_model_config *c, struct ds_error *err) {
    struct ds_rope_config *rope = &c->rope;
    const bool gguf = ds_ckpt_get_format(naming->ckpt) == DS_CKPT_GGUF;
    char prefix[DS_KEY_MAX], key[2 * DS_KEY_MAX];
    if (gguf) snprintf(prefix, sizeof prefix, "%s.rope.scaling", naming->gguf_arch);
    else snprintf(prefix, sizeof prefix, "%s", rope_object(naming->ckpt));
    const struct rope_reader reader = {naming->ckpt, prefix};

    const char *type;
    snprintf(key, sizeof key, "%s.type", prefix);
    DS_TRY(ds_ckpt_string_or(naming->ckpt, key, "none", &type, err));
    if (!gguf) {
        snprintf(key, sizeof key, "%s.rope_type", prefix);
        DS_TRY(ds_ckpt_string_or(naming->ckpt, key, type, &type, err));
    }
    DS_TRY(rope_kind(&reader, type, &rope->kind, err));
    if (rope->kind == DS_ROPE_NONE) return DS_OK;

    DS_TRY(rope_real(&reader, "factor", 0.0, &rope->factor, err));
    if (!(rope->factor > 0))
        return ds_fail(err, DS_ERROR_FORMAT, "%s: %s.factor is missing or not positive; '%s' rope scaling needs it",
                       ds_ckpt_path(naming->ckpt), prefix, type);
    double original;
    DS_TRY(rope_real(&reader, gguf ? "original_context_length" : "original_max_position_embeddings", (double)c->context, &original, err));
    if (!(original >= 1))
        return ds_fail(err, DS_ERROR_FORMAT, "%s: %s: the original context is %g positions; expected at least 1",
                       ds_ckpt_path(naming->ckpt), prefix, original);
    rope->original_context = (uint32_t)DS_MIN(original, (double)MOST_CONTEXT);
    DS_TRY(rope_real(&reader, gguf ? "yarn_beta_fast" : "beta_fast", 32.0, &rope->beta_fast, err));
    DS_TRY(rope_real(&reader, gguf ? "yarn_beta_slow" : "beta_slow", 1.0, &rope->beta_slow, err));
    if (!gguf) {
        DS_TRY(rope_real(&reader, "attention_factor", 0.0, &rope->attention_factor, err));
        DS_TRY(rope_real(&reader, "mscale", 0.0, &rope->mscale, err));
        DS_TRY(rope_real(&reader, "mscale_all_dim", 0.0, &rope->mscale_all_dim, err));
        snprintf(key, sizeof key, "%s.truncate", prefix);
        bool truncate;
        DS_TRY(ds_ckpt_bool_or(naming->ckpt, key, true, &truncate, err));
        rope->no_truncate = !truncate;
    }
    return DS_OK;
}

static ds_status read_rope(const struct ds_naming *naming, struct ds_model_config *c, struct ds_error *err) {
    c->rope = (struct ds_rope_config){.n_rot = c->head_dim, .kind = DS_ROPE_NONE, .max_context = c->context};
    char key[DS_KEY_MAX];
    const char *hf = ds_ckpt_value(naming->ckpt, "rope_parameters.rope_theta") ? "rope_parameters.rope_theta" : "rope_theta";
    DS_TRY(ds_ckpt_real_or(naming->ckpt, ds_naming_key(naming, hf, "rope.freq_base", key), 1.0, 1e12, 10000.0, &c->rope.theta, err));
    return read_scaling(naming, c, err);
}

ds_status ds_config_read(const struct ds_naming *naming, struct ds_model_config *config, struct ds_error *err) {
    DS_TRY(read_sizes(naming, config, err));
    DS_TRY(refuse_unknown(naming, err));
    return read_rope(naming, config, err);
}

/* --- stop tokens --- */

static ds_status add_stop(const struct ds_ckpt *ckpt, int64_t id, int32_t stops[DS_MAX_STOPS], uint32_t *count, struct ds_error *err) {
    if (id < 0 || id > INT32_MAX) return ds_fail(err, DS_ERROR_FORMAT, "%s: stop token %lld is not a token id", ds_ckpt_path(ckpt), (long long)id);
    for (uint32_t i = 0; i < *count; i++)
        if (stops[i] == id) return DS_OK;
    if (*count == DS_MAX_STOPS)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: more than %d different stop tokens", ds_ckpt_path(ckpt), DS_MAX_STOPS);
    stops[(*count)++] = (int32_t)id;
    return DS_OK;
}

/* generation_config.json comes first: where it names stop tokens, they are the model's own choice of all of them. */
ds_status ds_config_stops(const struct ds_ckpt *ckpt, int32_t stops[DS_MAX_STOPS], uint32_t *count, struct ds_error *err) {
    static const char *const keys[] = {"generation_config.eos_token_id", "eos_token_id",
                                       "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    *count = 0;
    for (size_t k = 0; k < DS_COUNT(keys); k++) {
        const struct ds_value *value = ds_ckpt_value(ckpt, keys[k]);
        if (!value || value->kind == DS_VALUE_NULL) continue;
        if (value->kind == DS_VALUE_INT) {
            DS_TRY(add_stop(ckpt, value->integer, stops, count, err));
        } else if (value->kind == DS_VALUE_ARRAY && value->element == DS_VALUE_INT) {
            for (size_t i = 0; i < value->length; i++) DS_TRY(add_stop(ckpt, ((const int64_t *)value->array)[i], stops, count, err));
        } else {
            return ds_fail(err, DS_ERROR_FORMAT, "%s: %s is neither a token id nor a list of them", ds_ckpt_path(ckpt), keys[k]);
        }
    }
    return DS_OK;
}
