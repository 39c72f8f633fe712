/*
 * out[r, c] = table[ids[r], c] * scale, and +0 where ids[r] is below 0: a slot after one whose logits were not finite has no token to read.
 *
 * The table's values are widened to f32 as ds_dequantize_row does. BF16 tables hold what weight_write stored: values under
 * 2^-60 are +0 and those above 2^60 are cut there, as for linears, so that a device keeps one copy of a tied embedding.
 *
 * Fast kernels: every element is on its own; any order.
 */
#include "ref/ref.h"

#include <string.h>

ds_status ds_ref_embed(const struct ds_op_embed *p, struct ds_error *err) {
    (void)err;
    uint64_t row_bytes = 0;
    (void)ds_type_size(p->table.type, 1, p->table.cols, &row_bytes);
    const uint8_t *table = ds_host_at(&p->table.at);
    const int32_t *ids = ds_host_at(&p->ids);
    const uint32_t rows = ds_host_rows(&p->count, p->out.rows);
    for (uint32_t r = 0; r < rows; r++) {
        float *out = ds_host_row(&p->out, r);
        if (ids[r] < 0) {
            memset(out, 0, p->out.cols * sizeof *out);
            continue;
        }
        ds_dequantize_row(p->table.type, table + (uint64_t)ids[r] * row_bytes, p->table.cols, out);
        for (uint32_t c = 0; c < p->out.cols; c++) out[c] = out[c] * p->scale;
    }
    return DS_OK;
}
