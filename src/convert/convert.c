#include "base/os.h"
#include "ckpt/manifest.h"
#include "convert/convert_internal.h"

#include <string.h>

static uint64_t elements_of(const struct ds_plan_item *item) {
    uint64_t n = 1;
    for (uint32_t i = 0; i < item->dims; i++) n *= item->shape[i];
    return n;
}

static void count(const struct ds_conversion *c, ds_convert_stats *stats) {
    for (size_t i = 0; i < c->n_items; i++) {
        const struct ds_plan_item *item = &c->items[i];
        const uint64_t n = elements_of(item), cols = item->dims ? item->shape[item->dims - 1] : 1;
        uint64_t bytes = 0;
        (void)ds_type_size(item->type, n / cols, cols, &bytes);
        stats->tensors++;
        stats->elements += n;
        stats->source_bytes += ds_convert_source_bytes(item);
        stats->bytes += item->packed ? item->packed : bytes;
    }
}

static void warn_about_loss(const struct ds_conversion *c) {
    size_t again = 0;
    for (size_t i = 0; i < c->n_items; i++) {
        const struct ds_plan_item *item = &c->items[i];
        if (item->values) continue;
        const bool is_block = ds_type_get(item->source->type)->block > 1;
        again += is_block && item->type != item->source->type && ds_type_get(item->type)->block > 1;
    }
    if (again)
        ds_logf(&c->log, DS_LOG_WARNING, "%zu tensors are quantised already and will be quantised again, which adds up the errors: better start from the original",
                again);
}

static ds_status begin_file(struct ds_conversion *c, struct ds_error *err) {
    if (c->layout != DS_LAYOUT_GGUF) return ds_convert_layout_begin(c, err);
    DS_TRY(ds_convert_keys(c, err));
    DS_TRY(ds_convert_tokenizer(c, err));
    for (size_t i = 0; i < c->n_items; i++) {
        const struct ds_plan_item *item = &c->items[i];
        const uint64_t words = item->packed / 4; /* as integers, which nobody takes for weights */
        if (item->packed) DS_TRY(ds_gguf_add_tensor(c->writer, item->name, DS_TYPE_I32, 1, &words, err));
        else DS_TRY(ds_gguf_add_tensor(c->writer, item->name, item->type, item->dims, item->shape, err));
    }
    return ds_gguf_begin(c->writer, c->params->output, err);
}

static ds_status write_file(struct ds_conversion *c, ds_progress_fn progress, void *user, struct ds_error *err) {
    DS_TRY(begin_file(c, err));
    return ds_convert_data(c, progress, user, err);
}

/* What comes out is worth as much as what went in: the file gets its name when the input is as its manifest says. */
static ds_status write_guarded(struct ds_conversion *c, ds_progress_fn progress, void *user, struct ds_error *err) {
    const struct ds_manifest_trust trust = {.required = c->params->require_manifest, .trust = c->params->trust};
    struct ds_guard *guard;
    DS_TRY(ds_guard_open(c->source, &trust, &c->log, &guard, err));
    ds_status status = ds_guard_begin(guard, 1, err);
    if (status == DS_OK) status = write_file(c, progress, user, err);
    if (status == DS_OK) status = ds_guard_finish(guard, err);
    if (status == DS_OK) status = c->layout == DS_LAYOUT_GGUF ? ds_gguf_commit(c->writer, err) : ds_convert_layout_commit(c, err);
    ds_guard_close(guard);
    return status;
}

static ds_status open_all(struct ds_conversion *c, struct ds_ckpt **source, struct ds_ckpt **target, struct ds_error *err) {
    const ds_convert_params *params = c->params;
    if (!params->input || !params->output || !params->type) return ds_fail(err, DS_ERROR_ARGUMENT, "input, output and type must be given");
    c->recipe = ds_recipe_find(params->type);
    if (!c->recipe) {
        char list[128];
        ds_recipe_list(list, sizeof list);
        return ds_fail(err, DS_ERROR_ARGUMENT, "type '%s' cannot be written; expected one of %s", params->type, list);
    }
    DS_TRY(ds_convert_layout_find(c, err));
    DS_TRY(ds_ckpt_open(params->input, source, err));
    c->source = *source;
    if (ds_ckpt_get_layout(*source))
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: its weights are packed, which cannot be converted; use the file that it was made from", params->input);
    if (params->target) DS_TRY(ds_ckpt_open(params->target, target, err));
    c->target = *target;
    c->writer = ds_gguf_writer_create();
    return c->writer ? DS_OK : ds_fail_memory(err, 0, "a GGUF writer");
}

ds_convert_params ds_convert_defaults(void) { return (ds_convert_params){.size = sizeof(ds_convert_params), .log_level = DS_LOG_WARNING}; }

ds_status ds_convert(const ds_convert_params *params, ds_progress_fn progress, void *user, ds_convert_stats *stats, struct ds_error *err) {
    struct ds_error unused;
    if (!err) err = &unused;
    if (!params || params->size != sizeof *params || (stats && stats->size != sizeof *stats))
        return ds_fail(err, DS_ERROR_ARGUMENT, "the structs are of another version of dspark; set `size`");
    struct ds_conversion c = {.params = params, .log = {.fn = params->log, .user = params->log_user, .level = params->log_level}, .file = {.fd = -1}};
    struct ds_ckpt *source = NULL, *target = NULL; /* closed last: plan and models lie in them */
    const struct ds_float_state host = ds_os_float_begin();
    ds_status status = open_all(&c, &source, &target, err);
    if (status == DS_OK) status = ds_convert_plan(&c, err);
    if (status == DS_OK) status = ds_convert_plan_packing(&c, err);
    if (status == DS_OK) warn_about_loss(&c);
    if (status == DS_OK) status = write_guarded(&c, progress, user, err);
    if (status == DS_OK && stats) {
        *stats = (ds_convert_stats){.size = sizeof *stats};
        count(&c, stats);
    }
    ds_convert_end_packing(&c);
    ds_gguf_writer_destroy(c.writer);
    ds_os_write_abort(&c.file);
    if (status != DS_OK && c.made_folder) ds_os_remove_empty_folder(params->output);
    ds_arena_free(&c.arena);
    ds_draft_close(c.draft);
    ds_model_close(c.model);
    ds_ckpt_close(target);
    ds_ckpt_close(source);
    ds_os_float_restore(host);
    return status;
}
