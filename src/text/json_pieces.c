/* SentencePiece-style BPE as tokenizer.json describes it: steps that are looked for one by one, and refused when they are others. */
#include "base/quote.h"
#include "text/json_member.h"
#include "text/pieces.h"

#include <string.h>

static const char blank[] = "\xE2\x96\x81";

static ds_status unsupported(const char *where, struct ds_text type, const char *expected, struct ds_error *err) {
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s of type \"%s\" is not supported for a model with byte_fallback (%s)", where,
                   ds_quote(type.data, type.length).text, expected);
}

struct style {
    struct ds_pieces *pieces;
    struct ds_pretokenizer *pre;
    bool escapes; /* blanks become U+2581 */
};

typedef ds_status (*step_fn)(const json_t *step, struct ds_text type, struct style *style, struct ds_error *err);

/* A step, those of a Sequence, or null. */
static ds_status each(const json_t *root, const char *where, const char *list, step_fn fn, struct style *style, struct ds_error *err) {
    const json_t *value = json_object_get(root, where);
    if (!value || json_is_null(value)) return DS_OK;
    struct ds_text type;
    DS_TRY(ds_json_type(value, where, &type, err));
    if (!ds_text_is(type, "Sequence")) return fn(value, type, style, err);
    json_t *steps;
    DS_TRY(ds_json_member(value, where, list, JSON_ARRAY, &steps, err));
    for (size_t i = 0; i < json_array_size(steps); i++) {
        DS_TRY(ds_json_type(json_array_get(steps, i), where, &type, err));
        DS_TRY(fn(json_array_get(steps, i), type, style, err));
    }
    return DS_OK;
}

/* {"pattern": {"String": from}, "content": to} */
static ds_status is_replacement(const json_t *step, const char *where, const char *from, const char *to, bool *is, struct ds_error *err) {
    json_t *pattern;
    struct ds_text literal, content;
    DS_TRY(ds_json_member(step, where, "pattern", JSON_OBJECT, &pattern, err));
    DS_TRY(ds_json_text(pattern, where, "String", &literal, err));
    DS_TRY(ds_json_text(step, where, "content", &content, err));
    *is = ds_text_is(literal, from) && ds_text_is(content, to);
    return DS_OK;
}

static ds_status normalizer_step(const json_t *step, struct ds_text type, struct style *style, struct ds_error *err) {
    static const char where[] = "normalizer", expected[] = "Prepend U+2581, and Replace of blanks by U+2581, are";
    bool is = false;
    if (ds_text_is(type, "Prepend")) {
        struct ds_text prefix;
        DS_TRY(ds_json_text(step, where, "prepend", &prefix, err));
        if (!ds_text_is(prefix, blank)) return unsupported(where, type, expected, err);
        style->pieces->prefix = DS_PREFIX_EVERY;
        return DS_OK;
    }
    if (ds_text_is(type, "Replace")) DS_TRY(is_replacement(step, where, " ", blank, &is, err));
    if (!is) return unsupported(where, type, expected, err);
    style->escapes = true;
    return DS_OK;
}

static ds_status metaspace(const json_t *step, struct style *style, struct ds_error *err) {
    static const char where[] = "pre_tokenizer";
    struct ds_text replacement, scheme;
    bool split, prefix;
    DS_TRY(ds_json_text(step, where, "replacement", &replacement, err));
    DS_TRY(ds_json_text(step, where, "prepend_scheme", &scheme, err));
    DS_TRY(ds_json_bool(step, where, "split", true, &split, err));
    DS_TRY(ds_json_bool(step, where, "add_prefix_space", true, &prefix, err));
    if (!ds_text_is(replacement, blank)) return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s.replacement: only U+2581 is supported", where);
    if (scheme.data ? ds_text_is(scheme, "always") : prefix) style->pieces->prefix = DS_PREFIX_OTHER;
    else if (scheme.data && ds_text_is(scheme, "first")) style->pieces->prefix = DS_PREFIX_FIRST;
    else if (scheme.data && !ds_text_is(scheme, "never"))
        return ds_fail(err, DS_ERROR_FORMAT, "%s.prepend_scheme: expected always, first or never, found \"%s\"", where,
                       ds_quote(scheme.data, scheme.length).text);
    style->escapes = true;
    if (!split) return DS_OK;
    return ds_pretokenizer_add(style->pre, blank, sizeof blank - 1, true, DS_SPLIT_MERGED_WITH_NEXT, false, err);
}

static ds_status pre_step(const json_t *step, struct ds_text type, struct style *style, struct ds_error *err) {
    static const char where[] = "pre_tokenizer";
    if (ds_text_is(type, "Metaspace")) return metaspace(step, style, err);
    json_t *pattern = NULL;
    struct ds_text literal = {0};
    if (ds_text_is(type, "Split")) {
        DS_TRY(ds_json_member(step, where, "pattern", JSON_OBJECT, &pattern, err));
        DS_TRY(ds_json_text(pattern, where, "String", &literal, err));
    }
    /* Where blanks have been replaced, a split at them cuts nothing. */
    if (style->escapes && ds_text_is(literal, " ")) return DS_OK;
    return unsupported(where, type, "Metaspace, and Split at blanks that have been replaced, are", err);
}

static ds_status decoder_step(const json_t *step, struct ds_text type, struct style *style, struct ds_error *err) {
    static const char where[] = "decoder";
    bool is = false;
    if (ds_text_is(type, "ByteFallback") || ds_text_is(type, "Fuse")) return DS_OK;
    if (ds_text_is(type, "Metaspace")) {
        style->pieces->strips_first = style->pieces->prefix != DS_PREFIX_NONE;
        return DS_OK;
    }
    if (ds_text_is(type, "Replace")) DS_TRY(is_replacement(step, where, blank, " ", &is, err));
    if (ds_text_is(type, "Strip")) {
        struct ds_text content;
        DS_TRY(ds_json_text(step, where, "content", &content, err));
        const json_int_t start = json_integer_value(json_object_get(step, "start")), stop = json_integer_value(json_object_get(step, "stop"));
        is = ds_text_is(content, " ") && (start == 0 || start == 1) && stop == 0;
        style->pieces->strips_first = start == 1;
    }
    return is ? DS_OK : unsupported(where, type, "ByteFallback, Fuse, Replace of U+2581 by a blank, Strip of one blank in front, and Metaspace are", err);
}

ds_status ds_json_pieces(const json_t *root, struct ds_pieces *pieces, struct ds_pretokenizer *pre, struct ds_error *err) {
    json_t *model;
    DS_TRY(ds_json_member(root, "the document", "model", JSON_OBJECT, &model, err));
    DS_TRY(ds_json_bool(model, "model", "byte_fallback", false, &pieces->used, err));
    if (!pieces->used) return DS_OK;
    struct style style = {.pieces = pieces, .pre = pre};
    DS_TRY(each(root, "normalizer", "normalizers", normalizer_step, &style, err));
    DS_TRY(each(root, "pre_tokenizer", "pretokenizers", pre_step, &style, err));
    DS_TRY(each(root, "decoder", "decoders", decoder_step, &style, err));
    if (style.escapes) return DS_OK;
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "model.byte_fallback is true, but nothing replaces blanks by U+2581: this kind of tokenizer is not known");
}
