/*
 * GGUF, versions 2 and 3, little-endian. Layout: header (magic, version, tensor count, key count), keys with typed values,
 * tensor infos, padding to the alignment, tensor data. Everything stated in the file is checked against its real size
 * before it is used. Source: docs/formats.md.
 */
#include "base/bytes.h"
#include "ckpt/ckpt_internal.h"

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

enum {
    SMALLEST_KEY = 8 + 1 + 4 + 1,      /* length, one character, type, one byte of value */
    SMALLEST_INFO = 8 + 1 + 4 + 4 + 8, /* length, one character, no dimensions, type, offset */
    DEFAULT_ALIGNMENT = 32
};

struct reader {
    struct ds_ckpt *ckpt;
    uint32_t file;
    const uint8_t *data;
    uint64_t size, at;
    uint64_t elements; /* of all arrays so far */
    uint64_t alignment;
    struct ds_error *err;
};

/* --- pieces --- */

static ds_status take(struct reader *r, uint64_t bytes, const char *what, const uint8_t **out) {
    *out = r->data + r->at;
    if (bytes > r->size - r->at)
        return ds_fail(r->err, DS_ERROR_FORMAT, "the file is cut off: expected %llu bytes of %s at byte %llu, found %llu",
                       (unsigned long long)bytes, what, (unsigned long long)r->at, (unsigned long long)(r->size - r->at));
    r->at += bytes;
    return DS_OK;
}

static ds_status take_u32(struct reader *r, const char *what, uint32_t *out) {
    const uint8_t *p;
    DS_TRY(take(r, 4, what, &p));
    *out = ds_load_u32(p);
    return DS_OK;
}

static ds_status take_u64(struct reader *r, const char *what, uint64_t *out) {
    const uint8_t *p;
    DS_TRY(take(r, 8, what, &p));
    *out = ds_load_u64(p);
    return DS_OK;
}

static ds_status take_text(struct reader *r, const char *what, struct ds_text *out) {
    uint64_t length;
    const uint8_t *p;
    DS_TRY(take_u64(r, what, &length));
    DS_TRY(take(r, length, what, &p));
    *out = (struct ds_text){.data = (const char *)p, .length = (size_t)length};
    return DS_OK;
}

/* Keys and tensor names become C strings: not empty, no NUL inside. */
static ds_status take_name(struct reader *r, const char *what, const char **out) {
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

static ds_status read_texts(struct reader *r, uint64_t count, struct ds_value *value) {
    void *items;
    DS_TRY(ds_ckpt_array(r->ckpt, (size_t)count, sizeof(struct ds_text), &items, r->err));
    struct ds_text *texts = items;
    for (uint64_t i = 0; i < count; i++) DS_TRY(take_text(r, "a string in an array", &texts[i]));
    value->element = DS_VALUE_STRING;
    value->array = texts;
    return DS_OK;
}

static ds_status read_numbers(struct reader *r, enum gguf_type type, uint64_t count, struct ds_value *value) {
    const uint8_t *p;
    DS_TRY(take(r, count * number_bytes[type], "an array", &p)); /* no overflow: count <= DS_CKPT_MAX_ELEMENTS */
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

static ds_status read_array(struct reader *r, struct ds_value *value) {
    uint32_t type;
    uint64_t count;
    DS_TRY(take_u32(r, "an array's element type", &type));
    DS_TRY(take_u64(r, "an array's length", &count));
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

static ds_status read_value(struct reader *r, struct ds_value *value) {
    uint32_t type;
    DS_TRY(take_u32(r, "a value's type", &type));
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
    DS_TRY(take(r, number_bytes[type], "a number", &p));
    return read_number((enum gguf_type)type, p, value, r->err);
}

/* Keys that say how to read the rest of the file. */
static ds_status apply_value(struct reader *r, const struct ds_value *value) {
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

static ds_status read_key(struct reader *r, uint64_t index) {
    struct ds_value value = {0};
    if (take_name(r, "a key", &value.key) != DS_OK) return ds_fail_context(r->err, "key %llu", (unsigned long long)index);
    const uint64_t begin = r->at;
    ds_status status = read_value(r, &value);
    value.stored = (struct ds_text){.data = (const char *)r->data + begin, .length = (size_t)(r->at - begin)};
    if (status == DS_OK) status = apply_value(r, &value);
    if (status == DS_OK) status = ds_ckpt_add_value(r->ckpt, &value, r->err);
    return status == DS_OK ? DS_OK : ds_fail_context(r->err, "key '%s'", ds_quote_name(value.key).text);
}

/* --- tensors --- */

/* Types that the format has and we do not read; completes "the tensor is ...". */
static const char *unsupported_type(uint32_t id) {
    static const char *const names[] = {
        [9] = "of type q8_1",     [15] = "of type q8_k",  [16] = "of type iq2_xxs", [17] = "of type iq2_xs",
        [18] = "of type iq3_xxs", [19] = "of type iq1_s", [21] = "of type iq3_s",   [22] = "of type iq2_s",
        [24] = "of type i8",      [25] = "of type i16",   [28] = "of type f64",     [29] = "of type iq1_m",
        [34] = "of type tq1_0",   [35] = "of type tq2_0", [40] = "of type nvfp4",
    };
    return id < DS_COUNT(names) && names[id] ? names[id] : "of a type that is not known";
}

/* The file gives the innermost dimension first; a shape has it last. */
static ds_status read_shape(struct reader *r, struct ds_ckpt_tensor *tensor) {
    uint32_t dims;
    DS_TRY(take_u32(r, "a number of dimensions", &dims));
    if (dims > DS_CKPT_MAX_DIMS)
        return ds_fail(r->err, DS_ERROR_FORMAT, "expected at most %d dimensions, found %u", DS_CKPT_MAX_DIMS, dims);
    tensor->dims = dims;
    for (uint32_t i = 0; i < DS_CKPT_MAX_DIMS; i++) tensor->shape[i] = 1;
    for (uint32_t i = dims; i-- > 0;) {
        DS_TRY(take_u64(r, "a dimension", &tensor->shape[i]));
        if (tensor->shape[i] == 0) return ds_fail(r->err, DS_ERROR_FORMAT, "expected dimensions above 0, found 0");
    }
    return DS_OK;
}

static ds_status measure(const struct reader *r, struct ds_ckpt_tensor *tensor) {
    uint64_t rows = 1;
    bool fits = true;
    for (uint32_t i = 0; i + 1 < tensor->dims; i++) fits = fits && ds_mul_u64(rows, tensor->shape[i], &rows);
    const uint64_t cols = tensor->dims > 0 ? tensor->shape[tensor->dims - 1] : 1;
    const struct ds_type_info *info = ds_type_get(tensor->type);
    if (cols % info->block != 0)
        return ds_fail(r->err, DS_ERROR_FORMAT, "expected rows of whole %s blocks of %u elements, found rows of %llu",
                       info->name, info->block, (unsigned long long)cols);
    if (!fits || !ds_type_size(tensor->type, rows, cols, &tensor->bytes))
        return ds_fail(r->err, DS_ERROR_FORMAT, "a tensor of shape %s is larger than any file",
                       ds_shape_describe(tensor->dims, tensor->shape).text);
    return DS_OK;
}

/* The offset is relative to where the data begins, which is known only behind the last info: see place. */
static ds_status read_info_fields(struct reader *r, struct ds_ckpt_tensor *tensor) {
    uint32_t type;
    DS_TRY(read_shape(r, tensor));
    DS_TRY(take_u32(r, "a tensor's type", &type));
    DS_TRY(take_u64(r, "a tensor's offset", &tensor->offset));
    if (tensor->offset % r->alignment != 0)
        return ds_fail(r->err, DS_ERROR_FORMAT, "expected an offset that is a multiple of %llu, found %llu",
                       (unsigned long long)r->alignment, (unsigned long long)tensor->offset);
    if (ds_type_from_gguf(type, &tensor->type)) {
        DS_TRY(measure(r, tensor));
        return ds_ckpt_add_tensor(r->ckpt, tensor, r->err);
    }
    tensor->bytes = 1; /* its size is not known, but it has one */
    return ds_ckpt_add_skipped(r->ckpt, tensor, unsupported_type(type), r->err);
}

static ds_status read_info(struct reader *r, uint64_t index) {
    struct ds_ckpt_tensor tensor = {.file = r->file};
    if (take_name(r, "a tensor's name", &tensor.name) != DS_OK)
        return ds_fail_context(r->err, "tensor %llu", (unsigned long long)index);
    const ds_status status = read_info_fields(r, &tensor);
    return status == DS_OK ? DS_OK : ds_fail_context(r->err, "tensor '%s'", ds_quote_name(tensor.name).text);
}

static ds_status place(const struct reader *r, uint64_t base, struct ds_ckpt_tensor *tensor) {
    const uint64_t room = r->size - base;
    if (tensor->offset > room || tensor->bytes > room - tensor->offset)
        return ds_fail(
            r->err, DS_ERROR_FORMAT,
            "tensor '%s': the file is cut off: expected %llu bytes at offset %llu of the data, found %llu bytes of data",
            ds_quote_name(tensor->name).text, (unsigned long long)tensor->bytes, (unsigned long long)tensor->offset,
            (unsigned long long)room);
    tensor->offset += base;
    return DS_OK;
}

static ds_status place_tensors(struct reader *r) {
    struct ds_ckpt *ckpt = r->ckpt;
    if (ckpt->tensor_count + ckpt->skipped_count == 0) return DS_OK; /* then the file may end without the padding */
    const uint64_t base = DS_ALIGN_UP(r->at, r->alignment);          /* no overflow: a file's size and a 32-bit number */
    if (base > r->size)
        return ds_fail(r->err, DS_ERROR_FORMAT, "the file is cut off: expected tensor data at byte %llu, found the end at %llu",
                       (unsigned long long)base, (unsigned long long)r->size);
    for (size_t i = 0; i < ckpt->tensor_count; i++) {
        DS_TRY(place(r, base, &ckpt->tensors[i]));
        ckpt->tensors[i].data = r->data + ckpt->tensors[i].offset;
    }
    for (size_t i = 0; i < ckpt->skipped_count; i++) DS_TRY(place(r, base, &ckpt->skipped[i].tensor));
    return ds_ckpt_check_overlap(ckpt, r->file, base, r->size, false, r->err);
}

/* --- the file --- */

static ds_status read_version(struct reader *r) {
    const uint8_t *magic;
    uint32_t version;
    DS_TRY(take(r, 4, "the magic", &magic));
    if (memcmp(magic, "GGUF", 4) != 0)
        return ds_fail(r->err, DS_ERROR_FORMAT, "expected a GGUF file, which starts with 'GGUF', found '%s'",
                       ds_quote((const char *)magic, 4).text);
    DS_TRY(take_u32(r, "the version", &version));
    if (version == 2 || version == 3) return DS_OK;
    if (version != 0 && (version & 0xFFFF) == 0)
        return ds_fail(r->err, DS_ERROR_UNSUPPORTED,
                       "this GGUF file is big-endian: expected a little-endian one; convert it on a "
                       "little-endian machine");
    return ds_fail(r->err, DS_ERROR_UNSUPPORTED, "expected GGUF version 2 or 3, found %u%s", version,
                   version < 2 ? ": convert the model again with current tools" : "");
}

static ds_status check_count(const struct reader *r, uint64_t count, uint64_t smallest, const char *what) {
    const uint64_t room = (r->size - r->at) / smallest;
    if (count <= room) return DS_OK;
    return ds_fail(r->err, DS_ERROR_FORMAT, "expected at most %llu %s, for which the file has room, found %llu",
                   (unsigned long long)room, what, (unsigned long long)count);
}

ds_status ds_gguf_read(struct ds_ckpt *ckpt, uint32_t file, struct ds_error *err) {
    struct reader r = {
        .ckpt = ckpt,
        .file = file,
        .data = ckpt->files[file].mapping.data,
        .size = ckpt->files[file].mapping.size,
        .alignment = DEFAULT_ALIGNMENT,
        .err = err,
    };
    uint64_t tensors, keys;
    DS_TRY(read_version(&r));
    DS_TRY(take_u64(&r, "the number of tensors", &tensors));
    DS_TRY(take_u64(&r, "the number of keys", &keys));
    DS_TRY(check_count(&r, keys, SMALLEST_KEY, "keys"));
    DS_TRY(check_count(&r, tensors, SMALLEST_INFO, "tensors"));
    for (uint64_t i = 0; i < keys; i++) DS_TRY(read_key(&r, i));
    for (uint64_t i = 0; i < tensors; i++) DS_TRY(read_info(&r, i));
    return place_tensors(&r);
}
