#include "check.h"

static void gather(struct check *c, ds_type type, uint32_t table_rows, uint32_t cols, uint32_t rows, float scale,
                   enum fill fill) {
    if (!check_case(c, "%s [%u, %u], %u rows, scale %g, %s", ds_type_get(type)->name, table_rows, cols, rows, (double)scale,
                    fill_name(fill)))
        return;
    c->params.embed = (struct ds_op_embed){
        .table = check_weight(c, type, table_rows, cols, fill),
        .ids = check_indices(c, rows, table_rows),
        .out = check_view(c, DS_ELEM_F32, rows, cols, FILL_POISON),
        .scale = scale,
    };
    /* A token that is not there. */
    int32_t *ids = check_at(&c->params.embed.ids);
    if (rows > 4) ids[1] = -1, ids[4] = INT32_MIN;
    check_run(c, rows);
}

static void cases(struct check *c) {
    static const uint32_t float_cols[] = {1, 31, 33, 257}, block_counts[] = {1, 3, 10};
    for (ds_type type = 0; type < DS_TYPE_COUNT; type++) {
        if (type == DS_TYPE_I32 || type == DS_TYPE_I64) continue;
        const uint32_t block = ds_type_get(type)->block;
        for (size_t i = 0; i < DS_COUNT(block_counts) && block > 1; i++)
            gather(c, type, 70, block * block_counts[i], 5, i == 1 ? 11.3137085f : 1.0f, FILL_NORMAL);
        for (size_t i = 0; i < DS_COUNT(float_cols) && block == 1; i++)
            gather(c, type, 70, float_cols[i], 5, i == 1 ? 11.3137085f : 1.0f, FILL_NORMAL);
        gather(c, type, 1, 256, 1, 1.0f, FILL_NORMAL);
        gather(c, type, 65, 512, 17, 0.5f, FILL_DENORMALS);
        gather(c, type, 700, 1024, 16, 1.0f, FILL_OUTLIERS);
    }
}

static void slice(union ds_op_params *params, uint32_t first, uint32_t n) {
    slice_rows(&params->embed.ids, first, 4);
    slice_view(&params->embed.out, first, n);
}

const struct check_op check_embed = {.cases = cases, .slice = slice};
