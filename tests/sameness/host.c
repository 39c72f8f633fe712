#include "host.h"

#include "golden.h"

#include <fenv.h>
#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
enum { FLUSH_TO_ZERO = 0x8000, DENORMALS_ARE_ZERO = 0x0040, CONTROL_BITS = 0xffc0 /* what is no sticky exception flag */ };
static unsigned control(void) { return _mm_getcsr() & CONTROL_BITS; }
static void flush(bool on) {
    const unsigned bits = FLUSH_TO_ZERO | DENORMALS_ARE_ZERO;
    _mm_setcsr(on ? _mm_getcsr() | bits : _mm_getcsr() & ~bits);
}
#elif defined(__aarch64__)
enum { FLUSH_TO_ZERO = 1 << 24, FLUSH_HALVES = 1 << 19 };
static unsigned control(void) {
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return (unsigned)fpcr; /* the exception flags are in FPSR */
}
static void flush(bool on) {
    const uint64_t bits = FLUSH_TO_ZERO | FLUSH_HALVES, fpcr = on ? control() | bits : control() & ~bits;
    __asm__ volatile("msr fpcr, %0" : : "r"(fpcr) : "memory");
}
#else
static unsigned control(void) { return 0; }
static void flush(bool on) { (void)on; }
#endif

bool host_is_hostile;
static unsigned entered;

void host_enter(void) {
    if (host_is_hostile) {
        assert_int_equal(fesetround(FE_UPWARD), 0);
        flush(true);
    }
    entered = control();
}

void host_leave(const char *call) {
    const unsigned left = control();
    const int rounding = fegetround();
    flush(false);
    fesetround(FE_TONEAREST);
    if (left != entered || rounding != (host_is_hostile ? FE_UPWARD : FE_TONEAREST))
        fail_msg("%s left the caller's floating-point state changed: rounding %d, control %#x; it was %#x", call, rounding, left, entered);
}
