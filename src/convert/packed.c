/* `--layout packed`: matrices as device cpu keeps them, so that loading is mapping. docs/formats.md says what the file looks like. */
#include "convert/convert_internal.h"

#include <stdlib.h>
#include <string.h>

static ds_status measure(struct ds_conversion *c, struct ds_plan_item *item, struct ds_error *err) {
    if (item->dims != 2 || item->values) return DS_OK;
    if (item->shape[0] <= INT32_MAX && item->shape[1] <= INT32_MAX)
        item->packed = c->packer->fns->weight_bytes(c->packer, item->type, (uint32_t)item->shape[0], (uint32_t)item->shape[1]);
    if (item->packed) return DS_OK;
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor '%s' as %s [%llu, %llu] has no packed layout", ds_ckpt_path(c->source), item->name,
                   ds_type_get(item->type)->name, (unsigned long long)item->shape[0], (unsigned long long)item->shape[1]);
}

ds_status ds_convert_plan_packing(struct ds_conversion *c, struct ds_error *err) {
    if (!c->params->layout || strcmp(c->params->layout, "packed") != 0) return DS_OK;
    DS_TRY(ds_device_create("cpu", &(struct ds_device_params){.threads = c->params->threads, .log = c->log}, &c->packer, err));
    DS_TRY(c->packer->fns->stream_create(c->packer, &c->stream, err));
    for (size_t i = 0; i < c->n_items; i++) DS_TRY(measure(c, &c->items[i], err));
    return DS_OK;
}

void ds_convert_end_packing(struct ds_conversion *c) {
    if (c->stream) c->packer->fns->stream_destroy(c->stream);
    ds_device_destroy(c->packer);
}

ds_status ds_convert_packing_keys(struct ds_conversion *c, struct ds_error *err) {
    if (!c->packer) return DS_OK;
    const struct ds_weight_layout *layout = c->packer->fns->weight_layout;
    struct ds_text *names = ds_arena_array(&c->arena, c->n_items, sizeof *names);
    int32_t *numbers = ds_arena_array(&c->arena, 3 * c->n_items, sizeof *numbers);
    if (!names || !numbers) return ds_fail_memory(err, c->n_items * (sizeof *names + 3 * sizeof *numbers), "the list of packed tensors");
    int32_t *types = numbers, *rows = numbers + c->n_items, *cols = rows + c->n_items;
    size_t n = 0;
    for (size_t i = 0; i < c->n_items; i++) {
        const struct ds_plan_item *item = &c->items[i];
        if (!item->packed) continue;
        names[n] = (struct ds_text){item->name, strlen(item->name)};
        types[n] = (int32_t)ds_type_get(item->type)->gguf_id;
        rows[n] = (int32_t)item->shape[0];
        cols[n++] = (int32_t)item->shape[1];
    }
    DS_TRY(ds_gguf_set_alignment(c->writer, DS_ALIGN, err));
    DS_TRY(ds_gguf_add_string(c->writer, "dspark.layout", layout->name, strlen(layout->name), err));
    DS_TRY(ds_gguf_add_u32(c->writer, "dspark.layout.version", layout->version, err));
    DS_TRY(ds_gguf_add_strings(c->writer, "dspark.layout.tensors", names, n, err));
    DS_TRY(ds_gguf_add_i32s(c->writer, "dspark.layout.types", types, n, err));
    DS_TRY(ds_gguf_add_i32s(c->writer, "dspark.layout.rows", rows, n, err));
    return ds_gguf_add_i32s(c->writer, "dspark.layout.cols", cols, n, err);
}
