/*
 * How device `cpu` keeps weights. Sixteen outputs lie side by side, one a lane, and are padded to sixteen with zeros:
 *
 *   F32, F16, BF16   [tile][input][16 outputs], tile = 16 outputs. BF16 values are bounded (ds_bf16_bounded).
 *   block types      [tile][run of 256 inputs], each a contiguous record of `run_bytes`, read once from end to end.
 *
 * A record holds unsigned weights u = q + offset in 64 vectors of 64 bytes: vector v is inputs 4v .. 4v + 3 of the sixteen
 * outputs, [output][4], as an integer dot reads them. Of u, `low_bits` (8, 4, 2) and `high_bits` (0, 1, 2) are kept in planes:
 *   low plane    byte vector w holds vectors w * n .. w * n + n - 1, n = 8 / low_bits, lowest bits first
 *   high plane   likewise with n = 8 / high_bits
 * A codebook type keeps the index of q among its levels instead. Behind the planes, in this order, each [..][16 outputs]:
 *   types of 32    u16 d[8], then u16 m[8] if there are minimums; f16, or bf16 where the scale is a power of two (MXFP4)
 *   types of 256   int8 scale[groups], then u8 minimum[groups] if there are any, u16 d, then u16 dmin; groups = 8 or 16
 */
#ifndef DSPARK_CPU_PACK_H
#define DSPARK_CPU_PACK_H

#include "ckpt/blocks.h"
#include "ops/layout.h"

enum { DS_TILE = 16, DS_TILE_GROUPS = DS_RUN / 4 };
enum { DS_PACK_MOST_RUN_BYTES = DS_RUN * DS_TILE + 8 * DS_TILE * 4 }; /* no record is longer: bytes, and two halves for each block of 32 */

struct ds_pack {
    uint8_t low_bits, high_bits; /* low_bits 0: not a block type, or one that the device does not know */
    uint8_t groups;              /* 0: blocks of 32 with float scales; 8, 16: integer scales in a block of 256 */
    bool minimum;
    bool bf16_scale;
    uint8_t offset;              /* u = q + offset */
    const int8_t *levels;        /* 16 of a codebook, or NULL */
    uint32_t high_at, scale_at, minimum_at, d_at, dmin_at, run_bytes; /* bytes within a record */
};

/* Files keep this layout (`dspark convert --layout packed`): a change of any bit of it, or of a size, is another version. */
enum { DS_PACK_VERSION = 1 };

/* The layout of a type; never NULL. */
const struct ds_pack *ds_pack_get(ds_type type);

/* Room for a matrix, a multiple of DS_ALIGN; 0 when it cannot be run (no weights of this type, too large, broken blocks). */
uint64_t ds_pack_bytes(ds_type type, uint32_t rows, uint32_t cols);

/* Bytes of one tile, written by the kernel pack_tile (kernels.h). The matrix has passed ds_pack_bytes. */
uint64_t ds_pack_tile_bytes(ds_type type, uint32_t cols);

#endif
