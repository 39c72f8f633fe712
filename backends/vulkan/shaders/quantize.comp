// uses: half
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS quantize_args
#define DS_TEAMS 4
#include "head.glsl"
#include "quantize.h"
#include "common.glsl"
/* Meaning: cpu/ref/quantize.c. A team of 32 lanes quantises a run of 256 inputs. */
layout(local_size_x = 128) in;
MEMORY(0, x)
MEMORY(1, outputs)
MEMORY(2, flags)
MEMORY(3, count)
#include "quantize.glsl"

void main() {
    const uint r = gl_WorkGroupID.y, runs = (args.cols + 255u) / 256u, unit = gl_WorkGroupID.x * DS_TEAMS + gl_LocalInvocationIndex / 32u;
    const uint group = unit / runs, run = unit % runs;
    const bool there = group < args.groups;
    if (r >= ACTIVE_ROWS(args.rows)) return; /* all of the workgroup */
    float v[8];
    for (uint i = 0; i < 8u; i++) {
        const uint c = ds_quantize_column(run, i);
        v[i] = 0.0f;
        if (there && c < args.cols) v[i] = F32(x, r * args.x_stride + group * args.cols + c);
    }
    ds_quantize_run(r, group, run, there, v);
}
