/*
 * First all threads look through the residuals together, each a stretch of them, for the largest key of every group of 64. As many
 * groups as outputs are wanted have a key of at least the `top`-th largest of these, so that only groups that reach it are looked
 * into. Then each thread takes its share of the chosen outputs, whole tiles of them, and runs `linear` on these. Meaning: ref/top_linear.c.
 */
#include "kernels.h"
#include "kernels/select.h"
#include "kernels/top.h"
#include "kernels/vec.h"
#include "pack.h"

static uint32_t largest_key(const float *x, uint32_t n) {
    uint32_t largest = 0;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t key = ds_order_key(x[i]);
        largest = key > largest ? key : largest;
    }
    return largest;
}

/* By vectors: gcc leaves this loop as it is. */
static void fill_with(float value, float *y, uint32_t n) {
    const vf all = vf_set1(value);
    uint32_t i = 0;
    for (; i + DS_WIDTH <= n; i += DS_WIDTH) vf_store(y + i, all);
    for (; i < n; i++) y[i] = value;
}

/* Groups [first, end) of every row: their largest keys, and `fill` where no output is computed later. */
static void look(const struct ds_op_top_linear *p, uint32_t rows, uint64_t first, uint64_t end, uint32_t *keys) {
    const uint32_t outputs = p->weight.rows, groups = ds_top_groups(outputs);
    for (uint32_t r = 0; r < rows; r++) {
        const float *residual = ds_host_row(&p->residual, r);
        float *y = ds_host_row(&p->y, r);
        for (uint64_t g = first; g < end; g++) {
            const uint32_t at = (uint32_t)g * DS_TOP_GROUP, n = DS_MIN(outputs - at, (uint32_t)DS_TOP_GROUP);
            keys[(size_t)r * groups + g] = largest_key(residual + at, n);
            fill_with(p->fill, y + at, n);
        }
    }
}

/* The chosen outputs of a row, ascending, in ids[0 .. top). `keys` and `ids` have room for all outputs. */
static void choose(const struct ds_op_top_linear *p, uint32_t r, const uint32_t *group_keys, uint32_t *keys, uint32_t *ids) {
    const uint32_t outputs = p->weight.rows, groups = ds_top_groups(outputs);
    const float *residual = ds_host_row(&p->residual, r);
    const uint32_t bound = groups >= p->top ? ds_select(group_keys, groups, p->top, false).key : 0;
    uint32_t n = 0;
    for (uint32_t g = 0; g < groups; g++) {
        if (group_keys[g] < bound) continue;
        const uint32_t end = DS_MIN((g + 1) * DS_TOP_GROUP, outputs);
        for (uint32_t o = g * DS_TOP_GROUP; o < end; o++) {
            const uint32_t key = ds_order_key(residual[o]);
            keys[n] = key;
            ids[n] = o;
            n += key >= bound;
        }
    }
    const struct ds_selection last = ds_select(keys, n, p->top, false);
    for (uint32_t i = 0, kept = 0; i < n; i++) {
        ids[kept] = ids[i];
        kept += ds_selected(&last, keys[i], i);
    }
}

static struct ds_slice wrap(struct ds_host_buffer *buffer, void *data) {
    *buffer = (struct ds_host_buffer){.data = data};
    return (struct ds_slice){&buffer->base, 0};
}

/* The `n` outputs ids[0 .. n) of row r, all in one tile. */
static void compute(const struct ds_cpu_work *alone, const struct ds_op_top_linear *p, uint32_t r, const uint32_t *ids, uint32_t n) {
    _Alignas(64) float sums[DS_TILE];
    struct ds_host_buffer buffer;
    const uint32_t tile = ids[0] / DS_TILE, outputs = DS_MIN(p->weight.rows - tile * DS_TILE, (uint32_t)DS_TILE);
    union ds_op_params params = {.linear = {
        .weight = p->weight, .x = p->x,
        .y = {.at = wrap(&buffer, sums), .elem = DS_ELEM_F32, .rows = 1, .cols = outputs, .stride = outputs}}};
    params.linear.weight.rows = outputs;
    params.linear.weight.at.offset += tile * ds_pack_tile_bytes(p->weight.type, p->weight.cols);
    params.linear.x.rows = 1;
    params.linear.x.at.offset += (uint64_t)((const uint8_t *)ds_host_row(&p->x, r) - (const uint8_t *)ds_host_row(&p->x, 0));
    DS_CPU_NAME(linear)(alone, &params);
    const float *residual = ds_host_row(&p->residual, r);
    float *y = ds_host_row(&p->y, r);
    for (uint32_t i = 0; i < n; i++) y[ids[i]] = sums[ids[i] % DS_TILE] + residual[ids[i]];
}

/* From `at` on to where a tile begins. */
static uint32_t tile_start(const uint32_t *ids, uint32_t n, uint32_t at) {
    while (at > 0 && at < n && ids[at] / DS_TILE == ids[at - 1] / DS_TILE) at++;
    return at;
}

void DS_CPU_NAME(top_linear)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    const struct ds_op_top_linear *p = &params->top_linear;
    const uint32_t rows = ds_host_rows(&p->count, p->x.rows), groups = ds_top_groups(p->weight.rows);
    uint32_t *group_keys = (uint32_t *)(void *)work->shared, *keys = (uint32_t *)(void *)work->scratch, *ids = keys + p->weight.rows;
    uint64_t first, end;
    ds_cpu_share(work, groups, &first, &end);
    look(p, rows, first, end, group_keys);
    ds_cpu_meet(work);
    /* `linear` as one thread's own work, with what scratch is left. */
    const struct ds_cpu_work alone = {.member = 0, .members = 1, .scratch = work->scratch + ds_top_list_bytes(p->weight.rows)};
    for (uint32_t r = 0; r < rows; r++) {
        choose(p, r, group_keys + (size_t)r * groups, keys, ids);
        ds_cpu_share(work, p->top, &first, &end);
        const uint32_t last = tile_start(ids, p->top, (uint32_t)end);
        for (uint32_t at = tile_start(ids, p->top, (uint32_t)first), next; at < last; at = next) {
            next = tile_start(ids, p->top, at + 1);
            compute(&alone, p, r, ids + at, next - at);
        }
    }
}
