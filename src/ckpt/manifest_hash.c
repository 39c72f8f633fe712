#include "ckpt/manifest_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 4 << 20 };

/* --- the files --- */

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

/* --- hashing --- */

/* False: the run was stopped. Pages that have been read are given back: a model may be larger than the memory. */
static bool hash_range(struct ds_hash_run *run, struct ds_blake2b *hash, const struct ds_hash_source *source, uint64_t begin, uint64_t end, bool caller) {
    while (begin < end) {
        const uint64_t bytes = DS_MIN(end - begin, (uint64_t)PIECE_BYTES);
        ds_blake2b_add(hash, source->mapping.data + begin, (size_t)bytes);
        ds_os_release(&source->mapping, begin, bytes);
        begin += bytes;
        const uint64_t done = atomic_fetch_add(&run->done, bytes) + bytes;
        if (caller && run->progress && !run->progress(run->user, done, run->total)) atomic_store(&run->stop, true);
        if (atomic_load(&run->stop)) return false;
    }
    return true;
}

static bool hash_rest(struct ds_hash_run *run, struct ds_blake2b *hash, const struct ds_hash_job *job, bool caller) {
    uint64_t at = 0;
    for (size_t i = 0; i < job->file->n_tensors; i++) {
        const struct ds_manifest_tensor *tensor = &job->file->tensors[i];
        if (!hash_range(run, hash, job->source, at, tensor->offset, caller)) return false;
        at = tensor->offset + tensor->bytes;
    }
    return hash_range(run, hash, job->source, at, job->file->bytes, caller);
}

static void work(struct ds_hash_run *run, bool caller) {
    while (!atomic_load(&run->stop)) {
        const size_t index = atomic_fetch_add(&run->next, 1);
        if (index >= run->count) return;
        struct ds_hash_job *job = &run->jobs[index];
        struct ds_blake2b hash;
        ds_blake2b_begin(&hash);
        if (job->tensor) (void)hash_range(run, &hash, job->source, job->tensor->offset, job->tensor->offset + job->tensor->bytes, caller);
        else (void)hash_rest(run, &hash, job, caller);
        job->digest = ds_blake2b_end(&hash);
    }
}

static void work_beside(void *user) { work(user, false); }

void ds_hash_run_start(struct ds_hash_run *run, uint32_t threads) {
    struct ds_error ignored;
    threads = DS_MIN(threads, (uint32_t)DS_HASH_MOST_THREADS);
    while (run->n_threads < threads && ds_os_thread_create(work_beside, run, "hash", &run->threads[run->n_threads], &ignored) == DS_OK) run->n_threads++;
}

static void wait_for(struct ds_hash_run *run) {
    for (unsigned i = 0; i < run->n_threads; i++) ds_os_thread_join(run->threads[i]);
    run->n_threads = 0;
}

ds_status ds_hash_run_join(struct ds_hash_run *run, struct ds_error *err) {
    work(run, true);
    wait_for(run);
    return atomic_load(&run->stop) ? ds_fail(err, DS_ERROR_CANCELLED, "interrupted") : DS_OK;
}

void ds_hash_run_free(struct ds_hash_run *run) {
    atomic_store(&run->stop, true);
    wait_for(run);
    free(run->jobs);
    run->jobs = NULL;
    run->count = 0;
}

/* --- jobs --- */

static const struct ds_hash_source *find_source(const struct ds_hash_sources *sources, const char *name) {
    for (size_t i = 0; i < sources->count; i++)
        if (strcmp(sources->list[i].name, name) == 0) return &sources->list[i];
    return NULL;
}

ds_status ds_hash_run_plan(struct ds_hash_run *run, const struct ds_manifest *manifest, const struct ds_hash_sources *sources, struct ds_error *err) {
    size_t most = manifest->n_files;
    for (size_t i = 0; i < manifest->n_files; i++) most += manifest->files[i].n_tensors;
    run->jobs = calloc(most, sizeof *run->jobs);
    if (!run->jobs) return ds_fail_memory(err, most * sizeof *run->jobs, "a list of digests");
    for (size_t i = 0; i < manifest->n_files; i++) {
        const struct ds_manifest_file *file = &manifest->files[i];
        const struct ds_hash_source *source = find_source(sources, file->name);
        run->jobs[run->count++] = (struct ds_hash_job){.file = file, .source = source};
        for (size_t t = 0; t < file->n_tensors; t++) run->jobs[run->count++] = (struct ds_hash_job){.file = file, .source = source, .tensor = &file->tensors[t]};
        run->total += file->bytes;
    }
    return DS_OK;
}

/* --- building --- */

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

/* Jobs [first, next) are those of one file, in order: its digest, of theirs. */
static struct ds_digest join_digests(const struct ds_hash_run *run, size_t first, size_t *next) {
    struct ds_blake2b hash;
    ds_blake2b_begin(&hash);
    for (*next = first; *next < run->count && run->jobs[*next].file == run->jobs[first].file; ++*next)
        ds_blake2b_add(&hash, run->jobs[*next].digest.bytes, DS_DIGEST_BYTES);
    return ds_blake2b_end(&hash);
}

/* The run's results belong into the manifest that its jobs were made of. */
static void keep_digests(const struct ds_hash_run *run) {
    for (size_t i = 0, next; i < run->count; i = next) {
        struct ds_manifest_file *file = (struct ds_manifest_file *)run->jobs[i].file;
        file->whole = join_digests(run, i, &next);
        file->rest = run->jobs[i].digest;
        for (size_t t = 0; t < file->n_tensors; t++) file->tensors[t].digest = run->jobs[i + 1 + t].digest;
    }
}

static ds_status hash_all(const struct ds_manifest *manifest, const struct ds_hash_sources *sources, const struct ds_hash_params *params,
                          struct ds_hash_run *run, struct ds_error *err) {
    run->progress = params->progress;
    run->user = params->user;
    DS_TRY(ds_hash_run_plan(run, manifest, sources, err));
    ds_hash_run_start(run, (params->threads ? params->threads : ds_os_cpu_count()) - 1);
    return ds_hash_run_join(run, err);
}

static ds_status build(const struct ds_ckpt *ckpt, const struct ds_hash_sources *sources, const struct ds_hash_params *params, struct ds_manifest *out,
                       struct ds_error *err) {
    out->files = ds_arena_array(&out->arena, sources->count, sizeof *out->files);
    if (!out->files) return ds_fail_memory(err, sources->count * sizeof *out->files, "a manifest");
    for (; out->n_files < sources->count; out->n_files++)
        DS_TRY(describe_file(ckpt, &sources->list[out->n_files], out, &out->files[out->n_files], err));
    struct ds_hash_run run = {0};
    const ds_status status = hash_all(out, sources, params, &run, err);
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

/* --- comparing --- */

static const struct ds_manifest_file *find_file(const struct ds_manifest *manifest, const char *name) {
    for (size_t i = 0; i < manifest->n_files; i++)
        if (strcmp(manifest->files[i].name, name) == 0) return &manifest->files[i];
    return NULL;
}

/* A tensor of a type that this version cannot read has a manifest's entry, too, when another version wrote it: its bytes are checked all the same. */
static bool is_skipped(const struct ds_ckpt *ckpt, const char *name) {
    for (size_t i = 0; i < ckpt->skipped_count; i++)
        if (strcmp(ckpt->skipped[i].tensor.name, name) == 0) return true;
    return false;
}

static ds_status compare_tensors(const struct ds_ckpt *ckpt, const struct ds_hash_source *source, const struct ds_manifest_file *file, struct ds_error *err) {
    for (size_t i = 0; i < file->n_tensors; i++) {
        const struct ds_manifest_tensor *expected = &file->tensors[i];
        const struct ds_ckpt_tensor *found = source->mapped ? ds_ckpt_find(ckpt, expected->name) : NULL;
        if (!found && is_skipped(ckpt, expected->name)) continue;
        if (!found || found->file != source->index)
            return ds_fail(err, DS_ERROR_MISMATCH, "%s: tensor '%s' of the manifest is not in this file: file or manifest was changed", source->path,
                           ds_quote_name(expected->name).text);
        if (found->offset != expected->offset || found->bytes != expected->bytes)
            return ds_fail(err, DS_ERROR_MISMATCH, "%s: tensor '%s': the manifest has %" PRIu64 " bytes at %" PRIu64 ", the file %" PRIu64 " at %" PRIu64
                                                   ": file or manifest was changed", source->path, ds_quote_name(expected->name).text, expected->bytes,
                           expected->offset, found->bytes, found->offset);
    }
    return DS_OK;
}

ds_status ds_manifest_compare_sources(const struct ds_manifest *manifest, const struct ds_ckpt *ckpt, const struct ds_hash_sources *sources,
                                      struct ds_error *err) {
    for (size_t i = 0; i < manifest->n_files; i++)
        if (!find_source(sources, manifest->files[i].name))
            return ds_fail(err, DS_ERROR_MISMATCH, "%s: the manifest has a file '%s', which is not there", ckpt->path, ds_quote_name(manifest->files[i].name).text);
    for (size_t i = 0; i < sources->count; i++) {
        const struct ds_hash_source *source = &sources->list[i];
        const struct ds_manifest_file *file = find_file(manifest, source->name);
        if (!file) return ds_fail(err, DS_ERROR_MISMATCH, "%s: the manifest has no file of this name; it has '%s'", source->path,
                                  ds_quote_name(manifest->files[0].name).text);
        if (file->bytes != source->mapping.size)
            return ds_fail(err, DS_ERROR_MISMATCH, "%s: the manifest says %" PRIu64 " bytes, the file has %" PRIu64 ": it was cut off or changed", source->path,
                           file->bytes, source->mapping.size);
        DS_TRY(compare_tensors(ckpt, source, file, err));
    }
    return DS_OK;
}

ds_status ds_manifest_compare(const struct ds_manifest *manifest, const struct ds_ckpt *ckpt, struct ds_error *err) {
    struct ds_hash_sources sources;
    DS_TRY(ds_hash_sources_open(ckpt, &sources, err));
    const ds_status status = ds_manifest_compare_sources(manifest, ckpt, &sources, err);
    ds_hash_sources_close(&sources);
    return status;
}

struct tally {
    ds_difference_fn fn;
    void *user;
    size_t count;
    struct ds_error first;
};

static void note(struct tally *tally, const struct ds_hash_job *job, const char *message) {
    const char *tensor = job->tensor ? job->tensor->name : NULL;
    if (tally->count++ == 0)
        (void)ds_fail(&tally->first, DS_ERROR_MISMATCH, "%s: %s%s%s%s: file or manifest was changed", job->source->path, tensor ? "tensor '" : "",
                      ds_quote_name(tensor ? tensor : "").text, tensor ? "': " : "", message);
    if (tally->fn) tally->fn(tally->user, job->file->name, tensor, message);
}

ds_status ds_hash_run_verdict(const struct ds_hash_run *run, ds_difference_fn fn, void *user, struct ds_error *err) {
    struct tally tally = {.fn = fn, .user = user};
    for (size_t i = 0, next; i < run->count; i = next) {
        const struct ds_manifest_file *file = run->jobs[i].file;
        const struct ds_digest whole = join_digests(run, i, &next);
        const size_t before = tally.count;
        if (!ds_digest_equal(&run->jobs[i].digest, &file->rest))
            note(&tally, &run->jobs[i], file->n_tensors ? "what lies beside the tensors (names, shapes, keys) does not have the manifest's digest"
                                                        : "its bytes do not have the manifest's digest");
        for (size_t j = i + 1; j < next; j++)
            if (!ds_digest_equal(&run->jobs[j].digest, &run->jobs[j].tensor->digest)) note(&tally, &run->jobs[j], "its bytes do not have the manifest's digest");
        if (tally.count == before && !ds_digest_equal(&whole, &file->whole)) note(&tally, &run->jobs[i], "the manifest's digest of the file is not that of its parts");
    }
    if (tally.count == 0) return DS_OK;
    *err = tally.first;
    if (tally.count == 1) return DS_ERROR_MISMATCH;
    return ds_fail_context(err, "%zu differences, the first", tally.count);
}

static ds_status verify(const struct ds_manifest *manifest, const struct ds_ckpt *ckpt, const struct ds_hash_sources *sources,
                        const struct ds_hash_params *params, ds_difference_fn fn, void *user, struct ds_error *err) {
    DS_TRY(ds_manifest_compare_sources(manifest, ckpt, sources, err));
    struct ds_hash_run run = {0};
    ds_status status = hash_all(manifest, sources, params, &run, err);
    if (status == DS_OK) status = ds_hash_run_verdict(&run, fn, user, err);
    ds_hash_run_free(&run);
    return status;
}

ds_status ds_manifest_verify(const struct ds_manifest *manifest, const struct ds_ckpt *ckpt, const struct ds_hash_params *params, ds_difference_fn fn,
                             void *user, struct ds_error *err) {
    DS_TRY(ds_hash_require(err));
    struct ds_hash_sources sources;
    DS_TRY(ds_hash_sources_open(ckpt, &sources, err));
    const ds_status status = verify(manifest, ckpt, &sources, params, fn, user, err);
    ds_hash_sources_close(&sources);
    return status;
}
