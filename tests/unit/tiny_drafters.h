/*
 * Drafters of every kind for tiny_target(), and one model in several dialects: folders of DeepSpec, of DFlash and of speculators,
 * and GGUF. What they draft is compared, so that what is not drawn from random numbers here is how a dialect says it.
 */
#ifndef DSPARK_TESTS_TINY_DRAFTERS_H
#define DSPARK_TESTS_TINY_DRAFTERS_H

#include "ckpt/gguf_writer.h"
#include "tiny_model.h"

enum { TINY_STEPS = 7 };

/* DFlash as DeepSpec writes it: no heads. */
static inline struct tiny_model tiny_dflash(void) {
    struct tiny_model m = tiny_drafter();
    static const char *const heads[] = {"markov_head.markov_w1.weight", "markov_head.markov_w2.weight", "confidence_head.proj.weight",
                                        "confidence_head.proj.bias"};
    for (size_t i = 0; i < DS_COUNT(heads); i++) tiny_drop(&m, heads[i]);
    tiny_set(&m, "markov_rank", json_integer(0));
    tiny_set(&m, "enable_confidence_head", json_false());
    json_object_del(m.config, "markov_head_type");
    return m;
}

static inline struct tiny_model tiny_gated(void) {
    struct tiny_model m = tiny_drafter();
    tiny_set(&m, "markov_head_type", json_string("gated"));
    tiny_add(&m, "markov_head.gate_proj.weight", 2, TINY_RANK, TINY_HIDDEN + TINY_RANK);
    tiny_add(&m, "markov_head.gate_proj.bias", 1, TINY_RANK, 1);
    return m;
}

static inline struct tiny_model tiny_rnn(void) {
    struct tiny_model m = tiny_drafter();
    tiny_set(&m, "markov_head_type", json_string("rnn"));
    tiny_add(&m, "markov_head.joint_proj.weight", 2, 3 * TINY_RANK, 2 * TINY_RANK + TINY_HIDDEN);
    tiny_add(&m, "markov_head.joint_proj.bias", 1, 3 * TINY_RANK, 1);
    return m;
}

/* DeepSpec's Eagle3 with three taps (the embedding twice), and an untied head of its own. */
static inline struct tiny_model tiny_eagle3(void) {
    struct tiny_model m = {.config = tiny_config("Qwen3Eagle3Model", 1)};
    tiny_set(&m, "ttt_length", json_integer(TINY_STEPS)); /* what other dialects, which do not say it, have */
    tiny_set(&m, "target_layer_ids", json_pack("[i, i, i]", -1, 0, 1));
    tiny_set(&m, "num_target_layers", json_integer(TINY_LAYERS));
    tiny_add(&m, "embed_tokens.weight", 2, TINY_VOCABULARY, TINY_HIDDEN)->seed = TINY_EMBEDDING_SEED;
    tiny_add(&m, "lm_head.weight", 2, TINY_VOCABULARY, TINY_HIDDEN);
    tiny_add(&m, "fc.weight", 2, TINY_HIDDEN, 3 * TINY_HIDDEN);
    tiny_add(&m, "norm.weight", 1, TINY_HIDDEN, 1);
    tiny_add_layers(&m, "", 1);
    tiny_find(&m, "layers.0.self_attn.q_proj.weight")->shape[1] = 2 * TINY_HIDDEN;
    tiny_find(&m, "layers.0.self_attn.k_proj.weight")->shape[1] = 2 * TINY_HIDDEN;
    tiny_find(&m, "layers.0.self_attn.v_proj.weight")->shape[1] = 2 * TINY_HIDDEN;
    tiny_add(&m, "layers.0.hidden_norm.weight", 1, TINY_HIDDEN, 1);
    return m;
}

/* --- the same in speculators' layout --- */

static inline void tiny_move(json_t *from, json_t *to, const char *key) {
    json_t *value = json_object_get(from, key);
    if (!value) return;
    assert_int_equal(json_object_set(to, key, value), 0);
    json_object_del(from, key);
}

/* `type`: "dspark", "dflash" or "eagle3". Taps go up by one; what describes layers moves into an object of its own. */
static inline void tiny_to_speculators(struct tiny_model *m, const char *type) {
    static const char *const moved[] = {"hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size",
                                        "max_position_embeddings", "vocab_size", "rms_norm_eps", "rope_theta"};
    json_t *layer = json_object(), *taps = json_array(), *tap;
    size_t i;
    for (i = 0; i < DS_COUNT(moved); i++) tiny_move(m->config, layer, moved[i]);
    json_object_set_new(layer, "model_type", json_string("qwen3"));
    json_array_foreach(json_object_get(m->config, "target_layer_ids"), i, tap) json_array_append_new(taps, json_integer(json_integer_value(tap) + 1));
    json_object_del(m->config, "target_layer_ids");
    json_object_del(m->config, "num_target_layers");
    tiny_set(m, strcmp(type, "eagle3") == 0 ? "eagle_aux_hidden_state_layer_ids" : "aux_hidden_state_layer_ids", taps);
    if (strcmp(type, "eagle3") == 0) tiny_set(m, "norm_before_residual", json_false());
    else tiny_set(m, "sample_from_anchor", json_true());
    tiny_set(m, "transformer_layer_config", layer);
    tiny_set(m, "speculators_model_type", json_string(type));
    tiny_set(m, "speculators_config", json_pack("{s:s}", "algorithm", type));
}

/* --- the same as GGUF --- */

struct tiny_gguf {
    struct ds_gguf_writer *writer;
    const char *arch;
    struct ds_error err;
};

static inline void tiny_gguf_u32(struct tiny_gguf *g, const char *name, int64_t value) {
    char key[96];
    snprintf(key, sizeof key, "%s.%s", g->arch, name);
    check_ok(ds_gguf_add_u32(g->writer, key, (uint32_t)value, &g->err), &g->err);
}

static inline int64_t tiny_int(const struct tiny_model *m, const char *key) { return json_integer_value(json_object_get(m->config, key)); }

static inline void tiny_gguf_keys(struct tiny_gguf *g, const struct tiny_model *m) {
    static const char *const sizes[][2] = {{"block_count", "num_hidden_layers"}, {"context_length", "max_position_embeddings"}, {"embedding_length", "hidden_size"},
                                           {"feed_forward_length", "intermediate_size"}, {"attention.head_count", "num_attention_heads"},
                                           {"attention.head_count_kv", "num_key_value_heads"}, {"attention.key_length", "head_dim"},
                                           {"attention.value_length", "head_dim"}};
    char key[96];
    int32_t taps[16];
    size_t n = 0, i;
    json_t *tap;
    check_ok(ds_gguf_add_string(g->writer, "general.architecture", g->arch, strlen(g->arch), &g->err), &g->err);
    for (i = 0; i < DS_COUNT(sizes); i++) tiny_gguf_u32(g, sizes[i][0], tiny_int(m, sizes[i][1]));
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", g->arch);
    check_ok(ds_gguf_add_f32(g->writer, key, 1e-6f, &g->err), &g->err);
    snprintf(key, sizeof key, "%s.rope.freq_base", g->arch);
    check_ok(ds_gguf_add_f32(g->writer, key, 10000.0f, &g->err), &g->err);
    json_array_foreach(json_object_get(m->config, "target_layer_ids"), i, tap) taps[n++] = (int32_t)json_integer_value(tap) + 1;
    snprintf(key, sizeof key, "%s.target_layers", g->arch);
    check_ok(ds_gguf_add_i32s(g->writer, key, taps, n, &g->err), &g->err);
    if (strcmp(g->arch, "eagle3") == 0) {
        tiny_gguf_u32(g, "target_hidden_size", TINY_HIDDEN);
        check_ok(ds_gguf_add_bool(g->writer, "eagle3.norm_before_residual", false, &g->err), &g->err);
        return;
    }
    tiny_gguf_u32(g, "block_size", tiny_int(m, "block_size"));
    check_ok(ds_gguf_add_u32(g->writer, "tokenizer.ggml.mask_token_id", (uint32_t)tiny_int(m, "mask_token_id"), &g->err), &g->err);
    const char *type = json_string_value(json_object_get(m->config, "markov_head_type"));
    if (type) check_ok(ds_gguf_add_string(g->writer, "dspark.markov_head_type", type, strlen(type), &g->err), &g->err);
}

/* A name of DeepSpec's in GGUF. */
static inline const char *tiny_gguf_name(const char *hf, char name[96]) {
    static const char *const names[][2] = {{"embed_tokens", "token_embd"}, {"lm_head", "output"}, {"fc", "fc"}, {"hidden_norm", "enc.output_norm"},
        {"norm", "output_norm"}, {"markov_head.markov_w1", "markov_w1"}, {"markov_head.markov_w2", "markov_w2"},
        {"markov_head.gate_proj", "markov_gate"}, {"markov_head.joint_proj", "markov_joint"}, {"confidence_head.proj", "conf_proj"}, {"d2t", "d2t"},
        {"layers.0.input_layernorm", "blk.0.attn_norm"}, {"layers.0.hidden_norm", "blk.0.attn_norm_2"}, {"layers.0.post_attention_layernorm", "blk.0.ffn_norm"},
        {"layers.0.self_attn.q_proj", "blk.0.attn_q"}, {"layers.0.self_attn.k_proj", "blk.0.attn_k"}, {"layers.0.self_attn.v_proj", "blk.0.attn_v"},
        {"layers.0.self_attn.o_proj", "blk.0.attn_output"}, {"layers.0.self_attn.q_norm", "blk.0.attn_q_norm"}, {"layers.0.self_attn.k_norm", "blk.0.attn_k_norm"},
        {"layers.0.mlp.gate_proj", "blk.0.ffn_gate"}, {"layers.0.mlp.up_proj", "blk.0.ffn_up"}, {"layers.0.mlp.down_proj", "blk.0.ffn_down"}};
    for (size_t i = 0; i < DS_COUNT(names); i++) {
        const size_t n = strlen(names[i][0]);
        if (strncmp(hf, names[i][0], n) != 0 || (hf[n] != '.' && hf[n] != '\0')) continue;
        snprintf(name, 96, "%s%s", names[i][1], hf + n);
        return name;
    }
    fail_msg("no GGUF name for %s", hf);
    return NULL;
}

/* GGUF has rotary pairs of an Eagle3 drafter side by side: row i of a head's first half goes to 2i, of its second half to 2i + 1. */
static inline void tiny_interleave(const struct tiny_tensor *t, uint8_t *data) {
    const size_t row = (size_t)t->shape[1] * ds_type_get(t->type)->bytes, half = TINY_HEAD_DIM / 2;
    uint8_t head[TINY_HEAD_DIM * 2 * TINY_HIDDEN * 4];
    assert_true(TINY_HEAD_DIM * row <= sizeof head);
    for (size_t first = 0; first < t->shape[0]; first += TINY_HEAD_DIM) {
        uint8_t *at = data + first * row;
        memcpy(head, at, TINY_HEAD_DIM * row);
        for (size_t i = 0; i < TINY_HEAD_DIM; i++) memcpy(at + (i < half ? 2 * i : 2 * (i - half) + 1) * row, head + i * row, row);
    }
}

static inline bool tiny_rotates(const char *name) { return strstr(name, "q_proj") || strstr(name, "k_proj") || strstr(name, "q_norm") || strstr(name, "k_norm"); }

/* Frees the model's configuration; the path is freed by the caller. */
static inline char *tiny_write_gguf(struct tiny_model *m, const char *folder, const char *arch) {
    struct tiny_gguf g = {.writer = ds_gguf_writer_create(), .arch = arch};
    char name[96], *path = ds_os_join(folder, "drafter.gguf");
    assert_non_null(g.writer);
    tiny_gguf_keys(&g, m);
    for (size_t i = 0; i < m->count; i++) {
        const struct tiny_tensor *t = &m->tensors[i];
        check_ok(ds_gguf_add_tensor(g.writer, tiny_gguf_name(t->name, name), t->type, t->dims, t->shape, &g.err), &g.err);
    }
    check_ok(ds_gguf_begin(g.writer, path, &g.err), &g.err);
    for (size_t i = 0; i < m->count; i++) {
        const struct tiny_tensor *t = &m->tensors[i];
        uint8_t *data = tiny_data(t);
        if (strcmp(arch, "eagle3") == 0 && tiny_rotates(t->name)) {
            struct tiny_tensor rows = *t;
            if (t->dims == 1) rows.shape[1] = 1;
            tiny_interleave(&rows, data);
        }
        check_ok(ds_gguf_write(g.writer, data, (size_t)(t->shape[0] * t->shape[1]) * ds_type_get(t->type)->bytes, &g.err), &g.err);
        free(data);
    }
    check_ok(ds_gguf_commit(g.writer, &g.err), &g.err);
    ds_gguf_writer_destroy(g.writer);
    json_decref(m->config);
    m->config = NULL;
    return path;
}

#endif
