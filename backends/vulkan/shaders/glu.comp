// uses:
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS glu_args
#include "head.glsl"
#include "glu.h"
#include "common.glsl"
/* Meaning: cpu/ref/glu.c. */
layout(local_size_x = 128) in;
MEMORY(0, gate)
MEMORY(1, up)
MEMORY(2, outputs)
MEMORY(3, count)
#include "gate.glsl"

void main() {
    const uint r = gl_WorkGroupID.y, c = gl_GlobalInvocationID.x;
    if (r >= ACTIVE_ROWS(args.rows) || c >= args.cols) return;
    const ds_f32 y = ds_opened(F32(gate, r * args.gate_stride + c)) * F32(up, r * args.up_stride + c);
    STORE_F32(outputs, r * args.out_stride + c, y);
}
