/*
 * y[r, s * outputs + o] = sum over inputs i of x[r or r * slots + s, i] * w[ids[r, s], o, i]: linear.c's definition without bias and
 * residual, for the matrix of expert ids[r, s].
 *
 * Fast kernels: as in linear.c. Rows of one expert may share a read of its weights.
 */
#include "ref/ref.h"

ds_status ds_ref_expert_linear(const struct ds_op_expert_linear *p, struct ds_error *err) {
    const uint32_t rows = ds_host_rows(&p->count, p->ids.rows), slots = p->ids.cols;
    const bool row_each = p->x.rows != p->ids.rows; /* a row of x for each slot */
    uint64_t row_bytes = 0;
    (void)ds_type_size(p->weight.type, 1, p->weight.cols, &row_bytes);
    for (uint32_t r = 0; r < rows; r++) {
        const int32_t *ids = ds_host_row(&p->ids, r);
        for (uint32_t s = 0; s < slots; s++) {
            struct ds_op_linear one = {.weight = p->weight, .x = p->x, .y = p->y};
            one.weight.rows = p->outputs;
            one.weight.at.offset += (uint64_t)ids[s] * ds_expert_rows(p->outputs) * row_bytes;
            one.x.rows = one.y.rows = 1;
            one.y.cols = p->outputs;
            const uint32_t from = row_each ? r * slots + s : r;
            one.x.at.offset += (uint64_t)((const uint8_t *)ds_host_row(&p->x, from) - (const uint8_t *)ds_host_row(&p->x, 0));
            one.y.at.offset += ((uint64_t)r * p->y.stride + (uint64_t)s * p->outputs) * sizeof(float);
            DS_TRY(ds_ref_linear(&one, err));
        }
    }
    return DS_OK;
}
