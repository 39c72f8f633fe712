/*
 * A target's tensors. From a GGUF file they keep their names and shapes. From a folder they get GGUF's names, layer by layer; experts become one
 * matrix a kind, and what GGUF keeps otherwise than Hugging Face's files is changed: q and k of `llama`, the norms of Gemma 3.
 */
#include "base/quote.h"
#include "convert/convert_internal.h"
#include "model/decoder.h"
#include "model/experts.h"

#include <stdio.h>
#include <string.h>

/* --- understood? --- */

/* What loading checks, without reading a weight: every tensor's shape, and that none is left over. */
static ds_status check_loadable(struct ds_conversion *c, struct ds_error *err) {
    struct ds_device *device;
    struct ds_loader *loader = NULL;
    DS_TRY(ds_device_create("ref", &(struct ds_device_params){.threads = 1, .log = c->log}, &device, err));
    ds_status status = ds_loader_create(device, true, &loader, err);
    if (status == DS_OK) status = ds_model_load(c->model, loader, 1, err);
    ds_loader_destroy(loader);
    ds_device_destroy(device);
    return status;
}

static bool is_used(const struct ds_plan_item *item, const struct ds_ckpt_tensor *tensor) {
    if (item->source == tensor) return true;
    for (uint64_t i = 0; item->pieces && i < item->shape[0]; i++)
        if (item->pieces[i].tensor == tensor) return true;
    return false;
}

/* Every tensor that loading asked for has a name in GGUF. */
static ds_status check_complete(const struct ds_conversion *c, struct ds_error *err) {
    for (size_t i = 0, used; i < ds_ckpt_tensor_count(c->source); i++) {
        const struct ds_ckpt_tensor *tensor = ds_ckpt_tensor_at(c->source, i);
        for (used = 0; used < c->n_items && !is_used(&c->items[used], tensor); used++) continue;
        if (used < c->n_items || ds_model_is_spare(tensor->name)) continue;
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor '%s' of a %s model has no name in GGUF that is known here; leaving it out would change the model",
                       ds_ckpt_path(c->source), ds_quote_name(tensor->name).text, c->arch);
    }
    return DS_OK;
}

/* --- one tensor --- */

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
static void name_of(char *out, size_t size, const char *pattern, uint32_t layer, uint32_t expert) { snprintf(out, size, pattern, layer, expert); }
#pragma GCC diagnostic pop

/* Absent ones are left out: loading has seen that all are there that must be. */
static ds_status add_if_there(struct ds_conversion *c, const struct ds_naming *naming, const struct ds_name_rule *rule, uint32_t layer,
                              struct ds_plan_item **out, struct ds_error *err) {
    const struct ds_ckpt_tensor *tensor = ds_naming_find(naming, rule->hf, rule->gguf, layer);
    *out = NULL;
    if (!tensor) return DS_OK;
    char name[64], hf[96];
    name_of(name, sizeof name, rule->gguf, layer, 0);
    name_of(hf, sizeof hf, rule->hf, layer, 0);
    return ds_convert_add(c, c->source, tensor, name, hf, out, err);
}

static bool is_llama(const struct ds_conversion *c) { return strcmp(c->arch, "llama") == 0; }
static bool is_gemma3(const struct ds_conversion *c) { return strcmp(c->arch, "gemma3") == 0; }
static bool is_gemma(const struct ds_conversion *c) { return is_gemma3(c) || strcmp(c->arch, "gemma4") == 0; }

static ds_status add_rule(struct ds_conversion *c, const struct ds_naming *naming, const struct ds_name_rule *rule, uint32_t layer, struct ds_error *err) {
    struct ds_plan_item *item;
    DS_TRY(add_if_there(c, naming, rule, layer, &item, err));
    if (!item) return DS_OK;
    if (rule->kind == DS_RULE_NORM && is_gemma3(c)) item->shift = 1.0f; /* Hugging Face's files keep norms less 1 */
    if (rule->kind != DS_RULE_ROTATED || !is_llama(c)) return DS_OK;
    item->order = DS_ROWS_PAIRED;
    item->head_rows = c->config->head_dim;
    return DS_OK;
}

/* --- experts of Qwen3-MoE: a matrix [experts, rows, cols] of each kind --- */

/* Piece e is rows [first, first + rows) of expert e's: of a tensor of its own, or of the part of one tensor that is its. */
static ds_status add_pieces(struct ds_conversion *c, const char *name, const struct ds_loader_piece *pieces, uint64_t rows, uint64_t cols, struct ds_error *err) {
    const uint32_t experts = c->config->expert.experts;
    struct ds_loader_piece *copy = ds_arena_array(&c->arena, experts, sizeof *copy);
    if (!copy) return ds_fail_memory(err, experts * sizeof *copy, "the list of experts");
    memcpy(copy, pieces, experts * sizeof *copy);
    struct ds_plan_item *item;
    DS_TRY(ds_convert_add(c, c->source, pieces[0].tensor, name, name, &item, err));
    item->pieces = copy;
    item->piece_rows = rows;
    item->dims = 3;
    memcpy(item->shape, (uint64_t[]){experts, rows, cols, 1}, sizeof item->shape);
    return DS_OK;
}

static ds_status add_each_expert(struct ds_conversion *c, const struct ds_naming *naming, const char *hf, const char *gguf, uint32_t layer, struct ds_error *err) {
    struct ds_loader_piece pieces[DS_MOST_EXPERTS];
    const uint32_t experts = c->config->expert.experts;
    char name[128];
    for (uint32_t e = 0; e < experts; e++) {
        name_of(name, sizeof name, hf, layer, e);
        pieces[e] = (struct ds_loader_piece){ds_naming_find(naming, name, "", 0), 0};
        if (!pieces[e].tensor) return DS_OK; /* of a layer without experts */
    }
    name_of(name, sizeof name, gguf, layer, 0);
    return add_pieces(c, name, pieces, pieces[0].tensor->shape[0], pieces[0].tensor->shape[1], err);
}

/* gate and up of an expert lie in one matrix of Hugging Face's, in two of GGUF's. */
static ds_status add_joint_experts(struct ds_conversion *c, const struct ds_ckpt_tensor *joint, uint32_t layer, struct ds_error *err) {
    static const char *const names[] = {"blk.%u.ffn_gate_exps.weight", "blk.%u.ffn_up_exps.weight"};
    struct ds_loader_piece pieces[DS_MOST_EXPERTS];
    const uint64_t width = joint->shape[1] / 2;
    for (uint32_t half = 0; half < 2; half++) {
        char name[64];
        for (uint32_t e = 0; e < c->config->expert.experts; e++) pieces[e] = (struct ds_loader_piece){joint, (2 * (uint64_t)e + half) * width};
        name_of(name, sizeof name, names[half], layer, 0);
        DS_TRY(add_pieces(c, name, pieces, width, joint->shape[2], err));
    }
    return DS_OK;
}

static ds_status add_experts(struct ds_conversion *c, const struct ds_naming *naming, uint32_t layer, struct ds_error *err) {
    if (!c->config->expert.experts || is_gemma(c)) return DS_OK;
    const struct ds_ckpt_tensor *joint = ds_naming_find(naming, "layers.%u.mlp.experts.gate_up_proj", "", layer);
    if (joint) return add_joint_experts(c, joint, layer, err);
    DS_TRY(add_each_expert(c, naming, "layers.%u.mlp.experts.%u.gate_proj.weight", "blk.%u.ffn_gate_exps.weight", layer, err));
    DS_TRY(add_each_expert(c, naming, "layers.%u.mlp.experts.%u.up_proj.weight", "blk.%u.ffn_up_exps.weight", layer, err));
    return add_each_expert(c, naming, "layers.%u.mlp.experts.%u.down_proj.weight", "blk.%u.ffn_down_exps.weight", layer, err);
}

/* --- the whole --- */

static ds_status add_folder(struct ds_conversion *c, struct ds_error *err) {
    static const struct ds_name_rule ends[] = {{"embed_tokens.weight", "token_embd.weight", DS_RULE_PLAIN},
                                               {"norm.weight", "output_norm.weight", DS_RULE_NORM},
                                               {"embed_tokens_per_layer.weight", "per_layer_token_embd.weight", DS_RULE_PLAIN},
                                               {"per_layer_model_projection.weight", "per_layer_model_proj.weight", DS_RULE_PLAIN},
                                               {"per_layer_projection_norm.weight", "per_layer_proj_norm.weight", DS_RULE_NORM}};
    static const struct ds_name_rule head = {"lm_head.weight", "output.weight", DS_RULE_PLAIN};
    const struct ds_naming naming = ds_decoder_naming(c->model), beside = ds_decoder_naming_beside(c->model);
    for (size_t i = 0; i < DS_COUNT(ends); i++) DS_TRY(add_rule(c, &naming, &ends[i], 0, err));
    if (!c->config->tied) DS_TRY(add_rule(c, &beside, &head, 0, err));
    for (uint32_t layer = 0; layer < c->config->layers; layer++) {
        for (const struct ds_name_rule *rule = ds_convert_layer_rules(is_gemma(c)); rule->hf; rule++) DS_TRY(add_rule(c, &naming, rule, layer, err));
        DS_TRY(add_experts(c, &naming, layer, err));
    }
    DS_TRY(check_complete(c, err));
    return ds_convert_rope_factors(c, err);
}

ds_status ds_convert_plan_target(struct ds_conversion *c, struct ds_error *err) {
    DS_TRY(ds_model_open(c->source, &c->model, err));
    c->arch = c->model->arch->name;
    c->config = &c->model->config;
    DS_TRY(check_loadable(c, err));
    if (!ds_convert_from_gguf(c)) return add_folder(c, err);
    for (size_t i = 0; i < ds_ckpt_tensor_count(c->source); i++) {
        const struct ds_ckpt_tensor *tensor = ds_ckpt_tensor_at(c->source, i);
        DS_TRY(ds_convert_add(c, c->source, tensor, tensor->name, tensor->name, NULL, err));
    }
    return DS_OK;
}
