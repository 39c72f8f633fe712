#include "check.h"

static void scale(struct check *c, uint32_t rows, uint32_t cols, float factor, float softcap, bool in_place, enum fill fill) {
    if (!check_case(c, "%u rows of %u, x %g, cap %g%s, %s", rows, cols, (double)factor, (double)softcap, in_place ? ", in place" : "",
                    fill_name(fill)))
        return;
    struct ds_op_scale *p = &c->params.scale;
    *p = (struct ds_op_scale){.x = check_view(c, DS_ELEM_F32, rows, cols, fill), .scale = factor, .softcap = softcap};
    p->out = in_place ? p->x : check_view(c, DS_ELEM_F32, rows, cols, FILL_POISON);
    check_run(c, rows);
}

static void cases(struct check *c) {
    static const uint32_t cols[] = {1, 31, 32, 33, 255, 256, 257, 2560}, rows[] = {3, 1, 16, 17, 5};
    static const float factors[] = {1.0f, 0.70710678f, -3.0f, 0.0f}, caps[] = {0, 30.0f, 8.0f};
    for (uint32_t i = 0; i < DS_COUNT(cols); i++)
        for (enum fill fill = FILL_NORMAL; fill < FILL_COUNT; fill++)
            scale(c, rows[(i + fill) % 5], cols[i], factors[(i + fill) % 4], caps[(i + fill) % 3], (i + fill) % 2, fill);
    scale(c, 2, 50000, 1.0f, 30.0f, true, FILL_OUTLIERS);
}

static void slice(union ds_op_params *params, uint32_t first, uint32_t n) {
    slice_view(&params->scale.x, first, n);
    slice_view(&params->scale.out, first, n);
}

const struct check_op check_scale = {.cases = cases, .slice = slice};
