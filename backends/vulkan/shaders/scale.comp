// uses:
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS scale_args
#include "head.glsl"
#include "scale.h"
#include "common.glsl"
/* Meaning: cpu/ref/scale.c. */
layout(local_size_x = 128) in;
MEMORY(0, x)
MEMORY(1, outputs)
MEMORY(2, count)

void main() {
    const uint r = gl_WorkGroupID.y, c = gl_GlobalInvocationID.x;
    if (r >= ACTIVE_ROWS(args.rows) || c >= args.cols) return;
    ds_f32 value = F32(x, r * args.x_stride + c) * args.factor;
    if (args.softcap > 0.0f) value = ds_softcap(value, args.softcap);
    STORE_F32(outputs, r * args.out_stride + c, value);
}
