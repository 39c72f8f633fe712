#include "check.h"

struct shape {
    uint32_t rows, experts, slots, outputs, inputs;
    bool row_each; /* a row of activations for each slot */
    enum fill x, w;
};

static void linear(struct check *c, ds_type type, const struct shape *s) {
    if (!check_case(c, "%s, %u of %u x [%u, %u], %u rows%s, x %s, w %s", ds_type_get(type)->name, s->slots, s->experts, s->outputs,
                    s->inputs, s->rows, s->row_each ? ", inputs for each slot" : "", fill_name(s->x), fill_name(s->w)))
        return;
    if (!check_affordable(c, (uint64_t)s->experts * s->outputs * s->inputs)) return;
    struct ds_op_expert_linear *p = &c->params.expert_linear;
    *p = (struct ds_op_expert_linear){
        .weight = check_weight(c, type, s->experts * ds_expert_rows(s->outputs), s->inputs, s->w),
        .experts = s->experts,
        .outputs = s->outputs,
        .x = check_activations(c, ds_linear_input(type), s->row_each ? s->rows * s->slots : s->rows, s->inputs, s->x),
        .ids = check_view(c, DS_ELEM_I32, s->rows, s->slots, FILL_POISON),
        .y = check_view(c, DS_ELEM_F32, s->rows, s->slots * s->outputs, FILL_POISON),
    };
    for (uint32_t r = 0; r < s->rows; r++) {
        int32_t *ids = (int32_t *)check_at(&p->ids.at) + (uint64_t)r * p->ids.stride;
        for (uint32_t k = 0; k < s->slots; k++) ids[k] = (int32_t)check_below(c, s->experts);
    }
    c->macs = (double)s->rows * s->slots * s->outputs * s->inputs;
    check_run(c, s->rows);
}

static void edges(struct check *c, ds_type type) {
    static const uint32_t inputs_of_1[] = {1, 31, 33, 257}, inputs_of_32[] = {32, 96, 288, 512}, inputs_of_256[] = {256, 512, 768, 256};
    static const uint32_t outputs[] = {1, 17, 48, 130}, rows[] = {1, 3, 5, 17};
    const uint32_t block = ds_type_get(type)->block;
    for (uint32_t i = 0; i < 4; i++)
        linear(c, type,
               &(struct shape){.rows = rows[i],
                               .experts = 2 + 3 * i,
                               .slots = 1 + i,
                               .outputs = outputs[i],
                               .inputs = (block == 1 ? inputs_of_1 : block == 32 ? inputs_of_32 : inputs_of_256)[i],
                               .row_each = i % 2,
                               .x = FILL_NORMAL,
                               .w = FILL_NORMAL});
}

static void cases(struct check *c) {
    for (ds_type type = 0; type < DS_TYPE_COUNT; type++)
        if (type != DS_TYPE_I32 && type != DS_TYPE_I64) edges(c, type);
    static const ds_type common[] = {DS_TYPE_Q4_K, DS_TYPE_Q8_0, DS_TYPE_BF16, DS_TYPE_F32};
    for (uint32_t i = 0; i < DS_COUNT(common); i++) {
        for (enum fill fill = FILL_INTEGERS; fill < FILL_COUNT; fill++)
            linear(c, common[i], &(struct shape){.rows = 3, .experts = 4, .slots = 2, .outputs = 64, .inputs = 256, .x = fill, .w = FILL_NORMAL});
        /* More rows than an expert's share of scratch holds, all on few experts. */
        linear(c, common[i], &(struct shape){.rows = 70, .experts = 2, .slots = 2, .outputs = 64, .inputs = 256, .x = FILL_NORMAL, .w = FILL_NORMAL});
        linear(c, common[i], &(struct shape){.rows = 1, .experts = 16, .slots = 8, .outputs = 768, .inputs = 2048, .x = FILL_NORMAL, .w = FILL_NORMAL});
    }
}

static void slice(union ds_op_params *params, uint32_t first, uint32_t n) {
    struct ds_op_expert_linear *p = &params->expert_linear;
    const uint32_t each = p->x.rows / p->ids.rows;
    slice_view(&p->x, first * each, n * each);
    slice_view(&p->ids, first, n);
    slice_view(&p->y, first, n);
}

const struct check_op check_expert_linear = {.cases = cases, .slice = slice};
