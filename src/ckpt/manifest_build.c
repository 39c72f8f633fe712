/* A manifest of a checkpoint: what is in each file, and its digests. */
#include "ckpt/manifest_internal.h"

#include <stdlib.h>
#include <string.h>

static int compare_offsets(const void *a, const void *b) {
    const struct ds_manifest_tensor *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static ds_status describe_file(const struct ds_ckpt *ckpt, const struct ds_hash_source *source, struct ds_manifest *out, struct ds_manifest_file *file,
                               struct ds_error *err) {
    file->name = ds_arena_copy(&out->arena, source->name, strlen(source->name));
    file->bytes = source->mapping.size;
    size_t count = 0;
    for (size_t i = 0; source->mapped && i < ckpt->tensor_count; i++) count += ckpt->tensors[i].file == source->index;
    file->tensors = ds_arena_array(&out->arena, count, sizeof *file->tensors);
    if (!file->name || !file->tensors) return ds_fail_memory(err, count * sizeof *file->tensors, "a manifest");
    for (size_t i = 0; source->mapped && i < ckpt->tensor_count; i++) {
        const struct ds_ckpt_tensor *tensor = &ckpt->tensors[i];
        if (tensor->file != source->index) continue;
        const char *name = ds_arena_copy(&out->arena, tensor->name, strlen(tensor->name));
        if (!name) return ds_fail_memory(err, strlen(tensor->name), "a manifest");
        file->tensors[file->n_tensors++] = (struct ds_manifest_tensor){.name = name, .offset = tensor->offset, .bytes = tensor->bytes};
    }
    if (count > 0) qsort(file->tensors, count, sizeof *file->tensors, compare_offsets);
    return DS_OK;
}

/* The run's results belong into the manifest that its jobs were made of. */
static void keep_digests(const struct ds_hash_run *run) {
    for (size_t i = 0, next; i < run->count; i = next) {
        struct ds_manifest_file *file = (struct ds_manifest_file *)run->jobs[i].file;
        file->whole = ds_hash_file_digest(run, i, &next);
        file->rest = run->jobs[i].digest;
        for (size_t t = 0; t < file->n_tensors; t++) file->tensors[t].digest = run->jobs[i + 1 + t].digest;
    }
}

static ds_status build(const struct ds_ckpt *ckpt, const struct ds_hash_sources *sources, const struct ds_hash_params *params, struct ds_manifest *out,
                       struct ds_error *err) {
    out->files = ds_arena_array(&out->arena, sources->count, sizeof *out->files);
    if (!out->files) return ds_fail_memory(err, sources->count * sizeof *out->files, "a manifest");
    for (; out->n_files < sources->count; out->n_files++)
        DS_TRY(describe_file(ckpt, &sources->list[out->n_files], out, &out->files[out->n_files], err));
    struct ds_hash_run run = {0};
    const ds_status status = ds_hash_run_all(&run, out, sources, params, err);
    if (status == DS_OK) keep_digests(&run);
    ds_hash_run_free(&run);
    return status;
}

ds_status ds_manifest_build(const struct ds_ckpt *ckpt, const struct ds_hash_params *params, struct ds_manifest *out, struct ds_error *err) {
    *out = (struct ds_manifest){0};
    DS_TRY(ds_hash_require(err));
    struct ds_hash_sources sources;
    DS_TRY(ds_hash_sources_open(ckpt, &sources, err));
    const ds_status status = build(ckpt, &sources, params, out, err);
    ds_hash_sources_close(&sources);
    if (status != DS_OK) ds_manifest_free(out);
    return status;
}
