/* FNV-1a with 64 bits: tells data apart and finds damage; proves nothing against somebody who means harm (base/hash.h does). */
#ifndef DSPARK_BASE_MIX_H
#define DSPARK_BASE_MIX_H

#include <stddef.h>
#include <stdint.h>

#define DS_HASH_START UINT64_C(0xcbf29ce484222325)

/* The hash so far, and the bytes behind what it is of. */
static inline uint64_t ds_hash_mix(uint64_t hash, const void *data, size_t bytes) {
    const uint8_t *const byte = data;
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ byte[i]) * UINT64_C(0x100000001b3);
    return hash;
}

#endif
