/* Opening and closing: what a path leads to, and who reads it. */
#include "ckpt/ckpt_internal.h"

#include <stdlib.h>
#include <string.h>

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
    DS_TRY(create(path, out, err));
    struct ds_ckpt *ckpt = *out;
    return complete(ckpt, read_path(ckpt, err), out, err);
}

ds_status ds_ckpt_open_memory(ds_ckpt_format format, const char *name, const void *data, size_t size, struct ds_ckpt **out,
                              struct ds_error *err) {
    DS_TRY(create(name, out, err));
    struct ds_ckpt *ckpt = *out;
    ckpt->format = format;
    uint32_t index;
    const struct ds_ckpt_file file = {.path = ckpt->path, .mapping = {.data = data, .size = size}, .borrowed = true};
    ds_status status = ds_ckpt_add_mapped(ckpt, &file, &index, err);
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
