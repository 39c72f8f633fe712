/*
 * The state of the processor's floating-point unit, per thread. It depends on the processor alone, so that every system
 * shares it. See os.h for what each call promises.
 */
#include "base/os.h"

#if defined(__SSE__)
#include <xmmintrin.h>

/* MXCSR after reset: all exceptions masked, rounding to nearest, no flush-to-zero, denormals are not zeros. */
enum { MXCSR_DEFAULT = 0x1F80 };

struct ds_float_state ds_os_float_begin(void) {
    const struct ds_float_state before = {.bits = {_mm_getcsr()}};
    _mm_setcsr(MXCSR_DEFAULT);
    return before;
}

void ds_os_float_restore(struct ds_float_state state) {
    _mm_setcsr((unsigned)state.bits[0]);
}
#elif defined(__aarch64__)
/* FPCR after reset is all zeros: nearest, no flush-to-zero (FZ, FZ16, FIZ), NaNs kept (DN), no traps. */
struct ds_float_state ds_os_float_begin(void) {
    struct ds_float_state before = {{0}};
    __asm__ volatile("mrs %0, fpcr" : "=r"(before.bits[0]));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0) : "memory");
    return before;
}

void ds_os_float_restore(struct ds_float_state state) {
    __asm__ volatile("msr fpcr, %0" : : "r"(state.bits[0]) : "memory");
}
#else
/* Other processors have no flush-to-zero that a host could have set; their rounding mode is left to the host. */
struct ds_float_state ds_os_float_begin(void) {
    return (struct ds_float_state){{0}};
}

void ds_os_float_restore(struct ds_float_state state) {
    (void)state;
}
#endif
