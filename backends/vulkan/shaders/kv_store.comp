// uses: half
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS kv_store_args
#include "head.glsl"
#include "kv_store.h"
#include "common.glsl"
/* Meaning: cpu/ref/kv_store.c. A thread stores one key's and one value's element. */
layout(local_size_x = 128) in;
layout(constant_id = 1) const uint F16 = 1;
MEMORY(0, k)
MEMORY(1, v)
MEMORY(2, keys)
MEMORY(3, values)
MEMORY(4, page_table)
MEMORY(5, row_sequence)
MEMORY(6, positions)
MEMORY(7, count)

void main() {
    const uint r = gl_WorkGroupID.y, c = gl_GlobalInvocationID.x;
    if (r >= ACTIVE_ROWS(args.rows) || c >= args.cols) return;
    const int signed_position = int(U32(positions, r));
    if (signed_position < 0) return;
    const uint position = uint(signed_position), slot = position % DS_PAGE;
    const uint page = U32(page_table, U32(row_sequence, r) * args.pages_per_sequence + position / DS_PAGE);
    if (page < args.first_page || page >= args.end_page) return; /* another dispatch's */
    const uint head = page * args.kv_heads + c / args.head_dim, dim = c % args.head_dim;
    const uint key = (head * args.head_dim + dim) * DS_PAGE + slot, value_place = (head * DS_PAGE + slot) * args.head_dim + dim;
    const float a = F32(k, r * args.k_stride + c), b = F32(v, r * args.v_stride + c);
    if (F16 != 0u) {
        STORE_HALF(keys, key, ds_f32_to_f16(a));
        STORE_HALF(values, value_place, ds_f32_to_f16(b));
    } else {
        STORE_F32(keys, key, a);
        STORE_F32(values, value_place, b);
    }
}
