/* Tokens that end a generation, from either container. */
#include "model/layer.h"

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
