// uses:
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS reject_args
#define DS_TEAMS 4
#include "head.glsl"
#include "reject.h"
#include "common.glsl"
/*
 * Meaning: cpu/ref/reject.c. A workgroup draws one row's token. Where a running sum passes what was drawn is found in quarters: each team sums
 * one, all go on in that which holds the place.
 */
layout(local_size_x = 128) in;
MEMORY(0, logits)
MEMORY(1, how)
MEMORY(2, drafted)
MEMORY(3, bias)
MEMORY(4, tokens)
MEMORY(5, flags)
MEMORY(6, count)
bool of_draft; /* the row at hand is that which the draft was drawn from */
float logit_at(uint at) {
    if (of_draft) return F32(drafted, at);
    return F32(logits, at);
}
#define LOGIT(i) logit_at(row_at + (i))
#include "filters.glsl"
#include "wide.glsl"

/* struct ds_sample_row in words. */
#define ROW_WORDS 16u
#define HOW(i) U32(how, r * ROW_WORDS + (i))
#define METHOD_GUMBEL 0u
#define METHOD_REJECTION 2u
#define PURPOSE_ACCEPTANCE 2u
#define PURPOSE_RESIDUAL 3u

shared uvec4 quarters[4];

/* What is known of the target's row and of the draft's. */
struct seen {
    uint logit_key, logit_id, mass_key, mass_id;
    float top;
    uvec2 total;
};
seen rows_seen[2];
bool target_has_bias;

/* The row's tokens are those that filters.glsl speaks of from now on. */
void enter(uint r, bool draft) {
    of_draft = draft;
    row_at = draft ? HOW(12u) * args.drafted_stride : r * args.stride;
    has_bias = !draft && target_has_bias;
    const seen s = rows_seen[draft ? 1 : 0];
    logit_key_taken = s.logit_key;
    logit_id_taken = s.logit_id;
    mass_key_taken = s.mass_key;
    mass_id_taken = s.mass_id;
    top = s.top;
}
uvec2 mass_of(uint r, bool draft, uint i) {
    enter(r, draft);
    return kept(i) ? of_float(ds_float(mass_key(i))) : uvec2(0u);
}

/* The largest logit of the row that was entered, NONE where all are forbidden; `raised` where one is not finite. */
uint look(out float largest) {
    barrier();
    if (thread == 0u) raised = 0u;
    barrier();
    largest = 0.0f;
    uint id = NONE;
    for (uint i = thread; i < n; i += THREADS) {
        if (!ds_is_finite(LOGIT(i))) atomicOr(raised, DS_FLAG_LOGIT);
        if (!forbidden(i)) challenge(largest, id, biased(i), i);
    }
    best_of_all(largest, id);
    return id;
}

/* A token's weight in a draw: its mass, or its residual. */
uvec4 weight(uint r, uint i, bool residual) {
    const uvec2 mass = mass_of(r, false, i);
    if (!residual || mass == uvec2(0u)) return uvec4(mass, 0u, 0u);
    return residual_of(mass, rows_seen[0].total, mass_of(r, true, i), rows_seen[1].total);
}

/* The sum of all threads of a team. */
uvec4 team_sum(uvec4 mine) {
    for (uint mask = 16; mask > 0u; mask >>= 1) {
        uvec4 other;
        for (int k = 0; k < 4; k++) other[k] = ds_shuffle_xor(mine[k], mask);
        mine = wide_add(mine, other);
    }
    return mine;
}

/* The first token at which the sum of weights exceeds the share `random` of their total; NONE where that is 0. */
uint draw(uint r, bool residual, uvec2 random) {
    uvec4 left = uvec4(0u); /* to be exceeded within [first, end) */
    uint first = 0u, end = n;
    for (bool begun = false; !begun || end - first > 1u; begun = true) {
        const uint each = (end - first + 3u) / 4u, team = thread / 32u, from = min(first + team * each, end), to = min(from + each, end);
        uvec4 sum = uvec4(0u);
        for (uint i = from + thread % 32u; i < to; i += 32u) sum = wide_add(sum, weight(r, i, residual));
        sum = team_sum(sum);
        barrier();
        if (thread % 32u == 0u) quarters[team] = sum;
        barrier();
        if (!begun) {
            const uvec4 all = wide_add(wide_add(quarters[0], quarters[1]), wide_add(quarters[2], quarters[3]));
            if (all == uvec4(0u)) return NONE;
            left = wide_share(random, all);
        }
        uint q = 0u;
        for (; q < 3u && !wide_less(left, quarters[q]); q++) left = wide_sub(left, quarters[q]);
        first = min(first + q * each, end);
        end = min(first + each, end);
    }
    return first;
}

void main() {
    const uint r = gl_WorkGroupID.y;
    thread = gl_LocalInvocationIndex;
    if (r >= ACTIVE_ROWS(args.rows)) return; /* all of the workgroup, as below */
    const uint method = HOW(10u);
    if (method == METHOD_GUMBEL) return;
    n = args.vocabulary;
    inverse_temperature = ds_float(HOW(0u));
    top_k = HOW(1u);
    target_has_bias = PRESENT(bias) && int(HOW(9u)) >= 0;
    bias_at = target_has_bias ? HOW(9u) * n : 0u;
    const bool sampled = inverse_temperature > 0.0f;
    bool residual = method == METHOD_REJECTION;
    uint flag = 0u, token = NONE;
    for (uint which = 0u; which < (sampled && residual ? 2u : 1u); which++) {
        const bool draft = which == 1u;
        enter(r, draft);
        float largest;
        const uint id = look(largest);
        if (!draft) {
            flag = raised != 0u ? raised : id == NONE ? DS_FLAG_MASKED : 0u;
            token = id;
        } else if (raised != 0u) {
            residual = false;
        }
        if (flag != 0u || !sampled || raised != 0u) break;
        top = largest;
        filter_row(ds_float(HOW(2u)), ds_float(HOW(3u)));
        uvec2 total = uvec2(0u);
        for (uint i = thread; i < n; i += THREADS) total = add64(total, kept(i) ? of_float(ds_float(mass_key(i))) : uvec2(0u));
        rows_seen[which] = seen(logit_key_taken, logit_id_taken, mass_key_taken, mass_id_taken, top, sum_of_all(total));
    }
    if (flag == 0u && sampled) {
        const uvec2 seed = uvec2(HOW(4u), HOW(5u));
        const uint position = HOW(6u), stream = HOW(7u), y = HOW(11u);
        const uvec4 words = philox(seed, uvec4(0u, position, method == METHOD_REJECTION ? PURPOSE_RESIDUAL : HOW(8u), stream));
        const uint word = philox(seed, uvec4(0u, position, PURPOSE_ACCEPTANCE, stream)).x;
        token = NONE;
        if (residual && accepts(word, mass_of(r, false, y), rows_seen[0].total, mass_of(r, true, y), rows_seen[1].total)) token = y;
        while (token == NONE) {
            token = draw(r, residual, words.xy);
            if (!residual) break;
            residual = false; /* nothing is left beside what the draft had */
        }
    }
    if (thread != 0u) return;
    STORE_U32(tokens, r, flag != 0u ? NONE : token);
    if (PRESENT(flags) && flag != 0u) STORE_U32(flags, r, U32(flags, r) | flag);
}
