/*
 * Inside src/ckpt: a GGUF file being read. gguf_values.c takes pieces and keys with their values; gguf.c reads the whole:
 * header, tensors, where they lie.
 */
#ifndef DSPARK_CKPT_GGUF_READER_H
#define DSPARK_CKPT_GGUF_READER_H

#include "ckpt/ckpt_internal.h"

struct ds_gguf_reader {
    struct ds_ckpt *ckpt;
    uint32_t file;
    const uint8_t *data;
    uint64_t size, at;
    uint64_t elements;  /* of all arrays so far */
    uint64_t alignment; /* of tensors, as a key may say */
    struct ds_error *err;
};

/* The next piece. What is stated is checked against the file's real size; `what` completes "bytes of ...". */
ds_status ds_gguf_take(struct ds_gguf_reader *reader, uint64_t bytes, const char *what, const uint8_t **out);
ds_status ds_gguf_take_u32(struct ds_gguf_reader *reader, const char *what, uint32_t *out);
ds_status ds_gguf_take_u64(struct ds_gguf_reader *reader, const char *what, uint64_t *out);
/* Keys and tensor names become C strings: not empty, no NUL inside. */
ds_status ds_gguf_take_name(struct ds_gguf_reader *reader, const char *what, const char **out);

/* One key with its value; those that say how to read the rest of the file are heeded. */
ds_status ds_gguf_read_key(struct ds_gguf_reader *reader, uint64_t index);

#endif
