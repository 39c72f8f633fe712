/*
 * A run of 256 activations in the form that linears read, by a team of 32 lanes with eight values each. Needs the operands outputs and flags, and in
 * args: groups, cols, pitch, scale_at, sum_at (quantize.h).
 */
layout(constant_id = 1) const uint SHARE = 0; /* lanes that have a scale in common: 32, or 4; 0: bf16 */

/* The column of a lane's value i: neighbours where a scale is shared, else such that lanes store side by side. */
uint ds_quantize_column(uint run, uint i) {
    const uint lane = gl_LocalInvocationIndex % 32u;
    return run * 256u + (SHARE == 0u ? lane + i * 32u : lane * 8u + i);
}

/* Row r, group `group` of it; not `there`: a lane that only takes part in the exchanges. Values of columns that do not exist are +0. */
void ds_quantize_run(uint r, uint group, uint run, bool there, float v[8]) {
    const uint runs = (args.cols + 255u) / 256u, lane = gl_LocalInvocationIndex % 32u, row = (r * args.groups + group) * args.pitch;
    int most = 0; /* the largest magnitude; as integers their order is that of floats, with what is not finite on top */
    for (uint i = 0; i < 8u; i++) most = max(most, ds_abs_bits(v[i]));
    if (SHARE == 0u) {
        for (uint i = 0; i < 8u; i++) {
            const uint c = ds_quantize_column(run, i);
            if (there && c < args.cols) STORE_HALF(outputs, row + c, ds_bf16_activation(v[i]));
        }
        if (there && PRESENT(flags) && most >= 0x7f800000) ATOMIC_OR(flags, r, DS_FLAG_ACTIVATION);
        return;
    }
    for (uint mask = 1; mask < SHARE; mask <<= 1) most = max(most, int(ds_shuffle_xor(uint(most), mask)));
    const bool finite = most < 0x7f800000;
    const float amax = finite ? ds_float(uint(most)) : 0.0f; /* else zeros */
    const ds_f32 pre = ds_quant_pre(amax), inverse = ds_quant_inverse(amax);
    int sum = 0;
    uvec2 words = uvec2(0);
    for (uint i = 0; i < 8u; i++) {
        const int q = most > 0 && finite ? ds_quant(v[i], pre, inverse) : 0;
        sum += q;
        words[i / 4u] |= (uint(q) & 0xffu) << (i % 4u * 8u);
    }
    sum += int(ds_shuffle_xor(uint(sum), 1)); /* of 16 */
    const uint other = ds_shuffle_xor(uint(sum), 2);
    if (!there) return;

    const uint first = run * 256u + lane * 8u;
    STORE_U32(outputs, (row + first) / 4u, words.x);
    STORE_U32(outputs, (row + first) / 4u + 1u, words.y);
    if (lane % SHARE == 0u) STORE_F32(outputs, (row + args.scale_at) / 4u + first / (SHARE * 8u), ds_quant_scale(amax));
    if (lane % 4u == 0u) STORE_U32(outputs, (row + args.sum_at) / 4u + first / 32u, (uint(sum) & 0xffffu) | other << 16);
    if (PRESENT(flags) && !finite && lane % SHARE == 0u) ATOMIC_OR(flags, r, DS_FLAG_ACTIVATION);
    /* What rounds a row up is zeros; the last run's team sees to it. */
    const uint end = (args.sum_at + runs * 32u) / 4u;
    for (uint word = end + lane; run == runs - 1u && word < args.pitch / 4u; word += 32u) STORE_U32(outputs, row / 4u + word, 0u);
}
