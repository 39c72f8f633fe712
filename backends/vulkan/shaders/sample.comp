// uses:
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS sample_args
#define DS_TEAMS 4
#include "head.glsl"
#include "sample.h"
#include "common.glsl"
/*
 * Meaning: cpu/ref/sample.c. A workgroup draws one row's token and looks through the vocabulary several times: for the largest logit; for each
 * filter that is on, eight times to find the last token it keeps; and for the largest sum of logit and noise.
 */
layout(local_size_x = 128) in;
MEMORY(0, logits)
MEMORY(1, how)
MEMORY(2, bias)
MEMORY(3, tokens)
MEMORY(4, flags)
MEMORY(5, count)
#define LOGIT(i) F32(logits, row_at + (i))
#include "filters.glsl"

/* struct ds_sample_row in words. */
#define ROW_WORDS 16u
#define HOW(i) U32(how, r * ROW_WORDS + (i))
/* Noise lies in [-2.82, 22.2] (numerics.h): what is further below the best than this cannot win. */
#define NOISE_SPAN 26.0f

void main() {
    const uint r = gl_WorkGroupID.y;
    thread = gl_LocalInvocationIndex;
    if (r >= ACTIVE_ROWS(args.rows)) return; /* all of the workgroup */
    n = args.vocabulary;
    row_at = r * args.stride;
    const int bias_row = int(HOW(9u));
    has_bias = PRESENT(bias) && bias_row >= 0;
    bias_at = has_bias ? uint(bias_row) * n : 0u;
    if (thread == 0u) raised = 0u;
    barrier();
    float value = 0.0f;
    uint id = NONE;
    for (uint i = thread; i < n; i += THREADS) {
        if (!ds_is_finite(LOGIT(i))) atomicOr(raised, DS_FLAG_LOGIT);
        if (!forbidden(i)) challenge(value, id, biased(i), i);
    }
    best_of_all(value, id);
    const uint flag = raised != 0u ? raised : id == NONE ? DS_FLAG_MASKED : 0u;
    inverse_temperature = ds_float(HOW(0u));
    if (flag == 0u && inverse_temperature > 0.0f) {
        top = value;
        top_k = HOW(1u);
        filter_row(ds_float(HOW(2u)), ds_float(HOW(3u)));
        value = 0.0f;
        id = NONE;
        for (uint i = thread; i < n; i += THREADS) {
            const ds_f32 t = heat(i);
            if (!(t >= -NOISE_SPAN) || !kept(i)) continue; /* the largest logit is always kept, and its t is 0 */
            const ds_f32 score = t + ds_gumbel(philox_word(uvec2(HOW(4u), HOW(5u)), i, HOW(6u), HOW(8u), HOW(7u)));
            challenge(value, id, score, i);
        }
        best_of_all(value, id);
    }
    if (thread != 0u) return;
    STORE_U32(tokens, r, flag != 0u ? NONE : id);
    if (PRESENT(flags) && flag != 0u) STORE_U32(flags, r, U32(flags, r) | flag);
}
