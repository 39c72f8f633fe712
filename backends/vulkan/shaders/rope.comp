// uses:
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS rope_args
#include "head.glsl"
#include "rope.h"
#include "common.glsl"
/* Meaning: cpu/ref/rope.c. A thread turns one pair. */
layout(local_size_x = 128) in;
MEMORY(0, x)
MEMORY(1, cosines)
MEMORY(2, sines)
MEMORY(3, positions)
MEMORY(4, count)

void main() {
    const uint r = gl_WorkGroupID.y, pair = gl_GlobalInvocationID.x;
    if (r >= ACTIVE_ROWS(args.rows) || pair >= args.heads * args.half_rot) return;
    const int position = int(U32(positions, r));
    if (position < 0) return;
    const uint i = pair % args.half_rot, head = r * args.stride + pair / args.half_rot * args.head_dim;
    const uint first = args.neox != 0u ? head + i : head + 2u * i, second = args.neox != 0u ? first + args.half_rot : first + 1u;
    const float a = F32(x, first), b = F32(x, second);
    const float cosine = F32(cosines, uint(position) * args.half_rot + i), sine = F32(sines, uint(position) * args.half_rot + i);
    const ds_f32 ac = a * cosine, bs = b * sine, bc = b * cosine, as = a * sine;
    const ds_f32 turned = ac - bs, other = bc + as;
    STORE_F32(x, first, turned);
    STORE_F32(x, second, other);
}
