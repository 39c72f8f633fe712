/* Qwen2 and Qwen2.5: as Qwen3 with a bias on q, k and v and without their norms. */
#include "model/decoder.h"

static ds_status configure(struct ds_model *model, struct ds_error *err) {
    return ds_decoder_configure(model, &(struct ds_family){.qkv_bias = true}, err);
}

const struct ds_model_arch ds_arch_qwen2 = {
    .name = "qwen2", .hf_name = "Qwen2ForCausalLM", .configure = configure, .load = ds_decoder_load, .build = ds_decoder_build};
