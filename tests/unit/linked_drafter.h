/* A copy of one of the tiny drafters, by links, so that a file can lie beside it; and an engine with it that keeps its last warning. */
#ifndef DSPARK_TESTS_LINKED_DRAFTER_H
#define DSPARK_TESTS_LINKED_DRAFTER_H

#include "streams.h"

#include <unistd.h>

static char *folder;

static void make_drafter(const char *name) {
    static const char *const names[] = {"config.json", "model.safetensors"};
    char from[1024];
    folder = check_make_folder();
    for (size_t i = 0; i < DS_COUNT(names); i++) {
        char *to = ds_os_join(folder, names[i]);
        snprintf(from, sizeof from, "%s/models/tiny/%s/%s", DSPARK_SOURCE_ROOT, name, names[i]);
        assert_int_equal(symlink(from, to), 0);
        free(to);
    }
}

static char warning[1024];
static void keep_warning(void *user, ds_log_level level, const char *message) {
    (void)user;
    if (level == DS_LOG_WARNING) snprintf(warning, sizeof warning, "%s", message);
}

static inline ds_engine *open_pair(void) {
    ds_engine_params params = ds_engine_defaults();
    params.target = PAIR_TARGET;
    params.drafter = folder;
    params.context = 256;
    params.threads = 1;
    params.log = keep_warning;
    warning[0] = '\0';
    return open_engine(&params);
}

#endif
