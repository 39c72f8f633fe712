/*
 * Inside src/ckpt: digests of a checkpoint's files, computed by several threads, and what is done with them.
 *
 *   manifest.c           a manifest as text
 *   manifest_sources.c   which files have digests
 *   manifest_hash.c      the digests
 *   manifest_build.c     a manifest from a checkpoint
 *   manifest_compare.c   a checkpoint against its manifest, now
 *   manifest_guard.c     the same, while the weights are being loaded
 *   manifest_keys.c      keys and signatures
 */
#ifndef DSPARK_CKPT_MANIFEST_INTERNAL_H
#define DSPARK_CKPT_MANIFEST_INTERNAL_H

#include "ckpt/ckpt_internal.h"
#include "ckpt/manifest.h"

#include <stdatomic.h>

/* A file that dspark reads of a checkpoint. */
struct ds_hash_source {
    const char *name; /* behind the last '/' */
    const char *path;
    struct ds_mapping mapping;
    bool mine;      /* mapped here */
    uint32_t index; /* in the checkpoint, where it is one of its mapped files */
    bool mapped;    /* ... which it is */
};
struct ds_hash_sources {
    struct ds_arena arena;
    struct ds_hash_source *list;
    size_t count;
};
/* The checkpoint's files, and of a folder the configuration and tokenizer. */
ds_status ds_hash_sources_open(const struct ds_ckpt *ckpt, struct ds_hash_sources *out, struct ds_error *err);
void ds_hash_sources_close(struct ds_hash_sources *sources);
/* NULL: there is none of this name. */
const struct ds_hash_source *ds_hash_sources_find(const struct ds_hash_sources *sources, const char *name);

/* One digest to be computed, or to be compared. */
struct ds_hash_job {
    const struct ds_hash_source *source;
    const struct ds_manifest_file *file;
    const struct ds_manifest_tensor *tensor; /* NULL: what lies in no tensor */
    struct ds_digest digest;                 /* the result */
};

enum { DS_HASH_MOST_THREADS = 64 };
struct ds_hash_run {
    struct ds_hash_job *jobs; /* owned */
    size_t count;
    uint64_t total;           /* bytes */
    _Atomic size_t next;
    _Atomic uint64_t done;
    atomic_bool stop;
    ds_progress_fn progress; /* called by the thread that called ds_hash_run_join */
    void *user;
    struct ds_os_thread *threads[DS_HASH_MOST_THREADS];
    unsigned n_threads;
};
/* Jobs of a manifest whose names have been compared with the sources: of each file the rest, then its tensors. */
ds_status ds_hash_run_plan(struct ds_hash_run *run, const struct ds_manifest *manifest, const struct ds_hash_sources *sources, struct ds_error *err);
void ds_hash_run_start(struct ds_hash_run *run, uint32_t threads); /* threads beside the caller; those that cannot be had are done without */
/* Helps until all is done, or stopped. */
ds_status ds_hash_run_join(struct ds_hash_run *run, struct ds_error *err);
void ds_hash_run_free(struct ds_hash_run *run); /* stops and waits */
/* Plan, start and join, with what `params` say. */
ds_status ds_hash_run_all(struct ds_hash_run *run, const struct ds_manifest *manifest, const struct ds_hash_sources *sources,
                          const struct ds_hash_params *params, struct ds_error *err);
/* After a run: jobs [first, *next) are those of one file, in order; its digest is that of theirs. */
struct ds_digest ds_hash_file_digest(const struct ds_hash_run *run, size_t first, size_t *next);

ds_status ds_manifest_compare_sources(const struct ds_manifest *manifest, const struct ds_ckpt *ckpt, const struct ds_hash_sources *sources,
                                      struct ds_error *err);
/* After a run: which digests are not the manifest's. */
ds_status ds_hash_run_verdict(const struct ds_hash_run *run, ds_difference_fn fn, void *user, struct ds_error *err);

#endif
