/*
 * The names of backends/gpu in emulation: host memory and calls that are done when they return. Twin of cuda/gpu_names.h.
 *
 * Buffers end at a page that may not be touched, and memory that a kernel may not rely on is poisoned (emu.h). What a real
 * device refuses can be asked for: ds_emu_fail_at.
 */
#ifndef DSPARK_GPU_NAMES_H
#define DSPARK_GPU_NAMES_H

#include <stddef.h>
#include <stdint.h>

#define DS_GPU_KIND "emu"
#define DS_GPU_BACKEND ds_backend_emu
#define DS_GPU_NAME(name) ds_emu_##name
#define DS_GPU_DRIVER "the emulator"
#define DS_GPU_TABLES(X) X(32) X(64) /* emu:0 has waves of 32, emu:1 of 64 */

#define DS_GPU_FAST 1
#define DS_GPU_BLAS 1
#define DS_GPU_BLAS_WEIGHTS (64 << 10) /* bytes of unpacked weights at a time: few, so that small matrices take several products */

#if defined(__GNUC__)
#define DS_EMU_EXPORT __attribute__((visibility("default"))) /* for tests that load the module */
#else
#define DS_EMU_EXPORT
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum gpuError_t {
    gpuSuccess,
    gpuErrorMemoryAllocation,
    gpuErrorNoKernelImage,
    gpuErrorInvalidDevice,
    gpuErrorInsufficientDriver,
    gpuErrorDeviceLost,
    gpuErrorLaunchFailure, /* a kernel broke a rule of emu.h; ds_emu_last_fault says which */
} gpuError_t;
const char *gpuGetErrorString(gpuError_t error);
gpuError_t gpuGetLastError(void);

/*
 * Of all calls that can run out of something (memory, streams, events, recordings) and launches, the n-th from now on fails, once.
 * 0: none. For tests.
 */
DS_EMU_EXPORT void ds_emu_fail_at(uint64_t n);
/* The same, but the device is lost with it: every later call but those that free fails as well, until the next ds_emu_fail_at. */
DS_EMU_EXPORT void ds_emu_lose_at(uint64_t n);
/* How many such calls there were since the last of the two. */
DS_EMU_EXPORT uint64_t ds_emu_calls(void);
/* Word `word` of the next copy from the device that is so long arrives with its lowest bit inverted, as if the device had computed it so. */
DS_EMU_EXPORT void ds_emu_spoil(uint64_t word);
/* What the machine is like from now on. FLUSHES: its kernels take denormals for zeros and leave none (x86-64 alone). */
enum ds_emu_machine { DS_EMU_SOUND, DS_EMU_NO_DRIVER, DS_EMU_OLD_DRIVER, DS_EMU_NO_DEVICE, DS_EMU_NO_KERNELS, DS_EMU_FLUSHES };
DS_EMU_EXPORT void ds_emu_pretend(enum ds_emu_machine machine);

/* What the host asked of the device so far, as a real one would see it. */
struct ds_emu_counts {
    uint64_t launches;        /* of single kernels */
    uint64_t graphs;          /* launched */
    uint64_t kernels;         /* in those */
    uint64_t to_device, to_host, on_device; /* copies */
    uint64_t waits;           /* for a stream or an event */
    int64_t allocations;      /* pieces of memory that are held */
};
DS_EMU_EXPORT struct ds_emu_counts ds_emu_counts(void);

typedef struct gpuDeviceProp_t {
    char name[96];
} gpuDeviceProp_t;
typedef enum gpuDeviceAttr { gpuAttributeProcessors, gpuAttributeWave, gpuAttributeMajor, gpuAttributeMinor, gpuAttributeShared } gpuDeviceAttr;

gpuError_t gpuDriverGetVersion(int *version);
gpuError_t gpuRuntimeGetVersion(int *version);
gpuError_t gpuGetDeviceCount(int *count);
gpuError_t gpuSetDevice(int device);
gpuError_t gpuGetDeviceProperties(gpuDeviceProp_t *out, int device);
gpuError_t gpuDeviceGetAttribute(int *out, gpuDeviceAttr attribute, int device);
gpuError_t gpuMemGetInfo(size_t *unused, size_t *all);

gpuError_t gpuMalloc(void **out, size_t bytes);
gpuError_t gpuFree(void *data);
gpuError_t gpuMallocHost(void **out, size_t bytes);
gpuError_t gpuFreeHost(void *data);

/* The one library that may be there: the file that DSPARK_EMU_BLAS names, for tests. i > 0: NULL. */
const char *gpuBlasLibrary(int i);

typedef struct gpuStream *gpuStream_t;
/*
 * A stream starts with this, for a library that puts work of its own on it as cuBLAS does: `run` is called with a copy of the closure when its turn
 * comes, or recorded.
 */
struct gpuStream_library {
    gpuError_t (*call)(gpuStream_t stream, void (*run)(const void *closure), const void *closure, size_t bytes);
};

enum { gpuStreamNonBlocking = 1, gpuCaptureThreadLocal = 1, gpuEventDisableTiming = 2 };
typedef enum gpuMemcpyKind { gpuHostToDevice, gpuDeviceToHost, gpuDeviceToDevice } gpuMemcpyKind;
gpuError_t gpuStreamCreateWithFlags(gpuStream_t *out, unsigned flags);
gpuError_t gpuStreamSynchronize(gpuStream_t stream);
gpuError_t gpuStreamDestroy(gpuStream_t stream);
gpuError_t gpuMemsetAsync(void *to, int value, size_t bytes, gpuStream_t stream);
gpuError_t gpuMemcpyAsync(void *to, const void *from, size_t bytes, gpuMemcpyKind kind, gpuStream_t stream);

typedef struct gpuEvent *gpuEvent_t;
gpuError_t gpuEventCreateWithFlags(gpuEvent_t *out, unsigned flags);
gpuError_t gpuEventRecord(gpuEvent_t event, gpuStream_t stream);
gpuError_t gpuEventSynchronize(gpuEvent_t event);
gpuError_t gpuEventDestroy(gpuEvent_t event);

/* Launches between begin and end are kept, not run; a graph's launch runs them in order. */
typedef struct gpuGraph *gpuGraph_t;
typedef struct gpuGraph *gpuGraphExec_t;
gpuError_t gpuStreamBeginCapture(gpuStream_t stream, int mode);
gpuError_t gpuStreamEndCapture(gpuStream_t stream, gpuGraph_t *out);
gpuError_t gpuGraphInstantiateWithFlags(gpuGraphExec_t *out, gpuGraph_t graph, unsigned long long flags);
gpuError_t gpuGraphLaunch(gpuGraphExec_t graph, gpuStream_t stream);
gpuError_t gpuGraphDestroy(gpuGraph_t graph);
gpuError_t gpuGraphExecDestroy(gpuGraphExec_t graph);

#ifdef __cplusplus
}
#endif

#endif
