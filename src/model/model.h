/*
 * For people who add a target architecture: what a model is, and how its file describes itself to the rest.
 *
 * A model file reads the checkpoint's configuration, asks a loader for its weights, and appends its graph. It knows no
 * device, no session and no speculation. See docs/porting.md.
 */
#ifndef DSPARK_MODEL_MODEL_H
#define DSPARK_MODEL_MODEL_H

#include "graph/graph.h"
#include "model/loader.h"
#include "model/pages.h"
#include "model/rows.h"
#include "ops/rope_table.h"

enum { DS_MAX_TAPS = 16, DS_MAX_STOPS = 16, DS_MOST_LAYERS = 1024, DS_MOST_STAGES = 8 };

/* A mixture of experts; experts 0: none. */
struct ds_expert_config {
    uint32_t experts, slots; /* slots: experts a row uses */
    uint32_t feed_forward;   /* width of one expert */
    bool normalise;          /* a row's weights sum to 1 */
};

/* Hyper-parameters every decoder has. Filled by the architecture's `configure`; sizes are checked against the tensors. */
struct ds_model_config {
    uint32_t hidden, layers, heads, kv_heads, head_dim, feed_forward, vocabulary;
    uint32_t context;      /* positions the checkpoint was made for */
    float rms_eps;
    bool tied;             /* the head is the embedding */
    struct ds_rope_config rope;
    bool interleaved;      /* rotary pairs are columns (2i, 2i + 1) of a head, as GGUF files of Llama store q and k; else (i, i + n/2) */
    bool qk_norm;          /* q and k are normed per head */
    bool qkv_bias, o_bias, mlp_bias;
    uint32_t window;       /* positions that sliding layers see, their own included; 0: there are none such */
    uint8_t sliding[DS_MOST_LAYERS / 8]; /* a bit a layer: ds_config_window */
    struct ds_expert_config expert;
    /* Gemma; 0: as other models have it */
    struct ds_rope_config local_rope;        /* of sliding layers */
    uint32_t global_head_dim, global_kv_heads; /* of layers that do not slide */
    uint32_t shared_layers;                  /* so many last layers read the keys and values of earlier ones */
    uint32_t per_layer;                      /* width of the per-layer inputs */
    float embedding_scale, attention_scale;  /* attention_scale 0: 1 / sqrt(head_dim) */
    float attention_softcap, logit_softcap;
    uint32_t attention_inputs;               /* what q, k and v read; 0: hidden (drafters read token and feature side by side) */
    bool k_eq_v;                             /* global layers have no V of their own: it is K before norm and rope */
    bool double_wide;                        /* layers that share keys and values have twice the feed-forward */
};

struct ds_kv_shape ds_config_kv_shape(const struct ds_model_config *config, uint32_t layer);
uint32_t ds_config_feed_forward(const struct ds_model_config *config, uint32_t layer);

/* The window of a layer; 0: it sees everything. */
static inline uint32_t ds_config_window(const struct ds_model_config *config, uint32_t layer) {
    return config->sliding[layer / 8] >> layer % 8 & 1 ? config->window : 0;
}

/* The weights of one pre-norm decoder layer (Qwen3 and relatives); absent ones have no buffer. */
struct ds_layer {
    struct ds_slice attn_norm, ffn_norm, q_norm, k_norm;
    struct ds_weight q, k, v, o, gate, up, down;
    struct ds_slice q_bias, k_bias, v_bias, o_bias, gate_bias, up_bias, down_bias;
    uint32_t window; /* 0: the layer sees everything */
};

/* The KV cache of all layers of one model. */
struct ds_cache {
    struct ds_kv *layers; /* [n] */
    uint32_t n;
};

struct ds_model;

/* What a forward pass hands out besides the cache; absent where no place is given. */
struct ds_model_outputs {
    struct ds_view taps;        /* f32 [rows, n_taps * hidden]: outputs of the tapped layers, concatenated */
    const int32_t *tap_layers;  /* l: output of decoder layer l (0-based); -1: embedding output */
    uint32_t n_taps;
    struct ds_view hidden;      /* f32 [(layers + 1) * rows, hidden]: every hidden state, Hugging Face's convention, for porting */
    struct ds_view logits;      /* f32 [out_rows, vocabulary]: of the rows picked by ds_rows.out_index */
};

/*
 * Layers [first, end) of a model, which lie on one device. Stages follow each other; the first also has the embedding, the final norm and the
 * head, so that a pass begins and ends there.
 */
struct ds_model_stage {
    struct ds_loader *loader; /* borrowed */
    uint32_t first, end;
    struct ds_slice rope_cos, rope_sin;
    struct ds_slice local_cos, local_sin; /* of sliding layers, where these have a rope of their own */
};

/*
 * What a graph runs of a model: layers [first, end) of one stage, in front of them what comes in (absent: the embedding), behind them what goes out
 * (absent: final norm and head). Both f32 [rows, hidden + ds_config_carried]; what is carried is written where the pass begins and only read from
 * then on, so that elsewhere `out` may have the first `hidden` columns alone.
 */
struct ds_model_part {
    const struct ds_model_stage *stage;
    uint32_t first, end;
    struct ds_view in, out;
};

struct ds_model_arch {
    const char *name;    /* GGUF's architecture; several may share one, the first listed then reads GGUF files */
    const char *hf_name; /* Hugging Face's `architectures[0]` */
    const char *hf_multimodal; /* the same model inside one that also sees or hears, or NULL */
    ds_status (*configure)(struct ds_model *model, struct ds_error *err);
    ds_status (*load)(struct ds_model *model, struct ds_error *err); /* asks the loaders of the stages: ds_model_loader */
    void (*build)(const struct ds_model *model, struct ds_graph *graph, const struct ds_model_part *part, const struct ds_rows *rows,
                  const struct ds_cache *cache, const struct ds_model_outputs *out);
};

/* A target: immutable after loading. The checkpoint must outlive it. */
struct ds_model {
    const struct ds_model_arch *arch;
    const struct ds_ckpt *ckpt;
    struct ds_model_config config;
    struct ds_weight embedding, head;
    struct ds_slice final_norm;
    uint32_t n_stages;
    struct ds_model_stage stages[DS_MOST_STAGES];
    uint32_t rope_positions; /* rows of the tables */
    struct ds_layer *layers; /* [config.layers], owned */
    void *family;            /* what the architecture keeps besides; freed with free() */
    int32_t stop_ids[DS_MAX_STOPS];
    uint32_t n_stops;
};

/* Recognises the architecture and reads the configuration. DS_ERROR_UNSUPPORTED names the architecture found and those known. */
ds_status ds_model_open(const struct ds_ckpt *ckpt, struct ds_model **out, struct ds_error *err);
void ds_model_close(struct ds_model *model); /* accepts NULL */
/* Asks for all weights and for rope tables of `positions` rows. May be called again, when those asked before are gone. */
ds_status ds_model_load(struct ds_model *model, struct ds_loader *loader, uint32_t positions, struct ds_error *err);

/* The same of a model that is cut: stage s has the layers from where the one before ended, up to ends[s]; the last ends with the model. */
struct ds_model_cut {
    uint32_t n; /* 1 to DS_MOST_STAGES */
    uint32_t ends[DS_MOST_STAGES];
    struct ds_loader *loaders[DS_MOST_STAGES];
};
ds_status ds_model_load_cut(struct ds_model *model, const struct ds_model_cut *cut, uint32_t positions, struct ds_error *err);
struct ds_loader *ds_model_loader(const struct ds_model *model, uint32_t layer); /* of the stage that has the layer */

/* True: no layer from `layer` on reads keys and values of one in front of it, so that a stage may begin there. */
bool ds_config_may_cut(const struct ds_model_config *config, uint32_t layer);
/* Floats a row that later layers need besides the residual stream. */
uint32_t ds_config_carried(const struct ds_model_config *config);

bool ds_model_stops_at(const struct ds_model *model, int32_t token);

/* What files hold besides the weights: tables that are computed, copies of the embedding where it is the head, eyes and ears. */
bool ds_model_is_spare(const char *name);

extern const struct ds_model_arch ds_arch_llama, ds_arch_mistral, ds_arch_qwen2, ds_arch_qwen3, ds_arch_qwen3moe, ds_arch_gemma3, ds_arch_gemma4;

#endif
