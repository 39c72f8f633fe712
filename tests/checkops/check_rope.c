#include "check.h"

struct shape {
    uint32_t rows, heads, head_dim, n_rot;
    bool neox;
};

static void rotate(struct check *c, const struct shape *s, enum fill fill) {
    enum { POSITIONS = 700 };
    if (!check_case(c, "%u rows, %u heads of %u, %u rotated%s, %s", s->rows, s->heads, s->head_dim, s->n_rot,
                    s->neox ? ", neox" : "", fill_name(fill)))
        return;
    struct ds_op_rope *p = &c->params.rope;
    *p = (struct ds_op_rope){
        .x = check_view(c, DS_ELEM_F32, s->rows, s->heads * s->head_dim, fill),
        .head_dim = s->head_dim,
        .n_rot = s->n_rot,
        .neox = s->neox,
        .cos = check_floats(c, POSITIONS * s->n_rot / 2, FILL_NORMAL),
        .sin = check_floats(c, POSITIONS * s->n_rot / 2, FILL_NORMAL),
        .table_positions = POSITIONS,
        .positions = check_indices(c, s->rows, POSITIONS),
    };
    if (s->rows > 2) ((int32_t *)check_at(&p->positions))[s->rows / 2] = -1;
    check_run(c, s->rows);
}

static void cases(struct check *c) {
    static const uint32_t dims[] = {2, 62, 64, 66, 80, 128, 256}, rows[] = {5, 1, 16, 17, 3}, heads[] = {1, 8, 32};
    for (uint32_t i = 0; i < DS_COUNT(dims); i++) {
        for (uint32_t k = 0; k < 6; k++) {
            const struct shape s = {.rows = rows[(i + k) % 5],
                                    .heads = heads[(i + k) % 3],
                                    .head_dim = dims[i],
                                    .neox = k % 2 == 0,
                                    .n_rot = k < 4 || dims[i] < 4 ? dims[i] : dims[i] / 4 * 2};
            rotate(c, &s, (enum fill)(1 + (i + k) % (FILL_COUNT - 1)));
        }
    }
}

static void slice(union ds_op_params *params, uint32_t first, uint32_t n) {
    slice_view(&params->rope.x, first, n);
    slice_rows(&params->rope.positions, first, 4);
}

const struct check_op check_rope = {.cases = cases, .slice = slice};
