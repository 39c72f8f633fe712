#include "op.h"

#include "../shaders/scatter.h"

extern const struct ds_vk_code ds_vk_code_scatter;

static struct scatter_args args_of(struct ds_vk_recorder *r, const struct ds_op_scatter *p) {
    return (struct scatter_args){
        .x = ds_vk_rows(r, 0, &p->x), .ids = ds_vk_at(r, 1, p->ids), .outputs = ds_vk_rows(r, 2, &p->out), .count = ds_vk_at(r, 3, p->count),
        .rows = p->x.rows, .cols = p->x.cols, .out_cols = p->out.cols, .x_stride = p->x.stride, .out_stride = p->out.stride, .fill = p->fill,
    };
}

ds_status ds_vk_op_scatter(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_scatter *p = &params->scatter;
    const struct scatter_args fill = args_of(r, p);
    DS_TRY(DS_VK_RUN(r, scatter, fill, ds_vk_blocks(p->out.cols, DS_VK_THREADS), p->x.rows, 1, err, 1));
    ds_vk_barrier(r);
    const struct scatter_args args = args_of(r, p);
    return DS_VK_RUN(r, scatter, args, ds_vk_blocks(p->x.cols, DS_VK_THREADS), p->x.rows, 1, err, 0);
}
