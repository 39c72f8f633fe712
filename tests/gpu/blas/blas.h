/* Asks of the stand-in for cuBLAS (blas.c), for tests. */
#ifndef DSPARK_TESTS_GPU_BLAS_H
#define DSPARK_TESTS_GPU_BLAS_H

#include <stdint.h>

enum standin_call { STANDIN_CREATE, STANDIN_SET_STREAM, STANDIN_SET_WORKSPACE, STANDIN_GEMM, STANDIN_CALLS };

/* The n-th call from now on (1: the next one) of this kind gives `status` and does nothing. n 0: none. */
void standin_fail(enum standin_call call, uint32_t n, int status);
/* Products leave out their last term from now on. */
void standin_be_wrong(int wrong);
/* Calls so far; handles that are held; how often something was done that the real library would not take, or would allocate for. */
uint32_t standin_calls(enum standin_call call);
int standin_handles(void);
uint32_t standin_offences(void);

#endif
