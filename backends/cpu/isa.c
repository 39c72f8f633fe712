#include "isa.h"

#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

extern const struct ds_cpu_kernels ds_cpu_kernels_avx512vnni, ds_cpu_kernels_avx512, ds_cpu_kernels_avxvnni, ds_cpu_kernels_avx2;

/* clang's __builtin_cpu_supports does not know this one; where AVX2 may be used its registers are saved too. */
static bool has_f16c(void) {
    unsigned eax, ebx, ecx = 0, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && ecx & bit_F16C;
}
/* These ask for the operating system's consent too (XGETBV): registers that it does not save are not used. */
static bool has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }
static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq");
}
static bool has_avx512vnni(void) { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }
/* VNNI for registers of AVX2, on processors without AVX-512; compilers have no name for it that both gcc and clang know. */
static bool has_avxvnni(void) {
    unsigned eax, ebx, ecx, edx;
    return has_avx2() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && eax & 1u << 4;
}
#elif defined(__aarch64__)
#if defined(__linux__)
#include <sys/auxv.h>
#endif

extern const struct ds_cpu_kernels ds_cpu_kernels_i8mm, ds_cpu_kernels_dotprod;

/* Bits of HWCAP and HWCAP2 as Linux numbers them for arm64; C libraries older than the feature do not name them. */
enum { HWCAP_DOTPROD = 1 << 20, HWCAP2_INT8_MATRIX = 1 << 13 };

/* Linux tells what every core has (on big.LITTLE too). Elsewhere: what the compiler was allowed to assume of the machine. */
static bool has_dotprod(void) {
#if defined(__linux__)
    return getauxval(AT_HWCAP) & HWCAP_DOTPROD;
#elif defined(__ARM_FEATURE_DOTPROD)
    return true;
#else
    return false;
#endif
}
static bool has_i8mm(void) {
#if defined(__linux__)
    return has_dotprod() && getauxval(AT_HWCAP2) & HWCAP2_INT8_MATRIX;
#elif defined(__ARM_FEATURE_DOTPROD) && defined(__ARM_FEATURE_MATMUL_INT8)
    return true;
#else
    return false;
#endif
}
#endif

/* What every processor of this kind has. */
#if defined(__aarch64__)
extern const struct ds_cpu_kernels ds_cpu_kernels_neon;
#else
extern const struct ds_cpu_kernels ds_cpu_kernels_base;
#endif
static bool has_lowest(void) { return true; }

/* Best first. */
static const struct {
    struct ds_cpu_isa isa;
    bool (*available)(void);
} sets[] = {
#if defined(__x86_64__)
    {{"avx512vnni", "AVX-512 VNNI", &ds_cpu_kernels_avx512vnni}, has_avx512vnni},
    {{"avxvnni", "AVX-VNNI", &ds_cpu_kernels_avxvnni}, has_avxvnni},
    {{"avx512", "AVX-512", &ds_cpu_kernels_avx512}, has_avx512},
    {{"avx2", "AVX2", &ds_cpu_kernels_avx2}, has_avx2},
#endif
#if defined(__aarch64__)
    {{"i8mm", "NEON with int8 matrix products", &ds_cpu_kernels_i8mm}, has_i8mm},
    {{"dotprod", "NEON with dot products", &ds_cpu_kernels_dotprod}, has_dotprod},
    {{"neon", "NEON", &ds_cpu_kernels_neon}, has_lowest},
#else
    {{"base", "portable kernels", &ds_cpu_kernels_base}, has_lowest},
#endif
};

ds_status ds_cpu_isa_find(const char *name, const struct ds_cpu_isa **out, struct ds_error *err) {
    char available[128] = "";
    for (size_t i = 0; i < DS_COUNT(sets); i++) {
        if (!sets[i].available()) continue;
        if (!name || strcmp(name, sets[i].isa.name) == 0) {
            *out = &sets[i].isa;
            return DS_OK;
        }
        const size_t used = strlen(available);
        snprintf(available + used, sizeof available - used, "%s%s", used ? ", " : "", sets[i].isa.name);
    }
    return ds_fail(err, DS_ERROR_ARGUMENT, "instruction set '%s' is not available; this processor and build have %s", name, available);
}

void ds_cpu_brand(char *out, size_t capacity) {
    char brand[49] = "";
#if defined(__x86_64__)
    unsigned words[12] = {0};
    if ((unsigned)__get_cpuid_max(0x80000000u, NULL) >= 0x80000004u) {
        for (unsigned i = 0; i < 3; i++) __get_cpuid(0x80000002u + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2], &words[4 * i + 3]);
        memcpy(brand, words, 48);
    }
#endif
    snprintf(out, capacity, "%s", brand + strspn(brand, " "));
}
