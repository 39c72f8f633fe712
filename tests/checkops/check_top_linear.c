#include "check.h"

struct shape {
    uint32_t rows, outputs, inputs, top;
    enum fill x, w, residual;
};

static void linear(struct check *c, ds_type type, const struct shape *s) {
    if (!check_case(c, "%s [%u, %u], %u rows, the top %u, x %s, w %s, residual %s", ds_type_get(type)->name, s->outputs, s->inputs, s->rows, s->top,
                    fill_name(s->x), fill_name(s->w), fill_name(s->residual)))
        return;
    if (!check_affordable(c, (uint64_t)s->outputs * s->inputs)) return;
    c->params.top_linear = (struct ds_op_top_linear){
        .weight = check_weight(c, type, s->outputs, s->inputs, s->w),
        .x = check_activations(c, ds_linear_input(type), s->rows, s->inputs, s->x),
        .residual = check_view(c, DS_ELEM_F32, s->rows, s->outputs, s->residual),
        .y = check_view(c, DS_ELEM_F32, s->rows, s->outputs, FILL_POISON),
        .top = s->top,
        .fill = -1e30f,
    };
    c->macs = (double)s->rows * s->top * s->inputs;
    check_run(c, s->rows);
}

static void edges(struct check *c, ds_type type) {
    static const uint32_t inputs_of_1[] = {1, 31, 33, 257}, inputs_of_32[] = {32, 96, 288, 512}, inputs_of_256[] = {256, 512, 768, 256};
    static const uint32_t outputs[] = {1, 33, 257, 4096}, tops[] = {1, 33, 16, 40}, rows[] = {3, 5, 1, 2};
    const uint32_t block = ds_type_get(type)->block;
    for (uint32_t i = 0; i < 4; i++)
        linear(c, type, &(struct shape){.rows = rows[i], .outputs = outputs[i], .top = tops[i],
                                        .inputs = (block == 1 ? inputs_of_1 : block == 32 ? inputs_of_32 : inputs_of_256)[i],
                                        .x = FILL_NORMAL, .w = FILL_NORMAL, .residual = FILL_NORMAL});
}

static void cases(struct check *c) {
    for (ds_type type = 0; type < DS_TYPE_COUNT; type++)
        if (type != DS_TYPE_I32 && type != DS_TYPE_I64) edges(c, type);
    static const ds_type common[] = {DS_TYPE_Q4_K, DS_TYPE_Q8_0, DS_TYPE_BF16, DS_TYPE_F32};
    for (uint32_t i = 0; i < DS_COUNT(common); i++) {
        /* Integers and zeros are ties, which the lowest outputs win: those of one group, and across groups. */
        for (enum fill fill = FILL_INTEGERS; fill < FILL_COUNT; fill++)
            linear(c, common[i], &(struct shape){.rows = 3, .outputs = 1000, .inputs = 256, .top = 100, .x = fill, .w = FILL_NORMAL, .residual = fill});
        static const uint32_t tops[] = {1, 8, 63, 64, 65, 1023, 1024};
        for (uint32_t k = 0; k < DS_COUNT(tops); k++)
            linear(c, common[i], &(struct shape){.rows = 2, .outputs = 1024, .inputs = 256, .top = tops[k], .x = FILL_NORMAL, .w = FILL_NORMAL,
                                                 .residual = k % 2 ? FILL_INTEGERS : FILL_NORMAL});
    }
    linear(c, DS_TYPE_Q4_K, &(struct shape){.rows = 1, .outputs = 151936, .inputs = 256, .top = 128, .x = FILL_NORMAL, .w = FILL_NORMAL, .residual = FILL_NORMAL});
}

static void slice(union ds_op_params *params, uint32_t first, uint32_t n) {
    slice_view(&params->top_linear.x, first, n);
    slice_view(&params->top_linear.residual, first, n);
    slice_view(&params->top_linear.y, first, n);
}

const struct check_op check_top_linear = {.cases = cases, .slice = slice};
