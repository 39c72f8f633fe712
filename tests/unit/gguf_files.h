/* GGUF files piece by piece. */
#ifndef DSPARK_TESTS_GGUF_FILES_H
#define DSPARK_TESTS_GGUF_FILES_H

#include "byte_writer.h"
#include "ckpt/ckpt_internal.h"

enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 };

static const uint64_t huge = UINT64_C(1) << 63;

static inline void put_header(struct bytes *out, uint32_t version, uint64_t tensors, uint64_t keys) {
    put(out, "GGUF", 4);
    put_u32(out, version);
    put_u64(out, tensors);
    put_u64(out, keys);
}

static inline void put_key(struct bytes *out, const char *name, uint32_t type) {
    put_text(out, name);
    put_u32(out, type);
}

/* Dimensions innermost first, as in the file. */
static inline void put_info(struct bytes *out, const char *name, uint32_t dims, const uint64_t *ne, uint32_t type, uint64_t offset) {
    put_text(out, name);
    put_u32(out, dims);
    for (uint32_t i = 0; i < dims; i++) put_u64(out, ne[i]);
    put_u32(out, type);
    put_u64(out, offset);
}

static inline void put_vector(struct bytes *out, const char *name, uint64_t count, uint64_t offset) {
    put_info(out, name, 1, &count, 0, offset);
}

static inline void put_data(struct bytes *out, size_t bytes) {
    pad_to(out, 32);
    for (size_t i = 0; i < bytes; i++) put(out, &(uint8_t){(uint8_t)i}, 1);
}

static inline struct ds_ckpt *open_good(const struct bytes *file) {
    struct ds_ckpt *ckpt;
    struct ds_error err;
    check_ok(ds_ckpt_open_memory(DS_CKPT_GGUF, "good.gguf", file->data, file->size, &ckpt, &err), &err);
    return ckpt;
}

#endif
