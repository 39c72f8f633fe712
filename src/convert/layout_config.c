/*
 * config.json of a drafter's folder, as DeepSpec or speculators write it. A part for which memory is out becomes NULL, which jansson's setters
 * refuse; dumping tells. What a layout cannot state is refused.
 */
#include "base/json.h"
#include "convert/convert_internal.h"
#include "model/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The decimal fraction that people wrote, where it is the same f32. */
static json_t *real_of(float value) {
    char text[32];
    snprintf(text, sizeof text, "%.7g", (double)value);
    const double shorter = strtod(text, NULL);
    return json_real((float)shorter == value ? shorter : (double)value);
}

static void set(json_t *object, const char *key, json_t *value) { json_object_set_new(object, key, value); }
static void set_int(json_t *object, const char *key, uint32_t value) { set(object, key, json_integer(value)); }

/* --- rope --- */

static json_t *rope_of(const struct ds_rope_config *rope) {
    static const char *const types[] = {[DS_ROPE_NONE] = "default", [DS_ROPE_LINEAR] = "linear", [DS_ROPE_YARN] = "yarn", [DS_ROPE_LLAMA3] = "llama3",
                                        [DS_ROPE_PROPORTIONAL] = "proportional"};
    json_t *object = json_pack("{s:f, s:s}", "rope_theta", rope->theta, "rope_type", types[rope->kind]);
    if (rope->kind == DS_ROPE_NONE) return object;
    if (rope->kind == DS_ROPE_PROPORTIONAL) {
        set(object, "partial_rotary_factor", json_real(2.0 * rope->n_pairs / rope->n_rot));
        if (rope->factor != 1) set(object, "factor", json_real(rope->factor));
        return object;
    }
    set(object, "factor", json_real(rope->factor));
    set_int(object, "original_max_position_embeddings", rope->original_context);
    if (rope->kind == DS_ROPE_LLAMA3) {
        set(object, "low_freq_factor", json_real(rope->low_freq_factor));
        set(object, "high_freq_factor", json_real(rope->high_freq_factor));
    }
    if (rope->kind != DS_ROPE_YARN) return object;
    set(object, "beta_fast", json_real(rope->beta_fast));
    set(object, "beta_slow", json_real(rope->beta_slow));
    if (rope->attention_factor != 0) set(object, "attention_factor", json_real(rope->attention_factor));
    if (rope->mscale != 0) set(object, "mscale", json_real(rope->mscale));
    if (rope->mscale_all_dim != 0) set(object, "mscale_all_dim", json_real(rope->mscale_all_dim));
    if (rope->no_truncate) set(object, "truncate", json_false());
    return object;
}

/* A GGUF file's factors: 1 for pairs that turn, then so large that pairs do not; others are a scaling that has lost its parameters. */
static ds_status read_rope(const struct ds_conversion *c, struct ds_rope_config *rope, struct ds_error *err) {
    *rope = c->config->rope;
    const struct ds_ckpt_tensor *factors = ds_ckpt_find(c->source, "rope_freqs.weight");
    if (!factors) return DS_OK;
    const uint32_t pairs = rope->n_rot / 2;
    float *values = malloc(pairs * sizeof *values);
    if (!values) return ds_fail_memory(err, pairs * sizeof *values, "rope factors");
    const bool readable = factors->dims == 1 && factors->shape[0] == pairs && factors->type == DS_TYPE_F32;
    uint32_t turning = 0, i = 0;
    if (readable) memcpy(values, factors->data, pairs * sizeof *values);
    while (readable && turning < pairs && values[turning] == 1.0f) turning++;
    for (i = turning; readable && i < pairs && values[i] >= 1e20f; i++) continue;
    free(values);
    if (!readable || i < pairs || turning == 0 || rope->kind != DS_ROPE_NONE)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor 'rope_freqs.weight' scales frequencies in a way that config.json cannot state", ds_ckpt_path(c->source));
    if (turning == pairs) return DS_OK;
    rope->kind = DS_ROPE_PROPORTIONAL;
    rope->n_pairs = turning;
    rope->factor = 1;
    return DS_OK;
}

/* --- layers --- */

static json_t *layer_types_of(const struct ds_model_config *m) {
    json_t *types = json_array();
    for (uint32_t l = 0; l < m->layers; l++) json_array_append_new(types, json_string(ds_config_window(m, l) ? "sliding_attention" : "full_attention"));
    return types;
}

static void add_plain_layers(const struct ds_conversion *c, json_t *object, const struct ds_rope_config *rope) {
    const struct ds_model_config *m = c->config;
    set(object, "model_type", json_string(m->qk_norm ? "qwen3" : "llama"));
    set_int(object, "num_key_value_heads", m->kv_heads);
    set_int(object, "head_dim", m->head_dim);
    set(object, "hidden_act", json_string("silu"));
    set(object, "attention_bias", json_boolean(m->o_bias));
    if (m->mlp_bias) set(object, "mlp_bias", json_true());
    set(object, "rope_parameters", rope_of(rope));
    if (!m->window) return;
    set(object, "use_sliding_window", json_true());
    set_int(object, "sliding_window", m->window);
}

static void add_gemma_layers(const struct ds_conversion *c, json_t *object, const struct ds_rope_config *rope) {
    const struct ds_model_config *m = c->config;
    set(object, "model_type", json_string("gemma4_text"));
    set_int(object, "num_key_value_heads", m->kv_heads);
    set_int(object, "num_global_key_value_heads", m->global_kv_heads);
    set_int(object, "head_dim", m->head_dim);
    set_int(object, "global_head_dim", m->global_head_dim);
    set(object, "hidden_activation", json_string("gelu_pytorch_tanh"));
    set(object, "attention_bias", json_false());
    set(object, "attention_k_eq_v", json_boolean(m->k_eq_v));
    set(object, "enable_moe_block", json_false());
    set_int(object, "hidden_size_per_layer_input", 0);
    set_int(object, "num_kv_shared_layers", 0);
    if (m->logit_softcap > 0) set(object, "final_logit_softcapping", real_of(m->logit_softcap));
    if (m->attention_softcap > 0) set(object, "attn_logit_softcapping", real_of(m->attention_softcap));
    set(object, "rope_parameters", json_pack("{s:o}", "full_attention", rope_of(rope)));
}

static ds_status add_layers(const struct ds_conversion *c, json_t *object, struct ds_error *err) {
    const struct ds_model_config *m = c->config;
    struct ds_rope_config rope;
    DS_TRY(read_rope(c, &rope, err));
    if (m->qkv_bias != m->o_bias)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: q, k and v have biases and the output has none, or the other way round; config.json has one key for both (attention_bias)",
                       ds_ckpt_path(c->source));
    set_int(object, "hidden_size", m->hidden);
    set_int(object, "intermediate_size", m->feed_forward);
    set_int(object, "num_hidden_layers", m->layers);
    set_int(object, "num_attention_heads", m->heads);
    set_int(object, "vocab_size", m->vocabulary);
    set_int(object, "max_position_embeddings", m->context);
    set(object, "rms_norm_eps", real_of(m->rms_eps));
    set(object, "tie_word_embeddings", json_false());
    set(object, "layer_types", layer_types_of(m));
    set(object, "dtype", json_string(c->recipe->type == DS_TYPE_F32 ? "float32" : c->recipe->type == DS_TYPE_F16 ? "float16" : "bfloat16"));
    if (c->draft->gemma) add_gemma_layers(c, object, &rope);
    else add_plain_layers(c, object, &rope);
    return DS_OK;
}

/* --- the drafter --- */

/* Taps of the output count from `base`: 0 in DeepSpec's files, 1 in speculators'. */
static json_t *taps_of(const struct ds_draft_model *draft, int32_t base) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < draft->n_taps; i++) json_array_append_new(list, json_integer(draft->tap_layers[i] + base));
    return list;
}

static void add_block(const struct ds_draft_model *draft, json_t *object) {
    static const char *const heads[] = {[DS_MARKOV_VANILLA] = "vanilla", [DS_MARKOV_GATED] = "gated", [DS_MARKOV_RNN] = "rnn"};
    set_int(object, "block_size", draft->block_rows);
    set(object, "mask_token_id", json_integer(draft->mask_token));
    set_int(object, "markov_rank", draft->markov_rank);
    if (draft->markov != DS_MARKOV_NONE) set(object, "markov_head_type", json_string(heads[draft->markov]));
    set(object, "enable_confidence_head", json_boolean(draft->has_confidence));
    if (draft->has_confidence) set(object, "confidence_head_with_markov", json_boolean(draft->confidence_with_markov));
}

static ds_status refuse(const struct ds_conversion *c, const char *what, const char *layout, struct ds_error *err) {
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: %s, which %s layout cannot state", ds_ckpt_path(c->source), what, layout);
}

static ds_status check_deepspec(const struct ds_conversion *c, struct ds_error *err) {
    const struct ds_draft_model *draft = c->draft;
    static const char name[] = "DeepSpec's";
    if (draft->block_size != draft->block_rows) return refuse(c, "sample_from_anchor is false", name, err);
    if (draft->vocabulary_map) return refuse(c, "the vocabulary is reduced (d2t)", name, err);
    if (draft->causal_windows) return refuse(c, "sliding layers are causal within a block", name, err);
    if (draft->norm_before_residual) return refuse(c, "norm_before_residual is true", name, err);
    if (draft->norm_before_fc) return refuse(c, "norm_before_fc is true", name, err);
    if (draft->target_hidden != draft->config.hidden) return refuse(c, "the hidden size is not the target's", name, err);
    return draft->config.qk_norm ? DS_OK : refuse(c, "q and k have no norms", name, err);
}

static ds_status make_deepspec(const struct ds_conversion *c, json_t **out, struct ds_error *err) {
    const struct ds_draft_model *draft = c->draft;
    const bool steps = draft->arch->steps;
    DS_TRY(check_deepspec(c, err));
    *out = json_object();
    DS_TRY(add_layers(c, *out, err));
    const char *name = draft->gemma ? (steps ? "Gemma4Eagle3Model" : "Gemma4DSparkModel") : steps ? "Qwen3Eagle3Model" : "Qwen3DSparkModel";
    set(*out, "architectures", json_pack("[s]", name));
    set(*out, "target_layer_ids", taps_of(draft, 0));
    int64_t layers = c->model ? c->model->config.layers : 0;
    if (!layers && !ds_convert_from_gguf(c)) DS_TRY(ds_ckpt_int_or(c->source, "num_target_layers", 1, INT32_MAX, 0, &layers, err));
    if (layers) set(*out, "num_target_layers", json_integer(layers));
    if (!steps) {
        add_block(draft, *out);
        return DS_OK;
    }
    set_int(*out, "ttt_length", draft->block_size);
    set_int(*out, "draft_num_hidden_layers", draft->config.layers);
    return DS_OK;
}

static ds_status make_speculators(const struct ds_conversion *c, json_t **out, struct ds_error *err) {
    const struct ds_draft_model *draft = c->draft;
    const char *kind = draft->arch->name;
    if (draft->gemma) return refuse(c, "its layers are Gemma 4's", "speculators'", err);
    json_t *layers = json_object();
    *out = json_pack("{s:s, s:{s:s, s:[{s:s, s:i}], s:{s:n}}, s:o, s:i, s:i, s:b}", "speculators_model_type", kind, "speculators_config", "algorithm", kind,
                     "proposal_methods", "proposal_type", "greedy", "speculative_tokens", (int)draft->block_size, "verifier", "name_or_path",
                     "transformer_layer_config", layers, "draft_vocab_size", (int)draft->draft_vocabulary, "target_hidden_size", (int)draft->target_hidden,
                     "tie_word_embeddings", 0);
    DS_TRY(add_layers(c, layers, err));
    set(*out, draft->arch->steps ? "eagle_aux_hidden_state_layer_ids" : "aux_hidden_state_layer_ids", taps_of(draft, 1));
    if (draft->arch->steps) {
        enum { USUAL_STEPS = 7 };
        set(*out, "norm_before_residual", json_boolean(draft->norm_before_residual));
        set(*out, "norm_before_fc", json_boolean(draft->norm_before_fc));
        if (draft->block_size != USUAL_STEPS)
            ds_logf(&c->log, DS_LOG_WARNING, "the drafter was made for %u steps; speculators' files leave the number to the runtime (dspark: %d)",
                    draft->block_size, USUAL_STEPS);
        return DS_OK;
    }
    add_block(draft, *out);
    set(*out, "sample_from_anchor", json_boolean(draft->block_size == draft->block_rows));
    set(*out, "sliding_window_non_causal", json_boolean(draft->config.window && !draft->causal_windows));
    return DS_OK;
}

ds_status ds_convert_layout_config(const struct ds_conversion *c, char **out, struct ds_error *err) {
    json_t *object = NULL;
    ds_status status = c->layout == DS_LAYOUT_DEEPSPEC ? make_deepspec(c, &object, err) : make_speculators(c, &object, err);
    *out = status == DS_OK ? json_dumps(object, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(17)) : NULL;
    if (status == DS_OK && !*out) status = ds_fail_memory(err, 0, "config.json");
    json_decref(object);
    return status;
}
