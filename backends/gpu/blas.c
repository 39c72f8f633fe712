#include "blas.h"

#include "ckpt/blocks.h"

#if defined(DS_GPU_BLAS)

#include "base/os.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- the library, as cublas_api.h has it (11 to 13) --- */

enum { SUCCESS = 0, NOT_ALLOCATED = 3 };
enum { KEEP = 0, TRANSPOSE = 1, ANY_ALGORITHM = -1, COMPUTE_F32 = 68, COMPUTE_TF32 = 77, TYPE_F32 = 0, TYPE_BF16 = 14 };

struct calls {
    int (*create)(void **handle);
    int (*destroy)(void *handle);
    int (*set_stream)(void *handle, gpuStream_t stream);
    int (*set_workspace)(void *handle, void *workspace, size_t bytes);
    int (*gemm)(void *handle, int a_op, int b_op, int m, int n, int k, const void *alpha, const void *a, int a_type, int a_pitch, const void *b, int b_type,
                int b_pitch, const void *beta, void *c, int c_type, int c_pitch, int compute, int algorithm);
};

struct ds_gpu_blas {
    struct ds_os_module *module;
    struct calls calls;
    char name[64];
};

static bool find_calls(struct ds_os_module *module, struct calls *out) {
    const struct {
        const char *name;
        void *to;
    } wanted[] = {
        {"cublasCreate_v2", &out->create},       {"cublasDestroy_v2", &out->destroy}, {"cublasSetStream_v2", &out->set_stream},
        {"cublasSetWorkspace_v2", &out->set_workspace}, {"cublasGemmEx", &out->gemm},
    };
    for (size_t i = 0; i < DS_COUNT(wanted); i++) {
        void *const found = ds_os_module_symbol(module, wanted[i].name);
        if (!found) return false;
        memcpy(wanted[i].to, &found, sizeof found);
    }
    return true;
}

/* A library that is there must also work here: a handle is made to see. *told: why it is not used was said. */
static bool open_one(const char *path, struct ds_gpu_blas *blas, const struct ds_log *log, const char *device, bool *told) {
    struct ds_error err;
    struct ds_gpu_blas_user user = {0};
    if (ds_os_module_open(path, true, &blas->module, &err) != DS_OK) return false;
    *told = true;
    if (!find_calls(blas->module, &blas->calls)) {
        ds_logf(log, DS_LOG_WARNING, "device %s: %s has not all the calls that are needed, and is not used: linears are exact without another", device, path);
    } else if (ds_gpu_blas_begin(blas, &user) != gpuSuccess) {
        ds_logf(log, DS_LOG_WARNING, "device %s: %s does not work here (%s gives status %d), and is not used: linears are exact without another; the driver may be too old for it",
                device, path, user.failed, user.status);
    } else {
        ds_gpu_blas_end(blas, &user);
        const char *const slash = strrchr(path, '/');
        snprintf(blas->name, sizeof blas->name, "%.60s", slash ? slash + 1 : path);
        return true;
    }
    ds_os_module_close(blas->module);
    blas->module = NULL;
    return false;
}

struct ds_gpu_blas *ds_gpu_blas_open(const char *device, const struct ds_log *log) {
    struct ds_gpu_blas *const blas = calloc(1, sizeof *blas);
    const char *path;
    bool told = false;
    for (int i = 0; blas && (path = gpuBlasLibrary(i)) != NULL; i++)
        if (open_one(path, blas, log, device, &told)) return blas;
    free(blas);
    if (!told) ds_logf(log, DS_LOG_WARNING, "device %s: no cuBLAS was found (libcublas.so.13, .12, .11), so linears are exact; it comes with the CUDA toolkit", device);
    return NULL;
}

void ds_gpu_blas_close(struct ds_gpu_blas *blas) {
    if (!blas) return;
    ds_os_module_close(blas->module);
    free(blas);
}

const char *ds_gpu_blas_name(const struct ds_gpu_blas *blas) { return blas->name; }

/* Its own statuses are kept for the message; to the host side each is a failed launch. */
static gpuError_t call_ended(struct ds_gpu_blas_user *user, const char *call, int status) {
    if (status == SUCCESS) return gpuSuccess;
    user->failed = call;
    user->status = status;
    return gpuErrorLaunchFailure;
}

gpuError_t ds_gpu_blas_begin(const struct ds_gpu_blas *blas, struct ds_gpu_blas_user *user) {
    return blas ? call_ended(user, "cublasCreate", blas->calls.create(&user->handle)) : gpuSuccess;
}

void ds_gpu_blas_end(const struct ds_gpu_blas *blas, struct ds_gpu_blas_user *user) {
    if (blas && user->handle) (void)blas->calls.destroy(user->handle);
    user->handle = NULL;
}

bool ds_gpu_blas_failed(const struct ds_gpu_blas *blas, struct ds_gpu_blas_user *user, const char *device, ds_status *status, struct ds_error *err) {
    if (!blas || !user->failed) return false;
    *status = ds_fail(err, user->status == NOT_ALLOCATED ? DS_ERROR_MEMORY : DS_ERROR_DEVICE,
                      user->status == NOT_ALLOCATED
                          ? "out of memory on %s: %s of %s gives status %d; a shorter context, fewer sessions, a smaller model or exact numerics (--numerics exact), "
                            "which need no library, fit better"
                          : "device %s: %s of %s gives status %d; open the engine anew, with exact numerics (--numerics exact) if that fails, too: they need no library",
                      device, user->failed, blas->name, user->status);
    user->failed = NULL;
    return true;
}

/* --- a product --- */

/* Scratch: the library's workspace, then weights of some outputs, then their sums. */
enum { WORKSPACE = 32 << 20 /* what NVIDIA recommends for architecture 9.0; others need less */ };
#ifndef DS_GPU_BLAS_WEIGHTS
#define DS_GPU_BLAS_WEIGHTS (32 << 20)
#endif

struct product {
    uint32_t pitch, size; /* of unpacked weights: elements, bytes of one */
    uint32_t outputs;     /* at a time: whole tiles */
    uint64_t sums_at;
};

static struct product product_of(const struct ds_op_linear *p) {
    struct product product = {.pitch = DS_ALIGN_UP(p->weight.cols, 8u), .size = p->weight.type == DS_TYPE_BF16 ? 2 : 4};
    const uint64_t of_tile = (uint64_t)product.pitch * product.size * DS_WEIGHT_ROWS, tiles = DS_MAX(DS_GPU_BLAS_WEIGHTS / of_tile, 1);
    product.outputs = (uint32_t)DS_MIN(tiles * DS_WEIGHT_ROWS, DS_ALIGN_UP((uint64_t)p->weight.rows, DS_WEIGHT_ROWS));
    product.sums_at = WORKSPACE + DS_ALIGN_UP((uint64_t)product.outputs * product.pitch * product.size, (uint64_t)256);
    return product;
}

bool ds_gpu_blas_takes(const struct ds_gpu_blas *blas, ds_op op, const union ds_op_params *params) {
    if (!blas || op != DS_OP_linear) return false;
    const struct ds_op_linear *p = &params->linear;
    const bool floats = p->weight.type == DS_TYPE_BF16 || p->weight.type == DS_TYPE_F16 || p->weight.type == DS_TYPE_F32;
    return floats && p->x.rows >= DS_GPU_BLAS_ROWS && p->x.stride <= INT32_MAX && p->weight.cols <= INT32_MAX - 8;
}

uint64_t ds_gpu_blas_scratch(const union ds_op_params *params) {
    const struct product product = product_of(&params->linear);
    return product.sums_at + (uint64_t)params->linear.x.rows * product.outputs * sizeof(float);
}

/* sums [rows][n] = x W^T. The library counts along columns: what it is told is sums^T = W x^T. */
static gpuError_t multiply(const struct ds_gpu_blas *blas, struct ds_gpu_blas_user *user, const struct ds_gpu_launch *launch, const struct ds_op_linear *p,
                           const struct product *product, uint32_t n) {
    const float one = 1, zero = 0;
    const bool bf16 = p->weight.type == DS_TYPE_BF16;
    const int type = bf16 ? TYPE_BF16 : TYPE_F32, inputs = (int)p->weight.cols;
    const uint8_t *const x = ((const struct ds_gpu_buffer *)p->x.at.buffer)->data + p->x.at.offset;
    const int x_pitch = (int)(ds_view_pitch(&p->x) / product->size);
    /* Setting the stream forgets the workspace, so this comes first. */
    gpuError_t error = call_ended(user, "cublasSetStream", blas->calls.set_stream(user->handle, launch->stream));
    if (error == gpuSuccess) error = call_ended(user, "cublasSetWorkspace", blas->calls.set_workspace(user->handle, launch->scratch, WORKSPACE));
    if (error != gpuSuccess) return error;
    return call_ended(user, "cublasGemmEx",
                      blas->calls.gemm(user->handle, TRANSPOSE, KEEP, (int)n, (int)p->x.rows, inputs, &one, launch->scratch + WORKSPACE, type,
                                       (int)product->pitch, x, type, x_pitch, &zero, launch->scratch + product->sums_at, TYPE_F32, (int)n,
                                       bf16 ? COMPUTE_F32 : COMPUTE_TF32, ANY_ALGORITHM));
}

gpuError_t ds_gpu_blas_linear(const struct ds_gpu_blas *blas, struct ds_gpu_blas_user *user, const struct ds_gpu_kernels *kernels,
                              const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_linear *p = &params->linear;
    const struct product product = product_of(p);
    gpuError_t error = gpuSuccess;
    for (uint32_t first = 0; first < p->weight.rows && error == gpuSuccess; first += product.outputs) {
        const uint32_t n = DS_MIN(p->weight.rows - first, product.outputs);
        error = kernels->unpack(launch, &p->weight, first, n, product.pitch, launch->scratch + WORKSPACE);
        if (error == gpuSuccess) error = multiply(blas, user, launch, p, &product, n);
        if (error == gpuSuccess) error = kernels->finish(launch, p, first, n, (const float *)(const void *)(launch->scratch + product.sums_at));
    }
    return error;
}

gpuError_t ds_gpu_blas_rehearse(const struct ds_gpu_blas *blas, struct ds_gpu_blas_user *user, const struct ds_gpu_launch *launch,
                                const union ds_op_params *params) {
    const struct ds_op_linear *p = &params->linear;
    const struct product product = product_of(p);
    const uint32_t rest = p->weight.rows % product.outputs;
    gpuError_t error = p->weight.rows >= product.outputs ? multiply(blas, user, launch, p, &product, product.outputs) : gpuSuccess;
    if (error == gpuSuccess && rest) error = multiply(blas, user, launch, p, &product, rest);
    return error;
}

#else

struct ds_gpu_blas *ds_gpu_blas_open(const char *device, const struct ds_log *log) { return (void)device, (void)log, NULL; }
void ds_gpu_blas_close(struct ds_gpu_blas *blas) { (void)blas; }
const char *ds_gpu_blas_name(const struct ds_gpu_blas *blas) { return (void)blas, ""; }
gpuError_t ds_gpu_blas_begin(const struct ds_gpu_blas *blas, struct ds_gpu_blas_user *user) { return (void)blas, (void)user, gpuSuccess; }
void ds_gpu_blas_end(const struct ds_gpu_blas *blas, struct ds_gpu_blas_user *user) { (void)blas, (void)user; }
bool ds_gpu_blas_takes(const struct ds_gpu_blas *blas, ds_op op, const union ds_op_params *params) { return (void)blas, (void)op, (void)params, false; }
uint64_t ds_gpu_blas_scratch(const union ds_op_params *params) { return (void)params, 0; }
gpuError_t ds_gpu_blas_linear(const struct ds_gpu_blas *blas, struct ds_gpu_blas_user *user, const struct ds_gpu_kernels *kernels,
                              const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    return (void)blas, (void)user, (void)kernels, (void)launch, (void)params, gpuErrorNoKernelImage;
}
gpuError_t ds_gpu_blas_rehearse(const struct ds_gpu_blas *blas, struct ds_gpu_blas_user *user, const struct ds_gpu_launch *launch,
                                const union ds_op_params *params) {
    return (void)blas, (void)user, (void)launch, (void)params, gpuErrorNoKernelImage;
}
bool ds_gpu_blas_failed(const struct ds_gpu_blas *blas, struct ds_gpu_blas_user *user, const char *device, ds_status *status, struct ds_error *err) {
    return (void)blas, (void)user, (void)device, (void)status, (void)err, false;
}

#endif
