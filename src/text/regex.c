#include "text/regex.h"
#include "base/quote.h"
#include "text/regex_syntax.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <stdlib.h>

/*
 * Bounds on one search. Published patterns need a few steps a character; quadratic ones on a megabyte of blanks stop
 * here after a second at most, and are reported.
 */
enum { MATCH_LIMIT = 20 * 1000 * 1000, DEPTH_LIMIT = 100 * 1000, HEAP_LIMIT_KIB = 256 * 1024, MAX_PATTERN = 16 * 1024 };

struct ds_regex {
    pcre2_code *code;
    pcre2_match_context *limits;
};

static ds_status compile(struct ds_regex *regex, const char *pattern, size_t length, bool literal, struct ds_error *err) {
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return ds_fail_memory(err, 0, "a regular expression");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    const uint32_t options = PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C);
    int code;
    PCRE2_SIZE offset;
    regex->code = pcre2_compile((PCRE2_SPTR)pattern, length, options, &code, &offset, context);
    pcre2_compile_context_free(context);
    if (regex->code) return DS_OK;
    PCRE2_UCHAR message[256];
    pcre2_get_error_message(code, message, sizeof message);
    return ds_fail(err, DS_ERROR_FORMAT, "%s, near \"%s\"", (const char *)message,
                   ds_quote(pattern + offset, DS_MIN(length - offset, (size_t)40)).text);
}

static ds_status compile_pattern(struct ds_regex *regex, const char *pattern, size_t length, bool literal,
                                 struct ds_error *err) {
    if (length > MAX_PATTERN)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "it has %zu bytes, the limit is %d", length, (int)MAX_PATTERN);
    struct ds_buffer translated = {0};
    ds_status status =
        literal ? ds_buffer_append(&translated, pattern, length, err) : ds_regex_translate(pattern, length, &translated, err);
    if (status == DS_OK) status = compile(regex, translated.data ? translated.data : "", translated.length, literal, err);
    free(translated.data);
    return status;
}

ds_status ds_regex_compile(const char *pattern, size_t length, bool literal, struct ds_regex **out, struct ds_error *err) {
    *out = NULL;
    struct ds_regex *regex = calloc(1, sizeof *regex);
    if (!regex) return ds_fail_memory(err, sizeof *regex, "a regular expression");
    if (compile_pattern(regex, pattern, length, literal, err) != DS_OK) {
        ds_regex_free(regex);
        return ds_fail_context(err, "regular expression \"%s\"", ds_quote(pattern, length).text);
    }
    regex->limits = pcre2_match_context_create(NULL);
    if (!regex->limits) {
        ds_regex_free(regex);
        return ds_fail_memory(err, 0, "a regular expression");
    }
    pcre2_set_match_limit(regex->limits, MATCH_LIMIT);
    pcre2_set_depth_limit(regex->limits, DEPTH_LIMIT);
    pcre2_set_heap_limit(regex->limits, HEAP_LIMIT_KIB);
    /* Without JIT (not built in, or the system forbids executable memory) the interpreter gives the same matches. */
    (void)pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE);
    *out = regex;
    return DS_OK;
}

void ds_regex_free(struct ds_regex *regex) {
    if (!regex) return;
    pcre2_code_free(regex->code);
    pcre2_match_context_free(regex->limits);
    free(regex);
}

struct ds_regex_match *ds_regex_match_create(void) {
    return (struct ds_regex_match *)pcre2_match_data_create(1, NULL);
}

void ds_regex_match_destroy(struct ds_regex_match *match) {
    pcre2_match_data_free((pcre2_match_data *)match);
}

ds_status ds_regex_find(const struct ds_regex *regex, struct ds_regex_match *match, const char *text, size_t length,
                        size_t from, bool *found, struct ds_range *range, struct ds_error *err) {
    pcre2_match_data *data = (pcre2_match_data *)match;
    int code = pcre2_match(regex->code, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK, data, regex->limits);
    if (code == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its stack on the heap */
        code = pcre2_match(regex->code, (PCRE2_SPTR)text, length, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data, regex->limits);
    *found = code >= 0;
    if (code >= 0) {
        const PCRE2_SIZE *offsets = pcre2_get_ovector_pointer(data);
        /* \K and look-behind tricks could give an end before the start; nothing of the kind passes the translation. */
        *range = (struct ds_range){offsets[0], DS_MAX(offsets[0], offsets[1])};
        return DS_OK;
    }
    if (code == PCRE2_ERROR_NOMATCH) return DS_OK;
    if (code == PCRE2_ERROR_NOMEMORY) return ds_fail_memory(err, 0, "splitting text");
    PCRE2_UCHAR message[256];
    pcre2_get_error_message(code, message, sizeof message);
    return ds_fail(err, DS_ERROR_LIMIT,
                   "splitting the text into words with the tokenizer's pattern takes too long on this text (%s)",
                   (const char *)message);
}
