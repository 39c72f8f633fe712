/*
 * How Vulkan devices keep weights: tiles of 32 outputs, padded with zeros. A lane has one output; what lanes read lies side by side as
 * pieces of 16 bytes, [piece][32 outputs][16 bytes].
 *
 *   F32, F16, BF16   piece p holds 16 bytes' worth of consecutive inputs. BF16 is bounded.
 *   block types      [tile][run of 256 inputs], each a contiguous record, its parts in this order:
 *     low plane      unsigned weights u = q + offset (Q8_0: q itself), their lowest `low` bits (8, 4, 2)
 *     high plane     the `high` bits above (0, 1, 2)
 *     scales         types of 256: int8 [piece][32 outputs][..]: scale[groups] of each output side by side, 8 or 16 bytes
 *     minimums       likewise, u8, if there are any
 *     d              types of 256: u16 [32 outputs]; types of 32: u16 [32 outputs][8 blocks]; f16, or bf16 for MXFP4
 *     dmin           likewise, if there are minimums
 *
 * In a plane of b bits, quad k (inputs 4k .. 4k + 3 of the run, one a byte) shares a word with 8/b - 1 neighbours: word k / (8/b) of
 * the output, bits (k mod 8/b) * b and up of each byte. So (word >> shift) & mask is four int8 for a packed dot product. The
 * output's word w is word w mod 4 of its piece w / 4.
 *
 * low, high, groups, offset and levels of a type are those of backends/gpu/pack.h. For C; shaders/weights.glsl reads it.
 */
#ifndef DSPARK_VULKAN_PACK_H
#define DSPARK_VULKAN_PACK_H

#include "ckpt/blocks.h"
#include "ops/layout.h"

enum { DS_VK_TILE = 32, DS_VK_PIECE = 16 };

/* Bytes of one tile; of a matrix, a multiple of DS_ALIGN, 0 when it cannot be run. */
uint64_t ds_vk_tile_bytes(ds_type type, uint32_t cols);
uint64_t ds_vk_matrix_bytes(ds_type type, uint32_t rows, uint32_t cols);
/* Bytes of the record of a run; 0: a float type. */
uint32_t ds_vk_run_bytes(ds_type type);
/* One tile from `outputs` (1 to 32) rows in file layout, row_bytes apart. */
void ds_vk_pack_tile(ds_type type, uint32_t cols, const uint8_t *from, uint64_t row_bytes, uint32_t outputs, uint8_t *tile);

/* constant_id 1 to 7 of a shader that reads weights, from this index of ds_vk_dispatch.constants on. */
enum { DS_VK_TYPE_CONSTANTS = 7 };
void ds_vk_type_constants(ds_type type, uint32_t out[DS_VK_TYPE_CONSTANTS]);

#endif
