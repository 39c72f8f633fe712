/* What is in a checkpoint: for those who look into it. */
#include "ckpt/ckpt_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

ds_ckpt_format ds_ckpt_get_format(const struct ds_ckpt *ckpt) {
    return ckpt->format;
}

const char *ds_ckpt_path(const struct ds_ckpt *ckpt) {
    return ckpt->path;
}

/* --- files --- */

uint64_t ds_ckpt_file_bytes(const struct ds_ckpt *ckpt) {
    uint64_t total = 0;
    for (size_t i = 0; i < ckpt->file_count; i++) total += ckpt->files[i].mapping.size;
    return total;
}

uint32_t ds_ckpt_file_count(const struct ds_ckpt *ckpt) {
    return (uint32_t)ckpt->file_count;
}

const char *ds_ckpt_file_at(const struct ds_ckpt *ckpt, uint32_t index, uint64_t *bytes) {
    if (bytes) *bytes = ckpt->files[index].mapping.size;
    return ckpt->files[index].path;
}

void ds_ckpt_release(const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor) {
    ds_ckpt_release_part(ckpt, tensor, 0, tensor->bytes);
}

void ds_ckpt_release_part(const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor, uint64_t offset, uint64_t bytes) {
    const struct ds_ckpt_file *file = &ckpt->files[tensor->file];
    if (!file->borrowed && offset <= tensor->bytes) ds_os_release(&file->mapping, tensor->offset + offset, DS_MIN(bytes, tensor->bytes - offset));
}

void ds_ckpt_prefetch_part(const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor, uint64_t offset, uint64_t bytes) {
    const struct ds_ckpt_file *file = &ckpt->files[tensor->file];
    if (!file->borrowed && offset < tensor->bytes) ds_os_prefetch(&file->mapping, tensor->offset + offset, DS_MIN(bytes, tensor->bytes - offset));
}

/* --- tensors --- */

size_t ds_ckpt_tensor_count(const struct ds_ckpt *ckpt) {
    return ckpt->tensor_count;
}

const struct ds_ckpt_tensor *ds_ckpt_tensor_at(const struct ds_ckpt *ckpt, size_t index) {
    return &ckpt->tensors[index];
}

size_t ds_ckpt_skipped_count(const struct ds_ckpt *ckpt) {
    return ckpt->skipped_count;
}

const struct ds_ckpt_tensor *ds_ckpt_skipped_at(const struct ds_ckpt *ckpt, size_t index, const char **why) {
    *why = ckpt->skipped[index].why;
    return &ckpt->skipped[index].tensor;
}

static int compare_with_tensor(const void *name, const void *item) {
    return strcmp(name, (*(const struct ds_ckpt_tensor *const *)item)->name);
}

const struct ds_ckpt_tensor *ds_ckpt_find(const struct ds_ckpt *ckpt, const char *name) {
    const struct ds_ckpt_tensor **found =
        bsearch(name, ckpt->by_name, ckpt->tensor_count, sizeof *ckpt->by_name, compare_with_tensor);
    return found ? *found : NULL;
}

struct ds_shape_text ds_shape_describe(uint32_t dims, const uint64_t *shape) {
    struct ds_shape_text out;
    size_t used = (size_t)snprintf(out.text, sizeof out.text, "[");
    for (uint32_t i = 0; i < dims; i++) {
        used += (size_t)snprintf(out.text + used, sizeof out.text - used, i ? ", %llu" : "%llu", (unsigned long long)shape[i]);
    }
    snprintf(out.text + used, sizeof out.text - used, "]"); /* 4 numbers of 20 digits fit */
    return out;
}

static const struct ds_ckpt_skipped *find_skipped(const struct ds_ckpt *ckpt, const char *name) {
    for (size_t i = 0; i < ckpt->skipped_count; i++) {
        if (strcmp(ckpt->skipped[i].tensor.name, name) == 0) return &ckpt->skipped[i];
    }
    return NULL;
}

ds_status ds_ckpt_require(const struct ds_ckpt *ckpt, const char *name, uint32_t dims, const uint64_t *shape,
                          const struct ds_ckpt_tensor **out, struct ds_error *err) {
    *out = NULL;
    const struct ds_shape_text expected = ds_shape_describe(dims, shape);
    const struct ds_ckpt_tensor *tensor = ds_ckpt_find(ckpt, name);
    if (!tensor) {
        const struct ds_ckpt_skipped *skipped = find_skipped(ckpt, name);
        if (skipped)
            return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor '%s' is %s, which is not supported: convert the model",
                           ckpt->files[skipped->tensor.file].path, name, skipped->why);
        return ds_fail(err, DS_ERROR_FORMAT, "%s: tensor '%s' is missing: expected one of shape %s", ckpt->path, name,
                       expected.text);
    }
    if (tensor->dims != dims || memcmp(tensor->shape, shape, dims * sizeof *shape) != 0)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: tensor '%s': expected shape %s, found %s", ckpt->files[tensor->file].path,
                       name, expected.text, ds_shape_describe(tensor->dims, tensor->shape).text);
    *out = tensor;
    return DS_OK;
}
