/*
 * The pre-norm decoder layer of Qwen, Llama and their relatives, shared by targets and drafters: RMS norms, grouped-query
 * attention with optional q/k norms per head, biases and sliding window, rotary embedding, gated feed-forward.
 */
#ifndef DSPARK_MODEL_LAYER_H
#define DSPARK_MODEL_LAYER_H

#include "model/model.h"

/*
 * --- names and configuration keys of both containers ---
 * A tensor or key has one name in Hugging Face's files and one in GGUF; `prefix` is put in front of the former ("model." or
 * "") or, with a dot, of a GGUF key ("qwen3").
 */
struct ds_naming {
    const struct ds_ckpt *ckpt;
    const char *hf_prefix;
    const char *gguf_arch;
    const char *hf_keys; /* in front of keys of config.json, "text_config." in those of multimodal models; NULL: nothing */
};

/* The tensor with this shape, or an error; the names may hold one %u for the layer. */
ds_status ds_naming_tensor(const struct ds_naming *naming, const char *hf, const char *gguf, uint32_t layer, uint32_t dims,
                           const uint64_t *shape, const struct ds_ckpt_tensor **out, struct ds_error *err);
const struct ds_ckpt_tensor *ds_naming_find(const struct ds_naming *naming, const char *hf, const char *gguf, uint32_t layer); /* NULL: absent */
bool ds_naming_has(const struct ds_naming *naming, const char *hf, const char *gguf, uint32_t layer);
/* Matrix [rows, cols] or vector [n] straight into a loader. */
ds_status ds_naming_matrix(const struct ds_naming *naming, struct ds_loader *loader, const char *hf, const char *gguf, uint32_t layer,
                           uint32_t rows, uint32_t cols, struct ds_weight *out, struct ds_error *err);
/* The matrix has so many rows; those of `list` [n] are wanted (ds_loader_rows), or all where list is NULL. */
ds_status ds_naming_rows(const struct ds_naming *naming, struct ds_loader *loader, const char *hf, const char *gguf, uint32_t rows, uint32_t cols,
                         const int32_t *list, uint32_t n, struct ds_weight *out, struct ds_error *err);
ds_status ds_naming_vector(const struct ds_naming *naming, struct ds_loader *loader, const char *hf, const char *gguf, uint32_t layer,
                           uint32_t n, struct ds_slice *out, struct ds_error *err);

/* The key to look up: "<hf>" or "<arch>.<gguf>", written into `key`. */
enum { DS_KEY_MAX = 192 };
const char *ds_naming_key(const struct ds_naming *naming, const char *hf, const char *gguf, char key[DS_KEY_MAX]);

/* Sizes, eps and rope of a Qwen3-like configuration (vocabulary and `tied` excepted), each checked for sense. */
ds_status ds_config_read(const struct ds_naming *naming, struct ds_model_config *config, struct ds_error *err);
/* The same for a relative of Qwen3. What the family has that the file does not say: */
struct ds_family {
    bool qk_norm;
    bool qkv_bias;    /* q, k and v have a bias without a key that says so */
    bool window;      /* `sliding_window` is in force without a key that says so */
    bool interleaved; /* rotary pairs of its GGUF files lie side by side */
};
ds_status ds_config_read_family(const struct ds_naming *naming, const struct ds_family *family, struct ds_model_config *config,
                                struct ds_error *err);
/* Token ids that end a generation: eos in config.json and generation_config.json, or in GGUF metadata. */
ds_status ds_config_stops(const struct ds_ckpt *ckpt, int32_t stops[DS_MAX_STOPS], uint32_t *count, struct ds_error *err);

/* --- the layer --- */

/* A tensor of a layer, for all who read or write them. */
struct ds_layer_tensor {
    const char *hf, *gguf; /* names with one %u for the layer */
    uint32_t rows, cols;   /* a matrix [rows, cols]; rows 0: a vector [cols] */
    size_t offset;         /* of its ds_weight or ds_slice in struct ds_layer */
};
enum { DS_LAYER_TENSORS = 18 };
/* Fills `out` with those that the configuration has; returns how many. */
uint32_t ds_layer_tensors(const struct ds_model_config *config, struct ds_layer_tensor out[DS_LAYER_TENSORS]);

ds_status ds_layer_load(struct ds_layer *layer, const struct ds_model_config *config, const struct ds_naming *naming, uint32_t index,
                        struct ds_loader *loader, struct ds_error *err);

/* Without the feed-forward's matrices: for layers that have experts instead. */
ds_status ds_layer_load_attention(struct ds_layer *layer, const struct ds_model_config *config, const struct ds_naming *naming, uint32_t index,
                                  struct ds_loader *loader, struct ds_error *err);

struct ds_layer_context {
    const struct ds_model_config *config;
    const struct ds_rows *rows;
    struct ds_slice rope_cos, rope_sin;
    uint32_t rope_positions;
};

/* x + attention + feed-forward of rows whose K and V are stored first; each row attends to its `visible` positions. */
struct ds_view ds_layer_build(struct ds_graph *graph, const struct ds_layer_context *context, const struct ds_layer *layer,
                              const struct ds_kv *kv, struct ds_view x);
/* Its two halves: x + attention, x + feed-forward. */
struct ds_view ds_layer_attention(struct ds_graph *graph, const struct ds_layer_context *context, const struct ds_layer *layer,
                                  const struct ds_kv *kv, struct ds_view x);
struct ds_view ds_layer_feed_forward(struct ds_graph *graph, const struct ds_layer_context *context, const struct ds_layer *layer,
                                     struct ds_view x);
/* What the output projection reads: attention of rows `x` (already normalised), whose K and V are stored first. */
struct ds_view ds_layer_attend(struct ds_graph *graph, const struct ds_layer_context *context, const struct ds_layer *layer,
                               const struct ds_kv *kv, struct ds_view x);
/* K and V of rows `x` (already normalised), rotated and stored: what a drafter does with its context. */
void ds_layer_store(struct ds_graph *graph, const struct ds_layer_context *context, const struct ds_layer *layer,
                    const struct ds_kv *kv, struct ds_view x);

/* Asks the loader for rope tables of `positions` rows. */
ds_status ds_rope_load(const struct ds_rope_config *rope, uint32_t positions, struct ds_loader *loader, struct ds_slice *cos,
                       struct ds_slice *sin, struct ds_error *err);

/* The same with frequencies divided by the checkpoint's `rope_freqs.weight`, where it has one (GGUF's form of Llama 3's scaling). */
ds_status ds_rope_load_from(const struct ds_ckpt *ckpt, const struct ds_rope_config *rope, uint32_t positions, struct ds_loader *loader,
                            struct ds_slice *cos, struct ds_slice *sin, struct ds_error *err);

#endif
