#include "check.h"

enum place { APART, ON_GATE, ON_UP, INTERLEAVED, PLACE_COUNT };

static void gate(struct check *c, ds_activation activation, uint32_t rows, uint32_t cols, enum place place, enum fill fill) {
    static const char *const places[PLACE_COUNT] = {"", ", in place of gate", ", in place of up", ", halves of one matrix"};
    static const char *const names[] = {[DS_ACT_SILU] = "silu", [DS_ACT_GELU_TANH] = "gelu", [DS_ACT_SIGMOID] = "sigmoid"};
    if (!check_case(c, "%s, %u rows of %u%s, %s", names[activation], rows, cols, places[place], fill_name(fill)))
        return;
    struct ds_op_glu *p = &c->params.glu;
    p->activation = activation;
    if (place == INTERLEAVED) { /* as a joint projection of both leaves them */
        p->gate = check_view(c, DS_ELEM_F32, rows, 2 * cols, fill);
        p->gate.cols = cols;
        p->up = p->gate;
        p->up.at.offset += (uint64_t)cols * 4;
    } else {
        p->gate = check_view(c, DS_ELEM_F32, rows, cols, fill);
        p->up = check_view(c, DS_ELEM_F32, rows, cols, FILL_NORMAL);
    }
    p->out = place == ON_UP ? p->up : place == APART ? check_view(c, DS_ELEM_F32, rows, cols, FILL_POISON) : p->gate;
    check_run(c, rows);
}

static void cases(struct check *c) {
    static const uint32_t cols[] = {1, 31, 32, 33, 255, 256, 257, 3072, 9728}, rows[] = {3, 1, 16, 17, 5};
    for (uint32_t i = 0; i < DS_COUNT(cols); i++)
        for (enum fill fill = FILL_NORMAL; fill < FILL_COUNT; fill++)
            for (int activation = DS_ACT_SILU; activation <= DS_ACT_SIGMOID; activation++)
                gate(c, (ds_activation)activation, rows[(i + fill) % 5], cols[i],
                     (enum place)((i + fill + (uint32_t)activation) % PLACE_COUNT), fill);
}

static void slice(union ds_op_params *params, uint32_t first, uint32_t n) {
    slice_view(&params->glu.gate, first, n);
    slice_view(&params->glu.up, first, n);
    slice_view(&params->glu.out, first, n);
}

const struct check_op check_glu = {.cases = cases, .slice = slice};
