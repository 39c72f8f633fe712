/*
 * What every shader starts from: how it reaches its operands, numerics.h, sums of 32 lanes. A shader is
 *
 *     // uses: half, dot          (variants it needs beside the two ways to reach operands; the first line)
 *     #version 450
 *     #extension GL_GOOGLE_include_directive : require
 *     #define ARGS glu_args
 *     #include "head.glsl"        extensions
 *     #include "glu.h"            its arguments, shared with ops/glu.c
 *     #include "common.glsl"
 *     MEMORY(0, gate) ...         its operands: address members of ARGS, numbered as ops/glu.c asks for them (ds_vk_at)
 *
 * U32(name, i), F32(name, i): word i behind operand `name`; both may be assigned to through STORE_U32, STORE_F32. HALF(name, i), BYTE(name, i): the
 * i-th 16 or 8 bits, as a uint. PIECE(name, i): 16 bytes, where the operand is aligned to 16. PRESENT(name): it was given.
 */
#ifndef DSPARK_VULKAN_COMMON
#define DSPARK_VULKAN_COMMON

layout(push_constant, std430) uniform ds_push { ARGS args; };

layout(constant_id = 0) const uint SUBGROUP = 1;

#define PRESENT(name) (args.name.y != 0xffffffffu)
#define F32(name, i) ds_float(U32(name, i))
#define STORE_F32(name, i, value) STORE_U32(name, i, ds_bits(value))
#define BYTE(name, i) (U32(name, (i) >> 2) >> (((i) & 3u) * 8u) & 0xffu)

#ifdef DS_ADDRESS

layout(buffer_reference, std430, buffer_reference_align = 4) buffer ds_words { uint w[]; };
layout(buffer_reference, std430, buffer_reference_align = 16) buffer ds_pieces { uvec4 w[]; };
#define MEMORY(n, name)
#define U32(name, i) (ds_words(args.name).w[i])
#define STORE_U32(name, i, value) ds_words(args.name).w[i] = (value)
#define PIECE(name, i) (ds_pieces(args.name).w[i])
#define ATOMIC_OR(name, i, bits) atomicOr(ds_words(args.name).w[i], bits)
#define ATOMIC_ADD(name, i, n) atomicAdd(ds_words(args.name).w[i], n)
#ifdef DS_HALF
layout(buffer_reference, std430, buffer_reference_align = 2) buffer ds_halves { uint16_t w[]; };
#define HALF(name, i) (uint(ds_halves(args.name).w[i]))
#define STORE_HALF(name, i, value) ds_halves(args.name).w[i] = uint16_t(value)
#else /* operands may begin in the middle of a word */
#define HALF_PLACE(name, i) ((args.name.x >> 1 & 1u) + (i))
#define WORD_OF_HALF(name, i) ds_words(uvec2(args.name.x & 0xfffffffcu, args.name.y)).w[HALF_PLACE(name, i) >> 1]
#endif

#else

#define MEMORY(n, name)                                                       \
    layout(binding = n, std430) buffer ds_word_block_##name { uint w[]; } name##_words;      \
    layout(binding = n, std430) buffer ds_piece_block_##name { uvec4 w[]; } name##_pieces;   \
    MEMORY_HALVES(n, name)
/* Word i behind the operand: it begins at byte x, word y of it is the first that the descriptor shows. */
#define PLACE(name, i) ((args.name.x >> 2) + (i) - args.name.y)
#define U32(name, i) (name##_words.w[PLACE(name, i)])
#define STORE_U32(name, i, value) name##_words.w[PLACE(name, i)] = (value)
#define PIECE(name, i) (name##_pieces.w[(args.name.x >> 4) + (i) - (args.name.y >> 2)])
#define ATOMIC_OR(name, i, bits) atomicOr(name##_words.w[PLACE(name, i)], bits)
#define ATOMIC_ADD(name, i, n) atomicAdd(name##_words.w[PLACE(name, i)], n)
#define HALF_PLACE(name, i) ((args.name.x >> 1) + (i) - (args.name.y << 1))
#ifdef DS_HALF
#define MEMORY_HALVES(n, name) layout(binding = n, std430) buffer ds_half_block_##name { uint16_t w[]; } name##_halves;
#define HALF(name, i) (uint(name##_halves.w[HALF_PLACE(name, i)]))
#define STORE_HALF(name, i, value) name##_halves.w[HALF_PLACE(name, i)] = uint16_t(value)
#else
#define MEMORY_HALVES(n, name)
#define WORD_OF_HALF(name, i) name##_words.w[HALF_PLACE(name, i) >> 1]
#endif

#endif

#ifndef DS_HALF
#define HALF(name, i) (WORD_OF_HALF(name, i) >> ((HALF_PLACE(name, i) & 1u) * 16u) & 0xffffu)
/* The other half may be somebody else's: the bits that change are flipped. Nobody else changes this half meanwhile. */
#define STORE_HALF(name, i, value) \
    atomicXor(WORD_OF_HALF(name, i), ((HALF(name, i) ^ (value)) & 0xffffu) << ((HALF_PLACE(name, i) & 1u) * 16u))
#endif

/* --- rows --- */

/* How many rows are computed: the common rule about `count`. */
#define ACTIVE_ROWS(rows) (PRESENT(count) ? min(U32(count, 0), rows) : (rows))

#define DS_RUN 256u
#define DS_LANES 32u
#define DS_PAGE 64u
#define DS_CHUNK 256u
#define DS_SUM_GROUP 16u
#define DS_ALIGN 64u
#define DS_FLAG_ACTIVATION 1u
#define DS_FLAG_LOGIT 2u
#define DS_FLAG_MASKED 4u

/* --- integer dot products --- */

#ifdef DS_DOT
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6018, 6019], id = 4450)
int ds_packed_dot(int a, int b, spirv_literal int format);
int ds_dot4(uint a, uint b) { return ds_packed_dot(int(a), int(b), 0); }
#else
/* The sum of the products of four signed bytes. */
int ds_dot4(uint a, uint b) {
    int sum = 0;
    for (int i = 0; i < 32; i += 8) sum += bitfieldExtract(int(a), i, 8) * bitfieldExtract(int(b), i, 8);
    return sum;
}
#endif

/* --- teams of 32 lanes --- */

/*
 * A workgroup has whole teams: DS_TEAMS is defined by who needs them, local_size_x is 32 * DS_TEAMS. All threads of a workgroup must
 * reach these functions together.
 */
#ifdef DS_TEAMS
shared uint ds_exchange[DS_TEAMS * 32];

/* What the lane `mask` away of the same team has. */
uint ds_shuffle_xor(uint value, uint mask) {
    if (mask < SUBGROUP) return subgroupShuffleXor(value, mask);
    barrier();
    ds_exchange[gl_LocalInvocationIndex] = value;
    barrier();
    return ds_exchange[gl_LocalInvocationIndex ^ mask];
}

/* The halving tree of a row reduction: lane i += lane i + 16, then + 8, 4, 2, 1. All lanes get lane 0's sum: at each step both
   partners add the same two numbers. */
ds_f32 ds_tree_sum(float lane_sum) {
    ds_f32 sum = lane_sum;
    for (uint mask = 16; mask > 0; mask >>= 1) sum = sum + ds_float(ds_shuffle_xor(ds_bits(sum), mask));
    return sum;
}
#endif

#endif
