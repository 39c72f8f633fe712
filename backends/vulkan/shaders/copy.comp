// uses:
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS copy_args
#include "head.glsl"
#include "copy.h"
#include "common.glsl"
/* Meaning: cpu/ref/copy.c. */
layout(local_size_x = 128) in;
MEMORY(0, x)
MEMORY(1, outputs)
MEMORY(2, index)
MEMORY(3, count)

void main() {
    const uint r = gl_WorkGroupID.y, c = gl_GlobalInvocationID.x;
    if (r >= ACTIVE_ROWS(args.rows) || c >= args.cols) return;
    const uint from = PRESENT(index) ? U32(index, r) : r;
    STORE_U32(outputs, r * args.out_stride + c, U32(x, from * args.x_stride + c));
}
