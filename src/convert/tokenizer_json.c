/*
 * A tokenizer.json as tokenizer.ggml.*. Texts go over as the file writes them (byte alphabet for the vocabulary, plain for
 * added tokens); how text is split into words becomes the name of a known pre-tokenizer, for GGUF cannot describe it.
 */
#include "convert/tokenizer_json.h"
#include "convert/tokenizer_pieces.h"

#include "base/arena.h"
#include "base/quote.h"
#include "text/json_steps.h"
#include "text/known_pre.h"

#include <stdio.h>
#include <string.h>

struct exporter {
    const struct ds_tokenizer_export *to;
    const json_t *root;
    struct ds_text *texts; /* [to->vocabulary] */
    int32_t *types;
    struct ds_arena arena;
};

/* --- pre-tokenizer --- */

/* Adds the patterns of a step; false when it does something that no known pre-tokenizer does. */
static bool collect_patterns(const json_t *step, struct ds_text *patterns, size_t most, size_t *count) {
    const char *type = json_string_value(json_object_get(step, "type"));
    if (!type) return false;
    if (strcmp(type, "Sequence") == 0) {
        const json_t *steps = json_object_get(step, "pretokenizers");
        for (size_t i = 0; i < json_array_size(steps); i++)
            if (!collect_patterns(json_array_get(steps, i), patterns, most, count)) return false;
        return true;
    }
    if (strcmp(type, "ByteLevel") == 0) {
        if (!json_is_false(json_object_get(step, "add_prefix_space"))) return false;
        if (json_is_false(json_object_get(step, "use_regex"))) return true;
        if (*count == most) return false;
        patterns[(*count)++] = (struct ds_text){ds_gpt2_pattern, strlen(ds_gpt2_pattern)};
        return true;
    }
    const json_t *regex = json_object_get(json_object_get(step, "pattern"), "Regex");
    const char *behavior = json_string_value(json_object_get(step, "behavior"));
    const bool plain = behavior && strcmp(behavior, "Isolated") == 0 && !json_is_true(json_object_get(step, "invert"));
    if (strcmp(type, "Split") != 0 || !regex || !plain || *count == most) return false;
    patterns[(*count)++] = (struct ds_text){json_string_value(regex), json_string_length(regex)};
    return true;
}

static ds_status find_pre(const struct exporter *e, const char **name, struct ds_error *err) {
    char list[256];
    ds_known_pre_list(list, sizeof list);
    *name = e->to->pre;
    if (*name && !ds_known_pre_find(*name))
        return ds_fail(err, DS_ERROR_ARGUMENT, "pre-tokenizer '%s' is not known; expected one of %s", ds_quote_name(*name).text, list);
    if (*name) return DS_OK;
    struct ds_text patterns[DS_PRETOKENIZER_MAX];
    size_t count = 0;
    ds_normal_form form;
    DS_TRY(ds_json_normalizer(json_object_get(e->root, "normalizer"), &form, err));
    const bool whole_words = json_is_true(json_object_get(json_object_get(e->root, "model"), "ignore_merges"));
    const struct ds_known_pre *pre = NULL;
    if (collect_patterns(json_object_get(e->root, "pre_tokenizer"), patterns, DS_PRETOKENIZER_MAX, &count))
        pre = ds_known_pre_match(patterns, count, form, whole_words);
    if (!pre)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "how this tokenizer splits text has no name that we recognise, and GGUF needs one; if you know it, give it with "
                       "--pre NAME (%s)", list);
    *name = pre->names[0];
    return DS_OK;
}

/* --- tokens --- */

/* ds_tokenizer_open_json has checked ids and kinds; they are checked against the vocabulary here. */
static ds_status place(struct exporter *e, const char *text, size_t length, const json_t *id, int32_t type, struct ds_error *err) {
    const json_int_t index = json_is_integer(id) ? json_integer_value(id) : -1;
    if (index < 0 || index >= e->to->vocabulary)
        return ds_fail(err, DS_ERROR_MISMATCH, "token '%s': expected an id below %u, the rows of the model's embedding, found %lld",
                       ds_quote(text, length).text, e->to->vocabulary, (long long)index);
    e->texts[index] = (struct ds_text){text, length};
    e->types[index] = type;
    return DS_OK;
}

/* Rows of the embedding without a token get a text, for readers that want each to be there and different. */
static ds_status name_unused(struct exporter *e, struct ds_error *err) {
    for (uint32_t i = 0; i < e->to->vocabulary; i++) {
        if (e->texts[i].data) continue;
        char name[24];
        const int n = snprintf(name, sizeof name, "[PAD%u]", i);
        const char *copy = ds_arena_copy(&e->arena, name, (size_t)n);
        if (!copy) return ds_fail_memory(err, (size_t)n, "tokens");
        e->texts[i] = (struct ds_text){copy, (size_t)n};
        e->types[i] = DS_TOKEN_UNUSED;
    }
    return DS_OK;
}

static void warn_about_flags(const struct exporter *e, const json_t *token) {
    static const char *const flags[] = {"lstrip", "rstrip", "single_word"};
    for (size_t i = 0; i < DS_COUNT(flags); i++)
        if (json_is_true(json_object_get(token, flags[i])))
            ds_logf(e->to->log, DS_LOG_WARNING, "added token '%s' has %s set, which GGUF cannot state: texts around it may give other ids",
                    ds_quote_name(json_string_value(json_object_get(token, "content"))).text, flags[i]);
}

static ds_status fill_vocabulary(struct exporter *e, struct ds_error *err) {
    json_t *vocab = json_object_get(json_object_get(e->root, "model"), "vocab");
    const json_t *added = json_object_get(e->root, "added_tokens");
    for (void *it = json_object_iter(vocab); it; it = json_object_iter_next(vocab, it))
        DS_TRY(place(e, json_object_iter_key(it), json_object_iter_key_len(it), json_object_iter_value(it), DS_TOKEN_NORMAL, err));
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *token = json_array_get(added, i), *content = json_object_get(token, "content");
        const bool special = json_is_true(json_object_get(token, "special"));
        warn_about_flags(e, token);
        DS_TRY(place(e, json_string_value(content), json_string_length(content), json_object_get(token, "id"),
                     special ? DS_TOKEN_CONTROL : DS_TOKEN_USER_DEFINED, err));
    }
    return name_unused(e, err);
}

static ds_status write_vocabulary(struct exporter *e, struct ds_error *err) {
    DS_TRY(ds_gguf_add_strings(e->to->writer, "tokenizer.ggml.tokens", e->texts, e->to->vocabulary, err));
    return ds_gguf_add_i32s(e->to->writer, "tokenizer.ggml.token_type", e->types, e->to->vocabulary, err);
}

/* "left right"; newer files keep the two apart. */
static ds_status write_merges(const struct ds_tokenizer_export *to, const json_t *merges, struct ds_arena *arena, struct ds_error *err) {
    const size_t count = json_array_size(merges);
    struct ds_text *lines = ds_arena_array(arena, count, sizeof *lines);
    if (!lines) return ds_fail_memory(err, count * sizeof *lines, "merges");
    for (size_t i = 0; i < count; i++) {
        const json_t *merge = json_array_get(merges, i), *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
        if (json_is_string(merge)) {
            lines[i] = (struct ds_text){json_string_value(merge), json_string_length(merge)};
            continue;
        }
        const size_t n = json_string_length(left), m = json_string_length(right);
        char *line = ds_arena_alloc(arena, n + 1 + m + 1);
        if (!line) return ds_fail_memory(err, n + m + 2, "merges");
        memcpy(line, json_string_value(left), n);
        line[n] = ' ';
        memcpy(line + n + 1, json_string_value(right), m);
        lines[i] = (struct ds_text){line, n + 1 + m};
    }
    return ds_gguf_add_strings(to->writer, "tokenizer.ggml.merges", lines, count, err);
}

ds_status ds_export_merges(const struct ds_tokenizer_export *to, const json_t *root, struct ds_error *err) {
    struct ds_arena arena = {0};
    const ds_status status = write_merges(to, json_object_get(json_object_get(root, "model"), "merges"), &arena, err);
    ds_arena_free(&arena);
    return status;
}

/* --- the whole --- */

static ds_status export_bytes(struct exporter *e, struct ds_error *err) {
    const char *pre = NULL;
    DS_TRY(find_pre(e, &pre, err));
    DS_TRY(ds_gguf_add_string(e->to->writer, "tokenizer.ggml.model", "gpt2", 4, err));
    DS_TRY(ds_gguf_add_string(e->to->writer, "tokenizer.ggml.pre", pre, strlen(pre), err));
    DS_TRY(write_vocabulary(e, err));
    return ds_export_merges(e->to, e->root, err);
}

ds_status ds_export_tokenizer_json(const struct ds_tokenizer_export *to, const json_t *root, struct ds_error *err) {
    struct exporter e = {.to = to, .root = root};
    e.texts = ds_arena_array(&e.arena, to->vocabulary, sizeof *e.texts);
    e.types = ds_arena_array(&e.arena, to->vocabulary, sizeof *e.types);
    ds_status status = e.texts && e.types ? DS_OK : ds_fail_memory(err, to->vocabulary * sizeof *e.texts, "tokens");
    if (status == DS_OK) status = fill_vocabulary(&e, err);
    if (status == DS_OK) status = ds_export_is_pieces(root) ? ds_export_pieces(to, root, e.texts, e.types, err) : export_bytes(&e, err);
    ds_arena_free(&e.arena);
    return status;
}
