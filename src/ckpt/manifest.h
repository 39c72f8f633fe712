/*
 * The manifest of a checkpoint: BLAKE2b digests of its files and tensors, a small JSON file beside it, and an Ed25519 signature over
 * that. The format: docs/formats.md.
 *
 * A manifest is immutable once read or built. Functions without a struct ds_guard may be called from any thread.
 */
#ifndef DSPARK_CKPT_MANIFEST_H
#define DSPARK_CKPT_MANIFEST_H

#include "base/arena.h"
#include "base/hash.h"
#include "ckpt/checkpoint.h"

struct ds_manifest_tensor {
    const char *name;
    uint64_t offset, bytes; /* in the file */
    struct ds_digest digest;
};

struct ds_manifest_file {
    const char *name;       /* without a folder */
    uint64_t bytes;
    struct ds_digest rest;  /* of what lies in no tensor, in one piece */
    struct ds_digest whole; /* of `rest` and the tensors' digests, in this order: parts are hashed by several threads, once */
    struct ds_manifest_tensor *tensors; /* by offset */
    size_t n_tensors;
};

struct ds_manifest {
    struct ds_arena arena; /* all of it */
    struct ds_manifest_file *files;
    size_t n_files;
};
void ds_manifest_free(struct ds_manifest *manifest);

/* --- text --- */

/* There is one way to write a manifest; any other bytes are refused, so that no bit of it can change unnoticed. Messages name no file. */
ds_status ds_manifest_parse(const char *text, size_t size, struct ds_manifest *out, struct ds_error *err);
/* malloc'ed; the caller frees it. */
ds_status ds_manifest_text(const struct ds_manifest *manifest, char **out, size_t *size, struct ds_error *err);

/* "model.gguf.manifest.json"; "folder/dspark-manifest.json". malloc'ed; NULL: out of memory. */
char *ds_manifest_path(const char *checkpoint);
/* "MANIFEST.sig". malloc'ed; NULL: out of memory. */
char *ds_signature_path(const char *manifest_path);

/* --- hashing a checkpoint --- */

struct ds_hash_params {
    uint32_t threads; /* 0: one per processor this process may use */
    ds_progress_fn progress; /* bytes hashed; false: DS_ERROR_CANCELLED. NULL: none */
    void *user;
};
/* All files that dspark would read of the checkpoint. */
ds_status ds_manifest_build(const struct ds_ckpt *ckpt, const struct ds_hash_params *params, struct ds_manifest *out, struct ds_error *err);

/* One difference between a checkpoint and its manifest, in words; pointers are valid during the callback, on the caller's thread. */
typedef void (*ds_difference_fn)(void *user, const char *file, const char *tensor /* NULL: the file itself */, const char *message);

/* Which files and tensors there are and where, without a digest. DS_ERROR_MISMATCH at the first difference. */
ds_status ds_manifest_compare(const struct ds_manifest *manifest, const struct ds_ckpt *ckpt, struct ds_error *err);
/* Every digest; each difference is told to `fn` (NULL: none). DS_ERROR_MISMATCH names the first one and the number of others. */
ds_status ds_manifest_verify(const struct ds_manifest *manifest, const struct ds_ckpt *ckpt, const struct ds_hash_params *params, ds_difference_fn fn,
                             void *user, struct ds_error *err);

/* --- keys and signatures: lines of text --- */

/* A new pair: `path` (only its owner may read it) and `path`.pub. Neither may exist. */
ds_status ds_keys_write(const char *path, struct ds_error *err);
ds_status ds_secret_key_read(const char *path, uint8_t key[DS_SECRET_KEY_BYTES], struct ds_error *err);

enum { DS_MOST_KEYS = 64 };
struct ds_public_keys {
    uint8_t keys[DS_MOST_KEYS][DS_PUBLIC_KEY_BYTES];
    size_t count;
};
/* `text`: 64 hexadecimal digits, or the path of a file with a key a line. */
ds_status ds_public_keys_read(const char *text, struct ds_public_keys *out, struct ds_error *err);

struct ds_signature {
    uint8_t public_key[DS_PUBLIC_KEY_BYTES], signature[DS_SIGNATURE_BYTES];
};
/* Messages name no file. */
ds_status ds_signature_parse(const char *text, size_t size, struct ds_signature *out, struct ds_error *err);
ds_status ds_signature_write(const char *path, const struct ds_signature *signature, struct ds_error *err);

/* --- reading what lies beside a checkpoint --- */

struct ds_manifest_trust {
    bool required;     /* no manifest: DS_ERROR_MISMATCH */
    const char *trust; /* as for ds_public_keys_read; no manifest signed by one of these keys: DS_ERROR_MISMATCH. NULL: any or no signature */
};
/* *found is false and nothing is filled where there is no manifest. A signature that is there must be right, whoever made it. */
ds_status ds_manifest_read(const char *checkpoint, const struct ds_manifest_trust *trust, bool *found, struct ds_manifest *out,
                           struct ds_signature *signer /* NULL: not wanted; zeros: not signed */, struct ds_error *err);

/* --- while a checkpoint is loaded --- */

/*
 * Verifies the checkpoint in threads of its own while somebody reads it. A guard belongs to one thread; the checkpoint must outlive it.
 * *out is NULL with DS_OK where there is no manifest to verify, which `log` is told where one is there and this build cannot.
 */
struct ds_guard;
ds_status ds_guard_open(const struct ds_ckpt *ckpt, const struct ds_manifest_trust *trust, const struct ds_log *log, struct ds_guard **out,
                        struct ds_error *err);
/* Starts hashing; NULL does nothing. */
ds_status ds_guard_begin(struct ds_guard *guard, uint32_t threads, struct ds_error *err);
/* Waits: the verdict. DS_OK for NULL and for one that was not begun. */
ds_status ds_guard_finish(struct ds_guard *guard, struct ds_error *err);
void ds_guard_cancel(struct ds_guard *guard); /* stops hashing; ds_guard_begin starts anew. Accepts NULL */
void ds_guard_close(struct ds_guard *guard); /* stops hashing; accepts NULL */

#endif
