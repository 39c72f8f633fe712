/* The ops that models are made of. */
#include "graph/graph_internal.h"

void ds_graph_embed_into(struct ds_graph *graph, const struct ds_weight *table, struct ds_slice ids, float scale, struct ds_view out) {
    ds_graph_append(graph, DS_OP_embed, &(union ds_op_params){
        .embed = {.table = *table, .ids = ids, .out = out, .scale = scale, .count = graph->count}});
}

struct ds_view ds_graph_embed(struct ds_graph *graph, const struct ds_weight *table, struct ds_slice ids, uint32_t rows, float scale) {
    const struct ds_view out = ds_graph_tensor(graph, DS_ELEM_F32, rows, table->cols);
    ds_graph_embed_into(graph, table, ids, scale, out);
    return out;
}

struct ds_view ds_graph_rms_norm(struct ds_graph *graph, struct ds_view x, uint32_t dim, struct ds_slice weight, float eps) {
    return ds_graph_rms_norm_add(graph, x, dim, weight, eps, (struct ds_view){0});
}

struct ds_view ds_graph_rms_norm_add(struct ds_graph *graph, struct ds_view x, uint32_t dim, struct ds_slice weight, float eps,
                                     struct ds_view residual) {
    const struct ds_view out = ds_graph_tensor(graph, DS_ELEM_F32, x.rows, x.cols);
    ds_graph_append(graph, DS_OP_rms_norm, &(union ds_op_params){
        .rms_norm = {.x = x, .out = out, .dim = dim, .weight = weight, .eps = eps, .residual = residual, .count = graph->count}});
    return out;
}

void ds_graph_linear_into(struct ds_graph *graph, const struct ds_weight *weight, struct ds_view x, struct ds_slice bias,
                          struct ds_view residual, struct ds_view y) {
    const struct ds_view input = ds_graph_quantized(graph, x, ds_linear_input(weight->type), 1);
    ds_graph_append(graph, DS_OP_linear, &(union ds_op_params){
        .linear = {.weight = *weight, .x = input, .y = y, .bias = bias, .residual = residual, .count = graph->count}});
}

struct ds_view ds_graph_linear(struct ds_graph *graph, const struct ds_weight *weight, struct ds_view x, struct ds_slice bias,
                               struct ds_view residual) {
    const struct ds_view y = ds_graph_tensor(graph, DS_ELEM_F32, x.rows, weight->rows);
    ds_graph_linear_into(graph, weight, x, bias, residual, y);
    return y;
}

struct ds_view ds_graph_top_linear(struct ds_graph *graph, const struct ds_weight *weight, struct ds_view x, struct ds_view residual, uint32_t top,
                                   float fill) {
    const struct ds_view y = ds_graph_tensor(graph, DS_ELEM_F32, x.rows, weight->rows), input = ds_graph_quantized(graph, x, ds_linear_input(weight->type), 1);
    ds_graph_append(graph, DS_OP_top_linear, &(union ds_op_params){
        .top_linear = {.weight = *weight, .x = input, .residual = residual, .y = y, .top = top, .fill = fill, .count = graph->count}});
    return y;
}

void ds_graph_heads(struct ds_graph *graph, const struct ds_op_heads *heads) {
    const union ds_op_params params = {.heads = *heads};
    if (ds_graph_has_op(graph, DS_OP_heads, &params)) {
        ds_graph_append(graph, DS_OP_heads, &params);
        return;
    }
    ds_op ops[DS_MOST_PARTS];
    union ds_op_params parts[DS_MOST_PARTS];
    const uint32_t n = ds_op_parts(DS_OP_heads, &params, ops, parts);
    for (uint32_t i = 0; i < n; i++) ds_graph_append(graph, ops[i], &parts[i]);
}

struct ds_view ds_graph_glu(struct ds_graph *graph, struct ds_view gate, struct ds_view up, ds_activation activation) {
    const struct ds_view out = ds_graph_tensor(graph, DS_ELEM_F32, gate.rows, gate.cols);
    ds_graph_append(graph, DS_OP_glu, &(union ds_op_params){
        .glu = {.gate = gate, .up = up, .out = out, .activation = activation, .count = graph->count}});
    return out;
}

void ds_graph_scale(struct ds_graph *graph, struct ds_view x, float scale, float softcap) {
    ds_graph_append(graph, DS_OP_scale, &(union ds_op_params){
        .scale = {.x = x, .out = x, .scale = scale, .softcap = softcap, .count = graph->count}});
}

struct ds_view ds_graph_expert_linear(struct ds_graph *graph, const struct ds_weight *weight, uint32_t experts, uint32_t outputs,
                                      struct ds_view x, struct ds_view ids) {
    const struct ds_view input = ds_graph_quantized(graph, x, ds_linear_input(weight->type), x.cols / weight->cols);
    const struct ds_view y = ds_graph_tensor(graph, DS_ELEM_F32, ids.rows, ids.cols * outputs);
    ds_graph_append(graph, DS_OP_expert_linear, &(union ds_op_params){
        .expert_linear = {.weight = *weight, .experts = experts, .outputs = outputs, .x = input, .ids = ids, .y = y, .count = graph->count}});
    return y;
}

void ds_graph_copy(struct ds_graph *graph, struct ds_view x, struct ds_slice index, struct ds_view out) {
    ds_graph_append(graph, DS_OP_copy, &(union ds_op_params){.copy = {.x = x, .out = out, .index = index, .count = graph->count}});
}
