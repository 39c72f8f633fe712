/*
 * Inside src/base/posix, the operating system as POSIX gives it, with Linux's own extensions where they help: what its files
 * share.
 *
 *   read.c, write.c   whole files: mapped, read; written so that they appear complete
 *   folders.c         paths and folders
 *   memory.c          pages, and how much memory there is
 *   cgroup.c          what the group this process is in may use (Linux)
 *   processors.c      which processors this process may run on, and how many
 *   threads.c         threads, mutexes, conditions
 *   modules.c         shared modules, and where our own code lies
 *   posix.c           clock, randomness, and the helpers below
 *
 * os.h says what each call promises. The floating-point state is the processor's and the same on every system: base/os_float.c.
 */
#ifndef DSPARK_BASE_POSIX_POSIX_H
#define DSPARK_BASE_POSIX_POSIX_H

#include "base/os.h"

/* "cannot <action> '<path>': <what errno `error` means>". */
ds_status ds_posix_fail(struct ds_error *err, const char *action, const char *path, int error);

/* malloc'ed; NULL when memory is out. */
char *ds_posix_format(const char *format, ...) DS_PRINTF(1, 2);

uint64_t ds_posix_page_bytes(void);

/* The text of a small file, such as /proc and /sys are made of; NULL: there is none. The caller frees it. */
char *ds_posix_read_small(const char *path);
/* The number that such a file begins with; 0 where there is none, and where it is below 0 or a word ("max"). */
uint64_t ds_posix_read_number(const char *folder, const char *name);

/* Limits, of which 0 is none. */
static inline uint64_t ds_posix_smaller_limit(uint64_t a, uint64_t b) { return a == 0 || b == 0 ? a + b : DS_MIN(a, b); }

/* What cgroups allow this process: thousandths of a processor, bytes. 0: no limit. */
uint64_t ds_posix_cgroup_cpu(void);
uint64_t ds_posix_cgroup_memory(void);

#endif
