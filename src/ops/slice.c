#include "ops/device.h"

#include <inttypes.h>

ds_status ds_slice_require(const char *what, const struct ds_slice *slice, uint64_t bytes, struct ds_error *err) {
    if (slice->buffer && slice->offset <= slice->buffer->bytes && bytes <= slice->buffer->bytes - slice->offset) return DS_OK;
    return ds_fail(err, DS_ERROR_ARGUMENT, "%s of %" PRIu64 " bytes at byte %" PRIu64 " of a buffer of %" PRIu64, what, bytes, slice->offset,
                   slice->buffer ? slice->buffer->bytes : 0);
}

ds_status ds_weight_require_rows(const struct ds_weight *weight, uint32_t first_row, uint32_t rows, struct ds_error *err) {
    const bool inside = first_row <= weight->rows && rows <= weight->rows - first_row;
    const bool whole = first_row % DS_WEIGHT_ROWS == 0 && (rows % DS_WEIGHT_ROWS == 0 || first_row + rows == weight->rows);
    if (inside && whole) return DS_OK;
    return ds_fail(err, DS_ERROR_ARGUMENT, "weight_write of rows %u to %" PRIu64 " of %u: both ends must be multiples of %d or the last row", first_row,
                   (uint64_t)first_row + rows, weight->rows, DS_WEIGHT_ROWS);
}
