/*
 * With the outputs of row r in the order (ds_order_key of residual[r, o] descending, o ascending):
 *   y[r, o] = (sum over inputs i of x[r, i] * w[o, i]) + residual[r, o]   for the first `top`: linear.c's definition
 *   y[r, o] = fill                                                        for the others
 *
 * Fast kernels: sums as in linear.c; rows and outputs in any order; selection instead of sorting.
 */
#include "ref/ref.h"

#include "ops/numerics.h"

#include <stdlib.h>

struct candidate {
    uint32_t key, output;
};

static int by_residual(const void *left, const void *right) {
    const struct candidate *a = left, *b = right;
    if (a->key != b->key) return a->key > b->key ? -1 : 1;
    return a->output < b->output ? -1 : a->output > b->output;
}

/* `linear` of one row and one output. */
static ds_status one_output(const struct ds_op_top_linear *p, uint32_t r, uint32_t o, struct ds_error *err) {
    uint64_t row_bytes = 0;
    (void)ds_type_size(p->weight.type, 1, p->weight.cols, &row_bytes);
    struct ds_op_linear one = {.weight = p->weight, .x = p->x, .y = p->y, .residual = p->residual};
    one.weight.rows = one.x.rows = one.y.rows = one.y.cols = one.residual.rows = one.residual.cols = 1;
    one.weight.at.offset += o * row_bytes;
    one.x.at.offset += (uint64_t)((const uint8_t *)ds_host_row(&p->x, r) - (const uint8_t *)ds_host_row(&p->x, 0));
    one.y.at.offset += ((uint64_t)r * p->y.stride + o) * sizeof(float);
    one.residual.at.offset += ((uint64_t)r * p->residual.stride + o) * sizeof(float);
    return ds_ref_linear(&one, err);
}

static ds_status row(const struct ds_op_top_linear *p, uint32_t r, struct candidate *list, struct ds_error *err) {
    const uint32_t outputs = p->weight.rows;
    const float *residual = ds_host_row(&p->residual, r);
    float *y = ds_host_row(&p->y, r);
    for (uint32_t o = 0; o < outputs; o++) {
        list[o] = (struct candidate){ds_order_key(residual[o]), o};
        y[o] = p->fill;
    }
    qsort(list, outputs, sizeof *list, by_residual);
    for (uint32_t i = 0; i < p->top; i++) DS_TRY(one_output(p, r, list[i].output, err));
    return DS_OK;
}

ds_status ds_ref_top_linear(const struct ds_op_top_linear *p, struct ds_error *err) {
    const uint32_t rows = ds_host_rows(&p->count, p->x.rows);
    const size_t bytes = p->weight.rows * sizeof(struct candidate);
    struct candidate *list = malloc(bytes);
    if (!list) return ds_fail_memory(err, bytes, "the outputs of a row");
    ds_status status = DS_OK;
    for (uint32_t r = 0; r < rows && status == DS_OK; r++) status = row(p, r, list, err);
    free(list);
    return status;
}
