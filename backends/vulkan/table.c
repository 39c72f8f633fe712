/* The ops there are. */
#include "device.h"

const struct ds_vk_op ds_vk_ops[DS_OP_COUNT] = {
    [DS_OP_embed] = {.record = ds_vk_op_embed},
    [DS_OP_rms_norm] = {.record = ds_vk_op_rms_norm},
    [DS_OP_quantize] = {.record = ds_vk_op_quantize},
    [DS_OP_linear] = {.record = ds_vk_op_linear},
    [DS_OP_rope] = {.record = ds_vk_op_rope},
    [DS_OP_kv_store] = {.record = ds_vk_op_kv_store},
    [DS_OP_attention] = {.record = ds_vk_op_attention, .can_run = ds_vk_can_attention},
    [DS_OP_glu] = {.record = ds_vk_op_glu},
    [DS_OP_copy] = {.record = ds_vk_op_copy},
    [DS_OP_scale] = {.record = ds_vk_op_scale},
    [DS_OP_expert_linear] = {.record = ds_vk_op_expert_linear, .can_run = ds_vk_can_expert_linear},
    [DS_OP_sample] = {.record = ds_vk_op_sample},
    [DS_OP_route] = {.record = ds_vk_op_route},
    [DS_OP_expert_sum] = {.record = ds_vk_op_expert_sum},
    [DS_OP_rnn_cell] = {.record = ds_vk_op_rnn_cell},
    [DS_OP_scatter] = {.record = ds_vk_op_scatter},
    [DS_OP_adjust] = {.record = ds_vk_op_adjust},
    [DS_OP_reject] = {.record = ds_vk_op_reject},
    [DS_OP_norm_quantize] = {.record = ds_vk_op_norm_quantize},
    [DS_OP_glu_quantize] = {.record = ds_vk_op_glu_quantize},
    [DS_OP_heads] = {.record = ds_vk_op_heads, .can_run = ds_vk_can_heads},
    [DS_OP_top_linear] = {.record = ds_vk_op_top_linear, .scratch = ds_vk_scratch_top_linear},
    [DS_OP_max_prob] = {.record = ds_vk_op_max_prob},
};
