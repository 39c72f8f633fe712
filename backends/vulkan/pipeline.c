/* Pipelines: one for each shader and set of constants, kept while the device lives; what drivers compiled is kept on disk. */
#include "device.h"

#include "base/mix.h"
#include "base/os.h"

#include <stdlib.h>
#include <string.h>

struct ds_vk_pipeline {
    const struct ds_vk_code *code;
    uint32_t constants[DS_VK_CONSTANTS];
    VkPipeline handle;
};

/* --- modules --- */

enum {
    SPIRV_HEADER = 5, OP_ENTRY_POINT = 15, OP_EXECUTION_MODE = 16, OP_CAPABILITY = 17,
    CAPABILITY_DENORM_PRESERVE = 4464, CAPABILITY_SIGNED_ZERO_INF_NAN_PRESERVE = 4466, CAPABILITY_ROUNDING_MODE_RTE = 4467,
    MODE_DENORM_PRESERVE = 4459, MODE_SIGNED_ZERO_INF_NAN_PRESERVE = 4461, MODE_ROUNDING_MODE_RTE = 4462
};

/*
 * The module with the float controls that the device offers declared: capabilities come first, execution modes behind the entry point.
 * malloc'ed; NULL when memory is out.
 */
static uint32_t *with_controls(const struct ds_vk_features *features, const uint32_t *words, uint32_t n, uint32_t *count) {
    const struct {
        bool offered;
        uint32_t capability, mode;
    } controls[] = {
        {features->denormals, CAPABILITY_DENORM_PRESERVE, MODE_DENORM_PRESERVE},
        {features->specials, CAPABILITY_SIGNED_ZERO_INF_NAN_PRESERVE, MODE_SIGNED_ZERO_INF_NAN_PRESERVE},
        {features->rte, CAPABILITY_ROUNDING_MODE_RTE, MODE_ROUNDING_MODE_RTE},
    };
    uint32_t *const out = malloc((n + DS_COUNT(controls) * 6) * sizeof *out);
    if (!out) return NULL;
    uint32_t to = SPIRV_HEADER, entry = SPIRV_HEADER;
    memcpy(out, words, SPIRV_HEADER * sizeof *out);
    while ((words[entry] & 0xffffu) != OP_ENTRY_POINT) entry += words[entry] >> 16;
    const uint32_t behind = entry + (words[entry] >> 16);
    for (size_t i = 0; i < DS_COUNT(controls); i++) {
        if (!controls[i].offered) continue;
        out[to++] = 2u << 16 | OP_CAPABILITY;
        out[to++] = controls[i].capability;
    }
    memcpy(out + to, words + SPIRV_HEADER, (behind - SPIRV_HEADER) * sizeof *out);
    to += behind - SPIRV_HEADER;
    for (size_t i = 0; i < DS_COUNT(controls); i++) {
        if (!controls[i].offered) continue;
        out[to++] = 4u << 16 | OP_EXECUTION_MODE;
        out[to++] = words[entry + 2];
        out[to++] = controls[i].mode;
        out[to++] = 32;
    }
    memcpy(out + to, words + behind, (n - behind) * sizeof *out);
    *count = to + n - behind;
    return out;
}

static VkResult create_module(struct ds_vk_device *device, const struct ds_vk_code *code, VkShaderModule *out) {
    uint32_t count;
    uint32_t *const words = with_controls(&device->features, code->words[device->features.variant], code->bytes[device->features.variant] / 4, &count);
    if (!words) return VK_ERROR_OUT_OF_HOST_MEMORY;
    const VkShaderModuleCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = count * sizeof *words, .pCode = words};
    const VkResult result = DS_VK_CALL(device, device->api.CreateShaderModule(device->handle, &info, NULL, out));
    free(words);
    return result;
}

static VkResult create_pipeline(struct ds_vk_device *device, const struct ds_vk_code *code, const uint32_t constants[DS_VK_CONSTANTS],
                                VkPipeline *out) {
    uint32_t values[DS_VK_CONSTANTS + 1] = {device->features.subgroup};
    VkSpecializationMapEntry entries[DS_VK_CONSTANTS + 1];
    memcpy(values + 1, constants, DS_VK_CONSTANTS * sizeof *constants);
    for (uint32_t i = 0; i <= DS_VK_CONSTANTS; i++) entries[i] = (VkSpecializationMapEntry){.constantID = i, .offset = i * 4, .size = 4};
    const VkSpecializationInfo special = {.mapEntryCount = DS_VK_CONSTANTS + 1, .pMapEntries = entries, .dataSize = sizeof values, .pData = values};
    const VkPipelineShaderStageRequiredSubgroupSizeCreateInfo sized = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO, .requiredSubgroupSize = device->features.subgroup};
    VkShaderModule module = VK_NULL_HANDLE;
    VkResult result = create_module(device, code, &module);
    if (result != VK_SUCCESS) return result;
    const VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .flags = device->features.variant & DS_VK_ADDRESS ? 0 : VK_PIPELINE_CREATE_DISPATCH_BASE_BIT, /* dispatches may be split */
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO, .pNext = device->features.sized ? &sized : NULL,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT, .module = module, .pName = "main", .pSpecializationInfo = &special},
        .layout = device->layout,
    };
    result = DS_VK_CALL(device, device->api.CreateComputePipelines(device->handle, device->cache, 1, &info, NULL, out));
    device->api.DestroyShaderModule(device->handle, module, NULL);
    return result;
}

/* --- the list --- */

static ds_status get(struct ds_vk_device *device, const struct ds_vk_code *code, const uint32_t constants[DS_VK_CONSTANTS], VkPipeline *out,
                     struct ds_error *err) {
    for (uint32_t i = 0; i < device->n_pipelines; i++) {
        const struct ds_vk_pipeline *have = &device->pipelines[i];
        *out = have->handle;
        if (have->code == code && memcmp(have->constants, constants, sizeof have->constants) == 0) return DS_OK;
    }
    *out = VK_NULL_HANDLE;
    if (device->n_pipelines == device->pipeline_capacity) {
        const uint32_t capacity = device->pipeline_capacity ? 2 * device->pipeline_capacity : 32;
        struct ds_vk_pipeline *const more = realloc(device->pipelines, capacity * sizeof *more);
        if (!more) return ds_fail_memory(err, capacity * sizeof *more, "pipelines");
        device->pipelines = more;
        device->pipeline_capacity = capacity;
    }
    struct ds_vk_pipeline made = {.code = code};
    memcpy(made.constants, constants, sizeof made.constants);
    const VkResult result = create_pipeline(device, code, constants, &made.handle);
    if (result != VK_SUCCESS) return ds_vk_fail(device, result, code->name, 0, err);
    device->counts.pipelines++;
    device->cache_changed = true;
    device->pipelines[device->n_pipelines++] = made;
    *out = made.handle;
    return DS_OK;
}

ds_status ds_vk_pipeline_get(struct ds_vk_device *device, const struct ds_vk_code *code, const uint32_t constants[DS_VK_CONSTANTS], VkPipeline *out,
                             struct ds_error *err) {
    ds_os_mutex_lock(device->mutex);
    const ds_status status = get(device, code, constants, out, err);
    ds_os_mutex_unlock(device->mutex);
    return status;
}

/* --- the cache on disk --- */

/* In front of the driver's data, so that a damaged file is not shown to it. */
struct cache_header {
    char magic[8];
    uint64_t bytes, hash; /* of what follows */
};
static const char cache_magic[8] = "dsvkpc1";
enum { MOST_CACHE_BYTES = 256 << 20 };

/* The driver's data within the file, or NULL: there is none, it is another driver's, or it is damaged. Then it is made anew. */
static const void *usable(const struct ds_vk_device *device, const char *file, size_t size, size_t *bytes) {
    struct cache_header header;
    VkPipelineCacheHeaderVersionOne driver;
    if (size < sizeof header + sizeof driver) return NULL;
    memcpy(&header, file, sizeof header);
    const uint8_t *const data = (const uint8_t *)file + sizeof header;
    *bytes = size - sizeof header;
    if (memcmp(header.magic, cache_magic, sizeof cache_magic) != 0 || header.bytes != *bytes || header.hash != ds_hash_mix(DS_HASH_START, data, *bytes)) return NULL;
    memcpy(&driver, data, sizeof driver);
    VkPhysicalDeviceProperties properties;
    device->api.GetPhysicalDeviceProperties(device->physical, &properties);
    const bool same = driver.headerVersion == VK_PIPELINE_CACHE_HEADER_VERSION_ONE && driver.vendorID == properties.vendorID &&
                      driver.deviceID == properties.deviceID && memcmp(driver.pipelineCacheUUID, properties.pipelineCacheUUID, VK_UUID_SIZE) == 0;
    return same ? data : NULL;
}

static VkResult open_cache(struct ds_vk_device *device) {
    char *file = NULL;
    size_t size = 0, bytes = 0;
    struct ds_error ignored;
    const void *data = NULL;
    if (device->cache_path && ds_os_path_kind(device->cache_path) == DS_PATH_FILE &&
        ds_os_read_file(device->cache_path, MOST_CACHE_BYTES, &file, &size, &ignored) == DS_OK)
        data = usable(device, file, size, &bytes);
    const VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO, .initialDataSize = data ? bytes : 0, .pInitialData = data};
    const VkResult result = DS_VK_CALL(device, device->api.CreatePipelineCache(device->handle, &info, NULL, &device->cache));
    free(file);
    return result;
}

static void write_cache(struct ds_vk_device *device) {
    size_t bytes = 0;
    struct ds_error ignored;
    if (!device->cache_path || !device->cache_changed) return;
    if (device->api.GetPipelineCacheData(device->handle, device->cache, &bytes, NULL) != VK_SUCCESS || bytes == 0) return;
    uint8_t *const data = malloc(bytes);
    if (data && device->api.GetPipelineCacheData(device->handle, device->cache, &bytes, data) == VK_SUCCESS) {
        struct cache_header header = {.bytes = bytes, .hash = ds_hash_mix(DS_HASH_START, data, bytes)};
        memcpy(header.magic, cache_magic, sizeof header.magic);
        struct ds_os_writer writer = {0};
        ds_status status = ds_os_write_begin(device->cache_path, &writer, &ignored);
        if (status == DS_OK) status = ds_os_write(&writer, &header, sizeof header, &ignored);
        if (status == DS_OK) status = ds_os_write(&writer, data, bytes, &ignored);
        if (status == DS_OK) status = ds_os_write_commit(&writer, &ignored);
        if (status != DS_OK) ds_os_write_abort(&writer); /* the next start compiles again */
    }
    free(data);
}

/* --- opening --- */

ds_status ds_vk_pipelines_open(struct ds_vk_device *device, struct ds_error *err) {
    const bool descriptors = !(device->features.variant & DS_VK_ADDRESS);
    VkDescriptorSetLayoutBinding bindings[DS_VK_BINDINGS];
    for (uint32_t i = 0; i < DS_VK_BINDINGS; i++)
        bindings[i] = (VkDescriptorSetLayoutBinding){.binding = i, .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, .descriptorCount = 1,
                                                     .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
    const VkDescriptorSetLayoutCreateInfo sets = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO, .bindingCount = DS_VK_BINDINGS,
                                                  .pBindings = bindings};
    const VkPushConstantRange push = {VK_SHADER_STAGE_COMPUTE_BIT, 0, DS_VK_PUSH_BYTES};
    VkResult result = VK_SUCCESS;
    if (descriptors) result = DS_VK_CALL(device, device->api.CreateDescriptorSetLayout(device->handle, &sets, NULL, &device->set_layout));
    const VkPipelineLayoutCreateInfo layout = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO, .setLayoutCount = descriptors ? 1 : 0,
                                               .pSetLayouts = &device->set_layout, .pushConstantRangeCount = 1, .pPushConstantRanges = &push};
    if (result == VK_SUCCESS) result = DS_VK_CALL(device, device->api.CreatePipelineLayout(device->handle, &layout, NULL, &device->layout));
    if (result == VK_SUCCESS) result = open_cache(device);
    return result == VK_SUCCESS ? DS_OK : ds_vk_fail(device, result, "pipelines", 0, err);
}

void ds_vk_pipelines_close(struct ds_vk_device *device) {
    if (device->cache) write_cache(device);
    for (uint32_t i = 0; i < device->n_pipelines; i++) device->api.DestroyPipeline(device->handle, device->pipelines[i].handle, NULL);
    free(device->pipelines);
    if (device->cache) device->api.DestroyPipelineCache(device->handle, device->cache, NULL);
    if (device->layout) device->api.DestroyPipelineLayout(device->handle, device->layout, NULL);
    if (device->set_layout) device->api.DestroyDescriptorSetLayout(device->handle, device->set_layout, NULL);
    free(device->cache_path);
}
