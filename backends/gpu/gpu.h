/*
 * The language of the kernels in backends/gpu/kernels: one text compiled as CUDA, as HIP, and as C++17 for emulated devices
 * (emu/emu.h). Nothing but this file knows which.
 *
 * A kernel is `GPU_KERNEL(threads) name(parameters by value)`, started by gpu_launch. Blocks have one dimension. A *wave* is what
 * runs in step: DS_GPU_WAVE lanes, 32 or 64, a constant of the build. Shuffles work inside *teams* of 32 lanes, of which a wave has
 * one or two: the numerics contract's row reductions have 32 lanes. Shuffles and gpu_mma must be reached by all lanes of a
 * wave, gpu_barrier by all threads of a block, in the same order.
 */
#ifndef DSPARK_GPU_GPU_H
#define DSPARK_GPU_GPU_H

#include "gpu_names.h"

#include "ops/layout.h"

#include <stdint.h>

#if !defined(DS_GPU_WAVE) || (DS_GPU_WAVE != 32 && DS_GPU_WAVE != 64)
#error "DS_GPU_WAVE must be 32 or 64"
#endif

enum { GPU_TEAM = 32 };

struct gpu_grid {
    uint32_t x, y, z;
};
static inline struct gpu_grid gpu_grid_of(uint64_t x, uint64_t y = 1, uint64_t z = 1) {
    return {static_cast<uint32_t>(x), static_cast<uint32_t>(y), static_cast<uint32_t>(z)};
}

/* Where a kernel is launched. `overlap`: it may start before the one in front of it has ended (gpu_begin). */
struct gpu_where {
    gpuStream_t stream;
    bool overlap;
    gpu_where(gpuStream_t given) : stream(given), overlap(false) {}
    gpu_where(gpuStream_t given, bool may_overlap) : stream(given), overlap(may_overlap) {}
};

#if defined(__CUDACC__) || defined(__HIPCC__)

/* --- CUDA and HIP --- */

#define GPU_KERNEL(threads) __global__ void __launch_bounds__(threads)
/* `blocks` of them fit on a multiprocessor at once: bounds the registers. */
#define GPU_KERNEL_RESIDENT(threads, blocks) __global__ void __launch_bounds__(threads, blocks)
#define GPU_FN static __device__ __forceinline__
#define GPU_HOST_FN static inline
#define GPU_FN_MEMBER __device__ __forceinline__
#define GPU_UNROLL _Pragma("unroll")
#define GPU_UNROLL_BY(n) GPU_PRAGMA(unroll n)
#define GPU_PRAGMA(text) _Pragma(#text)
/* The kernel's static shared memory, one object a kernel; and its dynamic one, as bytes. */
#define GPU_SHARED(type, name) __shared__ type name
#define GPU_DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]

GPU_FN uint32_t gpu_thread() { return threadIdx.x; }
GPU_FN uint32_t gpu_threads() { return blockDim.x; }
GPU_FN uint32_t gpu_block_x() { return blockIdx.x; }
GPU_FN uint32_t gpu_block_y() { return blockIdx.y; }
GPU_FN uint32_t gpu_block_z() { return blockIdx.z; }
GPU_FN uint32_t gpu_blocks_x() { return gridDim.x; }
GPU_FN uint32_t gpu_blocks_z() { return gridDim.z; }

GPU_FN void gpu_barrier() { __syncthreads(); }

#if defined(__CUDACC__)
GPU_FN uint32_t gpu_shuffle(uint32_t value, uint32_t lane) { return __shfl_sync(0xffffffffu, value, static_cast<int>(lane), GPU_TEAM); }
GPU_FN uint32_t gpu_shuffle_xor(uint32_t value, uint32_t mask) { return __shfl_xor_sync(0xffffffffu, value, static_cast<int>(mask), GPU_TEAM); }
#else
GPU_FN uint32_t gpu_shuffle(uint32_t value, uint32_t lane) {
    return static_cast<uint32_t>(__shfl(static_cast<int>(value), static_cast<int>(lane), GPU_TEAM));
}
GPU_FN uint32_t gpu_shuffle_xor(uint32_t value, uint32_t mask) {
    return static_cast<uint32_t>(__shfl_xor(static_cast<int>(value), static_cast<int>(mask), GPU_TEAM));
}
#endif

GPU_FN void gpu_atomic_or(uint32_t *at, uint32_t bits) { atomicOr(at, bits); }
GPU_FN uint32_t gpu_atomic_add(uint32_t *at, uint32_t n) { return atomicAdd(at, n); }
GPU_FN void gpu_atomic_add(uint64_t *at, uint64_t n) {
    atomicAdd(reinterpret_cast<unsigned long long *>(at), static_cast<unsigned long long>(n));
}

/* c + the four products of signed bytes. */
GPU_FN int32_t gpu_dot4(uint32_t a, uint32_t b, int32_t c) {
#if defined(__CUDACC__)
    return __dp4a(static_cast<int>(a), static_cast<int>(b), c);
#elif defined(__gfx906__) || defined(__gfx908__) || defined(__gfx90a__) || defined(__gfx942__) || defined(__gfx1011__) ||      \
    defined(__gfx1012__) || defined(__gfx1030__) || defined(__gfx1031__) || defined(__gfx1032__) || defined(__gfx1034__)
    return __builtin_amdgcn_sdot4(static_cast<int>(a), static_cast<int>(b), c, false);
#else
    for (int i = 0; i < 4; i++) c += static_cast<int8_t>(a >> (8 * i)) * static_cast<int8_t>(b >> (8 * i));
    return c;
#endif
}

/*
 * c += A B over int8, exact: A [16][32], B [32][8], c [16][8], spread over a team in the order of CUDA's mma.m16n8k32. Lane l, with
 * g = l / 4 and t = l % 4, holds, four bytes a word,
 *     a[0] = A[g][4t..]   a[1] = A[g + 8][4t..]   a[2] = A[g][16 + 4t..]   a[3] = A[g + 8][16 + 4t..]
 *     b[0] = B[4t..][g]   b[1] = B[16 + 4t..][g]
 *     c[0] = C[g][2t]     c[1] = C[g][2t + 1]     c[2] = C[g + 8][2t]      c[3] = C[g + 8][2t + 1]
 */
GPU_FN void gpu_mma(int32_t c[4], const uint32_t a[4], const uint32_t b[2]) {
#if defined(__CUDACC__) && (!defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800)
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#elif defined(__CUDACC__)
    GPU_UNROLL for (int half = 0; half < 2; half++) {
        GPU_UNROLL for (int k = 0; k < 2; k++) {
            asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
                : "+r"(c[2 * half]), "+r"(c[2 * half + 1])
                : "r"(a[half + 2 * k]), "r"(b[k]));
        }
    }
#else /* TODO below: matrix instructions of AMD; until then by dot products of what the lanes hold */
    const uint32_t lane = threadIdx.x % GPU_TEAM, g = lane / 4, t = lane % 4;
    for (uint32_t k = 0; k < 4; k++) {
        const uint32_t row[4] = {gpu_shuffle(a[0], 4 * g + k), gpu_shuffle(a[1], 4 * g + k), gpu_shuffle(a[2], 4 * g + k),
                                 gpu_shuffle(a[3], 4 * g + k)};
        for (uint32_t n = 0; n < 2; n++) {
            const uint32_t low = gpu_shuffle(b[0], 4 * (2 * t + n) + k), high = gpu_shuffle(b[1], 4 * (2 * t + n) + k);
            c[n] = gpu_dot4(row[2], high, gpu_dot4(row[0], low, c[n]));
            c[2 + n] = gpu_dot4(row[3], high, gpu_dot4(row[1], low, c[2 + n]));
        }
    }
#endif
}

#if defined(__CUDACC__)
/*
 * c += A B over f16 with sums in f32, in an order and with a rounding that are the device's own: for fast variants alone. A [16][16], B [16][8].
 * Lane (g, t) holds, two halves a word, the lower index in the lower half,
 *     a[0] = A[g][2t..]   a[1] = A[g + 8][2t..]   a[2] = A[g][8 + 2t..]   a[3] = A[g + 8][8 + 2t..]
 *     b[0] = B[2t..][g]   b[1] = B[8 + 2t..][g]   c as in gpu_mma
 */
GPU_FN void gpu_mma_f16(float c[4], const uint32_t a[4], const uint32_t b[2]) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    GPU_UNROLL for (int k = 0; k < 2; k++) {
        asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[2 * k]), "r"(a[2 * k + 1]), "r"(b[k]));
    }
#endif
}
/* b of gpu_mma_f16 for a B that lies in shared memory by rows: lane l gives where row l % 16 has its eight halves, aligned to 16 bytes. */
GPU_FN void gpu_load_columns(uint32_t b[2], const void *row) {
    const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(b[0]), "=r"(b[1]) : "r"(at) : "memory");
}
#endif

/* 16 bytes from device to shared memory, both aligned; in flight until gpu_copy_wait, which a barrier must follow. */
GPU_FN void gpu_copy_async16(void *shared, const void *from) {
#if defined(__CUDACC__) && (!defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800)
    const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
#else
    *static_cast<uint4 *>(shared) = *static_cast<const uint4 *>(from);
#endif
}
/* Copies so far are a group; gpu_copy_wait_but_last waits for all groups but the last one. */
GPU_FN void gpu_copy_group() {
#if defined(__CUDACC__) && (!defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800)
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
GPU_FN void gpu_copy_wait_but_last() {
#if defined(__CUDACC__) && (!defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800)
    asm volatile("cp.async.wait_group 1;" ::: "memory");
#endif
}
GPU_FN void gpu_copy_wait() {
#if defined(__CUDACC__) && (!defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800)
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

/* 16 bytes, aligned to 16, that nothing writes while the kernel runs and that are read once. */
struct gpu_words {
    uint32_t w[4];
};
GPU_FN struct gpu_words gpu_load16(const void *from) {
#if defined(__CUDACC__)
    const uint4 x = __ldcs(static_cast<const uint4 *>(from));
#else
    const uint4 x = *static_cast<const uint4 *>(from);
#endif
    return {{x.x, x.y, x.z, x.w}};
}

/* 16 bytes, aligned to 16, of any memory. */
GPU_FN struct gpu_words gpu_read16(const void *from) {
    const uint4 x = *static_cast<const uint4 *>(from);
    return {{x.x, x.y, x.z, x.w}};
}

GPU_FN void gpu_write16(void *to, struct gpu_words words) { *static_cast<uint4 *>(to) = make_uint4(words.w[0], words.w[1], words.w[2], words.w[3]); }

/* f16 to f32 is exact, so the hardware's conversion has the bits of numerics.h. */
GPU_FN float gpu_from_f16(uint16_t bits) {
#if defined(__CUDACC__)
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
#else
    _Float16 half;
    __builtin_memcpy(&half, &bits, sizeof half);
    return static_cast<float>(half);
#endif
}

/* A multiply-add rounded once: only where the product is exact (docs/numerics.md), so that it gives the bits of * and +. */
GPU_FN float gpu_fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }

/*
 * A kernel may start while the one before it still runs, if the launch says so (gpu_where): before gpu_begin it touches nothing but weights, and
 * at gpu_begin it waits until all before it is done and seen. Every kernel calls it, in every thread. gpu_let_next: the one behind may start.
 */
GPU_FN void gpu_let_next() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
GPU_FN void gpu_begin() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* Lets a kernel be launched with so much dynamic shared memory, where it is more than every device gives (48 KiB). */
template <class... Parameters> static gpuError_t gpu_allow_shared(void (*kernel)(Parameters...), size_t bytes) {
#if defined(__CUDACC__) && defined(DS_GPU_SHARED_ON_REQUEST)
    return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
#else
    (void)kernel, (void)bytes;
    return gpuSuccess;
#endif
}

/* Whether the kernels that would run on the device at hand wait in gpu_begin, so that launches may overlap. */
template <class... Parameters> static bool gpu_overlaps(void (*kernel)(Parameters...)) {
#if defined(__CUDACC__) && defined(DS_GPU_OVERLAP)
    cudaFuncAttributes attributes;
    const bool known = cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess;
    if (!known) (void)cudaGetLastError(); /* the self-test is about to say the same */
    return known && attributes.ptxVersion >= 90;
#else
    (void)kernel;
    return false;
#endif
}

template <class... Parameters, class... Arguments>
static gpuError_t gpu_launch(void (*kernel)(Parameters...), struct gpu_grid grid, uint32_t threads, size_t shared, struct gpu_where where,
                             Arguments... arguments) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return gpuSuccess;
#if defined(__CUDACC__) && defined(DS_GPU_OVERLAP)
    if (where.overlap) {
        cudaLaunchAttribute attribute = {};
        attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attribute.val.programmaticStreamSerializationAllowed = 1;
        cudaLaunchConfig_t config = {};
        config.gridDim = dim3(grid.x, grid.y, grid.z), config.blockDim = dim3(threads), config.dynamicSmemBytes = shared;
        config.stream = where.stream, config.attrs = &attribute, config.numAttrs = 1;
        return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
    }
#endif
    kernel<<<dim3(grid.x, grid.y, grid.z), threads, shared, where.stream>>>(arguments...);
    return gpuGetLastError();
}

#else

/* --- emulation --- */

#include "emu/emu.h"

#include <string.h>

#define GPU_KERNEL(threads) static void
#define GPU_KERNEL_RESIDENT(threads, blocks) static void
#define GPU_FN static inline
#define GPU_HOST_FN static inline
#define GPU_FN_MEMBER inline
#define GPU_UNROLL
#define GPU_UNROLL_BY(n)
#define GPU_SHARED(type, name) type &name = *static_cast<type *>(ds_emu_shared(sizeof(type)))
#define GPU_DYNAMIC_SHARED(name) unsigned char *const name = static_cast<unsigned char *>(ds_emu_dynamic_shared())

GPU_FN uint32_t gpu_thread() { return ds_emu_self->thread; }
GPU_FN uint32_t gpu_threads() { return ds_emu_self->threads; }
GPU_FN uint32_t gpu_block_x() { return ds_emu_self->block[0]; }
GPU_FN uint32_t gpu_block_y() { return ds_emu_self->block[1]; }
GPU_FN uint32_t gpu_block_z() { return ds_emu_self->block[2]; }
GPU_FN uint32_t gpu_blocks_x() { return ds_emu_self->grid[0]; }
GPU_FN uint32_t gpu_blocks_z() { return ds_emu_self->grid[2]; }

GPU_FN void gpu_barrier() { ds_emu_barrier(); }

/* Lane 0 of the calling thread's team, in its wave. */
GPU_FN uint32_t emu_team() { return ds_emu_self->thread % DS_GPU_WAVE / GPU_TEAM * GPU_TEAM; }
GPU_FN uint32_t gpu_shuffle(uint32_t value, uint32_t lane) { return ds_emu_exchange(&value, 1)[emu_team() + lane % GPU_TEAM][0]; }
GPU_FN uint32_t gpu_shuffle_xor(uint32_t value, uint32_t mask) {
    return gpu_shuffle(value, (ds_emu_self->thread % GPU_TEAM) ^ mask);
}

GPU_FN void gpu_atomic_or(uint32_t *at, uint32_t bits) { *at |= bits; }
GPU_FN uint32_t gpu_atomic_add(uint32_t *at, uint32_t n) {
    const uint32_t before = *at;
    *at += n;
    return before;
}
GPU_FN void gpu_atomic_add(uint64_t *at, uint64_t n) { *at += n; }

GPU_FN int32_t gpu_dot4(uint32_t a, uint32_t b, int32_t c) {
    int8_t left[4], right[4];
    memcpy(left, &a, 4);
    memcpy(right, &b, 4);
    for (int i = 0; i < 4; i++) c += left[i] * right[i];
    return c;
}

GPU_FN void gpu_mma(int32_t c[4], const uint32_t a[4], const uint32_t b[2]) {
    const uint32_t given[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    const uint32_t (*const lanes)[EMU_WORDS] = ds_emu_exchange(given, 6) + emu_team();
    const uint32_t lane = ds_emu_self->thread % GPU_TEAM, g = lane / 4, t = lane % 4;
    for (uint32_t k = 0; k < 4; k++) {
        const uint32_t *const row = lanes[4 * g + k];
        for (uint32_t n = 0; n < 2; n++) {
            const uint32_t *const column = lanes[4 * (2 * t + n) + k];
            c[n] = gpu_dot4(row[2], column[5], gpu_dot4(row[0], column[4], c[n]));
            c[2 + n] = gpu_dot4(row[3], column[5], gpu_dot4(row[1], column[4], c[2 + n]));
        }
    }
}

GPU_FN float gpu_from_f16(uint16_t bits);
/* Descending, so that it shows where somebody counts on an order. */
GPU_FN void gpu_mma_f16(float c[4], const uint32_t a[4], const uint32_t b[2]) {
    const uint32_t given[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    const uint32_t (*const lanes)[EMU_WORDS] = ds_emu_exchange(given, 6) + emu_team();
    const uint32_t lane = ds_emu_self->thread % GPU_TEAM, g = lane / 4, t = lane % 4;
    const auto half = [](uint32_t word, uint32_t k) { return gpu_from_f16(static_cast<uint16_t>(word >> (k % 2 * 16))); };
    for (uint32_t i = 0; i < 4; i++) {
        float sum = 0;
        for (uint32_t k = 16; k-- > 0;) {
            const uint32_t left = lanes[4 * g + k % 8 / 2][i / 2 + k / 8 * 2], right = lanes[4 * (2 * t + i % 2) + k % 8 / 2][4 + k / 8];
            sum = sum + half(left, k) * half(right, k);
        }
        c[i] = c[i] + sum;
    }
}
GPU_FN void gpu_load_columns(uint32_t b[2], const void *row) {
    uint32_t given[4];
    memcpy(given, row, sizeof given);
    const uint32_t (*const lanes)[EMU_WORDS] = ds_emu_exchange(given, 4) + emu_team();
    const uint32_t lane = ds_emu_self->thread % GPU_TEAM, g = lane / 4, t = lane % 4;
    for (uint32_t i = 0; i < 2; i++) {
        const uint32_t first = lanes[8 * i + 2 * t][g / 2] >> (g % 2 * 16) & 0xffffu, second = lanes[8 * i + 2 * t + 1][g / 2] >> (g % 2 * 16) & 0xffffu;
        b[i] = first | second << 16;
    }
}

GPU_FN void gpu_copy_async16(void *shared, const void *from) { ds_emu_copy16(shared, from); }
GPU_FN void gpu_copy_group() { ds_emu_copy_group(); }
GPU_FN void gpu_copy_wait_but_last() { ds_emu_copy_wait(true); }
GPU_FN void gpu_copy_wait() { ds_emu_copy_wait(false); }
struct gpu_words {
    uint32_t w[4];
};
GPU_FN struct gpu_words gpu_load16(const void *from) {
    struct gpu_words x;
    ds_emu_at_once(from);
    memcpy(&x, from, sizeof x);
    return x;
}
GPU_FN struct gpu_words gpu_read16(const void *from) { return gpu_load16(from); }
GPU_FN void gpu_write16(void *to, struct gpu_words words) {
    ds_emu_at_once(to);
    memcpy(to, &words, sizeof words);
}
GPU_FN float gpu_fma(float a, float b, float c) { return a * b + c; } /* the same bits where the product is exact */

GPU_FN void gpu_let_next() {}
GPU_FN void gpu_begin() { ds_emu_self->begun = 1; }
template <class... Parameters> static bool gpu_overlaps(void (*)(Parameters...)) { return false; }
template <class... Parameters> static gpuError_t gpu_allow_shared(void (*)(Parameters...), size_t) { return gpuSuccess; }

template <class... Parameters, class... Arguments>
static gpuError_t gpu_launch(void (*kernel)(Parameters...), struct gpu_grid grid, uint32_t threads, size_t shared, struct gpu_where where,
                             Arguments... arguments) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return gpuSuccess;
    const auto call = [=] { kernel(arguments...); };
    struct emu_launch launch = {};
    launch.grid[0] = grid.x, launch.grid[1] = grid.y, launch.grid[2] = grid.z;
    launch.threads = threads, launch.wave = DS_GPU_WAVE, launch.shared = shared;
    launch.body = [](const void *closure) { (*static_cast<decltype(call) *>(closure))(); };
    launch.closure = &call, launch.closure_bytes = sizeof call;
    return ds_emu_start(&launch, where.stream);
}

#endif

/* --- for all --- */

GPU_FN uint32_t gpu_lane() { return gpu_thread() % GPU_TEAM; } /* in its team */
GPU_FN uint32_t gpu_team() { return gpu_thread() / GPU_TEAM; } /* of the block */
GPU_FN uint32_t gpu_teams() { return gpu_threads() / GPU_TEAM; }

GPU_FN float gpu_shuffle_f(float value, uint32_t lane);
GPU_FN float gpu_shuffle_xor_f(float value, uint32_t mask);

#include "ops/numerics.h"

#if !defined(__CUDACC__) && !defined(__HIPCC__)
GPU_FN float gpu_from_f16(uint16_t bits) { return ds_f16_to_f32(bits); }
#endif

GPU_FN float gpu_shuffle_f(float value, uint32_t lane) { return ds_float(gpu_shuffle(ds_bits(value), lane)); }
GPU_FN float gpu_shuffle_xor_f(float value, uint32_t mask) { return ds_float(gpu_shuffle_xor(ds_bits(value), mask)); }
GPU_FN uint64_t gpu_shuffle_xor_64(uint64_t value, uint32_t mask) {
    const uint32_t low = gpu_shuffle_xor(static_cast<uint32_t>(value), mask), high = gpu_shuffle_xor(static_cast<uint32_t>(value >> 32), mask);
    return static_cast<uint64_t>(high) << 32 | low;
}

#endif
