/*
 * All that dspark takes from the operating system: files, mapping, threads, clocks, modules, paths, the floating-point
 * state. One folder of implementations per system (posix/); nothing else includes a system header for these things.
 */
#ifndef DSPARK_BASE_OS_H
#define DSPARK_BASE_OS_H

#include "base/status.h"

/* --- files --- */

/* A whole file mapped read-only. A zeroed struct is "nothing mapped"; ds_os_unmap accepts it. */
struct ds_mapping {
    const uint8_t *data; /* NULL when size is 0 */
    uint64_t size;
};
ds_status ds_os_map(const char *path, struct ds_mapping *out, struct ds_error *err);
void ds_os_unmap(struct ds_mapping *mapping);
/* The pages wholly inside [offset, offset + bytes) will not be needed again soon: they leave our resident set. A hint. */
void ds_os_release(const struct ds_mapping *mapping, uint64_t offset, uint64_t bytes);
/* The range will be read soon, in order. A hint. */
void ds_os_prefetch(const struct ds_mapping *mapping, uint64_t offset, uint64_t bytes);

/* Reads a whole file of at most `limit` bytes. *out is malloc'ed with a NUL behind its *size bytes; the caller frees it. */
ds_status ds_os_read_file(const char *path, uint64_t limit, char **out, size_t *size, struct ds_error *err);

/*
 * An output file that appears under its name only when complete: written beside it, synced, renamed by commit.
 * ds_os_write_abort removes what was written; it may follow a failed call and accepts a zeroed struct.
 */
struct ds_os_writer {
    int fd;
    char *path, *temporary; /* owned; NULL: not open */
};
ds_status ds_os_write_begin(const char *path, struct ds_os_writer *out, struct ds_error *err);
ds_status ds_os_write(struct ds_os_writer *writer, const void *data, size_t bytes, struct ds_error *err);
ds_status ds_os_write_commit(struct ds_os_writer *writer, struct ds_error *err);
void ds_os_write_abort(struct ds_os_writer *writer);

/*
 * A new file with these bytes, synced; `secret`: only its owner may read it. DS_ERROR_IO where there is one of this name
 * already.
 */
ds_status ds_os_create_file(const char *path, bool secret, const void *data, size_t bytes, struct ds_error *err);

/* A folder, which may be there already; *made: it was not. Its parent must exist. */
ds_status ds_os_make_folder(const char *path, bool *made, struct ds_error *err);
void ds_os_remove_empty_folder(const char *path); /* as far as that is possible */

enum ds_path_kind { DS_PATH_MISSING, DS_PATH_FILE, DS_PATH_FOLDER, DS_PATH_OTHER };
enum ds_path_kind ds_os_path_kind(const char *path);
/* folder + "/" + name, malloc'ed; NULL when memory is out. */
char *ds_os_join(const char *folder, const char *name);
/* Makes the folder and those it lies in, as far as they are missing. */
ds_status ds_os_make_folders(const char *path, struct ds_error *err);
/* Names in a folder, sorted bytewise, "." and ".." left out; one malloc'ed block per name and one for the list. */
ds_status ds_os_list_folder(const char *path, char ***names, size_t *count, struct ds_error *err);
void ds_os_free_names(char **names, size_t count);

/* --- memory --- */

/*
 * Zeroed memory aligned to `alignment` (a power of two, at least 64), given back to the system by ds_os_free_pages. NULL: none.
 */
void *ds_os_alloc_pages(uint64_t bytes, uint64_t alignment);
void ds_os_free_pages(void *data, uint64_t bytes);
/* Peak resident set of this process in bytes; 0: unknown. */
uint64_t ds_os_peak_rss(void);
/* Physical memory of the machine in bytes, a container's limit considered; 0: unknown. */
uint64_t ds_os_physical_memory(void);

/* --- time, randomness --- */

double ds_os_seconds(void); /* monotonic */
ds_status ds_os_random(void *out, size_t bytes, struct ds_error *err);

/* --- threads --- */

/* Processors this process may run on (affinity and cgroup quota considered), at least 1. */
unsigned ds_os_cpu_count(void);
/* The same, but only those that this process may keep busy all the time: of a quota of 1.5 processors one, of 0.5 none. */
unsigned ds_os_cpu_whole(void);
/*
 * Thousandths of a processor that the cgroup whose files lie in `folder` may use (version 2: cpu.max, version 1: cpu.cfs_*); 0:
 * no limit.
 */
uint64_t ds_os_cgroup_cpu(const char *folder);

/*
 * A processor that this process may run on. `capacity` tells big cores from little ones (1024: the biggest); 0: the system does
 * not say.
 */
struct ds_os_processor {
    unsigned id;
    uint32_t capacity;
};
/*
 * Fills at most `most`, in the order of their ids, and returns how many there are; 0: unknown. `folder` is where the system
 * describes its processors, NULL being the usual place.
 */
unsigned ds_os_processors(const char *folder, struct ds_os_processor *out, unsigned most);
/* Keeps the calling thread on one processor. A hint. */
void ds_os_thread_pin(unsigned processor);

struct ds_os_thread; /* owned by who created it; joined exactly once */
ds_status ds_os_thread_create(void (*fn)(void *), void *user, const char *name, struct ds_os_thread **out, struct ds_error *err);
void ds_os_thread_join(struct ds_os_thread *thread);

struct ds_os_mutex;
struct ds_os_mutex *ds_os_mutex_create(void); /* NULL: out of memory */
void ds_os_mutex_destroy(struct ds_os_mutex *mutex);
void ds_os_mutex_lock(struct ds_os_mutex *mutex);
void ds_os_mutex_unlock(struct ds_os_mutex *mutex);

struct ds_os_cond;
struct ds_os_cond *ds_os_cond_create(void); /* NULL: out of memory */
void ds_os_cond_destroy(struct ds_os_cond *cond);
void ds_os_cond_wait(struct ds_os_cond *cond, struct ds_os_mutex *mutex);
void ds_os_cond_broadcast(struct ds_os_cond *cond);

/* --- floating point --- */

/*
 * Rounding to nearest and denormals kept for this thread, as the numerics contract needs (a host may have set
 * flush-to-zero or another rounding mode). Returns what was set before, to be handed to ds_os_float_restore.
 */
struct ds_float_state {
    uint64_t bits[4]; /* filled by the system's own file */
};
struct ds_float_state ds_os_float_begin(void);
void ds_os_float_restore(struct ds_float_state state);

/* --- modules --- */

/* A shared module (dlopen). `symbol` gives NULL when it is absent. With `keep` it stays mapped after it is closed. */
struct ds_os_module;
ds_status ds_os_module_open(const char *path, bool keep, struct ds_os_module **out, struct ds_error *err);
void *ds_os_module_symbol(struct ds_os_module *module, const char *name);
void ds_os_module_close(struct ds_os_module *module);
/* The folder of the library or program that this code is in, malloc'ed; NULL: unknown, or memory is out. */
char *ds_os_own_folder(void);

#endif
