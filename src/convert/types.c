/* Which type a tensor gets. The mixtures are those that the field's files have, so that sizes and quality compare. */
#include "ckpt/quantize.h"
#include "convert/convert_internal.h"

#include <stdio.h>
#include <string.h>

static const struct ds_recipe recipes[] = {
    {"f32", DS_TYPE_F32, false, 0},   {"bf16", DS_TYPE_BF16, false, 32}, {"f16", DS_TYPE_F16, false, 1},
    {"q8_0", DS_TYPE_Q8_0, false, 7}, {"q4_0", DS_TYPE_Q4_0, false, 2},  {"q4_k", DS_TYPE_Q4_K, false, 14},
    {"q5_k", DS_TYPE_Q5_K, false, 16}, {"q6_k", DS_TYPE_Q6_K, false, 18}, {"q4_k_m", DS_TYPE_Q4_K, true, 15},
};

const struct ds_recipe *ds_recipe_find(const char *name) {
    for (size_t i = 0; i < DS_COUNT(recipes); i++)
        if (strcmp(recipes[i].name, name) == 0) return &recipes[i];
    return NULL;
}

void ds_recipe_list(char *out, size_t size) {
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < DS_COUNT(recipes) && n < size; i++) n += (size_t)snprintf(out + n, size - n, "%s%s", i ? ", " : "", recipes[i].name);
}

static bool is_float(ds_type type) { return type == DS_TYPE_F32 || type == DS_TYPE_F16 || type == DS_TYPE_BF16; }

/* The layers in which an error hurts most: the first and the last eighth, and every third between. */
static bool wants_more_bits(uint32_t layer, uint32_t layers) {
    return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

static bool is_one_of(const char *name, const char *const *names) {
    while (*names && strcmp(name, *names) != 0) names++;
    return *names != NULL;
}

/* The part of a layer's name behind "blk.<layer>.", or NULL. */
static const char *within_layer(const char *name, unsigned *layer, char rest[64]) { return sscanf(name, "blk.%u.%63s", layer, rest) == 2 ? rest : NULL; }

/* Small matrices on which much depends, and what is one row. Quantised types leave them as they are. */
static bool stays(const struct ds_plan_item *item) {
    static const char *const names[] = {"conf_proj.weight", "per_layer_model_proj.weight", NULL};
    return is_one_of(item->name, names);
}

static bool is_sensitive(const char *within) {
    static const char *const names[] = {"attn_v.weight", "ffn_down.weight", "ffn_down_exps.weight", NULL};
    return is_one_of(within, names);
}

static ds_type wanted_type(const struct ds_conversion *c, const struct ds_plan_item *item) {
    const ds_type type = c->recipe->type, stored = item->source->type;
    unsigned layer;
    char rest[64];
    const char *within = within_layer(item->name, &layer, rest);
    if (item->dims < 2) return DS_TYPE_F32;
    if (within && strcmp(within, "ffn_gate_inp.weight") == 0) return DS_TYPE_F32; /* which experts: as the field's files have it */
    if (is_float(type)) return type;
    if (stays(item)) return ds_type_is_writable(stored) ? stored : DS_TYPE_F32;
    if (type == DS_TYPE_Q8_0) return type;
    /* A drafted token reads one row of it: more bits cost no time. */
    if (strcmp(item->name, "markov_w1.weight") == 0) return DS_TYPE_Q8_0;
    if (item->is_head) return DS_TYPE_Q6_K;
    if (!c->recipe->mixed || !within) return type;
    return is_sensitive(within) && wants_more_bits(layer, c->config->layers) ? DS_TYPE_Q6_K : type;
}

ds_type ds_convert_type(const struct ds_conversion *c, const struct ds_plan_item *item) {
    const ds_type wanted = wanted_type(c, item);
    const uint64_t cols = item->dims ? item->shape[item->dims - 1] : 1;
    ds_type type = wanted;
    if (cols % ds_type_get(type)->block) type = DS_TYPE_Q8_0;
    if (cols % ds_type_get(type)->block) type = item->source->type == DS_TYPE_BF16 ? DS_TYPE_BF16 : DS_TYPE_F16;
    if (type != wanted)
        ds_logf(&c->log, DS_LOG_WARNING, "%s: rows of %llu are no whole %s blocks of %u; %s is used instead", item->name, (unsigned long long)cols,
                ds_type_get(wanted)->name, ds_type_get(wanted)->block, ds_type_get(type)->name);
    return type;
}
