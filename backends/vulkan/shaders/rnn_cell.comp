// uses:
#version 450
#extension GL_GOOGLE_include_directive : require
#define ARGS rnn_cell_args
#include "head.glsl"
#include "rnn_cell.h"
#include "common.glsl"
/* Meaning: cpu/ref/rnn_cell.c. */
layout(local_size_x = 128) in;
MEMORY(0, gates)
MEMORY(1, state)
MEMORY(2, next)
MEMORY(3, outputs)
MEMORY(4, count)

void main() {
    const uint r = gl_WorkGroupID.y, c = gl_GlobalInvocationID.x, at = r * args.gates_stride + c;
    if (r >= ACTIVE_ROWS(args.rows) || c >= args.size) return;
    float before = 0.0f;
    if (PRESENT(state)) before = F32(state, r * args.state_stride + c);
    const ds_f32 s = ds_sigmoid(F32(gates, at));
    const ds_f32 kept = s * before, taken = (1.0f - s) * ds_tanh(F32(gates, at + args.size)), sum = kept + taken;
    const ds_f32 shown = ds_tanh(F32(gates, at + 2u * args.size));
    STORE_F32(next, r * args.next_stride + c, sum);
    STORE_F32(outputs, r * args.out_stride + c, shown);
}
