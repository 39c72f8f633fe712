/* GGUF: its pieces, and keys with typed values. */
#include "ckpt/gguf_reader.h"

#include "base/bytes.h"

#include <string.h>

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPE_COUNT
};

/* Bytes of a number; 0 for strings and arrays. */
static const uint8_t number_bytes[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = 1,  [GGUF_I8] = 1,   [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
    [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
};

/* --- pieces --- */

ds_status ds_gguf_take(struct ds_gguf_reader *r, uint64_t bytes, const char *what, const uint8_t **out) {
    *out = r->data + r->at;
    if (bytes > r->size - r->at)
        return ds_fail(r->err, DS_ERROR_FORMAT, "the file is cut off: expected %llu bytes of %s at byte %llu, found %llu",
                       (unsigned long long)bytes, what, (unsigned long long)r->at, (unsigned long long)(r->size - r->at));
    r->at += bytes;
    return DS_OK;
}

ds_status ds_gguf_take_u32(struct ds_gguf_reader *r, const char *what, uint32_t *out) {
    const uint8_t *p;
    DS_TRY(ds_gguf_take(r, 4, what, &p));
    *out = ds_load_u32(p);
    return DS_OK;
}

ds_status ds_gguf_take_u64(struct ds_gguf_reader *r, const char *what, uint64_t *out) {
    const uint8_t *p;
    DS_TRY(ds_gguf_take(r, 8, what, &p));
    *out = ds_load_u64(p);
    return DS_OK;
}

static ds_status take_text(struct ds_gguf_reader *r, const char *what, struct ds_text *out) {
    uint64_t length;
    const uint8_t *p;
    DS_TRY(ds_gguf_take_u64(r, what, &length));
    DS_TRY(ds_gguf_take(r, length, what, &p));
    *out = (struct ds_text){.data = (const char *)p, .length = (size_t)length};
    return DS_OK;
}

ds_status ds_gguf_take_name(struct ds_gguf_reader *r, const char *what, const char **out) {
    struct ds_text text;
    DS_TRY(take_text(r, what, &text));
    if (text.length == 0) return ds_fail(r->err, DS_ERROR_FORMAT, "expected %s, found an empty one", what);
    if (memchr(text.data, 0, text.length))
        return ds_fail(r->err, DS_ERROR_FORMAT, "expected %s without NUL characters, found '%s'", what,
                       ds_quote(text.data, text.length).text);
    return ds_ckpt_copy(r->ckpt, text.data, text.length, out, r->err);
}

/* --- values --- */

/* One number or boolean; `p` has the bytes of its type. */
static ds_status read_number(enum gguf_type type, const uint8_t *p, struct ds_value *value, struct ds_error *err) {
    switch (type) {
    case GGUF_U8:
        ds_value_set_int(value, p[0]);
        break;
    case GGUF_I8:
        ds_value_set_int(value, (int8_t)p[0]);
        break;
    case GGUF_U16:
        ds_value_set_int(value, ds_load_u16(p));
        break;
    case GGUF_I16:
        ds_value_set_int(value, (int16_t)ds_load_u16(p));
        break;
    case GGUF_U32:
        ds_value_set_int(value, ds_load_u32(p));
        break;
    case GGUF_I32:
        ds_value_set_int(value, (int32_t)ds_load_u32(p));
        break;
    case GGUF_F32:
        ds_value_set_real(value, (double)ds_float_from_bits(ds_load_u32(p)));
        break;
    case GGUF_F64:
        ds_value_set_real(value, ds_double_from_bits(ds_load_u64(p)));
        break;
    case GGUF_I64:
        ds_value_set_int(value, (int64_t)ds_load_u64(p));
        break;
    case GGUF_U64:
        if (ds_load_u64(p) > INT64_MAX)
            return ds_fail(err, DS_ERROR_UNSUPPORTED, "expected an integer below 2^63, found %llu",
                           (unsigned long long)ds_load_u64(p));
        ds_value_set_int(value, (int64_t)ds_load_u64(p));
        break;
    default: /* GGUF_BOOL */
        if (p[0] > 1) return ds_fail(err, DS_ERROR_FORMAT, "expected a boolean, 0 or 1, found %u", p[0]);
        value->kind = DS_VALUE_BOOL;
        value->boolean = p[0] != 0;
    }
    return DS_OK;
}

static ds_status read_texts(struct ds_gguf_reader *r, uint64_t count, struct ds_value *value) {
    void *items;
    DS_TRY(ds_ckpt_array(r->ckpt, (size_t)count, sizeof(struct ds_text), &items, r->err));
    struct ds_text *texts = items;
    for (uint64_t i = 0; i < count; i++) DS_TRY(take_text(r, "a string in an array", &texts[i]));
    value->element = DS_VALUE_STRING;
    value->array = texts;
    return DS_OK;
}

static ds_status read_numbers(struct ds_gguf_reader *r, enum gguf_type type, uint64_t count, struct ds_value *value) {
    const uint8_t *p;
    DS_TRY(ds_gguf_take(r, count * number_bytes[type], "an array", &p)); /* no overflow: count <= DS_CKPT_MAX_ELEMENTS */
    const bool is_real = type == GGUF_F32 || type == GGUF_F64;
    void *items;
    DS_TRY(ds_ckpt_array(r->ckpt, (size_t)count, type == GGUF_BOOL ? sizeof(bool) : 8, &items, r->err));
    for (uint64_t i = 0; i < count; i++) {
        struct ds_value element = {0};
        if (read_number(type, p + i * number_bytes[type], &element, r->err) != DS_OK)
            return ds_fail_context(r->err, "element %llu", (unsigned long long)i);
        if (type == GGUF_BOOL) {
            ((bool *)items)[i] = element.boolean;
        } else if (is_real) {
            ((double *)items)[i] = element.real;
        } else {
            ((int64_t *)items)[i] = element.integer;
        }
    }
    value->element = type == GGUF_BOOL ? DS_VALUE_BOOL : is_real ? DS_VALUE_REAL : DS_VALUE_INT;
    value->array = items;
    return DS_OK;
}

static ds_status read_array(struct ds_gguf_reader *r, struct ds_value *value) {
    uint32_t type;
    uint64_t count;
    DS_TRY(ds_gguf_take_u32(r, "an array's element type", &type));
    DS_TRY(ds_gguf_take_u64(r, "an array's length", &count));
    if (type == GGUF_ARRAY) return ds_fail(r->err, DS_ERROR_UNSUPPORTED, "arrays of arrays are not supported");
    if (type >= GGUF_TYPE_COUNT)
        return ds_fail(r->err, DS_ERROR_FORMAT, "expected an element type from 0 to %d, found %u", GGUF_TYPE_COUNT - 1, type);
    /* A string takes at least its 8 bytes of length. */
    const uint64_t left = (r->size - r->at) / (type == GGUF_STRING ? 8 : number_bytes[type]);
    if (count > left)
        return ds_fail(r->err, DS_ERROR_FORMAT,
                       "expected an array of at most %llu elements, for which the file has room, found %llu",
                       (unsigned long long)left, (unsigned long long)count);
    if (count > DS_CKPT_MAX_ELEMENTS - r->elements)
        return ds_fail(r->err, DS_ERROR_LIMIT, "more than %d elements in arrays", DS_CKPT_MAX_ELEMENTS);
    r->elements += count;
    value->kind = DS_VALUE_ARRAY;
    value->length = (size_t)count;
    if (count == 0) return DS_OK;
    return type == GGUF_STRING ? read_texts(r, count, value) : read_numbers(r, (enum gguf_type)type, count, value);
}

static ds_status read_value(struct ds_gguf_reader *r, struct ds_value *value) {
    uint32_t type;
    DS_TRY(ds_gguf_take_u32(r, "a value's type", &type));
    if (type >= GGUF_TYPE_COUNT)
        return ds_fail(r->err, DS_ERROR_FORMAT, "expected a value type from 0 to %d, found %u", GGUF_TYPE_COUNT - 1, type);
    if (type == GGUF_ARRAY) return read_array(r, value);
    if (type == GGUF_STRING) {
        struct ds_text text;
        DS_TRY(take_text(r, "a string", &text));
        value->kind = DS_VALUE_STRING;
        value->length = text.length;
        return ds_ckpt_copy(r->ckpt, text.data, text.length, &value->string, r->err);
    }
    const uint8_t *p;
    DS_TRY(ds_gguf_take(r, number_bytes[type], "a number", &p));
    return read_number((enum gguf_type)type, p, value, r->err);
}

/* --- keys --- */

/* Keys that say how to read the rest of the file. */
static ds_status apply_value(struct ds_gguf_reader *r, const struct ds_value *value) {
    if (strcmp(value->key, "general.alignment") == 0) {
        const int64_t a = value->integer;
        if (value->kind != DS_VALUE_INT || a <= 0 || a > UINT32_MAX || (a & (a - 1)) != 0)
            return ds_fail(r->err, DS_ERROR_FORMAT, "expected a power of two, found %lld", (long long)a);
        r->alignment = (uint64_t)a;
    } else if (strcmp(value->key, "split.count") == 0 && value->integer > 1) {
        return ds_fail(r->err, DS_ERROR_UNSUPPORTED,
                       "this is one of %lld parts of a split model: join them first (llama-gguf-split --merge)",
                       (long long)value->integer);
    }
    return DS_OK;
}

ds_status ds_gguf_read_key(struct ds_gguf_reader *r, uint64_t index) {
    struct ds_value value = {0};
    if (ds_gguf_take_name(r, "a key", &value.key) != DS_OK) return ds_fail_context(r->err, "key %llu", (unsigned long long)index);
    const uint64_t begin = r->at;
    ds_status status = read_value(r, &value);
    value.stored = (struct ds_text){.data = (const char *)r->data + begin, .length = (size_t)(r->at - begin)};
    if (status == DS_OK) status = apply_value(r, &value);
    if (status == DS_OK) status = ds_ckpt_add_value(r->ckpt, &value, r->err);
    return status == DS_OK ? DS_OK : ds_fail_context(r->err, "key '%s'", ds_quote_name(value.key).text);
}
