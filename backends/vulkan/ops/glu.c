#include "op.h"

#include "../shaders/glu.h"

extern const struct ds_vk_code ds_vk_code_glu;

ds_status ds_vk_op_glu(struct ds_vk_recorder *r, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_glu *p = &params->glu;
    const struct glu_args args = {
        .gate = ds_vk_rows(r, 0, &p->gate), .up = ds_vk_rows(r, 1, &p->up), .outputs = ds_vk_rows(r, 2, &p->out), .count = ds_vk_at(r, 3, p->count),
        .rows = p->gate.rows, .cols = p->gate.cols, .gate_stride = p->gate.stride, .up_stride = p->up.stride, .out_stride = p->out.stride,
    };
    return DS_VK_RUN(r, glu, args, ds_vk_blocks(args.cols, DS_VK_THREADS), args.rows, 1, err, 0, p->activation);
}
