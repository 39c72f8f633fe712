/*
 * The calls of cuBLAS that the GPU backend uses, on the emulated device: found by it where DSPARK_EMU_BLAS names this file. What it multiplies is right within
 * the bounds of backends/gpu/blas.h, and differs in bits from the ordered sums: terms descending, TF32 cut, not rounded.
 *
 * It minds what the real one minds in silence: that setting a stream forgets the workspace, that without one it would allocate, pitches and types.
 */
#include "blas.h"

#include "gpu_names.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

enum { SUCCESS = 0, INVALID_VALUE = 7, EXECUTION_FAILED = 13, LEAST_WORKSPACE = 4 << 20, TYPE_F32 = 0, TYPE_BF16 = 14, COMPUTE_F32 = 68, COMPUTE_TF32 = 77 };

struct handle {
    gpuStream_t stream;
    unsigned char *workspace;
    size_t workspace_bytes;
};

static struct {
    uint32_t calls[STANDIN_CALLS], failing[STANDIN_CALLS];
    int status[STANDIN_CALLS];
    int handles;
    uint32_t offences;
    bool wrong;
} standin;

EXPORT void standin_fail(enum standin_call call, uint32_t n, int status) {
    standin.failing[call] = n ? standin.calls[call] + n : 0;
    standin.status[call] = status;
}
EXPORT void standin_be_wrong(int wrong) { standin.wrong = wrong != 0; }
EXPORT uint32_t standin_calls(enum standin_call call) { return standin.calls[call]; }
EXPORT int standin_handles(void) { return standin.handles; }
EXPORT uint32_t standin_offences(void) { return standin.offences; }

static int counted(enum standin_call call) { return ++standin.calls[call] == standin.failing[call] ? standin.status[call] : SUCCESS; }

static int offended(void) {
    standin.offences++;
    return INVALID_VALUE;
}

EXPORT int cublasCreate_v2(struct handle **out);
EXPORT int cublasDestroy_v2(struct handle *handle);
EXPORT int cublasSetStream_v2(struct handle *handle, gpuStream_t stream);
EXPORT int cublasSetWorkspace_v2(struct handle *handle, void *workspace, size_t bytes);
EXPORT int cublasGemmEx(struct handle *handle, int a_op, int b_op, int m, int n, int k, const void *alpha, const void *a, int a_type, int a_pitch,
                        const void *b, int b_type, int b_pitch, const void *beta, void *c, int c_type, int c_pitch, int compute, int algorithm);

int cublasCreate_v2(struct handle **out) {
    *out = NULL;
    const int status = counted(STANDIN_CREATE);
    if (status != SUCCESS) return status;
    *out = calloc(1, sizeof **out);
    standin.handles += *out != NULL;
    return *out ? SUCCESS : EXECUTION_FAILED;
}

int cublasDestroy_v2(struct handle *handle) {
    standin.handles--;
    free(handle);
    return SUCCESS;
}

int cublasSetStream_v2(struct handle *handle, gpuStream_t stream) {
    const int status = counted(STANDIN_SET_STREAM);
    if (status != SUCCESS) return status;
    *handle = (struct handle){.stream = stream};
    return stream ? SUCCESS : offended();
}

int cublasSetWorkspace_v2(struct handle *handle, void *workspace, size_t bytes) {
    const int status = counted(STANDIN_SET_WORKSPACE);
    if (status != SUCCESS) return status;
    if (!workspace || (uintptr_t)workspace % 64 || bytes < LEAST_WORKSPACE) return offended();
    handle->workspace = workspace;
    handle->workspace_bytes = bytes;
    return SUCCESS;
}

/* c[j][i] = sum over l of a[i][l] * b[j][l]: A transposed and B as it is, in a library that counts along columns. */
struct product {
    int m, n, k, a_pitch, b_pitch, c_pitch, type;
    bool cut, wrong;
    const unsigned char *a, *b;
    float *c;
    unsigned char *workspace;
    size_t workspace_bytes;
};

static float value_of(const struct product *p, const unsigned char *data, size_t at) {
    uint32_t word = 0;
    if (p->type == TYPE_BF16) memcpy((unsigned char *)&word + 2, data + 2 * at, 2);
    else memcpy(&word, data + 4 * at, 4);
    if (p->cut) word &= 0xffffe000u;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

static void multiply(const void *closure) {
    const struct product *p = closure;
    for (size_t i = 0; i < p->workspace_bytes; i += 4096) p->workspace[i] = 0xA5; /* it is the library's to write */
    for (int j = 0; j < p->n; j++) {
        for (int i = 0; i < p->m; i++) {
            float sum = 0;
            for (int l = p->k - (p->wrong ? 2 : 1); l >= 0; l--) {
                const float product = value_of(p, p->a, (size_t)i * (size_t)p->a_pitch + (size_t)l) * value_of(p, p->b, (size_t)j * (size_t)p->b_pitch + (size_t)l);
                sum = sum + product;
            }
            p->c[(size_t)j * (size_t)p->c_pitch + (size_t)i] = sum;
        }
    }
}

int cublasGemmEx(struct handle *handle, int a_op, int b_op, int m, int n, int k, const void *alpha, const void *a, int a_type, int a_pitch, const void *b,
                 int b_type, int b_pitch, const void *beta, void *c, int c_type, int c_pitch, int compute, int algorithm) {
    const int status = counted(STANDIN_GEMM);
    if (status != SUCCESS) return status;
    float one, zero;
    memcpy(&one, alpha, sizeof one);
    memcpy(&zero, beta, sizeof zero);
    const bool types = a_type == b_type && c_type == TYPE_F32 &&
                       ((a_type == TYPE_BF16 && compute == COMPUTE_F32) || (a_type == TYPE_F32 && compute == COMPUTE_TF32));
    if (!types || a_op != 1 || b_op != 0 || one != 1 || zero != 0 || algorithm != -1 || m < 1 || n < 1 || k < 1 || a_pitch < k || b_pitch < k || c_pitch < m ||
        !handle->stream || !handle->workspace)
        return offended();
    const struct product product = {.m = m, .n = n, .k = k, .a_pitch = a_pitch, .b_pitch = b_pitch, .c_pitch = c_pitch, .type = a_type,
                                    .cut = compute == COMPUTE_TF32, .wrong = standin.wrong, .a = a, .b = b, .c = c, .workspace = handle->workspace,
                                    .workspace_bytes = handle->workspace_bytes};
    const struct gpuStream_library *const library = (const struct gpuStream_library *)(const void *)handle->stream;
    return library->call(handle->stream, multiply, &product, sizeof product) == gpuSuccess ? SUCCESS : EXECUTION_FAILED;
}
