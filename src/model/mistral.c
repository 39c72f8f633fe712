/* Mistral: Llama with a sliding window on every layer. In GGUF it is a `llama`, whose window is seldom stated there. */
#include "model/decoder.h"

static ds_status configure(struct ds_model *model, struct ds_error *err) {
    return ds_decoder_configure(model, &(struct ds_family){.window = true, .interleaved = true}, err);
}

const struct ds_model_arch ds_arch_mistral = {
    .name = "llama", .hf_name = "MistralForCausalLM", .configure = configure, .load = ds_decoder_load, .build = ds_decoder_build};
