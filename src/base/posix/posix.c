/* The clock, randomness, and what the files of this folder share. */
#include "base/posix/posix.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#if !defined(__linux__)
#include <sys/random.h>
#endif

ds_status ds_posix_fail(struct ds_error *err, const char *action, const char *path, int error) {
    const ds_status status = error == ENOMEM ? DS_ERROR_MEMORY : DS_ERROR_IO;
    return ds_fail(err, status, "cannot %s '%s': %s", action, path, strerror(error));
}

char *ds_posix_format(const char *format, ...) {
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

uint64_t ds_posix_page_bytes(void) {
    const long n = sysconf(_SC_PAGESIZE);
    return n > 0 ? (uint64_t)n : 4096;
}

char *ds_posix_read_small(const char *path) {
    enum { MOST_BYTES = 1 << 20 };
    struct ds_error ignored;
    char *text;
    size_t size;
    return ds_os_read_file(path, MOST_BYTES, &text, &size, &ignored) == DS_OK ? text : NULL;
}

uint64_t ds_posix_read_number(const char *folder, const char *name) {
    char *path = ds_os_join(folder, name);
    char *text = path ? ds_posix_read_small(path) : NULL;
    long long value = 0;
    if (text && sscanf(text, "%lld", &value) != 1) value = 0;
    free(text);
    free(path);
    return value > 0 ? (uint64_t)value : 0;
}

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
