/*
 * How a call fails inside dspark.
 *
 * Every function that can fail returns a ds_status and takes a `struct ds_error *err` as its last parameter. The message
 * is written once, where the cause is known, and says what was expected and what was found; callers pass it up unread.
 * `err` is never NULL inside the library (the public API replaces NULL by a local one).
 */
#ifndef DSPARK_BASE_STATUS_H
#define DSPARK_BASE_STATUS_H

#include "dspark.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define DS_PRINTF(fmt_index, first_arg) __attribute__((format(printf, fmt_index, first_arg)))
#else
#define DS_PRINTF(fmt_index, first_arg)
#endif

/* Writes the message, replacing what `err` held, and returns `status` (never DS_OK). Thread-safe: touches *err alone. */
ds_status ds_fail(struct ds_error *err, ds_status status, const char *format, ...) DS_PRINTF(3, 4);

/* Puts "context: " in front of a message already in `err`, for a caller that knows the file or the tensor. Returns err->status. */
ds_status ds_fail_context(struct ds_error *err, const char *format, ...) DS_PRINTF(2, 3);

/* Returns the DS_ERROR_MEMORY failure for an allocation of `bytes`. */
ds_status ds_fail_memory(struct ds_error *err, size_t bytes, const char *what);

/* Passes a failure up. Only for functions that own nothing yet; others `goto` their error ladder. */
#define DS_TRY(call)                          \
    do {                                      \
        const ds_status ds_try_status = (call); \
        if (ds_try_status != DS_OK) return ds_try_status; \
    } while (0)

/* Sizes from files and callers: *out = a + b or a * b; false when it does not fit. */
static inline bool ds_add_u64(uint64_t a, uint64_t b, uint64_t *out) {
    *out = a + b;
    return *out >= a;
}
static inline bool ds_mul_u64(uint64_t a, uint64_t b, uint64_t *out) {
    *out = a * b;
    return a == 0 || *out / a == b;
}

#define DS_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define DS_MIN(a, b) ((a) < (b) ? (a) : (b))
#define DS_MAX(a, b) ((a) > (b) ? (a) : (b))
#define DS_ALIGN_UP(x, a) (((x) + (a) - 1) / (a) * (a))

#endif
