/* The translation of Oniguruma's syntax to PCRE2's; regex.h says what is translated and what is refused. */
#ifndef DSPARK_TEXT_REGEX_SYNTAX_H
#define DSPARK_TEXT_REGEX_SYNTAX_H

#include "text/buffer.h"

/* Appends the translation of `pattern` to `out`. DS_ERROR_UNSUPPORTED names the construct and its place. */
ds_status ds_regex_translate(const char *pattern, size_t length, struct ds_buffer *out, struct ds_error *err);

#endif
