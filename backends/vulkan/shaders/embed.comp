// uses:
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS embed_args
#include "head.glsl"
#include "embed.h"
#include "common.glsl"
#include "weights.glsl"
/* Rows of a packed matrix, widened. Meaning: cpu/ref/embed.c. A thread widens one value. */
layout(local_size_x = 128) in;
MEMORY(0, table)
MEMORY(1, ids)
MEMORY(2, outputs)
MEMORY(3, count)

uint half_of(uint word, uint i) { return word >> ((i & 1u) * 16u) & 0xffffu; }
/* The i-th 16 bits from word `at` on. */
uint table_half(uint at, uint i) { return half_of(U32(table, at + (i >> 1)), i); }
uint table_byte(uint at, uint i) { return U32(table, at + (i >> 2)) >> ((i & 3u) * 8u) & 0xffu; }

uint plane_bits(uint at, uint bits, uint output_, uint i) {
    const uint quad = i / 4u;
    const uint word = U32(table, at + ds_plane_place(ds_plane_word(bits, quad), output_));
    return word >> (ds_plane_shift(bits, quad) + (i % 4u) * 8u) & ((1u << bits) - 1u);
}

ds_f32 block_value(uint record, uint output_, uint i) {
    uint u = plane_bits(record, LOW, output_, i);
    if (HIGH != 0u) u |= plane_bits(record + LOW * PLANE / 4u, max(HIGH, 1u), output_, i) << LOW;
    const ds_f32 q = float(bitfieldExtract(int(ds_signed_weights(u)), 0, 8));
    if (GROUPS == 0u) {
        const ds_f32 value = q * ds_scale_value(table_half(record + D_AT / 4u, output_ * 8u + i / 32u));
        if (MINIMUM == 0u) return value;
        return value + ds_scale_value(table_half(record + DMIN_AT / 4u, output_ * 8u + i / 32u));
    }
    const uint place = output_ * GROUPS + i * GROUPS / 256u;
    const ds_f32 scale = float(bitfieldExtract(int(table_byte(record + SCALE_AT / 4u, place)), 0, 8));
    const ds_f32 stride = ds_f16_to_f32(table_half(record + D_AT / 4u, output_)) * scale;
    const ds_f32 value = stride * q;
    if (MINIMUM == 0u) return value;
    const ds_f32 minimum = float(table_byte(record + MINIMUM_AT / 4u, place));
    const ds_f32 less = ds_f16_to_f32(table_half(record + DMIN_AT / 4u, output_)) * minimum;
    return value - less;
}

ds_f32 element(uint tile, uint output_, uint c) {
    if (KIND == KIND_F32) return F32(table, tile + (c / 4u * 32u + output_) * 4u + c % 4u);
    const uint word = KIND == KIND_F16 || KIND == KIND_BF16 ? U32(table, tile + (c / 8u * 32u + output_) * 4u + c % 8u / 2u) : 0u;
    if (KIND == KIND_F16) return ds_f16_to_f32(half_of(word, c));
    if (KIND == KIND_BF16) return ds_bf16_to_f32(half_of(word, c));
    return block_value(tile + c / 256u * (RUN_BYTES / 4u), output_, c % 256u);
}

void main() {
    const uint r = gl_WorkGroupID.y, c = gl_GlobalInvocationID.x;
    if (r >= ACTIVE_ROWS(args.rows) || c >= args.cols) return;
    const int id = int(U32(ids, r));
    const uint tile = id < 0 ? 0u : uint(id) / 32u;
    if (tile < args.first_tile || tile >= args.end_tile) return; /* another dispatch's */
    ds_f32 value = 0.0f;
    if (id >= 0) value = element(tile * ds_tile_words(args.cols), uint(id) % 32u, c) * args.scale;
    STORE_F32(outputs, r * args.out_stride + c, value);
}
