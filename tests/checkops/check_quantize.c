#include "check.h"

#include "ops/numerics.h"

static void put(const struct ds_view *view, uint32_t row, uint32_t col, uint32_t bits) {
    if (row < view->rows && col < view->cols)
        ((float *)check_at(&view->at))[(uint64_t)row * view->stride + col] = ds_float(bits);
}

/* Values that a quantiser must not stumble over: some raise the row's flag. */
static void spoil(const struct ds_view *x) {
    put(x, 0, x->cols - 1, DS_NUM_INF);
    put(x, 1, x->cols / 2, DS_NUM_NAN | 1);
    put(x, 2, 0, DS_NUM_INF | DS_NUM_SIGN);
    put(x, 3, 0, 0x7f7fffffu); /* the largest finite number is no reason for a flag */
    put(x, 4, 0, 0x00000001u);
}

static void quantise(struct check *c, ds_elem elem, uint32_t rows, uint32_t cols, bool spoilt, enum fill fill) {
    if (!check_case(c, "%s, %u rows of %u%s, %s", elem == DS_ELEM_Q8 ? "q8" : elem == DS_ELEM_Q8_32 ? "q8_32" : "bf16", rows, cols,
                    spoilt ? ", not all finite" : "", fill_name(fill)))
        return;
    struct ds_op_quantize *p = &c->params.quantize;
    *p = (struct ds_op_quantize){.x = check_view(c, DS_ELEM_F32, rows, cols, fill),
                                 .out = check_view(c, elem, rows, cols, FILL_POISON)};
    if (spoilt) {
        spoil(&p->x);
        p->flags = check_indices(c, rows, 8); /* bits that must stay */
    }
    check_run(c, rows);
}

/* Several rows of the result side by side in a row of x. */
static void quantise_groups(struct check *c, ds_elem elem, uint32_t rows, uint32_t groups, uint32_t cols) {
    if (!check_case(c, "%s, %u rows of %u groups of %u", elem == DS_ELEM_Q8 ? "q8" : elem == DS_ELEM_Q8_32 ? "q8_32" : "bf16", rows, groups, cols)) return;
    struct ds_op_quantize *p = &c->params.quantize;
    *p = (struct ds_op_quantize){.x = check_view(c, DS_ELEM_F32, rows, groups * cols, FILL_NORMAL),
                                 .out = check_view(c, elem, rows * groups, cols, FILL_POISON), .groups = groups};
    spoil(&p->x);
    p->flags = check_indices(c, rows, 8);
    check_run(c, rows);
}

static void cases(struct check *c) {
    static const uint32_t cols[] = {1, 31, 32, 33, 255, 256, 257, 512, 1024, 2560, 9728}, rows[] = {3, 1, 16, 17, 5, 64};
    for (uint32_t i = 0; i < DS_COUNT(cols); i++) {
        for (enum fill fill = FILL_NORMAL; fill < FILL_COUNT; fill++) {
            const uint32_t n = cols[i] > 2000 ? 2 : rows[(i + fill) % DS_COUNT(rows)];
            quantise(c, DS_ELEM_Q8, n, cols[i], false, fill);
            quantise(c, DS_ELEM_BF16, n, cols[i], false, fill);
            quantise(c, DS_ELEM_Q8_32, n, cols[i], false, fill);
        }
        quantise(c, DS_ELEM_Q8, 6, cols[i], true, FILL_NORMAL);
        quantise(c, DS_ELEM_BF16, 6, cols[i], true, FILL_NORMAL);
        quantise(c, DS_ELEM_Q8_32, 6, cols[i], true, FILL_NORMAL);
        quantise_groups(c, DS_ELEM_Q8, 1 + i % 6, 1 + i % 4, cols[i] > 2000 ? 300 : cols[i]);
        quantise_groups(c, DS_ELEM_BF16, 1 + i % 6, 1 + i % 4, cols[i] > 2000 ? 300 : cols[i]);
        quantise_groups(c, DS_ELEM_Q8_32, 1 + i % 6, 1 + i % 4, cols[i] > 2000 ? 300 : cols[i]);
    }
}

static void slice(union ds_op_params *params, uint32_t first, uint32_t n) {
    slice_view(&params->quantize.x, first, n);
    const uint32_t groups = params->quantize.groups ? params->quantize.groups : 1;
    slice_view(&params->quantize.out, first * groups, n * groups);
    slice_rows(&params->quantize.flags, first, 4);
}

const struct check_op check_quantize = {.cases = cases, .slice = slice};
