/* Reading JSON: jansson, with messages that name the file, the place and what was expected. */
#ifndef DSPARK_BASE_JSON_H
#define DSPARK_BASE_JSON_H

#include "base/status.h"

#include <jansson.h>

/*
 * Parses `size` bytes. Objects with a member twice are refused; strings may hold U+0000. A document with an integer beyond
 * 63 bits (tokenizer_config.json has such) gets all its integers as reals. *out is owned by the caller (json_decref), NULL
 * on failure: DS_ERROR_FORMAT with line and column, without the file's name (ds_fail_context adds it).
 */
ds_status ds_json_parse(const char *text, size_t size, json_t **out, struct ds_error *err);

/* The same for a file of at most `limit` bytes; messages name it. */
ds_status ds_json_read_file(const char *path, size_t limit, json_t **out, struct ds_error *err);

/* "an object", "a string", ...: for "expected ..., found ..."; NULL is "nothing". */
const char *ds_json_kind(const json_t *value);

#endif
