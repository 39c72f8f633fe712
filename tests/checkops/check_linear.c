#include "check.h"

enum extra { PLAIN, BIAS, RESIDUAL, IN_PLACE, ALL, EXTRA_COUNT };

struct shape {
    uint32_t rows, outputs, inputs;
    enum extra extra;
    enum fill x, w;
};

static void linear(struct check *c, ds_type type, const struct shape *s) {
    static const char *const extras[EXTRA_COUNT] = {"", ", bias", ", residual", ", residual in place",
                                                    ", bias, residual in place"};
    if (!check_case(c, "%s [%u, %u], %u rows%s, x %s, w %s", ds_type_get(type)->name, s->outputs, s->inputs, s->rows,
                    extras[s->extra], fill_name(s->x), fill_name(s->w)))
        return;
    if (!check_affordable(c, (uint64_t)s->rows * s->outputs * s->inputs)) return;
    struct ds_op_linear *p = &c->params.linear;
    *p = (struct ds_op_linear){
        .weight = check_weight(c, type, s->outputs, s->inputs, s->w),
        .x = check_activations(c, ds_linear_input(type), s->rows, s->inputs, s->x),
        .y = check_view(c, DS_ELEM_F32, s->rows, s->outputs, s->extra >= IN_PLACE ? FILL_NORMAL : FILL_POISON),
    };
    if (s->extra == BIAS || s->extra == ALL) p->bias = check_floats(c, s->outputs, FILL_NORMAL);
    if (s->extra == RESIDUAL) p->residual = check_view(c, DS_ELEM_F32, s->rows, s->outputs, FILL_NORMAL);
    if (s->extra >= IN_PLACE) p->residual = p->y;
    c->macs = (double)s->rows * s->outputs * s->inputs;
    check_run(c, s->rows);
}

/* Sizes around the edges of runs, tiles and pages. */
static void edges(struct check *c, ds_type type) {
    static const uint32_t of_1[] = {1, 31, 32, 33, 255, 256, 257, 515}, of_32[] = {32, 64, 224, 256, 288, 544},
                          of_256[] = {256, 512, 1280};
    static const uint32_t outputs[] = {1, 15, 16, 17, 33, 64, 65, 130};
    const uint32_t block = ds_type_get(type)->block;
    const uint32_t *inputs = block == 1 ? of_1 : block == 32 ? of_32 : of_256;
    const uint32_t n = block == 1 ? DS_COUNT(of_1) : block == 32 ? DS_COUNT(of_32) : DS_COUNT(of_256);
    for (uint32_t i = 0; i < DS_COUNT(outputs); i++)
        linear(c, type,
               &(struct shape){.rows = 1 + i % 5,
                               .outputs = outputs[i],
                               .inputs = inputs[i % n],
                               .x = FILL_NORMAL,
                               .w = FILL_NORMAL,
                               .extra = (enum extra)(i % EXTRA_COUNT)});
}

/* Every width of a batch up to 17, and a prefill's. */
static void widths(struct check *c, ds_type type) {
    for (uint32_t rows = 1; rows <= 17; rows++)
        linear(c, type, &(struct shape){.rows = rows, .outputs = 48, .inputs = 512, .x = FILL_NORMAL, .w = FILL_NORMAL});
    linear(c, type,
           &(struct shape){.rows = 64, .outputs = 40, .inputs = 256, .x = FILL_NORMAL, .w = FILL_NORMAL, .extra = ALL});
}

static void values(struct check *c, ds_type type) {
    for (enum fill fill = FILL_INTEGERS; fill < FILL_COUNT; fill++) {
        linear(c, type,
               &(struct shape){
                   .rows = 3, .outputs = 32, .inputs = 512, .x = fill, .w = fill == FILL_INTEGERS ? fill : FILL_NORMAL});
        linear(c, type, &(struct shape){.rows = 3, .outputs = 32, .inputs = 512, .x = FILL_NORMAL, .w = fill});
    }
}

static void cases(struct check *c) {
    for (ds_type type = 0; type < DS_TYPE_COUNT; type++) {
        if (type == DS_TYPE_I32 || type == DS_TYPE_I64) continue;
        edges(c, type);
        widths(c, type);
        values(c, type);
        linear(c, type,
               &(struct shape){
                   .rows = 4, .outputs = 1024, .inputs = 3072, .x = FILL_OUTLIERS, .w = FILL_NORMAL, .extra = IN_PLACE});
    }
    static const ds_type common[] = {DS_TYPE_Q4_K, DS_TYPE_Q6_K, DS_TYPE_Q8_0, DS_TYPE_Q4_0, DS_TYPE_BF16, DS_TYPE_F32};
    for (uint32_t i = 0; i < DS_COUNT(common); i++)
        for (uint32_t rows = 1; rows <= 8; rows += 7)
            linear(c, common[i],
                   &(struct shape){.rows = rows, .outputs = 2560, .inputs = 4096, .x = FILL_NORMAL, .w = FILL_NORMAL});
}

static void slice(union ds_op_params *params, uint32_t first, uint32_t n) {
    slice_view(&params->linear.x, first, n);
    slice_view(&params->linear.y, first, n);
    slice_view(&params->linear.residual, first, n);
}

const struct check_op check_linear = {.cases = cases, .slice = slice};
