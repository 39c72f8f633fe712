// uses: half
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS attention_args
#define DS_TEAMS 4
#include "head.glsl"
#include "attention.h"
#include "common.glsl"
/*
 * Meaning: cpu/ref/attention.c. A workgroup has one head of one row and goes through its chunks of 256 positions: two keys a thread, then
 * every team sums the 32 lanes' weights alike, then each thread sums some of the head's dimensions, keys ascending.
 */
layout(local_size_x = 128) in;
layout(constant_id = 1) const uint F16 = 1;
layout(constant_id = 2) const uint HEAD_DIM = 64; /* at most 1024 */
MEMORY(0, q)
MEMORY(1, outputs)
MEMORY(2, keys)
MEMORY(3, values)
MEMORY(4, page_table)
MEMORY(5, row_sequence)
MEMORY(6, positions)
MEMORY(7, visible)
MEMORY(8, count)

shared float query[HEAD_DIM];
shared float scores[256]; /* then weights */
shared float greatest[4];

ds_f32 key_at(uint i) {
    if (F16 != 0u) return ds_f16_to_f32(HALF(keys, i));
    return F32(keys, i);
}
ds_f32 value_at(uint i) {
    if (F16 != 0u) return ds_f16_to_f32(HALF(values, i));
    return F32(values, i);
}
ds_f32 rounded(float x) {
    if (F16 != 0u) return ds_f16_to_f32(ds_f32_to_f16(x));
    return x;
}

uint page_of(uint r, uint j) { return U32(page_table, U32(row_sequence, r) * args.pages_per_sequence + j / DS_PAGE); }

ds_f32 score(uint r, uint kv_head, uint j) {
    const uint first = (page_of(r, j) * args.kv_heads + kv_head) * HEAD_DIM * DS_PAGE + j % DS_PAGE;
    ds_f32 sum = 0.0f;
    for (uint d = 0; d < HEAD_DIM; d++) {
        const ds_f32 product = query[d] * key_at(first + d * DS_PAGE);
        sum = sum + product;
    }
    const ds_f32 s = sum * args.scale;
    if (args.softcap > 0.0f) return ds_softcap(s, args.softcap);
    return s;
}

/* The largest of all threads'; a NaN is nothing. */
ds_f32 max_of_all(float mine) {
    float m = mine;
    for (uint mask = 16; mask > 0u; mask >>= 1) m = ds_max(m, ds_float(ds_shuffle_xor(ds_bits(m), mask)));
    barrier();
    if (gl_LocalInvocationIndex % 32u == 0u) greatest[gl_LocalInvocationIndex / 32u] = m;
    barrier();
    return ds_max(ds_max(greatest[0], greatest[1]), ds_max(greatest[2], greatest[3]));
}

void main() {
    const uint h = gl_WorkGroupID.x, r = gl_WorkGroupID.y, thread = gl_LocalInvocationIndex, lane = thread % 32u, kv_head = h / args.queries;
    if (r >= ACTIVE_ROWS(args.rows)) return; /* all of the workgroup */
    const int position = int(U32(positions, r)), seen = int(U32(visible, r));
    if (position < 0) return;
    const int oldest = args.window > 0u ? position - int(args.window) + 1 : 0;
    const uint first = uint(max(oldest, 0)), last = uint(max(seen, 0));
    for (uint d = thread; d < HEAD_DIM; d += 128u) query[d] = rounded(F32(q, r * args.q_stride + h * HEAD_DIM + d));
    barrier();

    float o[8], all_m = 0.0f, all_l = 0.0f;
    for (uint i = 0; i < 8u; i++) o[i] = 0.0f;
    for (uint from = first; from < last;) {
        const uint chunk = from / DS_CHUNK * DS_CHUNK, to = min(last, chunk + DS_CHUNK);
        float mine = ds_float(DS_NUM_NAN), s[2];
        for (uint i = 0; i < 2u; i++) {
            const uint j = chunk + i * 128u + thread;
            s[i] = 0.0f;
            if (j < from || j >= to) continue;
            s[i] = score(r, kv_head, j);
            mine = ds_max(mine, s[i]);
        }
        const float m = max_of_all(mine);
        for (uint i = 0; i < 2u; i++) {
            const uint j = chunk + i * 128u + thread;
            float weight = 0.0f;
            if (j >= from && j < to) weight = rounded(ds_exp(s[i] - m));
            scores[j - chunk] = weight;
        }
        barrier();
        ds_f32 lane_sum = 0.0f;
        for (uint k = 0; k < 8u; k++) lane_sum = lane_sum + scores[k * 32u + lane];
        const float l = ds_tree_sum(lane_sum);
        const float next_m = ds_max(all_m, m), a = ds_exp(all_m - next_m), b = ds_exp(m - next_m);
        for (uint i = 0; i * 128u < HEAD_DIM; i++) {
            const uint d = i * 128u + thread;
            if (d >= HEAD_DIM) continue;
            ds_f32 sum = 0.0f;
            for (uint j = from; j < to; j++) {
                const uint at = ((page_of(r, j) * args.kv_heads + kv_head) * DS_PAGE + j % DS_PAGE) * HEAD_DIM + d;
                const ds_f32 product = scores[j - chunk] * value_at(at);
                sum = sum + product;
            }
            if (from == first) {
                o[i] = sum;
            } else {
                const ds_f32 left = o[i] * a, right = sum * b;
                o[i] = left + right;
            }
        }
        if (from == first) {
            all_m = m;
            all_l = l;
        } else {
            const ds_f32 left = all_l * a, right = l * b;
            all_l = left + right;
            all_m = next_m;
        }
        from = to;
        barrier(); /* the weights are read before the next are written */
    }
    ds_f32 inverse = 0.0f;
    if (first < last) inverse = ds_div(1.0f, all_l);
    for (uint i = 0; i * 128u < HEAD_DIM; i++) {
        const uint d = i * 128u + thread;
        if (d >= HEAD_DIM) continue;
        ds_f32 y = 0.0f;
        if (first < last) y = o[i] * inverse;
        STORE_F32(outputs, r * args.out_stride + h * HEAD_DIM + d, y);
    }
}
