/* How readers of containers fill a checkpoint, and its indices when they are done. */
#include "ckpt/ckpt_internal.h"

#include <stdlib.h>
#include <string.h>

/* Room for one more item in a growing array. The array grows by what was read, never by a count that a file states. */
static ds_status reserve(void **items, size_t used, size_t *capacity, size_t item_bytes, size_t most, const char *what,
                         struct ds_error *err) {
    if (used < *capacity) return DS_OK;
    if (used >= most) return ds_fail(err, DS_ERROR_LIMIT, "more than %zu %s", most, what);
    const size_t larger = DS_MAX(*capacity * 2, 64);
    void *moved = realloc(*items, larger * item_bytes);
    if (!moved) return ds_fail_memory(err, larger * item_bytes, what);
    *items = moved;
    *capacity = larger;
    return DS_OK;
}

ds_status ds_ckpt_copy(struct ds_ckpt *ckpt, const char *text, size_t length, const char **out, struct ds_error *err) {
    *out = ds_arena_copy(&ckpt->arena, text, length);
    return *out ? DS_OK : ds_fail_memory(err, length, "a string of the checkpoint");
}

ds_status ds_ckpt_array(struct ds_ckpt *ckpt, size_t count, size_t size, void **out, struct ds_error *err) {
    *out = ds_arena_array(&ckpt->arena, count, size);
    return *out ? DS_OK : ds_fail_memory(err, count * size, "an array of the checkpoint");
}

ds_status ds_ckpt_add_mapped(struct ds_ckpt *ckpt, const struct ds_ckpt_file *file, uint32_t *index, struct ds_error *err) {
    void *items = ckpt->files;
    DS_TRY(reserve(&items, ckpt->file_count, &ckpt->file_capacity, sizeof *ckpt->files, DS_CKPT_MAX_FILES, "files", err));
    ckpt->files = items;
    *index = (uint32_t)ckpt->file_count;
    ckpt->files[ckpt->file_count++] = *file;
    return DS_OK;
}

ds_status ds_ckpt_add_file(struct ds_ckpt *ckpt, const char *path, uint32_t *index, struct ds_error *err) {
    struct ds_ckpt_file file = {0};
    DS_TRY(ds_ckpt_copy(ckpt, path, strlen(path), &file.path, err));
    DS_TRY(ds_os_map(path, &file.mapping, err));
    const ds_status status = ds_ckpt_add_mapped(ckpt, &file, index, err);
    if (status != DS_OK) ds_os_unmap(&file.mapping);
    return status;
}

ds_status ds_ckpt_add_tensor(struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor, struct ds_error *err) {
    void *items = ckpt->tensors;
    DS_TRY(reserve(&items, ckpt->tensor_count, &ckpt->tensor_capacity, sizeof *tensor, DS_CKPT_MAX_TENSORS, "tensors", err));
    ckpt->tensors = items;
    ckpt->tensors[ckpt->tensor_count++] = *tensor;
    return DS_OK;
}

ds_status ds_ckpt_add_skipped(struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor, const char *why,
                              struct ds_error *err) {
    void *items = ckpt->skipped;
    DS_TRY(reserve(&items, ckpt->skipped_count, &ckpt->skipped_capacity, sizeof *ckpt->skipped, DS_CKPT_MAX_TENSORS, "tensors",
                   err));
    ckpt->skipped = items;
    ckpt->skipped[ckpt->skipped_count++] = (struct ds_ckpt_skipped){.tensor = *tensor, .why = why};
    return DS_OK;
}

ds_status ds_ckpt_add_value(struct ds_ckpt *ckpt, const struct ds_value *value, struct ds_error *err) {
    void *items = ckpt->values;
    DS_TRY(reserve(&items, ckpt->value_count, &ckpt->value_capacity, sizeof *value, DS_CKPT_MAX_VALUES, "keys", err));
    ckpt->values = items;
    ckpt->values[ckpt->value_count++] = *value;
    return DS_OK;
}

/* --- index: sorted pointers, so that no choice of names makes a search slow --- */

static int compare_places(const void *a, const void *b) {
    const struct ds_ckpt_tensor *x = a, *y = b;
    if (x->file != y->file) return x->file < y->file ? -1 : 1;
    return x->offset == y->offset ? 0 : x->offset < y->offset ? -1 : 1;
}

static int compare_tensor_names(const void *a, const void *b) {
    return strcmp((*(const struct ds_ckpt_tensor *const *)a)->name, (*(const struct ds_ckpt_tensor *const *)b)->name);
}

static int compare_keys(const void *a, const void *b) {
    return strcmp((*(const struct ds_value *const *)a)->key, (*(const struct ds_value *const *)b)->key);
}

static ds_status index_tensors(struct ds_ckpt *ckpt, struct ds_error *err) {
    const size_t count = ckpt->tensor_count + ckpt->skipped_count;
    ckpt->by_name = malloc(DS_MAX(count, 1) * sizeof *ckpt->by_name);
    if (!ckpt->by_name) return ds_fail_memory(err, count * sizeof *ckpt->by_name, "the tensors' index");
    for (size_t i = 0; i < ckpt->tensor_count; i++) ckpt->by_name[i] = &ckpt->tensors[i];
    for (size_t i = 0; i < ckpt->skipped_count; i++) ckpt->by_name[ckpt->tensor_count + i] = &ckpt->skipped[i].tensor;
    qsort(ckpt->by_name, count, sizeof *ckpt->by_name, compare_tensor_names);
    for (size_t i = 1; i < count; i++) {
        const struct ds_ckpt_tensor *a = ckpt->by_name[i - 1], *b = ckpt->by_name[i];
        if (strcmp(a->name, b->name) == 0)
            return ds_fail(err, DS_ERROR_FORMAT, "%s: tensor '%s' occurs twice: here and in %s", ckpt->files[b->file].path,
                           ds_quote_name(a->name).text, ckpt->files[a->file].path);
    }
    /* From here on only the readable ones are found; the skipped have their own list. */
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (ckpt->by_name[i]->data) ckpt->by_name[kept++] = ckpt->by_name[i];
    }
    return DS_OK;
}

static ds_status index_values(struct ds_ckpt *ckpt, struct ds_error *err) {
    ckpt->by_key = malloc(DS_MAX(ckpt->value_count, 1) * sizeof *ckpt->by_key);
    if (!ckpt->by_key) return ds_fail_memory(err, ckpt->value_count * sizeof *ckpt->by_key, "the keys' index");
    for (size_t i = 0; i < ckpt->value_count; i++) ckpt->by_key[i] = &ckpt->values[i];
    qsort(ckpt->by_key, ckpt->value_count, sizeof *ckpt->by_key, compare_keys);
    for (size_t i = 1; i < ckpt->value_count; i++) {
        if (strcmp(ckpt->by_key[i - 1]->key, ckpt->by_key[i]->key) == 0)
            return ds_fail(err, DS_ERROR_FORMAT, "%s: key '%s' occurs twice", ckpt->config_path,
                           ds_quote_name(ckpt->by_key[i]->key).text);
    }
    return DS_OK;
}

ds_status ds_ckpt_finish(struct ds_ckpt *ckpt, struct ds_error *err) {
    if (ckpt->tensor_count > 0) qsort(ckpt->tensors, ckpt->tensor_count, sizeof *ckpt->tensors, compare_places);
    DS_TRY(index_tensors(ckpt, err));
    return index_values(ckpt, err);
}
