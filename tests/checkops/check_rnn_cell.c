#include "check.h"

enum place { APART, ON_STATE, NO_STATE, PLACE_COUNT };

static void cell(struct check *c, uint32_t rows, uint32_t size, enum place place, enum fill fill) {
    static const char *const places[PLACE_COUNT] = {"", ", in place of the state", ", no state"};
    if (!check_case(c, "%u rows of %u%s, %s", rows, size, places[place], fill_name(fill))) return;
    struct ds_op_rnn_cell *p = &c->params.rnn_cell;
    p->gates = check_view(c, DS_ELEM_F32, rows, 3 * size, fill);
    if (place != NO_STATE) p->state = check_view(c, DS_ELEM_F32, rows, size, FILL_NORMAL);
    p->next = place == ON_STATE ? p->state : check_view(c, DS_ELEM_F32, rows, size, FILL_POISON);
    p->out = check_view(c, DS_ELEM_F32, rows, size, FILL_POISON);
    check_run(c, rows);
}

static void cases(struct check *c) {
    static const uint32_t sizes[] = {1, 31, 32, 33, 255, 256, 257, 512}, rows[] = {3, 1, 16, 17, 5};
    for (uint32_t i = 0; i < DS_COUNT(sizes); i++)
        for (enum fill fill = FILL_NORMAL; fill < FILL_COUNT; fill++)
            cell(c, rows[(i + fill) % 5], sizes[i], (enum place)((i + fill) % PLACE_COUNT), fill);
}

static void slice(union ds_op_params *params, uint32_t first, uint32_t n) {
    slice_view(&params->rnn_cell.gates, first, n);
    slice_view(&params->rnn_cell.state, first, n);
    slice_view(&params->rnn_cell.next, first, n);
    slice_view(&params->rnn_cell.out, first, n);
}

const struct check_op check_rnn_cell = {.cases = cases, .slice = slice};
