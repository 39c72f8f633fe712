/*
 * The drafter's shortlist: the tokens that it drafts at all, the most frequent first, as JSON beside it (FOLDER/shortlist.json,
 * FILE.gguf.shortlist.json) with the drafter's fingerprint. Head and sequential head are read for these alone. It changes drafts, so
 * speed, never a token of the output.
 */
#include "engine/engine_internal.h"

#include "base/json.h"
#include "dspark_dev.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 16 << 20 };
static const char FORMAT[] = "dspark-shortlist-1";

static void print_of(const ds_engine *engine, char text[17]) { snprintf(text, 17, "%016" PRIx64, ds_fingerprint(engine->draft_ckpt)); }

/* --- reading --- */

static const char *text_of(const json_t *root, const char *name) {
    const char *text = json_string_value(json_object_get(root, name));
    return text ? text : "";
}

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

static ds_status shorten(ds_engine *engine, const json_t *list, struct ds_error *err) {
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

static ds_status use(ds_engine *engine, const char *path, struct ds_error *err) {
    json_t *root;
    char mine[17];
    print_of(engine, mine);
    DS_TRY(ds_json_read_file(path, MOST_BYTES, &root, err));
    ds_status status;
    if (strcmp(text_of(root, "format"), FORMAT) != 0) status = ds_fail(err, DS_ERROR_FORMAT, "expected a shortlist with format \"%s\"", FORMAT);
    else if (strcmp(text_of(root, "drafter"), mine) != 0)
        status = ds_fail(err, DS_ERROR_MISMATCH, "it was made for another drafter than %s (whose fingerprint is %s)", ds_ckpt_path(engine->draft_ckpt), mine);
    else status = shorten(engine, json_object_get(root, "tokens"), err);
    json_decref(root);
    return status == DS_OK ? DS_OK : ds_fail_context(err, "%s", path);
}

ds_status ds_shortlist_open(ds_engine *engine, struct ds_error *err) {
    char *path = ds_path_beside(engine->draft_ckpt, "shortlist.json");
    if (!path) return ds_fail_memory(err, MOST_BYTES, "a shortlist");
    struct ds_error why;
    ds_status status = DS_OK;
    if (ds_os_path_kind(path) != DS_PATH_MISSING && use(engine, path, &why) != DS_OK) {
        if (why.status == DS_ERROR_MEMORY) {
            *err = why;
            status = why.status;
        } else {
            ds_logf(&engine->log, DS_LOG_WARNING, "the shortlist is not used: %s; make another with `dspark calibrate`, or remove it", why.message);
        }
    }
    free(path);
    return status;
}

/* --- writing --- */

ds_status ds_dev_shortlist_save(const ds_engine *engine, const ds_token *tokens, size_t count, char **path, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    *path = NULL;
    if (!engine->draft_model) return ds_fail(err, DS_ERROR_UNSUPPORTED, "there is no drafter");
    char mine[17], *name = ds_path_beside(engine->draft_ckpt, "shortlist.json");
    print_of(engine, mine);
    json_t *list = json_array();
    for (size_t i = 0; list && i < count; i++) json_array_append_new(list, json_integer(tokens[i]));
    json_t *root = json_pack("{sssssIso}", "format", FORMAT, "drafter", mine, "size", (json_int_t)count, "tokens", list);
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    const ds_status status = name && text ? ds_write_text_file(name, text, err) : ds_fail_memory(err, MOST_BYTES, "a shortlist");
    free(text);
    json_decref(root);
    if (status == DS_OK) *path = name;
    else free(name);
    return status;
}

uint32_t ds_dev_draft_vocabulary(const ds_engine *engine) { return engine->draft_model ? engine->draft_model->draft_vocabulary : 0; }
