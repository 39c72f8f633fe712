/*
 * A random Qwen3 target and a DSpark drafter for it, of a few kilobytes, made up by a test: as configuration and list of
 * tensors that a test may change before they are written as a folder.
 */
#ifndef DSPARK_TESTS_TINY_MODEL_H
#define DSPARK_TESTS_TINY_MODEL_H

#include "check.h"
#include "ckpt/checkpoint.h"

#include <jansson.h>

enum { TINY_HIDDEN = 32, TINY_LAYERS = 3, TINY_HEADS = 4, TINY_KV_HEADS = 2, TINY_HEAD_DIM = 16, TINY_WIDTH = 48, TINY_VOCABULARY = 80,
       TINY_BLOCK = 4, TINY_RANK = 8, TINY_TAPS = 2 };

struct tiny_tensor {
    char name[64];
    uint32_t dims;
    uint64_t shape[2];
    ds_type type;
    uint32_t seed; /* equal seeds, types and shapes: equal bytes */
    const int64_t *values; /* I64: what it holds; NULL: made up */
};

struct tiny_model {
    json_t *config; /* owned */
    struct tiny_tensor tensors[64];
    size_t count;
};

static inline struct tiny_tensor *tiny_add(struct tiny_model *m, const char *name, uint32_t dims, uint64_t rows, uint64_t cols) {
    assert_true(m->count < DS_COUNT(m->tensors));
    struct tiny_tensor *t = &m->tensors[m->count];
    *t = (struct tiny_tensor){.dims = dims, .shape = {rows, cols}, .type = DS_TYPE_BF16, .seed = (uint32_t)m->count + 1};
    snprintf(t->name, sizeof t->name, "%s", name);
    m->count++;
    return t;
}

static inline struct tiny_tensor *tiny_find(struct tiny_model *m, const char *name) {
    for (size_t i = 0; i < m->count; i++)
        if (strcmp(m->tensors[i].name, name) == 0) return &m->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static inline void tiny_drop(struct tiny_model *m, const char *name) {
    struct tiny_tensor *dropped = tiny_find(m, name);
    *dropped = m->tensors[--m->count];
}

static inline void tiny_set(struct tiny_model *m, const char *key, json_t *value) {
    assert_int_equal(json_object_set_new(m->config, key, value), 0);
}

static inline void tiny_add_layers(struct tiny_model *m, const char *prefix, uint32_t layers) {
    static const struct {
        const char *name;
        uint32_t dims, rows, cols;
    } parts[] = {{"input_layernorm", 1, TINY_HIDDEN, 1},
                 {"self_attn.q_proj", 2, TINY_HEADS *TINY_HEAD_DIM, TINY_HIDDEN},
                 {"self_attn.k_proj", 2, TINY_KV_HEADS *TINY_HEAD_DIM, TINY_HIDDEN},
                 {"self_attn.v_proj", 2, TINY_KV_HEADS *TINY_HEAD_DIM, TINY_HIDDEN},
                 {"self_attn.o_proj", 2, TINY_HIDDEN, TINY_HEADS *TINY_HEAD_DIM},
                 {"self_attn.q_norm", 1, TINY_HEAD_DIM, 1},
                 {"self_attn.k_norm", 1, TINY_HEAD_DIM, 1},
                 {"post_attention_layernorm", 1, TINY_HIDDEN, 1},
                 {"mlp.gate_proj", 2, TINY_WIDTH, TINY_HIDDEN},
                 {"mlp.up_proj", 2, TINY_WIDTH, TINY_HIDDEN},
                 {"mlp.down_proj", 2, TINY_HIDDEN, TINY_WIDTH}};
    for (uint32_t l = 0; l < layers; l++) {
        for (size_t i = 0; i < DS_COUNT(parts); i++) {
            char name[64];
            snprintf(name, sizeof name, "%slayers.%u.%s.weight", prefix, l, parts[i].name);
            tiny_add(m, name, parts[i].dims, parts[i].rows, parts[i].cols);
        }
    }
}

static inline json_t *tiny_config(const char *architecture, int layers) {
    json_t *config = json_pack("{s:[s], s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:i, s:f}", "architectures", architecture,
                               "hidden_size", TINY_HIDDEN, "num_hidden_layers", layers, "num_attention_heads", TINY_HEADS,
                               "num_key_value_heads", TINY_KV_HEADS, "head_dim", TINY_HEAD_DIM, "intermediate_size", TINY_WIDTH,
                               "max_position_embeddings", 512, "vocab_size", TINY_VOCABULARY, "rms_norm_eps", 1e-6, "eos_token_id", 7,
                               "rope_theta", 10000.0);
    assert_non_null(config);
    return config;
}

enum { TINY_EMBEDDING_SEED = 1000 };

static inline struct tiny_model tiny_target(void) {
    struct tiny_model m = {.config = tiny_config("Qwen3ForCausalLM", TINY_LAYERS)};
    tiny_set(&m, "tie_word_embeddings", json_true());
    tiny_add(&m, "model.embed_tokens.weight", 2, TINY_VOCABULARY, TINY_HIDDEN)->seed = TINY_EMBEDDING_SEED;
    tiny_add(&m, "model.norm.weight", 1, TINY_HIDDEN, 1);
    tiny_add_layers(&m, "model.", TINY_LAYERS);
    return m;
}

/* With its own copy of the target's embedding, as drafters are published. */
static inline struct tiny_model tiny_drafter(void) {
    struct tiny_model m = {.config = tiny_config("Qwen3DSparkModel", 1)};
    tiny_set(&m, "block_size", json_integer(TINY_BLOCK));
    tiny_set(&m, "mask_token_id", json_integer(TINY_VOCABULARY - 1));
    tiny_set(&m, "target_layer_ids", json_pack("[i, i]", 0, 1));
    tiny_set(&m, "num_target_layers", json_integer(TINY_LAYERS));
    tiny_set(&m, "markov_rank", json_integer(TINY_RANK));
    tiny_set(&m, "markov_head_type", json_string("vanilla"));
    tiny_set(&m, "enable_confidence_head", json_true());
    tiny_add(&m, "embed_tokens.weight", 2, TINY_VOCABULARY, TINY_HIDDEN)->seed = TINY_EMBEDDING_SEED;
    tiny_add(&m, "fc.weight", 2, TINY_HIDDEN, TINY_TAPS * TINY_HIDDEN);
    tiny_add(&m, "hidden_norm.weight", 1, TINY_HIDDEN, 1);
    tiny_add(&m, "norm.weight", 1, TINY_HIDDEN, 1);
    tiny_add(&m, "markov_head.markov_w1.weight", 2, TINY_VOCABULARY, TINY_RANK);
    tiny_add(&m, "markov_head.markov_w2.weight", 2, TINY_VOCABULARY, TINY_RANK);
    tiny_add(&m, "confidence_head.proj.weight", 2, 1, TINY_HIDDEN + TINY_RANK);
    tiny_add(&m, "confidence_head.proj.bias", 1, 1, 1);
    tiny_add_layers(&m, "", 1);
    return m;
}

/* Matrices spread around 0, vectors around 1; as upper halves of floats, so that bf16 and f32 files hold the same values. */
static inline uint16_t tiny_value(uint32_t *state, uint32_t dims) {
    *state = *state * 1664525u + 1013904223u;
    const float unit = (float)(int32_t)(*state >> 8) / 8388608.0f - 1.0f; /* [-1, 1) */
    const float value = dims == 2 ? 0.6f * unit : 1.0f + 0.2f * unit;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static inline void *tiny_data(const struct tiny_tensor *t) {
    const size_t count = (size_t)(t->shape[0] * t->shape[1]), size = ds_type_get(t->type)->bytes;
    uint8_t *data = calloc(count, size);
    assert_non_null(data);
    if (t->values) {
        memcpy(data, t->values, count * size);
        return data;
    }
    uint32_t state = t->seed * 2654435761u;
    for (size_t i = 0; i < count; i++) {
        const uint16_t value = tiny_value(&state, t->dims);
        memcpy(data + i * size + (size == 2 ? 0 : size - 2), &value, sizeof value);
    }
    return data;
}

static inline void tiny_write_tensors(const struct tiny_model *m, const char *path) {
    struct ds_safetensors_array arrays[DS_COUNT(m->tensors)];
    void *data[DS_COUNT(m->tensors)];
    for (size_t i = 0; i < m->count; i++) {
        const struct tiny_tensor *t = &m->tensors[i];
        data[i] = tiny_data(t);
        arrays[i] = (struct ds_safetensors_array){
            .name = t->name, .type = t->type, .dims = t->dims, .shape = {t->shape[0], t->shape[1]}, .data = data[i]};
    }
    struct ds_error err;
    check_ok(ds_safetensors_write(path, arrays, m->count, &err), &err);
    for (size_t i = 0; i < m->count; i++) free(data[i]);
}

/* Writes the model as a fresh folder, which the caller removes with check_remove_folder, and frees its configuration. */
static inline char *tiny_write(struct tiny_model *m) {
    char *folder = check_make_folder();
    char *config = json_dumps(m->config, 0);
    assert_non_null(config);
    check_write_text(folder, "config.json", config);
    free(config);
    json_decref(m->config);
    m->config = NULL;
    char *path = ds_os_join(folder, "model.safetensors");
    assert_non_null(path);
    tiny_write_tensors(m, path);
    free(path);
    return folder;
}

#endif
