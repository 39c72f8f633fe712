/*
 * Measures the functions of numerics.h over all floats and fails when one is worse than docs/numerics.md says.
 *
 *     search_numerics [--stride N] [NAME..]     all 2^32 bit patterns, or every N-th one (N odd, so that no bit is left out)
 *
 * Errors are in units of the last place of the exact result, which is taken from the C library's binary64 function: its
 * own error is about 1e-9 of our unit. The suite runs this with a stride; everything takes half an hour.
 */
#include "ops/numerics.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static double exact_sigmoid(double x) { return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x)); }
static double exact_silu(double x) { return isinf(x) && x < 0 ? -0.0 : x * exact_sigmoid(x); }
static double exact_gelu(double x) {
    const double inner = 2 * sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x);
    return inner < -700 ? -0.0 : x * exact_sigmoid(inner);
}

/* Wrappers over blocks: a function pointer a float would take longer than the function. */
enum { BLOCK = 4096 };
#define BLOCK_OF(name)                                                  \
    static void block_##name(float *restrict y, const float *restrict x) { \
        for (int i = 0; i < BLOCK; i++) y[i] = ds_##name(x[i]);         \
    }
BLOCK_OF(exp)
BLOCK_OF(log)
BLOCK_OF(log1p)
BLOCK_OF(sqrt)
BLOCK_OF(sigmoid)
BLOCK_OF(tanh)
BLOCK_OF(silu)
BLOCK_OF(gelu)

struct subject {
    const char *name;
    void (*block)(float *restrict y, const float *restrict x);
    double (*exact)(double x);
    double ulps;     /* the bound for x >= from */
    float from;      /* left of it the result fades out, and the bound is `absolute` */
    double absolute;
    bool monotone;
};

static const struct subject subjects[] = {
    {"exp", block_exp, exp, 0.78, -INFINITY, 0, true},
    {"log", block_log, log, 0.85, -INFINITY, 0, true},
    {"log1p", block_log1p, log1p, 0.88, -INFINITY, 0, false},
    {"sqrt", block_sqrt, sqrt, 0.5, -INFINITY, 0, true},
    {"sigmoid", block_sigmoid, exact_sigmoid, 2.5, -INFINITY, 0, true},
    {"tanh", block_tanh, tanh, 1.5, -INFINITY, 0, false},
    {"silu", block_silu, exact_silu, 3.0, -80.0f, 1e-36, false},
    {"gelu", block_gelu, exact_gelu, 4.0, -1.0f, 1e-7, false},
};

struct findings {
    double worst_ulps, worst_absolute;
    float worst_at;
    uint64_t tried, not_nearest, wrong, decreasing;
    float first_decreasing;
};

static double ulp_of(double exact) {
    int e;
    frexp(exact, &e);
    return ldexp(1, (e < -125 ? -125 : e) - 24);
}

static void judge(const struct subject *s, float x, float y, struct findings *f) {
    const double exact = s->exact((double)x);
    f->tried++;
    if (isnan(exact) || isnan(y)) {
        if (ds_bits(y) != DS_NUM_NAN || !isnan(exact)) f->wrong++;
        return;
    }
    const float nearest = (float)exact;
    if (y == nearest && signbit(y) == signbit(nearest)) return;
    f->not_nearest++;
    if (isinf(y) || isinf(nearest) || signbit(y) != signbit(nearest)) {
        f->wrong++;
        return;
    }
    const double error = fabs((double)y - exact), ulps = error / ulp_of(exact);
    if (x < s->from) {
        if (error > f->worst_absolute) f->worst_absolute = error;
    } else if (ulps > f->worst_ulps) {
        f->worst_ulps = ulps;
        f->worst_at = x;
    }
}

/* Goes through the positive floats and then the negative ones, each from zero outwards. */
static bool search(const struct subject *s, uint64_t stride) {
    static float x[BLOCK], y[BLOCK];
    struct findings f = {0};
    float before = 0;
    bool first = true;
    for (uint64_t u = 0; u < 0x100000000u;) {
        uint64_t at[BLOCK];
        for (int i = 0; i < BLOCK; i++, u += stride) {
            at[i] = u;
            x[i] = ds_float((uint32_t)(u < 0x100000000u ? u : 0));
        }
        s->block(y, x);
        for (int i = 0; i < BLOCK && at[i] < 0x100000000u; i++) {
            judge(s, x[i], y[i], &f);
            if (isnan(y[i])) {
                first = true; /* the negative half starts anew */
                continue;
            }
            const bool negative = signbit(x[i]);
            if (!first && negative == (bool)(at[i] - stride >= 0x80000000u) && (negative ? y[i] > before : y[i] < before) &&
                f.decreasing++ == 0)
                f.first_decreasing = x[i];
            before = y[i];
            first = false;
        }
    }
    const bool good = f.worst_ulps <= s->ulps && f.worst_absolute <= s->absolute && f.wrong == 0 &&
                      (!s->monotone || f.decreasing == 0);
    printf("%-8s %10" PRIu64 " floats: worst %.4f ulp at %.9g, not nearest %.3f %%, left of %g worst error %.3g, "
           "steps down %" PRIu64 " (first at %.9g), wrong %" PRIu64 "%s\n",
           s->name, f.tried, f.worst_ulps, (double)f.worst_at, 100.0 * (double)f.not_nearest / (double)f.tried,
           (double)s->from, f.worst_absolute, f.decreasing, (double)f.first_decreasing, f.wrong, good ? "" : "  FAILED");
    return good;
}

static bool same_bits(float a, float b) { return ds_bits(a) == ds_bits(b) || (isnan(a) && isnan(b)); }

/* Quotients against the machine's own IEEE division: random bits, close mantissas, denormal results, x / x. */
static bool search_div(uint64_t stride) {
    uint64_t state = 88172645463325252u, wrong = 0, tried = 0;
    for (uint64_t i = 0; i < 0x100000000u; i += stride) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        uint32_t ua = (uint32_t)state, ub = (uint32_t)(state >> 32);
        if (i & 1) ub = (ub & 0xff80000fu) | (ua & 0x007ffff0u); /* quotients next to powers of two, and their ties */
        if ((i & 6) == 6) ub = (ub & 0x807fffffu) | ((ua & 0x7f800000u) < 0x40000000u ? 0x7e800000u : 0x00800000u);
        const float a = ds_float(ua), b = ds_float(ub), c = ds_float((uint32_t)i);
        wrong += !same_bits(ds_div(a, b), a / b);
        wrong += !same_bits(ds_div(c, c), c / c);
        wrong += !same_bits(ds_div(1.0f, c), 1.0f / c);
        tried += 3;
    }
    printf("%-8s %" PRIu64 " quotients, wrong %" PRIu64 "%s\n", "div", tried, wrong, wrong == 0 ? "" : "  FAILED");
    return wrong == 0;
}

/* Every amax that is finite and above 0 gives exactly 127. */
static bool search_quant(uint64_t stride) {
    uint64_t wrong = 0, tried = 0;
    for (uint64_t u = 1; u < 0x7f800000u; u += stride, tried++) {
        const float amax = ds_float((uint32_t)u);
        const float pre = ds_quant_pre(amax), inverse = ds_quant_inverse(amax);
        wrong += ds_quant(amax, pre, inverse) != 127 || ds_quant(-amax, pre, inverse) != -127;
    }
    printf("%-8s %" PRIu64 " blocks, wrong %" PRIu64 "%s\n", "quant", tried, wrong, wrong == 0 ? "" : "  FAILED");
    return wrong == 0;
}

int main(int argc, char **argv) {
    uint64_t stride = 1;
    int first = 1;
    if (argc > 2 && strcmp(argv[1], "--stride") == 0) {
        stride = strtoull(argv[2], NULL, 10);
        first = 3;
    }
    if (stride == 0) {
        fprintf(stderr, "search_numerics: --stride must be a number above 0, found \"%s\"\n", argv[2]);
        return 2;
    }
    bool good = true;
    for (size_t i = 0; i < sizeof subjects / sizeof subjects[0] + 2; i++) {
        const size_t n = sizeof subjects / sizeof subjects[0];
        const char *name = i < n ? subjects[i].name : i == n ? "div" : "quant";
        bool wanted = first == argc;
        for (int k = first; k < argc; k++) wanted |= strcmp(argv[k], name) == 0;
        if (!wanted) continue;
        good &= i < n ? search(&subjects[i], stride) : i == n ? search_div(stride) : search_quant(stride);
        fflush(stdout);
    }
    return good ? 0 : 1;
}
