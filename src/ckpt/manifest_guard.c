/* Manifests on the way: reading what lies beside a checkpoint, and verifying while somebody else reads the tensors. */
#include "ckpt/manifest_internal.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_MANIFEST_BYTES = 512 << 20, MOST_SIGNATURE_BYTES = 4096 };

/* --- reading --- */

static bool is_trusted(const struct ds_public_keys *keys, const uint8_t *key) {
    for (size_t i = 0; i < keys->count; i++)
        if (memcmp(keys->keys[i], key, DS_PUBLIC_KEY_BYTES) == 0) return true;
    return false;
}

/* A wrong signature is never passed over: somebody wanted it to be right. */
static ds_status check_signature(const char *path, const char *text, size_t size, const struct ds_public_keys *keys, struct ds_signature *signer,
                                 struct ds_error *err) {
    if (ds_os_path_kind(path) == DS_PATH_MISSING) {
        if (!keys) return DS_OK;
        return ds_fail(err, DS_ERROR_MISMATCH, "'%s' is missing: the manifest is not signed, and --trust asks for a signature", path);
    }
    char *line;
    size_t length;
    DS_TRY(ds_os_read_file(path, MOST_SIGNATURE_BYTES, &line, &length, err));
    const ds_status status = ds_signature_parse(line, length, signer, err);
    free(line);
    if (status != DS_OK) return ds_fail_context(err, "%s", path);
    char hex[2 * DS_PUBLIC_KEY_BYTES + 1];
    ds_hex_write(signer->public_key, sizeof signer->public_key, hex);
    if (!ds_sign_check(text, size, signer->public_key, signer->signature))
        return ds_fail(err, DS_ERROR_MISMATCH, "%s: the signature is not one of key %s over this manifest: one of them was changed", path, hex);
    if (keys && !is_trusted(keys, signer->public_key))
        return ds_fail(err, DS_ERROR_MISMATCH, "%s: the manifest is signed by key %s, which is not trusted here", path, hex);
    return DS_OK;
}

static ds_status read_texts(const char *path, const struct ds_public_keys *keys, struct ds_manifest *out, struct ds_signature *signer, struct ds_error *err) {
    char *text, *signature_path = ds_signature_path(path);
    size_t size;
    if (!signature_path) return ds_fail_memory(err, strlen(path), "a path");
    ds_status status = ds_os_read_file(path, MOST_MANIFEST_BYTES, &text, &size, err);
    if (status == DS_OK) {
        status = ds_manifest_parse(text, size, out, err);
        if (status != DS_OK) ds_fail_context(err, "%s", path);
        if (status == DS_OK) status = check_signature(signature_path, text, size, keys, signer, err);
        if (status != DS_OK) ds_manifest_free(out);
        free(text);
    }
    free(signature_path);
    return status;
}

ds_status ds_manifest_read(const char *checkpoint, const struct ds_manifest_trust *trust, bool *found, struct ds_manifest *out,
                           struct ds_signature *signer, struct ds_error *err) {
    struct ds_signature unwanted;
    struct ds_public_keys keys;
    if (!signer) signer = &unwanted;
    *found = false;
    *out = (struct ds_manifest){0};
    *signer = (struct ds_signature){0};
    if (trust->trust) DS_TRY(ds_public_keys_read(trust->trust, &keys, err));
    char *path = ds_manifest_path(checkpoint);
    if (!path) return ds_fail_memory(err, strlen(checkpoint), "a path");
    ds_status status = DS_OK;
    if (ds_os_path_kind(path) != DS_PATH_MISSING) {
        status = ds_hash_require(err);
        if (status == DS_OK) status = read_texts(path, trust->trust ? &keys : NULL, out, signer, err);
        *found = status == DS_OK;
    } else if (trust->required || trust->trust) {
        status = ds_fail(err, DS_ERROR_MISMATCH, "%s: there is no manifest '%s', which is asked for; `dspark hash` makes one", checkpoint, path);
    }
    free(path);
    return status;
}

/* --- guarding --- */

struct ds_guard {
    struct ds_manifest manifest;
    struct ds_hash_sources sources;
    struct ds_hash_run run;
    bool begun;
};

/* Nothing to verify, or no means: true. A manifest that is asked for is not passed over. */
static bool cannot_verify(const struct ds_ckpt *ckpt, const struct ds_manifest_trust *trust, const struct ds_log *log) {
    if (ds_hash_available() || trust->required || trust->trust) return false;
    char *path = ds_manifest_path(ckpt->path);
    if (path && ds_os_path_kind(path) != DS_PATH_MISSING)
        ds_logf(log, DS_LOG_WARNING, "%s is not verified: this dspark was built without libsodium", path);
    free(path);
    return true;
}

static bool is_borrowed(const struct ds_ckpt *ckpt) { return ckpt->file_count > 0 && ckpt->files[0].borrowed; }

ds_status ds_guard_open(const struct ds_ckpt *ckpt, const struct ds_manifest_trust *trust, const struct ds_log *log, struct ds_guard **out,
                        struct ds_error *err) {
    *out = NULL;
    if (is_borrowed(ckpt) || cannot_verify(ckpt, trust, log)) return DS_OK;
    struct ds_guard *guard = calloc(1, sizeof *guard);
    if (!guard) return ds_fail_memory(err, sizeof *guard, "a manifest");
    struct ds_signature signer;
    bool found;
    ds_status status = ds_manifest_read(ckpt->path, trust, &found, &guard->manifest, &signer, err);
    if (status == DS_OK && found) {
        status = ds_hash_sources_open(ckpt, &guard->sources, err);
        if (status == DS_OK) status = ds_manifest_compare_sources(&guard->manifest, ckpt, &guard->sources, err);
    }
    if (status != DS_OK || !found) {
        ds_guard_close(guard);
        return status;
    }
    *out = guard;
    return DS_OK;
}

ds_status ds_guard_begin(struct ds_guard *guard, uint32_t threads, struct ds_error *err) {
    if (!guard || guard->begun) return DS_OK;
    DS_TRY(ds_hash_run_plan(&guard->run, &guard->manifest, &guard->sources, err));
    guard->begun = true;
    ds_hash_run_start(&guard->run, DS_MAX(threads, 1));
    return DS_OK;
}

/* Begun once more after a failure, it hashes once more. */
ds_status ds_guard_finish(struct ds_guard *guard, struct ds_error *err) {
    if (!guard || !guard->begun) return DS_OK;
    ds_status status = ds_hash_run_join(&guard->run, err);
    if (status == DS_OK) status = ds_hash_run_verdict(&guard->run, NULL, NULL, err);
    ds_guard_cancel(guard);
    return status;
}

void ds_guard_cancel(struct ds_guard *guard) {
    if (!guard || !guard->begun) return;
    ds_hash_run_free(&guard->run);
    guard->run = (struct ds_hash_run){0};
    guard->begun = false;
}

void ds_guard_close(struct ds_guard *guard) {
    if (!guard) return;
    ds_hash_run_free(&guard->run);
    ds_hash_sources_close(&guard->sources);
    ds_manifest_free(&guard->manifest);
    free(guard);
}
