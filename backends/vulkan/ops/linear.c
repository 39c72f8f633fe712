/* linear and expert_linear: one shader. */
#include "linears.h"

extern const struct ds_vk_code ds_vk_code_linear;

enum { MOST_ROWS = 16 };

/* `n` rows for each workgroup along y. */
static uint64_t rows_of(struct ds_vk_recorder *r, uint32_t binding, const struct ds_view *view, uint32_t n) {
    return ds_vk_stepped(r, binding, view->at, (struct ds_vk_steps){.y = view->at.buffer ? n * ds_view_pitch(view) : 0});
}

ds_status ds_vk_op_linear(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_linear *p = &params->linear;
    uint32_t rows = 1;
    while (rows < p->x.rows && rows < MOST_ROWS) rows *= 2;
    struct linear_args args = {
        .weight = ds_vk_tiles(r, 0, &p->weight), .x = rows_of(r, 1, &p->x, rows), .y = rows_of(r, 2, &p->y, rows), .bias = ds_vk_at(r, 3, p->bias),
        .residual = rows_of(r, 4, &p->residual, rows), .ids = ds_vk_at(r, 5, (struct ds_slice){0}), .count = ds_vk_at(r, 6, p->count),
        .rows = p->x.rows, .outputs = p->weight.rows, .y_stride = p->y.stride, .residual_stride = p->residual.stride, .slots = 1, .x_slots = 1,
    };
    ds_vk_linear_input(&p->x, &args);
    struct ds_vk_dispatch dispatch = {.code = &ds_vk_code_linear, .args = &args, .bytes = sizeof args,
                                      .groups = {ds_vk_blocks(args.outputs, DS_VK_TILE), ds_vk_blocks(args.rows, rows), 1}};
    ds_vk_type_constants(p->weight.type, dispatch.constants);
    dispatch.constants[DS_VK_TYPE_CONSTANTS] = rows;
    dispatch.constants[DS_VK_TYPE_CONSTANTS + 1] = p->x.elem == DS_ELEM_Q8_32;
    dispatch.constants[DS_VK_TYPE_CONSTANTS + 4] = ds_vk_linear_threads(r->device, args.inputs, rows, dispatch.groups);
    return ds_vk_dispatch(r, &dispatch, err);
}

/* The tiles from `first` on that one descriptor shows: others' workgroups end at once. */
static ds_status expert_part(struct ds_vk_recorder *r, const struct ds_op_expert_linear *p, uint32_t first, uint32_t tiles, struct ds_error *err) {
    const uint64_t tile_bytes = ds_vk_tile_bytes(p->weight.type, p->weight.cols);
    struct linear_args args = {
        .weight = ds_vk_part(r, 0, p->weight.at, first * tile_bytes, tiles * tile_bytes), .x = ds_vk_at(r, 1, p->x.at), .y = ds_vk_at(r, 2, p->y.at),
        .bias = ds_vk_at(r, 3, (struct ds_slice){0}), .residual = ds_vk_at(r, 4, (struct ds_slice){0}), .ids = ds_vk_at(r, 5, p->ids.at),
        .count = ds_vk_at(r, 6, p->count), .rows = p->ids.rows, .outputs = p->outputs, .y_stride = p->y.stride, .slots = p->ids.cols,
        .ids_stride = p->ids.stride, .x_slots = p->x.rows / DS_MAX(p->ids.rows, 1), .first_tile = first, .end_tile = first + tiles,
    };
    ds_vk_linear_input(&p->x, &args);
    struct ds_vk_dispatch dispatch = {.code = &ds_vk_code_linear, .args = &args, .bytes = sizeof args,
                                      .groups = {ds_vk_blocks(args.outputs, DS_VK_TILE), args.rows * args.slots, 1}};
    ds_vk_type_constants(p->weight.type, dispatch.constants);
    dispatch.constants[DS_VK_TYPE_CONSTANTS] = 1;
    dispatch.constants[DS_VK_TYPE_CONSTANTS + 1] = p->x.elem == DS_ELEM_Q8_32;
    dispatch.constants[DS_VK_TYPE_CONSTANTS + 2] = 1;
    dispatch.constants[DS_VK_TYPE_CONSTANTS + 4] = ds_vk_linear_threads(r->device, args.inputs, 1, dispatch.groups);
    return ds_vk_dispatch(r, &dispatch, err);
}

ds_status ds_vk_op_expert_linear(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_expert_linear *p = &params->expert_linear;
    const uint32_t tiles = ds_vk_blocks(p->weight.rows, DS_VK_TILE);
    const uint32_t most = ds_vk_items_at_once(r->device, ds_vk_tile_bytes(p->weight.type, p->weight.cols), tiles);
    for (uint32_t first = 0; first < tiles; first += most) {
        if (first) ds_vk_barrier(r);
        DS_TRY(expert_part(r, p, first, DS_MIN(most, tiles - first), err));
    }
    return DS_OK;
}

/* (row, slot) pairs lie along the grid's second dimension. */
bool ds_vk_can_expert_linear(const struct ds_vk_device *device, const union ds_op_params *params) {
    (void)device;
    const struct ds_op_expert_linear *p = &params->expert_linear;
    return (uint64_t)p->ids.rows * p->ids.cols <= 65535;
}
