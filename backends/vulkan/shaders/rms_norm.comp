// uses:
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS rms_norm_args
#define DS_TEAMS 4
#include "head.glsl"
#include "rms_norm.h"
#include "common.glsl"
/* Meaning: cpu/ref/rms_norm.c. A team of 32 lanes sums one group: they are the 32 lanes of the sum's definition. */
layout(local_size_x = 128) in;
MEMORY(0, x)
MEMORY(1, outputs)
MEMORY(2, weight)
MEMORY(3, residual)
MEMORY(4, count)
#define NORM_INPUT(i) F32(x, i)
#include "norm.glsl"

void main() {
    const uint r = gl_WorkGroupID.y, lane = gl_LocalInvocationIndex % 32u, group = gl_WorkGroupID.x * DS_TEAMS + gl_LocalInvocationIndex / 32u;
    if (r >= ACTIVE_ROWS(args.rows)) return; /* all of the workgroup */
    const bool there = group < args.groups; /* else: a lane that only takes part in the sums */
    const uint first = r * args.x_stride + group * args.dim;
    const ds_f32 factor = ds_norm_factor(first, args.dim, args.eps, there);
    if (!there) return;
    for (uint c = lane; c < args.dim; c += DS_LANES) {
        ds_f32 y = F32(x, first + c) * factor;
        if (PRESENT(weight)) y = y * F32(weight, c);
        if (PRESENT(residual)) y = y + F32(residual, r * args.residual_stride + group * args.dim + c);
        STORE_F32(outputs, r * args.out_stride + group * args.dim + c, y);
    }
}
