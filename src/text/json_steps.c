#include "text/json_steps.h"
#include "base/quote.h"
#include "text/json_member.h"

#include <string.h>

/* Sequences may hold sequences; so deep and no deeper. */
enum { MAX_NESTING = 8 };

static ds_status unsupported(const char *where, struct ds_text type, const char *expected, struct ds_error *err) {
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s of type \"%s\" is not supported (%s)", where,
                   ds_quote(type.data, type.length).text, expected);
}

typedef ds_status (*step_fn)(const json_t *step, struct ds_text type, void *user, struct ds_error *err);

/* Calls `fn` for the step, or for each step of a Sequence, whose list is called `list`. */
static ds_status each_step(const json_t *step, const char *where, const char *list, unsigned depth, step_fn fn, void *user,
                           struct ds_error *err) {
    struct ds_text type;
    DS_TRY(ds_json_type(step, where, &type, err));
    if (!ds_text_is(type, "Sequence")) return fn(step, type, user, err);
    if (depth == MAX_NESTING) return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: sequences nested too deeply", where);
    json_t *steps;
    DS_TRY(ds_json_member(step, where, list, JSON_ARRAY, &steps, err));
    for (size_t i = 0; i < json_array_size(steps); i++)
        DS_TRY(each_step(json_array_get(steps, i), where, list, depth + 1, fn, user, err));
    return DS_OK;
}

/* --- normalizer --- */

static ds_status normalizer_step(const json_t *step, struct ds_text type, void *user, struct ds_error *err) {
    static const struct {
        const char *name;
        ds_normal_form form;
    } forms[] = {{"NFC", DS_NORMAL_NFC}, {"NFD", DS_NORMAL_NFD}, {"NFKC", DS_NORMAL_NFKC}, {"NFKD", DS_NORMAL_NFKD}};
    ds_normal_form *form = user;
    (void)step;
    for (size_t i = 0; i < DS_COUNT(forms); i++) {
        if (!ds_text_is(type, forms[i].name)) continue;
        if (*form != DS_NORMAL_NONE)
            return ds_fail(err, DS_ERROR_UNSUPPORTED,
                           "normalizer: several Unicode forms one after the other are not supported");
        *form = forms[i].form;
        return DS_OK;
    }
    return unsupported("normalizer", type, "NFC, NFD, NFKC and NFKD are; this may be a SentencePiece-style tokenizer", err);
}

ds_status ds_json_normalizer(const json_t *value, ds_normal_form *form, struct ds_error *err) {
    *form = DS_NORMAL_NONE;
    if (!value || json_is_null(value)) return DS_OK;
    return each_step(value, "normalizer", "normalizers", 0, normalizer_step, form, err);
}

/* --- pre_tokenizer --- */

static const char where_pre[] = "pre_tokenizer";

struct pre_state {
    struct ds_pretokenizer *pre;
    bool byte_level; /* the last step has been seen */
};

static ds_status behavior_of(const json_t *step, ds_split_behavior *out, struct ds_error *err) {
    static const char *const names[] = {[DS_SPLIT_ISOLATED] = "Isolated",
                                        [DS_SPLIT_REMOVED] = "Removed",
                                        [DS_SPLIT_CONTIGUOUS] = "Contiguous",
                                        [DS_SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
                                        [DS_SPLIT_MERGED_WITH_NEXT] = "MergedWithNext"};
    struct ds_text name;
    DS_TRY(ds_json_text(step, where_pre, "behavior", &name, err));
    *out = DS_SPLIT_ISOLATED;
    if (!name.data) return DS_OK;
    for (size_t i = 0; i < DS_COUNT(names); i++) {
        *out = (ds_split_behavior)i;
        if (ds_text_is(name, names[i])) return DS_OK;
    }
    return ds_fail(err, DS_ERROR_FORMAT,
                   "%s.behavior: expected Isolated, Removed, Contiguous, MergedWithPrevious or MergedWithNext, found \"%s\"",
                   where_pre, ds_quote(name.data, name.length).text);
}

static ds_status add_pattern(struct ds_pretokenizer *pre, struct ds_text pattern, bool literal, ds_split_behavior behavior,
                             bool invert, struct ds_error *err) {
    if (ds_pretokenizer_add(pre, pattern.data, pattern.length, literal, behavior, invert, err) == DS_OK) return DS_OK;
    return ds_fail_context(err, "%s", where_pre);
}

static ds_status split_step(const json_t *step, struct ds_pretokenizer *pre, struct ds_error *err) {
    json_t *pattern;
    struct ds_text regex, literal;
    ds_split_behavior behavior;
    bool invert;
    DS_TRY(ds_json_member(step, where_pre, "pattern", JSON_OBJECT, &pattern, err));
    DS_TRY(ds_json_text(pattern, "pre_tokenizer.pattern", "Regex", &regex, err));
    DS_TRY(ds_json_text(pattern, "pre_tokenizer.pattern", "String", &literal, err));
    DS_TRY(behavior_of(step, &behavior, err));
    DS_TRY(ds_json_bool(step, where_pre, "invert", false, &invert, err));
    if (!regex.data == !literal.data)
        return ds_fail(err, DS_ERROR_FORMAT, "pre_tokenizer.pattern: expected either Regex or String");
    return add_pattern(pre, regex.data ? regex : literal, !regex.data, behavior, invert, err);
}

static ds_status byte_level_step(const json_t *step, struct ds_pretokenizer *pre, struct ds_error *err) {
    bool use_regex;
    DS_TRY(ds_json_bool(step, where_pre, "add_prefix_space", true, &pre->prefix_space, err));
    DS_TRY(ds_json_bool(step, where_pre, "use_regex", true, &use_regex, err));
    pre->prefix_before = pre->count;
    if (!use_regex) return DS_OK;
    return add_pattern(pre, (struct ds_text){ds_gpt2_pattern, strlen(ds_gpt2_pattern)}, false, DS_SPLIT_ISOLATED, false, err);
}

/* Steps that stand for a fixed pattern. Each cuts single characters, so that Contiguous can join them. */
static ds_status fixed_step(struct ds_pretokenizer *pre, const char *pattern, ds_split_behavior behavior,
                            struct ds_error *err) {
    return add_pattern(pre, (struct ds_text){pattern, strlen(pattern)}, false, behavior, false, err);
}

static ds_status digits_step(const json_t *step, struct ds_pretokenizer *pre, struct ds_error *err) {
    bool individual;
    DS_TRY(ds_json_bool(step, where_pre, "individual_digits", false, &individual, err));
    return fixed_step(pre, "\\p{N}", individual ? DS_SPLIT_ISOLATED : DS_SPLIT_CONTIGUOUS, err);
}

static ds_status punctuation_step(const json_t *step, struct ds_pretokenizer *pre, struct ds_error *err) {
    ds_split_behavior behavior;
    DS_TRY(behavior_of(step, &behavior, err));
    return fixed_step(pre, "[!-/:-@\\[-`{-~\\p{P}]", behavior, err);
}

static ds_status pre_step(const json_t *step, struct ds_text type, void *user, struct ds_error *err) {
    struct pre_state *state = user;
    /* Behind ByteLevel patterns would see the byte alphabet instead of the text. */
    if (state->byte_level)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: a step of type \"%s\" behind ByteLevel is not supported", where_pre,
                       ds_quote(type.data, type.length).text);
    state->byte_level = ds_text_is(type, "ByteLevel");
    if (state->byte_level) return byte_level_step(step, state->pre, err);
    if (ds_text_is(type, "Split")) return split_step(step, state->pre, err);
    if (ds_text_is(type, "Digits")) return digits_step(step, state->pre, err);
    if (ds_text_is(type, "Punctuation")) return punctuation_step(step, state->pre, err);
    if (ds_text_is(type, "WhitespaceSplit")) return fixed_step(state->pre, "\\s", DS_SPLIT_REMOVED, err);
    return unsupported(where_pre, type, "Split, Digits, Punctuation, WhitespaceSplit and ByteLevel are", err);
}

ds_status ds_json_pre_tokenizer(const json_t *value, struct ds_pretokenizer *pre, struct ds_error *err) {
    struct pre_state state = {.pre = pre};
    if (value && !json_is_null(value)) DS_TRY(each_step(value, where_pre, "pretokenizers", 0, pre_step, &state, err));
    if (state.byte_level) return DS_OK;
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s has no ByteLevel step: only byte-level BPE is supported so far", where_pre);
}

/* --- decoder, post_processor --- */

static ds_status decoder_step(const json_t *step, struct ds_text type, void *user, struct ds_error *err) {
    (void)step;
    (void)user;
    if (ds_text_is(type, "ByteLevel") || ds_text_is(type, "Fuse")) return DS_OK;
    return unsupported("decoder", type, "ByteLevel is", err);
}

ds_status ds_json_decoder(const json_t *value, struct ds_error *err) {
    if (!value || json_is_null(value)) return DS_OK;
    return each_step(value, "decoder", "decoders", 0, decoder_step, NULL, err);
}

static ds_status post_step(const json_t *step, struct ds_text type, void *user, struct ds_error *err) {
    static const char where[] = "post_processor";
    struct ds_text *first = user;
    json_t *single, *special;
    if (!ds_text_is(type, "TemplateProcessing")) return DS_OK;
    DS_TRY(ds_json_member(step, where, "single", JSON_ARRAY, &single, err));
    if (json_array_size(single) == 0) return DS_OK;
    DS_TRY(ds_json_member(json_array_get(single, 0), "post_processor.single[0]", "SpecialToken", JSON_OBJECT, &special, err));
    return special ? ds_json_text(special, "post_processor.single[0].SpecialToken", "id", first, err) : DS_OK;
}

ds_status ds_json_first_token(const json_t *value, struct ds_text *out, struct ds_error *err) {
    *out = (struct ds_text){0};
    if (!value || json_is_null(value)) return DS_OK;
    return each_step(value, "post_processor", "processors", 0, post_step, out, err);
}
