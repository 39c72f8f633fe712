/*
 * One safetensors file: 8 bytes of header length, a JSON header that gives each tensor's dtype, shape and place, then the
 * data. As the format demands, tensors neither overlap nor leave gaps. Source: docs/formats.md.
 */
#include "base/bytes.h"
#include "ckpt/ckpt_internal.h"

#include <string.h>

enum { MAX_HEADER_BYTES = 100 * 1000 * 1000 }; /* the format's own limit */

static const struct {
    const char *name;
    ds_type type;
} dtypes[] = {
    {"F32", DS_TYPE_F32}, {"F16", DS_TYPE_F16}, {"BF16", DS_TYPE_BF16}, {"I32", DS_TYPE_I32}, {"I64", DS_TYPE_I64},
};

static bool find_dtype(const char *name, ds_type *out) {
    for (size_t i = 0; i < DS_COUNT(dtypes); i++) {
        if (strcmp(dtypes[i].name, name) == 0) {
            *out = dtypes[i].type;
            return true;
        }
    }
    return false;
}

/* An integer that is a size: 0 or more. */
static bool get_size(const json_t *value, uint64_t *out) {
    if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

/* A member of a tensor's entry, of the JSON type it must have. */
static ds_status get_member(const json_t *entry, const char *name, json_type type, const char *expected, const json_t **out,
                            struct ds_error *err) {
    *out = json_object_get(entry, name);
    if (*out && json_typeof(*out) == type) return DS_OK;
    return ds_fail(err, DS_ERROR_FORMAT, "'%s': expected %s, found %s", name, expected, ds_json_kind(*out));
}

/* Fills offset (in the file) and bytes. `data` is where the data begins and `room` how much there is. */
static ds_status read_place(const json_t *entry, uint64_t data, uint64_t room, struct ds_ckpt_tensor *tensor,
                            struct ds_error *err) {
    const json_t *offsets;
    DS_TRY(get_member(entry, "data_offsets", JSON_ARRAY, "an array of two numbers", &offsets, err));
    uint64_t begin, end;
    if (json_array_size(offsets) != 2 || !get_size(json_array_get(offsets, 0), &begin) ||
        !get_size(json_array_get(offsets, 1), &end))
        return ds_fail(err, DS_ERROR_FORMAT, "'data_offsets': expected an array of two integers of 0 or more");
    if (begin > end || end > room)
        return ds_fail(err, DS_ERROR_FORMAT,
                       "'data_offsets': expected a range within the file's %llu bytes of data, found %llu to %llu",
                       (unsigned long long)room, (unsigned long long)begin, (unsigned long long)end);
    tensor->offset = data + begin;
    tensor->bytes = end - begin;
    return DS_OK;
}

/* Shapes of more dimensions than we keep give dims = DS_CKPT_MAX_DIMS + 1. *elements is the product of all. */
static ds_status read_shape(const json_t *entry, struct ds_ckpt_tensor *tensor, uint64_t *elements, struct ds_error *err) {
    const json_t *shape;
    DS_TRY(get_member(entry, "shape", JSON_ARRAY, "an array of numbers", &shape, err));
    const size_t dims = json_array_size(shape);
    *elements = 1;
    for (uint32_t i = 0; i < DS_CKPT_MAX_DIMS; i++) tensor->shape[i] = 1;
    for (size_t i = 0; i < dims; i++) {
        uint64_t n;
        if (!get_size(json_array_get(shape, i), &n))
            return ds_fail(err, DS_ERROR_FORMAT, "'shape': expected integers of 0 or more, found %s as dimension %zu",
                           ds_json_kind(json_array_get(shape, i)), i);
        if (!ds_mul_u64(*elements, n, elements))
            return ds_fail(err, DS_ERROR_FORMAT, "'shape': the product of the dimensions does not fit 64 bits");
        if (i < DS_CKPT_MAX_DIMS) tensor->shape[i] = n;
    }
    tensor->dims = (uint32_t)DS_MIN(dims, DS_CKPT_MAX_DIMS + 1);
    return DS_OK;
}

/* "of dtype 'F8_E4M3'", in the arena. */
static ds_status describe_dtype(struct ds_ckpt *ckpt, const json_t *dtype, const char **out, struct ds_error *err) {
    struct ds_quoted why = {"of dtype "};
    const struct ds_quoted name = ds_quote(json_string_value(dtype), json_string_length(dtype));
    strncat(why.text, name.text, sizeof why.text - strlen(why.text) - 1);
    return ds_ckpt_copy(ckpt, why.text, strlen(why.text), out, err);
}

static ds_status read_entry(struct ds_ckpt *ckpt, const json_t *entry, uint64_t data, struct ds_ckpt_tensor *tensor,
                            struct ds_error *err) {
    const struct ds_mapping *mapping = &ckpt->files[tensor->file].mapping;
    if (!json_is_object(entry)) return ds_fail(err, DS_ERROR_FORMAT, "expected an object, found %s", ds_json_kind(entry));
    const json_t *dtype;
    uint64_t elements, bytes;
    DS_TRY(get_member(entry, "dtype", JSON_STRING, "a string", &dtype, err));
    DS_TRY(read_shape(entry, tensor, &elements, err));
    DS_TRY(read_place(entry, data, mapping->size - data, tensor, err));

    if (!find_dtype(json_string_value(dtype), &tensor->type)) {
        const char *why;
        DS_TRY(describe_dtype(ckpt, dtype, &why, err));
        return ds_ckpt_add_skipped(ckpt, tensor, why, err);
    }
    if (!ds_type_size(tensor->type, 1, elements, &bytes) || bytes != tensor->bytes)
        return ds_fail(err, DS_ERROR_FORMAT, "expected %llu elements of %u bytes, by dtype and shape, found %llu bytes of data",
                       (unsigned long long)elements, ds_type_get(tensor->type)->bytes, (unsigned long long)tensor->bytes);
    if (tensor->dims > DS_CKPT_MAX_DIMS) return ds_ckpt_add_skipped(ckpt, tensor, "of more than 4 dimensions", err);
    if (bytes == 0) return ds_ckpt_add_skipped(ckpt, tensor, "empty", err);
    tensor->data = mapping->data + tensor->offset;
    return ds_ckpt_add_tensor(ckpt, tensor, err);
}

static ds_status read_header(struct ds_ckpt *ckpt, uint32_t file, json_t *header, uint64_t data, struct ds_error *err) {
    const char *name;
    json_t *entry;
    json_object_foreach(header, name, entry) {
        if (strcmp(name, "__metadata__") == 0) continue; /* notes of the writer */
        struct ds_ckpt_tensor tensor = {.file = file};
        DS_TRY(ds_ckpt_copy(ckpt, name, strlen(name), &tensor.name, err));
        if (read_entry(ckpt, entry, data, &tensor, err) != DS_OK)
            return ds_fail_context(err, "tensor '%s'", ds_quote_name(name).text);
    }
    return ds_ckpt_check_overlap(ckpt, file, data, ckpt->files[file].mapping.size, true, err);
}

ds_status ds_safetensors_read(struct ds_ckpt *ckpt, uint32_t file, struct ds_error *err) {
    const struct ds_mapping *mapping = &ckpt->files[file].mapping;
    if (mapping->size < 8)
        return ds_fail(err, DS_ERROR_FORMAT,
                       "expected a safetensors file, which begins with 8 bytes of header length, found %llu bytes",
                       (unsigned long long)mapping->size);
    const uint64_t length = ds_load_u64(mapping->data), room = mapping->size - 8;
    if (length > MAX_HEADER_BYTES || length > room)
        return ds_fail(err, DS_ERROR_FORMAT,
                       "expected a header of at most %llu bytes, found a length of %llu: the file is cut off or "
                       "no safetensors file",
                       (unsigned long long)DS_MIN(room, MAX_HEADER_BYTES), (unsigned long long)length);
    json_t *header;
    if (ds_json_parse((const char *)mapping->data + 8, (size_t)length, &header, err) != DS_OK)
        return ds_fail_context(err, "the header");
    const ds_status status =
        json_is_object(header)
            ? read_header(ckpt, file, header, 8 + length, err)
            : ds_fail(err, DS_ERROR_FORMAT, "the header: expected a JSON object, found %s", ds_json_kind(header));
    json_decref(header);
    return status;
}
