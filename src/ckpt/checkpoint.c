#include "ckpt/ckpt_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- filling --- */

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

static ds_status add_file(struct ds_ckpt *ckpt, const struct ds_ckpt_file *file, uint32_t *index, struct ds_error *err) {
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
    const ds_status status = add_file(ckpt, &file, index, err);
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

/* --- overlap --- */

struct range {
    uint64_t begin, end;
    const char *name;
};

static int compare_ranges(const void *a, const void *b) {
    const struct range *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end == y->end ? 0 : x->end < y->end ? -1 : 1;
}

static ds_status fail_hole(uint64_t begin, uint64_t end, struct ds_error *err) {
    return ds_fail(err, DS_ERROR_FORMAT, "bytes %llu to %llu belong to no tensor: expected tensors without gaps up to the end",
                   (unsigned long long)begin, (unsigned long long)end);
}

static ds_status check_ranges(const struct range *ranges, size_t count, uint64_t begin, uint64_t end, bool no_holes,
                              struct ds_error *err) {
    uint64_t at = begin;
    for (size_t i = 0; i < count; i++) {
        if (ranges[i].begin < at)
            return ds_fail(err, DS_ERROR_FORMAT,
                           "tensor '%s' overlaps another: expected it at byte %llu or later, found it at %llu",
                           ds_quote_name(ranges[i].name).text, (unsigned long long)at, (unsigned long long)ranges[i].begin);
        if (no_holes && ranges[i].begin > at) return fail_hole(at, ranges[i].begin, err);
        at = ranges[i].end;
    }
    return no_holes && at != end ? fail_hole(at, end, err) : DS_OK;
}

static size_t add_range(struct range *ranges, size_t count, const struct ds_ckpt_tensor *tensor, uint32_t file) {
    if (tensor->file != file) return count;
    ranges[count] = (struct range){tensor->offset, tensor->offset + tensor->bytes, tensor->name};
    return count + 1;
}

ds_status ds_ckpt_check_overlap(const struct ds_ckpt *ckpt, uint32_t file, uint64_t begin, uint64_t end, bool no_holes,
                                struct ds_error *err) {
    const size_t most = ckpt->tensor_count + ckpt->skipped_count;
    struct range *ranges = malloc(DS_MAX(most, 1) * sizeof *ranges);
    if (!ranges) return ds_fail_memory(err, most * sizeof *ranges, "the tensors' places");
    size_t count = 0;
    for (size_t i = 0; i < ckpt->tensor_count; i++) count = add_range(ranges, count, &ckpt->tensors[i], file);
    for (size_t i = 0; i < ckpt->skipped_count; i++) count = add_range(ranges, count, &ckpt->skipped[i].tensor, file);
    qsort(ranges, count, sizeof *ranges, compare_ranges);
    const ds_status status = check_ranges(ranges, count, begin, end, no_holes, err);
    free(ranges);
    return status;
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

/* --- opening --- */

/* By what it holds; by its name only where that says nothing. */
static ds_status detect_format(const struct ds_ckpt_file *file, ds_ckpt_format *format, struct ds_error *err) {
    const struct ds_mapping *m = &file->mapping;
    const char *dot = strrchr(file->path, '.');
    const char *extension = dot ? dot : "";
    if (m->size >= 4 && memcmp(m->data, "GGUF", 4) == 0) {
        *format = DS_CKPT_GGUF;
    } else if (m->size > 8 && m->data[8] == '{') {
        *format = DS_CKPT_SAFETENSORS;
    } else if (strcmp(extension, ".gguf") == 0) {
        *format = DS_CKPT_GGUF;
    } else if (strcmp(extension, ".safetensors") == 0) {
        *format = DS_CKPT_SAFETENSORS;
    } else {
        return ds_fail(err, DS_ERROR_FORMAT, "%s: expected a GGUF or safetensors file, found %llu bytes that start with '%s'",
                       file->path, (unsigned long long)m->size,
                       ds_quote((const char *)m->data, (size_t)DS_MIN(m->size, 8)).text);
    }
    return DS_OK;
}

static ds_status read_container(struct ds_ckpt *ckpt, uint32_t file, struct ds_error *err) {
    const ds_status status =
        ckpt->format == DS_CKPT_GGUF ? ds_gguf_read(ckpt, file, err) : ds_safetensors_read(ckpt, file, err);
    return status == DS_OK ? DS_OK : ds_fail_context(err, "%s", ckpt->files[file].path);
}

static ds_status read_path(struct ds_ckpt *ckpt, struct ds_error *err) {
    switch (ds_os_path_kind(ckpt->path)) {
    case DS_PATH_MISSING:
        return ds_fail(err, DS_ERROR_IO, "'%s' does not exist: expected a GGUF or safetensors file or a folder", ckpt->path);
    case DS_PATH_FOLDER:
        ckpt->format = DS_CKPT_SAFETENSORS;
        return ds_folder_read(ckpt, ckpt->path, err);
    default: {
        uint32_t file;
        DS_TRY(ds_ckpt_add_file(ckpt, ckpt->path, &file, err));
        DS_TRY(detect_format(&ckpt->files[file], &ckpt->format, err));
        return read_container(ckpt, file, err);
    }
    }
}

static ds_status create(const char *path, struct ds_ckpt **out, struct ds_error *err) {
    *out = NULL;
    struct ds_ckpt *ckpt = calloc(1, sizeof *ckpt);
    if (!ckpt) return ds_fail_memory(err, sizeof *ckpt, "a checkpoint");
    const ds_status status = ds_ckpt_copy(ckpt, path, strlen(path), &ckpt->path, err);
    if (status != DS_OK) {
        ds_ckpt_close(ckpt);
        return status;
    }
    ckpt->config_path = ckpt->path;
    *out = ckpt;
    return DS_OK;
}

/* The last step of opening: what `status` says so far, then the index. Closes on failure. */
static ds_status complete(struct ds_ckpt *ckpt, ds_status status, struct ds_ckpt **out, struct ds_error *err) {
    if (status == DS_OK) status = ds_ckpt_finish(ckpt, err);
    if (status == DS_OK) status = ds_packed_read(ckpt, err);
    if (status != DS_OK) {
        ds_ckpt_close(ckpt);
        ckpt = NULL;
    }
    *out = ckpt;
    return status;
}

ds_status ds_ckpt_open(const char *path, struct ds_ckpt **out, struct ds_error *err) {
    struct ds_ckpt *ckpt;
    DS_TRY(create(path, out, err));
    ckpt = *out;
    return complete(ckpt, read_path(ckpt, err), out, err);
}

ds_status ds_ckpt_open_memory(ds_ckpt_format format, const char *name, const void *data, size_t size, struct ds_ckpt **out,
                              struct ds_error *err) {
    DS_TRY(create(name, out, err));
    struct ds_ckpt *ckpt = *out;
    ckpt->format = format;
    uint32_t index;
    const struct ds_ckpt_file file = {.path = ckpt->path, .mapping = {.data = data, .size = size}, .borrowed = true};
    ds_status status = add_file(ckpt, &file, &index, err);
    if (status == DS_OK) status = read_container(ckpt, index, err);
    return complete(ckpt, status, out, err);
}

void ds_ckpt_close(struct ds_ckpt *ckpt) {
    if (!ckpt) return;
    for (size_t i = 0; i < ckpt->file_count; i++) {
        if (!ckpt->files[i].borrowed) ds_os_unmap(&ckpt->files[i].mapping);
    }
    free(ckpt->files);
    free(ckpt->tensors);
    free(ckpt->skipped);
    free(ckpt->values);
    free(ckpt->by_name);
    free(ckpt->by_key);
    ds_arena_free(&ckpt->arena);
    free(ckpt);
}

/* --- looking --- */

ds_ckpt_format ds_ckpt_get_format(const struct ds_ckpt *ckpt) {
    return ckpt->format;
}

const char *ds_ckpt_path(const struct ds_ckpt *ckpt) {
    return ckpt->path;
}

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
