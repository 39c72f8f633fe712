/*
 * A checkpoint: named tensors and a configuration, memory-mapped, whatever the container (a GGUF file, or a folder with
 * config.json and one or more *.safetensors). All fields come from untrusted files and are checked when opened: a tensor
 * handed out lies wholly inside its file and its size equals its shape.
 *
 * A checkpoint is immutable after ds_ckpt_open and may be read from any thread.
 */
#ifndef DSPARK_CKPT_CHECKPOINT_H
#define DSPARK_CKPT_CHECKPOINT_H

#include "base/log.h"
#include "ckpt/blocks.h"

enum { DS_CKPT_MAX_DIMS = 4 };

typedef enum ds_ckpt_format { DS_CKPT_GGUF, DS_CKPT_SAFETENSORS } ds_ckpt_format;

/* One stored tensor. Shapes are row-major, outermost first, in both containers: a linear is [outputs, inputs]. */
struct ds_ckpt_tensor {
    const char *name; /* owned by the checkpoint, NUL-terminated, as in the file */
    ds_type type;
    uint32_t dims;                  /* 0..DS_CKPT_MAX_DIMS; 0 is a scalar */
    uint64_t shape[DS_CKPT_MAX_DIMS]; /* unused dimensions are 1 */
    const uint8_t *data;            /* in the mapping; alignment is whatever the file has */
    uint64_t bytes;
    uint32_t file;                  /* index of the mapped file */
    uint64_t offset;                /* of data in that file */
    bool packed;                    /* data is not rows of `type`, but a matrix in the layout of ds_ckpt_get_layout */
};

struct ds_ckpt; /* opaque */

/* `path`: a .gguf file, a .safetensors file, or a folder. On failure *out is NULL. */
ds_status ds_ckpt_open(const char *path, struct ds_ckpt **out, struct ds_error *err);
void ds_ckpt_close(struct ds_ckpt *ckpt); /* accepts NULL */

ds_ckpt_format ds_ckpt_get_format(const struct ds_ckpt *ckpt);
const char *ds_ckpt_path(const struct ds_ckpt *ckpt);
uint64_t ds_ckpt_file_bytes(const struct ds_ckpt *ckpt); /* of all mapped files */
uint32_t ds_ckpt_file_count(const struct ds_ckpt *ckpt);
/* The layout of packed tensors, which belongs to a kind of device (struct ds_weight_layout); NULL: none is packed. */
struct ds_ckpt_layout {
    const char *name; /* lives as long as the checkpoint */
    uint32_t version;
};
const struct ds_ckpt_layout *ds_ckpt_get_layout(const struct ds_ckpt *ckpt);
/* Path and size (NULL: not wanted) of a mapped file. */
const char *ds_ckpt_file_at(const struct ds_ckpt *ckpt, uint32_t index, uint64_t *bytes);

size_t ds_ckpt_tensor_count(const struct ds_ckpt *ckpt);
const struct ds_ckpt_tensor *ds_ckpt_tensor_at(const struct ds_ckpt *ckpt, size_t index); /* file order */
const struct ds_ckpt_tensor *ds_ckpt_find(const struct ds_ckpt *ckpt, const char *name);  /* NULL: absent. O(log n) */
/*
 * Tensors that are in the files and cannot be read: types we do not know, more than 4 dimensions, no elements. They are not
 * found by name; ds_ckpt_require says why. *why completes "the tensor is ..."; the type and data of the result are not set.
 */
size_t ds_ckpt_skipped_count(const struct ds_ckpt *ckpt);
const struct ds_ckpt_tensor *ds_ckpt_skipped_at(const struct ds_ckpt *ckpt, size_t index, const char **why);
/* Drops a tensor's pages from our resident set once it has been copied elsewhere; reading it again still works. */
void ds_ckpt_release(const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor);
/* The same for bytes [offset, offset + bytes) of it; and a hint that they will be read soon. */
void ds_ckpt_release_part(const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor, uint64_t offset, uint64_t bytes);
void ds_ckpt_prefetch_part(const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor, uint64_t offset, uint64_t bytes);

/*
 * --- configuration ---
 * One tree of values for both containers: a GGUF file's metadata by its full key ("qwen3.block_count"); for a folder the
 * members of config.json, nested objects joined by '.' ("rope_parameters.rope_theta"), and those of
 * generation_config.json under the prefix "generation_config.". Objects inside arrays are not reachable.
 */
typedef enum ds_value_kind { DS_VALUE_NULL, DS_VALUE_BOOL, DS_VALUE_INT, DS_VALUE_REAL, DS_VALUE_STRING, DS_VALUE_ARRAY } ds_value_kind;

struct ds_text {
    const char *data; /* not NUL-terminated when it lies in a mapping: use the length */
    size_t length;
};

struct ds_value {
    const char *key; /* owned by the checkpoint */
    ds_value_kind kind;
    bool boolean;
    int64_t integer;  /* also set for REAL when it is a whole number that fits */
    double real;      /* also set for INT */
    const char *string; /* NUL-terminated; may contain NUL bytes, hence the length */
    size_t length;    /* of string in bytes, or of array in elements */
    ds_value_kind element; /* ARRAY: kind of all elements; DS_VALUE_NULL: empty */
    bool mixed;       /* ARRAY: elements of several kinds, null, arrays or objects: reachable only as empty */
    const void *array; /* ARRAY: const bool*, int64_t*, double*, or struct ds_text* */
    struct ds_text stored; /* GGUF: type and value as they are in the file; lives as long as the checkpoint. Else data is NULL */
};

size_t ds_ckpt_value_count(const struct ds_ckpt *ckpt);
const struct ds_value *ds_ckpt_value_at(const struct ds_ckpt *ckpt, size_t index);
const struct ds_value *ds_ckpt_value(const struct ds_ckpt *ckpt, const char *key); /* NULL: absent */

/*
 * Checked readers. A missing key fails with DS_ERROR_FORMAT naming file, key and what is expected; so does a value of
 * another kind or outside [min, max]. The `_or` forms take a default for an absent key (or JSON null) only: a wrong value still fails.
 */
ds_status ds_ckpt_int(const struct ds_ckpt *ckpt, const char *key, int64_t min, int64_t max, int64_t *out, struct ds_error *err);
ds_status ds_ckpt_int_or(const struct ds_ckpt *ckpt, const char *key, int64_t min, int64_t max, int64_t fallback, int64_t *out, struct ds_error *err);
ds_status ds_ckpt_real(const struct ds_ckpt *ckpt, const char *key, double min, double max, double *out, struct ds_error *err);
ds_status ds_ckpt_real_or(const struct ds_ckpt *ckpt, const char *key, double min, double max, double fallback, double *out, struct ds_error *err);
ds_status ds_ckpt_bool_or(const struct ds_ckpt *ckpt, const char *key, bool fallback, bool *out, struct ds_error *err);
ds_status ds_ckpt_string(const struct ds_ckpt *ckpt, const char *key, const char **out, struct ds_error *err);
ds_status ds_ckpt_string_or(const struct ds_ckpt *ckpt, const char *key, const char *fallback, const char **out, struct ds_error *err);
/* An array of integers with min_count..max_count elements, each in [min, max]; *out lives as long as the checkpoint. */
ds_status ds_ckpt_ints(const struct ds_ckpt *ckpt, const char *key, size_t min_count, size_t max_count, int64_t min, int64_t max,
                       const int64_t **out, size_t *count, struct ds_error *err);

/* The tensor `name` with exactly this shape (dims of them), or DS_ERROR_FORMAT naming file, tensor, expected and found. */
ds_status ds_ckpt_require(const struct ds_ckpt *ckpt, const char *name, uint32_t dims, const uint64_t *shape,
                          const struct ds_ckpt_tensor **out, struct ds_error *err);

/*
 * --- writing ---
 * A safetensors file of f32/i32 arrays, written beside and renamed. For `logits` and tests.
 */
struct ds_safetensors_array {
    const char *name;
    ds_type type; /* F32, I32, F16, BF16, I64 */
    uint32_t dims;
    uint64_t shape[DS_CKPT_MAX_DIMS];
    const void *data;
};
ds_status ds_safetensors_write(const char *path, const struct ds_safetensors_array *arrays, size_t count, struct ds_error *err);
/*
 * The same in pieces: the header of `arrays`, whose `data` is not looked at. The caller writes their bytes in order with ds_os_write and
 * ends with ds_os_write_commit or ds_os_write_abort.
 */
struct ds_os_writer;
ds_status ds_safetensors_begin(const char *path, const struct ds_safetensors_array *arrays, size_t count, struct ds_os_writer *out, struct ds_error *err);

#endif
