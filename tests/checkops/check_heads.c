#include "check.h"

struct shape {
    uint32_t rows, heads, kv_heads, head_dim, n_rot, sequences, from; /* heads 0: no queries; `from`: position of each sequence's first row */
    bool neox, q_norm, k_norm, f16;
};

static void store(struct check *c, const struct shape *s, enum fill fill) {
    enum { POSITIONS = 700 };
    if (!check_case(c, "%s, %u rows, %u heads and %u of %u, %u rotated%s%s%s, %u sequences from position %u, %s", s->f16 ? "f16" : "f32", s->rows, s->heads,
                    s->kv_heads, s->head_dim, s->n_rot, s->neox ? ", neox" : "", s->q_norm ? ", q norm" : "", s->k_norm ? ", k norm" : "", s->sequences,
                    s->from, fill_name(fill)))
        return;
    uint32_t pages;
    const struct ds_paging paging = check_paging_round(c, s->sequences, s->from, s->rows, &pages);
    const uint32_t cols = s->kv_heads * s->head_dim;
    const uint64_t bytes = (uint64_t)pages * cols * DS_PAGE * (s->f16 ? 2 : 4);
    struct ds_op_heads *p = &c->params.heads;
    *p = (struct ds_op_heads){
        .k = check_view(c, DS_ELEM_F32, s->rows, cols, fill), .v = check_view(c, DS_ELEM_F32, s->rows, cols, fill),
        .eps = fill == FILL_WILD ? 1e-12f : 1e-6f, .n_rot = s->n_rot, .neox = s->neox,
        .cos = check_floats(c, POSITIONS * s->n_rot / 2, FILL_NORMAL), .sin = check_floats(c, POSITIONS * s->n_rot / 2, FILL_NORMAL),
        .table_positions = POSITIONS,
        .kv = {.k = check_block(c, bytes, NULL), .v = check_block(c, bytes, NULL), .f16 = s->f16, .pages = pages, .kv_heads = s->kv_heads,
               .head_dim = s->head_dim},
        .paging = paging};
    if (s->heads) p->q = check_view(c, DS_ELEM_F32, s->rows, s->heads * s->head_dim, fill);
    if (s->q_norm) p->q_norm = check_floats(c, s->head_dim, FILL_NORMAL);
    if (s->k_norm) p->k_norm = check_floats(c, s->head_dim, FILL_NORMAL);
    check_run(c, s->rows);
}

static void cases(struct check *c) {
    static const uint32_t dims[] = {2, 30, 62, 64, 66, 80, 128, 256, 512}, rows[] = {5, 1, 16, 17, 3}, heads[] = {1, 8, 3}, from[] = {0, 60, 250};
    for (uint32_t i = 0; i < DS_COUNT(dims); i++) {
        for (uint32_t k = 0; k < 8; k++) {
            const uint32_t kv_heads = heads[(i + k) % 3];
            const struct shape s = {.rows = rows[(i + k) % 5], .kv_heads = kv_heads, .heads = k == 5 ? 0 : kv_heads * (1 + k % 4), .head_dim = dims[i],
                                    .n_rot = k < 6 || dims[i] < 4 ? dims[i] : dims[i] / 4 * 2, .sequences = 1 + k % 3, .from = from[k % 3],
                                    .neox = (i + k) % 3 != 0, .q_norm = k != 3 && k != 5 && k != 6, .k_norm = k != 3 && k != 7, .f16 = k % 2 == 0};
            store(c, &s, (enum fill)(1 + (i + k) % (FILL_COUNT - 1)));
        }
    }
    for (enum fill fill = FILL_NORMAL; fill < FILL_COUNT; fill++)
        store(c, &(struct shape){.rows = 8, .heads = 32, .kv_heads = 8, .head_dim = 128, .n_rot = 128, .sequences = 1, .from = 250, .neox = true,
                                 .q_norm = true, .k_norm = true, .f16 = true}, fill);
}

static void slice(union ds_op_params *params, uint32_t first, uint32_t n) {
    if (params->heads.q.at.buffer) slice_view(&params->heads.q, first, n);
    slice_view(&params->heads.k, first, n);
    slice_view(&params->heads.v, first, n);
    slice_rows(&params->heads.paging.row_sequence, first, 4);
    slice_rows(&params->heads.paging.positions, first, 4);
}

const struct check_op check_heads = {.cases = cases, .slice = slice};
