/* The calls of gpu_names.h on host memory. */
#include "emu_internal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct gpuStream {
    struct gpuStream_library library; /* first: its offer to libraries */
    struct gpuGraph *recording;       /* NULL: launches run */
};
struct gpuEvent {
    int unused;
};
struct kept {
    struct emu_launch launch; /* its closure is owned */
};
struct gpuGraph {
    struct kept *launches;
    size_t count, room;
    unsigned owners; /* the recording, and what was made from it */
};

/* --- failures on request --- */

static atomic_uint_fast64_t calls, failing;
static atomic_uint_fast64_t spoiled; /* one more than the word; 0: none */
static atomic_bool loses, lost;
static atomic_int pretended;

static void arrange(uint64_t n, bool lose) {
    atomic_store(&calls, 0);
    atomic_store(&failing, n);
    atomic_store(&loses, lose);
    atomic_store(&lost, false);
}
void ds_emu_fail_at(uint64_t n) { arrange(n, false); }
void ds_emu_lose_at(uint64_t n) { arrange(n, true); }
void ds_emu_pretend(enum ds_emu_machine machine) { atomic_store(&pretended, (int)machine); }
void ds_emu_spoil(uint64_t word) { atomic_store(&spoiled, word + 1); }
uint64_t ds_emu_calls(void) { return atomic_load(&calls); }

static struct {
    atomic_uint_fast64_t launches, graphs, kernels, to_device, to_host, on_device, waits;
    atomic_int_fast64_t allocations;
} counts;

struct ds_emu_counts ds_emu_counts(void) {
    return (struct ds_emu_counts){.launches = counts.launches, .graphs = counts.graphs, .kernels = counts.kernels, .to_device = counts.to_device,
                                  .to_host = counts.to_host, .on_device = counts.on_device, .waits = counts.waits,
                                  .allocations = counts.allocations};
}

static gpuError_t sound(void) { return atomic_load(&lost) ? gpuErrorDeviceLost : gpuSuccess; }

/* One of the calls that can be made to fail, with this error. */
static gpuError_t refused(gpuError_t error) {
    if (atomic_fetch_add(&calls, 1) + 1 != atomic_load(&failing)) return sound();
    if (!atomic_load(&loses)) return error;
    atomic_store(&lost, true);
    return gpuErrorDeviceLost;
}

const char *gpuGetErrorString(gpuError_t error) {
    switch (error) {
    case gpuSuccess: return "no error";
    case gpuErrorMemoryAllocation: return "out of memory";
    case gpuErrorNoKernelImage: return "no kernels for this device";
    case gpuErrorInvalidDevice: return "no such device";
    case gpuErrorInsufficientDriver: return "the driver is older than the runtime";
    case gpuErrorDeviceLost: return "the device is lost";
    case gpuErrorLaunchFailure: return ds_emu_last_fault()[0] ? ds_emu_last_fault() : "launch failure, as asked for";
    }
    return "unknown error";
}
gpuError_t gpuGetLastError(void) { return gpuSuccess; }

/* --- devices --- */

enum { DEVICES = 2 };

gpuError_t gpuDriverGetVersion(int *version) {
    const int machine = atomic_load(&pretended);
    *version = machine == DS_EMU_NO_DRIVER ? 0 : machine == DS_EMU_OLD_DRIVER ? 11080 : 13000;
    return gpuSuccess;
}
gpuError_t gpuRuntimeGetVersion(int *version) {
    *version = 13000;
    return gpuSuccess;
}
gpuError_t gpuGetDeviceCount(int *count) {
    *count = atomic_load(&pretended) == DS_EMU_NO_DEVICE ? 0 : DEVICES;
    return atomic_load(&pretended) == DS_EMU_OLD_DRIVER ? gpuErrorInsufficientDriver : gpuSuccess;
}
gpuError_t gpuSetDevice(int device) { return device >= 0 && device < DEVICES ? sound() : gpuErrorInvalidDevice; }
gpuError_t gpuGetDeviceProperties(gpuDeviceProp_t *out, int device) {
    strcpy(out->name, device == 0 ? "emulated, waves of 32" : "emulated, waves of 64");
    return gpuSetDevice(device);
}
gpuError_t gpuDeviceGetAttribute(int *out, gpuDeviceAttr attribute, int device) {
    static const int values[] = {[gpuAttributeProcessors] = 4, [gpuAttributeWave] = 32, [gpuAttributeMajor] = 9, [gpuAttributeMinor] = 9,
                                 [gpuAttributeShared] = 200 << 10};
    *out = values[attribute] << (attribute == gpuAttributeWave && device == 1);
    return gpuSetDevice(device);
}
gpuError_t gpuMemGetInfo(size_t *unused, size_t *all) {
    *all = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    *unused = (size_t)sysconf(_SC_AVPHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    return sound();
}

/* --- memory --- */

bool emu_guarded_create(struct emu_guarded *out, size_t bytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), aligned = (bytes + 63) / 64 * 64; /* buffers start at multiples of 64 */
    const size_t mapped = (aligned + page - 1) / page * page + 2 * page;
    *out = (struct emu_guarded){0};
    if (bytes > SIZE_MAX / 2) return false;
    unsigned char *const pages = mmap(NULL, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) return false;
    if (mapped > 2 * page && mprotect(pages + page, mapped - 2 * page, PROT_READ | PROT_WRITE) != 0) {
        munmap(pages, mapped);
        return false;
    }
    *out = (struct emu_guarded){.pages = pages, .mapped = mapped, .data = pages + mapped - page - aligned};
    return true;
}

void emu_guarded_destroy(struct emu_guarded *guarded) {
    if (guarded->pages) munmap(guarded->pages, guarded->mapped);
    *guarded = (struct emu_guarded){0};
}

struct allocation {
    struct emu_guarded guarded;
    struct allocation *next;
};
static struct allocation *allocations;
static pthread_mutex_t allocations_mutex = PTHREAD_MUTEX_INITIALIZER;

gpuError_t gpuMalloc(void **out, size_t bytes) {
    *out = NULL;
    const gpuError_t error = refused(gpuErrorMemoryAllocation);
    if (error != gpuSuccess) return error;
    struct allocation *const allocation = malloc(sizeof *allocation);
    if (!allocation || !emu_guarded_create(&allocation->guarded, bytes)) {
        free(allocation);
        return gpuErrorMemoryAllocation;
    }
    memset(allocation->guarded.data, 0xA5, bytes); /* a real device does not give zeros, either */
    pthread_mutex_lock(&allocations_mutex);
    allocation->next = allocations;
    allocations = allocation;
    counts.allocations++;
    pthread_mutex_unlock(&allocations_mutex);
    *out = allocation->guarded.data;
    return gpuSuccess;
}

gpuError_t gpuFree(void *data) {
    pthread_mutex_lock(&allocations_mutex);
    struct allocation **at = &allocations, *found;
    while (*at && (*at)->guarded.data != data) at = &(*at)->next;
    found = *at;
    if (found) *at = found->next;
    pthread_mutex_unlock(&allocations_mutex);
    if (!found) return data ? gpuErrorLaunchFailure : gpuSuccess;
    counts.allocations--;
    emu_guarded_destroy(&found->guarded);
    free(found);
    return gpuSuccess;
}

gpuError_t gpuMallocHost(void **out, size_t bytes) { return gpuMalloc(out, bytes); }
gpuError_t gpuFreeHost(void *data) { return gpuFree(data); }

gpuError_t gpuMemsetAsync(void *to, int value, size_t bytes, gpuStream_t stream) {
    (void)stream;
    if (bytes && sound() == gpuSuccess) memset(to, value, bytes);
    return sound();
}
gpuError_t gpuMemcpyAsync(void *to, const void *from, size_t bytes, gpuMemcpyKind kind, gpuStream_t stream) {
    (void)stream;
    if (kind == gpuHostToDevice) counts.to_device++;
    else if (kind == gpuDeviceToHost) counts.to_host++;
    else counts.on_device++;
    if (bytes && sound() == gpuSuccess) memmove(to, from, bytes);
    const uint64_t wrong = atomic_load(&spoiled);
    if (kind == gpuDeviceToHost && wrong && bytes >= 4 * wrong) {
        ((uint32_t *)to)[wrong - 1] ^= 1;
        atomic_store(&spoiled, 0);
    }
    return sound();
}

/* --- streams and events: everything is done when a call returns --- */

static gpuError_t library_call(gpuStream_t stream, void (*run)(const void *closure), const void *closure, size_t bytes) {
    return ds_emu_start(&(struct emu_launch){.library = true, .body = run, .closure = closure, .closure_bytes = bytes}, stream);
}

const char *gpuBlasLibrary(int i) { return i == 0 ? getenv("DSPARK_EMU_BLAS") : NULL; }

gpuError_t gpuStreamCreateWithFlags(gpuStream_t *out, unsigned flags) {
    (void)flags;
    const gpuError_t error = refused(gpuErrorMemoryAllocation);
    *out = error == gpuSuccess ? calloc(1, sizeof **out) : NULL;
    if (*out) (*out)->library.call = library_call;
    return *out || error != gpuSuccess ? error : gpuErrorMemoryAllocation;
}
gpuError_t gpuStreamSynchronize(gpuStream_t stream) {
    (void)stream;
    counts.waits++;
    return sound();
}
gpuError_t gpuStreamDestroy(gpuStream_t stream) {
    free(stream);
    return gpuSuccess;
}
gpuError_t gpuEventCreateWithFlags(gpuEvent_t *out, unsigned flags) {
    (void)flags;
    const gpuError_t error = refused(gpuErrorMemoryAllocation);
    *out = error == gpuSuccess ? calloc(1, sizeof **out) : NULL;
    return *out || error != gpuSuccess ? error : gpuErrorMemoryAllocation;
}
gpuError_t gpuEventRecord(gpuEvent_t event, gpuStream_t stream) {
    (void)event;
    (void)stream;
    return sound();
}
gpuError_t gpuEventSynchronize(gpuEvent_t event) {
    (void)event;
    counts.waits++;
    return sound();
}
gpuError_t gpuEventDestroy(gpuEvent_t event) {
    free(event);
    return gpuSuccess;
}

/* --- recordings --- */

static gpuError_t keep(struct gpuGraph *graph, const struct emu_launch *launch) {
    if (graph->count == graph->room) {
        const size_t room = graph->room ? 2 * graph->room : 64;
        struct kept *const grown = realloc(graph->launches, room * sizeof *grown);
        if (!grown) return gpuErrorMemoryAllocation;
        graph->launches = grown;
        graph->room = room;
    }
    void *const closure = malloc(launch->closure_bytes);
    if (!closure) return gpuErrorMemoryAllocation;
    memcpy(closure, launch->closure, launch->closure_bytes);
    struct kept *const kept = &graph->launches[graph->count++];
    kept->launch = *launch;
    kept->launch.closure = closure;
    return gpuSuccess;
}

static gpuError_t run(const struct emu_launch *launch) {
#if defined(__x86_64__)
    enum { FLUSH = 0x8000, DENORMALS_ARE_ZERO = 0x40 };
    const unsigned state = __builtin_ia32_stmxcsr();
    if (atomic_load(&pretended) == DS_EMU_FLUSHES) __builtin_ia32_ldmxcsr(state | FLUSH | DENORMALS_ARE_ZERO);
    const gpuError_t error = ds_emu_run(launch);
    __builtin_ia32_ldmxcsr(state);
    return error;
#else
    return ds_emu_run(launch);
#endif
}

gpuError_t ds_emu_start(const struct emu_launch *launch, gpuStream_t stream) {
    if (stream && stream->recording) return keep(stream->recording, launch);
    counts.launches++;
    if (atomic_load(&pretended) == DS_EMU_NO_KERNELS) return gpuErrorNoKernelImage;
    const gpuError_t error = refused(gpuErrorLaunchFailure);
    return error == gpuSuccess ? run(launch) : error;
}

gpuError_t gpuStreamBeginCapture(gpuStream_t stream, int mode) {
    (void)mode;
    const gpuError_t error = refused(gpuErrorMemoryAllocation);
    if (error != gpuSuccess) return error;
    stream->recording = calloc(1, sizeof *stream->recording);
    if (!stream->recording) return gpuErrorMemoryAllocation;
    stream->recording->owners = 1;
    return gpuSuccess;
}
gpuError_t gpuStreamEndCapture(gpuStream_t stream, gpuGraph_t *out) {
    *out = stream->recording;
    stream->recording = NULL;
    return *out ? gpuSuccess : gpuErrorLaunchFailure;
}
gpuError_t gpuGraphInstantiateWithFlags(gpuGraphExec_t *out, gpuGraph_t graph, unsigned long long flags) {
    (void)flags;
    *out = NULL;
    const gpuError_t error = refused(gpuErrorMemoryAllocation);
    if (error != gpuSuccess) return error;
    graph->owners++;
    *out = graph;
    return gpuSuccess;
}
gpuError_t gpuGraphLaunch(gpuGraphExec_t graph, gpuStream_t stream) {
    gpuError_t error = refused(gpuErrorLaunchFailure);
    (void)stream;
    counts.graphs++;
    counts.kernels += graph->count;
    for (size_t i = 0; i < graph->count && error == gpuSuccess; i++) error = run(&graph->launches[i].launch);
    return error;
}
gpuError_t gpuGraphDestroy(gpuGraph_t graph) {
    if (!graph || --graph->owners > 0) return gpuSuccess;
    for (size_t i = 0; i < graph->count; i++) free((void *)(uintptr_t)graph->launches[i].launch.closure);
    free(graph->launches);
    free(graph);
    return gpuSuccess;
}
gpuError_t gpuGraphExecDestroy(gpuGraphExec_t graph) { return gpuGraphDestroy(graph); }
