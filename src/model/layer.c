#include "model/layer.h"
#include "ops/numerics.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

uint32_t ds_layer_tensors(const struct ds_model_config *c, struct ds_layer_tensor out[DS_LAYER_TENSORS]) {
    const uint32_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim, inputs = c->attention_inputs ? c->attention_inputs : c->hidden;
#define AT(member) offsetof(struct ds_layer, member)
    const struct {
        bool present;
        struct ds_layer_tensor tensor;
    } all[DS_LAYER_TENSORS] = {
        {true, {"layers.%u.input_layernorm.weight", "blk.%u.attn_norm.weight", 0, c->hidden, AT(attn_norm)}},
        {c->qk_norm, {"layers.%u.self_attn.q_norm.weight", "blk.%u.attn_q_norm.weight", 0, c->head_dim, AT(q_norm)}},
        {c->qk_norm, {"layers.%u.self_attn.k_norm.weight", "blk.%u.attn_k_norm.weight", 0, c->head_dim, AT(k_norm)}},
        {true, {"layers.%u.post_attention_layernorm.weight", "blk.%u.ffn_norm.weight", 0, c->hidden, AT(ffn_norm)}},
        {true, {"layers.%u.self_attn.q_proj.weight", "blk.%u.attn_q.weight", q, inputs, AT(q)}},
        {true, {"layers.%u.self_attn.k_proj.weight", "blk.%u.attn_k.weight", kv, inputs, AT(k)}},
        {true, {"layers.%u.self_attn.v_proj.weight", "blk.%u.attn_v.weight", kv, inputs, AT(v)}},
        {true, {"layers.%u.self_attn.o_proj.weight", "blk.%u.attn_output.weight", c->hidden, q, AT(o)}},
        {true, {"layers.%u.mlp.gate_proj.weight", "blk.%u.ffn_gate.weight", c->feed_forward, c->hidden, AT(gate)}},
        {true, {"layers.%u.mlp.up_proj.weight", "blk.%u.ffn_up.weight", c->feed_forward, c->hidden, AT(up)}},
        {true, {"layers.%u.mlp.down_proj.weight", "blk.%u.ffn_down.weight", c->hidden, c->feed_forward, AT(down)}},
        {c->qkv_bias, {"layers.%u.self_attn.q_proj.bias", "blk.%u.attn_q.bias", 0, q, AT(q_bias)}},
        {c->qkv_bias, {"layers.%u.self_attn.k_proj.bias", "blk.%u.attn_k.bias", 0, kv, AT(k_bias)}},
        {c->qkv_bias, {"layers.%u.self_attn.v_proj.bias", "blk.%u.attn_v.bias", 0, kv, AT(v_bias)}},
        {c->o_bias, {"layers.%u.self_attn.o_proj.bias", "blk.%u.attn_output.bias", 0, c->hidden, AT(o_bias)}},
        {c->mlp_bias, {"layers.%u.mlp.gate_proj.bias", "blk.%u.ffn_gate.bias", 0, c->feed_forward, AT(gate_bias)}},
        {c->mlp_bias, {"layers.%u.mlp.up_proj.bias", "blk.%u.ffn_up.bias", 0, c->feed_forward, AT(up_bias)}},
        {c->mlp_bias, {"layers.%u.mlp.down_proj.bias", "blk.%u.ffn_down.bias", 0, c->hidden, AT(down_bias)}},
    };
#undef AT
    uint32_t n = 0;
    for (size_t i = 0; i < DS_LAYER_TENSORS; i++)
        if (all[i].present) out[n++] = all[i].tensor;
    return n;
}

static ds_status load_tensors(struct ds_layer *layer, const struct ds_model_config *c, const struct ds_naming *naming, uint32_t index,
                              bool dense, struct ds_loader *loader, struct ds_error *err) {
    struct ds_layer_tensor tensors[DS_LAYER_TENSORS];
    const uint32_t n = ds_layer_tensors(c, tensors);
    layer->window = ds_config_window(c, index);
    for (uint32_t i = 0; i < n; i++) {
        const struct ds_layer_tensor *t = &tensors[i];
        void *const out = (char *)layer + t->offset;
        if (!dense && (strstr(t->hf, ".mlp.") != NULL)) continue;
        if (t->rows) DS_TRY(ds_naming_matrix(naming, loader, t->hf, t->gguf, index, t->rows, t->cols, out, err));
        else DS_TRY(ds_naming_vector(naming, loader, t->hf, t->gguf, index, t->cols, out, err));
    }
    return DS_OK;
}

ds_status ds_layer_load(struct ds_layer *layer, const struct ds_model_config *c, const struct ds_naming *naming, uint32_t index,
                        struct ds_loader *loader, struct ds_error *err) {
    return load_tensors(layer, c, naming, index, true, loader, err);
}

ds_status ds_layer_load_attention(struct ds_layer *layer, const struct ds_model_config *c, const struct ds_naming *naming, uint32_t index,
                                  struct ds_loader *loader, struct ds_error *err) {
    return load_tensors(layer, c, naming, index, false, loader, err);
}

/* Norms, rope and storing of the projected rows; q absent: of keys and values only. */
static void store_heads(struct ds_graph *graph, const struct ds_layer_context *context, const struct ds_layer *layer, const struct ds_kv *kv,
                        struct ds_view q, struct ds_view k, struct ds_view v) {
    const struct ds_model_config *c = context->config;
    const struct ds_slice none = {0};
    ds_graph_heads(graph, &(struct ds_op_heads){
        .q = q, .k = k, .v = v, .q_norm = c->qk_norm && q.at.buffer ? layer->q_norm : none, .k_norm = c->qk_norm ? layer->k_norm : none,
        .eps = c->rms_eps, .n_rot = c->rope.n_rot, .neox = !c->interleaved, .cos = context->rope_cos, .sin = context->rope_sin,
        .table_positions = context->rope_positions, .kv = *kv, .paging = ds_rows_paging(context->rows), .count = context->rows->count});
}

void ds_layer_store(struct ds_graph *graph, const struct ds_layer_context *context, const struct ds_layer *layer,
                    const struct ds_kv *kv, struct ds_view x) {
    const struct ds_view no_view = {0};
    const struct ds_view k = ds_graph_linear(graph, &layer->k, x, layer->k_bias, no_view);
    const struct ds_view v = ds_graph_linear(graph, &layer->v, x, layer->v_bias, no_view);
    store_heads(graph, context, layer, kv, no_view, k, v);
}

struct ds_view ds_layer_attend(struct ds_graph *graph, const struct ds_layer_context *context, const struct ds_layer *layer,
                               const struct ds_kv *kv, struct ds_view x) {
    const struct ds_model_config *c = context->config;
    const struct ds_view no_view = {0};
    const struct ds_view q = ds_graph_linear(graph, &layer->q, x, layer->q_bias, no_view);
    const struct ds_view k = ds_graph_linear(graph, &layer->k, x, layer->k_bias, no_view);
    const struct ds_view v = ds_graph_linear(graph, &layer->v, x, layer->v_bias, no_view);
    store_heads(graph, context, layer, kv, q, k, v);
    const struct ds_view out = ds_graph_tensor(graph, DS_ELEM_F32, x.rows, q.cols);
    ds_graph_append(graph, DS_OP_attention, &(union ds_op_params){
        .attention = {.q = q, .out = out, .heads = c->heads, .kv = *kv, .paging = ds_rows_paging(context->rows),
                      .visible = context->rows->visible, .window = layer->window, .scale = ds_div(1.0f, ds_sqrt((float)c->head_dim)), .count = context->rows->count}});
    return out;
}

struct ds_view ds_layer_attention(struct ds_graph *graph, const struct ds_layer_context *context, const struct ds_layer *layer,
                                  const struct ds_kv *kv, struct ds_view x) {
    const struct ds_model_config *c = context->config;
    const struct ds_view normed = ds_graph_rms_norm(graph, x, c->hidden, layer->attn_norm, c->rms_eps);
    return ds_graph_linear(graph, &layer->o, ds_layer_attend(graph, context, layer, kv, normed), layer->o_bias, x);
}

struct ds_view ds_layer_feed_forward(struct ds_graph *graph, const struct ds_layer_context *context, const struct ds_layer *layer,
                                     struct ds_view x) {
    const struct ds_model_config *c = context->config;
    const struct ds_view no_view = {0};
    const struct ds_view h = ds_graph_rms_norm(graph, x, c->hidden, layer->ffn_norm, c->rms_eps);
    const struct ds_view gate = ds_graph_linear(graph, &layer->gate, h, layer->gate_bias, no_view);
    const struct ds_view up = ds_graph_linear(graph, &layer->up, h, layer->up_bias, no_view);
    return ds_graph_linear(graph, &layer->down, ds_graph_glu(graph, gate, up, DS_ACT_SILU), layer->down_bias, x);
}

struct ds_view ds_layer_build(struct ds_graph *graph, const struct ds_layer_context *context, const struct ds_layer *layer,
                              const struct ds_kv *kv, struct ds_view x) {
    return ds_layer_feed_forward(graph, context, layer, ds_layer_attention(graph, context, layer, kv, x));
}

/* `factors`: f32[n_rot / 2] that frequencies are divided by, or NULL. */
static ds_status load_tables(const struct ds_rope_config *rope, const float *factors, uint32_t positions, struct ds_loader *loader,
                             struct ds_slice *cos, struct ds_slice *sin, struct ds_error *err) {
    const uint32_t pairs = rope->n_rot / 2;
    const uint64_t count = (uint64_t)positions * pairs;
    float *tables = malloc((size_t)(2 * count + pairs) * sizeof *tables);
    if (!tables) return ds_fail_memory(err, (size_t)(2 * count + pairs) * sizeof *tables, "rope tables");
    float *inv_freq = tables + 2 * count, scale;
    ds_rope_inv_freq(rope, inv_freq, &scale);
    for (uint32_t i = 0; i < pairs && factors; i++) inv_freq[i] = inv_freq[i] / factors[i];
    ds_rope_table_from(inv_freq, pairs, scale, 0, positions, tables, tables + count);
    ds_status status = ds_loader_constant(loader, tables, count, cos, err);
    if (status == DS_OK) status = ds_loader_constant(loader, tables + count, count, sin, err);
    free(tables);
    return status;
}

ds_status ds_rope_load(const struct ds_rope_config *rope, uint32_t positions, struct ds_loader *loader, struct ds_slice *cos,
                       struct ds_slice *sin, struct ds_error *err) {
    return load_tables(rope, NULL, positions, loader, cos, sin, err);
}

ds_status ds_rope_load_from(const struct ds_ckpt *ckpt, const struct ds_rope_config *rope, uint32_t positions, struct ds_loader *loader,
                            struct ds_slice *cos, struct ds_slice *sin, struct ds_error *err) {
    static const char name[] = "rope_freqs.weight";
    const struct ds_ckpt_tensor *tensor = ds_ckpt_get_format(ckpt) == DS_CKPT_GGUF ? ds_ckpt_find(ckpt, name) : NULL;
    if (!tensor) return ds_rope_load(rope, positions, loader, cos, sin, err);
    const uint32_t pairs = rope->n_rot / 2;
    DS_TRY(ds_ckpt_require(ckpt, name, 1, (uint64_t[]){pairs}, &tensor, err));
    if (tensor->type != DS_TYPE_F32)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor '%s' is %s; expected f32", ds_ckpt_path(ckpt), name, ds_type_get(tensor->type)->name);
    float *factors = malloc(pairs * sizeof *factors);
    if (!factors) return ds_fail_memory(err, pairs * sizeof *factors, "rope factors");
    memcpy(factors, tensor->data, pairs * sizeof *factors);
    ds_status status = DS_OK;
    for (uint32_t i = 0; i < pairs && status == DS_OK; i++)
        if (!(factors[i] >= 1e-6f) || !(factors[i] <= 3e38f))
            status = ds_fail(err, DS_ERROR_FORMAT, "%s: tensor '%s' holds %g; expected factors that are positive and finite", ds_ckpt_path(ckpt), name,
                             (double)factors[i]);
    if (status == DS_OK) status = load_tables(rope, factors, positions, loader, cos, sin, err);
    free(factors);
    return status;
}
