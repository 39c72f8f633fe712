/*
 * Regular expressions of tokenizer files. They are written for Oniguruma (Ruby syntax), as the reference implementation
 * uses it, and run here on PCRE2. A pattern is translated; a construct whose meaning would differ is refused, never
 * guessed at:
 *
 * - `\s \S \w \W` are spelt out: Unicode White_Space; Alphabetic, M, Nd and Pc. PCRE2 adds U+180E to `\s`; its `\w` differs.
 * - `\v` is U+000B, `\uHHHH` a code point.
 * - Lines end at `\n` only; `^` and `$` match at each line; `.` is all but `\n`.
 * - `\p{Xx}` is a general category; `\p{Name}` is a script as such, without its extensions.
 * - Refused: back references, `\b \h \R \X`, `[a[b]]`, `[a&&b]`, `{n,m}+` (which is not possessive in Ruby), `{,n}`,
 *   conditionals, named groups, options other than `i`.
 *
 * Characters newer than the Unicode version of the PCRE2 in use (14 for 10.42) may fall into other classes.
 *
 * A compiled regex is immutable and may be used from any thread, each with its own ds_regex_match.
 */
#ifndef DSPARK_TEXT_REGEX_H
#define DSPARK_TEXT_REGEX_H

#include "base/status.h"

struct ds_regex;
struct ds_regex_match; /* scratch of one thread */

/* `literal`: the pattern is text to be found as it is. DS_ERROR_UNSUPPORTED or _FORMAT shows the pattern and the place. */
ds_status ds_regex_compile(const char *pattern, size_t length, bool literal, struct ds_regex **out, struct ds_error *err);
void ds_regex_free(struct ds_regex *regex); /* accepts NULL */

struct ds_regex_match *ds_regex_match_create(void);        /* NULL: out of memory */
void ds_regex_match_destroy(struct ds_regex_match *match); /* accepts NULL */

struct ds_range {
    size_t start, end;
};

/*
 * The first match in `text` (valid UTF-8) that starts at or behind `from`. DS_ERROR_LIMIT when the pattern backtracks
 * without end on this text.
 */
ds_status ds_regex_find(const struct ds_regex *regex, struct ds_regex_match *match, const char *text, size_t length,
                        size_t from, bool *found, struct ds_range *range, struct ds_error *err);

#endif
