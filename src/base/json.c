#include "base/json.h"

#include "base/os.h"
#include "base/quote.h"

#include <stdlib.h>

ds_status ds_json_parse(const char *text, size_t size, json_t **out, struct ds_error *err) {
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL;
    json_error_t error;
    *out = json_loadb(text, size, flags, &error);
    if (!*out && json_error_code(&error) == json_error_numeric_overflow)
        *out = json_loadb(text, size, flags | JSON_DECODE_INT_AS_REAL, &error);
    if (*out) return DS_OK;
    /* Where an allocation of its own fails, jansson says nothing at all. */
    if (json_error_code(&error) == json_error_out_of_memory || !error.text[0]) return ds_fail_memory(err, size, "a JSON document");
    return ds_fail(err, DS_ERROR_FORMAT, "not valid JSON: line %d, column %d: %s", error.line, error.column,
                   ds_quote_name(error.text).text);
}

ds_status ds_json_read_file(const char *path, size_t limit, json_t **out, struct ds_error *err) {
    *out = NULL;
    char *text;
    size_t size;
    DS_TRY(ds_os_read_file(path, limit, &text, &size, err));
    const ds_status status = ds_json_parse(text, size, out, err);
    free(text);
    return status == DS_OK ? DS_OK : ds_fail_context(err, "%s", path);
}

const char *ds_json_kind(const json_t *value) {
    if (!value) return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        return "null";
    }
    return "something else";
}
