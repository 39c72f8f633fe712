#include "check.h"

struct shape {
    uint32_t rows, kv_heads, head_dim, sequences, from; /* `from`: position of each sequence's first row */
    bool f16;
};

static void store(struct check *c, const struct shape *s, enum fill fill) {
    if (!check_case(c, "%s, %u rows, %u heads of %u, %u sequences from position %u, %s", s->f16 ? "f16" : "f32", s->rows,
                    s->kv_heads, s->head_dim, s->sequences, s->from, fill_name(fill)))
        return;
    uint32_t pages;
    const struct ds_paging paging = check_paging_round(c, s->sequences, s->from, s->rows, &pages);
    const uint64_t bytes = (uint64_t)pages * s->kv_heads * s->head_dim * DS_PAGE * (s->f16 ? 2 : 4);
    c->params.kv_store = (struct ds_op_kv_store){
        .k = check_view(c, DS_ELEM_F32, s->rows, s->kv_heads * s->head_dim, fill),
        .v = check_view(c, DS_ELEM_F32, s->rows, s->kv_heads * s->head_dim, fill),
        .kv = {.k = check_block(c, bytes, NULL),
               .v = check_block(c, bytes, NULL),
               .f16 = s->f16,
               .pages = pages,
               .kv_heads = s->kv_heads,
               .head_dim = s->head_dim},
        .paging = paging,
    };
    check_run(c, s->rows);
}

static void cases(struct check *c) {
    static const uint32_t dims[] = {2, 64, 80, 128, 256}, rows[] = {5, 1, 16, 17, 33}, heads[] = {2, 1, 8},
                          from[] = {0, 60, 250};
    for (uint32_t i = 0; i < DS_COUNT(dims); i++) {
        for (uint32_t k = 0; k < 6; k++) {
            const struct shape s = {.rows = rows[(i + k) % 5],
                                    .kv_heads = heads[(i + k) % 3],
                                    .head_dim = dims[i],
                                    .sequences = 1 + k % 3,
                                    .from = from[k % 3],
                                    .f16 = k % 2 == 0};
            store(c, &s, k == 0 ? FILL_WILD : (enum fill)(1 + (i + k) % (FILL_COUNT - 1)));
        }
    }
}

static void slice(union ds_op_params *params, uint32_t first, uint32_t n) {
    slice_view(&params->kv_store.k, first, n);
    slice_view(&params->kv_store.v, first, n);
    slice_rows(&params->kv_store.paging.row_sequence, first, 4);
    slice_rows(&params->kv_store.paging.positions, first, 4);
}

const struct check_op check_kv_store = {.cases = cases, .slice = slice};
