/*
 * What the numerics contract asks of a device's arithmetic, as words that the host computes too: rounding to nearest even, denormals kept,
 * no contraction, exact integer products, and functions of numerics.h made of these. For C and for kernels.
 */
#ifndef DSPARK_GPU_PROBE_H
#define DSPARK_GPU_PROBE_H

#include "ops/numerics.h"

#if defined(DS_NUM_GLSL)
const uint DS_PROBE_KINDS = 12, DS_PROBE_VALUES = 64, DS_PROBES = DS_PROBE_KINDS * DS_PROBE_VALUES;
#else
enum { DS_PROBE_KINDS = 12, DS_PROBE_VALUES = 64, DS_PROBES = DS_PROBE_KINDS * DS_PROBE_VALUES };
#endif

/* Value i of a list that has the hard cases early: neighbours of powers of two, denormals, large, and pseudo-random bits. */
DS_NUM_FN float ds_probe_value(uint32_t i) {
    const uint32_t hard = i % 8u;
    const uint32_t scrambled = (i + 1u) * 0x9e3779b9u ^ (i * 0x85ebca6bu >> 7);
    if (hard == 0u) return ds_float(0x3f800001u + i);                          /* just above 1 */
    if (hard == 1u) return ds_float(0x00000001u + (i << 12));                  /* denormals */
    if (hard == 2u) return ds_float(0x007fffffu + i);                          /* around the smallest normal */
    if (hard == 3u) return ds_float(0xbf7fffffu - i);                          /* just above -1 */
    return ds_float((scrambled & 0x807fffffu) | (0x38000000u + ((scrambled & 0x0f000000u) & 0x07800000u))); /* 2^-15 to 1 */
}

DS_NUM_FN uint32_t ds_probe(uint32_t index) {
    const uint32_t kind = index / DS_PROBE_VALUES, i = index % DS_PROBE_VALUES;
    const ds_f32 a = ds_probe_value(i), b = ds_probe_value(i * 7u + 3u), c = ds_probe_value(i * 5u + 1u);
    const ds_f32 product = a * b;
    if (kind == 0u) return ds_bits(product);
    if (kind == 1u) return ds_bits(a + b);
    if (kind == 2u) return ds_bits(a - b);
    if (kind == 3u) return ds_bits(product + c); /* a fused multiply-add differs in the last bit of many of these */
    if (kind == 4u) return ds_bits(ds_div(a, b));
    if (kind == 5u) return ds_bits(ds_sqrt(ds_abs(a)));
    if (kind == 6u) return ds_bits(ds_exp(a * 3.0f));
    if (kind == 7u) return ds_bits(ds_log(ds_abs(a)));
    if (kind == 8u) return ds_bits(ds_silu(b));
    if (kind == 9u) return ds_f32_to_f16(a) | ds_f32_to_bf16(b) << 16;
    if (kind == 10u) return DS_NUM_U32(ds_f32_to_i32(a * 1000.0f));
    return ds_bits(DS_NUM_F32(DS_NUM_I32(i * 0x01234567u))); /* int to float, rounded to nearest */
}

/* Byte k of operand `side` (0, 1) of the matrix product that gpu_mma is asked for. */
DS_NUM_FN int32_t ds_probe_byte(uint32_t side, uint32_t k) {
    return DS_NUM_I32(((k + 11u * side + 1u) * 0x9e3779b9u) >> 24) - 128;
}

#endif
