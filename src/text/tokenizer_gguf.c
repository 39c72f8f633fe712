#include "base/os.h"
#include "base/quote.h"
#include "text/known_pre.h"
#include "text/tokenizer_internal.h"

#include <string.h>

/* tokenizer.ggml.token_type */
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN = 2, TYPE_CONTROL = 3, TYPE_USER_DEFINED = 4, TYPE_UNUSED = 5, TYPE_BYTE = 6 };

static const char key_tokens[] = "tokenizer.ggml.tokens", key_types[] = "tokenizer.ggml.token_type",
                  key_merges[] = "tokenizer.ggml.merges", key_model[] = "tokenizer.ggml.model",
                  key_pre[] = "tokenizer.ggml.pre";

/* An array of this kind of element. Absent: *count is 0. An empty array has no element kind. */
static ds_status array_of(const struct ds_ckpt *ckpt, const char *key, ds_value_kind element, const char *expected,
                          const void **out, size_t *count, struct ds_error *err) {
    const struct ds_value *value = ds_ckpt_value(ckpt, key);
    *out = NULL;
    *count = 0;
    if (!value) return DS_OK;
    if (value->kind != DS_VALUE_ARRAY || (value->length && value->element != element))
        return ds_fail(err, DS_ERROR_FORMAT, "%s: expected an array of %s", key, expected);
    *out = value->array;
    *count = value->length;
    return DS_OK;
}

static bool is_added(int64_t type) {
    return type == TYPE_CONTROL || type == TYPE_USER_DEFINED || type == TYPE_UNKNOWN;
}

/* Which tokens are searched for in texts. The container does not say how; the converter writes tokens that are taken as they
 * are. */
static ds_status add_tokens(struct ds_token_builder *builder, const struct ds_text *texts, const int64_t *types, size_t count,
                            struct ds_error *err) {
    struct ds_token_spec *specs = ds_arena_array(&builder->scratch, count, sizeof *specs);
    if (!specs) return ds_fail_memory(err, count * sizeof *specs, "added tokens");
    size_t n_specs = 0;
    for (size_t i = 0; i < count; i++) {
        const int64_t type = types ? types[i] : TYPE_NORMAL;
        if (type == TYPE_UNUSED) continue; /* rows of the embedding without a token */
        if (is_added(type)) {
            const struct ds_added_token token = {.content = texts[i], .id = (int32_t)i, .special = type != TYPE_USER_DEFINED};
            specs[n_specs++] = (struct ds_token_spec){.token = token};
        } else if (type == TYPE_NORMAL || type == TYPE_BYTE) {
            DS_TRY(ds_token_builder_add(builder, texts[i], (int64_t)i, err));
        } else {
            return ds_fail(err, DS_ERROR_FORMAT, "%s[%zu]: expected a type of 1..6, found %lld", key_types, i, (long long)type);
        }
    }
    return ds_token_builder_add_special(builder, specs, n_specs, err);
}

/* A vocabulary without merges has scores. */
static ds_status read_scores(struct ds_token_builder *builder, const struct ds_ckpt *ckpt, const struct ds_text *texts, size_t count,
                             struct ds_error *err) {
    static const char key[] = "tokenizer.ggml.scores";
    const void *scores;
    size_t n;
    DS_TRY(array_of(ckpt, key, DS_VALUE_REAL, "numbers", &scores, &n, err));
    if (n != count) return ds_fail(err, DS_ERROR_FORMAT, "%s: expected %zu scores, one a token, found %zu", key, count, n);
    return ds_pieces_merges_of_scores(builder, texts, scores, count, err);
}

static ds_status read_vocabulary(struct ds_token_builder *builder, const struct ds_ckpt *ckpt, struct ds_tokenizer *tokenizer,
                                 struct ds_error *err) {
    const void *texts, *types, *merges;
    size_t count, n_types, n_merges;
    DS_TRY(array_of(ckpt, key_tokens, DS_VALUE_STRING, "strings", &texts, &count, err));
    DS_TRY(array_of(ckpt, key_types, DS_VALUE_INT, "integers", &types, &n_types, err));
    DS_TRY(array_of(ckpt, key_merges, DS_VALUE_STRING, "strings", &merges, &n_merges, err));
    if (count == 0 || count > INT32_MAX)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: expected a vocabulary, found %zu tokens", key_tokens, count);
    if (types && n_types != count)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: expected %zu types, one a token, found %zu", key_types, count, n_types);
    DS_TRY(ds_token_builder_begin(builder, tokenizer, (uint32_t)count, count, err));
    DS_TRY(add_tokens(builder, texts, types, count, err));
    ds_token_builder_find_bytes(builder);
    tokenizer->bpe.fuse_unknown = tokenizer->pieces.used;
    tokenizer->bpe.unknown = tokenizer->pieces.used ? ds_string_map_find(&builder->ids, (struct ds_text){"<unk>", 5}) : -1;
    if (tokenizer->pieces.used && n_merges == 0) return read_scores(builder, ckpt, texts, count, err);
    DS_TRY(ds_bpe_init(&tokenizer->bpe, n_merges, &tokenizer->arena, err));
    for (size_t i = 0; i < n_merges; i++)
        DS_TRY(ds_token_builder_merge_line(builder, (uint32_t)i, ((const struct ds_text *)merges)[i], err));
    return tokenizer->bpe.whole_words ? ds_token_builder_index_words(builder, err) : DS_OK;
}

static ds_status read_pre(const struct ds_ckpt *ckpt, struct ds_tokenizer *tokenizer, bool *adds_bos, struct ds_error *err) {
    const char *name;
    char list[256];
    DS_TRY(ds_ckpt_string_or(ckpt, key_pre, NULL, &name, err));
    const struct ds_known_pre *pre = name ? ds_known_pre_find(name) : NULL;
    if (!pre) {
        ds_known_pre_list(list, sizeof list);
        if (!name || strcmp(name, "default") == 0)
            return ds_fail(err, DS_ERROR_UNSUPPORTED,
                           "%s is %s, so that nothing says how to split text into words; convert the model "
                           "again with a current converter, which names one (known here: %s)",
                           key_pre, name ? "\"default\"" : "missing", list);
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: expected one of %s, found \"%s\"", key_pre, list,
                       ds_quote_name(name).text);
    }
    for (size_t i = 0; i < DS_COUNT(pre->patterns) && pre->patterns[i]; i++)
        DS_TRY(ds_pretokenizer_add(&tokenizer->pre, pre->patterns[i], strlen(pre->patterns[i]), false, DS_SPLIT_ISOLATED, false,
                                   err));
    tokenizer->form = pre->form;
    tokenizer->bpe.whole_words = pre->whole_words;
    *adds_bos = pre->adds_bos;
    return DS_OK;
}

static ds_status read_pieces(const struct ds_ckpt *ckpt, bool prefix, struct ds_tokenizer *tokenizer, bool *adds_bos, struct ds_error *err) {
    static const char key[] = "tokenizer.ggml.remove_extra_whitespaces";
    bool removes;
    DS_TRY(ds_ckpt_bool_or(ckpt, "tokenizer.ggml.add_space_prefix", prefix, &prefix, err));
    DS_TRY(ds_ckpt_bool_or(ckpt, key, false, &removes, err));
    if (removes) return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s is true, which is not supported", key);
    tokenizer->pieces = (struct ds_pieces){.used = true, .prefix = prefix ? DS_PREFIX_EVERY : DS_PREFIX_NONE, .strips_first = prefix};
    *adds_bos = true;
    return DS_OK;
}

/* An id of the vocabulary, or -1. Some converters write 2^32 - 1 for "none". */
static ds_status read_id(const struct ds_ckpt *ckpt, const char *key, const struct ds_tokenizer *tokenizer, int32_t *out,
                         struct ds_error *err) {
    int64_t id;
    DS_TRY(ds_ckpt_int_or(ckpt, key, -1, UINT32_MAX, -1, &id, err));
    if (id == UINT32_MAX) id = -1;
    if (id >= (int64_t)tokenizer->count)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: expected an id below %u, found %lld", key, tokenizer->count, (long long)id);
    *out = (int32_t)id;
    return DS_OK;
}

static ds_status read_rest(const struct ds_ckpt *ckpt, struct ds_tokenizer *tokenizer, bool adds_bos, struct ds_error *err) {
    const char *chat;
    DS_TRY(read_id(ckpt, "tokenizer.ggml.bos_token_id", tokenizer, &tokenizer->bos, err));
    DS_TRY(read_id(ckpt, "tokenizer.ggml.eos_token_id", tokenizer, &tokenizer->eos, err));
    DS_TRY(ds_ckpt_bool_or(ckpt, "tokenizer.ggml.add_bos_token", adds_bos, &tokenizer->adds_bos, err));
    if (tokenizer->adds_bos && tokenizer->bos < 0)
        return ds_fail(err, DS_ERROR_FORMAT,
                       "tokenizer.ggml.bos_token_id: expected an id, as a begin token is to be added, found nothing");
    DS_TRY(ds_ckpt_string_or(ckpt, "tokenizer.chat_template", NULL, &chat, err));
    if (!chat) return DS_OK;
    tokenizer->chat_template = ds_arena_copy(&tokenizer->arena, chat, strlen(chat));
    return tokenizer->chat_template ? DS_OK : ds_fail_memory(err, strlen(chat), "the chat template");
}

static ds_status read_all(const struct ds_ckpt *ckpt, struct ds_tokenizer *tokenizer, struct ds_error *err) {
    const char *model;
    bool adds_bos = false;
    DS_TRY(ds_ckpt_string(ckpt, key_model, &model, err));
    const bool pieces = strcmp(model, "llama") == 0 || strcmp(model, "gemma4") == 0;
    if (!pieces && strcmp(model, "gpt2") != 0)
        return ds_fail(err, DS_ERROR_UNSUPPORTED,
                       "%s: expected \"gpt2\" (byte-level BPE), \"llama\" or \"gemma4\" (SentencePiece-style BPE), found \"%s\", which is not "
                       "supported", key_model, ds_quote_name(model).text);
    if (pieces) DS_TRY(read_pieces(ckpt, strcmp(model, "llama") == 0, tokenizer, &adds_bos, err));
    else DS_TRY(read_pre(ckpt, tokenizer, &adds_bos, err));
    struct ds_token_builder builder = {.tokenizer = tokenizer};
    const ds_status status = read_vocabulary(&builder, ckpt, tokenizer, err);
    ds_token_builder_end(&builder);
    return status == DS_OK ? read_rest(ckpt, tokenizer, adds_bos, err) : status;
}

ds_status ds_tokenizer_open_gguf(const struct ds_ckpt *ckpt, struct ds_tokenizer **out, struct ds_error *err) {
    *out = NULL;
    struct ds_tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (!tokenizer) return ds_fail_memory(err, sizeof *tokenizer, "a tokenizer");
    if (read_all(ckpt, tokenizer, err) != DS_OK) {
        ds_tokenizer_close(tokenizer);
        return ds_fail_context(err, "%s: tokenizer", ds_ckpt_path(ckpt));
    }
    *out = tokenizer;
    return DS_OK;
}

/* --- whichever --- */

/* tokenizer.json in the folder, or beside the single .safetensors file. */
static char *json_path(const char *path) {
    if (ds_os_path_kind(path) == DS_PATH_FOLDER) return ds_os_join(path, "tokenizer.json");
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    char *joined = folder ? ds_os_join(folder, "tokenizer.json") : NULL;
    free(folder);
    return joined;
}

ds_status ds_tokenizer_open(const struct ds_ckpt *ckpt, struct ds_tokenizer **out, struct ds_error *err) {
    *out = NULL;
    if (ds_ckpt_get_format(ckpt) == DS_CKPT_GGUF)
        return ds_ckpt_value(ckpt, key_model) ? ds_tokenizer_open_gguf(ckpt, out, err) : DS_OK;
    char *path = json_path(ds_ckpt_path(ckpt));
    if (!path) return ds_fail_memory(err, 0, "a path");
    const bool exists = ds_os_path_kind(path) == DS_PATH_FILE;
    const ds_status status = exists ? ds_tokenizer_open_json(path, out, err) : DS_OK;
    free(path);
    return status;
}
