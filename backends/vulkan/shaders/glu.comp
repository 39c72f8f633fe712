// uses:
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS glu_args
#include "head.glsl"
#include "glu.h"
#include "common.glsl"
/* Meaning: cpu/ref/glu.c. */
layout(local_size_x = 128) in;
layout(constant_id = 1) const uint ACTIVATION = 0; /* ds_activation */
MEMORY(0, gate)
MEMORY(1, up)
MEMORY(2, outputs)
MEMORY(3, count)

void main() {
    const uint r = gl_WorkGroupID.y, c = gl_GlobalInvocationID.x;
    if (r >= ACTIVE_ROWS(args.rows) || c >= args.cols) return;
    const float x = F32(gate, r * args.gate_stride + c);
    const ds_f32 open = ACTIVATION == 0u ? ds_silu(x) : ACTIVATION == 1u ? ds_gelu(x) : ds_sigmoid(x);
    const ds_f32 y = open * F32(up, r * args.up_stride + c);
    STORE_F32(outputs, r * args.out_stride + c, y);
}
