/* Files that are read: mapped whole, or copied into memory. */
#include "base/posix/posix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static ds_status map_open_file(int fd, const char *path, struct ds_mapping *out, struct ds_error *err) {
    struct stat info;
    if (fstat(fd, &info) != 0) return ds_posix_fail(err, "examine", path, errno);
    if (!S_ISREG(info.st_mode))
        return ds_fail(err, DS_ERROR_IO, "cannot map '%s': expected a regular file, found %s", path,
                       S_ISDIR(info.st_mode) ? "a folder" : "a device, pipe or socket");
    if ((uint64_t)info.st_size > SIZE_MAX)
        return ds_fail(err, DS_ERROR_LIMIT, "cannot map '%s': %lld bytes do not fit this machine's address space", path,
                       (long long)info.st_size);
    if (info.st_size == 0) return DS_OK; /* mmap refuses an empty range */
    void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) return ds_posix_fail(err, "map", path, errno);
    *out = (struct ds_mapping){.data = data, .size = (uint64_t)info.st_size};
    return DS_OK;
}

ds_status ds_os_map(const char *path, struct ds_mapping *out, struct ds_error *err) {
    *out = (struct ds_mapping){0};
    /* Non-blocking, because opening a pipe without a writer would wait for ever; regular files do not care. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return ds_posix_fail(err, "open", path, errno);
    const ds_status status = map_open_file(fd, path, out, err);
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
    const uint64_t page = ds_posix_page_bytes();
    uint64_t end = offset + DS_MIN(bytes, mapping->size - offset);
    end = end == mapping->size ? DS_ALIGN_UP(end, page) : end / page * page;
    const uint64_t begin = DS_ALIGN_UP(offset, page);
    if (begin < end) (void)madvise(address(mapping, begin), (size_t)(end - begin), MADV_DONTNEED);
}

void ds_os_prefetch(const struct ds_mapping *mapping, uint64_t offset, uint64_t bytes) {
    if (offset >= mapping->size || bytes == 0) return;
    const uint64_t end = offset + DS_MIN(bytes, mapping->size - offset);
    const uint64_t begin = offset / ds_posix_page_bytes() * ds_posix_page_bytes();
    (void)madvise(address(mapping, begin), (size_t)(end - begin), MADV_WILLNEED);
}

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
            if (error != 0) return ds_posix_fail(err, "read", path, error);
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
    if (fd < 0) return ds_posix_fail(err, "open", path, errno);
    struct stat info;
    ds_status status;
    if (fstat(fd, &info) != 0) {
        status = ds_posix_fail(err, "examine", path, errno);
    } else {
        const uint64_t claimed = S_ISREG(info.st_mode) ? (uint64_t)info.st_size : 0;
        status = read_growing(fd, path, DS_MIN(claimed, limit), limit, out, size, err);
    }
    close(fd);
    return status;
}
