// uses: half
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS quantize_args
#define DS_TEAMS 4
#include "head.glsl"
#include "quantize.h"
#include "common.glsl"
/* Meaning: cpu/ref/quantize.c. A team of 32 lanes quantises a run of 256 inputs, eight neighbours a lane; bf16: a thread a value. */
layout(local_size_x = 128) in;
layout(constant_id = 1) const uint SHARE = 0; /* lanes that have a scale in common: 32, or 4; 0: bf16 */
MEMORY(0, x)
MEMORY(1, outputs)
MEMORY(2, flags)
MEMORY(3, count)

void to_bf16(uint r) {
    const uint c = gl_GlobalInvocationID.x;
    if (c >= args.groups * args.cols) return;
    const float v = F32(x, r * args.x_stride + c);
    STORE_HALF(outputs, (r * args.groups + c / args.cols) * args.pitch + c % args.cols, ds_bf16_activation(v));
    if (PRESENT(flags) && !ds_is_finite(v)) ATOMIC_OR(flags, r, DS_FLAG_ACTIVATION);
}

void to_q8(uint r) {
    const uint runs = (args.cols + 255u) / 256u, unit = gl_WorkGroupID.x * DS_TEAMS + gl_LocalInvocationIndex / 32u;
    const uint lane = gl_LocalInvocationIndex % 32u, group = unit / runs, run = unit % runs, first = run * 256u + lane * 8u;
    const bool there = group < args.groups; /* else: a lane that only takes part in the exchanges */
    float v[8];
    int most = 0; /* the largest magnitude; as integers their order is that of floats, with what is not finite on top */
    for (uint i = 0; i < 8u; i++) {
        v[i] = 0.0f;
        if (there && first + i < args.cols) v[i] = F32(x, r * args.x_stride + group * args.cols + first + i);
        most = max(most, ds_abs_bits(v[i]));
    }
    for (uint mask = 1; mask < SHARE; mask <<= 1) most = max(most, int(ds_shuffle_xor(uint(most), mask)));
    const bool finite = most < 0x7f800000;
    const float amax = finite ? ds_float(uint(most)) : 0.0f; /* else zeros */
    const ds_f32 pre = ds_quant_pre(amax), inverse = ds_quant_inverse(amax);
    int sum = 0;
    uvec2 words = uvec2(0);
    for (uint i = 0; i < 8u; i++) {
        const int q = most > 0 && finite ? ds_quant(v[i], pre, inverse) : 0;
        sum += q;
        words[i / 4u] |= (uint(q) & 0xffu) << (i % 4u * 8u);
    }
    sum += int(ds_shuffle_xor(uint(sum), 1)); /* of 16 */
    const uint other = ds_shuffle_xor(uint(sum), 2);
    if (!there) return;

    const uint row = (r * args.groups + group) * args.pitch;
    STORE_U32(outputs, (row + first) / 4u, words.x);
    STORE_U32(outputs, (row + first) / 4u + 1u, words.y);
    if (lane % SHARE == 0u) STORE_F32(outputs, (row + args.scale_at) / 4u + first / (SHARE * 8u), ds_quant_scale(amax));
    if (lane % 4u == 0u) STORE_U32(outputs, (row + args.sum_at) / 4u + first / 32u, (uint(sum) & 0xffffu) | other << 16);
    if (PRESENT(flags) && !finite && lane % SHARE == 0u) ATOMIC_OR(flags, r, DS_FLAG_ACTIVATION);
    /* What rounds a row up is zeros; the last run's team sees to it. */
    const uint end = (args.sum_at + runs * 32u) / 4u;
    for (uint word = end + lane; run == runs - 1u && word < args.pitch / 4u; word += 32u) STORE_U32(outputs, row / 4u + word, 0u);
}

void main() {
    const uint r = gl_WorkGroupID.y;
    if (r >= ACTIVE_ROWS(args.rows)) return;
    if (SHARE == 0u) to_bf16(r);
    else to_q8(r);
}
