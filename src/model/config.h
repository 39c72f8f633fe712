/*
 * The parts that readers of configurations are made of; for src/model. Every function names file, key, expected and found
 * where a value makes no sense. Keys have one name in config.json and one in GGUF (struct ds_naming).
 */
#ifndef DSPARK_MODEL_CONFIG_H
#define DSPARK_MODEL_CONFIG_H

#include "model/layer.h"

enum { DS_MOST_WIDTH = 1 << 20, DS_MOST_CONTEXT = 1 << 26 };

/* 1..most; the second form takes a default for an absent key, and allows 0 where that is the default. */
ds_status ds_config_size(const struct ds_naming *naming, const char *hf, const char *gguf, int64_t most, uint32_t *out,
                         struct ds_error *err);
ds_status ds_config_size_or(const struct ds_naming *naming, const char *hf, const char *gguf, int64_t most, int64_t fallback,
                            uint32_t *out, struct ds_error *err);
/* A flag of config.json; GGUF has none and gives the default. */
ds_status ds_config_flag(const struct ds_naming *naming, const char *hf, bool fallback, bool *out, struct ds_error *err);

/* A number above 0 that may be null or absent (then 0). */
ds_status ds_config_real_or_none(const struct ds_naming *naming, const char *hf, const char *gguf, float *out, struct ds_error *err);

/* hidden, layers, heads, context, rms_eps: what every family has under the same keys. */
ds_status ds_config_sizes(const struct ds_naming *naming, struct ds_model_config *config, struct ds_error *err);
ds_status ds_config_check_heads(const struct ds_naming *naming, uint32_t heads, uint32_t kv_heads, uint32_t head_dim, struct ds_error *err);

/* Keys that change the result and are not implemented: refused unless absent, null or neutral. A NULL name: not in that container. */
struct ds_refusal {
    const char *hf, *gguf;
    double neutral; /* flags: 0 false, 1 true */
};
ds_status ds_config_refuse(const struct ds_naming *naming, const struct ds_refusal *list, size_t count, struct ds_error *err);

/* Sliding layers as `layer_types` or GGUF's pattern lists them; *found: there is a list. */
ds_status ds_config_layer_types(const struct ds_naming *naming, struct ds_model_config *config, bool *found, struct ds_error *err);
void ds_config_slide(struct ds_model_config *config, uint32_t layer);
bool ds_config_slides(const struct ds_model_config *config); /* any layer does */
/* config.window, which sliding layers need. */
ds_status ds_config_require_window(const struct ds_naming *naming, struct ds_model_config *config, struct ds_error *err);

/*
 * Rotary embedding. From config.json: the object `object` ("rope_parameters", "rope_scaling", "rope_parameters.full_attention"),
 * its rope_theta or else the key `theta_key`, or else `theta`. From GGUF: rope.freq_base and rope.scaling.*.
 */
ds_status ds_rope_read_json(const struct ds_naming *naming, const char *object, const char *theta_key, double theta, uint32_t context,
                            uint32_t head_dim, struct ds_rope_config *rope, struct ds_error *err);
ds_status ds_rope_read_gguf(const struct ds_naming *naming, uint32_t context, uint32_t head_dim, struct ds_rope_config *rope,
                            struct ds_error *err);

#endif
