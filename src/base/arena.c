#include "base/arena.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 64 * 1024, ALIGNMENT = 16 };

struct ds_arena_chunk {
    struct ds_arena_chunk *previous;
    size_t size; /* of the bytes behind this header */
};

enum { HEADER_BYTES = (sizeof(struct ds_arena_chunk) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT };

void *ds_arena_alloc(struct ds_arena *arena, size_t bytes) {
    if (bytes > SIZE_MAX / 2) return NULL;
    const size_t rounded = DS_ALIGN_UP(DS_MAX(bytes, 1), (size_t)ALIGNMENT);
    if (!arena->last || arena->last->size - arena->used_in_last < rounded) {
        const size_t size = DS_MAX(rounded, (size_t)CHUNK_BYTES);
        struct ds_arena_chunk *chunk = calloc(1, HEADER_BYTES + size);
        if (!chunk) return NULL;
        chunk->previous = arena->last;
        chunk->size = size;
        arena->last = chunk;
        arena->used_in_last = 0;
        arena->total += HEADER_BYTES + size;
    }
    char *p = (char *)arena->last + HEADER_BYTES + arena->used_in_last;
    arena->used_in_last += rounded;
    return p;
}

void *ds_arena_array(struct ds_arena *arena, size_t count, size_t size) {
    uint64_t bytes;
    if (!ds_mul_u64(count, size, &bytes) || bytes > SIZE_MAX) return NULL;
    return ds_arena_alloc(arena, (size_t)bytes);
}

char *ds_arena_copy(struct ds_arena *arena, const char *text, size_t n) {
    if (n == SIZE_MAX) return NULL;
    char *copy = ds_arena_alloc(arena, n + 1);
    if (copy && n) memcpy(copy, text, n);
    return copy;
}

void ds_arena_free(struct ds_arena *arena) {
    for (struct ds_arena_chunk *chunk = arena->last; chunk;) {
        struct ds_arena_chunk *previous = chunk->previous;
        free(chunk);
        chunk = previous;
    }
    *arena = (struct ds_arena){0};
}
