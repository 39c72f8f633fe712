/*
 * How many products the arithmetic that kernel `linear` is made of can do at most: chains of its own primitives that read no memory.
 * Every product's operand passes through an empty asm statement, so that the compiler can neither share nor move it.
 */
#include "kernels.h"
#include "kernels/vec.h"

/* As many chains as hide the latency of one, without running out of registers. */
enum { CHAINS = DS_PART == 64 ? 12 : DS_PART == 32 ? 5 : 2 };

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

static void int8_dots(uint64_t steps) {
    vi acc[CHAINS], w = vi_set1(0x01010101);
    DS_UNROLL for (int c = 0; c < CHAINS; c++) acc[c] = vi_set1(0);
    for (uint64_t s = 0; s < steps; s++) {
        DS_UNROLL for (int c = 0; c < CHAINS; c++) {
            OPAQUE(w);
            acc[c] = vi_dot(acc[c], w, 0x01010101);
        }
    }
    DS_UNROLL for (int c = 0; c < CHAINS; c++) OPAQUE(acc[c]);
}

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

uint64_t DS_CPU_NAME(peak)(ds_elem elem, uint64_t steps) {
    switch (elem) {
    case DS_ELEM_Q8:
    case DS_ELEM_Q8_32: int8_dots(steps); return steps * CHAINS * 64;
    case DS_ELEM_BF16: float_products(steps, true); return steps * CHAINS * DS_WIDTH;
    default: float_products(steps, false); return steps * CHAINS * DS_WIDTH;
    }
}
