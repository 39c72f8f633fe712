// uses: dot
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS probe_args
#include "head.glsl"
#include "probe.h"
#include "common.glsl"
#include "backends/gpu/probe.h"
/* The device's answers to backends/gpu/probe.h, then packed dot products of its bytes. */
layout(local_size_x = 64) in;
MEMORY(0, answers)

uint four_bytes(uint side, uint first) {
    uint word = 0;
    for (uint i = 0; i < 4u; i++) word |= (uint(ds_probe_byte(side, first + i)) & 0xffu) << (8u * i);
    return word;
}

void main() {
    const uint i = gl_GlobalInvocationID.x;
    if (i >= args.words) return;
    uint answer;
    if (i < DS_PROBES) answer = ds_probe(i);
    else answer = uint(ds_dot4(four_bytes(0, i * 4u), four_bytes(1, i * 4u)));
    STORE_U32(answers, i, answer);
}
