// uses: half
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS heads_args
#define DS_TEAMS 4
#include "head.glsl"
#include "heads.h"
#include "common.glsl"
/*
 * Meaning: cpu/ref/heads.c. A team of 32 lanes has a head of a row, of the queries or of the keys; that of a key's head stores it in the cache, and the
 * value's head beside it. The head stands in shared memory, because a pair's columns are different lanes'.
 */
layout(local_size_x = 128) in;
layout(constant_id = 1) const uint F16 = 1;
layout(constant_id = 2) const uint HEAD_DIM = 64; /* at most 512 */
layout(constant_id = 3) const uint HALF_ROT = 32;
layout(constant_id = 4) const uint NEOX = 1;
MEMORY(0, q)
MEMORY(1, k)
MEMORY(2, v)
MEMORY(3, q_norm)
MEMORY(4, k_norm)
MEMORY(5, cosines)
MEMORY(6, sines)
MEMORY(7, keys)
MEMORY(8, values)
MEMORY(9, page_table)
MEMORY(10, row_sequence)
MEMORY(11, positions)
MEMORY(12, count)

shared float staged[DS_TEAMS * HEAD_DIM];
#define NORM_INPUT(i) staged[i]
#include "norm.glsl"

/* Column c of the staged head, rotated. */
ds_f32 turned(uint head, int position, uint c) {
    if (position < 0 || c >= 2u * HALF_ROT) return staged[head + c];
    const uint i = NEOX != 0u ? c % HALF_ROT : c / 2u, first = NEOX != 0u ? i : 2u * i, second = NEOX != 0u ? i + HALF_ROT : first + 1u;
    const float a = staged[head + first], b = staged[head + second];
    const float cosine = F32(cosines, uint(position) * HALF_ROT + i), sine = F32(sines, uint(position) * HALF_ROT + i);
    if (c == second) {
        const ds_f32 bc = b * cosine, as = a * sine;
        return bc + as;
    }
    const ds_f32 ac = a * cosine, bs = b * sine;
    return ac - bs;
}

void main() {
    const uint r = gl_WorkGroupID.y, lane = gl_LocalInvocationIndex % 32u, team = gl_LocalInvocationIndex / 32u, unit = gl_WorkGroupID.x * DS_TEAMS + team;
    const uint q_heads = args.heads & 0xffffu, kv_heads = args.heads >> 16;
    if (r >= ACTIVE_ROWS(gl_NumWorkGroups.y)) return; /* all of the workgroup */
    const bool is_query = unit < q_heads, there = unit < q_heads + kv_heads; /* else: a team that only takes part in the sums */
    const uint head = is_query ? unit : unit - q_heads, at = (is_query ? r * args.q_stride : r * args.k_stride) + head * HEAD_DIM, mine = team * HEAD_DIM;
    for (uint c = lane; there && c < HEAD_DIM; c += 32u) {
        if (is_query) staged[mine + c] = F32(q, at + c);
        else staged[mine + c] = F32(k, at + c);
    }
    const bool normed = there && (is_query ? PRESENT(q_norm) : PRESENT(k_norm));
    const ds_f32 factor = ds_norm_factor(mine, HEAD_DIM, args.eps, normed);
    for (uint c = lane; normed && c < HEAD_DIM; c += 32u) {
        float weight;
        if (is_query) weight = F32(q_norm, c);
        else weight = F32(k_norm, c);
        const ds_f32 scaled = staged[mine + c] * factor, y = scaled * weight;
        staged[mine + c] = y;
    }
    barrier();
    if (!there) return;
    const int position = int(U32(positions, r));
    const bool stores = !is_query && position >= 0;
    const uint slot = uint(position) % DS_PAGE;
    uint cached = 0u; /* the head's place among those of all pages */
    if (stores) cached = U32(page_table, U32(row_sequence, r) * args.pages_per_sequence + uint(position) / DS_PAGE) * kv_heads + head;
    for (uint c = lane; c < HEAD_DIM; c += 32u) {
        const ds_f32 y = turned(mine, position, c);
        if (is_query) STORE_F32(q, at + c, y);
        else STORE_F32(k, at + c, y);
        if (!stores) continue;
        const uint key = (cached * HEAD_DIM + c) * DS_PAGE + slot, value_place = (cached * DS_PAGE + slot) * HEAD_DIM + c;
        const float value = F32(v, r * args.v_stride + head * HEAD_DIM + c);
        if (F16 != 0u) {
            STORE_HALF(keys, key, ds_f32_to_f16(y));
            STORE_HALF(values, value_place, ds_f32_to_f16(value));
        } else {
            STORE_F32(keys, key, y);
            STORE_F32(values, value_place, value);
        }
    }
}
