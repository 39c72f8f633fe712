/* Opening an engine on a folder or file that must be refused, and what the message must say. */
#ifndef DSPARK_TESTS_REFUSALS_H
#define DSPARK_TESTS_REFUSALS_H

#include "byte_writer.h"
#include "dspark.h"
#include "tiny_model.h"

/* On device `ref`; *engine is closed again when that works. */
static inline ds_status try_open(const char *target, const char *drafter, struct ds_error *err) {
    ds_engine_params params = ds_engine_defaults();
    params.target = target;
    params.drafter = drafter;
    params.device = "ref";
    ds_engine *engine, *widened;
    const ds_status status = ds_engine_open(&params, &engine, err);
    assert_true((status == DS_OK) == (engine != NULL));
    ds_engine_destroy(engine);
    params.weights = DS_WEIGHTS_F32; /* what is refused as stored is refused widened, too */
    assert_int_equal(ds_engine_open(&params, &widened, err), status);
    ds_engine_destroy(widened);
    return status;
}

static inline void expect(ds_status status, ds_status expected, const struct ds_error *err, const char *part) {
    if (status != expected)
        fail_msg("expected %s, found %s: %s", ds_status_name(expected), ds_status_name(status), status == DS_OK ? "" : err->message);
    check_contains(err->message, part);
}

static inline void refuse_target(struct tiny_model *target, ds_status expected, const char *part) {
    char *folder = tiny_write(target);
    struct ds_error err;
    expect(try_open(folder, NULL, &err), expected, &err, part);
    check_contains(err.message, folder);
    check_remove_folder(folder);
}

static inline void refuse_drafter(struct tiny_model *drafter, ds_status expected, const char *part) {
    struct tiny_model target = tiny_target();
    char *home = tiny_write(&target), *folder = tiny_write(drafter);
    struct ds_error err;
    expect(try_open(home, folder, &err), expected, &err, part);
    check_contains(err.message, folder);
    check_remove_folder(home);
    check_remove_folder(folder);
}

/* A GGUF file of metadata alone that calls itself `architecture`, and its path, which the caller frees. */
static inline char *write_bare_gguf(const char *folder, const char *architecture) {
    enum { GGUF_STRING = 8 };
    struct bytes file = {.size = 0};
    put(&file, "GGUF", 4);
    put_u32(&file, 3);
    put_u64(&file, 0);
    put_u64(&file, 1);
    put_text(&file, "general.architecture");
    put_u32(&file, GGUF_STRING);
    put_text(&file, architecture);
    pad_to(&file, 32);
    return check_write_file(folder, "bare.gguf", file.data, file.size);
}

#endif
