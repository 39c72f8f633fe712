/*
 * What the host side (C) and the kernels (gpu.h) of backends/gpu know of each other.
 *
 * Kernels are compiled once for each wave size into a table. An op's entry puts its launches on a stream and returns; nothing in
 * it waits, reads device memory or allocates, so that launches can be recorded. What an op needs beside its operands is its
 * scratch: the same bytes for all ops of a stream, since these run in order.
 */
#ifndef DSPARK_GPU_KERNELS_H
#define DSPARK_GPU_KERNELS_H

#include "gpu_names.h"

#include "ops/ops.h"

struct ds_gpu_buffer {
    struct ds_buffer base;
    uint8_t *data; /* in device memory */
};

/* Where an op runs. */
struct ds_gpu_launch {
    gpuStream_t stream;
    uint8_t *scratch;    /* as many bytes as `scratch_bytes` said, aligned to DS_ALIGN */
    uint32_t processors; /* multiprocessors of the device */
    size_t shared_most;  /* bytes of shared memory that a block may have */
    bool overlap;        /* kernels may start before those in front of them have ended */
    uint32_t together;   /* rows of a sequence that an attention block serves, for measurements; 0: by the shape */
    bool fast;           /* variants that break the numerics contract may be used */
};

enum { DS_GPU_MOST_LINEARS = 3 };

struct ds_gpu_kernels {
    uint32_t wave;
    gpuError_t (*op[DS_OP_COUNT])(const struct ds_gpu_launch *launch, const union ds_op_params *params);
    /* Scratch of an op whose shapes passed ds_op_check; 0: none. A slot may be NULL: none. */
    uint64_t (*scratch_bytes[DS_OP_COUNT])(const union ds_op_params *params, uint32_t processors);
    /* False: the shape is beyond the kernel. A slot may be NULL: every shape runs. */
    bool (*can_run[DS_OP_COUNT])(const union ds_op_params *params);
    /* `linear` of up to DS_GPU_MOST_LINEARS parameters that may_join has found alike, in one launch. */
    gpuError_t (*linears)(const struct ds_gpu_launch *launch, const union ds_op_params *const *params, uint32_t n);
    bool (*may_join)(const union ds_op_params *a, const union ds_op_params *b);
    /* Whether the kernels for the current device let launches overlap. */
    bool (*overlaps)(void);
    /* Outputs [first, first + n) of a float matrix as rows of `pitch` elements, a library's form: BF16 as it is, F16 and F32 as F32. */
    gpuError_t (*unpack)(const struct ds_gpu_launch *launch, const struct ds_weight *weight, uint32_t first, uint32_t n, uint32_t pitch, void *out);
    /* y[r, first + o] = sums[r][o] + bias + residual for the rows that count, o < n: the end of `linear` behind a library's product. */
    gpuError_t (*finish)(const struct ds_gpu_launch *launch, const struct ds_op_linear *p, uint32_t first, uint32_t n, const float *sums);
    /* out[i] = ds_probe(i) for i < count (probe.h): what the contract asks of the device's arithmetic. */
    gpuError_t (*probe)(const struct ds_gpu_launch *launch, uint32_t *out, uint32_t count);
};

#define DS_GPU_JOIN_(a, b) a##b
#define DS_GPU_JOIN(a, b) DS_GPU_JOIN_(a, b)
/* ds_cuda_kernels_32, ... */
#define DS_GPU_TABLE_OF(wave) DS_GPU_JOIN(DS_GPU_NAME(kernels_), wave)

#endif
