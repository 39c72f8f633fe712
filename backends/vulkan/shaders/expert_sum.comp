// uses:
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS expert_sum_args
#include "head.glsl"
#include "expert_sum.h"
#include "common.glsl"
/* Meaning: cpu/ref/expert_sum.c. */
layout(local_size_x = 128) in;
MEMORY(0, x)
MEMORY(1, weights)
MEMORY(2, y)
MEMORY(3, residual)
MEMORY(4, count)

void main() {
    const uint r = gl_WorkGroupID.y, c = gl_GlobalInvocationID.x;
    if (r >= ACTIVE_ROWS(args.rows) || c >= args.cols) return;
    ds_f32 sum = 0.0f;
    for (uint s = 0; s < args.slots; s++) {
        const ds_f32 product = F32(weights, r * args.weights_stride + s) * F32(x, r * args.x_stride + s * args.cols + c);
        sum = sum + product;
    }
    if (PRESENT(residual)) sum = sum + F32(residual, r * args.residual_stride + c);
    STORE_F32(y, r * args.y_stride + c, sum);
}
