/*
 * What GGUF's `llama` has otherwise than Hugging Face's files: rotary pairs lie side by side in q and k, Llama 3's scaling is a tensor of
 * factors, and Mistral is a `llama` with a window.
 */
#include "convert/convert_internal.h"
#include "base/quote.h"

#include <stdio.h>
#include <string.h>

static bool from_folder(const struct ds_conversion *c) { return ds_ckpt_get_format(c->source) == DS_CKPT_SAFETENSORS; }
static bool is_llama(const struct ds_conversion *c) { return !c->is_drafter && strcmp(c->arch, "llama") == 0; }

static bool is_rotated(const char *name) {
    unsigned layer;
    char rest[32];
    if (sscanf(name, "blk.%u.%31s", &layer, rest) != 2) return false;
    static const char *const names[] = {"attn_q.weight", "attn_k.weight", "attn_q.bias", "attn_k.bias"};
    for (size_t i = 0; i < DS_COUNT(names); i++)
        if (strcmp(rest, names[i]) == 0) return true;
    return false;
}

/* Factors by which frequencies are divided: those that are not scaled over those that are. */
static ds_status add_rope_factors(struct ds_conversion *c, struct ds_error *err) {
    const uint32_t pairs = c->config.rope.n_rot / 2;
    struct ds_rope_config plain = c->config.rope;
    plain.kind = DS_ROPE_NONE;
    float *scaled = ds_arena_array(&c->arena, pairs, sizeof *scaled), *factors = ds_arena_array(&c->arena, pairs, sizeof *factors), unused;
    if (!scaled || !factors) return ds_fail_memory(err, pairs * sizeof *factors, "rope factors");
    ds_rope_inv_freq(&c->config.rope, scaled, &unused);
    ds_rope_inv_freq(&plain, factors, &unused);
    for (uint32_t i = 0; i < pairs; i++) factors[i] /= scaled[i];
    c->items[c->n_items++] = (struct ds_plan_item){.name = "rope_freqs.weight", .type = DS_TYPE_F32, .dims = 1, .shape = {pairs, 1, 1, 1}, .values = factors};
    return DS_OK;
}

ds_status ds_convert_family(struct ds_conversion *c, struct ds_error *err) {
    if (!from_folder(c)) {
        const struct ds_ckpt_tensor *factors = ds_ckpt_find(c->source, "rope_freqs.weight");
        if (factors && is_llama(c)) c->items[c->n_items++] = (struct ds_plan_item){.source = factors, .from = c->source, .name = factors->name, .dims = 1, .shape = {factors->shape[0], 1, 1, 1}};
        return DS_OK;
    }
    for (size_t i = 0; is_llama(c) && i < c->n_items; i++)
        if (is_rotated(c->items[i].name)) c->items[i].head_rows = c->config.head_dim;
    if (c->config.rope.kind == DS_ROPE_LLAMA3 && is_llama(c)) return add_rope_factors(c, err);
    return DS_OK;
}

/* GGUF has one window for all layers, which other runtimes ignore for these architectures: they differ beyond it. */
static ds_status add_window(struct ds_conversion *c, struct ds_error *err) {
    char key[DS_KEY_MAX];
    for (uint32_t l = 0; l < c->config.layers; l++)
        if (ds_config_window(&c->config, l) == 0)
            return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: layer %u has no sliding window and others have: GGUF cannot state that for %s", ds_ckpt_path(c->source), l,
                           c->arch);
    snprintf(key, sizeof key, "%s.attention.sliding_window", c->arch);
    return ds_gguf_add_u32(c->writer, key, c->config.window, err);
}

ds_status ds_convert_family_keys(struct ds_conversion *c, struct ds_error *err) {
    char key[DS_KEY_MAX];
    if (is_llama(c)) {
        snprintf(key, sizeof key, "%s.rope.dimension_count", c->arch);
        DS_TRY(ds_gguf_add_u32(c->writer, key, c->config.rope.n_rot, err));
    }
    return c->config.window ? add_window(c, err) : DS_OK;
}
