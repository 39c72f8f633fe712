/*
 * Writing GGUF 3: first all keys and tensor infos are stated, from which every place in the file follows; then the tensors'
 * data goes out in the order of the infos, in pieces of any size. The file appears under its name only when complete.
 *
 * Not thread-safe. A call that fails leaves the writer fit only for ds_gguf_writer_destroy, which removes what was written.
 */
#ifndef DSPARK_CKPT_GGUF_WRITER_H
#define DSPARK_CKPT_GGUF_WRITER_H

#include "ckpt/checkpoint.h"

struct ds_gguf_writer; /* opaque */

/* NULL: out of memory. */
struct ds_gguf_writer *ds_gguf_writer_create(void);
void ds_gguf_writer_destroy(struct ds_gguf_writer *writer); /* accepts NULL */

/* --- keys: each at most once (DS_ERROR_ARGUMENT), in the order of the calls; all that is handed in is copied --- */
ds_status ds_gguf_add_bool(struct ds_gguf_writer *writer, const char *key, bool value, struct ds_error *err);
ds_status ds_gguf_add_u32(struct ds_gguf_writer *writer, const char *key, uint32_t value, struct ds_error *err);
ds_status ds_gguf_add_f32(struct ds_gguf_writer *writer, const char *key, float value, struct ds_error *err);
ds_status ds_gguf_add_string(struct ds_gguf_writer *writer, const char *key, const char *text, size_t length, struct ds_error *err);
ds_status ds_gguf_add_i32s(struct ds_gguf_writer *writer, const char *key, const int32_t *values, size_t count, struct ds_error *err);
ds_status ds_gguf_add_bools(struct ds_gguf_writer *writer, const char *key, const bool *values, size_t count, struct ds_error *err);
ds_status ds_gguf_add_f32s(struct ds_gguf_writer *writer, const char *key, const float *values, size_t count, struct ds_error *err);
ds_status ds_gguf_add_strings(struct ds_gguf_writer *writer, const char *key, const struct ds_text *texts, size_t count, struct ds_error *err);
/* A value of another GGUF file with the number types it has there: `value` comes from a GGUF checkpoint. */
ds_status ds_gguf_add_stored(struct ds_gguf_writer *writer, const char *key, const struct ds_value *value, struct ds_error *err);
bool ds_gguf_has_key(const struct ds_gguf_writer *writer, const char *key);

/* Where tensors begin: multiples of `alignment`, a power of two of at least 32 (which it is otherwise). Before any tensor; writes the key. */
ds_status ds_gguf_set_alignment(struct ds_gguf_writer *writer, uint32_t alignment, struct ds_error *err);

/* --- tensors: row-major shapes, outermost dimension first --- */
ds_status ds_gguf_add_tensor(struct ds_gguf_writer *writer, const char *name, ds_type type, uint32_t dims, const uint64_t *shape,
                             struct ds_error *err);

/* Opens the file beside `path` and writes all that comes before the data. */
ds_status ds_gguf_begin(struct ds_gguf_writer *writer, const char *path, struct ds_error *err);
/* The next bytes of tensor data. Where a tensor ends, padding follows by itself; a piece must not reach into the next tensor. */
ds_status ds_gguf_write(struct ds_gguf_writer *writer, const void *data, size_t bytes, struct ds_error *err);
/* The file gets its name. DS_ERROR_INTERNAL when data is missing. */
ds_status ds_gguf_commit(struct ds_gguf_writer *writer, struct ds_error *err);

#endif
