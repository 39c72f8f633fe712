/* linear and expert_linear: one shader. */
#include "linears.h"

#include "../pack.h"

extern const struct ds_vk_code ds_vk_code_linear;

enum { MOST_ROWS = 16 };

ds_status ds_vk_op_linear(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_linear *p = &params->linear;
    struct linear_args args = {
        .weight = ds_vk_at(r, 0, p->weight.at), .x = ds_vk_at(r, 1, p->x.at), .y = ds_vk_at(r, 2, p->y.at), .bias = ds_vk_at(r, 3, p->bias),
        .residual = ds_vk_at(r, 4, p->residual.at), .ids = ds_vk_at(r, 5, (struct ds_slice){0}), .count = ds_vk_at(r, 6, p->count),
        .rows = p->x.rows, .outputs = p->weight.rows, .y_stride = p->y.stride, .residual_stride = p->residual.stride, .slots = 1, .x_slots = 1,
    };
    ds_vk_linear_input(&p->x, &args);
    uint32_t rows = 1;
    while (rows < args.rows && rows < MOST_ROWS) rows *= 2;
    struct ds_vk_dispatch dispatch = {.code = &ds_vk_code_linear, .args = &args, .bytes = sizeof args,
                                      .groups = {ds_vk_blocks(args.outputs, DS_VK_TILE), ds_vk_blocks(args.rows, rows), 1}};
    ds_vk_type_constants(p->weight.type, dispatch.constants);
    dispatch.constants[DS_VK_TYPE_CONSTANTS] = rows;
    dispatch.constants[DS_VK_TYPE_CONSTANTS + 1] = p->x.elem == DS_ELEM_Q8_32;
    return ds_vk_dispatch(r, &dispatch, err);
}

ds_status ds_vk_op_expert_linear(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_expert_linear *p = &params->expert_linear;
    struct linear_args args = {
        .weight = ds_vk_at(r, 0, p->weight.at), .x = ds_vk_at(r, 1, p->x.at), .y = ds_vk_at(r, 2, p->y.at), .bias = ds_vk_at(r, 3, (struct ds_slice){0}),
        .residual = ds_vk_at(r, 4, (struct ds_slice){0}), .ids = ds_vk_at(r, 5, p->ids.at), .count = ds_vk_at(r, 6, p->count),
        .rows = p->ids.rows, .outputs = p->outputs, .y_stride = p->y.stride, .slots = p->ids.cols, .ids_stride = p->ids.stride,
        .x_slots = p->x.rows / DS_MAX(p->ids.rows, 1),
    };
    ds_vk_linear_input(&p->x, &args);
    struct ds_vk_dispatch dispatch = {.code = &ds_vk_code_linear, .args = &args, .bytes = sizeof args,
                                      .groups = {ds_vk_blocks(args.outputs, DS_VK_TILE), args.rows * args.slots, 1}};
    ds_vk_type_constants(p->weight.type, dispatch.constants);
    dispatch.constants[DS_VK_TYPE_CONSTANTS] = 1;
    dispatch.constants[DS_VK_TYPE_CONSTANTS + 1] = p->x.elem == DS_ELEM_Q8_32;
    dispatch.constants[DS_VK_TYPE_CONSTANTS + 2] = 1;
    return ds_vk_dispatch(r, &dispatch, err);
}

/* (row, slot) pairs lie along the grid's second dimension. */
bool ds_vk_can_expert_linear(const struct ds_vk_device *device, const union ds_op_params *params) {
    (void)device;
    const struct ds_op_expert_linear *p = &params->expert_linear;
    return (uint64_t)p->ids.rows * p->ids.cols <= 65535;
}
