#include "op.h"

#include "../pack.h"
#include "../shaders/embed.h"

extern const struct ds_vk_code ds_vk_code_embed;

/* The tiles from `first` on that one descriptor shows: rows that ask for others are left alone. */
static ds_status part(struct ds_vk_recorder *r, const struct ds_op_embed *p, uint32_t first, uint32_t tiles, struct ds_error *err) {
    const uint64_t tile_bytes = ds_vk_tile_bytes(p->table.type, p->table.cols);
    const struct embed_args args = {
        .table = ds_vk_part(r, 0, p->table.at, first * tile_bytes, tiles * tile_bytes), .ids = ds_vk_at(r, 1, p->ids), .outputs = ds_vk_rows(r, 2, &p->out),
        .count = ds_vk_at(r, 3, p->count), .rows = p->out.rows, .cols = p->out.cols, .out_stride = p->out.stride, .first_tile = first,
        .end_tile = first + tiles, .scale = p->scale,
    };
    struct ds_vk_dispatch dispatch = {.code = &ds_vk_code_embed, .args = &args, .bytes = sizeof args,
                                      .groups = {ds_vk_blocks(args.cols, DS_VK_THREADS), args.rows, 1}};
    ds_vk_type_constants(p->table.type, dispatch.constants);
    return ds_vk_dispatch(r, &dispatch, err);
}

ds_status ds_vk_op_embed(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_embed *p = &params->embed;
    const uint32_t tiles = ds_vk_blocks(p->table.rows, DS_VK_TILE);
    const uint32_t most = ds_vk_items_at_once(r->device, ds_vk_tile_bytes(p->table.type, p->table.cols), tiles);
    for (uint32_t first = 0; first < tiles; first += most) {
        if (first) ds_vk_barrier(r);
        DS_TRY(part(r, p, first, DS_MIN(most, tiles - first), err));
    }
    return DS_OK;
}
