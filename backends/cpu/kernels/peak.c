/*
 * How many products the arithmetic that kernel `linear` is made of can do at most: chains of its own primitives that read no memory.
 * Every product's operand passes through an empty asm statement, so that the compiler can neither share nor move it.
 */
#include "kernels.h"
#include "kernels/linear_rows.h"
#include "kernels/vec.h"

/* As many chains as hide the latency of one, without running out of registers. */
#if defined(__aarch64__)
#define SHORT_CHAINS 4 /* of four registers */
#else
#define SHORT_CHAINS 2
#endif
enum { CHAINS = DS_PART == 64 ? 12 : DS_PART == 32 ? 5 : SHORT_CHAINS, CHAIN_ROWS = CHAINS / 2 + 1 };

#if DS_PART == 64
#define KEEP "+v"
#elif defined(__x86_64__)
#define KEEP "+x"
#elif defined(__aarch64__)
#define KEEP "+w"
#else
#define KEEP "+m"
#endif
#define OPAQUE(value) DS_EACH_PART __asm__ volatile("" : KEEP((value).p[i]))

#if !DS_CHAINS
/* A step of dots with a whole vector. */
#if defined(__ARM_FEATURE_MATMUL_INT8)
enum { DOT_MACS = 128 };
DS_INLINE vi dot_step(vi acc, vi w) {
    DS_EACH_PART acc.p[i] = neon_product(acc.p[i], w.p[i], vdupq_n_s8(1));
    return acc;
}
#else
enum { DOT_MACS = 64 };
DS_INLINE vi dot_step(vi acc, vi w) { return vi_dot(acc, w, 0x01010101); }
#endif

static void int8_dots(uint64_t steps) {
    vi acc[CHAINS], w = vi_set1(0x01010101);
    DS_UNROLL for (int c = 0; c < CHAINS; c++) acc[c] = vi_set1(0);
    for (uint64_t s = 0; s < steps; s++) {
        DS_UNROLL for (int c = 0; c < CHAINS; c++) {
            OPAQUE(w);
            acc[c] = dot_step(acc[c], w);
        }
    }
    DS_UNROLL for (int c = 0; c < CHAINS; c++) OPAQUE(acc[c]);
}

static uint64_t integer_products(ds_type type, uint64_t steps) {
    (void)type;
    int8_dots(steps);
    return steps * CHAINS * DOT_MACS;
}
#else
/* `length` products of bytes in a chain of int16, then one multiplication that widens it (kernels/chain.h). */
DS_INLINE void int16_chains(uint64_t steps, const int length) {
    vi sum[CHAIN_ROWS], w = vi_set1(0x01010101);
    const vi x = vi_set1(0x01010101);
    DS_UNROLL for (int c = 0; c < CHAIN_ROWS; c++) sum[c] = vi_set1(0);
    for (uint64_t s = 0; s < steps; s += (uint64_t)length) {
        DS_UNROLL for (int c = 0; c < CHAIN_ROWS; c++) {
            OPAQUE(w);
            vi acc = vi_maddubs(w, x);
            DS_UNROLL for (int v = 1; v < length; v++) {
                OPAQUE(w);
                acc = vi_add16(acc, vi_maddubs(w, x));
            }
            sum[c] = vi_add(sum[c], vi_madd16(acc, x));
        }
    }
    DS_UNROLL for (int c = 0; c < CHAIN_ROWS; c++) OPAQUE(sum[c]);
}

/* Products of int16, two multiplications for a vector of bytes. */
static void int16_products(uint64_t steps) {
    vi acc[CHAINS], w = vi_set1(0x00010001);
    const vi x = vi_set1(0x00010001);
    DS_UNROLL for (int c = 0; c < CHAINS; c++) acc[c] = vi_set1(0);
    for (uint64_t s = 0; s < steps; s++) {
        DS_UNROLL for (int c = 0; c < CHAINS; c++) {
            OPAQUE(w);
            acc[c] = vi_add(acc[c], vi_madd16(w, x));
            OPAQUE(acc[c]);
            OPAQUE(w);
            acc[c] = vi_add(acc[c], vi_madd16(w, x));
        }
    }
    DS_UNROLL for (int c = 0; c < CHAINS; c++) OPAQUE(acc[c]);
}

static uint64_t integer_products(ds_type type, uint64_t steps) {
    if (ds_linear_wide(type)) {
        int16_products(steps);
        return steps * CHAINS * 64;
    }
    steps = (steps + 7) / 8 * 8;
    if (ds_linear_chain(type) == 8) int16_chains(steps, 8);
    else int16_chains(steps, 4);
    return steps * CHAIN_ROWS * 64;
}
#endif

DS_INLINE void float_products(uint64_t steps, const bool exact) {
    vf acc[CHAINS], w = vf_set1(1.0f);
    const vf x = vf_set1(1.0f);
    DS_UNROLL for (int c = 0; c < CHAINS; c++) acc[c] = vf_zero();
    for (uint64_t s = 0; s < steps; s++) {
        DS_UNROLL for (int c = 0; c < CHAINS; c++) {
            OPAQUE(w);
            acc[c] = exact ? vf_add_exact_product(w, x, acc[c]) : vf_add(acc[c], vf_mul(w, x));
        }
    }
    DS_UNROLL for (int c = 0; c < CHAINS; c++) OPAQUE(acc[c]);
}

uint64_t DS_CPU_NAME(peak)(ds_type type, uint64_t steps) {
    switch (ds_linear_input(type)) {
    case DS_ELEM_BF16: float_products(steps, true); return steps * CHAINS * DS_WIDTH;
    case DS_ELEM_F32: float_products(steps, false); return steps * CHAINS * DS_WIDTH;
    default: return integer_products(type, steps);
    }
}
