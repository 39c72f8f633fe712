/* What is in the source and what becomes of it. Every tensor has a place in the output or a reason to be left out. */
#include "base/quote.h"
#include "convert/convert_internal.h"
#include "draft/dialect.h"

#include <string.h>

/* --- items --- */

static struct ds_plan_item *next_item(struct ds_conversion *c) {
    if (c->n_items == c->capacity) return NULL;
    struct ds_plan_item *item = &c->items[c->n_items++];
    *item = (struct ds_plan_item){0};
    return item;
}

ds_status ds_convert_add(struct ds_conversion *c, const struct ds_ckpt *from, const struct ds_ckpt_tensor *source, const char *name, const char *hf,
                         struct ds_plan_item **out, struct ds_error *err) {
    struct ds_plan_item *item = next_item(c);
    if (!item) return ds_fail(err, DS_ERROR_INTERNAL, "the plan has no room for %s", name);
    *item = (struct ds_plan_item){.source = source, .from = from, .dims = source->dims};
    memcpy(item->shape, source->shape, sizeof item->shape);
    item->name = ds_arena_copy(&c->arena, name, strlen(name));
    item->hf = ds_arena_copy(&c->arena, hf, strlen(hf));
    if (out) *out = item;
    return item->name && item->hf ? DS_OK : ds_fail_memory(err, strlen(name), "a tensor's name");
}

ds_status ds_convert_add_values(struct ds_conversion *c, const char *name, ds_type type, uint64_t count, const void *values, struct ds_error *err) {
    struct ds_plan_item *item = next_item(c);
    if (!item) return ds_fail(err, DS_ERROR_INTERNAL, "the plan has no room for %s", name);
    *item = (struct ds_plan_item){.name = name, .hf = name, .type = type, .dims = 1, .shape = {count, 1, 1, 1}, .values = values};
    return DS_OK;
}

bool ds_convert_has(const struct ds_conversion *c, const char *name) {
    for (size_t i = 0; i < c->n_items; i++)
        if (strcmp(c->items[i].name, name) == 0) return true;
    return false;
}

/* --- what it is --- */

/* What calls itself a drafter, whether or not it is one that can be run: the message is then a drafter's. */
static bool looks_like_drafter(const struct ds_ckpt *ckpt) {
    static const char *const names[] = {"dflash", "eagle3", "dspark", "dflash-draft"};
    struct ds_draft_kind kind;
    struct ds_error ignored;
    if (ds_draft_recognise(ckpt, &kind, &ignored) == DS_OK || ds_ckpt_value(ckpt, "speculators_model_type")) return true;
    const struct ds_value *value = ds_ckpt_value(ckpt, "general.architecture");
    for (size_t i = 0; value && value->kind == DS_VALUE_STRING && i < DS_COUNT(names); i++)
        if (strcmp(value->string, names[i]) == 0) return true;
    return false;
}

static ds_status check_options(const struct ds_conversion *c, struct ds_error *err) {
    if (c->is_drafter) return DS_OK;
    if (c->params->target || c->params->drop_embeddings)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s is not a drafter: a target to compare with, or leaving out embeddings, is for drafters",
                       ds_ckpt_path(c->source));
    if (c->layout != DS_LAYOUT_GGUF)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s is not a drafter: the layout '%s' is one of drafters", ds_ckpt_path(c->source), c->params->layout);
    return DS_OK;
}

static ds_status check_readable(const struct ds_conversion *c, struct ds_error *err) {
    const char *why;
    if (ds_ckpt_skipped_count(c->source) == 0) return DS_OK;
    const struct ds_ckpt_tensor *tensor = ds_ckpt_skipped_at(c->source, 0, &why);
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor '%s' is %s, which cannot be converted", ds_ckpt_path(c->source), ds_quote_name(tensor->name).text, why);
}

/* --- types --- */

static void find_head(struct ds_conversion *c) {
    const char *const head = ds_convert_has(c, "output.weight") || c->is_drafter ? "output.weight" : "token_embd.weight";
    for (size_t i = 0; i < c->n_items; i++) c->items[i].is_head = strcmp(c->items[i].name, head) == 0;
}

static ds_status choose_types(struct ds_conversion *c, struct ds_error *err) {
    find_head(c);
    for (size_t i = 0; i < c->n_items; i++) {
        struct ds_plan_item *item = &c->items[i];
        if (item->values) continue;
        if (item->source->type == DS_TYPE_I32 || item->source->type == DS_TYPE_I64)
            return ds_fail(err, DS_ERROR_FORMAT, "%s: tensor '%s': expected floats, found %s", ds_ckpt_path(c->source),
                           ds_quote_name(item->source->name).text, ds_type_get(item->source->type)->name);
        item->type = ds_convert_type(c, item);
    }
    return DS_OK;
}

ds_status ds_convert_plan(struct ds_conversion *c, struct ds_error *err) {
    c->capacity = 2 * ds_ckpt_tensor_count(c->source) + 8; /* a matrix may be cut in two; tables of the target, factors */
    c->items = ds_arena_array(&c->arena, c->capacity, sizeof *c->items);
    if (!c->items) return ds_fail_memory(err, c->capacity * sizeof *c->items, "the plan");
    c->is_drafter = looks_like_drafter(c->source);
    DS_TRY(check_options(c, err));
    DS_TRY(check_readable(c, err));
    DS_TRY(c->is_drafter ? ds_convert_plan_drafter(c, err) : ds_convert_plan_target(c, err));
    return c->layout == DS_LAYOUT_GGUF ? choose_types(c, err) : ds_convert_layout_plan(c, err);
}
