/* JSON objects as a flat list of values, the form in which GGUF has its metadata. */
#include "ckpt/ckpt_internal.h"

#include <stdio.h>
#include <string.h>

/* Real files need 3 levels and keys of 80 bytes. Bounds keep the work of joining keys proportional to the file. */
enum { MAX_DEPTH = 16, MAX_KEY_BYTES = 256 };

static ds_value_kind kind_of(const json_t *item) {
    switch (json_typeof(item)) {
    case JSON_TRUE:
    case JSON_FALSE:
        return DS_VALUE_BOOL;
    case JSON_INTEGER:
        return DS_VALUE_INT;
    case JSON_REAL:
        return DS_VALUE_REAL;
    case JSON_STRING:
        return DS_VALUE_STRING;
    default:
        return DS_VALUE_NULL;
    }
}

/* The one kind of all elements (integers among reals are reals), or DS_VALUE_NULL. */
static ds_value_kind common_kind(const json_t *array) {
    ds_value_kind common = kind_of(json_array_get(array, 0));
    for (size_t i = 1; i < json_array_size(array); i++) {
        const ds_value_kind kind = kind_of(json_array_get(array, i));
        const bool numbers =
            (kind == DS_VALUE_INT || kind == DS_VALUE_REAL) && (common == DS_VALUE_INT || common == DS_VALUE_REAL);
        if (kind == common) continue;
        if (!numbers) return DS_VALUE_NULL;
        common = DS_VALUE_REAL;
    }
    return common;
}

static ds_status copy_element(struct ds_ckpt *ckpt, const json_t *item, ds_value_kind kind, void *items, size_t i,
                              struct ds_error *err) {
    switch (kind) {
    case DS_VALUE_BOOL:
        ((bool *)items)[i] = json_is_true(item);
        return DS_OK;
    case DS_VALUE_INT:
        ((int64_t *)items)[i] = json_integer_value(item);
        return DS_OK;
    case DS_VALUE_REAL:
        ((double *)items)[i] = json_number_value(item);
        return DS_OK;
    default: {
        struct ds_text *text = &((struct ds_text *)items)[i];
        text->length = json_string_length(item);
        return ds_ckpt_copy(ckpt, json_string_value(item), text->length, &text->data, err);
    }
    }
}

static ds_status set_array(struct ds_ckpt *ckpt, const json_t *array, struct ds_value *value, struct ds_error *err) {
    static const size_t element_bytes[] = {
        [DS_VALUE_BOOL] = sizeof(bool),
        [DS_VALUE_INT] = sizeof(int64_t),
        [DS_VALUE_REAL] = sizeof(double),
        [DS_VALUE_STRING] = sizeof(struct ds_text),
    };
    const size_t count = json_array_size(array);
    value->kind = DS_VALUE_ARRAY;
    if (count == 0) return DS_OK;
    const ds_value_kind kind = common_kind(array);
    if (kind == DS_VALUE_NULL) {
        value->mixed = true;
        return DS_OK;
    }
    void *items;
    DS_TRY(ds_ckpt_array(ckpt, count, element_bytes[kind], &items, err));
    for (size_t i = 0; i < count; i++) DS_TRY(copy_element(ckpt, json_array_get(array, i), kind, items, i, err));
    value->element = kind;
    value->length = count;
    value->array = items;
    return DS_OK;
}

static ds_status add_leaf(struct ds_ckpt *ckpt, const json_t *item, const char *key, struct ds_error *err) {
    struct ds_value value = {0};
    DS_TRY(ds_ckpt_copy(ckpt, key, strlen(key), &value.key, err));
    switch (json_typeof(item)) {
    case JSON_ARRAY:
        DS_TRY(set_array(ckpt, item, &value, err));
        break;
    case JSON_STRING:
        value.kind = DS_VALUE_STRING;
        value.length = json_string_length(item);
        DS_TRY(ds_ckpt_copy(ckpt, json_string_value(item), value.length, &value.string, err));
        break;
    case JSON_INTEGER:
        ds_value_set_int(&value, json_integer_value(item));
        break;
    case JSON_REAL:
        ds_value_set_real(&value, json_real_value(item));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        value.kind = DS_VALUE_BOOL;
        value.boolean = json_is_true(item);
        break;
    default:
        value.kind = DS_VALUE_NULL;
    }
    return ds_ckpt_add_value(ckpt, &value, err);
}

/* `key` is one buffer for all levels: its first `length` bytes are the path to `object`, ending in '.' or empty. */
static ds_status add_members(struct ds_ckpt *ckpt, const json_t *object, char key[MAX_KEY_BYTES], size_t length, int depth,
                             struct ds_error *err) {
    if (depth > MAX_DEPTH)
        return ds_fail(err, DS_ERROR_LIMIT, "expected objects nested at most %d deep, found more in '%.*s'", MAX_DEPTH,
                       (int)length, key);
    const char *name;
    json_t *item;
    json_object_foreach((json_t *)(uintptr_t)object, name, item) { /* the macro's iterators want it mutable */
        const bool nested = json_is_object(item);
        const int n = snprintf(key + length, MAX_KEY_BYTES - length, "%s%s", name, nested ? "." : "");
        if (n < 0 || (size_t)n >= MAX_KEY_BYTES - length)
            return ds_fail(err, DS_ERROR_LIMIT, "expected keys of less than %d bytes, found '%s'", MAX_KEY_BYTES,
                           ds_quote_name(name).text);
        if (nested) {
            DS_TRY(add_members(ckpt, item, key, length + (size_t)n, depth + 1, err));
        } else {
            DS_TRY(add_leaf(ckpt, item, key, err));
        }
    }
    return DS_OK;
}

ds_status ds_config_add(struct ds_ckpt *ckpt, const json_t *object, const char *prefix, struct ds_error *err) {
    char key[MAX_KEY_BYTES];
    if (!json_is_object(object)) return ds_fail(err, DS_ERROR_FORMAT, "expected a JSON object, found %s", ds_json_kind(object));
    const int length = snprintf(key, sizeof key, "%s", prefix);
    return add_members(ckpt, object, key, (size_t)length, 1, err);
}
