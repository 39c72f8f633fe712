/* The operating system as POSIX gives it, with Linux's own extensions where they help. See os.h for what each call promises. */
#include "base/os.h"

#include <assert.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sched.h>
#else
#include <sys/random.h>
#endif
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

static ds_status fail_errno(struct ds_error *err, const char *action, const char *path, int error) {
    const ds_status status = error == ENOMEM ? DS_ERROR_MEMORY : DS_ERROR_IO;
    return ds_fail(err, status, "cannot %s '%s': %s", action, path, strerror(error));
}

static uint64_t page_bytes(void) {
    const long n = sysconf(_SC_PAGESIZE);
    return n > 0 ? (uint64_t)n : 4096;
}

/* --- mapping --- */

ds_status ds_os_map(const char *path, struct ds_mapping *out, struct ds_error *err) {
    *out = (struct ds_mapping){0};
    /* Non-blocking, because opening a pipe without a writer would wait for ever; regular files do not care. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return fail_errno(err, "open", path, errno);

    struct stat info;
    ds_status status = DS_OK;
    if (fstat(fd, &info) != 0) {
        status = fail_errno(err, "examine", path, errno);
    } else if (!S_ISREG(info.st_mode)) {
        status = ds_fail(err, DS_ERROR_IO, "cannot map '%s': expected a regular file, found %s", path,
                         S_ISDIR(info.st_mode) ? "a folder" : "a device, pipe or socket");
    } else if ((uint64_t)info.st_size > SIZE_MAX) {
        status = ds_fail(err, DS_ERROR_LIMIT, "cannot map '%s': %lld bytes do not fit this machine's address space", path,
                         (long long)info.st_size);
    } else if (info.st_size > 0) { /* mmap refuses an empty range */
        void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            status = fail_errno(err, "map", path, errno);
        } else {
            *out = (struct ds_mapping){.data = data, .size = (uint64_t)info.st_size};
        }
    }
    close(fd);
    return status;
}

/* munmap and madvise want a pointer to non-const, though a read-only mapping stays as it is. */
static void *address(const struct ds_mapping *mapping, uint64_t offset) {
    return (void *)((uintptr_t)mapping->data + (uintptr_t)offset);
}

void ds_os_unmap(struct ds_mapping *mapping) {
    if (mapping->data) munmap(address(mapping, 0), (size_t)mapping->size);
    *mapping = (struct ds_mapping){0};
}

void ds_os_release(const struct ds_mapping *mapping, uint64_t offset, uint64_t bytes) {
    if (offset > mapping->size) return;
    /* Inwards: pages shared with a neighbour stay. The file's last, partial page counts as whole. */
    const uint64_t page = page_bytes();
    uint64_t end = offset + DS_MIN(bytes, mapping->size - offset);
    end = end == mapping->size ? DS_ALIGN_UP(end, page) : end / page * page;
    const uint64_t begin = DS_ALIGN_UP(offset, page);
    if (begin < end) (void)madvise(address(mapping, begin), (size_t)(end - begin), MADV_DONTNEED);
}

void ds_os_prefetch(const struct ds_mapping *mapping, uint64_t offset, uint64_t bytes) {
    if (offset >= mapping->size || bytes == 0) return;
    const uint64_t end = offset + DS_MIN(bytes, mapping->size - offset);
    const uint64_t begin = offset / page_bytes() * page_bytes();
    (void)madvise(address(mapping, begin), (size_t)(end - begin), MADV_WILLNEED);
}

/* --- reading --- */

/* Fills `data` up to `bytes`; *got is less only at the end of the file. 0 or an errno. */
static int read_fully(int fd, char *data, size_t bytes, size_t *got) {
    for (*got = 0; *got < bytes;) {
        const ssize_t n = read(fd, data + *got, bytes - *got);
        if (n == 0) break;
        if (n > 0) {
            *got += (size_t)n;
        } else if (errno != EINTR) {
            return errno;
        }
    }
    return 0;
}

/* The size a file claims is only where the buffer starts: pipes and /proc claim 0. */
static ds_status read_growing(int fd, const char *path, uint64_t claimed, uint64_t limit, char **out, size_t *size,
                              struct ds_error *err) {
    size_t capacity = (size_t)DS_MAX(claimed, 4096) + 1; /* one more, to see the end of file in the same pass */
    char *data = NULL;
    for (size_t used = 0;;) {
        char *larger = realloc(data, capacity + 1);
        if (!larger) {
            free(data);
            return ds_fail_memory(err, capacity + 1, path);
        }
        data = larger;
        size_t got;
        const int error = read_fully(fd, data + used, capacity - used, &got);
        used += got;
        if (error != 0 || used > limit) {
            free(data);
            if (error != 0) return fail_errno(err, "read", path, error);
            return ds_fail(err, DS_ERROR_LIMIT, "'%s' is longer than the %llu bytes that are read of such a file", path,
                           (unsigned long long)limit);
        }
        if (used < capacity) {
            data[used] = '\0';
            *out = data;
            *size = used;
            return DS_OK;
        }
        capacity *= 2; /* cannot overflow: used <= limit < SIZE_MAX / 4 */
    }
}

ds_status ds_os_read_file(const char *path, uint64_t limit, char **out, size_t *size, struct ds_error *err) {
    *out = NULL;
    *size = 0;
    limit = DS_MIN(limit, SIZE_MAX / 4);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_errno(err, "open", path, errno);
    struct stat info;
    ds_status status;
    if (fstat(fd, &info) != 0) {
        status = fail_errno(err, "examine", path, errno);
    } else {
        const uint64_t claimed = S_ISREG(info.st_mode) ? (uint64_t)info.st_size : 0;
        status = read_growing(fd, path, DS_MIN(claimed, limit), limit, out, size, err);
    }
    close(fd);
    return status;
}

/* --- writing --- */

static char *format_text(const char *format, ...) DS_PRINTF(1, 2);
static char *format_text(const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, format, args);
    char *text = n < 0 ? NULL : malloc((size_t)n + 1);
    if (text) vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    va_end(args);
    return text;
}

static ds_status fail_writer(struct ds_os_writer *writer, const char *action, struct ds_error *err) {
    const ds_status status = fail_errno(err, action, writer->temporary, errno);
    ds_os_write_abort(writer);
    return status;
}

ds_status ds_os_write_begin(const char *path, struct ds_os_writer *out, struct ds_error *err) {
    *out = (struct ds_os_writer){.fd = -1};
    const enum ds_path_kind kind = ds_os_path_kind(path);
    /* A rename would replace /dev/null by a file, and cannot replace a folder. */
    if (kind != DS_PATH_MISSING && kind != DS_PATH_FILE)
        return ds_fail(err, DS_ERROR_IO, "cannot write '%s': expected a file's name, found %s", path,
                       kind == DS_PATH_FOLDER ? "a folder" : "a device, pipe or socket");
    /* Through symbolic links, so that the file they lead to is replaced and not the link. */
    out->path = kind == DS_PATH_FILE ? realpath(path, NULL) : format_text("%s", path);
    if (!out->path) return fail_errno(err, "resolve", path, errno);

    for (int attempt = 0; attempt < 16; attempt++) {
        uint32_t tag;
        const ds_status status = ds_os_random(&tag, sizeof tag, err);
        if (status != DS_OK) {
            ds_os_write_abort(out);
            return status;
        }
        out->temporary = format_text("%s.%08x.part", out->path, (unsigned)tag);
        if (!out->temporary) {
            ds_os_write_abort(out);
            return ds_fail_memory(err, strlen(path) + 16, "a file's name");
        }
        out->fd = open(out->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (out->fd >= 0) return DS_OK;
        const int error = errno;
        free(out->temporary);
        out->temporary = NULL;
        errno = error;
        if (error != EEXIST) break;
    }
    const ds_status status = fail_errno(err, "create", path, errno);
    ds_os_write_abort(out);
    return status;
}

ds_status ds_os_write(struct ds_os_writer *writer, const void *data, size_t bytes, struct ds_error *err) {
    const char *p = data;
    while (bytes > 0) {
        const ssize_t n = write(writer->fd, p, bytes);
        if (n > 0) {
            p += n;
            bytes -= (size_t)n;
        } else if (n < 0 && errno != EINTR) {
            return fail_errno(err, "write", writer->temporary, errno);
        }
    }
    return DS_OK;
}

/* A rename is durable once its folder is. Not every file system can do this, and the file is complete without it. */
static void sync_folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    char *folder = !slash ? format_text(".") : format_text("%.*s", (int)DS_MAX(slash - path, 1), path);
    const int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    free(folder);
}

ds_status ds_os_write_commit(struct ds_os_writer *writer, struct ds_error *err) {
    if (fsync(writer->fd) != 0 && errno != EINVAL) return fail_writer(writer, "write", err);
    const int fd = writer->fd;
    writer->fd = -1; /* close gives the descriptor back even when it fails */
    if (close(fd) != 0 && errno != EINTR) return fail_writer(writer, "write", err);
    if (rename(writer->temporary, writer->path) != 0) return fail_writer(writer, "rename", err);
    sync_folder_of(writer->path);
    free(writer->temporary);
    writer->temporary = NULL;
    ds_os_write_abort(writer);
    return DS_OK;
}

void ds_os_write_abort(struct ds_os_writer *writer) {
    if (writer->temporary) {
        if (writer->fd >= 0) close(writer->fd);
        unlink(writer->temporary);
    }
    free(writer->temporary);
    free(writer->path);
    *writer = (struct ds_os_writer){.fd = -1};
}

ds_status ds_os_create_file(const char *path, bool secret, const void *data, size_t bytes, struct ds_error *err) {
    struct ds_os_writer writer = {.fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, secret ? 0600 : 0666), .temporary = format_text("%s", path)};
    if (writer.fd < 0) {
        const int error = errno;
        free(writer.temporary);
        return fail_errno(err, "create", path, error);
    }
    if (!writer.temporary) {
        close(writer.fd);
        unlink(path);
        return ds_fail_memory(err, strlen(path), "a path");
    }
    DS_TRY(ds_os_write(&writer, data, bytes, err)); /* takes the file away when it fails */
    if (fsync(writer.fd) != 0 && errno != EINVAL) return fail_writer(&writer, "write", err);
    const int fd = writer.fd;
    writer.fd = -1;
    if (close(fd) != 0 && errno != EINTR) return fail_writer(&writer, "write", err);
    free(writer.temporary);
    return DS_OK;
}

/* --- paths --- */

ds_status ds_os_make_folder(const char *path, bool *made, struct ds_error *err) {
    *made = mkdir(path, 0777) == 0;
    if (*made || (errno == EEXIST && ds_os_path_kind(path) == DS_PATH_FOLDER)) return DS_OK;
    return fail_errno(err, "create folder", path, errno);
}

void ds_os_remove_empty_folder(const char *path) { (void)rmdir(path); }

enum ds_path_kind ds_os_path_kind(const char *path) {
    struct stat info;
    if (stat(path, &info) != 0) return DS_PATH_MISSING;
    if (S_ISREG(info.st_mode)) return DS_PATH_FILE;
    return S_ISDIR(info.st_mode) ? DS_PATH_FOLDER : DS_PATH_OTHER;
}

char *ds_os_join(const char *folder, const char *name) {
    const size_t n = strlen(folder);
    return format_text("%s%s%s", folder, n > 0 && folder[n - 1] != '/' ? "/" : "", name);
}

ds_status ds_os_make_folders(const char *path, struct ds_error *err) {
    char *text = format_text("%s", path);
    if (!text) return ds_fail_memory(err, strlen(path) + 1, "a path");
    int error = 0;
    for (char *end = text + 1; error == 0 && text[0]; end++) {
        if (*end != '/' && *end != '\0') continue;
        const char kept = *end;
        *end = '\0';
        if (mkdir(text, 0777) != 0 && errno != EEXIST) error = errno;
        *end = kept;
        if (kept == '\0') break;
    }
    free(text);
    if (error == 0 && ds_os_path_kind(path) != DS_PATH_FOLDER) error = ENOTDIR;
    return error == 0 ? DS_OK : fail_errno(err, "make the folder", path, error);
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

ds_status ds_os_list_folder(const char *path, char ***names, size_t *count, struct ds_error *err) {
    *names = NULL;
    *count = 0;
    DIR *folder = opendir(path);
    if (!folder) return fail_errno(err, "open the folder", path, errno);

    char **list = NULL;
    size_t used = 0, capacity = 0;
    int error;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(folder);
        error = errno;
        if (!entry) break;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        error = ENOMEM;
        if (used == capacity) {
            capacity = DS_MAX(capacity * 2, 16);
            char **larger = realloc(list, capacity * sizeof *list);
            if (!larger) break;
            list = larger;
        }
        list[used] = strdup(entry->d_name);
        if (!list[used]) break;
        used++;
    }
    closedir(folder);
    if (error != 0) {
        ds_os_free_names(list, used);
        return fail_errno(err, "list the folder", path, error);
    }
    if (used > 0) qsort(list, used, sizeof *list, compare_names);
    *names = list;
    *count = used;
    return DS_OK;
}

void ds_os_free_names(char **names, size_t count) {
    for (size_t i = 0; i < count; i++) free(names[i]);
    free(names);
}

/* --- memory --- */

enum { HUGE_PAGE_BYTES = 2 * 1024 * 1024 };

void *ds_os_alloc_pages(uint64_t bytes, uint64_t alignment) {
    assert(alignment >= 64 && (alignment & (alignment - 1)) == 0);
    const uint64_t page = page_bytes();
    const bool huge = bytes >= 2 * HUGE_PAGE_BYTES;
    alignment = DS_MAX(alignment, huge ? HUGE_PAGE_BYTES : page);
    if (bytes > SIZE_MAX / 2 || alignment > SIZE_MAX / 4) return NULL;

    /* Map enough to find the alignment inside, then give both ends back: what remains is exactly what free_pages unmaps. */
    const uint64_t wanted = DS_ALIGN_UP(DS_MAX(bytes, 1), page);
    const uint64_t mapped = wanted + (alignment - page);
    char *raw = mmap(NULL, (size_t)mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED) return NULL;
    const uint64_t head = (alignment - (uintptr_t)raw % alignment) % alignment;
    const uint64_t tail = mapped - wanted - head;
    if (head > 0) munmap(raw, (size_t)head);
    if (tail > 0) munmap(raw + head + wanted, (size_t)tail);
#if defined(MADV_HUGEPAGE)
    if (huge) (void)madvise(raw + head, (size_t)wanted, MADV_HUGEPAGE);
#endif
    return raw + head;
}

void ds_os_free_pages(void *data, uint64_t bytes) {
    if (data) munmap(data, (size_t)DS_ALIGN_UP(DS_MAX(bytes, 1), page_bytes()));
}

/* --- what the kernel says in small text files --- */

#if defined(__linux__)
/* The text of a file under /proc or /sys, or NULL. The caller frees it. */
static char *read_small(const char *path) {
    struct ds_error ignored;
    char *text;
    size_t size;
    return ds_os_read_file(path, 1 << 20, &text, &size, &ignored) == DS_OK ? text : NULL;
}

/* Processors or bytes that one cgroup's folder allows; 0: no limit stated there. */
typedef uint64_t (*cgroup_reader)(const char *folder);

static uint64_t first_number(const char *folder, const char *name) {
    char *path = ds_os_join(folder, name);
    char *text = path ? read_small(path) : NULL;
    long long value = 0; /* "max" and -1, no limit, become 0 too */
    if (text && sscanf(text, "%lld", &value) != 1) value = 0;
    free(text);
    free(path);
    return value > 0 ? (uint64_t)value : 0;
}

static uint64_t cpu_in(const char *folder) {
    uint64_t quota = first_number(folder, "cpu.cfs_quota_us"); /* version 1 */
    uint64_t period = first_number(folder, "cpu.cfs_period_us");
    char *path = ds_os_join(folder, "cpu.max"); /* version 2: "quota period" or "max period" */
    char *text = path ? read_small(path) : NULL;
    unsigned long long a, b;
    if (text && sscanf(text, "%llu %llu", &a, &b) == 2) {
        quota = a;
        period = b;
    }
    free(text);
    free(path);
    if (quota == 0 || period == 0 || quota > UINT64_MAX / 1000) return 0;
    return DS_MAX(quota * 1000 / period, (uint64_t)1);
}

static uint64_t memory_in(const char *folder) {
    const uint64_t limit = first_number(folder, "memory.max");
    return limit > 0 ? limit : first_number(folder, "memory.limit_in_bytes");
}

static uint64_t smaller_limit(uint64_t a, uint64_t b) {
    if (a == 0 || b == 0) return a + b;
    return DS_MIN(a, b);
}

/* A limit holds for all below it, so the least of the folders from our group up to the root counts. Cuts `path` down. */
static uint64_t least_upwards(const char *root, char *path, cgroup_reader reader) {
    uint64_t least = 0;
    for (;;) {
        char *folder = format_text("%s%s", root, path);
        if (folder) least = smaller_limit(least, reader(folder));
        free(folder);
        char *slash = strrchr(path, '/');
        if (!slash) return least;
        *slash = '\0';
    }
}

/*
 * /proc/self/cgroup has lines "id:controllers:path"; version 2 has the empty list of controllers. Inside a container the
 * path may name nothing that is mounted here: then only the root, which is the container's own group, is found.
 */
static uint64_t cgroup_limit(const char *controller, cgroup_reader reader) {
    char *groups = read_small("/proc/self/cgroup");
    uint64_t least = 0;
    char *rest = groups;
    for (char *line = groups ? strtok_r(groups, "\n", &rest) : NULL; line; line = strtok_r(NULL, "\n", &rest)) {
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path) continue;
        *path++ = '\0';
        controllers++;
        if (*controllers == '\0') {
            least = smaller_limit(least, least_upwards("/sys/fs/cgroup", path, reader));
        } else if (strstr(controllers, controller)) {
            char *root = format_text("/sys/fs/cgroup/%s", controller);
            if (root) least = smaller_limit(least, least_upwards(root, path, reader));
            free(root);
        }
    }
    free(groups);
    return least;
}
#endif

uint64_t ds_os_peak_rss(void) {
#if defined(__linux__)
    /* Not getrusage's maximum: that one outlives exec and would count the program that started us. */
    char *text = read_small("/proc/self/status");
    const char *line = text ? strstr(text, "VmHWM:") : NULL;
    unsigned long long kilobytes = 0;
    if (line && sscanf(line, "VmHWM: %llu", &kilobytes) != 1) kilobytes = 0;
    free(text);
    return (uint64_t)kilobytes * 1024;
#else
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss : 0; /* macOS counts bytes */
#endif
}

uint64_t ds_os_physical_memory(void) {
    const long pages = sysconf(_SC_PHYS_PAGES);
    const uint64_t machine = pages > 0 ? (uint64_t)pages * page_bytes() : 0;
#if defined(__linux__)
    return smaller_limit(machine, cgroup_limit("memory", memory_in));
#else
    return machine;
#endif
}

/* --- time, randomness --- */

double ds_os_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

ds_status ds_os_random(void *out, size_t bytes, struct ds_error *err) {
    enum { MOST_AT_ONCE = 256 }; /* getentropy's limit */
    for (size_t done = 0; done < bytes; done += MOST_AT_ONCE) {
        if (getentropy((char *)out + done, DS_MIN(bytes - done, (size_t)MOST_AT_ONCE)) != 0)
            return ds_fail(err, DS_ERROR_IO, "the system gives no random bytes: %s", strerror(errno));
    }
    return DS_OK;
}

/* --- threads --- */

#if defined(__linux__)
/*
 * Calls `see` for every processor in our affinity mask and returns their number; 0: unknown. The kernel refuses a set smaller than
 * its own, hence the growing size.
 */
static unsigned each_allowed(void (*see)(unsigned id, void *user), void *user) {
    for (int cpus = 1024; cpus <= 1 << 20; cpus *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)cpus);
        if (!set) return 0;
        const size_t bytes = CPU_ALLOC_SIZE((size_t)cpus);
        CPU_ZERO_S(bytes, set);
        const bool known = sched_getaffinity(0, bytes, set) == 0;
        const bool too_small = !known && errno == EINVAL;
        const unsigned count = known ? (unsigned)CPU_COUNT_S(bytes, set) : 0;
        for (int id = 0; known && see && id < cpus; id++)
            if (CPU_ISSET_S((size_t)id, bytes, set)) see((unsigned)id, user);
        CPU_FREE(set);
        if (!too_small) return count;
    }
    return 0;
}

struct processor_list {
    struct ds_os_processor *out;
    unsigned count, most;
};

static void add_processor(unsigned id, void *user) {
    struct processor_list *list = user;
    if (list->count < list->most) list->out[list->count++] = (struct ds_os_processor){.id = id};
}

static uint32_t capacity_of(const char *folder, unsigned id) {
    char *place = format_text("%s/cpu%u", folder, id);
    const uint64_t capacity = place ? first_number(place, "cpu_capacity") : 0;
    free(place);
    return capacity <= UINT16_MAX ? (uint32_t)capacity : 0;
}

unsigned ds_os_processors(const char *folder, struct ds_os_processor *out, unsigned most) {
    struct processor_list list = {.out = out, .most = most};
    const unsigned all = each_allowed(add_processor, &list);
    for (unsigned i = 0; i < list.count; i++) out[i].capacity = capacity_of(folder ? folder : "/sys/devices/system/cpu", out[i].id);
    return all;
}

void ds_os_thread_pin(unsigned processor) {
    const int cpus = (int)DS_MAX(processor + 1, 1024u);
    cpu_set_t *set = CPU_ALLOC((size_t)cpus);
    if (!set) return;
    const size_t bytes = CPU_ALLOC_SIZE((size_t)cpus);
    CPU_ZERO_S(bytes, set);
    CPU_SET_S((size_t)processor, bytes, set);
    (void)sched_setaffinity(0, bytes, set); /* the calling thread's */
    CPU_FREE(set);
}

uint64_t ds_os_cgroup_cpu(const char *folder) { return cpu_in(folder); }
#else
unsigned ds_os_processors(const char *folder, struct ds_os_processor *out, unsigned most) {
    (void)folder;
    (void)out;
    (void)most;
    return 0;
}
void ds_os_thread_pin(unsigned processor) { (void)processor; }
uint64_t ds_os_cgroup_cpu(const char *folder) {
    (void)folder;
    return 0;
}
#endif

/* By affinity, and in thousandths by a cgroup's quota (0: none). */
static unsigned allowed_processors(uint64_t *quota) {
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned count = online > 0 ? (unsigned)online : 1;
    *quota = 0;
#if defined(__linux__)
    const unsigned allowed = each_allowed(NULL, NULL);
    if (allowed > 0) count = allowed;
    *quota = cgroup_limit("cpu", cpu_in);
#endif
    return count;
}

unsigned ds_os_cpu_count(void) {
    uint64_t quota;
    const unsigned count = allowed_processors(&quota);
    return quota > 0 ? (unsigned)DS_MIN((uint64_t)count, (quota + 999) / 1000) : count;
}

unsigned ds_os_cpu_whole(void) {
    uint64_t quota;
    const unsigned count = allowed_processors(&quota);
    return quota > 0 ? (unsigned)DS_MIN((uint64_t)count, quota / 1000) : count;
}

struct ds_os_thread {
    pthread_t handle;
    void (*fn)(void *);
    void *user;
    char name[16]; /* what Linux keeps */
};

static void *thread_main(void *arg) {
    struct ds_os_thread *thread = arg;
#if defined(__linux__)
    (void)pthread_setname_np(pthread_self(), thread->name);
#elif defined(__APPLE__)
    (void)pthread_setname_np(thread->name);
#endif
    (void)ds_os_float_begin(); /* the thread is ours: nothing to restore */
    thread->fn(thread->user);
    return NULL;
}

ds_status ds_os_thread_create(void (*fn)(void *), void *user, const char *name, struct ds_os_thread **out,
                              struct ds_error *err) {
    *out = NULL;
    struct ds_os_thread *thread = calloc(1, sizeof *thread);
    if (!thread) return ds_fail_memory(err, sizeof *thread, "a thread");
    thread->fn = fn;
    thread->user = user;
    snprintf(thread->name, sizeof thread->name, "%s", name);

    /* Signals are the host's business: its handlers must not run on our threads, so these start with all blocked. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&thread->handle, NULL, thread_main, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        free(thread);
        const ds_status status = error == EAGAIN ? DS_ERROR_LIMIT : DS_ERROR_IO;
        return ds_fail(err, status, "cannot start thread '%s': %s", name, strerror(error));
    }
    *out = thread;
    return DS_OK;
}

void ds_os_thread_join(struct ds_os_thread *thread) {
    const int error = pthread_join(thread->handle, NULL);
    assert(error == 0);
    (void)error;
    free(thread);
}

struct ds_os_mutex {
    pthread_mutex_t handle;
};

struct ds_os_mutex *ds_os_mutex_create(void) {
    struct ds_os_mutex *mutex = malloc(sizeof *mutex);
    if (mutex && pthread_mutex_init(&mutex->handle, NULL) != 0) {
        free(mutex);
        return NULL;
    }
    return mutex;
}

void ds_os_mutex_destroy(struct ds_os_mutex *mutex) {
    if (!mutex) return;
    pthread_mutex_destroy(&mutex->handle);
    free(mutex);
}

void ds_os_mutex_lock(struct ds_os_mutex *mutex) {
    pthread_mutex_lock(&mutex->handle);
}

void ds_os_mutex_unlock(struct ds_os_mutex *mutex) {
    pthread_mutex_unlock(&mutex->handle);
}

struct ds_os_cond {
    pthread_cond_t handle;
};

struct ds_os_cond *ds_os_cond_create(void) {
    struct ds_os_cond *cond = malloc(sizeof *cond);
    if (cond && pthread_cond_init(&cond->handle, NULL) != 0) {
        free(cond);
        return NULL;
    }
    return cond;
}

void ds_os_cond_destroy(struct ds_os_cond *cond) {
    if (!cond) return;
    pthread_cond_destroy(&cond->handle);
    free(cond);
}

void ds_os_cond_wait(struct ds_os_cond *cond, struct ds_os_mutex *mutex) {
    pthread_cond_wait(&cond->handle, &mutex->handle);
}

void ds_os_cond_broadcast(struct ds_os_cond *cond) {
    pthread_cond_broadcast(&cond->handle);
}

/* --- floating point --- */

#if defined(__SSE__)
/* MXCSR after reset: all exceptions masked, rounding to nearest, no flush-to-zero, denormals are not zeros. */
enum { MXCSR_DEFAULT = 0x1F80 };

struct ds_float_state ds_os_float_begin(void) {
    const struct ds_float_state before = {.bits = {_mm_getcsr()}};
    _mm_setcsr(MXCSR_DEFAULT);
    return before;
}

void ds_os_float_restore(struct ds_float_state state) {
    _mm_setcsr((unsigned)state.bits[0]);
}
#elif defined(__aarch64__)
/* FPCR after reset is all zeros: nearest, no flush-to-zero (FZ, FZ16, FIZ), NaNs kept (DN), no traps. */
struct ds_float_state ds_os_float_begin(void) {
    struct ds_float_state before = {{0}};
    __asm__ volatile("mrs %0, fpcr" : "=r"(before.bits[0]));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0) : "memory");
    return before;
}

void ds_os_float_restore(struct ds_float_state state) {
    __asm__ volatile("msr fpcr, %0" : : "r"(state.bits[0]) : "memory");
}
#else
/* Other processors have no flush-to-zero that a host could have set; their rounding mode is left to the host. */
struct ds_float_state ds_os_float_begin(void) {
    return (struct ds_float_state){{0}};
}

void ds_os_float_restore(struct ds_float_state state) {
    (void)state;
}
#endif

/* --- modules --- */

struct ds_os_module {
    void *handle;
};

ds_status ds_os_module_open(const char *path, bool keep, struct ds_os_module **out, struct ds_error *err) {
    *out = NULL;
    struct ds_os_module *module = malloc(sizeof *module);
    if (!module) return ds_fail_memory(err, sizeof *module, "a module");
    module->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | (keep ? RTLD_NODELETE : 0));
    if (!module->handle) {
        free(module);
        const char *reason = dlerror();
        return ds_fail(err, DS_ERROR_IO, "cannot load module '%s': %s", path, reason ? reason : "unknown reason");
    }
    *out = module;
    return DS_OK;
}

void *ds_os_module_symbol(struct ds_os_module *module, const char *name) {
    return dlsym(module->handle, name);
}

void ds_os_module_close(struct ds_os_module *module) {
    if (!module) return;
    dlclose(module->handle);
    free(module);
}

char *ds_os_own_folder(void) {
    static const char here = 0; /* an address inside this library or program */
    Dl_info info;
    if (!dladdr(&here, &info) || !info.dli_fname) return NULL;
    char *path = realpath(info.dli_fname, NULL);
    char *const slash = path ? strrchr(path, '/') : NULL;
    if (slash) slash[slash == path] = 0;
    return path;
}
