/*
 * A checkpoint from inside: how the containers' readers fill it. Readers add files, tensors and values in any order;
 * ds_ckpt_finish sorts and indexes them and finds what occurs twice. Nothing is added after that.
 *
 *   checkpoint.c                   opening, closing
 *   gguf.c, safetensors.c          a reader for each container; folder.c finds the files of a folder, packed.c reads packed tensors
 *   ckpt_fill.c, ckpt_overlap.c    what readers call
 *   ckpt_find.c, values.c          what those call who look into it: tensors, and the values of keys
 */
#ifndef DSPARK_CKPT_INTERNAL_H
#define DSPARK_CKPT_INTERNAL_H

#include "base/arena.h"
#include "base/json.h"
#include "base/os.h"
#include "base/quote.h"
#include "ckpt/checkpoint.h"

struct ds_ckpt_file {
    const char *path; /* in the arena */
    struct ds_mapping mapping;
    bool borrowed; /* memory of a caller: neither unmapped nor released */
};

/* A tensor of a kind that nothing here can read: kept to say so when it is asked for. */
struct ds_ckpt_skipped {
    struct ds_ckpt_tensor tensor; /* type is not set */
    const char *why;              /* completes "the tensor is ..." */
};

struct ds_ckpt {
    struct ds_arena arena; /* names, keys, strings, arrays */
    ds_ckpt_format format;
    const char *path;
    const char *config_path; /* where the values come from, for messages */
    struct ds_ckpt_layout layout; /* name NULL: no tensor is packed */
    struct ds_ckpt_file *files;
    struct ds_ckpt_tensor *tensors; /* sorted by (file, offset) once finished */
    struct ds_ckpt_skipped *skipped;
    struct ds_value *values;
    const struct ds_ckpt_tensor **by_name; /* tensors, then skipped ones, sorted */
    const struct ds_value **by_key;
    size_t file_count, tensor_count, skipped_count, value_count;
    size_t file_capacity, tensor_capacity, skipped_capacity, value_capacity;
};

/* More than any real file has; they bound what a small hostile file can make us allocate and do. */
enum {
    DS_CKPT_MAX_FILES = 4096,
    DS_CKPT_MAX_TENSORS = 1 << 20,
    DS_CKPT_MAX_VALUES = 1 << 16,
    DS_CKPT_MAX_ELEMENTS = 1 << 26 /* of all arrays of one file together */
};

/* Strings and arrays that a value or tensor points to must outlive the checkpoint: in its arena or in a mapping. */
ds_status ds_ckpt_add_file(struct ds_ckpt *ckpt, const char *path, uint32_t *index, struct ds_error *err);
/* A file that is in memory already; not the checkpoint's on failure. */
ds_status ds_ckpt_add_mapped(struct ds_ckpt *ckpt, const struct ds_ckpt_file *file, uint32_t *index, struct ds_error *err);
ds_status ds_ckpt_add_tensor(struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor, struct ds_error *err);
ds_status ds_ckpt_add_skipped(struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor, const char *why, struct ds_error *err);
ds_status ds_ckpt_add_value(struct ds_ckpt *ckpt, const struct ds_value *value, struct ds_error *err);
ds_status ds_ckpt_finish(struct ds_ckpt *ckpt, struct ds_error *err);

/* Copies in the arena; failures are DS_ERROR_MEMORY. */
ds_status ds_ckpt_copy(struct ds_ckpt *ckpt, const char *text, size_t length, const char **out, struct ds_error *err);
ds_status ds_ckpt_array(struct ds_ckpt *ckpt, size_t count, size_t size, void **out, struct ds_error *err);

/* Number kinds with all fields a struct ds_value promises. */
void ds_value_set_int(struct ds_value *value, int64_t integer);
void ds_value_set_real(struct ds_value *value, double real);

/*
 * Refuses tensors of one file that share bytes and, with `no_holes`, bytes of [begin, end) in no tensor. All tensors of the
 * file, skipped ones too, must have been added and lie in [begin, end).
 */
ds_status ds_ckpt_check_overlap(const struct ds_ckpt *ckpt, uint32_t file, uint64_t begin, uint64_t end, bool no_holes,
                                struct ds_error *err);

/* One container in an added file. Messages do not name the file: the caller does. */
ds_status ds_gguf_read(struct ds_ckpt *ckpt, uint32_t file, struct ds_error *err);
ds_status ds_safetensors_read(struct ds_ckpt *ckpt, uint32_t file, struct ds_error *err);
/* Packed tensors of a GGUF file become the matrices they hold. Behind ds_ckpt_finish. Messages name the file. */
ds_status ds_packed_read(struct ds_ckpt *ckpt, struct ds_error *err);
/* A folder: which files it consists of, their tensors and its configuration. Messages name the files. */
ds_status ds_folder_read(struct ds_ckpt *ckpt, const char *folder, struct ds_error *err);
/* The members of an object as values, nested ones joined by '.' behind `prefix`. */
ds_status ds_config_add(struct ds_ckpt *ckpt, const json_t *object, const char *prefix, struct ds_error *err);

/* A checkpoint in memory that stays the caller's and must outlive it: for fuzzing and tests. `name` is for messages. */
ds_status ds_ckpt_open_memory(ds_ckpt_format format, const char *name, const void *data, size_t size, struct ds_ckpt **out,
                              struct ds_error *err);

/* A shape as people write it: "[2, 3]". */
struct ds_shape_text {
    char text[96];
};
struct ds_shape_text ds_shape_describe(uint32_t dims, const uint64_t *shape);

#endif
