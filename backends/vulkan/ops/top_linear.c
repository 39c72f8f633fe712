/* Two dispatches: `choose` leaves in scratch which outputs a row computes, then the linears' shader computes the tiles that hold some of them. */
#include "linears.h"

#include "../shaders/choose.h"

extern const struct ds_vk_code ds_vk_code_choose, ds_vk_code_linear;

uint64_t ds_vk_scratch_top_linear(const struct ds_vk_device *device, const union ds_op_params *params) {
    (void)device;
    return (uint64_t)params->top_linear.x.rows * 8;
}

static ds_status choose(struct ds_vk_recorder *r, const struct ds_op_top_linear *p, struct ds_error *err) {
    const struct choose_args args = {
        .residual = ds_vk_rows(r, 0, &p->residual), .chosen = ds_vk_at(r, 1, r->scratch), .count = ds_vk_at(r, 2, p->count), .rows = p->x.rows,
        .outputs = p->weight.rows, .stride = p->residual.stride, .top = p->top,
    };
    return DS_VK_RUN(r, choose, args, 1, args.rows, 1, err, 0);
}

ds_status ds_vk_op_top_linear(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_top_linear *p = &params->top_linear;
    DS_TRY(choose(r, p, err));
    ds_vk_barrier(r);
    struct linear_args args = {
        .weight = ds_vk_tiles(r, 0, &p->weight), .x = ds_vk_rows(r, 1, &p->x), .y = ds_vk_rows(r, 2, &p->y), .bias = ds_vk_at(r, 3, (struct ds_slice){0}),
        .residual = ds_vk_rows(r, 4, &p->residual), .ids = ds_vk_at(r, 5, r->scratch), .count = ds_vk_at(r, 6, p->count), .rows = p->x.rows,
        .outputs = p->weight.rows, .y_stride = p->y.stride, .residual_stride = p->residual.stride, .slots = 1, .x_slots = 1, .fill = p->fill,
    };
    ds_vk_linear_input(&p->x, &args);
    struct ds_vk_dispatch dispatch = {.code = &ds_vk_code_linear, .args = &args, .bytes = sizeof args,
                                      .groups = {ds_vk_blocks(args.outputs, DS_VK_TILE), args.rows, 1}};
    ds_vk_type_constants(p->weight.type, dispatch.constants);
    dispatch.constants[DS_VK_TYPE_CONSTANTS] = 1;
    dispatch.constants[DS_VK_TYPE_CONSTANTS + 1] = p->x.elem == DS_ELEM_Q8_32;
    dispatch.constants[DS_VK_TYPE_CONSTANTS + 3] = 1;
    dispatch.constants[DS_VK_TYPE_CONSTANTS + 4] = ds_vk_linear_threads(r->device, args.inputs, 1, dispatch.groups);
    return ds_vk_dispatch(r, &dispatch, err);
}
