/*
 * GGUF files of `dspark convert --layout packed`: matrices lie as a device wants them and are stored as vectors of integers, which no
 * reader takes for weights by accident. Keys name the layout and say what each of them is. docs/formats.md has the whole.
 */
#include "ckpt/ckpt_internal.h"

#include <string.h>

static const char *const list_keys[] = {"dspark.layout.types", "dspark.layout.rows", "dspark.layout.cols"};
enum { TYPES, ROWS, COLS, LISTS };

/* The tensor as a reader of GGUF sees it becomes the matrix that it holds. `tensor` points into the checkpoint. */
static ds_status unveil(const struct ds_ckpt *ckpt, struct ds_ckpt_tensor *tensor, const int64_t numbers[LISTS], struct ds_error *err) {
    ds_type type;
    if (tensor->type != DS_TYPE_I32 || tensor->dims != 1)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: tensor '%s': expected the integers of a packed matrix, found %s %s", ckpt->path,
                       ds_quote_name(tensor->name).text, ds_type_get(tensor->type)->name, ds_shape_describe(tensor->dims, tensor->shape).text);
    if (tensor->packed)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: dspark.layout.tensors names '%s' twice", ckpt->path, ds_quote_name(tensor->name).text);
    if (!ds_type_from_gguf((uint32_t)numbers[TYPES], &type) || type == DS_TYPE_I32 || type == DS_TYPE_I64)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: dspark.layout.types: tensor '%s': expected a type of weights, found %lld", ckpt->path,
                       ds_quote_name(tensor->name).text, (long long)numbers[TYPES]);
    tensor->type = type;
    tensor->dims = 2;
    tensor->shape[0] = (uint64_t)numbers[ROWS];
    tensor->shape[1] = (uint64_t)numbers[COLS];
    tensor->packed = true;
    return DS_OK;
}

static struct ds_ckpt_tensor *find_mutable(struct ds_ckpt *ckpt, const struct ds_text *name) {
    char text[256];
    if (name->length >= sizeof text || memchr(name->data, '\0', name->length)) return NULL;
    memcpy(text, name->data, name->length);
    text[name->length] = '\0';
    const struct ds_ckpt_tensor *found = ds_ckpt_find(ckpt, text);
    return found ? &ckpt->tensors[found - ckpt->tensors] : NULL;
}

ds_status ds_packed_read(struct ds_ckpt *ckpt, struct ds_error *err) {
    const struct ds_value *names = ds_ckpt_value(ckpt, "dspark.layout.tensors");
    if (ckpt->format != DS_CKPT_GGUF || !ds_ckpt_value(ckpt, "dspark.layout")) return DS_OK;
    int64_t version;
    const int64_t *lists[LISTS];
    DS_TRY(ds_ckpt_string(ckpt, "dspark.layout", &ckpt->layout.name, err));
    DS_TRY(ds_ckpt_int(ckpt, "dspark.layout.version", 1, UINT32_MAX, &version, err));
    ckpt->layout.version = (uint32_t)version;
    if (!names || names->kind != DS_VALUE_ARRAY || names->element != DS_VALUE_STRING)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: dspark.layout.tensors: expected an array of strings", ckpt->path);
    for (int i = 0; i < LISTS; i++) {
        size_t count;
        DS_TRY(ds_ckpt_ints(ckpt, list_keys[i], names->length, names->length, i == TYPES ? 0 : 1, INT32_MAX, &lists[i], &count, err));
    }
    const struct ds_text *texts = names->array;
    for (size_t i = 0; i < names->length; i++) {
        struct ds_ckpt_tensor *tensor = find_mutable(ckpt, &texts[i]);
        if (!tensor)
            return ds_fail(err, DS_ERROR_FORMAT, "%s: dspark.layout.tensors: there is no tensor '%s' in the file", ckpt->path,
                           ds_quote(texts[i].data, texts[i].length).text);
        const int64_t numbers[LISTS] = {lists[TYPES][i], lists[ROWS][i], lists[COLS][i]};
        DS_TRY(unveil(ckpt, tensor, numbers, err));
    }
    return DS_OK;
}

const struct ds_ckpt_layout *ds_ckpt_get_layout(const struct ds_ckpt *ckpt) { return ckpt->layout.name ? &ckpt->layout : NULL; }
