#include "ckpt/gguf_writer.h"

#include "base/arena.h"
#include "base/os.h"

#include <stdlib.h>
#include <string.h>

enum { VERSION = 3, ALIGNMENT = 32, MOST_ALIGNMENT = 4096 };
/* GGUF's numbers for the types of values that we write. */
enum { VALUE_U32 = 4, VALUE_I32 = 5, VALUE_F32 = 6, VALUE_BOOL = 7, VALUE_STRING = 8, VALUE_ARRAY = 9 };

struct bytes {
    uint8_t *data;
    size_t length, capacity;
};

struct ds_gguf_writer {
    struct ds_arena names;
    const char **keys;
    size_t n_keys, key_capacity;
    struct bytes values, infos; /* as they will be in the file */
    uint64_t *sizes;            /* of the tensors' data */
    size_t n_tensors, tensor_capacity;
    uint64_t data_bytes; /* of all tensors so far, padding included */
    uint64_t alignment;  /* of each of them */
    struct ds_os_writer file;
    bool open;
    size_t current;   /* the tensor whose data is being written */
    uint64_t written; /* of it */
};

/* --- bytes --- */

static ds_status append(struct bytes *b, const void *data, size_t length, struct ds_error *err) {
    if (length > b->capacity - b->length) {
        if (length > SIZE_MAX / 2 - b->length) return ds_fail_memory(err, length, "a GGUF header");
        const size_t capacity = DS_MAX(b->capacity * 2, b->length + length + 256);
        uint8_t *grown = realloc(b->data, capacity);
        if (!grown) return ds_fail_memory(err, capacity, "a GGUF header");
        b->data = grown;
        b->capacity = capacity;
    }
    if (length) memcpy(b->data + b->length, data, length);
    b->length += length;
    return DS_OK;
}

/* Little-endian, whatever the host. */
static ds_status append_number(struct bytes *b, uint64_t value, size_t length, struct ds_error *err) {
    uint8_t out[8];
    for (size_t i = 0; i < length; i++) out[i] = (uint8_t)(value >> 8 * i);
    return append(b, out, length, err);
}

static ds_status append_text(struct bytes *b, const char *text, size_t length, struct ds_error *err) {
    DS_TRY(append_number(b, length, 8, err));
    return append(b, text, length, err);
}

/* Room for one more in an array. */
static ds_status grow(void **array, size_t count, size_t *capacity, size_t size, struct ds_error *err) {
    if (count < *capacity) return DS_OK;
    const size_t wanted = DS_MAX(*capacity * 2, 64);
    void *grown = realloc(*array, wanted * size);
    if (!grown) return ds_fail_memory(err, wanted * size, "a GGUF header");
    *array = grown;
    *capacity = wanted;
    return DS_OK;
}

/* --- life --- */

struct ds_gguf_writer *ds_gguf_writer_create(void) {
    struct ds_gguf_writer *writer = calloc(1, sizeof *writer);
    if (writer) writer->alignment = ALIGNMENT;
    return writer;
}

void ds_gguf_writer_destroy(struct ds_gguf_writer *writer) {
    if (!writer) return;
    if (writer->open) ds_os_write_abort(&writer->file);
    ds_arena_free(&writer->names);
    free(writer->keys);
    free(writer->values.data);
    free(writer->infos.data);
    free(writer->sizes);
    free(writer);
}

/* --- keys --- */

bool ds_gguf_has_key(const struct ds_gguf_writer *writer, const char *key) {
    for (size_t i = 0; i < writer->n_keys; i++)
        if (strcmp(writer->keys[i], key) == 0) return true;
    return false;
}

/* The key itself; its value's type and bytes are to follow. */
static ds_status begin_key(struct ds_gguf_writer *writer, const char *key, struct ds_error *err) {
    if (ds_gguf_has_key(writer, key)) return ds_fail(err, DS_ERROR_ARGUMENT, "key '%s' is given twice", key);
    void *keys = writer->keys;
    DS_TRY(grow(&keys, writer->n_keys, &writer->key_capacity, sizeof *writer->keys, err));
    writer->keys = keys;
    const char *copy = ds_arena_copy(&writer->names, key, strlen(key));
    if (!copy) return ds_fail_memory(err, strlen(key), "a key");
    writer->keys[writer->n_keys++] = copy;
    return append_text(&writer->values, key, strlen(key), err);
}

static ds_status add_number(struct ds_gguf_writer *writer, const char *key, uint32_t type, uint32_t bits, size_t length, struct ds_error *err) {
    DS_TRY(begin_key(writer, key, err));
    DS_TRY(append_number(&writer->values, type, 4, err));
    return append_number(&writer->values, bits, length, err);
}

ds_status ds_gguf_add_bool(struct ds_gguf_writer *writer, const char *key, bool value, struct ds_error *err) {
    return add_number(writer, key, VALUE_BOOL, value, 1, err);
}

ds_status ds_gguf_add_u32(struct ds_gguf_writer *writer, const char *key, uint32_t value, struct ds_error *err) {
    return add_number(writer, key, VALUE_U32, value, 4, err);
}

ds_status ds_gguf_add_f32(struct ds_gguf_writer *writer, const char *key, float value, struct ds_error *err) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return add_number(writer, key, VALUE_F32, bits, 4, err);
}

ds_status ds_gguf_add_string(struct ds_gguf_writer *writer, const char *key, const char *text, size_t length, struct ds_error *err) {
    DS_TRY(begin_key(writer, key, err));
    DS_TRY(append_number(&writer->values, VALUE_STRING, 4, err));
    return append_text(&writer->values, text, length, err);
}

static ds_status begin_array(struct ds_gguf_writer *writer, const char *key, uint32_t type, size_t count, struct ds_error *err) {
    DS_TRY(begin_key(writer, key, err));
    DS_TRY(append_number(&writer->values, VALUE_ARRAY, 4, err));
    DS_TRY(append_number(&writer->values, type, 4, err));
    return append_number(&writer->values, count, 8, err);
}

ds_status ds_gguf_add_i32s(struct ds_gguf_writer *writer, const char *key, const int32_t *values, size_t count, struct ds_error *err) {
    DS_TRY(begin_array(writer, key, VALUE_I32, count, err));
    for (size_t i = 0; i < count; i++) DS_TRY(append_number(&writer->values, (uint32_t)values[i], 4, err));
    return DS_OK;
}

ds_status ds_gguf_add_bools(struct ds_gguf_writer *writer, const char *key, const bool *values, size_t count, struct ds_error *err) {
    DS_TRY(begin_array(writer, key, VALUE_BOOL, count, err));
    for (size_t i = 0; i < count; i++) DS_TRY(append_number(&writer->values, values[i], 1, err));
    return DS_OK;
}

ds_status ds_gguf_add_f32s(struct ds_gguf_writer *writer, const char *key, const float *values, size_t count, struct ds_error *err) {
    DS_TRY(begin_array(writer, key, VALUE_F32, count, err));
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        DS_TRY(append_number(&writer->values, bits, 4, err));
    }
    return DS_OK;
}

ds_status ds_gguf_add_strings(struct ds_gguf_writer *writer, const char *key, const struct ds_text *texts, size_t count, struct ds_error *err) {
    DS_TRY(begin_array(writer, key, VALUE_STRING, count, err));
    for (size_t i = 0; i < count; i++) DS_TRY(append_text(&writer->values, texts[i].data, texts[i].length, err));
    return DS_OK;
}

ds_status ds_gguf_add_stored(struct ds_gguf_writer *writer, const char *key, const struct ds_value *value, struct ds_error *err) {
    if (!value->stored.data) return ds_fail(err, DS_ERROR_INTERNAL, "key '%s': the value does not come from a GGUF file", key);
    DS_TRY(begin_key(writer, key, err));
    return append(&writer->values, value->stored.data, value->stored.length, err);
}

ds_status ds_gguf_set_alignment(struct ds_gguf_writer *writer, uint32_t alignment, struct ds_error *err) {
    if (writer->n_tensors > 0 || alignment < ALIGNMENT || alignment > MOST_ALIGNMENT || (alignment & (alignment - 1)) != 0)
        return ds_fail(err, DS_ERROR_INTERNAL, "an alignment of %u behind %zu tensors", alignment, writer->n_tensors);
    DS_TRY(ds_gguf_add_u32(writer, "general.alignment", alignment, err));
    writer->alignment = alignment;
    return DS_OK;
}

/* --- tensors --- */

ds_status ds_gguf_add_tensor(struct ds_gguf_writer *writer, const char *name, ds_type type, uint32_t dims, const uint64_t *shape,
                             struct ds_error *err) {
    uint64_t rows = 1, bytes, end;
    bool fits = dims <= DS_CKPT_MAX_DIMS;
    for (uint32_t i = 0; fits && i + 1 < dims; i++) fits = ds_mul_u64(rows, shape[i], &rows);
    if (!fits || !ds_type_size(type, rows, dims ? shape[dims - 1] : 1, &bytes) || !ds_add_u64(writer->data_bytes, bytes, &end) ||
        end > INT64_MAX - MOST_ALIGNMENT)
        return ds_fail(err, DS_ERROR_ARGUMENT, "tensor '%s': rows of %s blocks of its shape do not fit a file", name, ds_type_get(type)->name);
    void *sizes = writer->sizes;
    DS_TRY(grow(&sizes, writer->n_tensors, &writer->tensor_capacity, sizeof *writer->sizes, err));
    writer->sizes = sizes;
    writer->sizes[writer->n_tensors++] = bytes;
    DS_TRY(append_text(&writer->infos, name, strlen(name), err));
    DS_TRY(append_number(&writer->infos, dims, 4, err));
    for (uint32_t i = dims; i-- > 0;) DS_TRY(append_number(&writer->infos, shape[i], 8, err)); /* innermost first */
    DS_TRY(append_number(&writer->infos, ds_type_get(type)->gguf_id, 4, err));
    DS_TRY(append_number(&writer->infos, writer->data_bytes, 8, err));
    writer->data_bytes = DS_ALIGN_UP(end, writer->alignment);
    return DS_OK;
}

/* --- the file --- */

static ds_status pad(struct ds_gguf_writer *writer, uint64_t length, struct ds_error *err) {
    static const uint8_t zeros[MOST_ALIGNMENT] = {0};
    return ds_os_write(&writer->file, zeros, (size_t)(DS_ALIGN_UP(length, writer->alignment) - length), err);
}

/* Tensors without elements take no data, and so no turn. */
static void skip_empty(struct ds_gguf_writer *writer) {
    while (writer->current < writer->n_tensors && writer->sizes[writer->current] == 0) writer->current++;
}

ds_status ds_gguf_begin(struct ds_gguf_writer *writer, const char *path, struct ds_error *err) {
    struct bytes head = {0};
    ds_status status = append(&head, "GGUF", 4, err);
    if (status == DS_OK) status = append_number(&head, VERSION, 4, err);
    if (status == DS_OK) status = append_number(&head, writer->n_tensors, 8, err);
    if (status == DS_OK) status = append_number(&head, writer->n_keys, 8, err);
    if (status == DS_OK) status = ds_os_write_begin(path, &writer->file, err);
    writer->open = status == DS_OK;
    if (status == DS_OK) status = ds_os_write(&writer->file, head.data, head.length, err);
    if (status == DS_OK) status = ds_os_write(&writer->file, writer->values.data, writer->values.length, err);
    if (status == DS_OK) status = ds_os_write(&writer->file, writer->infos.data, writer->infos.length, err);
    if (status == DS_OK) status = pad(writer, head.length + writer->values.length + writer->infos.length, err);
    free(head.data);
    skip_empty(writer);
    return status;
}

ds_status ds_gguf_write(struct ds_gguf_writer *writer, const void *data, size_t bytes, struct ds_error *err) {
    if (bytes == 0) return DS_OK;
    if (!writer->open || writer->current == writer->n_tensors || bytes > writer->sizes[writer->current] - writer->written)
        return ds_fail(err, DS_ERROR_INTERNAL, "more tensor data is written than was stated");
    DS_TRY(ds_os_write(&writer->file, data, bytes, err));
    writer->written += bytes;
    if (writer->written < writer->sizes[writer->current]) return DS_OK;
    DS_TRY(pad(writer, writer->written, err));
    writer->current++;
    writer->written = 0;
    skip_empty(writer);
    return DS_OK;
}

ds_status ds_gguf_commit(struct ds_gguf_writer *writer, struct ds_error *err) {
    if (!writer->open || writer->current != writer->n_tensors)
        return ds_fail(err, DS_ERROR_INTERNAL, "less tensor data was written than was stated");
    writer->open = false; /* a failed commit removes the file, too */
    return ds_os_write_commit(&writer->file, err);
}
