/* Writing safetensors: sizes first, so that the header can state every place before any data is written. */
#include "base/bytes.h"
#include "base/json.h"
#include "base/os.h"
#include "ckpt/checkpoint.h"

#include <stdlib.h>
#include <string.h>

static ds_status array_bytes(const struct ds_safetensors_array *array, uint64_t *bytes, struct ds_error *err) {
    uint64_t elements = 1;
    bool fits = array->dims <= DS_CKPT_MAX_DIMS;
    for (uint32_t i = 0; fits && i < array->dims; i++) fits = ds_mul_u64(elements, array->shape[i], &elements);
    if (!fits || !ds_type_size(array->type, 1, elements, bytes))
        return ds_fail(err, DS_ERROR_ARGUMENT, "array '%s': its shape does not fit a file", array->name);
    return DS_OK;
}

static const char *dtype_of(ds_type type) {
    switch (type) {
    case DS_TYPE_F32:
        return "F32";
    case DS_TYPE_F16:
        return "F16";
    case DS_TYPE_BF16:
        return "BF16";
    case DS_TYPE_I32:
        return "I32";
    case DS_TYPE_I64:
        return "I64";
    default:
        return NULL;
    }
}

/* Adds an array's entry, its data to begin at *offset, and moves *offset behind it. */
static ds_status add_entry(json_t *header, const struct ds_safetensors_array *array, uint64_t *offset, struct ds_error *err) {
    const char *dtype = dtype_of(array->type);
    uint64_t bytes, end;
    if (!dtype) {
        return ds_fail(err, DS_ERROR_ARGUMENT, "array '%s': a safetensors file cannot hold type %s", array->name,
                       ds_type_get(array->type)->name);
    }
    DS_TRY(array_bytes(array, &bytes, err));
    if (!ds_add_u64(*offset, bytes, &end) || end > INT64_MAX)
        return ds_fail(err, DS_ERROR_ARGUMENT, "array '%s': all arrays together do not fit a file", array->name);
    if (json_object_get(header, array->name)) return ds_fail(err, DS_ERROR_ARGUMENT, "array '%s' is given twice", array->name);

    json_t *shape = json_array();
    bool made = shape != NULL;
    for (uint32_t i = 0; i < array->dims; i++) {
        made = made && json_array_append_new(shape, json_integer((json_int_t)array->shape[i])) == 0;
    }
    json_t *entry =
        json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype, "shape", shape, "data_offsets", (json_int_t)*offset, (json_int_t)end);
    if (json_object_set_new(header, array->name, entry) != 0 || !made) return ds_fail_memory(err, 0, "a safetensors header");
    *offset = end;
    return DS_OK;
}

/* The header's text behind its 8 bytes of length, padded with spaces so that the data begins at a multiple of 8. */
static ds_status write_header(struct ds_os_writer *writer, const json_t *header, struct ds_error *err) {
    char *text = json_dumps(header, JSON_COMPACT);
    if (!text) return ds_fail(err, DS_ERROR_ARGUMENT, "the arrays' names are no valid UTF-8, or memory is out");
    static const char spaces[8] = "        ";
    const size_t length = strlen(text), padded = DS_ALIGN_UP(length, 8);
    uint8_t prefix[8];
    ds_store_u64(prefix, padded);
    ds_status status = ds_os_write(writer, prefix, sizeof prefix, err);
    if (status == DS_OK) status = ds_os_write(writer, text, length, err);
    if (status == DS_OK) status = ds_os_write(writer, spaces, padded - length, err);
    free(text);
    return status;
}

static ds_status make_header(const struct ds_safetensors_array *arrays, size_t count, json_t **out, struct ds_error *err) {
    *out = json_object();
    if (!*out) return ds_fail_memory(err, 0, "a safetensors header");
    ds_status status = DS_OK;
    uint64_t offset = 0;
    for (size_t i = 0; status == DS_OK && i < count; i++) status = add_entry(*out, &arrays[i], &offset, err);
    if (status != DS_OK) json_decref(*out);
    return status;
}

ds_status ds_safetensors_begin(const char *path, const struct ds_safetensors_array *arrays, size_t count, struct ds_os_writer *out, struct ds_error *err) {
    json_t *header;
    *out = (struct ds_os_writer){.fd = -1};
    DS_TRY(make_header(arrays, count, &header, err));
    ds_status status = ds_os_write_begin(path, out, err);
    if (status == DS_OK) {
        status = write_header(out, header, err);
        if (status != DS_OK) ds_os_write_abort(out);
    }
    json_decref(header);
    return status;
}

/* Multi-byte elements go out as they lie in memory: dspark's hosts are little-endian, like the file. */
ds_status ds_safetensors_write(const char *path, const struct ds_safetensors_array *arrays, size_t count,
                               struct ds_error *err) {
    struct ds_os_writer writer;
    DS_TRY(ds_safetensors_begin(path, arrays, count, &writer, err));
    ds_status status = DS_OK;
    for (size_t i = 0; status == DS_OK && i < count; i++) {
        uint64_t bytes;
        status = array_bytes(&arrays[i], &bytes, err);
        if (status == DS_OK) status = ds_os_write(&writer, arrays[i].data, (size_t)bytes, err);
    }
    if (status == DS_OK) return ds_os_write_commit(&writer, err);
    ds_os_write_abort(&writer);
    return status;
}
