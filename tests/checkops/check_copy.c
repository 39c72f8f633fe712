#include "check.h"

static void copy(struct check *c, ds_elem elem, uint32_t x_rows, uint32_t rows, uint32_t cols, bool gathered) {
    if (!check_case(c, "%s, %u rows of %u from %u%s", elem == DS_ELEM_F32 ? "f32" : "i32", rows, cols, x_rows,
                    gathered ? ", gathered" : ""))
        return;
    struct ds_op_copy *p = &c->params.copy;
    *p = (struct ds_op_copy){.x = check_view(c, elem, x_rows, cols, FILL_NORMAL),
                             .out = check_view(c, elem, rows, cols, FILL_POISON)};
    /* Any bits at all: a copy that goes through a float register may quiet a NaN. */
    uint32_t *x = check_at(&p->x.at);
    for (uint64_t i = 0; i < ds_view_bytes(&p->x) / 4; i += 3)
        x[i] = i % 2 ? 0x7f800001u + check_random(c) % 64 : check_random(c);
    if (gathered) p->index = check_indices(c, rows, x_rows);
    check_run(c, rows);
}

static void cases(struct check *c) {
    static const uint32_t cols[] = {1, 31, 32, 33, 255, 256, 257, 4096}, rows[] = {3, 1, 16, 17, 64};
    for (uint32_t i = 0; i < DS_COUNT(cols); i++) {
        for (uint32_t k = 0; k < 4; k++)
            copy(c, k % 2 ? DS_ELEM_I32 : DS_ELEM_F32, rows[(i + k) % 5] + (k < 2 ? 0 : 2), rows[(i + k) % 5], cols[i], k >= 2);
    }
}

static void slice(union ds_op_params *params, uint32_t first, uint32_t n) {
    struct ds_op_copy *p = &params->copy;
    slice_view(&p->out, first, n);
    if (p->index.buffer)
        slice_rows(&p->index, first, 4);
    else
        slice_view(&p->x, first, n);
}

const struct check_op check_copy = {.cases = cases, .slice = slice};
