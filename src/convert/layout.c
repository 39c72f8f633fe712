/*
 * A drafter's folder: model.safetensors under Hugging Face's names and the config.json of DeepSpec or of speculators. What the two
 * call things, and from where taps count: docs/formats.md.
 */
#include "base/json.h"
#include "base/quote.h"
#include "convert/convert_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

ds_status ds_convert_layout_find(struct ds_conversion *c, struct ds_error *err) {
    static const char *const names[] = {[DS_LAYOUT_GGUF] = "gguf", [DS_LAYOUT_DEEPSPEC] = "deepspec", [DS_LAYOUT_SPECULATORS] = "speculators"};
    const char *name = c->params->layout ? c->params->layout : "gguf";
    if (strcmp(name, "packed") == 0) name = "gguf"; /* packed.c sees to the rest */
    size_t i = 0;
    while (i < DS_COUNT(names) && strcmp(names[i], name) != 0) i++;
    if (i == DS_COUNT(names))
        return ds_fail(err, DS_ERROR_ARGUMENT, "layout '%s' is not known; expected gguf, packed, deepspec or speculators", ds_quote_name(name).text);
    c->layout = (int)i;
    const ds_type type = c->recipe->type;
    if (i == DS_LAYOUT_GGUF || type == DS_TYPE_F32 || type == DS_TYPE_F16 || type == DS_TYPE_BF16) return DS_OK;
    return ds_fail(err, DS_ERROR_ARGUMENT, "a folder holds f32, bf16 or f16, not %s; quantised drafters are GGUF files", c->recipe->name);
}

/* Every tensor has the type asked for, norms too: what was widened for GGUF is as it was before. */
ds_status ds_convert_layout_plan(struct ds_conversion *c, struct ds_error *err) {
    (void)err;
    for (size_t i = 0; i < c->n_items; i++) {
        c->items[i].type = c->recipe->type;
        c->items[i].name = c->items[i].hf;
    }
    return DS_OK;
}

/* --- config.json: a part for which memory is out becomes NULL, which jansson's setters refuse; dumping tells --- */

/* The decimal fraction that people wrote, where it is the same f32. */
static json_t *real_of(float value) {
    char text[32];
    snprintf(text, sizeof text, "%.7g", (double)value);
    const double shorter = strtod(text, NULL);
    return json_real((float)shorter == value ? shorter : (double)value);
}

static json_t *rope_of(const struct ds_rope_config *rope) {
    json_t *object = json_pack("{s:f, s:s}", "rope_theta", rope->theta, "rope_type", rope->kind == DS_ROPE_YARN ? "yarn" : rope->kind == DS_ROPE_LINEAR ? "linear" : "default");
    if (rope->kind == DS_ROPE_NONE) return object;
    json_object_set_new(object, "factor", json_real(rope->factor));
    json_object_set_new(object, "original_max_position_embeddings", json_integer(rope->original_context));
    if (rope->kind != DS_ROPE_YARN) return object;
    json_object_set_new(object, "beta_fast", json_real(rope->beta_fast));
    json_object_set_new(object, "beta_slow", json_real(rope->beta_slow));
    if (rope->attention_factor != 0) json_object_set_new(object, "attention_factor", json_real(rope->attention_factor));
    if (rope->mscale != 0) json_object_set_new(object, "mscale", json_real(rope->mscale));
    if (rope->mscale_all_dim != 0) json_object_set_new(object, "mscale_all_dim", json_real(rope->mscale_all_dim));
    if (rope->no_truncate) json_object_set_new(object, "truncate", json_false());
    return object;
}

static json_t *sizes_of(const struct ds_conversion *c) {
    const struct ds_model_config *m = &c->config;
    json_t *types = json_array();
    for (uint32_t l = 0; l < m->layers; l++) json_array_append_new(types, json_string("full_attention"));
    json_t *object = json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:b, s:b, s:o, s:o}", "model_type", "qwen3", "hidden_size", (int)m->hidden,
                               "intermediate_size", (int)m->feed_forward, "num_hidden_layers", (int)m->layers, "num_attention_heads", (int)m->heads,
                               "num_key_value_heads", (int)m->kv_heads, "head_dim", (int)m->head_dim, "vocab_size", (int)m->vocabulary,
                               "max_position_embeddings", (int)m->context, "hidden_act", "silu", "attention_bias", 0, "tie_word_embeddings", 0,
                               "layer_types", types, "rope_parameters", rope_of(&m->rope));
    json_object_set_new(object, "rms_norm_eps", real_of(m->rms_eps));
    json_object_set_new(object, "dtype", json_string(c->recipe->type == DS_TYPE_F32 ? "float32" : c->recipe->type == DS_TYPE_F16 ? "float16" : "bfloat16"));
    return object;
}

static bool has_item(const struct ds_conversion *c, const char *name) {
    for (size_t i = 0; i < c->n_items; i++)
        if (strcmp(c->items[i].name, name) == 0) return true;
    return false;
}

/* Taps of the output count from `base`: 0 in DeepSpec's files, 1 in speculators'. */
static ds_status add_block(const struct ds_conversion *c, json_t *object, const char *taps_key, int64_t base, struct ds_error *err) {
    const bool gguf = ds_ckpt_get_format(c->source) == DS_CKPT_GGUF;
    const int64_t from = gguf ? 1 : 0;
    int64_t block, mask;
    const int64_t *taps;
    size_t count;
    DS_TRY(ds_ckpt_int(c->source, gguf ? "dflash.block_size" : "block_size", 1, 64, &block, err));
    DS_TRY(ds_ckpt_int(c->source, gguf ? "tokenizer.ggml.mask_token_id" : "mask_token_id", 0, (int64_t)c->config.vocabulary - 1, &mask, err));
    DS_TRY(ds_ckpt_ints(c->source, gguf ? "dflash.target_layers" : "target_layer_ids", 1, DS_MAX_TAPS, -1 + from, INT32_MAX - 1, &taps, &count, err));
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) json_array_append_new(list, json_integer(taps[i] - from + base));
    json_object_set_new(object, taps_key, list);
    json_object_set_new(object, "block_size", json_integer(block));
    json_object_set_new(object, "mask_token_id", json_integer(mask));
    json_object_set_new(object, "markov_rank", json_integer(c->rank));
    if (c->head_type) json_object_set_new(object, "markov_head_type", json_string(c->head_type));
    json_object_set_new(object, "enable_confidence_head", json_boolean(has_item(c, "confidence_head.proj.weight")));
    if (c->rank) json_object_set_new(object, "confidence_head_with_markov", json_boolean(c->confidence_with_markov));
    return DS_OK;
}

/* Whether the anchor's slot predicts; DeepSpec's files cannot say no. */
static ds_status read_anchor(const struct ds_conversion *c, bool *out, struct ds_error *err) {
    const bool gguf = ds_ckpt_get_format(c->source) == DS_CKPT_GGUF;
    DS_TRY(ds_ckpt_bool_or(c->source, gguf ? "dflash.sample_from_anchor" : "sample_from_anchor", true, out, err));
    if (*out || c->layout == DS_LAYOUT_SPECULATORS) return DS_OK;
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: sample_from_anchor is false, which DeepSpec's layout cannot state", ds_ckpt_path(c->source));
}

static ds_status make_deepspec(const struct ds_conversion *c, json_t **out, struct ds_error *err) {
    bool from_anchor;
    DS_TRY(read_anchor(c, &from_anchor, err));
    *out = sizes_of(c);
    json_object_set_new(*out, "architectures", json_pack("[s]", "Qwen3DSparkModel"));
    int64_t layers = c->target_layers;
    if (!layers && ds_ckpt_get_format(c->source) == DS_CKPT_SAFETENSORS) DS_TRY(ds_ckpt_int_or(c->source, "num_target_layers", 1, INT32_MAX, 0, &layers, err));
    if (layers) json_object_set_new(*out, "num_target_layers", json_integer(layers));
    return add_block(c, *out, "target_layer_ids", 0, err);
}

static ds_status make_speculators(const struct ds_conversion *c, json_t **out, struct ds_error *err) {
    const char *kind = c->rank ? "dspark" : "dflash";
    bool from_anchor;
    DS_TRY(read_anchor(c, &from_anchor, err));
    *out = json_pack("{s:s, s:{s:s, s:[{s:s}], s:{s:n}}, s:o, s:i, s:i, s:b, s:b, s:b}", "speculators_model_type", kind, "speculators_config", "algorithm", kind,
                     "proposal_methods", "proposal_type", "greedy", "verifier", "name_or_path", "transformer_layer_config", sizes_of(c), "draft_vocab_size",
                     (int)c->config.vocabulary, "target_hidden_size", (int)c->config.hidden, "sample_from_anchor", from_anchor, "sliding_window_non_causal", 0,
                     "tie_word_embeddings", 0);
    return add_block(c, *out, "aux_hidden_state_layer_ids", 1, err);
}

static ds_status write_config(const struct ds_conversion *c, struct ds_error *err) {
    json_t *object = NULL;
    ds_status status = c->layout == DS_LAYOUT_DEEPSPEC ? make_deepspec(c, &object, err) : make_speculators(c, &object, err);
    char *path = ds_os_join(c->params->output, "config.json"), *text = status == DS_OK ? json_dumps(object, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(17)) : NULL;
    if (status == DS_OK && (!path || !text)) status = ds_fail_memory(err, 0, "config.json");
    struct ds_os_writer writer = {.fd = -1};
    if (status == DS_OK) status = ds_os_write_begin(path, &writer, err);
    if (status == DS_OK) status = ds_os_write(&writer, text, strlen(text), err);
    if (status == DS_OK) status = ds_os_write_commit(&writer, err);
    free(text);
    free(path);
    json_decref(object);
    return status;
}

/* --- files --- */

ds_status ds_convert_layout_begin(struct ds_conversion *c, struct ds_error *err) {
    struct ds_safetensors_array *arrays = ds_arena_array(&c->arena, c->n_items, sizeof *arrays);
    if (!arrays) return ds_fail_memory(err, c->n_items * sizeof *arrays, "a list of tensors");
    for (size_t i = 0; i < c->n_items; i++) {
        arrays[i] = (struct ds_safetensors_array){.name = c->items[i].name, .type = c->items[i].type, .dims = c->items[i].dims};
        memcpy(arrays[i].shape, c->items[i].shape, sizeof arrays[i].shape);
    }
    DS_TRY(ds_os_make_folder(c->params->output, &c->made_folder, err));
    char *path = ds_os_join(c->params->output, "model.safetensors");
    if (!path) return ds_fail_memory(err, 0, "a path");
    const ds_status status = ds_safetensors_begin(path, arrays, c->n_items, &c->file, err);
    free(path);
    return status;
}

/* The tensors last: a folder without them is nothing, one without a configuration would be refused. */
ds_status ds_convert_layout_commit(struct ds_conversion *c, struct ds_error *err) {
    DS_TRY(write_config(c, err));
    return ds_os_write_commit(&c->file, err);
}
