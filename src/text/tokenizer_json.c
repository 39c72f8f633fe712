#include "base/os.h"
#include "base/quote.h"
#include "text/json_member.h"
#include "text/json_steps.h"

#include <string.h>

/* No real file comes near; larger ones are refused unread. */
static const size_t max_file = 256u << 20, max_config_file = 64u << 20;

/* --- model --- */

static bool is_absent(const json_t *value) {
    return !value || json_is_null(value);
}

/* Members that would change the ids in ways not provided for here. */
static ds_status check_model(const json_t *model, struct ds_error *err) {
    struct ds_text type, affix;
    DS_TRY(ds_json_text(model, "model", "type", &type, err));
    if (type.data && !ds_text_is(type, "BPE"))
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "model of type \"%s\" is not supported (BPE is)",
                       ds_quote(type.data, type.length).text);
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < DS_COUNT(affixes); i++) {
        DS_TRY(ds_json_text(model, "model", affixes[i], &affix, err));
        if (affix.length)
            return ds_fail(err, DS_ERROR_UNSUPPORTED, "model.%s is \"%s\": only BPE without it is supported",
                           affixes[i], ds_quote(affix.data, affix.length).text);
    }
    const json_t *dropout = json_object_get(model, "dropout");
    if (!is_absent(dropout) && !(json_is_number(dropout) && json_number_value(dropout) == 0))
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "model.dropout is set: ids would be random; set it to null");
    return DS_OK;
}

/* A token's id; the bound keeps a small file from asking for much memory. */
static ds_status id_of(const json_t *value, struct ds_text text, uint32_t bound, uint32_t *id, struct ds_error *err) {
    const json_int_t integer = json_is_integer(value) ? json_integer_value(value) : -1;
    if (integer < 0 || integer >= bound)
        return ds_fail(err, DS_ERROR_FORMAT, "token '%s': expected an id in 0..%u, found %s",
                       ds_quote(text.data, text.length).text, bound - 1,
                       json_is_integer(value) ? "another number" : ds_json_kind(value));
    *id = (uint32_t)integer;
    return DS_OK;
}

static struct ds_text key_of(void *iterator) {
    return (struct ds_text){json_object_iter_key(iterator), json_object_iter_key_len(iterator)};
}

/* Highest id + 1 over both lists. */
static ds_status count_ids(json_t *vocab, const struct ds_token_spec *specs, size_t n_specs, uint32_t bound, uint32_t *count,
                           struct ds_error *err) {
    *count = 0;
    for (void *it = json_object_iter(vocab); it; it = json_object_iter_next(vocab, it)) {
        uint32_t id = 0;
        DS_TRY(id_of(json_object_iter_value(it), key_of(it), bound, &id, err));
        *count = DS_MAX(*count, id + 1);
    }
    for (size_t i = 0; i < n_specs; i++) *count = DS_MAX(*count, (uint32_t)specs[i].token.id + 1);
    if (*count == 0) return ds_fail(err, DS_ERROR_FORMAT, "model.vocab is empty");
    return DS_OK;
}

static ds_status add_merge(struct ds_token_builder *builder, uint32_t rank, const json_t *merge, struct ds_error *err) {
    if (json_is_string(merge))
        return ds_token_builder_merge_line(builder, rank, (struct ds_text){json_string_value(merge), json_string_length(merge)},
                                           err);
    const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
    if (json_array_size(merge) != 2 || !json_is_string(left) || !json_is_string(right))
        return ds_fail(err, DS_ERROR_FORMAT, "model.merges[%u]: expected two strings, or one with a space between, found %s",
                       rank, ds_json_kind(merge));
    return ds_token_builder_merge(builder, rank, (struct ds_text){json_string_value(left), json_string_length(left)},
                                  (struct ds_text){json_string_value(right), json_string_length(right)}, err);
}

static ds_status add_merges(struct ds_token_builder *builder, json_t *merges, struct ds_error *err) {
    const size_t count = json_array_size(merges);
    DS_TRY(ds_bpe_init(&builder->tokenizer->bpe, count, &builder->tokenizer->arena, err));
    for (size_t i = 0; i < count; i++) DS_TRY(add_merge(builder, (uint32_t)i, json_array_get(merges, i), err));
    return DS_OK;
}

static ds_status set_options(struct ds_token_builder *builder, const json_t *model, struct ds_error *err) {
    struct ds_bpe *bpe = &builder->tokenizer->bpe;
    struct ds_text unknown;
    DS_TRY(ds_json_text(model, "model", "unk_token", &unknown, err));
    bpe->unknown = unknown.data ? ds_string_map_find(&builder->ids, unknown) : -1;
    if (unknown.data && bpe->unknown < 0)
        return ds_fail(err, DS_ERROR_FORMAT, "model.unk_token \"%s\" is not in the vocabulary",
                       ds_quote(unknown.data, unknown.length).text);
    DS_TRY(ds_json_bool(model, "model", "fuse_unk", false, &bpe->fuse_unknown, err));
    DS_TRY(ds_json_bool(model, "model", "ignore_merges", false, &bpe->whole_words, err));
    return bpe->whole_words ? ds_token_builder_index_words(builder, err) : DS_OK;
}

/* --- added tokens --- */

static ds_status read_spec(const json_t *value, uint32_t bound, struct ds_token_spec *spec, struct ds_error *err) {
    static const char where[] = "added_tokens[]";
    struct ds_added_token *token = &spec->token;
    uint32_t id = 0;
    DS_TRY(ds_json_text(value, where, "content", &token->content, err));
    if (!token->content.data) return ds_json_unexpected(where, "content", "a string", NULL, err);
    DS_TRY(id_of(json_object_get(value, "id"), token->content, bound, &id, err));
    token->id = (int32_t)id;
    DS_TRY(ds_json_bool(value, where, "special", false, &token->special, err));
    DS_TRY(ds_json_bool(value, where, "single_word", false, &token->single_word, err));
    DS_TRY(ds_json_bool(value, where, "lstrip", false, &token->lstrip, err));
    DS_TRY(ds_json_bool(value, where, "rstrip", false, &token->rstrip, err));
    return ds_json_bool(value, where, "normalized", !token->special, &spec->normalized, err);
}

static ds_status read_specs(const json_t *root, uint32_t bound, struct ds_arena *scratch, struct ds_token_spec **specs,
                            size_t *count, struct ds_error *err) {
    json_t *list;
    DS_TRY(ds_json_member(root, "the document", "added_tokens", JSON_ARRAY, &list, err));
    *count = json_array_size(list);
    *specs = ds_arena_array(scratch, *count, sizeof **specs);
    if (!*specs) return ds_fail_memory(err, *count * sizeof **specs, "added tokens");
    for (size_t i = 0; i < *count; i++) DS_TRY(read_spec(json_array_get(list, i), bound, &(*specs)[i], err));
    return DS_OK;
}

/* --- tokenizer_config.json --- */

/* bos_token and eos_token: a text, or an object that holds it. */
static ds_status named_token(const json_t *config, const char *key, struct ds_text *out, struct ds_error *err) {
    const json_t *value = json_object_get(config, key);
    if (json_is_object(value)) return ds_json_text(value, key, "content", out, err);
    return ds_json_text(config, "tokenizer_config.json", key, out, err);
}

/* One template, or a list of them by name, of which "default" is ours. */
static ds_status chat_template(const json_t *config, struct ds_tokenizer *tokenizer, struct ds_error *err) {
    static const char where[] = "tokenizer_config.json: chat_template";
    const json_t *value = json_object_get(config, "chat_template");
    struct ds_text text = {0};
    if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value) && !text.data; i++) {
            struct ds_text name;
            DS_TRY(ds_json_text(json_array_get(value, i), where, "name", &name, err));
            if (ds_text_is(name, "default")) DS_TRY(ds_json_text(json_array_get(value, i), where, "template", &text, err));
        }
    } else {
        DS_TRY(ds_json_text(config, "tokenizer_config.json", "chat_template", &text, err));
    }
    if (!text.data) return DS_OK;
    tokenizer->chat_template = ds_arena_copy(&tokenizer->arena, text.data, text.length);
    return tokenizer->chat_template ? DS_OK : ds_fail_memory(err, text.length, "the chat template");
}

static ds_status read_config(struct ds_token_builder *builder, const json_t *root, const json_t *config, struct ds_error *err) {
    struct ds_tokenizer *tokenizer = builder->tokenizer;
    struct ds_text bos = {0}, eos = {0}, first;
    DS_TRY(ds_json_first_token(json_object_get(root, "post_processor"), &first, err));
    if (config) {
        DS_TRY(named_token(config, "bos_token", &bos, err));
        DS_TRY(named_token(config, "eos_token", &eos, err));
        DS_TRY(chat_template(config, tokenizer, err));
    }
    if (!bos.data) bos = first;
    tokenizer->bos = ds_string_map_find(&builder->ids, bos);
    tokenizer->eos = ds_string_map_find(&builder->ids, eos);
    const bool adds_first = tokenizer->bos >= 0 && ds_string_map_find(&builder->ids, first) == tokenizer->bos;
    tokenizer->adds_bos = adds_first;
    if (config) DS_TRY(ds_json_bool(config, "tokenizer_config.json", "add_bos_token", adds_first, &tokenizer->adds_bos, err));
    if (tokenizer->adds_bos && tokenizer->bos < 0)
        return ds_fail(err, DS_ERROR_FORMAT,
                       "tokenizer_config.json: add_bos_token is true, but bos_token is no token of the vocabulary");
    return DS_OK;
}

/* --- the whole --- */

static ds_status build(struct ds_token_builder *builder, const json_t *root, const json_t *config, size_t size,
                       struct ds_error *err) {
    struct ds_tokenizer *tokenizer = builder->tokenizer;
    json_t *model, *vocab, *merges;
    DS_TRY(ds_json_member(root, "the document", "model", JSON_OBJECT, &model, err));
    if (!model) return ds_json_unexpected("model", NULL, "an object", NULL, err);
    DS_TRY(check_model(model, err));
    DS_TRY(ds_json_member(model, "model", "vocab", JSON_OBJECT, &vocab, err));
    if (!vocab) return ds_json_unexpected("model", "vocab", "an object", NULL, err);
    DS_TRY(ds_json_member(model, "model", "merges", JSON_ARRAY, &merges, err));
    if (!merges) return ds_json_unexpected("model", "merges", "an array", NULL, err);
    DS_TRY(ds_json_pieces(root, &tokenizer->pieces, &tokenizer->pre, err));
    if (!tokenizer->pieces.used) {
        DS_TRY(ds_json_normalizer(json_object_get(root, "normalizer"), &tokenizer->form, err));
        DS_TRY(ds_json_pre_tokenizer(json_object_get(root, "pre_tokenizer"), &tokenizer->pre, err));
        DS_TRY(ds_json_decoder(json_object_get(root, "decoder"), err));
    }

    /* Each token takes more bytes of the file than one: ids without wide gaps stay below its size. */
    const uint32_t bound = (uint32_t)DS_MAX(size, (size_t)1 << 16);
    struct ds_arena scratch = {0};
    struct ds_token_spec *specs;
    size_t n_specs;
    uint32_t count = 0;
    ds_status status = read_specs(root, bound, &scratch, &specs, &n_specs, err);
    if (status == DS_OK) status = count_ids(vocab, specs, n_specs, bound, &count, err);
    if (status == DS_OK) status = ds_token_builder_begin(builder, tokenizer, count, json_object_size(vocab) + n_specs, err);
    for (void *it = json_object_iter(vocab); it && status == DS_OK; it = json_object_iter_next(vocab, it))
        status = ds_token_builder_add(builder, key_of(it), json_integer_value(json_object_iter_value(it)), err);
    if (status == DS_OK) status = ds_token_builder_add_special(builder, specs, n_specs, err);
    ds_arena_free(&scratch);
    DS_TRY(status);

    ds_token_builder_find_bytes(builder);
    DS_TRY(add_merges(builder, merges, err));
    DS_TRY(set_options(builder, model, err));
    return read_config(builder, root, config, err);
}

static ds_status parse(const char *json, size_t size, const char *config, size_t config_size, struct ds_tokenizer *tokenizer,
                       struct ds_error *err) {
    json_t *root = NULL, *config_root = NULL;
    struct ds_token_builder builder = {.tokenizer = tokenizer};
    ds_status status =
        size <= max_file ? DS_OK : ds_fail(err, DS_ERROR_UNSUPPORTED, "%zu bytes, the limit is %zu", size, max_file);
    if (status == DS_OK) status = ds_json_parse(json, size, &root, err);
    if (status == DS_OK && config && ds_json_parse(config, config_size, &config_root, err) != DS_OK)
        status = ds_fail_context(err, "tokenizer_config.json");
    if (status == DS_OK) status = build(&builder, root, config_root, size, err);
    ds_token_builder_end(&builder);
    json_decref(root);
    json_decref(config_root);
    return status;
}

ds_status ds_tokenizer_parse_json(const char *name, const char *json, size_t size, const char *config, size_t config_size,
                                  struct ds_tokenizer **out, struct ds_error *err) {
    *out = NULL;
    struct ds_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (!tokenizer) return ds_fail_memory(err, sizeof *tokenizer, "a tokenizer");
    if (parse(json, size, config, config_size, tokenizer, err) != DS_OK) {
        ds_tokenizer_close(tokenizer);
        return ds_fail_context(err, "%s", name);
    }
    *out = tokenizer;
    return DS_OK;
}

/* --- files --- */

/* The file `name` beside `path`; *text is NULL when there is none. */
static ds_status read_sibling(const char *path, const char *name, char **text, size_t *size, struct ds_error *err) {
    *text = NULL;
    *size = 0;
    const char *slash = strrchr(path, '/');
    const size_t folder = slash ? (size_t)(slash + 1 - path) : 0, n = strlen(name);
    char *sibling = malloc(folder + n + 1);
    if (!sibling) return ds_fail_memory(err, folder + n + 1, "a path");
    memcpy(sibling, path, folder);
    memcpy(sibling + folder, name, n + 1);
    ds_status status = DS_OK;
    if (ds_os_path_kind(sibling) == DS_PATH_FILE) status = ds_os_read_file(sibling, max_config_file, text, size, err);
    free(sibling);
    return status;
}

/* Newer folders keep the template in a file of its own, which wins. */
static ds_status read_template(const char *path, struct ds_tokenizer *tokenizer, struct ds_error *err) {
    char *text;
    size_t size;
    DS_TRY(read_sibling(path, "chat_template.jinja", &text, &size, err));
    if (!text) return DS_OK;
    tokenizer->chat_template = ds_arena_copy(&tokenizer->arena, text, size);
    free(text);
    return tokenizer->chat_template ? DS_OK : ds_fail_memory(err, size, "the chat template");
}

ds_status ds_tokenizer_open_json(const char *path, struct ds_tokenizer **out, struct ds_error *err) {
    *out = NULL;
    char *json, *config = NULL;
    size_t size, config_size = 0;
    DS_TRY(ds_os_read_file(path, max_file, &json, &size, err));
    ds_status status = read_sibling(path, "tokenizer_config.json", &config, &config_size, err);
    if (status == DS_OK) status = ds_tokenizer_parse_json(path, json, size, config, config_size, out, err);
    if (status == DS_OK) status = read_template(path, *out, err);
    free(json);
    free(config);
    if (status != DS_OK) {
        ds_tokenizer_close(*out);
        *out = NULL;
    }
    return status;
}
