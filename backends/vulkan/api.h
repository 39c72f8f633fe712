/*
 * The Vulkan loader, opened at run time, and its functions. An instance is per device: two devices of one process share nothing.
 */
#ifndef DSPARK_VULKAN_API_H
#define DSPARK_VULKAN_API_H

#include "base/status.h"

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

#define DS_VK_GLOBAL_FUNCTIONS(X) X(CreateInstance) X(EnumerateInstanceVersion)

#define DS_VK_INSTANCE_FUNCTIONS(X)                                                                                        \
    X(DestroyInstance) X(EnumeratePhysicalDevices) X(EnumerateDeviceExtensionProperties) X(GetPhysicalDeviceProperties)    \
    X(GetPhysicalDeviceProperties2) X(GetPhysicalDeviceFeatures2) X(GetPhysicalDeviceMemoryProperties)                     \
    X(GetPhysicalDeviceQueueFamilyProperties) X(CreateDevice) X(GetDeviceProcAddr)

#define DS_VK_DEVICE_FUNCTIONS(X)                                                                                          \
    X(DestroyDevice) X(GetDeviceQueue) X(DeviceWaitIdle) X(CreateBuffer) X(DestroyBuffer) X(GetBufferMemoryRequirements)   \
    X(AllocateMemory) X(FreeMemory) X(BindBufferMemory) X(MapMemory) X(GetBufferDeviceAddress)                             \
    X(CreateSemaphore) X(DestroySemaphore) X(GetSemaphoreCounterValue) X(WaitSemaphores) X(QueueSubmit)                    \
    X(CreateCommandPool) X(DestroyCommandPool) X(AllocateCommandBuffers) X(BeginCommandBuffer) X(EndCommandBuffer)         \
    X(ResetCommandBuffer) X(CmdPipelineBarrier) X(CmdCopyBuffer) X(CmdFillBuffer) X(CmdBindPipeline) X(CmdPushConstants)   \
    X(CmdDispatch) X(CmdDispatchBase) X(CmdBindDescriptorSets) X(CmdExecuteCommands) X(CreateShaderModule) X(DestroyShaderModule)             \
    X(CreatePipelineLayout) X(DestroyPipelineLayout) X(CreateComputePipelines) X(DestroyPipeline)                          \
    X(CreatePipelineCache) X(DestroyPipelineCache) X(GetPipelineCacheData) X(CreateDescriptorSetLayout)                    \
    X(DestroyDescriptorSetLayout) X(CreateDescriptorPool) X(DestroyDescriptorPool) X(ResetDescriptorPool)                  \
    X(AllocateDescriptorSets) X(UpdateDescriptorSets) X(CreateQueryPool) X(DestroyQueryPool) X(CmdResetQueryPool)         \
    X(CmdWriteTimestamp) X(GetQueryPoolResults)

struct ds_os_module;

struct ds_vk_api {
    struct ds_os_module *library;
    VkInstance instance;
    PFN_vkGetInstanceProcAddr GetInstanceProcAddr;
#define X(name) PFN_vk##name name;
    DS_VK_GLOBAL_FUNCTIONS(X)
    DS_VK_INSTANCE_FUNCTIONS(X)
    DS_VK_DEVICE_FUNCTIONS(X)
#undef X
};

/* Opens the loader and makes an instance. DS_ERROR_DEVICE: no loader, or none of version 1.2. On failure nothing is left open. */
ds_status ds_vk_api_open(struct ds_vk_api *api, struct ds_error *err);
/* The functions of a device; false: one is missing. */
bool ds_vk_api_device(struct ds_vk_api *api, VkDevice device);
void ds_vk_api_close(struct ds_vk_api *api); /* accepts a zeroed struct */

const char *ds_vk_result_name(VkResult result);

#endif
