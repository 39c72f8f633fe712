// uses: half
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS norm_quantize_args
#define DS_TEAMS 4
#include "head.glsl"
#include "norm_quantize.h"
#include "common.glsl"
/*
 * Meaning: cpu/ref/norm_quantize.c. A team norms and quantises a run of 256 columns. Each workgroup sums the whole row's squares for itself, in one team as the order
 * of the sum asks: that takes no longer than waiting for another's sum, and lets a row lie in several workgroups.
 */
layout(local_size_x = 128) in;
MEMORY(0, x)
MEMORY(1, weight)
MEMORY(2, normed)
MEMORY(3, outputs)
MEMORY(4, flags)
MEMORY(5, count)
#define NORM_INPUT(i) F32(x, i)
#include "norm.glsl"
#include "quantize.glsl"

shared float factor_of_row;

void main() {
    const uint r = gl_WorkGroupID.y, runs = (args.cols + 255u) / 256u, run = gl_WorkGroupID.x * DS_TEAMS + gl_LocalInvocationIndex / 32u;
    const bool there = run < runs;
    if (r >= ACTIVE_ROWS(args.rows)) return; /* all of the workgroup */
    const ds_f32 mine = ds_norm_factor(r * args.x_stride, args.cols, args.eps, gl_LocalInvocationIndex < 32u); /* one team reads the row for all */
    if (gl_LocalInvocationIndex == 0u) factor_of_row = mine;
    barrier();
    const float factor = factor_of_row;
    float v[8];
    for (uint i = 0; i < 8u; i++) {
        const uint c = ds_quantize_column(run, i);
        v[i] = 0.0f;
        if (!there || c >= args.cols) continue;
        ds_f32 y = F32(x, r * args.x_stride + c) * factor;
        if (PRESENT(weight)) y = y * F32(weight, c);
        STORE_F32(normed, r * args.normed_stride + c, y);
        v[i] = y;
    }
    ds_quantize_run(r, 0u, run, there, v);
}
