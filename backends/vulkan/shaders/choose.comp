// uses:
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS choose_args
#define DS_TEAMS 4
#include "head.glsl"
#include "choose.h"
#include "common.glsl"
/* The first of two dispatches of cpu/ref/top_linear.c: a workgroup finds which of a row's outputs have the greatest residuals. */
layout(local_size_x = 128) in;
MEMORY(0, residual)
MEMORY(1, chosen)
MEMORY(2, count)
#define LOGIT(i) F32(residual, row_at + (i))
#define NO_BIAS
#include "filters.glsl"

void main() {
    const uint r = gl_WorkGroupID.y;
    thread = gl_LocalInvocationIndex;
    if (r >= ACTIVE_ROWS(args.rows)) return; /* all of the workgroup */
    n = args.outputs;
    row_at = r * args.stride;
    uint key, id;
    select(false, uvec2(args.top, 0u), key, id);
    if (thread != 0u) return;
    STORE_U32(chosen, 2u * r, key);
    STORE_U32(chosen, 2u * r + 1u, id);
}
