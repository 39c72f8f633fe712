// uses:
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS scatter_args
#include "head.glsl"
#include "scatter.h"
#include "common.glsl"
/* Meaning: cpu/ref/scatter.c. Two dispatches: the fill, then the columns. */
layout(local_size_x = 128) in;
layout(constant_id = 1) const uint FILL = 0;
MEMORY(0, x)
MEMORY(1, ids)
MEMORY(2, outputs)
MEMORY(3, count)

void main() {
    const uint r = gl_WorkGroupID.y, c = gl_GlobalInvocationID.x;
    if (r >= ACTIVE_ROWS(args.rows) || c >= (FILL != 0u ? args.out_cols : args.cols)) return;
    if (FILL != 0u) STORE_F32(outputs, r * args.out_stride + c, args.fill);
    else STORE_U32(outputs, r * args.out_stride + U32(ids, c), U32(x, r * args.x_stride + c));
}
