/*
 * ops/wide.h without integers of 64 bits, which not every device has: those are uvec2, those of 128 bits uvec4, low words first. Needs the 64 bits
 * of filters.glsl.
 */
uvec4 wide_mul(uvec2 a, uvec2 b) {
    const uvec2 low = mul32(a.x, b.x);
    const uvec2 cross = add64(mul32(a.y, b.x), uvec2(low.y, 0u)); /* neither sum overflows */
    const uvec2 other = add64(mul32(a.x, b.y), uvec2(cross.x, 0u));
    const uvec2 high = add64(add64(mul32(a.y, b.y), uvec2(cross.y, 0u)), uvec2(other.y, 0u));
    return uvec4(low.x, other.x, high);
}
bool wide_less(uvec4 a, uvec4 b) { return less64(a.zw, b.zw) || (a.zw == b.zw && less64(a.xy, b.xy)); }
uvec4 wide_add(uvec4 a, uvec4 b) {
    const uvec2 low = add64(a.xy, b.xy);
    return uvec4(low, add64(add64(a.zw, b.zw), uvec2(less64(low, a.xy) ? 1u : 0u, 0u)));
}
uvec4 wide_sub(uvec4 a, uvec4 b) {
    return uvec4(sub64(a.xy, b.xy), sub64(sub64(a.zw, b.zw), uvec2(less64(a.xy, b.xy) ? 1u : 0u, 0u)));
}
/* floor(fraction * a / 2^64) */
uvec4 wide_share(uvec2 fraction, uvec4 a) { return wide_add(wide_mul(fraction, a.zw), uvec4(wide_mul(fraction, a.xy).zw, 0u, 0u)); }

/* max(0, p_t - p_d) of a token in units of 1 / (total_t total_d) */
uvec4 residual_of(uvec2 target, uvec2 target_total, uvec2 draft, uvec2 draft_total) {
    const uvec4 t = wide_mul(target, draft_total), d = wide_mul(draft, target_total);
    return wide_less(d, t) ? wide_sub(t, d) : uvec4(0u);
}
/* Whether a draft is accepted whose random word is `word`. */
bool accepts(uint word, uvec2 target, uvec2 target_total, uvec2 draft, uvec2 draft_total) {
    const uvec2 coin = uvec2(2u * (word >> 9) + 1u, 0u), raised_target = uvec2(target.x << 24, target.y << 24 | target.x >> 8);
    return wide_less(wide_mul(wide_mul(coin, draft).xy, target_total), wide_mul(raised_target, draft_total));
}
