#include "check.h"

static void sum(struct check *c, uint32_t rows, uint32_t slots, uint32_t cols, int residual, enum fill fill) {
    static const char *const residuals[] = {"", ", residual", ", residual in place"};
    if (!check_case(c, "%u rows, %u x %u%s, %s", rows, slots, cols, residuals[residual], fill_name(fill))) return;
    struct ds_op_expert_sum *p = &c->params.expert_sum;
    *p = (struct ds_op_expert_sum){.x = check_view(c, DS_ELEM_F32, rows, slots * cols, fill),
                                   .weights = check_view(c, DS_ELEM_F32, rows, slots, FILL_NORMAL),
                                   .y = check_view(c, DS_ELEM_F32, rows, cols, residual == 2 ? FILL_NORMAL : FILL_POISON)};
    if (residual == 1) p->residual = check_view(c, DS_ELEM_F32, rows, cols, FILL_NORMAL);
    if (residual == 2) p->residual = p->y;
    check_run(c, rows);
}

static void cases(struct check *c) {
    static const uint32_t cols[] = {1, 31, 32, 33, 255, 256, 257, 2048}, slots[] = {1, 2, 3, 8}, rows[] = {3, 1, 16, 17, 5};
    for (uint32_t i = 0; i < DS_COUNT(cols); i++)
        for (enum fill fill = FILL_NORMAL; fill < FILL_COUNT; fill++)
            sum(c, rows[(i + fill) % 5], slots[(i + fill) % 4], cols[i], (int)((i + fill) % 3), fill);
}

static void slice(union ds_op_params *params, uint32_t first, uint32_t n) {
    slice_view(&params->expert_sum.x, first, n);
    slice_view(&params->expert_sum.weights, first, n);
    slice_view(&params->expert_sum.y, first, n);
    slice_view(&params->expert_sum.residual, first, n);
}

const struct check_op check_expert_sum = {.cases = cases, .slice = slice};
