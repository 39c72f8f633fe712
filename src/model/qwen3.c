/* Qwen3 (dense): pre-norm decoder, RMS norms per head on q and k, grouped queries, SwiGLU, tied head or not. */
#include "model/decoder.h"

static ds_status configure(struct ds_model *model, struct ds_error *err) {
    return ds_decoder_configure(model, &(struct ds_family){.qk_norm = true}, err);
}

const struct ds_model_arch ds_arch_qwen3 = {
    .name = "qwen3", .hf_name = "Qwen3ForCausalLM", .configure = configure, .load = ds_decoder_load, .build = ds_decoder_build};
