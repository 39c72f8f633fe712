/* What a device offers, what of it is used, and opening it so. */
#include "device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct offered {
    VkPhysicalDeviceProperties2 properties;
    VkPhysicalDeviceVulkan11Properties properties11;
    VkPhysicalDeviceVulkan12Properties properties12;
    VkPhysicalDeviceMaintenance4Properties maintenance;
    VkPhysicalDeviceSubgroupSizeControlProperties sizes;
    VkPhysicalDeviceFeatures2 features;
    VkPhysicalDeviceVulkan11Features features11;
    VkPhysicalDeviceVulkan12Features features12;
    VkPhysicalDeviceShaderIntegerDotProductFeatures dot;
    VkPhysicalDeviceSubgroupSizeControlFeatures control;
    bool has_dot, has_control, has_maintenance; /* core in 1.3, else extensions */
    bool dot_extension, control_extension, maintenance_extension;
};

static bool has_extension(const VkExtensionProperties *list, uint32_t count, const char *name) {
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(list[i].extensionName, name) == 0) return true;
    return false;
}

static void look_for_extensions(struct ds_vk_device *device, struct offered *o) {
    static const uint32_t most = 512;
    VkExtensionProperties *const list = calloc(most, sizeof *list);
    uint32_t count = list ? most : 0;
    if (list && device->api.EnumerateDeviceExtensionProperties(device->physical, NULL, &count, list) < 0) count = 0;
    const bool core = o->properties.properties.apiVersion >= VK_API_VERSION_1_3;
    o->dot_extension = !core && has_extension(list, count, VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME);
    o->control_extension = !core && has_extension(list, count, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME);
    o->maintenance_extension = !core && has_extension(list, count, VK_KHR_MAINTENANCE_4_EXTENSION_NAME);
    o->has_dot = core || o->dot_extension;
    o->has_control = core || o->control_extension;
    o->has_maintenance = core || o->maintenance_extension;
    free(list);
}

static void ask(struct ds_vk_device *device, struct offered *o) {
    *o = (struct offered){
        .properties = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &o->properties11},
        .properties11 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES, .pNext = &o->properties12},
        .properties12 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_PROPERTIES},
        .maintenance = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES},
        .sizes = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES},
        .features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &o->features11},
        .features11 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES, .pNext = &o->features12},
        .features12 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES},
        .dot = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES},
        .control = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES},
    };
    device->api.GetPhysicalDeviceProperties(device->physical, &o->properties.properties);
    look_for_extensions(device, o);
    if (o->has_maintenance) o->maintenance.pNext = o->properties12.pNext, o->properties12.pNext = &o->maintenance;
    if (o->has_control) o->sizes.pNext = o->properties12.pNext, o->properties12.pNext = &o->sizes;
    if (o->has_dot) o->features12.pNext = &o->dot;
    if (o->has_control) o->control.pNext = o->features12.pNext, o->features12.pNext = &o->control;
    device->api.GetPhysicalDeviceProperties2(device->physical, &o->properties);
    device->api.GetPhysicalDeviceFeatures2(device->physical, &o->features);
    device->api.GetPhysicalDeviceMemoryProperties(device->physical, &device->memory);
}

/* Of the timestamps of our queue. */
static uint32_t clock_bits(const struct ds_vk_device *device) {
    VkQueueFamilyProperties families[16];
    uint32_t count = DS_COUNT(families);
    device->api.GetPhysicalDeviceQueueFamilyProperties(device->physical, &count, families);
    return device->family < count ? families[device->family].timestampValidBits : 0;
}

static ds_status decide(struct ds_vk_device *device, const struct offered *o, struct ds_error *err) {
    struct ds_vk_features *f = &device->features;
    const VkPhysicalDeviceProperties *p = &o->properties.properties;
    const VkSubgroupFeatureFlags needed = VK_SUBGROUP_FEATURE_BASIC_BIT | VK_SUBGROUP_FEATURE_SHUFFLE_BIT;
    if ((o->properties11.subgroupSupportedOperations & needed) != needed || !(o->properties11.subgroupSupportedStages & VK_SHADER_STAGE_COMPUTE_BIT))
        return ds_fail(err, DS_ERROR_DEVICE, "device %s (%s) has no subgroup shuffles in compute shaders, which are needed", device->name, p->deviceName);
    if (!o->features12.timelineSemaphore)
        return ds_fail(err, DS_ERROR_DEVICE, "device %s (%s) has no timeline semaphores, which are needed", device->name, p->deviceName);
    const struct ds_vk_options *off = &device->options;
    if (o->features12.bufferDeviceAddress && !off->no_address) f->variant |= DS_VK_ADDRESS;
    if (o->features11.storageBuffer16BitAccess && o->features.features.shaderInt16 && !off->no_half) f->variant |= DS_VK_HALF;
    if (o->has_dot && o->dot.shaderIntegerDotProduct && !off->no_dot) f->variant |= DS_VK_DOT;
    if (!(f->variant & DS_VK_ADDRESS) && p->limits.maxPerStageDescriptorStorageBuffers < DS_VK_BINDINGS)
        return ds_fail(err, DS_ERROR_DEVICE, "device %s (%s) has neither buffer addresses nor %d storage buffers a shader", device->name, p->deviceName,
                       DS_VK_BINDINGS);
    const bool shared = p->deviceType == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU || p->deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU;
    f->unified = shared && !off->no_unified;
    f->rte = o->properties12.shaderRoundingModeRTEFloat32;
    f->denormals = o->properties12.shaderDenormPreserveFloat32;
    f->specials = o->properties12.shaderSignedZeroInfNanPreserveFloat32;
    f->subgroup = o->properties11.subgroupSize;
    f->sized = o->has_control && o->control.subgroupSizeControl && o->sizes.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT &&
               f->subgroup >= o->sizes.minSubgroupSize && f->subgroup <= o->sizes.maxSubgroupSize;
    const uint64_t reach = UINT64_C(8) << 30; /* word indices in shaders are below 2^31 */
    f->max_buffer = DS_MIN(o->properties11.maxMemoryAllocationSize, reach);
    if (o->has_maintenance && o->maintenance.maxBufferSize) f->max_buffer = DS_MIN(f->max_buffer, o->maintenance.maxBufferSize);
    if (off->most_buffer) f->max_buffer = DS_MIN(f->max_buffer, off->most_buffer);
    f->max_memory = o->properties11.maxMemoryAllocationSize;
    f->max_range = p->limits.maxStorageBufferRange;
    if (off->most_range) f->max_range = DS_MIN(f->max_range, off->most_range);
    f->align = (uint32_t)DS_MAX(p->limits.minStorageBufferOffsetAlignment, 16); /* pieces of 16 bytes stay whole */
    f->invocations = p->limits.maxComputeWorkGroupInvocations;
    if (f->sized && o->sizes.maxComputeWorkgroupSubgroups) /* a size that is asked for limits how many subgroups there may be */
        f->invocations = (uint32_t)DS_MIN((uint64_t)f->invocations, (uint64_t)f->subgroup * o->sizes.maxComputeWorkgroupSubgroups);
    f->shared_bytes = p->limits.maxComputeSharedMemorySize;
    f->clock_bits = off->no_clock || !(p->limits.timestampPeriod > 0) ? 0 : clock_bits(device);
    f->clock_period = (double)p->limits.timestampPeriod;
    memcpy(device->driver_uuid, o->properties11.driverUUID, VK_UUID_SIZE);
    for (uint32_t i = 0; i < device->memory.memoryHeapCount; i++)
        if (device->memory.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) device->memory_bytes += device->memory.memoryHeaps[i].size;
    return DS_OK;
}

static void describe(struct ds_vk_device *device, const struct offered *o) {
    const struct ds_vk_features *f = &device->features;
    const VkPhysicalDeviceProperties *p = &o->properties.properties;
    snprintf(device->description, sizeof device->description, "%.96s, %.40s %.60s, Vulkan %u.%u, subgroups of %u%s%s%s%s", p->deviceName,
             o->properties12.driverName, o->properties12.driverInfo, VK_API_VERSION_MAJOR(p->apiVersion), VK_API_VERSION_MINOR(p->apiVersion), f->subgroup,
             f->variant & DS_VK_ADDRESS ? ", addresses" : ", descriptors", f->variant & DS_VK_HALF ? ", 16-bit storage" : "",
             f->variant & DS_VK_DOT ? ", integer dot products" : "", f->unified ? ", shared memory" : "");
}

static ds_status create_device(struct ds_vk_device *device, const struct offered *o, struct ds_error *err) {
    const uint32_t variant = device->features.variant;
    VkPhysicalDeviceShaderIntegerDotProductFeatures dot = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES,
                                                           .shaderIntegerDotProduct = VK_TRUE};
    VkPhysicalDeviceSubgroupSizeControlFeatures control = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES,
                                                           .subgroupSizeControl = VK_TRUE};
    VkPhysicalDeviceVulkan12Features features12 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, .timelineSemaphore = VK_TRUE,
                                                   .bufferDeviceAddress = (variant & DS_VK_ADDRESS) != 0};
    VkPhysicalDeviceVulkan11Features features11 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES, .pNext = &features12,
                                                   .storageBuffer16BitAccess = (variant & DS_VK_HALF) != 0};
    VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &features11,
                                          .features = {.shaderInt16 = (variant & DS_VK_HALF) != 0, .shaderInt64 = o->features.features.shaderInt64}};
    const char *extensions[4];
    uint32_t n = 0;
    if (variant & DS_VK_DOT) {
        features12.pNext = &dot;
        if (o->dot_extension) extensions[n++] = VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME;
    }
    if (device->features.sized) {
        control.pNext = features12.pNext;
        features12.pNext = &control;
        if (o->control_extension) extensions[n++] = VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME;
    }
    const float priority = 1;
    const VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO, .queueFamilyIndex = device->family, .queueCount = 1,
                                           .pQueuePriorities = &priority};
    const VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, .pNext = &features, .queueCreateInfoCount = 1,
                                     .pQueueCreateInfos = &queue, .enabledExtensionCount = n, .ppEnabledExtensionNames = extensions};
    VkDevice handle = VK_NULL_HANDLE;
    const VkResult result = DS_VK_CALL(device, device->api.CreateDevice(device->physical, &info, NULL, &handle));
    if (result != VK_SUCCESS) return ds_vk_fail(device, result, "opening the device", 0, err);
    if (!ds_vk_api_device(&device->api, handle)) {
        if (device->api.DestroyDevice) device->api.DestroyDevice(handle, NULL);
        return ds_fail(err, DS_ERROR_DEVICE, "the driver of %s lacks functions of Vulkan 1.2", device->name);
    }
    device->handle = handle;
    device->api.GetDeviceQueue(handle, device->family, 0, &device->queue);
    return DS_OK;
}

ds_status ds_vk_features_open(struct ds_vk_device *device, struct ds_error *err) {
    struct offered offered;
    ask(device, &offered);
    DS_TRY(decide(device, &offered, err));
    describe(device, &offered);
    return create_device(device, &offered, err);
}
