// uses:
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS max_prob_args
#define DS_TEAMS 4
#include "head.glsl"
#include "max_prob.h"
#include "common.glsl"
/*
 * Meaning: cpu/ref/max_prob.c. A workgroup looks through a row twice: for its largest logit, beside which masses are measured, and for their sum.
 */
layout(local_size_x = 128) in;
MEMORY(0, logits)
MEMORY(1, log_odds)
MEMORY(2, count)
#define LOGIT(i) F32(logits, row_at + (i))
#define NO_BIAS
#include "filters.glsl"

#define MINUS_INFINITY 0xff800000u

/* The largest logit, in all threads; `raised` where one is not finite. */
float look() {
    if (thread == 0u) raised = 0u;
    barrier();
    float value = 0.0f;
    uint id = NONE;
    for (uint i = thread; i < n; i += THREADS) {
        const float logit = LOGIT(i);
        if (!ds_is_finite(logit)) atomicOr(raised, DS_FLAG_LOGIT);
        challenge(value, id, logit, i);
    }
    best_of_all(value, id);
    return value;
}

uvec2 total_mass(float largest) {
    uvec2 mine = uvec2(0u);
    for (uint i = thread; i < n; i += THREADS) {
        const ds_f32 below = LOGIT(i) - largest;
        mine = add64(mine, of_float(ds_mass_float(below)));
    }
    return sum_of_all(mine);
}

void main() {
    const uint r = gl_WorkGroupID.y;
    thread = gl_LocalInvocationIndex;
    if (r >= ACTIVE_ROWS(args.rows)) return; /* all of the workgroup, as below */
    n = args.vocabulary;
    row_at = r * args.stride;
    const float largest = look();
    uint bits = MINUS_INFINITY;
    if (raised == 0u) {
        const uvec2 rest = sub64(total_mass(largest), uvec2(0u, 1u)); /* all but the largest's own 2^32 */
        bits = ds_bits(ds_top_log_odds(rest.y, rest.x));
    }
    if (thread == 0u) STORE_U32(log_odds, r * args.log_odds_stride, bits);
}
