/* Qwen3-MoE: Qwen3 with experts in the place of the feed-forward of most layers. */
#include "model/config.h"
#include "model/decoder.h"
#include "model/experts.h"

#include <stdlib.h>

/* ds_model.family: of each layer; those with a dense feed-forward have none. */
struct mixtures {
    struct ds_experts experts[DS_MOST_LAYERS];
    bool present[DS_MOST_LAYERS];
};

static ds_status configure(struct ds_model *model, struct ds_error *err) {
    const struct ds_naming naming = ds_decoder_naming(model);
    struct ds_model_config *c = &model->config;
    /* Named num_local_experts since transformers 5. */
    uint32_t count;
    DS_TRY(ds_config_size_or(&naming, "num_experts", "expert_count", DS_MOST_EXPERTS, 0, &count, err));
    if (count) c->expert.experts = count;
    else DS_TRY(ds_config_size(&naming, "num_local_experts", "expert_count", DS_MOST_EXPERTS, &c->expert.experts, err));
    DS_TRY(ds_config_size(&naming, "num_experts_per_tok", "expert_used_count", DS_MIN(c->expert.experts, (uint32_t)DS_MOST_SLOTS), &c->expert.slots, err));
    DS_TRY(ds_config_size(&naming, "moe_intermediate_size", "expert_feed_forward_length", DS_MOST_WIDTH, &c->expert.feed_forward, err));
    /* GGUF files are of models that normalise; a folder says it. */
    DS_TRY(ds_config_flag(&naming, "norm_topk_prob", ds_ckpt_get_format(model->ckpt) == DS_CKPT_GGUF, &c->expert.normalise, err));
    static const struct ds_refusal list[] = {{NULL, "expert_weights_scale", 1}, {NULL, "expert_shared_count", 0}, {NULL, "expert_group_count", 0},
                                             {NULL, "expert_weights_norm", 1}};
    DS_TRY(ds_config_refuse(&naming, list, DS_COUNT(list), err));
    return ds_decoder_configure(model, &(struct ds_family){.qk_norm = true}, err);
}

/* Which layers have experts is what the file has: mlp_only_layers and decoder_sparse_step say the same. */
static bool has_experts(const struct ds_naming *naming, uint32_t layer) {
    return ds_naming_has(naming, "layers.%u.mlp.gate.weight", "blk.%u.ffn_gate_inp.weight", layer);
}

static ds_status load(struct ds_model *model, struct ds_error *err) {
    static const struct ds_expert_names names = {.hf_router = "layers.%u.mlp.gate.weight", .gguf_router = "blk.%u.ffn_gate_inp.weight",
                                                 .hf_gate = "layers.%u.mlp.experts.%u.gate_proj.weight",
                                                 .hf_up = "layers.%u.mlp.experts.%u.up_proj.weight",
                                                 .hf_down = "layers.%u.mlp.experts.%u.down_proj.weight",
                                                 .hf_gate_up = "layers.%u.mlp.experts.gate_up_proj",
                                                 .hf_all_down = "layers.%u.mlp.experts.down_proj"};
    const struct ds_naming naming = ds_decoder_naming(model);
    free(model->family);
    struct mixtures *mixtures = model->family = calloc(1, sizeof *mixtures);
    if (!mixtures) return ds_fail_memory(err, sizeof *mixtures, "the model's experts");
    DS_TRY(ds_decoder_load_ends(model, 0.0f, err));
    for (uint32_t l = 0; l < model->config.layers; l++) {
        struct ds_layer *layer = &model->layers[l];
        struct ds_loader *const loader = ds_model_loader(model, l);
        mixtures->present[l] = has_experts(&naming, l);
        if (!mixtures->present[l]) {
            DS_TRY(ds_layer_load(layer, &model->config, &naming, l, loader, err));
            continue;
        }
        DS_TRY(ds_layer_load_attention(layer, &model->config, &naming, l, loader, err));
        DS_TRY(ds_experts_load(&mixtures->experts[l], &model->config, &naming, &names, l, loader, err));
    }
    return DS_OK;
}

static void build(const struct ds_model *model, struct ds_graph *graph, const struct ds_model_part *part, const struct ds_rows *rows,
                  const struct ds_cache *cache, const struct ds_model_outputs *out) {
    const struct ds_model_config *c = &model->config;
    const struct mixtures *mixtures = model->family;
    const struct ds_layer_context context = ds_decoder_context(model, part, rows);
    struct ds_view x = ds_decoder_begin(model, graph, part, rows, out);
    for (uint32_t l = part->first; l < part->end; l++) {
        const struct ds_layer *layer = &model->layers[l];
        x = ds_layer_attention(graph, &context, layer, &cache->layers[l], x);
        if (mixtures->present[l]) {
            const struct ds_view h = ds_graph_rms_norm(graph, x, c->hidden, layer->ffn_norm, c->rms_eps);
            x = ds_experts_build(graph, c, &mixtures->experts[l], DS_ACT_SILU, h, h, x);
        } else {
            x = ds_layer_feed_forward(graph, &context, layer, x);
        }
        ds_decoder_layer_done(model, graph, out, l, x);
    }
    ds_decoder_finish(model, graph, part, rows, out, x);
}

const struct ds_model_arch ds_arch_qwen3moe = {
    .name = "qwen3moe", .hf_name = "Qwen3MoeForCausalLM", .configure = configure, .load = load, .build = build};
