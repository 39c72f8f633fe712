/*
 * y = x W^T (+ bias) (+ residual): every thread takes a contiguous share of the tiles of 16 outputs and reads each weight from
 * memory once for up to DS_LINEAR_ROWS rows. Meaning: ref/linear.c; layout: pack.h.
 */
#include "kernels.h"
#include "kernels/vec.h"
#if DS_PART > 16
#include "kernels/linear_chain.h"
#elif defined(__aarch64__)
#include "kernels/linear_neon.h"
#else
#include "kernels/linear_tile.h"
#endif

/* Sums of one tile's outputs for a group of rows: they stay in the first-level cache. */
typedef float totals[DS_LINEAR_ROWS][DS_TILE];

/* --- float weights --- */

/* Sixteen weights of one input, widened. */
DS_INLINE vf load_weights(const uint8_t *tile, const ds_type type, size_t input) {
    if (type == DS_TYPE_F32) return vf_load((const float *)(const void *)tile + input * DS_TILE);
    const uint16_t *bits = (const uint16_t *)(const void *)tile + input * DS_TILE;
    return type == DS_TYPE_F16 ? vf_load_f16(bits) : vf_load_bf16(bits);
}

/* total[r] += the sums of one run of `count` inputs, x[r] its f32 activations, for n rows; n and type are constants. */
DS_INLINE void run_of_floats(const uint8_t *tile, const ds_type type, const float *const *x, const int n, uint32_t count,
                             float (*total)[DS_TILE]) {
    vf acc[DS_ROW_BLOCK];
    DS_UNROLL for (int r = 0; r < n; r++) acc[r] = vf_zero();
    for (uint32_t i = 0; i < count; i++) {
        const vf w = load_weights(tile, type, i);
        DS_UNROLL for (int r = 0; r < n; r++) {
            const vf value = vf_set1(x[r][i]);
            acc[r] = type == DS_TYPE_BF16 ? vf_add_exact_product(w, value, acc[r]) : vf_add(acc[r], vf_mul(value, w));
        }
    }
    DS_UNROLL for (int r = 0; r < n; r++) vf_store(total[r], vf_add(vf_load(total[r]), acc[r]));
}

/* BF16 activations widened once for all tiles of a thread: [row][cols]. */
static void widen_rows(const struct ds_op_linear *p, uint32_t first_row, uint32_t rows, float *wide) {
    for (uint32_t r = 0; r < rows; r++, wide += p->x.cols) {
        const uint16_t *x = ds_host_row(&p->x, first_row + r);
        for (uint32_t i = 0; i < p->x.cols; i++) wide[i] = ds_bf16_to_f32(x[i]);
    }
}

DS_INLINE void rows_of_floats(const uint8_t *tile, const ds_type type, const float *x, size_t stride, const int n, uint32_t count,
                              float (*total)[DS_TILE]) {
    const float *row[DS_ROW_BLOCK];
    DS_UNROLL for (int r = 0; r < n; r++) row[r] = x + (size_t)r * stride;
    run_of_floats(tile, type, row, n, count, total);
}

/* x: the f32 activations of the first row, rows `stride` apart. */
DS_INLINE void tile_of_floats(const ds_type type, const uint8_t *tile, const float *x, size_t stride, uint32_t cols, uint32_t rows,
                              float (*total)[DS_TILE]) {
    const size_t bytes = (type == DS_TYPE_F32 ? 4 : 2) * DS_TILE;
    for (uint32_t first = 0; first < cols; first += DS_RUN, tile += DS_RUN * bytes) {
        const uint32_t count = DS_MIN(cols - first, (uint32_t)DS_RUN);
        const float *at = x + first;
        uint32_t r = 0;
        if (DS_ROW_BLOCK >= 8)
            for (; rows - r >= 8; r += 8) rows_of_floats(tile, type, at + r * stride, stride, DS_MIN(DS_ROW_BLOCK, 8), count, total + r);
        if (DS_ROW_BLOCK >= 4)
            for (; rows - r >= 4; r += 4) rows_of_floats(tile, type, at + r * stride, stride, DS_MIN(DS_ROW_BLOCK, 4), count, total + r);
        for (; rows - r >= 2; r += 2) rows_of_floats(tile, type, at + r * stride, stride, 2, count, total + r);
        if (r < rows) rows_of_floats(tile, type, at + r * stride, stride, 1, count, total + r);
    }
}

/* --- the op --- */

static void tile_of(const struct ds_op_linear *p, const uint8_t *prepared, const uint8_t *packed, uint32_t first_row, uint32_t rows, totals total) {
    const float *x = ds_host_row(&p->x, first_row), *wide = (const float *)(const void *)prepared;
    memset(total, 0, rows * sizeof total[0]);
    switch (p->weight.type) {
    case DS_TYPE_F32: tile_of_floats(DS_TYPE_F32, packed, x, p->x.stride, p->x.cols, rows, total); break;
    case DS_TYPE_F16: tile_of_floats(DS_TYPE_F16, packed, x, p->x.stride, p->x.cols, rows, total); break;
    case DS_TYPE_BF16: tile_of_floats(DS_TYPE_BF16, packed, wide, p->x.cols, p->x.cols, rows, total); break;
    default: tile_of_blocks(p, prepared, packed, first_row, rows, total);
    }
}

/* Bias and residual, for the outputs that exist. */
static void finish(const struct ds_op_linear *p, uint32_t first_output, uint32_t first_row, uint32_t rows, totals total) {
    const uint32_t outputs = DS_MIN(p->weight.rows - first_output, (uint32_t)DS_TILE);
    const float *bias = ds_host_at(&p->bias);
    for (uint32_t r = 0; r < rows; r++) {
        float *sum = total[r], *y = (float *)ds_host_row(&p->y, first_row + r) + first_output;
        if (bias)
            for (uint32_t o = 0; o < outputs; o++) sum[o] += bias[first_output + o];
        if (p->residual.at.buffer) {
            const float *residual = (const float *)ds_host_row(&p->residual, first_row + r) + first_output;
            for (uint32_t o = 0; o < outputs; o++) sum[o] += residual[o];
        }
        memcpy(y, sum, outputs * sizeof(float));
    }
}

void DS_CPU_NAME(linear)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    const struct ds_op_linear *p = &params->linear;
    const uint32_t rows = ds_host_rows(&p->count, p->x.rows), tiles = (p->weight.rows + DS_TILE - 1) / DS_TILE;
    const uint64_t tile_bytes = ds_pack_tile_bytes(p->weight.type, p->weight.cols);
    const uint8_t *weights = ds_host_at(&p->weight.at);
    uint64_t first, end;
    ds_cpu_share(work, tiles, &first, &end);
    for (uint32_t r = 0; r < rows; r += DS_LINEAR_ROWS) {
        const uint32_t n = DS_MIN(rows - r, (uint32_t)DS_LINEAR_ROWS);
        if (first < end && p->x.elem == DS_ELEM_BF16) widen_rows(p, r, n, (float *)(void *)work->scratch);
        if (first < end && ds_elem_is_q8(p->x.elem)) prepare_rows(p, r, n, work->scratch);
        for (uint64_t tile = first; tile < end; tile++) {
            _Alignas(64) totals total;
            for (uint32_t i = 0; i < n; i++) __builtin_prefetch((float *)ds_host_row(&p->y, r + i) + tile * DS_TILE, 1);
            tile_of(p, work->scratch, weights + tile * tile_bytes, r, n, total);
            finish(p, (uint32_t)tile * DS_TILE, r, n, total);
        }
    }
}
