/* Text to id, open addressing. Keys are borrowed: they must outlive the map. Reading is thread-safe. */
#ifndef DSPARK_TEXT_STRING_MAP_H
#define DSPARK_TEXT_STRING_MAP_H

#include "base/arena.h"
#include "ckpt/checkpoint.h"

struct ds_string_map {
    struct ds_string_slot *slots; /* NULL: empty, finds nothing */
    size_t mask;
    size_t count, limit;
};

/* Room for `limit` keys, in the arena. */
ds_status ds_string_map_init(struct ds_string_map *map, size_t limit, struct ds_arena *arena, struct ds_error *err);
/* Adds a key, at most `limit` of them. Returns the id already there, or `id`. */
int32_t ds_string_map_add(struct ds_string_map *map, struct ds_text key, int32_t id);
int32_t ds_string_map_find(const struct ds_string_map *map, struct ds_text key); /* -1: absent */

#endif
