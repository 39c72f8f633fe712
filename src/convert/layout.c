/*
 * A drafter's folder: model.safetensors under Hugging Face's names and the config.json of DeepSpec or of speculators. What the two
 * call things, and from where taps count: docs/formats.md.
 */
#include "base/quote.h"
#include "convert/convert_internal.h"

#include <stdlib.h>
#include <string.h>

ds_status ds_convert_layout_find(struct ds_conversion *c, struct ds_error *err) {
    static const char *const names[] = {[DS_LAYOUT_GGUF] = "gguf", [DS_LAYOUT_DEEPSPEC] = "deepspec", [DS_LAYOUT_SPECULATORS] = "speculators"};
    const char *name = c->params->layout ? c->params->layout : "gguf";
    if (strcmp(name, "packed") == 0) name = "gguf"; /* packed.c sees to the rest */
    size_t i = 0;
    while (i < DS_COUNT(names) && strcmp(names[i], name) != 0) i++;
    if (i == DS_COUNT(names))
        return ds_fail(err, DS_ERROR_ARGUMENT, "layout '%s' is not known; expected gguf, packed, deepspec or speculators", ds_quote_name(name).text);
    c->layout = (int)i;
    const ds_type type = c->recipe->type;
    if (i == DS_LAYOUT_GGUF || type == DS_TYPE_F32 || type == DS_TYPE_F16 || type == DS_TYPE_BF16) return DS_OK;
    return ds_fail(err, DS_ERROR_ARGUMENT, "a folder holds f32, bf16 or f16, not %s; quantised drafters are GGUF files", c->recipe->name);
}

/* Every tensor has the type asked for, norms too: what was widened for GGUF is as it was before. */
ds_status ds_convert_layout_plan(struct ds_conversion *c, struct ds_error *err) {
    (void)err;
    for (size_t i = 0; i < c->n_items; i++) {
        if (!c->items[i].values) c->items[i].type = c->recipe->type;
        c->items[i].name = c->items[i].hf;
    }
    return DS_OK;
}

static ds_status write_config(const struct ds_conversion *c, struct ds_error *err) {
    char *text = NULL, *path = ds_os_join(c->params->output, "config.json");
    struct ds_os_writer writer = {.fd = -1};
    ds_status status = path ? ds_convert_layout_config(c, &text, err) : ds_fail_memory(err, 0, "a path");
    if (status == DS_OK) status = ds_os_write_begin(path, &writer, err);
    if (status == DS_OK) status = ds_os_write(&writer, text, strlen(text), err);
    if (status == DS_OK) status = ds_os_write_commit(&writer, err);
    free(text);
    free(path);
    return status;
}

/* --- files --- */

ds_status ds_convert_layout_begin(struct ds_conversion *c, struct ds_error *err) {
    struct ds_safetensors_array *arrays = ds_arena_array(&c->arena, c->n_items, sizeof *arrays);
    if (!arrays) return ds_fail_memory(err, c->n_items * sizeof *arrays, "a list of tensors");
    for (size_t i = 0; i < c->n_items; i++) {
        arrays[i] = (struct ds_safetensors_array){.name = c->items[i].name, .type = c->items[i].type, .dims = c->items[i].dims};
        memcpy(arrays[i].shape, c->items[i].shape, sizeof arrays[i].shape);
    }
    DS_TRY(ds_os_make_folder(c->params->output, &c->made_folder, err));
    char *path = ds_os_join(c->params->output, "model.safetensors");
    if (!path) return ds_fail_memory(err, 0, "a path");
    const ds_status status = ds_safetensors_begin(path, arrays, c->n_items, &c->file, err);
    free(path);
    return status;
}

/* The tensors last: a folder without them is nothing, one without a configuration would be refused. */
ds_status ds_convert_layout_commit(struct ds_conversion *c, struct ds_error *err) {
    DS_TRY(write_config(c, err));
    return ds_os_write_commit(&c->file, err);
}
