/*
 * The (row, slot) pairs are listed by expert; of each expert every thread takes a contiguous share of the tiles of outputs, gathers
 * the rows that use it, and runs `linear` on them, so that a weight is read once for all of them. Meaning: ref/expert_linear.c.
 */
#include "kernels.h"
#include "kernels/experts.h"
#include "kernels/vec.h"
#include "pack.h"

/* This thread's scratch. */
struct gathered {
    uint32_t *starts, *pairs; /* pairs of expert e: starts[e] .. starts[e + 1] */
    uint8_t *x;
    float *y;
};

static struct gathered lay_out(const struct ds_op_expert_linear *p, uint8_t *scratch) {
    struct gathered g = {.starts = (uint32_t *)(void *)scratch, .x = scratch + ds_expert_lists_bytes(p)};
    g.pairs = g.starts + p->experts + 1;
    g.y = (float *)(void *)(g.x + DS_EXPERT_ROWS * ds_expert_row_bytes(p));
    return g;
}

/* Counting sort of the pairs by expert, rows ascending. */
static void list_pairs(const struct ds_op_expert_linear *p, uint32_t rows, struct gathered *g) {
    memset(g->starts, 0, (p->experts + 1) * sizeof *g->starts);
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t s = 0; s < p->ids.cols; s++) g->starts[((const int32_t *)ds_host_row(&p->ids, r))[s] + 1]++;
    for (uint32_t e = 0; e < p->experts; e++) g->starts[e + 1] += g->starts[e];
    for (uint32_t r = rows; r-- > 0;) /* from behind: each start moves to its place */
        for (uint32_t s = p->ids.cols; s-- > 0;) g->pairs[--g->starts[((const int32_t *)ds_host_row(&p->ids, r))[s] + 1]] = r * p->ids.cols + s;
    /* starts[e + 1] is now where e begins: shift. */
    for (uint32_t e = 0; e < p->experts; e++) g->starts[e] = g->starts[e + 1];
    g->starts[p->experts] = rows * p->ids.cols;
}

static struct ds_slice wrap(struct ds_host_buffer *buffer, void *data) {
    *buffer = (struct ds_host_buffer){.data = data};
    return (struct ds_slice){&buffer->base, 0};
}

/* `n` pairs of expert e, outputs [first, first + outputs). */
static void run_pairs(const struct ds_cpu_work *alone, const struct ds_op_expert_linear *p, const struct gathered *g, uint32_t e,
                      const uint32_t *pairs, uint32_t n, uint32_t first, uint32_t outputs) {
    const uint64_t row_bytes = ds_expert_row_bytes(p), 
                   used = ds_elem_is_q8(p->x.elem) ? row_bytes : (uint64_t)p->x.cols * (p->x.elem == DS_ELEM_BF16 ? 2 : 4);
    const bool row_each = p->x.rows != p->ids.rows;
    for (uint32_t i = 0; i < n; i++) memcpy(g->x + i * row_bytes, ds_host_row(&p->x, row_each ? pairs[i] : pairs[i] / p->ids.cols), used);

    struct ds_host_buffer x_buffer, y_buffer;
    union ds_op_params params = {.linear = {
        .weight = {.at = p->weight.at, .type = p->weight.type, .rows = outputs, .cols = p->weight.cols},
        .x = {.at = wrap(&x_buffer, g->x), .elem = p->x.elem, .rows = n, .cols = p->x.cols,
              .stride = (uint32_t)(row_bytes / (p->x.elem == DS_ELEM_F32 ? 4 : 2))},
        .y = {.at = wrap(&y_buffer, g->y), .elem = DS_ELEM_F32, .rows = n, .cols = outputs, .stride = outputs}}};
    const uint64_t tile = ((uint64_t)e * ds_expert_rows(p->outputs) + first) / DS_TILE;
    params.linear.weight.at.offset += tile * ds_pack_tile_bytes(p->weight.type, p->weight.cols);
    DS_CPU_NAME(linear)(alone, &params);

    for (uint32_t i = 0; i < n; i++) {
        float *y = (float *)ds_host_row(&p->y, pairs[i] / p->ids.cols) + (size_t)(pairs[i] % p->ids.cols) * p->outputs + first;
        memcpy(y, g->y + (size_t)i * outputs, outputs * sizeof(float));
    }
}

void DS_CPU_NAME(expert_linear)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    const struct ds_op_expert_linear *p = &params->expert_linear;
    struct gathered g = lay_out(p, work->scratch);
    list_pairs(p, ds_host_rows(&p->count, p->ids.rows), &g);
    uint64_t tile, end;
    ds_cpu_share(work, (p->outputs + DS_TILE - 1) / DS_TILE, &tile, &end);
    if (tile == end) return;
    const uint32_t first = (uint32_t)tile * DS_TILE, outputs = DS_MIN((uint32_t)end * DS_TILE, p->outputs) - first;
    /* `linear` as one thread's own work, with what scratch is left. */
    const struct ds_cpu_work alone = {.member = 0, .members = 1, .scratch = work->scratch + ds_expert_bytes(p)};
    for (uint32_t e = 0; e < p->experts; e++)
        for (uint32_t i = g.starts[e]; i < g.starts[e + 1]; i += DS_EXPERT_ROWS)
            run_pairs(&alone, p, &g, e, g.pairs + i, DS_MIN(g.starts[e + 1] - i, (uint32_t)DS_EXPERT_ROWS), first, outputs);
}
