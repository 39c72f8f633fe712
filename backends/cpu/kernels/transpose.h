/*
 * Sixteen rows of weights into columns of sixteen: what repacking does most. Blocks of 8 x 8 are turned in registers where there are
 * instructions for it.
 */
#ifndef DSPARK_CPU_TRANSPOSE_H
#define DSPARK_CPU_TRANSPOSE_H

#include "kernels/vec.h"

#if DS_PART > 16
/* Eight rows of eight words, `stride` words apart, to eight columns, 16 words apart. */
DS_INLINE void ds_turn_words_8x8(const uint32_t *from, size_t stride, uint32_t *to) {
    __m256i r[8], a[8], b[8];
    DS_UNROLL for (int i = 0; i < 8; i++) r[i] = _mm256_loadu_si256((const __m256i *)(const void *)(from + (size_t)i * stride));
    DS_UNROLL for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    DS_UNROLL for (int half = 0; half < 2; half++) {
        b[4 * half] = _mm256_unpacklo_epi64(a[4 * half], a[4 * half + 2]);
        b[4 * half + 1] = _mm256_unpackhi_epi64(a[4 * half], a[4 * half + 2]);
        b[4 * half + 2] = _mm256_unpacklo_epi64(a[4 * half + 1], a[4 * half + 3]);
        b[4 * half + 3] = _mm256_unpackhi_epi64(a[4 * half + 1], a[4 * half + 3]);
    }
    DS_UNROLL for (int i = 0; i < 4; i++) {
        _mm256_storeu_si256((__m256i *)(void *)(to + i * 16), _mm256_permute2x128_si256(b[i], b[4 + i], 0x20));
        _mm256_storeu_si256((__m256i *)(void *)(to + (4 + i) * 16), _mm256_permute2x128_si256(b[i], b[4 + i], 0x31));
    }
}

/* Eight rows of eight halves to eight columns, 16 halves apart. */
DS_INLINE void ds_turn_halves_8x8(const uint8_t *const rows[8], size_t offset, uint16_t *to) {
    __m128i r[8], a[8], b[8];
    DS_UNROLL for (int i = 0; i < 8; i++) r[i] = _mm_loadu_si128((const __m128i *)(const void *)(rows[i] + offset));
    DS_UNROLL for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm_unpacklo_epi16(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm_unpackhi_epi16(r[2 * i], r[2 * i + 1]);
    }
    DS_UNROLL for (int half = 0; half < 2; half++) {
        b[4 * half] = _mm_unpacklo_epi32(a[4 * half], a[4 * half + 2]);
        b[4 * half + 1] = _mm_unpackhi_epi32(a[4 * half], a[4 * half + 2]);
        b[4 * half + 2] = _mm_unpacklo_epi32(a[4 * half + 1], a[4 * half + 3]);
        b[4 * half + 3] = _mm_unpackhi_epi32(a[4 * half + 1], a[4 * half + 3]);
    }
    DS_UNROLL for (int i = 0; i < 4; i++) {
        _mm_storeu_si128((__m128i *)(void *)(to + 2 * i * 16), _mm_unpacklo_epi64(b[i], b[4 + i]));
        _mm_storeu_si128((__m128i *)(void *)(to + (2 * i + 1) * 16), _mm_unpackhi_epi64(b[i], b[4 + i]));
    }
}
#endif

/* to[c][lane] = from[lane][c] for c < count (a multiple of 8), rows `stride` words apart. */
static inline void ds_turn_words(const uint32_t *from, size_t stride, uint32_t count, uint32_t *to) {
    for (uint32_t c = 0; c < count; c += 8) {
#if DS_PART > 16
        ds_turn_words_8x8(from + c, stride, to + c * DS_WIDTH);
        ds_turn_words_8x8(from + c + 8 * stride, stride, to + c * DS_WIDTH + 8);
#else
        for (uint32_t i = c; i < c + 8; i++)
            for (uint32_t lane = 0; lane < DS_WIDTH; lane++) to[i * DS_WIDTH + lane] = from[lane * stride + i];
#endif
    }
}

/* Eight bytes of a and b, from the o-th on, in turns. */
#if defined(__clang__)
#define DS_MIX(a, b, o) __builtin_shufflevector(a, b, o, 16 + o, 1 + o, 17 + o, 2 + o, 18 + o, 3 + o, 19 + o, 4 + o, 20 + o, 5 + o, 21 + o, 6 + o, 22 + o, 7 + o, 23 + o)
#else
#define DS_MIX(a, b, o) __builtin_shuffle(a, b, (row){o, 16 + o, 1 + o, 17 + o, 2 + o, 18 + o, 3 + o, 19 + o, 4 + o, 20 + o, 5 + o, 21 + o, 6 + o, 22 + o, 7 + o, 23 + o})
#endif

/* to[c][row] = from[row][c] of sixteen rows, `stride` bytes apart, for c < count, at most 16. All of a row's sixteen bytes are read. */
static inline void ds_turn_bytes(const uint8_t *from, size_t stride, uint32_t count, uint8_t *to) {
    typedef uint8_t row __attribute__((vector_size(16)));
    row r[16], mixed[16];
    for (int i = 0; i < 16; i++) memcpy(&r[i], from + (size_t)i * stride, 16);
    /* Four perfect shuffles of the sixteen rows' bytes. */
    DS_UNROLL for (int stage = 0; stage < 4; stage++) {
        DS_UNROLL for (int i = 0; i < 8; i++) {
            mixed[2 * i] = DS_MIX(r[i], r[i + 8], 0);
            mixed[2 * i + 1] = DS_MIX(r[i], r[i + 8], 8);
        }
        memcpy(r, mixed, sizeof r);
    }
    for (uint32_t c = 0; c < count; c++) memcpy(to + c * 16, &r[c], 16);
}

#endif
