#include "check.h"

static const char *name_of(ds_elem elem) { return elem == DS_ELEM_Q8 ? "q8" : elem == DS_ELEM_Q8_32 ? "q8_32" : "bf16"; }

static void norm(struct check *c, ds_elem elem, uint32_t rows, uint32_t cols, bool weighted, enum fill fill) {
    if (!check_case(c, "%s, %u rows of %u%s, %s", name_of(elem), rows, cols, weighted ? ", weight" : "", fill_name(fill))) return;
    struct ds_op_norm_quantize *p = &c->params.norm_quantize;
    *p = (struct ds_op_norm_quantize){.x = check_view(c, DS_ELEM_F32, rows, cols, fill), .eps = fill == FILL_WILD ? 1e-12f : 1e-6f,
                                      .normed = check_view(c, DS_ELEM_F32, rows, cols, FILL_POISON), .out = check_view(c, elem, rows, cols, FILL_POISON)};
    if (weighted) p->weight = check_floats(c, cols, FILL_NORMAL);
    if (cols % 2) p->flags = check_indices(c, rows, 8); /* bits that must stay */
    check_run(c, rows);
}

/* A norm of finite values is finite; its weights need not be. */
static void norm_to_infinity(struct check *c, ds_elem elem, uint32_t rows, uint32_t cols) {
    if (!check_case(c, "%s, %u rows of %u, results that are not finite", name_of(elem), rows, cols)) return;
    struct ds_op_norm_quantize *p = &c->params.norm_quantize;
    *p = (struct ds_op_norm_quantize){.x = check_view(c, DS_ELEM_F32, rows, cols, FILL_NORMAL), .eps = 1e-6f,
                                      .normed = check_view(c, DS_ELEM_F32, rows, cols, FILL_POISON), .out = check_view(c, elem, rows, cols, FILL_POISON),
                                      .weight = check_floats(c, cols, FILL_NORMAL), .flags = check_indices(c, rows, 8)};
    ((float *)check_at(&p->weight))[cols / 2] = 3e38f; /* too large wherever x / rms is above 1.2 */
    check_run(c, rows);
}

static void cases(struct check *c) {
    static const uint32_t cols[] = {1, 31, 32, 33, 255, 256, 257, 511, 512, 1024, 2560, 5120, 9000}, rows[] = {3, 1, 16, 17, 2};
    static const ds_elem elems[] = {DS_ELEM_Q8, DS_ELEM_BF16, DS_ELEM_Q8_32};
    for (uint32_t i = 0; i < DS_COUNT(cols); i++) {
        for (uint32_t k = 0; k < 3; k++) {
            for (enum fill fill = FILL_NORMAL; fill < FILL_COUNT; fill++)
                norm(c, elems[k], cols[i] > 4000 ? 2 : rows[(i + k + fill) % 5], cols[i], (i + fill) % 3 != 0, fill);
            norm_to_infinity(c, elems[k], 5, cols[i]);
        }
    }
}

static void slice(union ds_op_params *params, uint32_t first, uint32_t n) {
    slice_view(&params->norm_quantize.x, first, n);
    slice_view(&params->norm_quantize.normed, first, n);
    slice_view(&params->norm_quantize.out, first, n);
    slice_rows(&params->norm_quantize.flags, first, 4);
}

const struct check_op check_norm_quantize = {.cases = cases, .slice = slice};
