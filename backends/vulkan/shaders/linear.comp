// uses: half, dot
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS linear_args
#include "head.glsl"
#include "linear.h"
#include "common.glsl"
#include "weights.glsl"
#include "key.glsl"
/*
 * Meaning: cpu/ref/linear.c, cpu/ref/expert_linear.c, cpu/ref/top_linear.c. A workgroup has 32 outputs (a lane each) of up to 16 rows, whose weights it reads once. Its
 * teams of 32 threads, 4 to 16 of them, take runs in turn; the runs' sums meet in shared memory and are added in their order. Blocks and int8 activations are read in
 * pieces of 16 bytes.
 */
layout(local_size_x_id = 12) in; /* 32 * TEAMS */
layout(constant_id = 8) const uint ROWS = 1;    /* rows of a workgroup, at most 16 */
layout(constant_id = 9) const uint NARROW = 0;  /* activations with a scale for 32 */
layout(constant_id = 10) const uint EXPERTS = 0; /* a workgroup has one (row, slot), whose expert it asks for */
layout(constant_id = 11) const uint TOP = 0; /* of a workgroup's one row, the outputs up to the last one taken (choose.comp) alone */
#define TEAMS (gl_WorkGroupSize.x / 32u)
MEMORY(0, weight)
MEMORY(1, x)
MEMORY(2, y)
MEMORY(3, bias)
MEMORY(4, residual)
MEMORY(5, ids) /* of experts; or what choose.comp left */
MEMORY(6, count)

shared float run_sums[gl_WorkGroupSize.x * ROWS]; /* [team][row][output] */
shared uint some_taken;

float run_sum[16];
uint x_at[16]; /* where the rows of x begin: words, or halves */

uint half_of(uint word, uint i) { return word >> ((i & 1u) * 16u) & 0xffffu; }

/* --- float weights: multiply, then add, inputs ascending --- */

ds_f32 input_of(uint i, uint c) {
    if (KIND == KIND_BF16) return ds_bf16_to_f32(HALF(x, x_at[i] + c));
    return F32(x, x_at[i] + c);
}

void float_run(uint tile, uint lane, uint run) {
    const uint each = KIND == KIND_F32 ? 4u : 8u, end = min(args.inputs, run * 256u + 256u);
    for (uint i = 0; i < ROWS; i++) run_sum[i] = 0.0f;
    for (uint c = run * 256u; c < end; c += each) {
        const uvec4 piece = PIECE(weight, tile / 4u + c / each * 32u + lane);
        for (uint k = 0; k < each && c + k < end; k++) {
            ds_f32 w;
            if (KIND == KIND_F32) w = ds_float(piece[k]);
            else if (KIND == KIND_F16) w = ds_f16_to_f32(half_of(piece[k / 2u], k));
            else w = ds_bf16_to_f32(half_of(piece[k / 2u], k));
            for (uint i = 0; i < ROWS; i++) {
                const ds_f32 product = input_of(i, c + k) * w;
                run_sum[i] = run_sum[i] + product;
            }
        }
    }
}

/* --- blocks: integers inside --- */

/* Pieces of 16 bytes that serve several steps. */
uvec4 low_piece, high_piece;

/* Piece number n of the output's words in the plane `skipped` bits behind the record's start. */
uvec4 plane_piece(uint record, uint skipped, uint n, uint lane) { return PIECE(weight, (record + skipped * (PLANE / 4u)) / 4u + n * 32u + lane); }

uvec4 signed_weights(uvec4 u) { return uvec4(ds_signed_weights(u.x), ds_signed_weights(u.y), ds_signed_weights(u.z), ds_signed_weights(u.w)); }

/* Eight words of four int8: the output's weights of step s (32 inputs) of the run. Steps are asked for ascending. */
void step_weights(uint record, uint lane, uint s, out uvec4 first, out uvec4 second) {
    if (LOW == 8u) {
        first = plane_piece(record, 0u, 2u * s, lane);
        second = plane_piece(record, 0u, 2u * s + 1u, lane);
    } else if (LOW == 4u) {
        const uvec4 p = plane_piece(record, 0u, s, lane);
        first = uvec4(p.x, p.x >> 4, p.y, p.y >> 4) & 0x0f0f0f0fu;
        second = uvec4(p.z, p.z >> 4, p.w, p.w >> 4) & 0x0f0f0f0fu;
    } else {
        if (s % 2u == 0u) low_piece = plane_piece(record, 0u, s / 2u, lane);
        const uvec2 two = s % 2u == 0u ? low_piece.xy : low_piece.zw;
        first = uvec4(two.x, two.x >> 2, two.x >> 4, two.x >> 6) & 0x03030303u;
        second = uvec4(two.y, two.y >> 2, two.y >> 4, two.y >> 6) & 0x03030303u;
    }
    if (HIGH == 1u) {
        if (s % 4u == 0u) high_piece = plane_piece(record, LOW, s / 4u, lane);
        const uint h = high_piece[s % 4u];
        first |= (uvec4(h, h >> 1, h >> 2, h >> 3) & 0x01010101u) << (LOW & 7u);
        second |= (uvec4(h >> 4, h >> 5, h >> 6, h >> 7) & 0x01010101u) << (LOW & 7u);
    }
    if (HIGH == 2u) {
        if (s % 2u == 0u) high_piece = plane_piece(record, LOW, s / 2u, lane);
        const uvec2 two = s % 2u == 0u ? high_piece.xy : high_piece.zw;
        first |= (uvec4(two.x, two.x >> 2, two.x >> 4, two.x >> 6) & 0x03030303u) << (LOW & 7u);
        second |= (uvec4(two.y, two.y >> 2, two.y >> 4, two.y >> 6) & 0x03030303u) << (LOW & 7u);
    }
    first = signed_weights(first);
    second = signed_weights(second);
}

int dot_piece(uvec4 w, uvec4 v) { return ds_dot4(w.x, v.x) + ds_dot4(w.y, v.y) + ds_dot4(w.z, v.z) + ds_dot4(w.w, v.w); }

ds_f32 table_scale(uint at, uint i) { return ds_scale_value(half_of(U32(weight, at + (i >> 1)), i)); }
int low_sum(uint two) { return bitfieldExtract(int(two), 0, 16); }
int high_sum(uint two) { return int(two) >> 16; }

/* The output's GROUPS bytes (8 or 16) of a table. */
uvec4 table_bytes(uint at, uint lane) {
    if (GROUPS == 16u) return PIECE(weight, at / 4u + lane);
    return uvec4(U32(weight, at + 2u * lane), U32(weight, at + 2u * lane + 1u), 0u, 0u);
}

/* (d * d_x) * f32(isum) - (dmin * d_x) * f32(msum) */
void superblock_run(uint record, uint lane, uint run) {
    int isum[16], msum[16];
    for (uint i = 0; i < ROWS; i++) isum[i] = msum[i] = 0;
    const uvec4 scales = table_bytes(record + SCALE_AT / 4u, lane);
    uvec4 minimums = uvec4(0u);
    if (MINIMUM != 0u) minimums = table_bytes(record + MINIMUM_AT / 4u, lane);
    const uint parts = GROUPS / 8u;
    for (uint s = 0; s < 8u; s++) {
        uvec4 w0, w1;
        step_weights(record, lane, s, w0, w1);
        const int place = int(s * parts % 4u) * 8;
        const uint word = scales[s * parts / 4u], minimum_word = minimums[s * parts / 4u];
        const int scale0 = bitfieldExtract(int(word), place, 8), minimum0 = int(bitfieldExtract(minimum_word, place, 8));
        int scale1 = scale0, minimum1 = minimum0; /* of the second half: another group where there are 16 */
        if (parts == 2u) {
            scale1 = bitfieldExtract(int(word), place + 8, 8);
            minimum1 = int(bitfieldExtract(minimum_word, place + 8, 8));
        }
        for (uint i = 0; i < ROWS; i++) {
            const uint at = x_at[i] / 4u + run * 16u + s * 2u;
            const int dot0 = dot_piece(w0, PIECE(x, at)), dot1 = dot_piece(w1, PIECE(x, at + 1u));
            isum[i] += scale0 * dot0 + scale1 * dot1;
            if (MINIMUM == 0u) continue;
            const uint two = U32(x, x_at[i] + args.sum_at + run * 8u + s);
            msum[i] += minimum0 * low_sum(two) + minimum1 * high_sum(two);
        }
    }
    const ds_f32 d = table_scale(record + D_AT / 4u, lane);
    ds_f32 dmin = 0.0f;
    if (MINIMUM != 0u) dmin = table_scale(record + DMIN_AT / 4u, lane);
    for (uint i = 0; i < ROWS; i++) {
        const float d_x = F32(x, x_at[i] + args.scale_at + run);
        const ds_f32 left = (d * d_x) * float(isum[i]);
        run_sum[i] = left;
        if (MINIMUM != 0u) {
            const ds_f32 right = (dmin * d_x) * float(msum[i]);
            run_sum[i] = left - right;
        }
    }
}

/* d_x * sum of (f32(dot) * d (+ f32(sum of x) * m)); or, with narrow activations, sum of f32(dot) * (d * d_x) */
void small_block_run(uint record, uint lane, uint run) {
    for (uint i = 0; i < ROWS; i++) run_sum[i] = 0.0f;
    const uvec4 scales = PIECE(weight, (record + D_AT / 4u) / 4u + lane); /* of the eight blocks */
    uvec4 minimums = uvec4(0u);
    if (MINIMUM != 0u) minimums = PIECE(weight, (record + DMIN_AT / 4u) / 4u + lane);
    for (uint s = 0; s < 8u; s++) {
        uvec4 w0, w1;
        step_weights(record, lane, s, w0, w1);
        const ds_f32 d = ds_scale_value(half_of(scales[s / 2u], s));
        ds_f32 m = 0.0f;
        if (MINIMUM != 0u) m = ds_scale_value(half_of(minimums[s / 2u], s));
        for (uint i = 0; i < ROWS; i++) {
            const uint at = x_at[i] / 4u + run * 16u + s * 2u;
            const int dot = dot_piece(w0, PIECE(x, at)) + dot_piece(w1, PIECE(x, at + 1u));
            ds_f32 scale = d;
            if (NARROW != 0u) scale = d * F32(x, x_at[i] + args.scale_at + run * 8u + s);
            ds_f32 term = float(dot) * scale;
            if (MINIMUM != 0u) {
                const uint two = U32(x, x_at[i] + args.sum_at + run * 8u + s);
                const ds_f32 right = float(low_sum(two) + high_sum(two)) * m;
                term = term + right;
            }
            run_sum[i] = run_sum[i] + term;
        }
    }
    if (NARROW != 0u) return;
    for (uint i = 0; i < ROWS; i++) run_sum[i] = F32(x, x_at[i] + args.scale_at + run) * run_sum[i];
}

/* Whether an output of row r is one of those to be computed. */
bool taken(uint r, uint output_) {
    if (TOP == 0u) return true;
    if (output_ >= args.outputs) return false;
    const uint key = ds_key(F32(residual, r * args.residual_stride + output_)), last_key = U32(ids, 2u * r);
    return key > last_key || (key == last_key && output_ <= U32(ids, 2u * r + 1u));
}

/* Whether one of the workgroup's outputs is; all threads reach it. */
bool any_taken(bool mine) {
    if (gl_LocalInvocationIndex == 0u) some_taken = 0u;
    barrier();
    if (mine) atomicOr(some_taken, 1u);
    barrier();
    return some_taken != 0u;
}

void main() {
    const uint lane = gl_LocalInvocationIndex % 32u, team = gl_LocalInvocationIndex / 32u, runs = (args.inputs + 255u) / 256u;
    const uint active_rows = ACTIVE_ROWS(args.rows);
    uint first = gl_WorkGroupID.y * ROWS, tile = gl_WorkGroupID.x, column = 0, slot = 0; /* of y */
    if (EXPERTS != 0u) {
        first = gl_WorkGroupID.y / args.slots;
        slot = gl_WorkGroupID.y % args.slots;
    }
    if (first >= active_rows) return; /* all of the workgroup */
    if (EXPERTS != 0u) {
        tile += U32(ids, first * args.ids_stride + slot) * ((args.outputs + 63u) / 64u * 2u);
        column = slot * args.outputs;
        if (tile < args.first_tile || tile >= args.end_tile) return; /* another dispatch's; all of the workgroup */
    }
    const uint output_ = gl_WorkGroupID.x * 32u + lane;
    const bool computed = taken(first, output_), there = output_ < args.outputs;
    if (TOP != 0u && !any_taken(computed)) {
        if (team == 0u && there) STORE_F32(y, first * args.y_stride + output_, args.fill);
        return;
    }
    const uint base = tile * ds_tile_words(args.inputs);
    for (uint i = 0; i < ROWS; i++) { /* rows that are not there are computed from the last one, and not stored */
        const uint r = min(first + i, active_rows - 1u);
        x_at[i] = (EXPERTS != 0u && args.x_slots > 1u ? r * args.x_slots + slot : r) * args.x_pitch;
    }
    float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f}; /* of rows team, team + TEAMS, ... */
    for (uint first_run = 0; first_run < runs; first_run += TEAMS) {
        const uint run = first_run + team;
        if (run < runs) {
            if (KIND == KIND_F32 || KIND == KIND_F16 || KIND == KIND_BF16) float_run(base, lane, run);
            else if (GROUPS != 0u) superblock_run(base + run * (RUN_BYTES / 4u), lane, run);
            else small_block_run(base + run * (RUN_BYTES / 4u), lane, run);
            for (uint i = 0; i < ROWS; i++) run_sums[(team * ROWS + i) * 32u + lane] = run_sum[i];
        }
        barrier();
        for (uint k = 0; k < TEAMS && first_run + k < runs; k++)
            for (uint i = team; i < ROWS; i += TEAMS) sums[i / TEAMS] = sums[i / TEAMS] + run_sums[(k * ROWS + i) * 32u + lane];
        barrier();
    }
    if (!there) return;
    for (uint i = team; i < ROWS; i += TEAMS) {
        const uint r = first + i;
        if (r >= active_rows) return;
        ds_f32 sum = sums[i / TEAMS];
        if (PRESENT(bias)) sum = sum + F32(bias, output_);
        if (PRESENT(residual)) sum = sum + F32(residual, r * args.residual_stride + output_);
        STORE_F32(y, r * args.y_stride + column + output_, computed ? sum : args.fill);
    }
}
