/*
 * Memory for metadata that lives exactly as long as its owner: names, tables, graph nodes. Nothing is freed one by one.
 * Not thread-safe. Never used in the token loop.
 */
#ifndef DSPARK_BASE_ARENA_H
#define DSPARK_BASE_ARENA_H

#include "base/status.h"

struct ds_arena_chunk;

struct ds_arena {
    struct ds_arena_chunk *last; /* NULL: empty. A zeroed struct is a valid, empty arena. */
    size_t used_in_last;
    size_t total; /* bytes obtained from malloc */
};

/* Zeroed memory aligned to 16 bytes, or NULL when there is none. `bytes` 0 gives a valid pointer. */
void *ds_arena_alloc(struct ds_arena *arena, size_t bytes);
/* The same for `count` elements of `size` bytes; NULL when the product overflows, too. */
void *ds_arena_array(struct ds_arena *arena, size_t count, size_t size);
/* A copy of `n` bytes with a NUL behind it, or NULL. */
char *ds_arena_copy(struct ds_arena *arena, const char *text, size_t n);
/* Frees everything; the arena may be used again. */
void ds_arena_free(struct ds_arena *arena);

#endif
