/* Digests of files, computed by several threads: one job for each tensor, and one for what lies beside them in a file. */
#include "ckpt/manifest_internal.h"

#include <stdlib.h>

enum { PIECE_BYTES = 4 << 20 };

ds_status ds_hash_run_plan(struct ds_hash_run *run, const struct ds_manifest *manifest, const struct ds_hash_sources *sources, struct ds_error *err) {
    size_t most = manifest->n_files;
    for (size_t i = 0; i < manifest->n_files; i++) most += manifest->files[i].n_tensors;
    run->jobs = calloc(most, sizeof *run->jobs);
    if (!run->jobs) return ds_fail_memory(err, most * sizeof *run->jobs, "a list of digests");
    for (size_t i = 0; i < manifest->n_files; i++) {
        const struct ds_manifest_file *file = &manifest->files[i];
        const struct ds_hash_source *source = ds_hash_sources_find(sources, file->name);
        run->jobs[run->count++] = (struct ds_hash_job){.file = file, .source = source};
        for (size_t t = 0; t < file->n_tensors; t++) run->jobs[run->count++] = (struct ds_hash_job){.file = file, .source = source, .tensor = &file->tensors[t]};
        run->total += file->bytes;
    }
    return DS_OK;
}

/* --- working --- */

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

ds_status ds_hash_run_all(struct ds_hash_run *run, const struct ds_manifest *manifest, const struct ds_hash_sources *sources,
                          const struct ds_hash_params *params, struct ds_error *err) {
    run->progress = params->progress;
    run->user = params->user;
    DS_TRY(ds_hash_run_plan(run, manifest, sources, err));
    ds_hash_run_start(run, (params->threads ? params->threads : ds_os_cpu_count()) - 1);
    return ds_hash_run_join(run, err);
}

struct ds_digest ds_hash_file_digest(const struct ds_hash_run *run, size_t first, size_t *next) {
    struct ds_blake2b hash;
    ds_blake2b_begin(&hash);
    for (*next = first; *next < run->count && run->jobs[*next].file == run->jobs[first].file; ++*next)
        ds_blake2b_add(&hash, run->jobs[*next].digest.bytes, DS_DIGEST_BYTES);
    return ds_blake2b_end(&hash);
}
