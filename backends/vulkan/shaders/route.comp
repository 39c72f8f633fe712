// uses:
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS route_args
#define DS_TEAMS 4
#include "head.glsl"
#include "route.h"
#include "common.glsl"
/* Meaning: cpu/ref/route.c. A workgroup chooses one row's experts: a thread looks at an expert, and counts those that come before it. */
layout(local_size_x = 128) in;
MEMORY(0, logits)
MEMORY(1, ids)
MEMORY(2, weights)
MEMORY(3, factors)
MEMORY(4, count)

shared float values[1024];
shared uint chosen[1024];
shared float weight[64];
shared uint id[64];

void main() {
    const uint r = gl_WorkGroupID.y, thread = gl_LocalInvocationIndex, lane = thread % 32u, experts = args.experts;
    if (r >= ACTIVE_ROWS(args.rows)) return; /* all of the workgroup */
    for (uint e = thread; e < experts; e += 128u) values[e] = F32(logits, r * args.logits_stride + e);
    barrier();
    float m = values[0];
    for (uint e = 1; e < experts; e++) m = ds_max(m, values[e]);
    for (uint e = thread; e < experts; e += 128u) {
        uint before = 0;
        for (uint k = 0; k < experts; k++)
            if (k != e && ds_better(values[k], k, values[e], e)) before++;
        chosen[e] = before < args.slots ? 1u : 0u;
    }
    barrier();
    for (uint e = thread; e < experts; e += 128u) {
        if (chosen[e] == 0u) continue;
        uint slot = 0; /* by ascending id */
        for (uint k = 0; k < e; k++) slot += chosen[k];
        id[slot] = e;
        weight[slot] = ds_exp(values[e] - m);
    }
    barrier();
    ds_f32 sum = 0.0f;
    if (args.normalise != 0u) {
        for (uint i = 0; i < args.slots; i++) sum = sum + weight[i];
    } else {
        for (uint e = lane; e < experts; e += DS_LANES) sum = sum + ds_exp(values[e] - m);
        sum = ds_tree_sum(sum);
    }
    for (uint i = thread; i < args.slots; i += 128u) {
        ds_f32 w = ds_div(weight[i], sum);
        if (PRESENT(factors)) w = w * F32(factors, id[i]);
        STORE_U32(ids, r * args.ids_stride + i, id[i]);
        STORE_F32(weights, r * args.weights_stride + i, w);
    }
}
