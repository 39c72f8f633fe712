/*
 * Members of the objects in tokenizer files. `where` is the object's place in the document ("model"), for messages. An
 * absent member and null are the same; a member of another type is DS_ERROR_FORMAT.
 */
#ifndef DSPARK_TEXT_JSON_MEMBER_H
#define DSPARK_TEXT_JSON_MEMBER_H

#include "base/json.h"
#include "ckpt/checkpoint.h"

/* DS_ERROR_FORMAT: "WHERE.KEY: expected EXPECTED, found ...". `key` may be NULL. */
ds_status ds_json_unexpected(const char *where, const char *key, const char *expected, const json_t *found,
                             struct ds_error *err);

/* Borrowed; NULL when absent. */
ds_status ds_json_member(const json_t *object, const char *where, const char *key, json_type type, json_t **out,
                         struct ds_error *err);
/* Borrowed; data NULL when absent. */
ds_status ds_json_text(const json_t *object, const char *where, const char *key, struct ds_text *out, struct ds_error *err);
ds_status ds_json_bool(const json_t *object, const char *where, const char *key, bool fallback, bool *out,
                       struct ds_error *err);
/* "type", which must be there. */
ds_status ds_json_type(const json_t *object, const char *where, struct ds_text *out, struct ds_error *err);

bool ds_text_is(struct ds_text text, const char *expected);

#endif
