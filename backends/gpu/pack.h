/*
 * How devices of backends/gpu keep weights: tiles of 32 outputs, padded with zeros, so that a team of 32 lanes reads its part of a
 * tile as whole 16-byte pieces side by side, [piece][32 lanes][16 bytes].
 *
 *   F32, F16, BF16   lane = output; its piece p holds 16 bytes' worth of consecutive inputs of that output. BF16 is bounded.
 *   block types      [tile][run of 256 inputs], each a contiguous record of `run_bytes`.
 *
 * A record holds unsigned weights u = q + offset (Q8_0: q itself) in the order in which gpu_mma wants them. With g = lane / 4 and
 * t = lane % 4, a lane has of each 32 inputs of the run ("step" s) the inputs 8t .. 8t + 7 of the outputs g, g + 8, g + 16, g + 24:
 * eight words of four weights, numbered c = 2j + h for output g + 8j, inputs 8t + 4h ... Of u, `low` bits (8, 4, 2) and `high` bits
 * (0, 1, 2) lie in planes. In a plane of b bits, n = 8 / b of the words c share a 32-bit word, that of lowest c in the lowest bits
 * of each byte; the lane's words are then numbered (8 s + c) / n, four to a piece. A codebook type keeps indices of levels.
 *
 * Behind the planes, in this order, tables of some rows for the 32 outputs, each [8 outputs g][row][4 outputs g, g + 8, g + 16, g + 24],
 * so that what a lane needs of a table lies together:
 *   types of 32    u16 d[8], then u16 m[8] if there are minimums; f16, or bf16 where the scale is a power of two (MXFP4)
 *   types of 256   int8 scale[groups], then u8 minimum[groups] if there are any, u16 d, then u16 dmin; groups = 8 or 16
 *
 * For C and for kernels.
 */
#ifndef DSPARK_GPU_PACK_H
#define DSPARK_GPU_PACK_H

#include "ckpt/blocks.h"
#include "ops/layout.h"

enum { DS_GPU_TILE = 32, DS_GPU_STEP = 32, DS_GPU_PIECE = 16 };

/* X(type, low bits, high bits, groups, has minimums, offset, levels): groups 0 for blocks of 32 with float scales. */
#define DS_GPU_PACKS(X)               \
    X(Q8_0, 8, 0, 0, 0, 0, NONE)      \
    X(Q4_0, 4, 0, 0, 0, 8, NONE)      \
    X(Q4_1, 4, 0, 0, 1, 0, NONE)      \
    X(Q5_0, 4, 1, 0, 0, 16, NONE)     \
    X(Q5_1, 4, 1, 0, 1, 0, NONE)      \
    X(IQ4_NL, 4, 0, 0, 0, 0, IQ4)     \
    X(MXFP4, 4, 0, 0, 0, 0, FP4)      \
    X(Q2_K, 2, 0, 16, 1, 0, NONE)     \
    X(Q3_K, 2, 1, 16, 0, 4, NONE)     \
    X(Q4_K, 4, 0, 8, 1, 0, NONE)      \
    X(Q5_K, 4, 1, 8, 1, 0, NONE)      \
    X(Q6_K, 4, 2, 16, 0, 32, NONE)    \
    X(IQ4_XS, 4, 0, 8, 0, 0, IQ4)

enum ds_gpu_levels { DS_GPU_LEVELS_NONE, DS_GPU_LEVELS_IQ4, DS_GPU_LEVELS_FP4 };
/* Level i in byte i. FP4 is doubled; its scale is halved in return. */
#define DS_GPU_IQ4_LOW UINT64_C(0xf6eaddcfbfad9881)
#define DS_GPU_IQ4_HIGH UINT64_C(0x7159453526190d01)
#define DS_GPU_FP4_LOW UINT64_C(0x0c08060403020100)
#define DS_GPU_FP4_HIGH UINT64_C(0xf4f8fafcfdfeff00)

struct ds_gpu_pack {
    uint8_t low_bits, high_bits; /* low_bits 0: not a block type, or one that is not known */
    uint8_t groups;
    uint8_t minimum; /* 0 or 1 */
    uint8_t offset;
    uint8_t levels;  /* enum ds_gpu_levels */
};

#define DS_GPU_PLANE_BYTES(bits) (DS_RUN * DS_GPU_TILE / 8 * (uint32_t)(bits))

/* Rows of the tables of float scales. */
DS_LAYOUT_FN uint32_t ds_gpu_scale_rows(struct ds_gpu_pack pack) { return pack.groups ? 1u : 8u; }
/* Bytes within a record. Planes: low at 0. */
DS_LAYOUT_FN uint32_t ds_gpu_high_at(struct ds_gpu_pack pack) { return DS_GPU_PLANE_BYTES(pack.low_bits); }
DS_LAYOUT_FN uint32_t ds_gpu_scale_at(struct ds_gpu_pack pack) { return DS_GPU_PLANE_BYTES(pack.low_bits + pack.high_bits); }
DS_LAYOUT_FN uint32_t ds_gpu_minimum_at(struct ds_gpu_pack pack) { return ds_gpu_scale_at(pack) + pack.groups * DS_GPU_TILE; }
DS_LAYOUT_FN uint32_t ds_gpu_d_at(struct ds_gpu_pack pack) { return ds_gpu_minimum_at(pack) + pack.minimum * pack.groups * DS_GPU_TILE; }
DS_LAYOUT_FN uint32_t ds_gpu_dmin_at(struct ds_gpu_pack pack) { return ds_gpu_d_at(pack) + ds_gpu_scale_rows(pack) * DS_GPU_TILE * 2; }
DS_LAYOUT_FN uint32_t ds_gpu_run_bytes(struct ds_gpu_pack pack) {
    return ds_gpu_dmin_at(pack) + pack.minimum * ds_gpu_scale_rows(pack) * DS_GPU_TILE * 2;
}

/* Element of (row, output) in a table of `rows` rows. */
DS_LAYOUT_FN uint32_t ds_gpu_place(uint32_t rows, uint32_t row, uint32_t output) { return (output % 8 * rows + row) * 4 + output / 8; }

/* Byte and lowest bit of the weight of (output of the tile, input of the run) in a plane of `bits` bits. */
struct ds_gpu_bit {
    uint32_t byte, shift;
};
DS_LAYOUT_FN struct ds_gpu_bit ds_gpu_bit_of(uint32_t bits, uint32_t output, uint32_t input) {
    const uint32_t lane = output % 8 * 4 + input % 32 / 8, c = output / 8 * 2 + input % 8 / 4, each = 8 / bits;
    const uint32_t word = (input / 32 * 8 + c) / each;
    struct ds_gpu_bit at;
    at.byte = ((word / 4 * 32 + lane) * 4 + word % 4) * 4 + input % 4;
    at.shift = c % each * bits;
    return at;
}

/* Bytes of a tile of a float type whose elements have `size` bytes; a lane's inputs are padded to whole pieces. */
DS_LAYOUT_FN uint64_t ds_gpu_float_tile_bytes(uint32_t size, uint32_t cols) {
    return ((uint64_t)cols * size + DS_GPU_PIECE - 1) / DS_GPU_PIECE * DS_GPU_PIECE * DS_GPU_TILE;
}

#ifdef __cplusplus
extern "C" {
#endif

struct ds_gpu_pack ds_gpu_pack_get(ds_type type);
/* Bytes of one tile; of a matrix, a multiple of DS_ALIGN, 0 when it cannot be run. */
uint64_t ds_gpu_tile_bytes(ds_type type, uint32_t cols);
uint64_t ds_gpu_matrix_bytes(ds_type type, uint32_t rows, uint32_t cols);
/* One tile from `outputs` (1 to 32) rows in file layout, row_bytes apart. */
void ds_gpu_pack_tile(ds_type type, uint32_t cols, const uint8_t *from, uint64_t row_bytes, uint32_t outputs, uint8_t *tile);

/* What any layout in tiles of DS_GPU_TILE outputs needs: of a matrix, given its tiles' bytes; .. */
uint64_t ds_gpu_bytes_in_tiles(ds_type type, uint32_t rows, uint32_t cols, uint64_t tile_bytes);
/* .. a tile of a float type (one layout for all); .. */
void ds_gpu_pack_floats(ds_type type, uint32_t cols, const uint8_t *from, uint64_t row_bytes, uint32_t outputs, uint8_t *tile);
/* .. and the unsigned weights of a run: q shifted, or the index of the first level that equals it. */
void ds_gpu_pack_unsigned(struct ds_gpu_pack pack, const int8_t q[DS_RUN], uint8_t u[DS_RUN]);

#ifdef __cplusplus
}
#endif

#endif
