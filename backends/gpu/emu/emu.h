/*
 * Blocks of threads on one processor: what gpu.h needs where kernels are ordinary C++.
 *
 * The threads of a block are fibers. One runs until it reaches a barrier or a wave operation, or ends; then another. Lanes, waves
 * and blocks take their turns in an order that changes from launch to launch, so that what depends on an order without a
 * barrier gives varying results. Shared memory holds poison when a block starts, and a copy into it arrives when it is waited for, no sooner.
 *
 * Rules that end a launch with gpuErrorLaunchFailure: a barrier that not all threads of the block reach; a wave operation that
 * not all lanes of the wave reach, or not the same one; more static shared memory than there is; 16 bytes at once that are not aligned to 16; a thread
 * that ends without gpu_begin, or while a copy of its own is under way. Accesses outside a buffer or outside shared memory hit an unmapped page.
 */
#ifndef DSPARK_GPU_EMU_H
#define DSPARK_GPU_EMU_H

#include "gpu_names.h"

#include <stdbool.h>

enum { EMU_MOST_THREADS = 1024, EMU_SHARED_BYTES = 96 * 1024, EMU_WORDS = 8, EMU_MOST_COPIES = 64 /* of a thread, under way */ };

/* One thread of the block that runs. */
struct emu_thread {
    uint32_t thread, threads, wave; /* in the block; `wave`: its size */
    uint32_t block[3], grid[3];
    uint32_t begun; /* gpu_begin was called */
};

#ifdef __cplusplus
extern "C" {
#endif

extern __thread struct emu_thread *ds_emu_self __attribute__((tls_model("initial-exec")));

struct emu_launch {
    uint32_t grid[3];
    uint32_t threads, wave;
    size_t shared; /* dynamic, bytes */
    void (*body)(const void *closure);
    const void *closure; /* copied, `closure_bytes` long: a recorded launch outlives its caller */
    size_t closure_bytes;
    bool library; /* not a grid: `body` is a library's work */
};
/* Runs the grid, or records it. */
gpuError_t ds_emu_start(const struct emu_launch *launch, gpuStream_t stream);
const char *ds_emu_last_fault(void);

/* --- inside a kernel --- */

void ds_emu_barrier(void);
/* 16 bytes, both sides aligned to 16, as they are when the calling thread waits: for all copies, or for all groups but the last one. */
void ds_emu_copy16(void *to, const void *from);
void ds_emu_copy_group(void);
void ds_emu_copy_wait(bool but_last);
/* `at` is about to be accessed as 16 bytes at once. */
void ds_emu_at_once(const void *at);
/* `bytes` of the block's shared memory, the same for all its threads: one static object a kernel. */
void *ds_emu_shared(size_t bytes);
void *ds_emu_dynamic_shared(void);
/*
 * All lanes of the calling thread's wave hand in `words` (at most EMU_WORDS) and may then read what each of them gave, until
 * their next exchange. Returns [lane][EMU_WORDS] from the wave's lane 0 on.
 */
const uint32_t (*ds_emu_exchange(const uint32_t *given, uint32_t words))[EMU_WORDS];

#ifdef __cplusplus
}
#endif

#endif
