#include "check.h"

static void spread(struct check *c, uint32_t rows, uint32_t cols, uint32_t places, float value, enum fill fill) {
    if (!check_case(c, "%u rows, %u columns among %u, others %g, %s", rows, cols, places, (double)value, fill_name(fill))) return;
    c->params.scatter = (struct ds_op_scatter){
        .x = check_view(c, DS_ELEM_F32, rows, cols, fill),
        .ids = check_order(c, cols, places),
        .out = check_view(c, DS_ELEM_F32, rows, places, FILL_POISON),
        .fill = value,
    };
    check_run(c, rows);
}

static void cases(struct check *c) {
    static const uint32_t cols[] = {1, 31, 32, 33, 255, 256, 257, 4096}, rows[] = {3, 1, 16, 17, 5};
    for (uint32_t i = 0; i < DS_COUNT(cols); i++)
        for (enum fill fill = FILL_NORMAL; fill < FILL_COUNT; fill++)
            spread(c, rows[(i + fill) % 5], cols[i], cols[i] + (i + fill) % 4 * cols[i], fill % 2 ? -1e30f : 0.0f, fill);
    spread(c, 1, 32000, 151936, -1e30f, FILL_NORMAL);
}

static void slice(union ds_op_params *params, uint32_t first, uint32_t n) {
    slice_view(&params->scatter.x, first, n);
    slice_view(&params->scatter.out, first, n);
}

const struct check_op check_scatter = {.cases = cases, .slice = slice};
