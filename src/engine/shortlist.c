/*
 * The drafter's shortlist: the tokens that it drafts at all, the most frequent first, as JSON beside it (FOLDER/shortlist.json,
 * FILE.gguf.shortlist.json) with the drafter's fingerprint. Head and sequential head are read for these alone. It changes drafts, so
 * speed, never a token of the output.
 */
#include "engine/engine_internal.h"

#include "base/json.h"
#include "dspark_dev.h"

#include <stdlib.h>

/* --- reading --- */

static ds_status read_tokens(const json_t *list, uint32_t vocabulary, int32_t *out, uint8_t *seen, struct ds_error *err) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *value = json_array_get(list, i);
        const json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= (json_int_t)vocabulary)
            return ds_fail(err, DS_ERROR_FORMAT, "tokens: number %zu is no token; expected 0 to %u", i + 1, vocabulary - 1);
        if (seen[id]++) return ds_fail(err, DS_ERROR_FORMAT, "tokens: %d is there twice; expected different tokens", (int)id);
        out[i] = (int32_t)id;
    }
    return DS_OK;
}

static ds_status use(ds_engine *engine, const json_t *root, struct ds_error *err) {
    const json_t *list = json_object_get(root, "tokens");
    const uint32_t vocabulary = engine->draft_model->config.vocabulary;
    const size_t n = json_array_size(list);
    if (n < 1 || n > vocabulary)
        return ds_fail(err, DS_ERROR_FORMAT, "tokens: found a list of %zu; expected 1 to %u tokens", n, vocabulary);
    int32_t *tokens = malloc(n * sizeof *tokens);
    uint8_t *seen = calloc(vocabulary, 1);
    ds_status status = tokens && seen ? read_tokens(list, vocabulary, tokens, seen, err) : ds_fail_memory(err, vocabulary + n * sizeof *tokens, "a shortlist");
    if (status == DS_OK) status = ds_draft_shorten(engine->draft_model, engine->model, tokens, (uint32_t)n, err);
    if (status == DS_OK) engine->scheduling.shortlist = ds_hash_mix(DS_HASH_START, tokens, n * sizeof *tokens);
    free(seen);
    free(tokens);
    return status;
}

static const struct ds_beside shortlist = {.what = "shortlist", .name = "shortlist.json", .format = "dspark-shortlist-1", .most_bytes = 16 << 20, .use = use};

ds_status ds_shortlist_open(ds_engine *engine, struct ds_error *err) { return ds_beside_open(engine, &shortlist, err); }

/* --- writing --- */

ds_status ds_dev_shortlist_save(const ds_engine *engine, const ds_token *tokens, size_t count, char **path, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    *path = NULL;
    if (!engine->draft_model) return ds_fail(err, DS_ERROR_UNSUPPORTED, "there is no drafter");
    json_t *list = json_array();
    for (size_t i = 0; list && i < count; i++) json_array_append_new(list, json_integer(tokens[i]));
    json_t *members = json_pack("{sIso}", "size", (json_int_t)count, "tokens", list);
    return ds_beside_save(engine, &shortlist, members, JSON_COMPACT, path, err);
}

uint32_t ds_dev_draft_vocabulary(const ds_engine *engine) { return engine->draft_model ? engine->draft_model->draft_vocabulary : 0; }
