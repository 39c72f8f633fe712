/*
 * The kernels of device `cpu`: one table for each instruction set, all made from the sources in kernels/, which are compiled
 * once per set with DS_CPU_ISA naming it. A kernel is called by every thread of the pool at once and does its own share; what
 * share that is depends on the number of threads, the bits it writes do not.
 */
#ifndef DSPARK_CPU_KERNELS_H
#define DSPARK_CPU_KERNELS_H

#include "host_device.h"
#include "pool.h"

/* One thread's part in an op. */
struct ds_cpu_work {
    unsigned member, members;
    struct ds_pool *pool;  /* for barriers between an op's phases */
    const uint32_t *edges; /* ds_pool_edges: NULL where all threads are alike */
    uint8_t *scratch;      /* this thread's own, ds_cpu_scratch.each bytes, aligned to DS_ALIGN */
    uint8_t *shared;       /* the op's, ds_cpu_scratch.shared bytes, aligned likewise */
};

/* Scratch that an op asks for. */
struct ds_cpu_scratch {
    uint64_t each;   /* bytes for every thread */
    uint64_t shared; /* bytes for all together */
};

typedef void (*ds_cpu_kernel)(const struct ds_cpu_work *work, const union ds_op_params *params);

/* Writes one tile (pack.h) from `outputs` (1..16) rows in file layout, `row_bytes` apart. */
typedef void (*ds_cpu_pack_fn)(ds_type type, uint32_t cols, const uint8_t *rows, uint64_t row_bytes, uint32_t outputs, uint8_t *tile);

/* Makes products as linears with weights of `type` do, `steps` of them in several chains; returns how many (roofline.h). */
typedef uint64_t (*ds_cpu_peak_fn)(ds_type type, uint64_t steps);

struct ds_cpu_kernels {
    ds_cpu_kernel op[DS_OP_COUNT];
    ds_cpu_pack_fn pack_tile;
    ds_cpu_peak_fn peak;
};

/* Scratch of an op (scratch.c); does not depend on the instruction set. */
struct ds_cpu_scratch ds_cpu_scratch_of(ds_op op, const union ds_op_params *params, unsigned members);

/* The share of `count` items of this thread. */
static inline void ds_cpu_share(const struct ds_cpu_work *work, uint64_t count, uint64_t *first, uint64_t *end) {
    if (work->edges) {
        const uint64_t all = work->edges[work->members];
        *first = count * work->edges[work->member] / all;
        *end = count * work->edges[work->member + 1] / all;
    } else {
        ds_pool_share(count, work->member, work->members, first, end);
    }
}

/* Whether of a whole of `total` the place `at`, below it, lies in this thread's share. */
static inline bool ds_cpu_owns(const struct ds_cpu_work *work, uint64_t at, uint64_t total) {
    if (!work->edges) return at * work->members / total == work->member;
    const uint64_t place = at * work->edges[work->members] / total;
    return place >= work->edges[work->member] && place < work->edges[work->member + 1];
}

/* Waits for all threads within an op. */
static inline void ds_cpu_meet(const struct ds_cpu_work *work) { ds_pool_barrier(work->pool, work->member); }

/* Names of what the sources in kernels/ define: ds_cpu_linear_avx2 and so on. */
#if defined(DS_CPU_ISA)
#define DS_CPU_PASTE(name, isa) ds_cpu_##name##_##isa
#define DS_CPU_EXPAND(name, isa) DS_CPU_PASTE(name, isa)
#define DS_CPU_NAME(name) DS_CPU_EXPAND(name, DS_CPU_ISA)

#define DS_OP(name, text) void DS_CPU_NAME(name)(const struct ds_cpu_work *work, const union ds_op_params *params);
#include "ops/ops.def"
#undef DS_OP
void DS_CPU_NAME(pack_tile)(ds_type type, uint32_t cols, const uint8_t *rows, uint64_t row_bytes, uint32_t outputs, uint8_t *tile);
uint64_t DS_CPU_NAME(peak)(ds_type type, uint64_t steps);
extern const struct ds_cpu_kernels DS_CPU_NAME(kernels);
#endif

#endif
