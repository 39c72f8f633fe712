/* A mixture of experts: a router picks a few feed-forwards for each row. Shared by Qwen3-MoE and Gemma 4. */
#ifndef DSPARK_MODEL_EXPERTS_H
#define DSPARK_MODEL_EXPERTS_H

#include "model/layer.h"

struct ds_experts {
    struct ds_weight router;         /* [experts, hidden] */
    struct ds_weight gate, up, down; /* of all experts: ds_op_expert_linear */
    struct ds_slice scale;           /* f32[experts] that weights are multiplied by, or absent */
};

/* Names of the weights. Gate and up come as two tensors or as one with both (`gate_up`), of all experts at once or, hf_each, one by one. */
struct ds_expert_names {
    const char *hf_router, *gguf_router;
    const char *hf_gate, *hf_up, *hf_down; /* with %u for the layer and another for the expert */
    const char *hf_gate_up, *hf_all_down;  /* [experts, 2 * width, hidden], [experts, hidden, width], or NULL */
};
ds_status ds_experts_load(struct ds_experts *experts, const struct ds_model_config *config, const struct ds_naming *naming,
                          const struct ds_expert_names *names, uint32_t layer, struct ds_loader *loader, struct ds_error *err);

/* sum over the experts that the router picks for rows `routed` of weight * expert(x), plus the residual (may be absent). */
struct ds_view ds_experts_build(struct ds_graph *graph, const struct ds_model_config *config, const struct ds_experts *experts,
                                ds_activation activation, struct ds_view routed, struct ds_view x, struct ds_view residual);

#endif
