#include "text/json_member.h"

#include <string.h>

ds_status ds_json_unexpected(const char *where, const char *key, const char *expected, const json_t *found,
                             struct ds_error *err) {
    return ds_fail(err, DS_ERROR_FORMAT, "%s%s%s: expected %s, found %s", where, key ? "." : "", key ? key : "", expected,
                   ds_json_kind(found));
}

static const char *name_of(json_type type) {
    switch (type) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    default:
        return "a boolean";
    }
}

ds_status ds_json_member(const json_t *object, const char *where, const char *key, json_type type, json_t **out,
                         struct ds_error *err) {
    *out = NULL;
    if (!json_is_object(object)) return ds_json_unexpected(where, NULL, "an object", object, err);
    json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value)) return DS_OK;
    if (json_typeof(value) != type) return ds_json_unexpected(where, key, name_of(type), value, err);
    *out = value;
    return DS_OK;
}

ds_status ds_json_text(const json_t *object, const char *where, const char *key, struct ds_text *out, struct ds_error *err) {
    json_t *value;
    *out = (struct ds_text){0};
    DS_TRY(ds_json_member(object, where, key, JSON_STRING, &value, err));
    if (value) *out = (struct ds_text){json_string_value(value), json_string_length(value)};
    return DS_OK;
}

ds_status ds_json_bool(const json_t *object, const char *where, const char *key, bool fallback, bool *out,
                       struct ds_error *err) {
    if (!json_is_object(object)) return ds_json_unexpected(where, NULL, "an object", object, err);
    const json_t *value = json_object_get(object, key);
    *out = value && !json_is_null(value) ? json_is_true(value) : fallback;
    if (!value || json_is_null(value) || json_is_boolean(value)) return DS_OK;
    return ds_json_unexpected(where, key, "a boolean", value, err);
}

ds_status ds_json_type(const json_t *object, const char *where, struct ds_text *out, struct ds_error *err) {
    DS_TRY(ds_json_text(object, where, "type", out, err));
    return out->data ? DS_OK : ds_json_unexpected(where, "type", "a string", NULL, err);
}

bool ds_text_is(struct ds_text text, const char *expected) {
    const size_t length = strlen(expected);
    return text.data && text.length == length && memcmp(text.data, expected, length) == 0;
}
