#include "model/gemma.h"
#include "ops/numerics.h"

#include <stdlib.h>

/* --- weights --- */

struct reader {
    const struct ds_naming *naming;
    struct ds_loader *loader;
    uint32_t layer;
    float offset; /* added to norms */
};

static ds_status matrix(const struct reader *r, const char *hf, const char *gguf, uint32_t rows, uint32_t cols, struct ds_weight *out,
                        struct ds_error *err) {
    return ds_naming_matrix(r->naming, r->loader, hf, gguf, r->layer, rows, cols, out, err);
}

static ds_status norm(const struct reader *r, const char *hf, const char *gguf, uint32_t n, struct ds_slice *out, struct ds_error *err) {
    const struct ds_ckpt_tensor *tensor;
    DS_TRY(ds_naming_tensor(r->naming, hf, gguf, r->layer, 1, (uint64_t[]){n}, &tensor, err));
    return ds_loader_vector_affine(r->loader, r->naming->ckpt, tensor, 1.0f, r->offset, out, err);
}

static ds_status load_norms(struct ds_gemma_layer *l, const struct ds_model_config *c, uint32_t head_dim, const struct reader *r, struct ds_error *err) {
    DS_TRY(norm(r, "layers.%u.input_layernorm.weight", "blk.%u.attn_norm.weight", c->hidden, &l->attn_norm, err));
    DS_TRY(norm(r, "layers.%u.post_attention_layernorm.weight", "blk.%u.post_attention_norm.weight", c->hidden, &l->attn_post_norm, err));
    DS_TRY(norm(r, "layers.%u.pre_feedforward_layernorm.weight", "blk.%u.ffn_norm.weight", c->hidden, &l->ffn_norm, err));
    DS_TRY(norm(r, "layers.%u.post_feedforward_layernorm.weight", "blk.%u.post_ffw_norm.weight", c->hidden, &l->ffn_post_norm, err));
    return norm(r, "layers.%u.self_attn.q_norm.weight", "blk.%u.attn_q_norm.weight", head_dim, &l->q_norm, err);
}

static ds_status load_attention(struct ds_gemma_layer *l, const struct ds_model_config *c, const struct ds_kv_shape *shape, const struct reader *r,
                                struct ds_error *err) {
    const uint32_t q = c->heads * shape->head_dim, kv = shape->kv_heads * shape->head_dim;
    const uint32_t inputs = c->attention_inputs ? c->attention_inputs : c->hidden;
    DS_TRY(matrix(r, "layers.%u.self_attn.q_proj.weight", "blk.%u.attn_q.weight", q, inputs, &l->q, err));
    DS_TRY(matrix(r, "layers.%u.self_attn.o_proj.weight", "blk.%u.attn_output.weight", c->hidden, q, &l->o, err));
    if (shape->source != r->layer) return DS_OK;
    DS_TRY(norm(r, "layers.%u.self_attn.k_norm.weight", "blk.%u.attn_k_norm.weight", shape->head_dim, &l->k_norm, err));
    DS_TRY(matrix(r, "layers.%u.self_attn.k_proj.weight", "blk.%u.attn_k.weight", kv, inputs, &l->k, err));
    if (c->k_eq_v && !ds_config_window(c, r->layer)) return DS_OK;
    return matrix(r, "layers.%u.self_attn.v_proj.weight", "blk.%u.attn_v.weight", kv, inputs, &l->v, err);
}

/* The stored factor of the layer's output, read now: it is a parameter of the graph. */
static ds_status load_scale(struct ds_gemma_layer *l, const struct reader *r, struct ds_error *err) {
    static const char hf[] = "layers.%u.layer_scalar", gguf[] = "blk.%u.layer_output_scale.weight";
    l->scaled = ds_naming_has(r->naming, hf, gguf, r->layer);
    if (!l->scaled) return DS_OK;
    const struct ds_ckpt_tensor *tensor;
    DS_TRY(ds_naming_tensor(r->naming, hf, gguf, r->layer, 1, (uint64_t[]){1}, &tensor, err));
    DS_TRY(ds_loader_scalar(r->loader, r->naming->ckpt, tensor, &l->scale, err));
    if (ds_is_finite(l->scale)) return DS_OK;
    return ds_fail(err, DS_ERROR_FORMAT, "%s: tensor '%s' is not finite", ds_ckpt_path(r->naming->ckpt), tensor->name);
}

static ds_status load_inputs(struct ds_gemma_layer *l, const struct ds_model_config *c, const struct reader *r, struct ds_error *err) {
    if (!c->per_layer) return DS_OK;
    DS_TRY(matrix(r, "layers.%u.per_layer_input_gate.weight", "blk.%u.inp_gate.weight", c->per_layer, c->hidden, &l->input_gate, err));
    DS_TRY(matrix(r, "layers.%u.per_layer_projection.weight", "blk.%u.proj.weight", c->hidden, c->per_layer, &l->input_projection, err));
    return norm(r, "layers.%u.post_per_layer_input_norm.weight", "blk.%u.post_norm.weight", c->hidden, &l->input_norm, err);
}

/* The router reads x normed without a weight, times a scale, over sqrt(hidden): one norm whose weight is scale / sqrt(hidden). */
static ds_status load_experts(struct ds_gemma_layer *l, const struct ds_model_config *c, const struct reader *r, struct ds_error *err) {
    static const struct ds_expert_names names = {.hf_router = "layers.%u.router.proj.weight", .gguf_router = "blk.%u.ffn_gate_inp.weight",
                                                 .hf_gate_up = "layers.%u.experts.gate_up_proj", .hf_all_down = "layers.%u.experts.down_proj"};
    if (!c->expert.experts) return DS_OK;
    DS_TRY(ds_experts_load(&l->experts, c, r->naming, &names, r->layer, r->loader, err));
    DS_TRY(ds_naming_vector(r->naming, r->loader, "layers.%u.router.per_expert_scale", "blk.%u.ffn_down_exps.scale", r->layer, c->expert.experts,
                            &l->experts.scale, err));
    const struct ds_ckpt_tensor *scale;
    DS_TRY(ds_naming_tensor(r->naming, "layers.%u.router.scale", "blk.%u.ffn_gate_inp.scale", r->layer, 1, (uint64_t[]){c->hidden}, &scale, err));
    DS_TRY(ds_loader_vector_affine(r->loader, r->naming->ckpt, scale, ds_div(1.0f, ds_sqrt((float)c->hidden)), 0.0f, &l->router_norm, err));
    DS_TRY(norm(r, "layers.%u.post_feedforward_layernorm_1.weight", "blk.%u.post_ffw_norm_1.weight", c->hidden, &l->dense_post_norm, err));
    DS_TRY(norm(r, "layers.%u.pre_feedforward_layernorm_2.weight", "blk.%u.pre_ffw_norm_2.weight", c->hidden, &l->expert_norm, err));
    return norm(r, "layers.%u.post_feedforward_layernorm_2.weight", "blk.%u.post_ffw_norm_2.weight", c->hidden, &l->expert_post_norm, err);
}

ds_status ds_gemma_layer_load(struct ds_gemma_layer *layer, const struct ds_model_config *c, const struct ds_naming *naming, uint32_t index,
                              bool zero_centred, struct ds_loader *loader, struct ds_error *err) {
    const struct reader r = {naming, loader, index, zero_centred ? 1.0f : 0.0f};
    const struct ds_kv_shape shape = ds_config_kv_shape(c, index);
    const uint32_t width = ds_config_feed_forward(c, index);
    DS_TRY(load_norms(layer, c, shape.head_dim, &r, err));
    DS_TRY(load_attention(layer, c, &shape, &r, err));
    DS_TRY(matrix(&r, "layers.%u.mlp.gate_proj.weight", "blk.%u.ffn_gate.weight", width, c->hidden, &layer->gate, err));
    DS_TRY(matrix(&r, "layers.%u.mlp.up_proj.weight", "blk.%u.ffn_up.weight", width, c->hidden, &layer->up, err));
    DS_TRY(matrix(&r, "layers.%u.mlp.down_proj.weight", "blk.%u.ffn_down.weight", c->hidden, width, &layer->down, err));
    DS_TRY(load_scale(layer, &r, err));
    DS_TRY(load_inputs(layer, c, &r, err));
    return load_experts(layer, c, &r, err);
}

/* --- the graph --- */

static const struct ds_slice none;
static const struct ds_view no_view;

static void rotate(struct ds_graph *graph, const struct ds_gemma_context *context, bool local, struct ds_view x, uint32_t head_dim) {
    const struct ds_model_config *c = context->config;
    ds_graph_append(graph, DS_OP_rope, &(union ds_op_params){
        .rope = {.x = x, .head_dim = head_dim, .n_rot = local ? c->local_rope.n_rot : c->rope.n_rot, .neox = true,
                 .cos = local ? context->local_cos : context->rope_cos, .sin = local ? context->local_sin : context->rope_sin,
                 .table_positions = context->rope_positions, .positions = context->rows->positions, .count = context->rows->count}});
}

/* Keys and values of rows x, and their queries if there are any, normed, rotated, stored. */
static void store_heads(struct ds_graph *graph, const struct ds_gemma_context *context, const struct ds_gemma_layer *layer, uint32_t index,
                        const struct ds_kv *kv, struct ds_view q, struct ds_view x) {
    const struct ds_model_config *c = context->config;
    const struct ds_kv_shape shape = ds_config_kv_shape(c, index);
    const bool local = ds_config_window(c, index) > 0;
    const struct ds_view k = ds_graph_linear(graph, &layer->k, x, none, no_view);
    struct ds_view v = layer->v.at.buffer ? ds_graph_linear(graph, &layer->v, x, none, no_view) : k;
    if (context->norm_v) {
        v = ds_graph_rms_norm(graph, v, shape.head_dim, none, c->rms_eps);
    } else if (!layer->v.at.buffer) { /* the projection as it is, which the key's norm would overwrite */
        v = ds_graph_tensor(graph, DS_ELEM_F32, k.rows, k.cols);
        ds_graph_copy(graph, k, none, v);
    }
    ds_graph_heads(graph, &(struct ds_op_heads){
        .q = q, .k = k, .v = v, .q_norm = q.at.buffer ? layer->q_norm : none, .k_norm = layer->k_norm, .eps = c->rms_eps,
        .n_rot = local ? c->local_rope.n_rot : c->rope.n_rot, .neox = true, .cos = local ? context->local_cos : context->rope_cos,
        .sin = local ? context->local_sin : context->rope_sin, .table_positions = context->rope_positions, .kv = *kv,
        .paging = ds_rows_paging(context->rows), .count = context->rows->count});
}

void ds_gemma_layer_store(struct ds_graph *graph, const struct ds_gemma_context *context, const struct ds_gemma_layer *layer,
                          uint32_t index, const struct ds_kv *kv, struct ds_view x) {
    store_heads(graph, context, layer, index, kv, no_view, x);
}

static struct ds_view attend(struct ds_graph *graph, const struct ds_gemma_context *context, const struct ds_gemma_layer *layer, uint32_t index,
                             const struct ds_kv *kv, struct ds_view x) {
    const struct ds_model_config *c = context->config;
    const uint32_t window = ds_config_window(c, index), head_dim = kv->head_dim;
    struct ds_view q = ds_graph_linear(graph, &layer->q, x, none, no_view);
    if (layer->k.at.buffer) {
        store_heads(graph, context, layer, index, kv, q, x);
    } else { /* keys and values are an earlier layer's */
        q = ds_graph_rms_norm(graph, q, head_dim, layer->q_norm, c->rms_eps);
        rotate(graph, context, window > 0, q, head_dim);
    }
    const struct ds_view out = ds_graph_tensor(graph, DS_ELEM_F32, x.rows, q.cols);
    const float scale = c->attention_scale != 0 ? c->attention_scale : ds_div(1.0f, ds_sqrt((float)head_dim));
    ds_graph_append(graph, DS_OP_attention, &(union ds_op_params){
        .attention = {.q = q, .out = out, .heads = c->heads, .kv = *kv, .paging = ds_rows_paging(context->rows), .visible = context->rows->visible,
                      .window = window, .scale = scale, .softcap = c->attention_softcap, .count = context->rows->count}});
    return out;
}

static struct ds_view feed_forward(struct ds_graph *graph, const struct ds_gemma_context *context, const struct ds_gemma_layer *layer,
                                   struct ds_view x) {
    const struct ds_model_config *c = context->config;
    const struct ds_view h = ds_graph_rms_norm(graph, x, c->hidden, layer->ffn_norm, c->rms_eps);
    const struct ds_view gate = ds_graph_linear(graph, &layer->gate, h, none, no_view), up = ds_graph_linear(graph, &layer->up, h, none, no_view);
    const struct ds_view dense = ds_graph_linear(graph, &layer->down, ds_graph_glu(graph, gate, up, DS_ACT_GELU_TANH), none, no_view);
    if (!c->expert.experts) return dense;

    /* Both read x; each has norms of its own, and their sum goes on. */
    const struct ds_view first = ds_graph_rms_norm(graph, dense, c->hidden, layer->dense_post_norm, c->rms_eps);
    const struct ds_view routed = ds_graph_rms_norm(graph, x, c->hidden, layer->router_norm, c->rms_eps);
    const struct ds_view input = ds_graph_rms_norm(graph, x, c->hidden, layer->expert_norm, c->rms_eps);
    const struct ds_view mixed = ds_experts_build(graph, c, &layer->experts, DS_ACT_GELU_TANH, routed, input, no_view);
    return ds_graph_rms_norm_add(graph, mixed, c->hidden, layer->expert_post_norm, c->rms_eps, first);
}

/* x + norm(projection(gelu(gate(x)) * inputs)) */
static struct ds_view add_inputs(struct ds_graph *graph, const struct ds_model_config *c, const struct ds_gemma_layer *layer, struct ds_view x,
                                 struct ds_view inputs) {
    const struct ds_view gate = ds_graph_linear(graph, &layer->input_gate, x, none, no_view);
    const struct ds_view gated = ds_graph_glu(graph, gate, inputs, DS_ACT_GELU_TANH);
    const struct ds_view projected = ds_graph_linear(graph, &layer->input_projection, gated, none, no_view);
    return ds_graph_rms_norm_add(graph, projected, c->hidden, layer->input_norm, c->rms_eps, x);
}

struct ds_view ds_gemma_layer_build(struct ds_graph *graph, const struct ds_gemma_context *context, const struct ds_gemma_layer *layer,
                                    uint32_t index, const struct ds_kv *kv, struct ds_view x, struct ds_view inputs) {
    const struct ds_model_config *c = context->config;
    const struct ds_view normed = ds_graph_rms_norm(graph, x, c->hidden, layer->attn_norm, c->rms_eps);
    return ds_gemma_layer_build_from(graph, context, layer, index, kv, normed, x, inputs);
}

struct ds_view ds_gemma_layer_build_from(struct ds_graph *graph, const struct ds_gemma_context *context, const struct ds_gemma_layer *layer,
                                         uint32_t index, const struct ds_kv *kv, struct ds_view normed, struct ds_view residual, struct ds_view inputs) {
    const struct ds_model_config *c = context->config;
    const struct ds_view attended = ds_graph_linear(graph, &layer->o, attend(graph, context, layer, index, kv, normed), none, no_view);
    struct ds_view x = ds_graph_rms_norm_add(graph, attended, c->hidden, layer->attn_post_norm, c->rms_eps, residual);
    x = ds_graph_rms_norm_add(graph, feed_forward(graph, context, layer, x), c->hidden, layer->ffn_post_norm, c->rms_eps, x);
    if (inputs.at.buffer) x = add_inputs(graph, c, layer, x, inputs);
    if (layer->scaled) ds_graph_scale(graph, x, layer->scale, 0);
    return x;
}
