/* The ops there are. */
#include "device.h"

const struct ds_vk_op ds_vk_ops[DS_OP_COUNT] = {
    [DS_OP_embed] = {.record = ds_vk_op_embed},
    [DS_OP_rms_norm] = {.record = ds_vk_op_rms_norm},
    [DS_OP_quantize] = {.record = ds_vk_op_quantize},
    [DS_OP_glu] = {.record = ds_vk_op_glu},
    [DS_OP_copy] = {.record = ds_vk_op_copy},
    [DS_OP_scale] = {.record = ds_vk_op_scale},
};
