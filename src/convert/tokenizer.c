/* tokenizer.ggml.*: from the tokenizer.json of the source or of its target, or taken over from a GGUF file. */
#include "base/json.h"
#include "base/os.h"
#include "convert/convert_internal.h"
#include "convert/tokenizer_json.h"
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

static const size_t max_file = 256u << 20;

/* --- special ids and the chat template --- */

/* Our reader stops at all three of these keys; other runtimes know them, too. */
static ds_status add_stops(struct ds_conversion *c, const struct ds_ckpt *ckpt, int32_t eos, struct ds_error *err) {
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    int32_t stops[DS_MAX_STOPS];
    uint32_t count;
    DS_TRY(ds_config_stops(ckpt, stops, &count, err));
    if (count == 0 && eos >= 0) stops[count++] = eos;
    for (uint32_t i = 1; i < count; i++) { /* the tokenizer's own first */
        if (stops[i] != eos) continue;
        stops[i] = stops[0];
        stops[0] = eos;
    }
    for (uint32_t i = 0; i < count && i < DS_COUNT(keys); i++) DS_TRY(ds_gguf_add_u32(c->writer, keys[i], (uint32_t)stops[i], err));
    if (count > DS_COUNT(keys))
        ds_logf(&c->log, DS_LOG_WARNING, "the model stops at %u different tokens, GGUF has room for %zu: the others will not end an answer", count, DS_COUNT(keys));
    return DS_OK;
}

static ds_status add_rest(struct ds_conversion *c, const struct ds_ckpt *ckpt, const struct ds_tokenizer *tokenizer, struct ds_error *err) {
    const char *chat = ds_tokenizer_chat_template(tokenizer);
    const int32_t bos = ds_tokenizer_bos(tokenizer);
    const struct ds_value *pad = ds_ckpt_value(ckpt, "generation_config.pad_token_id");
    if (!pad || pad->kind != DS_VALUE_INT) pad = ds_ckpt_value(ckpt, "pad_token_id");
    DS_TRY(add_stops(c, ckpt, ds_tokenizer_eos(tokenizer), err));
    if (pad && pad->kind == DS_VALUE_INT && pad->integer >= 0 && pad->integer < c->config->vocabulary)
        DS_TRY(ds_gguf_add_u32(c->writer, "tokenizer.ggml.padding_token_id", (uint32_t)pad->integer, err));
    if (bos >= 0) DS_TRY(ds_gguf_add_u32(c->writer, "tokenizer.ggml.bos_token_id", (uint32_t)bos, err));
    DS_TRY(ds_gguf_add_bool(c->writer, "tokenizer.ggml.add_bos_token", ds_tokenizer_adds_bos(tokenizer), err));
    return chat ? ds_gguf_add_string(c->writer, "tokenizer.chat_template", chat, strlen(chat), err) : DS_OK;
}

/* --- the whole --- */

/* `ckpt`: the folder that has the tokenizer, the source's or the target's. */
static ds_status export_folder(struct ds_conversion *c, const struct ds_ckpt *ckpt, const char *path, struct ds_error *err) {
    struct ds_tokenizer *tokenizer = NULL; /* opening it checks the whole document */
    json_t *root = NULL;
    ds_status status = ds_tokenizer_open_json(path, &tokenizer, err);
    if (status == DS_OK) status = ds_json_read_file(path, max_file, &root, err);
    if (status == DS_OK) {
        const struct ds_tokenizer_export to = {.writer = c->writer, .log = &c->log, .pre = c->params->pre, .vocabulary = c->config->vocabulary};
        status = ds_export_tokenizer_json(&to, root, err);
        if (status != DS_OK) ds_fail_context(err, "%s", path);
    }
    if (status == DS_OK) status = add_rest(c, ckpt, tokenizer, err);
    json_decref(root);
    ds_tokenizer_close(tokenizer);
    return status;
}

static ds_status copy_tokenizer(struct ds_conversion *c, struct ds_error *err) {
    for (size_t i = 0; i < ds_ckpt_value_count(c->target); i++) {
        const struct ds_value *value = ds_ckpt_value_at(c->target, i);
        if (strncmp(value->key, "tokenizer.", 10) == 0 && !ds_gguf_has_key(c->writer, value->key))
            DS_TRY(ds_gguf_add_stored(c->writer, value->key, value, err));
    }
    return DS_OK;
}

ds_status ds_convert_tokenizer(struct ds_conversion *c, struct ds_error *err) {
    if (ds_gguf_has_key(c->writer, "tokenizer.ggml.tokens")) return DS_OK; /* came over with all keys */
    const struct ds_ckpt *const places[] = {c->source, c->target};
    for (size_t i = 0; i < DS_COUNT(places); i++) {
        const struct ds_ckpt *ckpt = places[i];
        if (!ckpt) continue;
        if (ds_ckpt_get_format(ckpt) == DS_CKPT_GGUF) {
            if (i == 1 && ds_ckpt_value(ckpt, "tokenizer.ggml.tokens")) return copy_tokenizer(c, err);
            continue;
        }
        char *path = ds_os_join(ds_ckpt_path(ckpt), "tokenizer.json");
        if (!path) return ds_fail_memory(err, 0, "a path");
        const bool exists = ds_os_path_kind(path) == DS_PATH_FILE;
        const ds_status status = exists ? export_folder(c, ckpt, path, err) : DS_OK;
        free(path);
        if (exists) return status;
    }
    ds_logf(&c->log, DS_LOG_WARNING, "%s has no tokenizer, and so has the output%s", ds_ckpt_path(c->source),
            c->is_drafter ? ": dspark takes the target's; other runtimes want one, which --target TARGET brings" : "");
    return DS_OK;
}
