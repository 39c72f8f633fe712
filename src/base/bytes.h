/* Little-endian numbers in files, at any alignment, on any host. The caller has checked that the bytes are there. */
#ifndef DSPARK_BASE_BYTES_H
#define DSPARK_BASE_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint16_t ds_load_u16(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t ds_load_u32(const uint8_t *p) {
    return (uint32_t)ds_load_u16(p) | (uint32_t)ds_load_u16(p + 2) << 16;
}
static inline uint64_t ds_load_u64(const uint8_t *p) {
    return (uint64_t)ds_load_u32(p) | (uint64_t)ds_load_u32(p + 4) << 32;
}
static inline void ds_store_u64(uint8_t *p, uint64_t value) {
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(value >> 8 * i);
}

static inline float ds_float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
static inline double ds_double_from_bits(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
