/*
 * Inside the host side of backends/gpu: devices, buffers, streams and graphs of CUDA, of HIP and of the emulator. Compiled once for each,
 * with the names of gpu_names.h.
 */
#ifndef DSPARK_GPU_DEVICE_H
#define DSPARK_GPU_DEVICE_H

#include "blas.h"
#include "kernels.h"

#include "ops/device.h"

#define ds_gpu_fail DS_GPU_NAME(fail)
#define ds_gpu_enter DS_GPU_NAME(enter)
#define ds_gpu_fail_op DS_GPU_NAME(fail_op)
#define ds_gpu_scratch_of DS_GPU_NAME(scratch_of)
#define ds_gpu_put_op DS_GPU_NAME(put_op)
#define ds_gpu_launch_on DS_GPU_NAME(launch_on)
#define ds_gpu_buffer_create DS_GPU_NAME(buffer_create)
#define ds_gpu_buffer_destroy DS_GPU_NAME(buffer_destroy)
#define ds_gpu_stream_create DS_GPU_NAME(stream_create)
#define ds_gpu_stream_sync DS_GPU_NAME(stream_sync)
#define ds_gpu_stream_destroy DS_GPU_NAME(stream_destroy)
#define ds_gpu_write DS_GPU_NAME(write)
#define ds_gpu_read DS_GPU_NAME(read)
#define ds_gpu_copy DS_GPU_NAME(copy)
#define ds_gpu_weight_write DS_GPU_NAME(weight_write)
#define ds_gpu_reserve DS_GPU_NAME(reserve)
#define ds_gpu_graph_create DS_GPU_NAME(graph_create)
#define ds_gpu_graph_run DS_GPU_NAME(graph_run)
#define ds_gpu_graph_destroy DS_GPU_NAME(graph_destroy)
#define ds_gpu_self_test DS_GPU_NAME(self_test)

struct ds_pool;
struct ds_os_mutex;

struct ds_gpu_device {
    struct ds_device base;
    int index;
    char name[16]; /* "cuda:0" */
    char description[160];
    char note[160]; /* "": the self-test passed */
    uint64_t memory_bytes;
    int architecture; /* 90: 9.0 */
    uint32_t processors;
    uint64_t shared_most; /* bytes of a block's shared memory */
    bool overlap;         /* of launches */
    const struct ds_gpu_kernels *kernels;
    struct ds_os_mutex *mutex; /* around what streams share: packing of weights, recording */
    struct ds_pool *pool;      /* packs weights; created with the first of them */
    unsigned threads;          /* of the pool; 0: one per processor */
    gpuStream_t own;           /* for zeroing, recording, the self-test; under the mutex */
    uint32_t together;         /* of attention; 0: by the shape */
    bool fast;                 /* variants may be used; .. */
    struct ds_gpu_blas *blas;  /* .. NULL: but none of a library */
    struct ds_gpu_blas_user own_blas; /* of `own` */
    char variants[160];        /* "": none */
};

enum { DS_GPU_SLOTS = 4, DS_GPU_SLOT_BYTES = 1 << 20 };

/*
 * Pinned memory that host data passes through on its way to the device: a ring of slots, each free again when the copies out of it
 * are done. So a write returns at once, and small ones share a slot.
 */
struct ds_gpu_staging {
    uint8_t *data; /* DS_GPU_SLOTS * DS_GPU_SLOT_BYTES */
    gpuEvent_t done[DS_GPU_SLOTS];
    bool used[DS_GPU_SLOTS]; /* `done` was recorded */
    uint32_t slot, filled;   /* the slot at hand, and its bytes that are taken */
};

struct ds_stream {
    struct ds_device *device;
    gpuStream_t handle;
    struct ds_gpu_staging staging;
    uint8_t *scratch; /* of ops outside graphs */
    uint64_t scratch_bytes;
    struct ds_gpu_blas_user blas;
};

static inline struct ds_gpu_device *ds_gpu_device_of(const struct ds_stream *stream) { return (struct ds_gpu_device *)stream->device; }

/* DS_ERROR_MEMORY with what was asked for and what there is, or DS_ERROR_DEVICE. `bytes` 0: it was not about memory. */
ds_status ds_gpu_fail(const struct ds_gpu_device *device, gpuError_t error, const char *what, uint64_t bytes, struct ds_error *err);
/* The same where a library may have been called: what that said goes first. */
ds_status ds_gpu_fail_op(const struct ds_gpu_device *device, struct ds_gpu_blas_user *user, gpuError_t error, const char *what, uint64_t bytes,
                         struct ds_error *err);
/* Scratch of an op whose shapes are known; 0: none. */
uint64_t ds_gpu_scratch_of(const struct ds_gpu_device *device, ds_op op, const union ds_op_params *params);
/* Puts an op on the stream, by the kernels or by a library. */
gpuError_t ds_gpu_put_op(const struct ds_gpu_device *device, struct ds_gpu_blas_user *user, const struct ds_gpu_launch *launch, ds_op op,
                        const union ds_op_params *params);
struct ds_gpu_launch ds_gpu_launch_on(const struct ds_gpu_device *device, gpuStream_t stream, uint8_t *scratch);

/* Makes the device that of the calling thread: first in every entry. */
ds_status ds_gpu_enter(const struct ds_gpu_device *device, struct ds_error *err);

ds_status ds_gpu_buffer_create(struct ds_device *device, uint64_t bytes, struct ds_buffer **out, struct ds_error *err);
void ds_gpu_buffer_destroy(struct ds_buffer *buffer);
ds_status ds_gpu_stream_create(struct ds_device *device, struct ds_stream **out, struct ds_error *err);
ds_status ds_gpu_stream_sync(struct ds_stream *stream, struct ds_error *err);
void ds_gpu_stream_destroy(struct ds_stream *stream);
ds_status ds_gpu_write(struct ds_stream *stream, struct ds_slice to, const void *from, uint64_t bytes, struct ds_error *err);
ds_status ds_gpu_read(struct ds_stream *stream, struct ds_slice from, void *to, uint64_t bytes, struct ds_error *err);
ds_status ds_gpu_copy(struct ds_stream *stream, struct ds_slice to, struct ds_slice from, uint64_t bytes, struct ds_error *err);
ds_status ds_gpu_weight_write(struct ds_stream *stream, const struct ds_weight *weight, uint32_t first_row, uint32_t rows,
                              const void *from, struct ds_error *err);

ds_status ds_gpu_graph_create(struct ds_device *device, const struct ds_graph_node *nodes, uint32_t count, struct ds_device_graph **out,
                              struct ds_error *err);
ds_status ds_gpu_graph_run(struct ds_stream *stream, struct ds_device_graph *graph, struct ds_error *err);
void ds_gpu_graph_destroy(struct ds_device_graph *graph);

/* Compares probe.h on the device and on the host; fills device->note with the first difference. */
ds_status ds_gpu_self_test(struct ds_gpu_device *device, struct ds_error *err);

#endif
