/*
 * 1 / sqrt(mean of squares + eps) of the `dim` values NORM_INPUT(first) and behind it, by the 32 lanes of a team, in the order of cpu/ref/rms_norm.c. Eight
 * values are read before they are added, so that they arrive side by side; those beyond the end are +0, which changes no bit of the sum.
 */
ds_f32 ds_norm_factor(uint first, uint dim, float eps, bool there) {
    ds_f32 sum = 0.0f;
    for (uint c = gl_LocalInvocationIndex % 32u; there && c < dim; c += 8u * DS_LANES) {
        float v[8];
        for (uint k = 0; k < 8u; k++) {
            v[k] = 0.0f;
            if (c + k * DS_LANES < dim) v[k] = NORM_INPUT(first + c + k * DS_LANES);
        }
        for (uint k = 0; k < 8u; k++) {
            const ds_f32 square = v[k] * v[k];
            sum = sum + square;
        }
    }
    sum = ds_tree_sum(sum);
    const ds_f32 mean = ds_div(sum, float(dim));
    return ds_div(1.0f, ds_sqrt(mean + eps));
}
