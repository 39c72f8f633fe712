/* What the two families' files share: loading and building around gemma_layer.c. */
#include "model/gemma.h"
#include "model/decoder.h"
#include "ops/numerics.h"

#include <stdlib.h>

/* ds_model.family */
struct gemma {
    struct ds_weight input_table, input_projection; /* per-layer inputs of all layers side by side */
    struct ds_slice input_norm;
    struct ds_gemma_layer layers[];
};

static ds_status load_inputs(const struct ds_model *model, struct gemma *gemma, const struct ds_naming *naming, struct ds_loader *loader,
                             struct ds_error *err) {
    const struct ds_model_config *c = &model->config;
    const uint32_t width = c->layers * c->per_layer;
    DS_TRY(ds_naming_matrix(naming, loader, "embed_tokens_per_layer.weight", "per_layer_token_embd.weight", 0, c->vocabulary, width,
                            &gemma->input_table, err));
    DS_TRY(ds_naming_matrix(naming, loader, "per_layer_model_projection.weight", "per_layer_model_proj.weight", 0, width, c->hidden,
                            &gemma->input_projection, err));
    return ds_naming_vector(naming, loader, "per_layer_projection_norm.weight", "per_layer_proj_norm.weight", 0, c->per_layer, &gemma->input_norm, err);
}

ds_status ds_gemma_load(struct ds_model *model, bool zero_centred, struct ds_error *err) {
    const struct ds_model_config *c = &model->config;
    const struct ds_naming naming = ds_decoder_naming(model);
    const size_t bytes = sizeof(struct gemma) + c->layers * sizeof(struct ds_gemma_layer);
    free(model->family);
    struct gemma *gemma = model->family = calloc(1, bytes);
    if (!gemma) return ds_fail_memory(err, bytes, "the model's layers");
    DS_TRY(ds_decoder_load_ends(model, zero_centred ? 1.0f : 0.0f, err));
    if (c->per_layer) DS_TRY(load_inputs(model, gemma, &naming, model->stages[0].loader, err));
    for (uint32_t l = 0; l < c->layers; l++)
        DS_TRY(ds_gemma_layer_load(&gemma->layers[l], c, &naming, l, zero_centred, ds_model_loader(model, l), err));
    return DS_OK;
}

/* (norm(projection(x) / sqrt(hidden)) + sqrt(width) table[id]) / sqrt(2), for all layers at once. */
static struct ds_view make_inputs(const struct ds_model *model, struct ds_graph *graph, const struct ds_rows *rows, struct ds_view x) {
    const struct ds_model_config *c = &model->config;
    const struct gemma *gemma = model->family;
    const struct ds_view looked_up = ds_graph_embed(graph, &gemma->input_table, rows->ids, rows->rows, ds_sqrt((float)c->per_layer));
    const struct ds_view projected = ds_graph_linear(graph, &gemma->input_projection, x, (struct ds_slice){0}, (struct ds_view){0});
    ds_graph_scale(graph, projected, ds_div(1.0f, ds_sqrt((float)c->hidden)), 0);
    const struct ds_view sum = ds_graph_rms_norm_add(graph, projected, c->per_layer, gemma->input_norm, c->rms_eps, looked_up);
    ds_graph_scale(graph, sum, ds_div(1.0f, ds_sqrt(2.0f)), 0);
    return sum;
}

/* The per-layer inputs of all layers [rows, layers * per_layer]: made where the pass begins, and carried to where it goes on. */
static struct ds_view inputs_of(const struct ds_model *model, struct ds_graph *graph, const struct ds_model_part *part, const struct ds_rows *rows,
                                struct ds_view x) {
    const uint32_t hidden = model->config.hidden, width = ds_config_carried(&model->config);
    if (!width || part->first == model->config.layers) return (struct ds_view){0};
    if (part->in.at.buffer) return ds_view_part(part->in, 0, rows->rows, hidden, width);
    const struct ds_view made = make_inputs(model, graph, rows, x);
    if (part->out.at.buffer) ds_graph_copy(graph, made, (struct ds_slice){0}, ds_view_part(part->out, 0, rows->rows, hidden, width));
    return made;
}

void ds_gemma_build(const struct ds_model *model, struct ds_graph *graph, const struct ds_model_part *part, const struct ds_rows *rows,
                    const struct ds_cache *cache, const struct ds_model_outputs *out, bool norm_v) {
    const struct ds_model_config *c = &model->config;
    const struct gemma *gemma = model->family;
    const struct ds_gemma_context context = {.config = c, .rows = rows, .rope_cos = part->stage->rope_cos, .rope_sin = part->stage->rope_sin,
                                             .local_cos = part->stage->local_cos, .local_sin = part->stage->local_sin,
                                             .rope_positions = model->rope_positions, .norm_v = norm_v};
    struct ds_view x = ds_decoder_begin(model, graph, part, rows, out);
    const struct ds_view inputs = inputs_of(model, graph, part, rows, x);
    for (uint32_t l = part->first; l < part->end; l++) {
        const struct ds_view own = c->per_layer ? ds_view_part(inputs, 0, inputs.rows, l * c->per_layer, c->per_layer) : inputs;
        x = ds_gemma_layer_build(graph, &context, &gemma->layers[l], l, &cache->layers[l], x, own);
        ds_decoder_layer_done(model, graph, out, l, x);
    }
    ds_decoder_finish(model, graph, part, rows, out, x);
}
