/* Whether a checkpoint is what its manifest says: first its files and tensors, then every byte. */
#include "ckpt/manifest_internal.h"

#include <inttypes.h>
#include <string.h>

static const struct ds_manifest_file *find_file(const struct ds_manifest *manifest, const char *name) {
    for (size_t i = 0; i < manifest->n_files; i++)
        if (strcmp(manifest->files[i].name, name) == 0) return &manifest->files[i];
    return NULL;
}

/*
 * A tensor of a type that this version cannot read has a manifest's entry, too, when another version wrote it: its bytes are
 * checked all the same.
 */
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
        if (!ds_hash_sources_find(sources, manifest->files[i].name))
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

/* --- digests --- */

/* The differences found so far. */
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

/* Jobs from `first` on, of one file; returns the next file's first. */
static size_t judge_file(const struct ds_hash_run *run, size_t first, struct tally *tally) {
    static const char other_bytes[] = "its bytes do not have the manifest's digest";
    const struct ds_manifest_file *file = run->jobs[first].file;
    const size_t before = tally->count;
    size_t next;
    const struct ds_digest whole = ds_hash_file_digest(run, first, &next);
    if (!ds_digest_equal(&run->jobs[first].digest, &file->rest))
        note(tally, &run->jobs[first],
             file->n_tensors ? "what lies beside the tensors (names, shapes, keys) does not have the manifest's digest" : other_bytes);
    for (size_t j = first + 1; j < next; j++)
        if (!ds_digest_equal(&run->jobs[j].digest, &run->jobs[j].tensor->digest)) note(tally, &run->jobs[j], other_bytes);
    if (tally->count == before && !ds_digest_equal(&whole, &file->whole))
        note(tally, &run->jobs[first], "the manifest's digest of the file is not that of its parts");
    return next;
}

ds_status ds_hash_run_verdict(const struct ds_hash_run *run, ds_difference_fn fn, void *user, struct ds_error *err) {
    struct tally tally = {.fn = fn, .user = user};
    for (size_t i = 0; i < run->count;) i = judge_file(run, i, &tally);
    if (tally.count == 0) return DS_OK;
    *err = tally.first;
    if (tally.count == 1) return DS_ERROR_MISMATCH;
    return ds_fail_context(err, "%zu differences, the first", tally.count);
}

static ds_status verify(const struct ds_manifest *manifest, const struct ds_ckpt *ckpt, const struct ds_hash_sources *sources,
                        const struct ds_hash_params *params, ds_difference_fn fn, void *user, struct ds_error *err) {
    DS_TRY(ds_manifest_compare_sources(manifest, ckpt, sources, err));
    struct ds_hash_run run = {0};
    ds_status status = ds_hash_run_all(&run, manifest, sources, params, err);
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
