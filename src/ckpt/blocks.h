/*
 * Element and block types of stored tensors.
 *
 * A quantised type stores a row as blocks of `block` elements in `bytes` bytes, little-endian, as the GGUF definition
 * gives them. Rows are whole numbers of blocks. Sources: docs/formats.md.
 */
#ifndef DSPARK_CKPT_BLOCKS_H
#define DSPARK_CKPT_BLOCKS_H

#include "base/status.h"

/* One line per type: enumerator suffix, name as printed and as accepted by --type, GGUF type id, elements and bytes a block. */
#define DS_TYPES(X)                  \
    X(F32, "f32", 0, 1, 4)           \
    X(F16, "f16", 1, 1, 2)           \
    X(BF16, "bf16", 30, 1, 2)        \
    X(Q4_0, "q4_0", 2, 32, 18)       \
    X(Q4_1, "q4_1", 3, 32, 20)       \
    X(Q5_0, "q5_0", 6, 32, 22)       \
    X(Q5_1, "q5_1", 7, 32, 24)       \
    X(Q8_0, "q8_0", 8, 32, 34)       \
    X(Q2_K, "q2_k", 10, 256, 84)     \
    X(Q3_K, "q3_k", 11, 256, 110)    \
    X(Q4_K, "q4_k", 12, 256, 144)    \
    X(Q5_K, "q5_k", 13, 256, 176)    \
    X(Q6_K, "q6_k", 14, 256, 210)    \
    X(IQ4_NL, "iq4_nl", 20, 32, 18)  \
    X(IQ4_XS, "iq4_xs", 23, 256, 136)\
    X(MXFP4, "mxfp4", 39, 32, 17)    \
    X(I32, "i32", 26, 1, 4)          \
    X(I64, "i64", 27, 1, 8)

typedef enum ds_type {
#define DS_TYPE_ENUM(suffix, name, gguf, block, bytes) DS_TYPE_##suffix,
    DS_TYPES(DS_TYPE_ENUM)
#undef DS_TYPE_ENUM
    DS_TYPE_COUNT
} ds_type;

struct ds_type_info {
    const char *name;
    uint32_t gguf_id;
    uint32_t block; /* elements */
    uint32_t bytes; /* of one block */
};
const struct ds_type_info *ds_type_get(ds_type type);
bool ds_type_from_gguf(uint32_t gguf_id, ds_type *out);
bool ds_type_from_name(const char *name, ds_type *out);

/* Bytes of `rows` rows of `cols` elements; false when cols is not a whole number of blocks or the size does not fit 63 bits. */
bool ds_type_size(ds_type type, uint64_t rows, uint64_t cols, uint64_t *bytes);

/*
 * Widens one stored row of `cols` elements (a whole number of blocks) to f32: the definition of every float and quantised
 * type, exact as the GGUF definition says; products of scales and values are single float multiplications in its order.
 * Not for I32, I64. `src` may be unaligned.
 */
void ds_dequantize_row(ds_type type, const void *src, uint64_t cols, float *dst);

#endif
