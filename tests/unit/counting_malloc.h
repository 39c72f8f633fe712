/*
 * The C library's allocation functions with a counter in front, for a program that includes this header once: how many
 * calls there were, how many blocks are alive, and a call that fails. Not for sanitizers, which have their own, nor for C
 * libraries without the names that glibc keeps for this.
 */
#ifndef DSPARK_TESTS_COUNTING_MALLOC_H
#define DSPARK_TESTS_COUNTING_MALLOC_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define COUNTING_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTING_SANITIZED 1
#endif

#if defined(__GLIBC__) && !defined(COUNTING_SANITIZED)
#define COUNTING_WORKS 1

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *data, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void *data);

static atomic_ulong counting_calls; /* allocations so far, failed ones too */
static atomic_ulong counting_fail_at; /* the call with this number fails; 0: none */
static atomic_long counting_alive;  /* blocks not freed yet, mappings not counted */

static inline bool counting_fails(void) {
    const unsigned long call = atomic_fetch_add(&counting_calls, 1) + 1;
    if (call != atomic_load(&counting_fail_at)) return false;
    errno = ENOMEM;
    return true;
}

static inline void *counting_born(void *data) {
    if (data) atomic_fetch_add(&counting_alive, 1);
    return data;
}

/* The libraries' calls are meant, too, and the project hides what is not marked. */
#pragma GCC visibility push(default)

void *malloc(size_t bytes) { return counting_fails() ? NULL : counting_born(__libc_malloc(bytes)); }
void *calloc(size_t count, size_t bytes) { return counting_fails() ? NULL : counting_born(__libc_calloc(count, bytes)); }
void *aligned_alloc(size_t alignment, size_t bytes) { return counting_fails() ? NULL : counting_born(__libc_memalign(alignment, bytes)); }
void *memalign(size_t alignment, size_t bytes);
void *memalign(size_t alignment, size_t bytes) { return aligned_alloc(alignment, bytes); }

int posix_memalign(void **out, size_t alignment, size_t bytes) {
    void *data = aligned_alloc(alignment, bytes);
    if (!data) return ENOMEM;
    *out = data;
    return 0;
}

void free(void *data) {
    if (data) atomic_fetch_sub(&counting_alive, 1);
    __libc_free(data);
}

void *realloc(void *data, size_t bytes) {
    if (!data) return malloc(bytes);
    if (bytes == 0) {
        free(data);
        return NULL;
    }
    return counting_fails() ? NULL : __libc_realloc(data, bytes);
}

void *mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset) {
    if (counting_fails()) return MAP_FAILED;
    return (void *)syscall(SYS_mmap, address, bytes, protection, flags, fd, offset);
}

#pragma GCC visibility pop
#endif

#endif
