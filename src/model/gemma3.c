/* Gemma 3 (text): sliding and global layers with ropes of their own, four norms a layer, GeGLU, the embedding scaled by sqrt(d). */
#include "model/decoder.h"
#include "model/gemma.h"

static ds_status configure(struct ds_model *model, struct ds_error *err) {
    const struct ds_naming naming = ds_decoder_naming(model);
    DS_TRY(ds_gemma3_config_read(&naming, &model->config, err));
    return ds_decoder_vocabulary(model, &naming, true, err);
}

/* Hugging Face's files keep norms less 1, GGUF files as they are. */
static ds_status load(struct ds_model *model, struct ds_error *err) {
    return ds_gemma_load(model, ds_ckpt_get_format(model->ckpt) == DS_CKPT_SAFETENSORS, err);
}

static void build(const struct ds_model *model, struct ds_graph *graph, const struct ds_model_part *part, const struct ds_rows *rows,
                  const struct ds_cache *cache, const struct ds_model_outputs *out) {
    ds_gemma_build(model, graph, part, rows, cache, out, false);
}

const struct ds_model_arch ds_arch_gemma3 = {.name = "gemma3", .hf_name = "Gemma3ForCausalLM", .hf_multimodal = "Gemma3ForConditionalGeneration",
                                             .configure = configure, .load = load, .build = build};
