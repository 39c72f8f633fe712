/* Folders of the tiny random target and its drafter, for a whole test program. */
#ifndef DSPARK_TESTS_TINY_PAIR_H
#define DSPARK_TESTS_TINY_PAIR_H

#include "tiny_model.h"

static char *target_folder, *drafter_folder;

static inline int write_models(void **state) {
    (void)state;
    struct tiny_model target = tiny_target(), drafter = tiny_drafter();
    target_folder = tiny_write(&target);
    drafter_folder = tiny_write(&drafter);
    return 0;
}

static inline int remove_models(void **state) {
    (void)state;
    check_remove_folder(target_folder);
    check_remove_folder(drafter_folder);
    return 0;
}

#endif
