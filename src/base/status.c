#include "base/status.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

ds_status ds_fail(struct ds_error *err, ds_status status, const char *format, ...) {
    assert(status != DS_OK);
    err->status = status;
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    return status;
}

ds_status ds_fail_context(struct ds_error *err, const char *format, ...) {
    char cause[sizeof err->message];
    memcpy(cause, err->message, sizeof cause);
    va_list args;
    va_start(args, format);
    const int written = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    const size_t room = sizeof err->message - 1;
    size_t n = written < 0 ? 0 : DS_MIN((size_t)written, room);
    for (const char *part = ": "; *part && n < room; part++) err->message[n++] = *part;
    const size_t rest = DS_MIN(strlen(cause), room - n); /* a message too long loses its end */
    memcpy(err->message + n, cause, rest);
    err->message[n + rest] = '\0';
    return err->status;
}

ds_status ds_fail_memory(struct ds_error *err, size_t bytes, const char *what) {
    return ds_fail(err, DS_ERROR_MEMORY, "out of memory: %zu bytes for %s", bytes, what);
}

const char *ds_status_name(ds_status status) {
    static const char *const names[] = {
        [DS_OK] = "ok",
        [DS_ERROR_ARGUMENT] = "invalid argument",
        [DS_ERROR_MEMORY] = "out of memory",
        [DS_ERROR_IO] = "input/output error",
        [DS_ERROR_FORMAT] = "malformed file",
        [DS_ERROR_UNSUPPORTED] = "not supported",
        [DS_ERROR_MISMATCH] = "files do not fit together",
        [DS_ERROR_DEVICE] = "device error",
        [DS_ERROR_LIMIT] = "limit reached",
        [DS_ERROR_NUMERIC] = "non-finite result",
        [DS_ERROR_CANCELLED] = "cancelled",
        [DS_ERROR_INTERNAL] = "internal error",
    };
    return (size_t)status < DS_COUNT(names) ? names[status] : "unknown status";
}
