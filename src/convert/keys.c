/* General keys and hyper-parameters. From a GGUF file they are taken over as they are; from config.json they are made. */
#include "convert/convert_internal.h"

#include <stdio.h>
#include <string.h>

const char *ds_convert_key(const struct ds_conversion *c, const char *name, char key[DS_KEY_MAX]) {
    snprintf(key, DS_KEY_MAX, "%s.%s", c->arch, name);
    return key;
}

ds_status ds_convert_add_size(struct ds_conversion *c, const char *name, uint32_t value, struct ds_error *err) {
    char key[DS_KEY_MAX];
    return ds_gguf_add_u32(c->writer, ds_convert_key(c, name, key), value, err);
}

ds_status ds_convert_add_real(struct ds_conversion *c, const char *name, double value, struct ds_error *err) {
    char key[DS_KEY_MAX];
    return ds_gguf_add_f32(c->writer, ds_convert_key(c, name, key), (float)value, err);
}

ds_status ds_convert_add_text(struct ds_conversion *c, const char *name, const char *text, struct ds_error *err) {
    char key[DS_KEY_MAX];
    return ds_gguf_add_string(c->writer, ds_convert_key(c, name, key), text, strlen(text), err);
}

ds_status ds_convert_add_flag(struct ds_conversion *c, const char *name, bool value, struct ds_error *err) {
    char key[DS_KEY_MAX];
    return ds_gguf_add_bool(c->writer, ds_convert_key(c, name, key), value, err);
}

static ds_status add_text(struct ds_conversion *c, const char *key, const char *text, struct ds_error *err) {
    return ds_gguf_add_string(c->writer, key, text, strlen(text), err);
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

static ds_status add_sizes(struct ds_conversion *c, struct ds_error *err) {
    const struct ds_model_config *config = c->config;
    DS_TRY(ds_convert_add_size(c, "block_count", config->layers, err));
    DS_TRY(ds_convert_add_size(c, "context_length", config->context, err));
    DS_TRY(ds_convert_add_size(c, "embedding_length", config->hidden, err));
    DS_TRY(ds_convert_add_size(c, "attention.head_count", config->heads, err));
    DS_TRY(ds_convert_add_real(c, "attention.layer_norm_rms_epsilon", (double)config->rms_eps, err));
    DS_TRY(ds_convert_rope_keys(c, err));
    return ds_convert_family_keys(c, err);
}

/* --- of drafters --- */

/* Taps are one higher here than where layers are counted by their outputs: "the input of layer k". */
static ds_status add_taps(struct ds_conversion *c, struct ds_error *err) {
    const struct ds_draft_model *draft = c->draft;
    int32_t taps[DS_MAX_TAPS];
    char key[DS_KEY_MAX];
    for (uint32_t i = 0; i < draft->n_taps; i++) taps[i] = draft->tap_layers[i] + 1;
    return ds_gguf_add_i32s(c->writer, ds_convert_key(c, "target_layers", key), taps, draft->n_taps, err);
}

static ds_status add_block(struct ds_conversion *c, struct ds_error *err) {
    static const char *const heads[] = {[DS_MARKOV_GATED] = "gated", [DS_MARKOV_RNN] = "rnn"};
    const struct ds_draft_model *draft = c->draft;
    DS_TRY(ds_convert_add_size(c, "block_size", draft->block_rows, err));
    DS_TRY(add_taps(c, err));
    DS_TRY(ds_convert_add_flag(c, "sample_from_anchor", draft->block_size == draft->block_rows, err));
    if (draft->markov == DS_MARKOV_GATED || draft->markov == DS_MARKOV_RNN) DS_TRY(add_text(c, "dspark.markov_head_type", heads[draft->markov], err));
    if (draft->causal_windows) DS_TRY(ds_gguf_add_bool(c->writer, "dspark.sliding_window_causal", true, err));
    return ds_gguf_add_u32(c->writer, "tokenizer.ggml.mask_token_id", (uint32_t)draft->mask_token, err);
}

/* Steps are the runtime's choice in GGUF, and taps three: a file that has others says so in a key of ours. */
static ds_status add_steps(struct ds_conversion *c, struct ds_error *err) {
    enum { USUAL_STEPS = 7, USUAL_TAPS = 3 };
    const struct ds_draft_model *draft = c->draft;
    DS_TRY(add_taps(c, err));
    DS_TRY(ds_convert_add_size(c, "target_hidden_size", draft->target_hidden, err));
    DS_TRY(ds_convert_add_flag(c, "norm_before_residual", draft->norm_before_residual, err));
    DS_TRY(ds_convert_add_flag(c, "norm_before_fc", draft->norm_before_fc, err));
    if (draft->n_taps != USUAL_TAPS)
        ds_logf(&c->log, DS_LOG_WARNING, "this Eagle3 taps %u layers: other runtimes read GGUF files with 3 and will refuse it", draft->n_taps);
    if (draft->n_taps == USUAL_TAPS && draft->block_size == USUAL_STEPS) return DS_OK;
    return ds_gguf_add_u32(c->writer, "dspark.ttt_length", draft->block_size, err);
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
        if (c->draft) DS_TRY(c->draft->arch->steps ? add_steps(c, err) : add_block(c, err));
    }
    DS_TRY(ds_gguf_add_u32(c->writer, "general.quantization_version", 2, err));
    DS_TRY(ds_gguf_add_u32(c->writer, "general.file_type", c->recipe->file_type, err));
    return ds_convert_packing_keys(c, err);
}
