/* The names of backends/gpu in CUDA. hip/gpu_names.h and gpu/emu/gpu_names.h are its twins. */
#ifndef DSPARK_GPU_NAMES_H
#define DSPARK_GPU_NAMES_H

#include <cuda_runtime_api.h>

#define DS_GPU_KIND "cuda"
#define DS_GPU_BACKEND ds_backend_cuda
#define DS_GPU_NAME(name) ds_cuda_##name /* keeps the builds apart when they are linked into one program */
#define DS_GPU_DRIVER "the NVIDIA driver"
#define DS_GPU_TABLES(X) X(32)           /* wave sizes that there are kernels for */

#define DS_GPU_FAST 1                    /* has the words of fast variants (gpu_mma_f16) .. */
#define DS_GPU_BLAS 1                    /* .. and a library with cuBLAS's calls, under these names */
#define gpuBlasLibrary(i) ((i) == 0 ? "libcublas.so.13" : (i) == 1 ? "libcublas.so.12" : (i) == 2 ? "libcublas.so.11" : (const char *)0)

#ifndef DS_GPU_NO_OVERLAP
#define DS_GPU_OVERLAP 1                 /* launches may overlap (gpu_begin in gpu.h) */
#endif

#define gpuError_t cudaError_t
#define gpuSuccess cudaSuccess
#define gpuErrorMemoryAllocation cudaErrorMemoryAllocation
#define gpuErrorNoKernelImage cudaErrorNoKernelImageForDevice
#define gpuErrorLaunchFailure cudaErrorLaunchFailure
#define gpuGetErrorString cudaGetErrorString
#define gpuGetLastError cudaGetLastError
#define gpuDriverGetVersion cudaDriverGetVersion
#define gpuRuntimeGetVersion cudaRuntimeGetVersion
#define gpuGetDeviceCount cudaGetDeviceCount
#define gpuSetDevice cudaSetDevice
#define gpuDeviceProp_t struct cudaDeviceProp
#define gpuGetDeviceProperties cudaGetDeviceProperties
#define gpuDeviceGetAttribute cudaDeviceGetAttribute
#define gpuAttributeProcessors cudaDevAttrMultiProcessorCount
#define gpuAttributeWave cudaDevAttrWarpSize
#define gpuAttributeMajor cudaDevAttrComputeCapabilityMajor
#define gpuAttributeMinor cudaDevAttrComputeCapabilityMinor
#define DS_GPU_SHARED_ON_REQUEST 1 /* of blocks, above 48 KiB */
#define gpuAttributeShared cudaDevAttrMaxSharedMemoryPerBlockOptin
#define gpuMemGetInfo cudaMemGetInfo
#define gpuMalloc cudaMalloc
#define gpuFree cudaFree
#define gpuMallocHost cudaMallocHost
#define gpuFreeHost cudaFreeHost
#define gpuMemsetAsync cudaMemsetAsync
#define gpuMemcpyAsync cudaMemcpyAsync
#define gpuHostToDevice cudaMemcpyHostToDevice
#define gpuDeviceToHost cudaMemcpyDeviceToHost
#define gpuDeviceToDevice cudaMemcpyDeviceToDevice
#define gpuStream_t cudaStream_t
#define gpuStreamCreateWithFlags cudaStreamCreateWithFlags
#define gpuStreamNonBlocking cudaStreamNonBlocking
#define gpuStreamSynchronize cudaStreamSynchronize
#define gpuStreamDestroy cudaStreamDestroy
#define gpuStreamBeginCapture cudaStreamBeginCapture
#define gpuCaptureThreadLocal cudaStreamCaptureModeThreadLocal
#define gpuStreamEndCapture cudaStreamEndCapture
#define gpuEvent_t cudaEvent_t
#define gpuEventCreateWithFlags cudaEventCreateWithFlags
#define gpuEventDisableTiming cudaEventDisableTiming
#define gpuEventRecord cudaEventRecord
#define gpuEventSynchronize cudaEventSynchronize
#define gpuEventDestroy cudaEventDestroy
#define gpuGraph_t cudaGraph_t
#define gpuGraphExec_t cudaGraphExec_t
#define gpuGraphInstantiateWithFlags cudaGraphInstantiateWithFlags
#define gpuGraphLaunch cudaGraphLaunch
#define gpuGraphDestroy cudaGraphDestroy
#define gpuGraphExecDestroy cudaGraphExecDestroy

#endif
