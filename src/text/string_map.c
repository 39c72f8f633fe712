#include "text/string_map.h"

#include <assert.h>
#include <string.h>

struct ds_string_slot {
    struct ds_text key; /* data NULL: free */
    uint32_t hash;
    int32_t id;
};

ds_status ds_string_map_init(struct ds_string_map *map, size_t limit, struct ds_arena *arena, struct ds_error *err) {
    *map = (struct ds_string_map){.limit = limit};
    size_t slots = 16;
    while (slots / 2 < limit) slots *= 2; /* `limit` is bounded by a file's size: no overflow */
    map->slots = ds_arena_array(arena, slots, sizeof *map->slots);
    if (!map->slots) return ds_fail_memory(err, slots * sizeof *map->slots, "the vocabulary's index");
    map->mask = slots - 1;
    return DS_OK;
}

/* Eight bytes a step, multiplied and folded; the constant is 2^64 / golden ratio. */
static uint32_t hash_of(struct ds_text key) {
    uint64_t h = key.length * 0x9E3779B97F4A7C15u;
    for (size_t i = 0; i < key.length; i += 8) {
        uint64_t word = 0;
        memcpy(&word, key.data + i, DS_MIN(key.length - i, sizeof word));
        h = (h ^ word) * 0x9E3779B97F4A7C15u;
        h ^= h >> 32;
    }
    return (uint32_t)h;
}

/* The slot of `key`, or the free one where it belongs. */
static struct ds_string_slot *slot_of(const struct ds_string_map *map, struct ds_text key, uint32_t hash) {
    for (size_t i = hash & map->mask;; i = (i + 1) & map->mask) {
        struct ds_string_slot *slot = &map->slots[i];
        if (!slot->key.data) return slot;
        if (slot->hash == hash && slot->key.length == key.length && memcmp(slot->key.data, key.data, key.length) == 0)
            return slot;
    }
}

int32_t ds_string_map_add(struct ds_string_map *map, struct ds_text key, int32_t id) {
    assert(key.data);
    const uint32_t hash = hash_of(key);
    struct ds_string_slot *slot = slot_of(map, key, hash);
    if (slot->key.data) return slot->id;
    assert(map->count < map->limit);
    map->count++;
    *slot = (struct ds_string_slot){.key = key, .hash = hash, .id = id};
    return id;
}

int32_t ds_string_map_find(const struct ds_string_map *map, struct ds_text key) {
    if (!map->slots || !key.data) return -1;
    const struct ds_string_slot *slot = slot_of(map, key, hash_of(key));
    return slot->key.data ? slot->id : -1;
}
