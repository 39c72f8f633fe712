// uses: half
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS glu_quantize_args
#define DS_TEAMS 4
#include "head.glsl"
#include "glu_quantize.h"
#include "common.glsl"
/* Meaning: cpu/ref/glu_quantize.c. A team of 32 lanes gates and quantises a run of 256 columns. */
layout(local_size_x = 128) in;
MEMORY(0, gate)
MEMORY(1, up)
MEMORY(2, gated)
MEMORY(3, outputs)
MEMORY(4, flags)
MEMORY(5, count)
#include "gate.glsl"
#include "quantize.glsl"

void main() {
    const uint r = gl_WorkGroupID.y, runs = (args.cols + 255u) / 256u, unit = gl_WorkGroupID.x * DS_TEAMS + gl_LocalInvocationIndex / 32u;
    const uint group = unit / runs, run = unit % runs;
    const bool there = group < args.groups;
    if (r >= ACTIVE_ROWS(args.rows)) return; /* all of the workgroup */
    float v[8];
    for (uint i = 0; i < 8u; i++) {
        const uint in_group = ds_quantize_column(run, i), c = group * args.cols + in_group;
        v[i] = 0.0f;
        if (!there || in_group >= args.cols) continue;
        const ds_f32 y = ds_opened(F32(gate, r * args.gate_stride + c)) * F32(up, r * args.up_stride + c);
        STORE_F32(gated, r * args.gated_stride + c, y); /* which may be gate or up itself: nobody else reads this column */
        v[i] = y;
    }
    ds_quantize_run(r, group, run, there, v);
}
