/*
 * Llama 2 and 3.x: no norms on q and k. GGUF files have the rows of q and k reordered so that rotary pairs lie side by side
 * (gate and everything else as in Hugging Face's files); the attention scores are the same but for the order of their sums.
 */
#include "model/decoder.h"

static ds_status configure(struct ds_model *model, struct ds_error *err) {
    return ds_decoder_configure(model, &(struct ds_family){.interleaved = true}, err);
}

const struct ds_model_arch ds_arch_llama = {
    .name = "llama", .hf_name = "LlamaForCausalLM", .configure = configure, .load = ds_decoder_load, .build = ds_decoder_build};
