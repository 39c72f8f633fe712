#include "model/experts.h"

#include <stdio.h>

/* --- weights --- */

struct reader {
    const struct ds_naming *naming;
    struct ds_loader *loader;
    uint32_t layer, experts;
};

/* Rows [first, first + outputs) of every expert's part of a tensor [experts, all, cols]. */
static ds_status load_part(const struct reader *r, const struct ds_ckpt_tensor *tensor, uint32_t all, uint32_t first, uint32_t outputs, uint32_t cols,
                           struct ds_weight *out, struct ds_error *err) {
    struct ds_loader_piece pieces[DS_MOST_EXPERTS];
    for (uint32_t e = 0; e < r->experts; e++) pieces[e] = (struct ds_loader_piece){tensor, (uint64_t)e * all + first};
    return ds_loader_experts(r->loader, r->naming->ckpt, pieces, r->experts, outputs, cols, out, err);
}

/* One tensor of all experts. */
static ds_status load_whole(const struct reader *r, const char *hf, const char *gguf, uint32_t outputs, uint32_t cols, struct ds_weight *out,
                            struct ds_error *err) {
    const struct ds_ckpt_tensor *tensor;
    DS_TRY(ds_naming_tensor(r->naming, hf, gguf, r->layer, 3, (uint64_t[]){r->experts, outputs, cols}, &tensor, err));
    return load_part(r, tensor, outputs, 0, outputs, cols, out, err);
}

static ds_status load_joint(const struct reader *r, const char *hf, const char *gguf, uint32_t width, uint32_t cols, struct ds_experts *out,
                            struct ds_error *err) {
    const struct ds_ckpt_tensor *tensor;
    DS_TRY(ds_naming_tensor(r->naming, hf, gguf, r->layer, 3, (uint64_t[]){r->experts, 2 * width, cols}, &tensor, err));
    DS_TRY(load_part(r, tensor, 2 * width, 0, width, cols, &out->gate, err));
    return load_part(r, tensor, 2 * width, width, width, cols, &out->up, err);
}

/* A tensor for each expert. */
static ds_status load_each(const struct reader *r, const char *hf, uint32_t outputs, uint32_t cols, struct ds_weight *out, struct ds_error *err) {
    struct ds_loader_piece pieces[DS_MOST_EXPERTS];
    for (uint32_t e = 0; e < r->experts; e++) {
        char name[128];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(name, sizeof name, hf, r->layer, e);
#pragma GCC diagnostic pop
        pieces[e].first_row = 0;
        DS_TRY(ds_naming_tensor(r->naming, name, "", 0, 2, (uint64_t[]){outputs, cols}, &pieces[e].tensor, err));
    }
    return ds_loader_experts(r->loader, r->naming->ckpt, pieces, r->experts, outputs, cols, out, err);
}

ds_status ds_experts_load(struct ds_experts *experts, const struct ds_model_config *c, const struct ds_naming *naming,
                          const struct ds_expert_names *names, uint32_t layer, struct ds_loader *loader, struct ds_error *err) {
    static const char gate_up[] = "blk.%u.ffn_gate_up_exps.weight", gate[] = "blk.%u.ffn_gate_exps.weight", up[] = "blk.%u.ffn_up_exps.weight",
                      down[] = "blk.%u.ffn_down_exps.weight";
    const struct reader r = {naming, loader, layer, c->expert.experts};
    const uint32_t width = c->expert.feed_forward;
    DS_TRY(ds_naming_matrix(naming, loader, names->hf_router, names->gguf_router, layer, c->expert.experts, c->hidden, &experts->router, err));
    if (ds_ckpt_get_format(naming->ckpt) == DS_CKPT_GGUF) {
        DS_TRY(load_whole(&r, "", down, c->hidden, width, &experts->down, err));
        if (ds_naming_has(naming, "", gate_up, layer)) return load_joint(&r, "", gate_up, width, c->hidden, experts, err);
        DS_TRY(load_whole(&r, "", gate, width, c->hidden, &experts->gate, err));
        return load_whole(&r, "", up, width, c->hidden, &experts->up, err);
    }
    if (names->hf_gate_up && (!names->hf_gate || ds_naming_has(naming, names->hf_gate_up, "", layer))) {
        DS_TRY(load_joint(&r, names->hf_gate_up, "", width, c->hidden, experts, err));
        return load_whole(&r, names->hf_all_down, "", c->hidden, width, &experts->down, err);
    }
    DS_TRY(load_each(&r, names->hf_gate, width, c->hidden, &experts->gate, err));
    DS_TRY(load_each(&r, names->hf_up, width, c->hidden, &experts->up, err));
    return load_each(&r, names->hf_down, c->hidden, width, &experts->down, err);
}

/* --- the graph --- */

struct ds_view ds_experts_build(struct ds_graph *graph, const struct ds_model_config *c, const struct ds_experts *experts,
                                ds_activation activation, struct ds_view routed, struct ds_view x, struct ds_view residual) {
    const uint32_t n = c->expert.experts, slots = c->expert.slots, width = c->expert.feed_forward;
    const struct ds_view logits = ds_graph_linear(graph, &experts->router, routed, (struct ds_slice){0}, (struct ds_view){0});
    const struct ds_view ids = ds_graph_tensor(graph, DS_ELEM_I32, x.rows, slots), weights = ds_graph_tensor(graph, DS_ELEM_F32, x.rows, slots);
    ds_graph_append(graph, DS_OP_route, &(union ds_op_params){
        .route = {.logits = logits, .ids = ids, .weights = weights, .normalise = c->expert.normalise, .scale = experts->scale,
                  .count = ds_graph_get_count(graph)}});
    const struct ds_view gate = ds_graph_expert_linear(graph, &experts->gate, n, width, x, ids);
    const struct ds_view up = ds_graph_expert_linear(graph, &experts->up, n, width, x, ids);
    const struct ds_view out = ds_graph_expert_linear(graph, &experts->down, n, c->hidden, ds_graph_glu(graph, gate, up, activation), ids);
    const struct ds_view y = ds_graph_tensor(graph, DS_ELEM_F32, x.rows, c->hidden);
    ds_graph_append(graph, DS_OP_expert_sum, &(union ds_op_params){
        .expert_sum = {.x = out, .weights = weights, .y = y, .residual = residual, .count = ds_graph_get_count(graph)}});
    return y;
}
