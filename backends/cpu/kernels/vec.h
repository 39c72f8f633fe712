/*
 * Sixteen lanes, one per output (or key, or column): a register of AVX-512, two of AVX2, four of SSE2 or NEON. Kernels are
 * written once on top of these and compiled once per instruction set; what has no portable spelling is chosen here.
 *
 * Everything is static: object code of one instruction set must not be linked into another's callers.
 */
#ifndef DSPARK_CPU_VEC_H
#define DSPARK_CPU_VEC_H

#define DS_NUM_HARDWARE_DIV 1 /* IEEE division and square root are correctly rounded: the same bits, faster */
#include "ops/numerics.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#if defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#define DS_PART 64
enum { DS_ROW_BLOCK = 8 }; /* rows whose accumulators stay in registers */
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define DS_PART 32
enum { DS_ROW_BLOCK = 4 };
#elif defined(__aarch64__)
#define DS_PART 16
enum { DS_ROW_BLOCK = 4 };
#else
#define DS_PART 16
enum { DS_ROW_BLOCK = 2 };
#endif
#if DS_PART > 16
#include <immintrin.h>
#endif
enum { DS_PARTS = 64 / DS_PART, DS_WIDTH = 16 };

/* Sets whose u8 x s8 multiplication gives pairs in int16, which saturate: no VNNI (kernels/chain.h). */
#if DS_PART > 16 && !defined(__AVX512VNNI__) && !defined(__AVXVNNI__)
#define DS_CHAINS 1
#else
#define DS_CHAINS 0
#endif

#define DS_INLINE static inline __attribute__((always_inline))
#define DS_UNROLL _Pragma("GCC unroll 16")
/*
 * Long sums are taken as they are written, each term as it comes: left to itself gcc makes trees of integer sums, and keeps all their
 * terms on the stack.
 */
#if DS_PART == 64
#define DS_IN_ORDER(x) __asm__("" : "+v"(x))
#elif defined(__x86_64__)
#define DS_IN_ORDER(x) __asm__("" : "+x"(x))
#elif defined(__aarch64__)
#define DS_IN_ORDER(x) __asm__("" : "+w"(x))
#else
#define DS_IN_ORDER(x) ((void)0)
#endif
#define DS_EACH_PART DS_UNROLL for (int i = 0; i < DS_PARTS; i++)

typedef float ds_pf __attribute__((vector_size(DS_PART)));
typedef int32_t ds_pi __attribute__((vector_size(DS_PART)));
typedef uint32_t ds_pu __attribute__((vector_size(DS_PART)));
typedef int16_t ds_ps __attribute__((vector_size(DS_PART)));
typedef uint16_t ds_pus __attribute__((vector_size(DS_PART)));
typedef uint8_t ds_pb __attribute__((vector_size(DS_PART)));

typedef struct { ds_pf p[DS_PARTS]; } vf; /* 16 floats */
typedef struct { ds_pi p[DS_PARTS]; } vi; /* 16 int32, or 64 bytes */

#if defined(__aarch64__)
#include "kernels/vec_neon.h"
#endif

/* --- floats --- */

DS_INLINE vf vf_set1(float x) {
    vf y;
    DS_EACH_PART y.p[i] = x - (ds_pf){0};
    return y;
}
DS_INLINE vf vf_zero(void) { return (vf){0}; }
/* Part by part: gcc copies a struct of two registers through the stack. */
DS_INLINE vf vf_load(const float *from) {
    vf y;
    DS_EACH_PART memcpy(&y.p[i], (const char *)from + i * DS_PART, DS_PART);
    return y;
}
DS_INLINE void vf_store(float *to, vf x) { DS_EACH_PART memcpy((char *)to + i * DS_PART, &x.p[i], DS_PART); }
DS_INLINE vf vf_add(vf a, vf b) {
    DS_EACH_PART a.p[i] += b.p[i];
    return a;
}
DS_INLINE vf vf_sub(vf a, vf b) {
    DS_EACH_PART a.p[i] -= b.p[i];
    return a;
}
DS_INLINE vf vf_mul(vf a, vf b) {
    DS_EACH_PART a.p[i] *= b.p[i];
    return a;
}

/* a * b + c where the product is exact, so that fused and separate give the same bits: only for products of f16, bf16. */
DS_INLINE vf vf_add_exact_product(vf a, vf b, vf c) {
#if DS_PART == 64
    c.p[0] = (ds_pf)_mm512_fmadd_ps((__m512)a.p[0], (__m512)b.p[0], (__m512)c.p[0]);
#elif DS_PART == 32
    DS_EACH_PART c.p[i] = (ds_pf)_mm256_fmadd_ps((__m256)a.p[i], (__m256)b.p[i], (__m256)c.p[i]);
#elif defined(__aarch64__)
    DS_EACH_PART c.p[i] = neon_fma(a.p[i], b.p[i], c.p[i]);
#else
    DS_EACH_PART c.p[i] += a.p[i] * b.p[i];
#endif
    return c;
}

/* 16 consecutive f16, widened (exact). */
DS_INLINE vf vf_load_f16(const uint16_t *from) {
    vf y;
#if DS_PART == 64
    y.p[0] = (ds_pf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from));
#elif DS_PART == 32
    DS_EACH_PART y.p[i] = (ds_pf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from + i));
#elif defined(__aarch64__)
    DS_EACH_PART y.p[i] = neon_load_f16(from + 4 * i);
#else
    float wide[16];
    for (int i = 0; i < 16; i++) wide[i] = ds_f16_to_f32(from[i]);
    y = vf_load(wide);
#endif
    return y;
}

/* a > b ? a : b in each lane, so b where a is a NaN. */
DS_INLINE vf vf_max(vf a, vf b) {
#if DS_PART == 64
    a.p[0] = (ds_pf)_mm512_max_ps((__m512)a.p[0], (__m512)b.p[0]);
#elif DS_PART == 32
    DS_EACH_PART a.p[i] = (ds_pf)_mm256_max_ps((__m256)a.p[i], (__m256)b.p[i]);
#else
    DS_EACH_PART {
        const ds_pi mask = a.p[i] > b.p[i];
        a.p[i] = (ds_pf)(((ds_pi)a.p[i] & mask) | ((ds_pi)b.p[i] & ~mask));
    }
#endif
    return a;
}
/* The largest lane; none is a NaN. */
DS_INLINE float vf_largest(vf x) {
    float lane[DS_WIDTH];
    DS_EACH_PART memcpy(lane + i * (DS_PART / 4), &x.p[i], DS_PART);
    for (int half = DS_WIDTH / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) lane[i] = lane[i] > lane[i + half] ? lane[i] : lane[i + half];
    return lane[0];
}

/* x * 2^n for an integer n in t = n + DS_NUM_ROUND; x and the result are normal numbers. */
DS_INLINE vf vf_add_exponent(vf x, vf t) {
    DS_EACH_PART x.p[i] = (ds_pf)((ds_pu)x.p[i] + ((ds_pu)t.p[i] << 23)); /* the rest of DS_NUM_ROUND is shifted out */
    return x;
}

/* Rounded to f16 and widened again, as ds_f32_to_f16 rounds; a NaN stays one. */
DS_INLINE vf vf_round_f16(vf x) {
#if DS_PART == 64
    const __m512 most = _mm512_set1_ps(65504.0f);
    const __m512 bounded = _mm512_max_ps(_mm512_sub_ps(_mm512_setzero_ps(), most), _mm512_min_ps(most, (__m512)x.p[0])); /* in this order a NaN stays */
    x.p[0] = (ds_pf)_mm512_cvtph_ps(_mm512_cvtps_ph(bounded, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif DS_PART == 32
    const __m256 most = _mm256_set1_ps(65504.0f), least = _mm256_set1_ps(-65504.0f);
    DS_EACH_PART {
        const __m256 bounded = _mm256_max_ps(least, _mm256_min_ps(most, (__m256)x.p[i])); /* in this order a NaN stays */
        x.p[i] = (ds_pf)_mm256_cvtph_ps(_mm256_cvtps_ph(bounded, _MM_FROUND_TO_NEAREST_INT));
    }
#elif defined(__aarch64__)
    DS_EACH_PART x.p[i] = neon_round_f16(x.p[i]);
#else
    float wide[16];
    memcpy(wide, &x, sizeof wide);
    for (int i = 0; i < 16; i++) wide[i] = ds_f16_to_f32(ds_f32_to_f16(wide[i]));
    memcpy(&x, wide, sizeof x);
#endif
    return x;
}

/* --- integers --- */

DS_INLINE vi vi_load(const void *from) {
    vi y;
    DS_EACH_PART memcpy(&y.p[i], (const char *)from + i * DS_PART, DS_PART);
    return y;
}
DS_INLINE void vi_store(void *to, vi x) { DS_EACH_PART memcpy((char *)to + i * DS_PART, &x.p[i], DS_PART); }
DS_INLINE vi vi_set1(int32_t x) {
    vi y;
    DS_EACH_PART y.p[i] = x - (ds_pi){0};
    return y;
}
DS_INLINE vi vi_add(vi a, vi b) {
    DS_EACH_PART {
        a.p[i] += b.p[i];
        DS_IN_ORDER(a.p[i]);
    }
    return a;
}
DS_INLINE vi vi_mul(vi a, vi b) {
    DS_EACH_PART a.p[i] *= b.p[i];
    return a;
}
DS_INLINE vi vi_and(vi a, vi b) {
    DS_EACH_PART a.p[i] &= b.p[i];
    return a;
}
DS_INLINE vi vi_or(vi a, vi b) {
    DS_EACH_PART a.p[i] |= b.p[i];
    return a;
}
/* 16-bit lanes; n is a constant. Bits that cross a byte are the caller's to mask. */
DS_INLINE vi vi_shift_right16(vi a, int n) {
    DS_EACH_PART a.p[i] = (ds_pi)((ds_pus)a.p[i] >> n);
    return a;
}
DS_INLINE vi vi_shift_left16(vi a, int n) {
    DS_EACH_PART a.p[i] = (ds_pi)((ds_pus)a.p[i] << n);
    return a;
}
DS_INLINE vi vi_shift_left32(vi a, int n) {
    DS_EACH_PART a.p[i] = (ds_pi)((ds_pu)a.p[i] << n);
    return a;
}
/* 16 int8 as int32. */
DS_INLINE vi vi_widen_s8(const void *from) {
    vi y;
#if DS_PART == 64
    y.p[0] = (ds_pi)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)from));
#elif DS_PART == 32
    DS_EACH_PART y.p[i] = (ds_pi)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)((const char *)from + 8 * i)));
#elif defined(__aarch64__)
    neon_widen_s8(from, y.p);
#else
    int32_t wide[16];
    for (int i = 0; i < 16; i++) wide[i] = ((const int8_t *)from)[i];
    y = vi_load(wide);
#endif
    return y;
}
/* To nearest even. */
DS_INLINE vf vi_to_float(vi a) {
    vf y;
    DS_EACH_PART y.p[i] = __builtin_convertvector(a.p[i], ds_pf);
    return y;
}
/* 16 u16 in the high halves: bf16 widened to f32 (exact). */
DS_INLINE vf vf_load_bf16(const uint16_t *from) {
    vf y;
#if DS_PART == 64
    y.p[0] = (ds_pf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16);
#elif DS_PART == 32
    DS_EACH_PART y.p[i] = (ds_pf)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from + i)), 16);
#elif defined(__aarch64__)
    DS_EACH_PART y.p[i] = neon_load_bf16(from + 4 * i);
#else
    uint32_t wide[16];
    for (int i = 0; i < 16; i++) wide[i] = (uint32_t)from[i] << 16;
    memcpy(&y, wide, sizeof y);
#endif
    return y;
}

/*
 * acc[lane] += sum over j < 4 of w[4 lane + j] * a[j], w unsigned, a signed and not -128, broadcast as the four bytes of `a`.
 * Exact for any w with VNNI and on the portable path, for w <= 127 elsewhere: two products then fit 16 bits (NEON's w is signed).
 */
DS_INLINE vi vi_dot(vi acc, vi w, int32_t a) {
#if defined(__AVX512VNNI__) && DS_PART == 64
    acc.p[0] = (ds_pi)_mm512_dpbusd_epi32((__m512i)acc.p[0], (__m512i)w.p[0], _mm512_set1_epi32(a));
#elif DS_PART == 64
    const __m512i pairs = _mm512_maddubs_epi16((__m512i)w.p[0], _mm512_set1_epi32(a));
    acc.p[0] += (ds_pi)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
#elif defined(__AVXVNNI__) && DS_PART == 32
    DS_EACH_PART acc.p[i] = (ds_pi)_mm256_dpbusd_avx_epi32((__m256i)acc.p[i], (__m256i)w.p[i], _mm256_set1_epi32(a));
#elif DS_PART == 32
    DS_EACH_PART {
        const __m256i pairs = _mm256_maddubs_epi16((__m256i)w.p[i], _mm256_set1_epi32(a));
        acc.p[i] += (ds_pi)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    }
#elif defined(__aarch64__)
    DS_EACH_PART acc.p[i] = neon_dot(acc.p[i], w.p[i], vdupq_n_s32(a));
#else
    const ds_pi bytes = a - (ds_pi){0};
    const ds_ps a_even = (ds_ps)((ds_pus)bytes << 8) >> 8, a_odd = (ds_ps)bytes >> 8;
    DS_EACH_PART {
        const ds_pi even = (ds_pi)((ds_ps)((ds_pus)w.p[i] & 255) * a_even); /* 255 * 127 fits 16 bits */
        const ds_pi odd = (ds_pi)((ds_ps)((ds_pus)w.p[i] >> 8) * a_odd);
        acc.p[i] += ((ds_pi)((ds_pu)even << 16) >> 16) + (even >> 16) + ((ds_pi)((ds_pu)odd << 16) >> 16) + (odd >> 16);
    }
#endif
    return acc;
}

#if DS_PART > 16
/* int16 lane i: w[2i] * x[2i] + w[2i + 1] * x[2i + 1], w unsigned, x signed bytes; saturates. */
DS_INLINE vi vi_maddubs(vi w, vi x) {
#if DS_PART == 64
    w.p[0] = (ds_pi)_mm512_maddubs_epi16((__m512i)w.p[0], (__m512i)x.p[0]);
#else
    DS_EACH_PART w.p[i] = (ds_pi)_mm256_maddubs_epi16((__m256i)w.p[i], (__m256i)x.p[i]);
#endif
    return w;
}
/* Sixteen bytes as int16, each twice: a shuffle puts every byte twice into the low or, to keep the sign, the high half of an int16. */
DS_INLINE vi vi_twice16(const void *from, const bool with_sign) {
    const __m128i bytes = _mm_loadu_si128((const __m128i *)from);
    const int32_t each = with_sign ? 0x01000100 : 0x00010001, none = with_sign ? 0x00800080 : (int32_t)0x80008000;
    vi y;
#if DS_PART == 64
    const ds_pi lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const __m512i x = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(bytes), (__m512i)(lane * each | none));
    y.p[0] = (ds_pi)(with_sign ? _mm512_srai_epi16(x, 8) : x);
#else
    const ds_pi lane = {0, 1, 2, 3, 4, 5, 6, 7};
    DS_EACH_PART {
        const __m256i x = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), (__m256i)((lane + 8 * i) * each | none));
        y.p[i] = (ds_pi)(with_sign ? _mm256_srai_epi16(x, 8) : x);
    }
#endif
    return y;
}
/* Sixteen bytes of either, below 128, as int16 pairs. */
DS_INLINE vi vi_pairs16(const void *first, const void *second) {
    const __m128i a = _mm_loadu_si128((const __m128i *)first), b = _mm_loadu_si128((const __m128i *)second);
    const __m128i low = _mm_unpacklo_epi8(a, b), high = _mm_unpackhi_epi8(a, b);
    vi y;
#if DS_PART == 64
    y.p[0] = (ds_pi)_mm512_cvtepu8_epi16(_mm256_set_m128i(high, low));
#else
    y.p[0] = (ds_pi)_mm256_cvtepu8_epi16(low);
    y.p[1] = (ds_pi)_mm256_cvtepu8_epi16(high);
#endif
    return y;
}
/* int16 lanes, modulo 2^16. */
DS_INLINE vi vi_add16(vi a, vi b) {
    DS_EACH_PART {
        a.p[i] = (ds_pi)((ds_pus)a.p[i] + (ds_pus)b.p[i]);
        DS_IN_ORDER(a.p[i]);
    }
    return a;
}
/* int32 lane i: a[2i] * b[2i] + a[2i + 1] * b[2i + 1] of int16. */
DS_INLINE vi vi_madd16(vi a, vi b) {
#if DS_PART == 64
    a.p[0] = (ds_pi)_mm512_madd_epi16((__m512i)a.p[0], (__m512i)b.p[0]);
#else
    DS_EACH_PART a.p[i] = (ds_pi)_mm256_madd_epi16((__m256i)a.p[i], (__m256i)b.p[i]);
#endif
    return a;
}
#endif

/* acc[lane] += m[2 lane] * s[0] + m[2 lane + 1] * s[1] of int16, s broadcast as the halves of `s`. Not both products -2^30. */
DS_INLINE vi vi_dot16(vi acc, vi m, int32_t s) {
#if defined(__AVX512VNNI__) && DS_PART == 64
    acc.p[0] = (ds_pi)_mm512_dpwssd_epi32((__m512i)acc.p[0], (__m512i)m.p[0], _mm512_set1_epi32(s));
#elif DS_PART == 64
    acc.p[0] += (ds_pi)_mm512_madd_epi16((__m512i)m.p[0], _mm512_set1_epi32(s));
#elif defined(__AVXVNNI__) && DS_PART == 32
    DS_EACH_PART acc.p[i] = (ds_pi)_mm256_dpwssd_avx_epi32((__m256i)acc.p[i], (__m256i)m.p[i], _mm256_set1_epi32(s));
#elif DS_PART == 32
    DS_EACH_PART acc.p[i] += (ds_pi)_mm256_madd_epi16((__m256i)m.p[i], _mm256_set1_epi32(s));
#elif defined(__aarch64__)
    DS_EACH_PART acc.p[i] = neon_dot16(acc.p[i], m.p[i], s);
#else
    const int32_t low = (int16_t)(uint16_t)((uint32_t)s & 0xffffu), high = s >> 16;
    DS_EACH_PART acc.p[i] += ((ds_pi)((ds_pu)m.p[i] << 16) >> 16) * low + (m.p[i] >> 16) * high;
#endif
    return acc;
}

/* Every byte (0..15) replaced by its entry of `table`. */
DS_INLINE vi vi_lookup(vi index, const uint8_t table[16]) {
#if DS_PART == 64
    const __m512i all = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)table));
    index.p[0] = (ds_pi)_mm512_shuffle_epi8(all, (__m512i)index.p[0]);
#elif DS_PART == 32
    const __m256i all = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
    DS_EACH_PART index.p[i] = (ds_pi)_mm256_shuffle_epi8(all, (__m256i)index.p[i]);
#elif defined(__aarch64__)
    DS_EACH_PART index.p[i] = neon_lookup(index.p[i], table);
#else
    uint8_t bytes[64];
    vi_store(bytes, index);
    for (int i = 0; i < 64; i++) bytes[i] = table[bytes[i] & 15];
    index = vi_load(bytes);
#endif
    return index;
}

/* --- reductions --- */

/* The halving tree that ends a sum by 32 lanes, of which `high` are the upper sixteen. */
DS_INLINE float vf_tree(vf low, vf high) {
    float lane[DS_WIDTH];
    vf_store(lane, vf_add(low, high));
    for (int half = DS_WIDTH / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) lane[i] = lane[i] + lane[i + half];
    return lane[0];
}

/* The largest of n >= 1 floats; NaNs are passed over (-infinity if there is nothing else), zeros are equal. */
DS_INLINE float ds_largest(const float *x, uint32_t n) {
    vf four[4]; /* so many maxima at once do not wait for each other */
    for (int i = 0; i < 4; i++) four[i] = vf_set1(ds_float(DS_NUM_INF | DS_NUM_SIGN));
    uint32_t at = 0;
    for (; at + 4 * DS_WIDTH <= n; at += 4 * DS_WIDTH)
        DS_UNROLL for (int i = 0; i < 4; i++) four[i] = vf_max(vf_load(x + at + i * DS_WIDTH), four[i]);
    for (; at + DS_WIDTH <= n; at += DS_WIDTH) four[0] = vf_max(vf_load(x + at), four[0]);
    float largest = vf_largest(vf_max(vf_max(four[0], four[1]), vf_max(four[2], four[3])));
    for (; at < n; at++) largest = x[at] > largest ? x[at] : largest;
    return largest;
}

#endif
