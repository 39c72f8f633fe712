/* Rotary embeddings as configurations describe them, every number checked for sense. */
#include "model/config.h"

#include "base/quote.h"

#include <stdio.h>
#include <string.h>

/* Where settings lie: keys are "<prefix>.<name>". */
struct reader {
    const struct ds_ckpt *ckpt;
    const char *prefix;
    bool gguf;
};

enum { PATH_MAX_BYTES = 2 * DS_KEY_MAX };

static const char *path_of(const struct reader *reader, const char *name, char key[PATH_MAX_BYTES]) {
    snprintf(key, PATH_MAX_BYTES, "%s.%s", reader->prefix, name);
    return key;
}

static ds_status real(const struct reader *reader, const char *name, double fallback, double *out, struct ds_error *err) {
    char key[PATH_MAX_BYTES];
    return ds_ckpt_real_or(reader->ckpt, path_of(reader, name, key), -1e9, 1e9, fallback, out, err);
}

static ds_status fail_value(const struct reader *reader, const char *name, double found, const char *expected, struct ds_error *err) {
    return ds_fail(err, DS_ERROR_FORMAT, "%s: %s.%s is %g; expected %s", ds_ckpt_path(reader->ckpt), reader->prefix, name, found, expected);
}

static ds_status read_kind(const struct reader *reader, enum ds_rope_kind *kind, const char **type, struct ds_error *err) {
    static const struct {
        const char *name;
        enum ds_rope_kind kind;
        bool gguf;
    } kinds[] = {{"default", DS_ROPE_NONE, true}, {"none", DS_ROPE_NONE, true}, {"linear", DS_ROPE_LINEAR, true}, {"yarn", DS_ROPE_YARN, true},
                 {"llama3", DS_ROPE_LLAMA3, false}, {"proportional", DS_ROPE_PROPORTIONAL, false}};
    char key[PATH_MAX_BYTES];
    DS_TRY(ds_ckpt_string_or(reader->ckpt, path_of(reader, "type", key), "none", type, err));
    if (!reader->gguf) DS_TRY(ds_ckpt_string_or(reader->ckpt, path_of(reader, "rope_type", key), *type, type, err));
    for (size_t i = 0; i < DS_COUNT(kinds); i++) {
        if ((reader->gguf && !kinds[i].gguf) || strcmp(*type, kinds[i].name) != 0) continue;
        *kind = kinds[i].kind;
        return DS_OK;
    }
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: rope scaling '%s' (under %s) is not supported; expected default, linear, yarn, llama3 or proportional",
                   ds_ckpt_path(reader->ckpt), ds_quote_name(*type).text, reader->prefix);
}

static ds_status read_original(const struct reader *reader, uint32_t context, struct ds_rope_config *rope, struct ds_error *err) {
    double original;
    DS_TRY(real(reader, reader->gguf ? "original_context_length" : "original_max_position_embeddings", (double)context, &original, err));
    if (!(original >= 1))
        return ds_fail(err, DS_ERROR_FORMAT, "%s: %s: the original context is %g positions; expected at least 1", ds_ckpt_path(reader->ckpt),
                       reader->prefix, original);
    rope->original_context = (uint32_t)DS_MIN(original, (double)DS_MOST_CONTEXT);
    return DS_OK;
}

static ds_status read_yarn(const struct reader *reader, struct ds_rope_config *rope, struct ds_error *err) {
    DS_TRY(real(reader, reader->gguf ? "yarn_beta_fast" : "beta_fast", 32.0, &rope->beta_fast, err));
    DS_TRY(real(reader, reader->gguf ? "yarn_beta_slow" : "beta_slow", 1.0, &rope->beta_slow, err));
    if (reader->gguf) return DS_OK;
    DS_TRY(real(reader, "attention_factor", 0.0, &rope->attention_factor, err));
    DS_TRY(real(reader, "mscale", 0.0, &rope->mscale, err));
    DS_TRY(real(reader, "mscale_all_dim", 0.0, &rope->mscale_all_dim, err));
    char key[PATH_MAX_BYTES];
    bool truncate;
    DS_TRY(ds_ckpt_bool_or(reader->ckpt, path_of(reader, "truncate", key), true, &truncate, err));
    rope->no_truncate = !truncate;
    return DS_OK;
}

static ds_status read_llama3(const struct reader *reader, struct ds_rope_config *rope, struct ds_error *err) {
    DS_TRY(real(reader, "low_freq_factor", 0.0, &rope->low_freq_factor, err));
    DS_TRY(real(reader, "high_freq_factor", 0.0, &rope->high_freq_factor, err));
    if (!(rope->low_freq_factor > 0)) return fail_value(reader, "low_freq_factor", rope->low_freq_factor, "a number above 0", err);
    if (!(rope->high_freq_factor > rope->low_freq_factor))
        return fail_value(reader, "high_freq_factor", rope->high_freq_factor, "a number above low_freq_factor", err);
    return DS_OK;
}

/* How much of a head turns. Only proportional embeddings may leave a part of it alone. */
static ds_status read_share(const struct reader *reader, struct ds_rope_config *rope, struct ds_error *err) {
    double share;
    DS_TRY(real(reader, "partial_rotary_factor", 1.0, &share, err));
    if (rope->kind == DS_ROPE_PROPORTIONAL) {
        if (!(share > 0 && share <= 1)) return fail_value(reader, "partial_rotary_factor", share, "a number above 0, at most 1", err);
        const uint32_t pairs = (uint32_t)(share * rope->n_rot / 2);
        if (pairs < 1) return fail_value(reader, "partial_rotary_factor", share, "a share that turns at least one pair", err);
        rope->n_pairs = pairs;
        return DS_OK;
    }
    if (share != 1.0)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: %s.partial_rotary_factor is %g; only 1 is supported here", ds_ckpt_path(reader->ckpt),
                       reader->prefix, share);
    return DS_OK;
}

static ds_status read_scaling(const struct reader *reader, uint32_t context, struct ds_rope_config *rope, struct ds_error *err) {
    const char *type;
    DS_TRY(read_kind(reader, &rope->kind, &type, err));
    if (!reader->gguf) DS_TRY(read_share(reader, rope, err));
    if (rope->kind == DS_ROPE_NONE) return DS_OK;
    DS_TRY(real(reader, "factor", rope->kind == DS_ROPE_PROPORTIONAL ? 1.0 : 0.0, &rope->factor, err));
    if (!(rope->factor > 0))
        return ds_fail(err, DS_ERROR_FORMAT, "%s: %s.factor is missing or not positive; '%s' rope scaling needs it", ds_ckpt_path(reader->ckpt),
                       reader->prefix, type);
    DS_TRY(read_original(reader, context, rope, err));
    if (rope->kind == DS_ROPE_YARN) return read_yarn(reader, rope, err);
    return rope->kind == DS_ROPE_LLAMA3 ? read_llama3(reader, rope, err) : DS_OK;
}

ds_status ds_rope_read_json(const struct ds_naming *naming, const char *object, const char *theta_key, double theta, uint32_t context,
                            uint32_t head_dim, struct ds_rope_config *rope, struct ds_error *err) {
    *rope = (struct ds_rope_config){.n_rot = head_dim, .max_context = context};
    char prefix[DS_KEY_MAX], key[DS_KEY_MAX], own[PATH_MAX_BYTES];
    const struct reader reader = {naming->ckpt, ds_naming_key(naming, object, "", prefix), false};
    const char *where = path_of(&reader, "rope_theta", own);
    if (!ds_ckpt_value(naming->ckpt, where)) where = ds_naming_key(naming, theta_key, "", key);
    DS_TRY(ds_ckpt_real_or(naming->ckpt, where, 1.0, 1e12, theta, &rope->theta, err));
    return read_scaling(&reader, context, rope, err);
}

ds_status ds_rope_read_gguf(const struct ds_naming *naming, uint32_t context, uint32_t head_dim, struct ds_rope_config *rope,
                            struct ds_error *err) {
    *rope = (struct ds_rope_config){.max_context = context};
    char key[DS_KEY_MAX], prefix[DS_KEY_MAX];
    DS_TRY(ds_ckpt_real_or(naming->ckpt, ds_naming_key(naming, "", "rope.freq_base", key), 1.0, 1e12, 10000.0, &rope->theta, err));
    int64_t turning;
    DS_TRY(ds_ckpt_int_or(naming->ckpt, ds_naming_key(naming, "", "rope.dimension_count", key), 2, head_dim, head_dim, &turning, err));
    if (turning % 2)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: %s is %lld; rotary embedding needs an even number", ds_ckpt_path(naming->ckpt), key, (long long)turning);
    rope->n_rot = (uint32_t)turning;
    const struct reader reader = {naming->ckpt, ds_naming_key(naming, "", "rope.scaling", prefix), true};
    return read_scaling(&reader, context, rope, err);
}
