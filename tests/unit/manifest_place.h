/* A tiny model with a manifest, and what loading says of it. */
#ifndef DSPARK_TESTS_MANIFEST_PLACE_H
#define DSPARK_TESTS_MANIFEST_PLACE_H

#include "ckpt/manifest.h"
#include "tiny_model.h"

struct place {
    char *folder, *manifest, *signature, *key, *public_key;
};

static inline void skip_without_libsodium(void) {
    if (!ds_hash_available()) skip();
}

static inline struct ds_ckpt *open_ckpt(const char *path) {
    struct ds_ckpt *ckpt;
    struct ds_error err;
    check_ok(ds_ckpt_open(path, &ckpt, &err), &err);
    return ckpt;
}

static inline void read_text(const char *path, char **text, size_t *size) {
    struct ds_error err;
    check_ok(ds_os_read_file(path, 1 << 26, text, size, &err), &err);
}

static inline void write_bytes(const char *path, const char *data, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static inline void write_manifest(const struct place *p) {
    struct ds_ckpt *ckpt = open_ckpt(p->folder);
    struct ds_manifest manifest;
    struct ds_error err;
    char *text;
    size_t size;
    check_ok(ds_manifest_build(ckpt, &(struct ds_hash_params){.threads = 2}, &manifest, &err), &err);
    check_ok(ds_manifest_text(&manifest, &text, &size, &err), &err);
    write_bytes(p->manifest, text, size);
    free(text);
    ds_manifest_free(&manifest);
    ds_ckpt_close(ckpt);
}

/* A tiny model with a manifest, and keys in a folder of their own. */
static inline int set_up(void **state) {
    struct place *p = calloc(1, sizeof *p);
    struct tiny_model m = tiny_target();
    p->folder = tiny_write(&m);
    p->manifest = ds_manifest_path(p->folder);
    p->signature = ds_signature_path(p->manifest);
    p->key = ds_os_join(p->folder, "key");
    p->public_key = ds_os_join(p->folder, "key.pub");
    if (ds_hash_available()) write_manifest(p);
    *state = p;
    return 0;
}

static inline int tear_down(void **state) {
    struct place *p = *state;
    check_remove_folder(p->folder);
    free(p->manifest);
    free(p->signature);
    free(p->key);
    free(p->public_key);
    free(p);
    return 0;
}

static const struct ds_manifest_trust anybody = {0};

/* As loading does it. */
static inline ds_status guard(const struct place *p, const struct ds_manifest_trust *trust, struct ds_error *err) {
    struct ds_ckpt *ckpt = NULL;
    struct ds_guard *g = NULL;
    struct ds_log log = {0};
    err->message[0] = '\0';
    ds_status status = ds_ckpt_open(p->folder, &ckpt, err);
    if (status == DS_OK) status = ds_guard_open(ckpt, trust, &log, &g, err);
    if (status == DS_OK) status = ds_guard_begin(g, 1, err);
    if (status == DS_OK) status = ds_guard_finish(g, err);
    ds_guard_close(g);
    ds_ckpt_close(ckpt);
    return status;
}

static inline void expect_good(const struct place *p, const struct ds_manifest_trust *trust) {
    struct ds_error err;
    check_ok(guard(p, trust, &err), &err);
}

static inline void expect_bad(const struct place *p, const struct ds_manifest_trust *trust, const char *part) {
    struct ds_error err;
    assert_int_not_equal(guard(p, trust, &err), DS_OK);
    check_contains(err.message, part);
}

#define DIGEST "00000000000000000000000000000000000000000000000000000000000000aa"
#define HEAD "{\"format\": \"dspark-manifest\", \"version\": 1, \"algorithm\": \"blake2b-256\", \"files\": ["
#define FILE_HEAD "{\"name\": \"a\", \"bytes\": 100, \"digest\": \"" DIGEST "\", \"rest\": \"" DIGEST "\", \"tensors\": ["
#define TENSOR(name, offset, bytes) "{\"name\": \"" name "\", \"offset\": " offset ", \"bytes\": " bytes ", \"digest\": \"" DIGEST "\"}"

/* A test with a place of its own. */
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
