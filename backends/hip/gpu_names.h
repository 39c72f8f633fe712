/* The names of backends/gpu in HIP: cuda/gpu_names.h is its twin. */
#ifndef DSPARK_GPU_NAMES_H
#define DSPARK_GPU_NAMES_H

#include <hip/hip_runtime.h>

#define DS_GPU_KIND "hip"
#define DS_GPU_BACKEND ds_backend_hip
#define DS_GPU_NAME(name) ds_hip_##name /* keeps the builds apart when they are linked into one program */
#define DS_GPU_DRIVER "the AMD driver"
/* Compilers for AMD build one table for each wave size; nvcc, through nvidia/hip/hip_runtime.h, only that of 32. */
#if defined(DS_HIP_ON_NVIDIA)
#define DS_GPU_TABLE_OF_64(X)
#else
#define DS_GPU_TABLE_OF_64(X) X(64)
#endif
#define DS_GPU_TABLES(X) X(32) DS_GPU_TABLE_OF_64(X) /* wave sizes that there are kernels for */

#define gpuError_t hipError_t
#define gpuSuccess hipSuccess
#define gpuErrorMemoryAllocation hipErrorOutOfMemory
#define gpuErrorNoKernelImage hipErrorNoBinaryForGpu
#define gpuErrorLaunchFailure hipErrorLaunchFailure
#define gpuGetErrorString hipGetErrorString
#define gpuGetLastError hipGetLastError
#define gpuDriverGetVersion hipDriverGetVersion
#define gpuRuntimeGetVersion hipRuntimeGetVersion
#define gpuGetDeviceCount hipGetDeviceCount
#define gpuSetDevice hipSetDevice
#define gpuDeviceProp_t hipDeviceProp_t
#define gpuGetDeviceProperties hipGetDeviceProperties
#define gpuDeviceGetAttribute hipDeviceGetAttribute
#define gpuAttributeProcessors hipDeviceAttributeMultiprocessorCount
#define gpuAttributeWave hipDeviceAttributeWarpSize
#define gpuAttributeMajor hipDeviceAttributeComputeCapabilityMajor
#define gpuAttributeMinor hipDeviceAttributeComputeCapabilityMinor
#define gpuAttributeShared hipDeviceAttributeMaxSharedMemoryPerBlock
#define gpuMemGetInfo hipMemGetInfo
#define gpuMalloc hipMalloc
#define gpuFree hipFree
#define gpuMallocHost(pointer, bytes) hipHostMalloc((pointer), (bytes), 0)
#define gpuFreeHost hipHostFree
#define gpuMemsetAsync hipMemsetAsync
#define gpuMemcpyAsync hipMemcpyAsync
#define gpuHostToDevice hipMemcpyHostToDevice
#define gpuDeviceToHost hipMemcpyDeviceToHost
#define gpuDeviceToDevice hipMemcpyDeviceToDevice
#define gpuStream_t hipStream_t
#define gpuStreamCreateWithFlags hipStreamCreateWithFlags
#define gpuStreamNonBlocking hipStreamNonBlocking
#define gpuStreamSynchronize hipStreamSynchronize
#define gpuStreamDestroy hipStreamDestroy
#define gpuStreamBeginCapture hipStreamBeginCapture
#define gpuCaptureThreadLocal hipStreamCaptureModeThreadLocal
#define gpuStreamEndCapture hipStreamEndCapture
#define gpuEvent_t hipEvent_t
#define gpuEventCreateWithFlags hipEventCreateWithFlags
#define gpuEventDisableTiming hipEventDisableTiming
#define gpuEventRecord hipEventRecord
#define gpuEventSynchronize hipEventSynchronize
#define gpuEventDestroy hipEventDestroy
#define gpuGraph_t hipGraph_t
#define gpuGraphExec_t hipGraphExec_t
#define gpuGraphInstantiateWithFlags hipGraphInstantiateWithFlags
#define gpuGraphLaunch hipGraphLaunch
#define gpuGraphDestroy hipGraphDestroy
#define gpuGraphExecDestroy hipGraphExecDestroy

#endif
