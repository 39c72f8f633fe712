#include "check.h"

struct shape {
    uint32_t rows, groups, dim;
    bool weighted, in_place;
    int residual; /* 1: there is one, 2: it is out */
};

static void norm(struct check *c, const struct shape *s, enum fill fill) {
    static const char *const residuals[] = {"", ", residual", ", residual in place"};
    if (!check_case(c, "%u rows, %u x %u%s%s%s, %s", s->rows, s->groups, s->dim, s->weighted ? ", weight" : "",
                    s->in_place ? ", in place" : "", residuals[s->residual], fill_name(fill)))
        return;
    const uint32_t cols = s->groups * s->dim;
    struct ds_op_rms_norm *p = &c->params.rms_norm;
    *p = (struct ds_op_rms_norm){
        .x = check_view(c, DS_ELEM_F32, s->rows, cols, fill), .dim = s->dim, .eps = fill == FILL_WILD ? 1e-12f : 1e-6f};
    p->out = s->in_place ? p->x : check_view(c, DS_ELEM_F32, s->rows, cols, s->residual == 2 ? FILL_NORMAL : FILL_POISON);
    if (s->residual == 1) p->residual = check_view(c, DS_ELEM_F32, s->rows, cols, FILL_NORMAL);
    if (s->residual == 2) p->residual = p->out;
    if (s->weighted) p->weight = check_floats(c, s->dim, FILL_NORMAL);
    check_run(c, s->rows);
}

static void cases(struct check *c) {
    static const uint32_t dims[] = {1, 31, 32, 33, 64, 80, 128, 255, 256, 257, 1024, 2560, 5120}, rows[] = {3, 1, 16, 17, 2};
    for (uint32_t i = 0; i < DS_COUNT(dims); i++) {
        for (uint32_t k = 0; k < 4; k++) {
            const struct shape s = {
                .rows = rows[(i + k) % 5], .groups = k % 2 ? 5 : 1, .dim = dims[i], .weighted = k != 2, .in_place = k == 3};
            norm(c, &s, (enum fill)(1 + (i + k) % (FILL_COUNT - 1)));
            struct shape added = s;
            added.residual = k == 3 ? 1 : 1 + (int)(k % 2);
            norm(c, &added, (enum fill)(1 + (i + k) % (FILL_COUNT - 1)));
        }
    }
    for (enum fill fill = FILL_NORMAL; fill < FILL_COUNT; fill++)
        norm(c, &(struct shape){.rows = 8, .groups = 16, .dim = 128, .weighted = true}, fill);
}

static void slice(union ds_op_params *params, uint32_t first, uint32_t n) {
    slice_view(&params->rms_norm.x, first, n);
    slice_view(&params->rms_norm.out, first, n);
    slice_view(&params->rms_norm.residual, first, n);
}

const struct check_op check_rms_norm = {.cases = cases, .slice = slice};
