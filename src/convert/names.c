/* What a decoder's layer is made of, under the names of both containers: targets and drafters of every family. */
#include "convert/convert_internal.h"

#define COMMON                                                                                                       \
    {"layers.%u.input_layernorm.weight", "blk.%u.attn_norm.weight", DS_RULE_NORM},                                   \
    {"layers.%u.self_attn.q_norm.weight", "blk.%u.attn_q_norm.weight", DS_RULE_NORM},                                \
    {"layers.%u.self_attn.k_norm.weight", "blk.%u.attn_k_norm.weight", DS_RULE_NORM},                                \
    {"layers.%u.self_attn.q_proj.weight", "blk.%u.attn_q.weight", DS_RULE_ROTATED},                                  \
    {"layers.%u.self_attn.k_proj.weight", "blk.%u.attn_k.weight", DS_RULE_ROTATED},                                  \
    {"layers.%u.self_attn.v_proj.weight", "blk.%u.attn_v.weight", DS_RULE_PLAIN},                                    \
    {"layers.%u.self_attn.o_proj.weight", "blk.%u.attn_output.weight", DS_RULE_PLAIN},                               \
    {"layers.%u.mlp.gate_proj.weight", "blk.%u.ffn_gate.weight", DS_RULE_PLAIN},                                     \
    {"layers.%u.mlp.up_proj.weight", "blk.%u.ffn_up.weight", DS_RULE_PLAIN},                                         \
    {"layers.%u.mlp.down_proj.weight", "blk.%u.ffn_down.weight", DS_RULE_PLAIN}

static const struct ds_name_rule plain[] = {
    {"layers.%u.post_attention_layernorm.weight", "blk.%u.ffn_norm.weight", DS_RULE_NORM},
    COMMON,
    {"layers.%u.hidden_norm.weight", "blk.%u.attn_norm_2.weight", DS_RULE_NORM}, /* Eagle3 */
    {"layers.%u.self_attn.q_proj.bias", "blk.%u.attn_q.bias", DS_RULE_ROTATED},
    {"layers.%u.self_attn.k_proj.bias", "blk.%u.attn_k.bias", DS_RULE_ROTATED},
    {"layers.%u.self_attn.v_proj.bias", "blk.%u.attn_v.bias", DS_RULE_PLAIN},
    {"layers.%u.self_attn.o_proj.bias", "blk.%u.attn_output.bias", DS_RULE_PLAIN},
    {"layers.%u.mlp.gate_proj.bias", "blk.%u.ffn_gate.bias", DS_RULE_PLAIN},
    {"layers.%u.mlp.up_proj.bias", "blk.%u.ffn_up.bias", DS_RULE_PLAIN},
    {"layers.%u.mlp.down_proj.bias", "blk.%u.ffn_down.bias", DS_RULE_PLAIN},
    {"layers.%u.mlp.gate.weight", "blk.%u.ffn_gate_inp.weight", DS_RULE_PLAIN}, /* experts' matrices: plan_target.c */
    {"layers.%u.mlp.experts.down_proj", "blk.%u.ffn_down_exps.weight", DS_RULE_PLAIN},
    {0}};

static const struct ds_name_rule gemma[] = {
    COMMON,
    {"layers.%u.hidden_norm.weight", "blk.%u.attn_norm_2.weight", DS_RULE_NORM}, /* Eagle3 */
    {"layers.%u.post_attention_layernorm.weight", "blk.%u.post_attention_norm.weight", DS_RULE_NORM},
    {"layers.%u.pre_feedforward_layernorm.weight", "blk.%u.ffn_norm.weight", DS_RULE_NORM},
    {"layers.%u.post_feedforward_layernorm.weight", "blk.%u.post_ffw_norm.weight", DS_RULE_NORM},
    {"layers.%u.layer_scalar", "blk.%u.layer_output_scale.weight", DS_RULE_PLAIN},
    {"layers.%u.per_layer_input_gate.weight", "blk.%u.inp_gate.weight", DS_RULE_PLAIN},
    {"layers.%u.per_layer_projection.weight", "blk.%u.proj.weight", DS_RULE_PLAIN},
    {"layers.%u.post_per_layer_input_norm.weight", "blk.%u.post_norm.weight", DS_RULE_NORM},
    {"layers.%u.router.proj.weight", "blk.%u.ffn_gate_inp.weight", DS_RULE_PLAIN},
    {"layers.%u.router.scale", "blk.%u.ffn_gate_inp.scale", DS_RULE_PLAIN},
    {"layers.%u.router.per_expert_scale", "blk.%u.ffn_down_exps.scale", DS_RULE_PLAIN},
    {"layers.%u.post_feedforward_layernorm_1.weight", "blk.%u.post_ffw_norm_1.weight", DS_RULE_NORM},
    {"layers.%u.pre_feedforward_layernorm_2.weight", "blk.%u.pre_ffw_norm_2.weight", DS_RULE_NORM},
    {"layers.%u.post_feedforward_layernorm_2.weight", "blk.%u.post_ffw_norm_2.weight", DS_RULE_NORM},
    {"layers.%u.experts.gate_up_proj", "blk.%u.ffn_gate_up_exps.weight", DS_RULE_PLAIN},
    {"layers.%u.experts.down_proj", "blk.%u.ffn_down_exps.weight", DS_RULE_PLAIN},
    {0}};

const struct ds_name_rule *ds_convert_layer_rules(bool is_gemma) { return is_gemma ? gemma : plain; }
