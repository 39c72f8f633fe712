/* The files of a checkpoint that have digests. */
#include "ckpt/manifest_internal.h"

#include <stdlib.h>
#include <string.h>

static const char *name_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Files of a folder that dspark reads beside the tensors. */
static const char *const side_files[] = {"config.json", "generation_config.json", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json",
                                         "chat_template.jinja"};

static ds_status add_side_file(const struct ds_ckpt *ckpt, const char *name, struct ds_hash_sources *out, struct ds_error *err) {
    char *path = ds_os_join(ckpt->path, name);
    if (!path) return ds_fail_memory(err, strlen(name), "a path");
    ds_status status = DS_OK;
    if (ds_os_path_kind(path) != DS_PATH_MISSING) {
        struct ds_hash_source *source = &out->list[out->count];
        *source = (struct ds_hash_source){.name = name, .mine = true, .path = ds_arena_copy(&out->arena, path, strlen(path))};
        status = source->path ? ds_os_map(path, &source->mapping, err) : ds_fail_memory(err, strlen(path), "a path");
        if (status == DS_OK) out->count++;
    }
    free(path);
    return status;
}

static ds_status open_sources(const struct ds_ckpt *ckpt, struct ds_hash_sources *out, struct ds_error *err) {
    const size_t most = ckpt->file_count + DS_COUNT(side_files);
    out->list = ds_arena_array(&out->arena, most, sizeof *out->list);
    if (!out->list) return ds_fail_memory(err, most * sizeof *out->list, "a list of files");
    for (size_t i = 0; i < ckpt->file_count; i++)
        out->list[out->count++] = (struct ds_hash_source){.name = name_of(ckpt->files[i].path), .path = ckpt->files[i].path, .mapping = ckpt->files[i].mapping,
                                                          .index = (uint32_t)i, .mapped = true};
    if (ds_os_path_kind(ckpt->path) != DS_PATH_FOLDER) return DS_OK;
    for (size_t i = 0; i < DS_COUNT(side_files); i++) DS_TRY(add_side_file(ckpt, side_files[i], out, err));
    return DS_OK;
}

ds_status ds_hash_sources_open(const struct ds_ckpt *ckpt, struct ds_hash_sources *out, struct ds_error *err) {
    *out = (struct ds_hash_sources){0};
    const ds_status status = open_sources(ckpt, out, err);
    if (status != DS_OK) ds_hash_sources_close(out);
    return status;
}

void ds_hash_sources_close(struct ds_hash_sources *sources) {
    for (size_t i = 0; i < sources->count; i++)
        if (sources->list[i].mine) ds_os_unmap(&sources->list[i].mapping);
    ds_arena_free(&sources->arena);
    *sources = (struct ds_hash_sources){0};
}

const struct ds_hash_source *ds_hash_sources_find(const struct ds_hash_sources *sources, const char *name) {
    for (size_t i = 0; i < sources->count; i++)
        if (strcmp(sources->list[i].name, name) == 0) return &sources->list[i];
    return NULL;
}
