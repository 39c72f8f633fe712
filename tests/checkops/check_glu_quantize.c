#include "check.h"

#include <string.h>

struct shape {
    ds_elem elem;
    uint32_t rows, groups, cols;
    ds_activation activation;
    bool in_place, spoilt;
};

static void gate(struct check *c, const struct shape *s, enum fill fill) {
    static const char *const names[] = {[DS_ACT_SILU] = "silu", [DS_ACT_GELU_TANH] = "gelu", [DS_ACT_SIGMOID] = "sigmoid"};
    if (!check_case(c, "%s, %s, %u rows of %u x %u%s%s, %s", names[s->activation], s->elem == DS_ELEM_Q8 ? "q8" : s->elem == DS_ELEM_Q8_32 ? "q8_32" : "bf16",
                    s->rows, s->groups, s->cols, s->in_place ? ", in place of gate" : "", s->spoilt ? ", not all finite" : "", fill_name(fill)))
        return;
    const uint32_t all = s->groups * s->cols;
    struct ds_op_glu_quantize *p = &c->params.glu_quantize;
    *p = (struct ds_op_glu_quantize){.gate = check_view(c, DS_ELEM_F32, s->rows, all, fill), .up = check_view(c, DS_ELEM_F32, s->rows, all, FILL_NORMAL),
                                     .activation = s->activation, .out = check_view(c, s->elem, s->rows * s->groups, s->cols, FILL_POISON),
                                     .groups = s->groups > 1 ? s->groups : check_below(c, 2)};
    p->gated = s->in_place ? p->gate : check_view(c, DS_ELEM_F32, s->rows, all, FILL_POISON);
    if (s->spoilt) {
        static const uint32_t bits[] = {0x7f800000u, 0xff800000u, 0x7f7fffffu}; /* no NaN: which one comes out is not promised */
        for (uint32_t r = 0; r < s->rows; r++) memcpy((float *)check_at(&p->up.at) + (uint64_t)r * p->up.stride + (r * 37) % all, &bits[r % 3], 4);
        p->flags = check_indices(c, s->rows, 8); /* bits that must stay */
    }
    check_run(c, s->rows);
}

static void cases(struct check *c) {
    static const uint32_t cols[] = {1, 31, 32, 33, 255, 256, 257, 1024, 9728}, rows[] = {3, 1, 16, 17, 5};
    static const ds_elem elems[] = {DS_ELEM_Q8, DS_ELEM_BF16, DS_ELEM_Q8_32};
    for (uint32_t i = 0; i < DS_COUNT(cols); i++)
        for (enum fill fill = FILL_NORMAL; fill < FILL_COUNT; fill++)
            for (uint32_t k = 0; k < 3; k++) {
                const struct shape s = {.elem = elems[k], .rows = cols[i] > 2000 ? 2 : rows[(i + fill) % 5], .groups = cols[i] > 2000 ? 1 : 1 + (i + k + fill) % 3,
                                        .cols = cols[i], .activation = (ds_activation)((i + k + fill) % 3), .in_place = (i + fill) % 4 == 1,
                                        .spoilt = fill == FILL_NORMAL};
                gate(c, &s, fill);
            }
}

static void slice(union ds_op_params *params, uint32_t first, uint32_t n) {
    const uint32_t groups = params->glu_quantize.groups ? params->glu_quantize.groups : 1;
    slice_view(&params->glu_quantize.gate, first, n);
    slice_view(&params->glu_quantize.up, first, n);
    slice_view(&params->glu_quantize.gated, first, n);
    slice_view(&params->glu_quantize.out, first * groups, n * groups);
    slice_rows(&params->glu_quantize.flags, first, 4);
}

const struct check_op check_glu_quantize = {.cases = cases, .slice = slice};
