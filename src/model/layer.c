#include "model/layer.h"
#include "ops/numerics.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

void ds_layer_tensors(const struct ds_model_config *c, struct ds_layer_tensor out[DS_LAYER_TENSORS]) {
    const uint32_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
#define AT(member) offsetof(struct ds_layer, member)
    const struct ds_layer_tensor tensors[DS_LAYER_TENSORS] = {
        {"layers.%u.input_layernorm.weight", "blk.%u.attn_norm.weight", 0, c->hidden, AT(attn_norm)},
        {"layers.%u.self_attn.q_norm.weight", "blk.%u.attn_q_norm.weight", 0, c->head_dim, AT(q_norm)},
        {"layers.%u.self_attn.k_norm.weight", "blk.%u.attn_k_norm.weight", 0, c->head_dim, AT(k_norm)},
        {"layers.%u.post_attention_layernorm.weight", "blk.%u.ffn_norm.weight", 0, c->hidden, AT(ffn_norm)},
        {"layers.%u.self_attn.q_proj.weight", "blk.%u.attn_q.weight", q, c->hidden, AT(q)},
        {"layers.%u.self_attn.k_proj.weight", "blk.%u.attn_k.weight", kv, c->hidden, AT(k)},
        {"layers.%u.self_attn.v_proj.weight", "blk.%u.attn_v.weight", kv, c->hidden, AT(v)},
        {"layers.%u.self_attn.o_proj.weight", "blk.%u.attn_output.weight", c->hidden, q, AT(o)},
        {"layers.%u.mlp.gate_proj.weight", "blk.%u.ffn_gate.weight", c->feed_forward, c->hidden, AT(gate)},
        {"layers.%u.mlp.up_proj.weight", "blk.%u.ffn_up.weight", c->feed_forward, c->hidden, AT(up)},
        {"layers.%u.mlp.down_proj.weight", "blk.%u.ffn_down.weight", c->hidden, c->feed_forward, AT(down)},
    };
#undef AT
    memcpy(out, tensors, sizeof tensors);
}

ds_status ds_layer_load(struct ds_layer *layer, const struct ds_model_config *c, const struct ds_naming *naming, uint32_t index,
                        struct ds_loader *loader, struct ds_error *err) {
    struct ds_layer_tensor tensors[DS_LAYER_TENSORS];
    ds_layer_tensors(c, tensors);
    for (size_t i = 0; i < DS_LAYER_TENSORS; i++) {
        const struct ds_layer_tensor *t = &tensors[i];
        void *const out = (char *)layer + t->offset;
        if (t->rows) DS_TRY(ds_naming_matrix(naming, loader, t->hf, t->gguf, index, t->rows, t->cols, out, err));
        else DS_TRY(ds_naming_vector(naming, loader, t->hf, t->gguf, index, t->cols, out, err));
    }
    return DS_OK;
}

static void rotate(struct ds_graph *graph, const struct ds_layer_context *context, struct ds_view x, struct ds_slice count) {
    const struct ds_model_config *c = context->config;
    ds_graph_append(graph, DS_OP_rope, &(union ds_op_params){
        .rope = {.x = x, .head_dim = c->head_dim, .n_rot = c->rope.n_rot, .neox = true, .cos = context->rope_cos,
                 .sin = context->rope_sin, .table_positions = context->rope_positions, .positions = context->rows->positions,
                 .count = count}});
}

void ds_layer_store(struct ds_graph *graph, const struct ds_layer_context *context, const struct ds_layer *layer,
                    const struct ds_kv *kv, struct ds_view x) {
    const struct ds_model_config *c = context->config;
    const struct ds_slice none = {0};
    const struct ds_view no_view = {0};
    struct ds_view k = ds_graph_linear(graph, &layer->k, x, none, no_view);
    const struct ds_view v = ds_graph_linear(graph, &layer->v, x, none, no_view);
    k = ds_graph_rms_norm(graph, k, c->head_dim, layer->k_norm, c->rms_eps);
    rotate(graph, context, k, context->rows->count);
    ds_graph_append(graph, DS_OP_kv_store, &(union ds_op_params){
        .kv_store = {.k = k, .v = v, .kv = *kv, .paging = ds_rows_paging(context->rows), .count = context->rows->count}});
}

static struct ds_view attend(struct ds_graph *graph, const struct ds_layer_context *context, const struct ds_layer *layer,
                             const struct ds_kv *kv, struct ds_view x) {
    const struct ds_model_config *c = context->config;
    const struct ds_slice none = {0};
    struct ds_view q = ds_graph_linear(graph, &layer->q, x, none, (struct ds_view){0});
    ds_layer_store(graph, context, layer, kv, x);
    q = ds_graph_rms_norm(graph, q, c->head_dim, layer->q_norm, c->rms_eps);
    rotate(graph, context, q, context->rows->count);
    const struct ds_view out = ds_graph_tensor(graph, DS_ELEM_F32, x.rows, q.cols);
    ds_graph_append(graph, DS_OP_attention, &(union ds_op_params){
        .attention = {.q = q, .out = out, .heads = c->heads, .kv = *kv, .paging = ds_rows_paging(context->rows),
                      .visible = context->rows->visible, .scale = ds_div(1.0f, ds_sqrt((float)c->head_dim)), .count = context->rows->count}});
    return out;
}

struct ds_view ds_layer_build(struct ds_graph *graph, const struct ds_layer_context *context, const struct ds_layer *layer,
                              const struct ds_kv *kv, struct ds_view x) {
    const struct ds_model_config *c = context->config;
    const struct ds_slice none = {0};
    const struct ds_view no_view = {0};
    const struct ds_view normed = ds_graph_rms_norm(graph, x, c->hidden, layer->attn_norm, c->rms_eps);
    const struct ds_view attended = attend(graph, context, layer, kv, normed);
    x = ds_graph_linear(graph, &layer->o, attended, none, x);
    const struct ds_view h = ds_graph_rms_norm(graph, x, c->hidden, layer->ffn_norm, c->rms_eps);
    const struct ds_view gate = ds_graph_linear(graph, &layer->gate, h, none, no_view);
    const struct ds_view up = ds_graph_linear(graph, &layer->up, h, none, no_view);
    return ds_graph_linear(graph, &layer->down, ds_graph_glu(graph, gate, up, DS_ACT_SILU), none, x);
}

ds_status ds_rope_load(const struct ds_rope_config *rope, uint32_t positions, struct ds_loader *loader, struct ds_slice *cos,
                       struct ds_slice *sin, struct ds_error *err) {
    const uint64_t count = (uint64_t)positions * (rope->n_rot / 2);
    float *tables = malloc((size_t)(2 * count) * sizeof *tables);
    if (!tables) return ds_fail_memory(err, (size_t)(2 * count) * sizeof *tables, "rope tables");
    ds_rope_table(rope, 0, positions, tables, tables + count);
    ds_status status = ds_loader_constant(loader, tables, count, cos, err);
    if (status == DS_OK) status = ds_loader_constant(loader, tables + count, count, sin, err);
    free(tables);
    return status;
}
