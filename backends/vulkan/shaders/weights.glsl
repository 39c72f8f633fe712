/* Reading packed weights (pack.h). constant_id 1 to 7 are ds_vk_type_constants of the type. */
#ifndef DSPARK_VULKAN_WEIGHTS
#define DSPARK_VULKAN_WEIGHTS

layout(constant_id = 1) const uint KIND = 0; /* of these: */
#define KIND_BLOCKS 0u
#define KIND_F32 1u
#define KIND_F16 2u
#define KIND_BF16 3u
#define KIND_MXFP4 4u /* blocks whose scales are bf16 */
layout(constant_id = 2) const uint LOW = 8;
layout(constant_id = 3) const uint HIGH = 0;
layout(constant_id = 4) const uint GROUPS = 0; /* 0: blocks of 32 with float scales */
layout(constant_id = 5) const uint MINIMUM = 0;
layout(constant_id = 6) const uint OFFSET = 0;
layout(constant_id = 7) const uint LEVELS = 0;
#define LEVELS_IQ4 1u

/* Bytes within a record. */
const uint PLANE = 1024; /* a plane of one bit */
#define SCALE_AT (PLANE * (LOW + HIGH))
#define MINIMUM_AT (SCALE_AT + GROUPS * 32u)
#define D_BYTES (GROUPS != 0u ? 64u : 512u)
#define D_AT (MINIMUM_AT + MINIMUM * GROUPS * 32u)
#define DMIN_AT (D_AT + D_BYTES)
#define RUN_BYTES (DMIN_AT + MINIMUM * D_BYTES)

/* Four bytes at once: u - OFFSET, no borrow crossing bytes since u < 128. */
uint ds_less_offset(uint u) { return ((u | 0x80808080u) - OFFSET * 0x01010101u) ^ 0x80808080u; }

/* Level of an index below 16. */
int ds_level(uint index) {
    uvec4 bytes = uvec4(0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu);
    if (LEVELS == LEVELS_IQ4) bytes = uvec4(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);
    return bitfieldExtract(int(bytes[index >> 2]), int(index & 3u) * 8, 8);
}
uint ds_level_bytes(uint u) {
    uint out_bytes = 0;
    for (uint i = 0; i < 32u; i += 8u) out_bytes |= (uint(ds_level(u >> i & 15u)) & 0xffu) << i;
    return out_bytes;
}

/* Four unsigned weights to four int8. */
uint ds_signed_weights(uint u) { return LEVELS != 0u ? ds_level_bytes(u) : OFFSET != 0u ? ds_less_offset(u) : u; }

/* Which word of an output's words in a plane of `bits` bits holds quad k, and from which bit on. */
uint ds_plane_word(uint bits, uint quad) { return quad / (8u / bits); }
uint ds_plane_shift(uint bits, uint quad) { return quad % (8u / bits) * bits; }
uint ds_plane_mask(uint bits) { return bits == 8u ? 0xffffffffu : ((1u << bits) - 1u) * 0x01010101u; }

/* Word w of an output, as a word index from the plane's start. */
uint ds_plane_place(uint w, uint output_) { return ((w >> 2) * 32u + output_) * 4u + (w & 3u); }

/* A scale's bits. */
ds_f32 ds_scale_value(uint bits) { return KIND == KIND_MXFP4 ? ds_bf16_to_f32(bits) : ds_f16_to_f32(bits); }

/* Bytes from one tile to the next, in words. */
uint ds_tile_words(uint cols) {
    if (KIND == KIND_F32) return ((cols * 4u + 15u) / 16u) * 128u;
    if (KIND == KIND_F16 || KIND == KIND_BF16) return ((cols * 2u + 15u) / 16u) * 128u;
    return ((cols + 255u) / 256u) * (RUN_BYTES / 4u);
}

#endif
