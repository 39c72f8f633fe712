/* The configuration: looking values up and reading them with all checks. */
#include "ckpt/ckpt_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void ds_value_set_int(struct ds_value *value, int64_t integer) {
    value->kind = DS_VALUE_INT;
    value->integer = integer;
    value->real = (double)integer;
}

/* False for fractions, NaN and what int64 cannot hold; 2^63 itself is a double, INT64_MAX is not. */
static bool is_whole(double real) {
    return real >= -0x1p63 && real < 0x1p63 && (double)(int64_t)real == real;
}

void ds_value_set_real(struct ds_value *value, double real) {
    value->kind = DS_VALUE_REAL;
    value->real = real;
    value->integer = is_whole(real) ? (int64_t)real : 0;
}

size_t ds_ckpt_value_count(const struct ds_ckpt *ckpt) {
    return ckpt->value_count;
}

const struct ds_value *ds_ckpt_value_at(const struct ds_ckpt *ckpt, size_t index) {
    return &ckpt->values[index];
}

static int compare_with_value(const void *key, const void *item) {
    return strcmp(key, (*(const struct ds_value *const *)item)->key);
}

const struct ds_value *ds_ckpt_value(const struct ds_ckpt *ckpt, const char *key) {
    const struct ds_value **found = bsearch(key, ckpt->by_key, ckpt->value_count, sizeof *ckpt->by_key, compare_with_value);
    return found ? *found : NULL;
}

/* --- what was found, for messages --- */

static const char *plural(ds_value_kind element) {
    switch (element) {
    case DS_VALUE_BOOL:
        return "booleans";
    case DS_VALUE_INT:
        return "integers";
    case DS_VALUE_REAL:
        return "numbers";
    case DS_VALUE_STRING:
        return "strings";
    default:
        return "elements";
    }
}

static struct ds_quoted describe(const struct ds_value *value) {
    struct ds_quoted out;
    switch (value->kind) {
    case DS_VALUE_NULL:
        snprintf(out.text, sizeof out.text, "null");
        break;
    case DS_VALUE_BOOL:
        snprintf(out.text, sizeof out.text, "%s", value->boolean ? "true" : "false");
        break;
    case DS_VALUE_INT:
        snprintf(out.text, sizeof out.text, "%lld", (long long)value->integer);
        break;
    case DS_VALUE_REAL:
        snprintf(out.text, sizeof out.text, "%.17g", value->real);
        break;
    case DS_VALUE_STRING:
        snprintf(out.text, sizeof out.text, "the string '%.120s'", ds_quote(value->string, value->length).text);
        break;
    case DS_VALUE_ARRAY:
        if (value->element == DS_VALUE_NULL)
            snprintf(out.text, sizeof out.text, value->mixed ? "an array of elements of mixed kinds" : "an empty array");
        else
            snprintf(out.text, sizeof out.text, "an array of %zu %s", value->length, plural(value->element));
        break;
    }
    return out;
}

static ds_status fail_value(const struct ds_ckpt *ckpt, const char *key, const struct ds_value *value, const char *expected,
                            struct ds_error *err) {
    if (value)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: key '%s': expected %s, found %s", ckpt->config_path, key, expected,
                       describe(value).text);
    const bool no_file = ds_os_path_kind(ckpt->config_path) == DS_PATH_MISSING;
    return ds_fail(err, DS_ERROR_FORMAT, "%s: key '%s' is missing%s: expected %s", ckpt->config_path, key,
                   no_file ? " (there is no such file)" : "", expected);
}

/* --- checked readers --- */

/* NULL for an absent key and for JSON's null, which says the same. */
static const struct ds_value *present(const struct ds_ckpt *ckpt, const char *key) {
    const struct ds_value *value = ds_ckpt_value(ckpt, key);
    return value && value->kind != DS_VALUE_NULL ? value : NULL;
}

ds_status ds_ckpt_int(const struct ds_ckpt *ckpt, const char *key, int64_t min, int64_t max, int64_t *out,
                      struct ds_error *err) {
    const struct ds_value *value = ds_ckpt_value(ckpt, key);
    /* 4096.0 is taken for 4096: some writers put every number down as a real. */
    const bool number = value && (value->kind == DS_VALUE_INT || (value->kind == DS_VALUE_REAL && is_whole(value->real)));
    if (!number || value->integer < min || value->integer > max) {
        char expected[96];
        snprintf(expected, sizeof expected, "an integer from %lld to %lld", (long long)min, (long long)max);
        return fail_value(ckpt, key, value, expected, err);
    }
    *out = value->integer;
    return DS_OK;
}

ds_status ds_ckpt_int_or(const struct ds_ckpt *ckpt, const char *key, int64_t min, int64_t max, int64_t fallback, int64_t *out,
                         struct ds_error *err) {
    if (present(ckpt, key)) return ds_ckpt_int(ckpt, key, min, max, out, err);
    *out = fallback;
    return DS_OK;
}

ds_status ds_ckpt_real(const struct ds_ckpt *ckpt, const char *key, double min, double max, double *out, struct ds_error *err) {
    const struct ds_value *value = ds_ckpt_value(ckpt, key);
    const bool number = value && (value->kind == DS_VALUE_INT || value->kind == DS_VALUE_REAL);
    if (!number || !(value->real >= min && value->real <= max)) { /* a NaN is outside */
        char expected[96];
        snprintf(expected, sizeof expected, "a number from %g to %g", min, max);
        return fail_value(ckpt, key, value, expected, err);
    }
    *out = value->real;
    return DS_OK;
}

ds_status ds_ckpt_real_or(const struct ds_ckpt *ckpt, const char *key, double min, double max, double fallback, double *out,
                          struct ds_error *err) {
    if (present(ckpt, key)) return ds_ckpt_real(ckpt, key, min, max, out, err);
    *out = fallback;
    return DS_OK;
}

ds_status ds_ckpt_bool_or(const struct ds_ckpt *ckpt, const char *key, bool fallback, bool *out, struct ds_error *err) {
    const struct ds_value *value = present(ckpt, key);
    if (value && value->kind != DS_VALUE_BOOL) return fail_value(ckpt, key, value, "true or false", err);
    *out = value ? value->boolean : fallback;
    return DS_OK;
}

ds_status ds_ckpt_string(const struct ds_ckpt *ckpt, const char *key, const char **out, struct ds_error *err) {
    *out = NULL;
    const struct ds_value *value = ds_ckpt_value(ckpt, key);
    if (!value || value->kind != DS_VALUE_STRING) return fail_value(ckpt, key, value, "a string", err);
    if (strlen(value->string) != value->length) return fail_value(ckpt, key, value, "a string without NUL characters", err);
    *out = value->string;
    return DS_OK;
}

ds_status ds_ckpt_string_or(const struct ds_ckpt *ckpt, const char *key, const char *fallback, const char **out,
                            struct ds_error *err) {
    if (present(ckpt, key)) return ds_ckpt_string(ckpt, key, out, err);
    *out = fallback;
    return DS_OK;
}

ds_status ds_ckpt_ints(const struct ds_ckpt *ckpt, const char *key, size_t min_count, size_t max_count, int64_t min,
                       int64_t max, const int64_t **out, size_t *count, struct ds_error *err) {
    *out = NULL;
    *count = 0;
    const struct ds_value *value = ds_ckpt_value(ckpt, key);
    char expected[160];
    snprintf(expected, sizeof expected, "an array of %zu to %zu integers from %lld to %lld", min_count, max_count,
             (long long)min, (long long)max);
    const bool fits =
        value && value->kind == DS_VALUE_ARRAY && !value->mixed && value->length >= min_count && value->length <= max_count;
    if (!fits || (value->length > 0 && value->element != DS_VALUE_INT)) /* an empty one has no element kind */
        return fail_value(ckpt, key, value, expected, err);
    const int64_t *integers = value->array;
    for (size_t i = 0; i < value->length; i++) {
        if (integers[i] < min || integers[i] > max)
            return ds_fail(err, DS_ERROR_FORMAT, "%s: key '%s': expected %s, found %lld as element %zu", ckpt->config_path, key,
                           expected, (long long)integers[i], i);
    }
    *out = integers;
    *count = value->length;
    return DS_OK;
}
