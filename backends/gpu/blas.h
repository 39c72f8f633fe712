/*
 * `linear` by cuBLAS: a variant for --numerics fast alone, of float weights and many rows. The library is opened when a device is, never before, and what it does
 * not do (quantised weights, few rows, a machine without it) the exact kernels do.
 *
 * How far a sum of n products may be from the contract's, with u = 2^-24 and M the sum over i of |x_i w_i|:
 *   BF16       products are exact in f32; the library adds in an order of its own, tensor cores cutting each addition to no less than 23 bits below its group's
 *              largest term: 4 n u M. The contract's ordered sum errs by n u M.                                         |fast - exact| <= 5 n u M
 *   F16, F32   multiplied as TF32: x, and w where it is F32, lose all but 10 bits of their mantissas, whether cut or rounded 2^-10 of them at most, so a
 *              product 2^-9 + 2^-20 at most; F16 weights are exact in TF32, so there it is x's alone.       |fast - exact| <= (2^-9 + 2^-20 + 6 n u) M
 * and behind it bias and residual, each rounded on both sides: + 4 u (|y| + |bias| + |residual|). tests/gpu/test_fast.c holds it against this.
 *
 * A handle belongs to a stream: one thread at a time. Its workspace is a part of each op's scratch, set before each call, so that the library allocates nothing
 * once a handle exists and recordings that run at the same time do not share one.
 */
#ifndef DSPARK_GPU_BLAS_H
#define DSPARK_GPU_BLAS_H

#include "kernels.h"

#include "base/log.h"

#define ds_gpu_blas_open DS_GPU_NAME(blas_open)
#define ds_gpu_blas_close DS_GPU_NAME(blas_close)
#define ds_gpu_blas_name DS_GPU_NAME(blas_name)
#define ds_gpu_blas_takes DS_GPU_NAME(blas_takes)
#define ds_gpu_blas_scratch DS_GPU_NAME(blas_scratch)
#define ds_gpu_blas_linear DS_GPU_NAME(blas_linear)
#define ds_gpu_blas_rehearse DS_GPU_NAME(blas_rehearse)
#define ds_gpu_blas_begin DS_GPU_NAME(blas_begin)
#define ds_gpu_blas_end DS_GPU_NAME(blas_end)
#define ds_gpu_blas_failed DS_GPU_NAME(blas_failed)

enum { DS_GPU_BLAS_ROWS = 64 }; /* the fewest rows that are worth unpacking weights for; not measured */

struct ds_gpu_blas; /* the library, NULL: none */

/* A library's handle, and the call that failed last. */
struct ds_gpu_blas_user {
    void *handle;       /* NULL: none */
    const char *failed; /* NULL: none did */
    int status;
};

/* NULL where there is no library, or none that works; why is told to the log, once. */
struct ds_gpu_blas *ds_gpu_blas_open(const char *device, const struct ds_log *log);
void ds_gpu_blas_close(struct ds_gpu_blas *blas); /* accepts NULL */
const char *ds_gpu_blas_name(const struct ds_gpu_blas *blas);

/* A handle for the current device. With blas NULL there is nothing to do. */
gpuError_t ds_gpu_blas_begin(const struct ds_gpu_blas *blas, struct ds_gpu_blas_user *user);
void ds_gpu_blas_end(const struct ds_gpu_blas *blas, struct ds_gpu_blas_user *user);

/* Whether the op is the library's; then the scratch that it needs. */
bool ds_gpu_blas_takes(const struct ds_gpu_blas *blas, ds_op op, const union ds_op_params *params);
uint64_t ds_gpu_blas_scratch(const union ds_op_params *params);
gpuError_t ds_gpu_blas_linear(const struct ds_gpu_blas *blas, struct ds_gpu_blas_user *user, const struct ds_gpu_kernels *kernels,
                              const struct ds_gpu_launch *launch, const union ds_op_params *params);
/* The product alone, of whatever lies in the scratch: what the library loads and chooses at first use happens here and not while ops are recorded. */
gpuError_t ds_gpu_blas_rehearse(const struct ds_gpu_blas *blas, struct ds_gpu_blas_user *user, const struct ds_gpu_launch *launch,
                                const union ds_op_params *params);

/* Where a call of the library failed: the status with a message, and true. */
bool ds_gpu_blas_failed(const struct ds_gpu_blas *blas, struct ds_gpu_blas_user *user, const char *device, ds_status *status, struct ds_error *err);

#endif
