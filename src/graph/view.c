/* Views of tensors and their parts. */
#include "graph/graph.h"

#include <assert.h>

struct ds_view ds_view_of(struct ds_slice at, ds_elem elem, uint32_t rows, uint32_t cols) {
    return (struct ds_view){.at = at, .elem = elem, .rows = rows, .cols = cols, .stride = cols};
}

struct ds_view ds_view_first_rows(struct ds_view view, uint32_t rows) {
    view.rows = DS_MIN(view.rows, rows);
    return view;
}

struct ds_slice ds_slice_add(struct ds_slice slice, uint64_t bytes) {
    slice.offset += bytes;
    return slice;
}

struct ds_view ds_view_part(struct ds_view view, uint32_t row, uint32_t rows, uint32_t col, uint32_t cols) {
    assert(!ds_elem_is_q8(view.elem) || (col == 0 && cols == view.cols));
    view.at.offset += row * ds_view_pitch(&view) + (uint64_t)col * (view.elem == DS_ELEM_BF16 ? 2 : 4);
    view.rows = rows;
    view.cols = cols;
    return view;
}
