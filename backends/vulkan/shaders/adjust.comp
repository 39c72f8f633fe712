// uses:
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS adjust_args
#include "head.glsl"
#include "adjust.h"
#include "common.glsl"
/*
 * Meaning: cpu/ref/adjust.c. A workgroup has a stretch of one row's vocabulary: it looks through the row's history and its list of biases for the
 * tokens that lie there, then changes each logit once.
 */
#define THREADS 128u
#define STRETCH 1024u
layout(local_size_x = 128) in;
MEMORY(0, x)
MEMORY(1, outputs)
MEMORY(2, how)
MEMORY(3, history)
MEMORY(4, drafted)
MEMORY(5, bias_ids)
MEMORY(6, bias_values)
MEMORY(7, count)

/* struct ds_adjust_row in words. */
#define ROW_WORDS 12u
#define HOW(i) U32(how, r * ROW_WORDS + (i))

shared uint counts[STRETCH];
shared uint biases[STRETCH]; /* bits; a NaN, which no bias is, where there is none */

ds_f32 clamped(float v) { return ds_max(-DS_NUM_LARGEST, ds_min(DS_NUM_LARGEST, v)); }

uint token_at(uint r, uint position) {
    const uint drafted_from = HOW(3u);
    if (position < drafted_from) return U32(history, HOW(0u) * args.history_stride + position);
    return U32(drafted, HOW(4u) + (position - drafted_from) * HOW(5u));
}

ds_f32 penalised(uint r, float v, uint times) {
    const float repetition = ds_float(HOW(6u)), presence = ds_float(HOW(7u)), frequency = ds_float(HOW(8u));
    ds_f32 scaled = v * repetition;
    if (v > 0.0f) scaled = ds_div(v, repetition);
    const ds_f32 once = scaled - presence, often = float(times) * frequency;
    const ds_f32 left = once - often;
    return clamped(left);
}

void main() {
    const uint r = gl_WorkGroupID.y, first = gl_WorkGroupID.x * STRETCH, n = min(args.cols - first, STRETCH), thread = gl_LocalInvocationIndex;
    if (r >= ACTIVE_ROWS(args.rows)) return; /* all of the workgroup */
    const bool changes = int(HOW(0u)) >= 0;
    for (uint i = thread; i < STRETCH; i += THREADS) {
        counts[i] = 0u;
        biases[i] = DS_NUM_NAN;
    }
    barrier();
    const uint end = changes ? HOW(2u) : 0u, listed = changes ? HOW(9u) : 0u;
    for (uint position = HOW(1u) + thread; position < end; position += THREADS) {
        const uint at = token_at(r, position) - first; /* what is no token of this stretch lies behind it */
        if (at < n) atomicAdd(counts[at], 1u);
    }
    for (uint i = thread; i < listed; i += THREADS) {
        const uint at = U32(bias_ids, HOW(0u) * args.ids_stride + i) - first;
        if (at < n) biases[at] = U32(bias_values, HOW(0u) * args.values_stride + i);
    }
    barrier();
    for (uint i = thread; i < n; i += THREADS) {
        const uint bits = U32(x, r * args.x_stride + first + i);
        ds_f32 v = ds_float(bits);
        const bool finite = ds_is_finite(v);
        if (counts[i] > 0u && finite) v = penalised(r, v, counts[i]);
        if (biases[i] != DS_NUM_NAN && finite) {
            const ds_f32 sum = v + ds_float(biases[i]);
            v = clamped(sum);
        }
        STORE_U32(outputs, r * args.out_stride + first + i, finite ? ds_bits(v) : bits);
    }
}
