/* The ops there are. */
#include "device.h"

#define DS_VK_OP(name) ds_status name(struct ds_vk_recorder *recorder, const union ds_op_params *params, struct ds_error *err)
DS_VK_OP(ds_vk_embed);
DS_VK_OP(ds_vk_rms_norm);
DS_VK_OP(ds_vk_quantize);
DS_VK_OP(ds_vk_glu);
DS_VK_OP(ds_vk_copy_op);
DS_VK_OP(ds_vk_scale);

const struct ds_vk_op ds_vk_ops[DS_OP_COUNT] = {
    [DS_OP_embed] = {.record = ds_vk_embed},
    [DS_OP_rms_norm] = {.record = ds_vk_rms_norm},
    [DS_OP_quantize] = {.record = ds_vk_quantize},
    [DS_OP_glu] = {.record = ds_vk_glu},
    [DS_OP_copy] = {.record = ds_vk_copy_op},
    [DS_OP_scale] = {.record = ds_vk_scale},
};
