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
 * four teams take runs in turn; the runs' sums meet in shared memory and are added in their order.
 */
layout(local_size_x = 128) in;
layout(constant_id = 8) const uint ROWS = 1;    /* rows of a workgroup, at most 16 */
layout(constant_id = 9) const uint NARROW = 0;  /* activations with a scale for 32 */
layout(constant_id = 10) const uint EXPERTS = 0; /* a workgroup has one (row, slot), whose expert it asks for */
layout(constant_id = 11) const uint TOP = 0; /* of a workgroup's one row, the outputs up to the last one taken (choose.comp) alone */
MEMORY(0, weight)
MEMORY(1, x)
MEMORY(2, y)
MEMORY(3, bias)
MEMORY(4, residual)
MEMORY(5, ids) /* of experts; or what choose.comp left */
MEMORY(6, count)

shared float run_sums[4][16][32];
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

/* Eight words of four int8: the output's weights of step s (32 inputs) of the run. */
void step_weights(uint record, uint lane, uint s, out uint w[8]) {
    for (uint k = 0; k < 8u; k++) {
        const uint quad = s * 8u + k;
        uint u = U32(weight, record + ds_plane_place(ds_plane_word(LOW, quad), lane)) >> ds_plane_shift(LOW, quad) & ds_plane_mask(LOW);
        if (HIGH != 0u) {
            const uint bits = max(HIGH, 1u);
            const uint word = U32(weight, record + LOW * (PLANE / 4u) + ds_plane_place(ds_plane_word(bits, quad), lane));
            u |= (word >> ds_plane_shift(bits, quad) & ds_plane_mask(bits)) << (LOW & 7u);
        }
        w[k] = ds_signed_weights(u);
    }
}

uint table_byte(uint at, uint i) { return U32(weight, at + (i >> 2)) >> ((i & 3u) * 8u) & 0xffu; }
ds_f32 table_scale(uint at, uint i) { return ds_scale_value(half_of(U32(weight, at + (i >> 1)), i)); }
int low_sum(uint two) { return bitfieldExtract(int(two), 0, 16); }
int high_sum(uint two) { return int(two) >> 16; }

/* (d * d_x) * f32(isum) - (dmin * d_x) * f32(msum) */
void superblock_run(uint record, uint lane, uint run) {
    int isum[16], msum[16];
    for (uint i = 0; i < ROWS; i++) isum[i] = msum[i] = 0;
    for (uint s = 0; s < 8u; s++) {
        uint w[8];
        step_weights(record, lane, s, w);
        const uint parts = GROUPS / 8u;
        for (uint part = 0; part < parts; part++) {
            const uint group = s * parts + part, quads = 8u / parts;
            const int scale = bitfieldExtract(int(table_byte(record + SCALE_AT / 4u, lane * GROUPS + group)), 0, 8);
            const int minimum = MINIMUM != 0u ? int(table_byte(record + MINIMUM_AT / 4u, lane * GROUPS + group)) : 0;
            for (uint i = 0; i < ROWS; i++) {
                const uint at = x_at[i] + run * 64u + s * 8u;
                int dot = 0;
                for (uint k = part * quads; k < (part + 1u) * quads; k++) dot += ds_dot4(w[k], U32(x, at + k));
                isum[i] += scale * dot;
                if (MINIMUM == 0u) continue;
                const uint two = U32(x, x_at[i] + args.sum_at + run * 8u + s);
                msum[i] += minimum * (parts == 1u ? low_sum(two) + high_sum(two) : part == 0u ? low_sum(two) : high_sum(two));
            }
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
    for (uint s = 0; s < 8u; s++) {
        uint w[8];
        step_weights(record, lane, s, w);
        const ds_f32 d = table_scale(record + D_AT / 4u, lane * 8u + s);
        ds_f32 m = 0.0f;
        if (MINIMUM != 0u) m = table_scale(record + DMIN_AT / 4u, lane * 8u + s);
        for (uint i = 0; i < ROWS; i++) {
            const uint at = x_at[i] + run * 64u + s * 8u;
            int dot = 0;
            for (uint k = 0; k < 8u; k++) dot += ds_dot4(w[k], U32(x, at + k));
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
    float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f}; /* of rows team, team + 4, ... */
    for (uint first_run = 0; first_run < runs; first_run += 4u) {
        const uint run = first_run + team;
        if (run < runs) {
            if (KIND == KIND_F32 || KIND == KIND_F16 || KIND == KIND_BF16) float_run(base, lane, run);
            else if (GROUPS != 0u) superblock_run(base + run * (RUN_BYTES / 4u), lane, run);
            else small_block_run(base + run * (RUN_BYTES / 4u), lane, run);
            for (uint i = 0; i < ROWS; i++) run_sums[team][i][lane] = run_sum[i];
        }
        barrier();
        for (uint k = 0; k < 4u && first_run + k < runs; k++)
            for (uint i = team; i < ROWS; i += 4u) sums[i / 4u] = sums[i / 4u] + run_sums[k][i][lane];
        barrier();
    }
    if (!there) return;
    for (uint i = team; i < ROWS; i += 4u) {
        const uint r = first + i;
        if (r >= active_rows) return;
        ds_f32 sum = sums[i / 4u];
        if (PRESENT(bias)) sum = sum + F32(bias, output_);
        if (PRESENT(residual)) sum = sum + F32(residual, r * args.residual_stride + output_);
        STORE_F32(y, r * args.y_stride + column + output_, computed ? sum : args.fill);
    }
}
