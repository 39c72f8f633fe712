/* What several unit tests need beside cmocka: includes in the order it wants, messages, folders for a test's files. */
#ifndef DSPARK_TESTS_CHECK_H
#define DSPARK_TESTS_CHECK_H

#include "base/os.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static inline void check_contains(const char *text, const char *part) {
    if (!strstr(text, part)) fail_msg("expected '%s' in '%s'", part, text);
}

static inline void check_ok(ds_status status, const struct ds_error *err) {
    if (status != DS_OK) fail_msg("%s: %s", ds_status_name(status), err->message);
}

/* A fresh folder under the system's temporary one; removed, with the files in it, by check_remove_folder. */
static inline char *check_make_folder(void) {
    const char *base = getenv("TMPDIR");
    char *path = ds_os_join(base && *base ? base : "/tmp", "dspark-test-XXXXXX");
    assert_non_null(path);
    assert_non_null(mkdtemp(path));
    return path;
}

static inline void check_remove_folder(char *path) {
    char **names;
    size_t count;
    struct ds_error err;
    check_ok(ds_os_list_folder(path, &names, &count, &err), &err);
    for (size_t i = 0; i < count; i++) {
        char *file = ds_os_join(path, names[i]);
        if (remove(file) != 0) fail_msg("cannot remove %s", file);
        free(file);
    }
    ds_os_free_names(names, count);
    assert_int_equal(rmdir(path), 0);
    free(path);
}

/* The path of the only file in a folder; the caller frees it. */
static inline char *check_only_file(const char *folder) {
    char **names;
    size_t count;
    struct ds_error err;
    check_ok(ds_os_list_folder(folder, &names, &count, &err), &err);
    assert_int_equal(count, 1);
    char *path = ds_os_join(folder, names[0]);
    ds_os_free_names(names, count);
    return path;
}

static inline void check_overwrite(const char *path, const void *data, size_t bytes) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

/* Writes folder/name and returns its path, which the caller frees. */
static inline char *check_write_file(const char *folder, const char *name, const void *data, size_t bytes) {
    char *path = ds_os_join(folder, name);
    assert_non_null(path);
    check_overwrite(path, data, bytes);
    return path;
}

static inline void check_write_text(const char *folder, const char *name, const char *text) {
    free(check_write_file(folder, name, text, strlen(text)));
}

#endif
