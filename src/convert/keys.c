/* General keys and hyper-parameters. From a GGUF file they are taken over as they are; from config.json they are made. */
#include "convert/convert_internal.h"

#include <stdio.h>
#include <string.h>

static ds_status add_text(struct ds_conversion *c, const char *key, const char *text, struct ds_error *err) {
    return ds_gguf_add_string(c->writer, key, text, strlen(text), err);
}

static const char *arch_key(const struct ds_conversion *c, const char *name, char key[DS_KEY_MAX]) {
    snprintf(key, DS_KEY_MAX, "%s.%s", c->arch, name);
    return key;
}

static ds_status add_size(struct ds_conversion *c, const char *name, uint32_t value, struct ds_error *err) {
    char key[DS_KEY_MAX];
    return ds_gguf_add_u32(c->writer, arch_key(c, name, key), value, err);
}

static ds_status add_real(struct ds_conversion *c, const char *name, double value, struct ds_error *err) {
    char key[DS_KEY_MAX];
    return ds_gguf_add_f32(c->writer, arch_key(c, name, key), (float)value, err);
}

/* --- from config.json --- */

/* The last part of the path: "models/tiny/target/" is "target". */
static ds_status add_name(struct ds_conversion *c, struct ds_error *err) {
    const char *path = ds_ckpt_path(c->source);
    size_t end = strlen(path);
    while (end > 0 && path[end - 1] == '/') end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/') begin--;
    if (end == begin) return DS_OK;
    return ds_gguf_add_string(c->writer, "general.name", path + begin, end - begin, err);
}

static ds_status add_rope(struct ds_conversion *c, struct ds_error *err) {
    const struct ds_rope_config *rope = &c->config.rope;
    char key[DS_KEY_MAX];
    DS_TRY(add_real(c, "rope.freq_base", rope->theta, err));
    if ((double)(float)rope->theta != rope->theta)
        ds_logf(&c->log, DS_LOG_WARNING, "rope_theta %.17g becomes %.9g: GGUF keeps it in 32 bits", rope->theta, (double)(float)rope->theta);
    if (rope->kind == DS_ROPE_NONE) return DS_OK;
    if (rope->kind == DS_ROPE_LLAMA3 && strcmp(c->arch, "llama") == 0) return DS_OK; /* the tensor rope_freqs.weight */
    if (rope->kind != DS_ROPE_YARN && rope->kind != DS_ROPE_LINEAR)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: this rope scaling has no place in a GGUF file of architecture %s", ds_ckpt_path(c->source), c->arch);
    if (rope->attention_factor != 0 || rope->mscale != 0 || rope->mscale_all_dim != 0 || rope->no_truncate)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: rope settings attention_factor, mscale, mscale_all_dim and truncate: false have no place in GGUF",
                       ds_ckpt_path(c->source));
    DS_TRY(add_text(c, arch_key(c, "rope.scaling.type", key), rope->kind == DS_ROPE_YARN ? "yarn" : "linear", err));
    DS_TRY(add_real(c, "rope.scaling.factor", rope->factor, err));
    DS_TRY(add_size(c, "rope.scaling.original_context_length", rope->original_context, err));
    if (rope->kind != DS_ROPE_YARN) return DS_OK;
    DS_TRY(add_real(c, "rope.scaling.yarn_beta_fast", rope->beta_fast, err));
    return add_real(c, "rope.scaling.yarn_beta_slow", rope->beta_slow, err);
}

static ds_status add_sizes(struct ds_conversion *c, struct ds_error *err) {
    const struct ds_model_config *config = &c->config;
    DS_TRY(add_size(c, "block_count", config->layers, err));
    DS_TRY(add_size(c, "context_length", config->context, err));
    DS_TRY(add_size(c, "embedding_length", config->hidden, err));
    DS_TRY(add_size(c, "feed_forward_length", config->feed_forward, err));
    DS_TRY(add_size(c, "attention.head_count", config->heads, err));
    DS_TRY(add_size(c, "attention.head_count_kv", config->kv_heads, err));
    DS_TRY(add_size(c, "attention.key_length", config->head_dim, err));
    DS_TRY(add_size(c, "attention.value_length", config->head_dim, err));
    DS_TRY(add_real(c, "attention.layer_norm_rms_epsilon", (double)config->rms_eps, err));
    DS_TRY(add_rope(c, err));
    return ds_convert_family_keys(c, err);
}

/* Taps are one higher here than in DeepSpec's files: "the input of layer k". */
static ds_status add_taps(struct ds_conversion *c, struct ds_error *err) {
    const int64_t *ids;
    size_t count;
    int32_t taps[DS_MAX_TAPS];
    char key[DS_KEY_MAX];
    DS_TRY(ds_ckpt_ints(c->source, "target_layer_ids", 1, DS_MAX_TAPS, -1, INT32_MAX - 1, &ids, &count, err));
    for (size_t i = 0; i < count; i++) taps[i] = (int32_t)(ids[i] + 1);
    return ds_gguf_add_i32s(c->writer, arch_key(c, "target_layers", key), taps, count, err);
}

static ds_status add_drafter(struct ds_conversion *c, struct ds_error *err) {
    char key[DS_KEY_MAX];
    int64_t value;
    bool from_anchor;
    DS_TRY(ds_ckpt_int(c->source, "block_size", 1, 64, &value, err));
    DS_TRY(add_size(c, "block_size", (uint32_t)value, err));
    DS_TRY(add_taps(c, err));
    DS_TRY(ds_ckpt_bool_or(c->source, "sample_from_anchor", true, &from_anchor, err));
    DS_TRY(ds_gguf_add_bool(c->writer, arch_key(c, "sample_from_anchor", key), from_anchor, err));
    if (c->head_type && strcmp(c->head_type, "vanilla") != 0) DS_TRY(add_text(c, "dspark.markov_head_type", c->head_type, err));
    DS_TRY(ds_ckpt_int(c->source, "mask_token_id", 0, (int64_t)c->config.vocabulary - 1, &value, err));
    return ds_gguf_add_u32(c->writer, "tokenizer.ggml.mask_token_id", (uint32_t)value, err);
}

/* --- from GGUF --- */

/* Keys about the file itself; ours are different. */
static bool is_about_file(const char *key) {
    static const char *const own[] = {"general.alignment", "general.file_type", "general.quantization_version"};
    for (size_t i = 0; i < DS_COUNT(own); i++)
        if (strcmp(key, own[i]) == 0) return true;
    return strncmp(key, "split.", 6) == 0;
}

static ds_status copy_keys(struct ds_conversion *c, struct ds_error *err) {
    for (size_t i = 0; i < ds_ckpt_value_count(c->source); i++) {
        const struct ds_value *value = ds_ckpt_value_at(c->source, i);
        if (!is_about_file(value->key)) DS_TRY(ds_gguf_add_stored(c->writer, value->key, value, err));
    }
    return DS_OK;
}

ds_status ds_convert_keys(struct ds_conversion *c, struct ds_error *err) {
    if (ds_ckpt_get_format(c->source) == DS_CKPT_GGUF) {
        DS_TRY(copy_keys(c, err));
    } else {
        DS_TRY(add_text(c, "general.architecture", c->arch, err));
        DS_TRY(add_text(c, "general.type", "model", err));
        DS_TRY(add_name(c, err));
        DS_TRY(add_sizes(c, err));
        if (c->is_drafter) DS_TRY(add_drafter(c, err));
    }
    DS_TRY(ds_gguf_add_u32(c->writer, "general.quantization_version", 2, err));
    DS_TRY(ds_gguf_add_u32(c->writer, "general.file_type", c->recipe->file_type, err));
    return ds_convert_packing_keys(c, err);
}
