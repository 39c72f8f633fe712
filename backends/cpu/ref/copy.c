/*
 * out[r, :] = x[index[r], :], or x[r, :] without an index. Bits are copied; nothing is computed.
 *
 * Fast kernels: any order.
 */
#include "ref/ref.h"

#include <string.h>

ds_status ds_ref_copy(const struct ds_op_copy *p, struct ds_error *err) {
    (void)err;
    const int32_t *index = ds_host_at(&p->index);
    const uint32_t rows = ds_host_rows(&p->count, p->out.rows);
    for (uint32_t r = 0; r < rows; r++)
        memcpy(ds_host_row(&p->out, r), ds_host_row(&p->x, index ? (uint32_t)index[r] : r), (size_t)p->x.cols * 4);
    return DS_OK;
}
