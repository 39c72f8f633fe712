#include "api.h"

#include "base/os.h"

static const char *const libraries[] = {"libvulkan.so.1", "libvulkan.so"};

static ds_status open_library(struct ds_vk_api *api, struct ds_error *err) {
    for (size_t i = 0; i < DS_COUNT(libraries); i++)
        if (ds_os_module_open(libraries[i], true, &api->library, err) == DS_OK) return DS_OK;
    return ds_fail(err, DS_ERROR_DEVICE, "Vulkan is not installed on this machine: there is no %s", libraries[0]);
}

static ds_status open_instance(struct ds_vk_api *api, struct ds_error *err) {
    *(void **)(void *)&api->GetInstanceProcAddr = ds_os_module_symbol(api->library, "vkGetInstanceProcAddr");
    if (!api->GetInstanceProcAddr) return ds_fail(err, DS_ERROR_DEVICE, "the Vulkan loader has no vkGetInstanceProcAddr");
#define X(name) api->name = (PFN_vk##name)api->GetInstanceProcAddr(NULL, "vk" #name);
    DS_VK_GLOBAL_FUNCTIONS(X)
#undef X
    uint32_t version = 0;
    if (!api->CreateInstance || !api->EnumerateInstanceVersion || api->EnumerateInstanceVersion(&version) != VK_SUCCESS || version < VK_API_VERSION_1_2)
        return ds_fail(err, DS_ERROR_DEVICE, "the Vulkan loader is of version %u.%u; expected 1.2 or later", VK_API_VERSION_MAJOR(version),
                       VK_API_VERSION_MINOR(version));
    const VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .pApplicationName = "dspark", .apiVersion = VK_API_VERSION_1_3};
    const VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &application};
    const VkResult result = api->CreateInstance(&info, NULL, &api->instance);
    if (result != VK_SUCCESS) {
        api->instance = NULL;
        return ds_fail(err, DS_ERROR_DEVICE, "Vulkan has no driver that can be used: %s", ds_vk_result_name(result));
    }
    bool all = true;
#define X(name) all = (api->name = (PFN_vk##name)api->GetInstanceProcAddr(api->instance, "vk" #name)) != NULL && all;
    DS_VK_INSTANCE_FUNCTIONS(X)
#undef X
    return all ? DS_OK : ds_fail(err, DS_ERROR_DEVICE, "the Vulkan loader lacks functions of version 1.2");
}

ds_status ds_vk_api_open(struct ds_vk_api *api, struct ds_error *err) {
    *api = (struct ds_vk_api){0};
    DS_TRY(open_library(api, err));
    const ds_status status = open_instance(api, err);
    if (status != DS_OK) ds_vk_api_close(api);
    return status;
}

bool ds_vk_api_device(struct ds_vk_api *api, VkDevice device) {
    bool all = true;
#define X(name) all = (api->name = (PFN_vk##name)api->GetDeviceProcAddr(device, "vk" #name)) != NULL && all;
    DS_VK_DEVICE_FUNCTIONS(X)
#undef X
    return all;
}

void ds_vk_api_close(struct ds_vk_api *api) {
    if (api->instance && api->DestroyInstance) api->DestroyInstance(api->instance, NULL);
    if (api->library) ds_os_module_close(api->library);
    *api = (struct ds_vk_api){0};
}

const char *ds_vk_result_name(VkResult result) {
    switch (result) {
    case VK_SUCCESS: return "success";
    case VK_TIMEOUT: return "a time-out";
    case VK_ERROR_OUT_OF_HOST_MEMORY: return "out of host memory";
    case VK_ERROR_OUT_OF_DEVICE_MEMORY: return "out of device memory";
    case VK_ERROR_INITIALIZATION_FAILED: return "its initialisation failed";
    case VK_ERROR_DEVICE_LOST: return "the device is lost";
    case VK_ERROR_LAYER_NOT_PRESENT: return "a layer that the environment asks for is not there";
    case VK_ERROR_EXTENSION_NOT_PRESENT: return "an extension is not there";
    case VK_ERROR_FEATURE_NOT_PRESENT: return "a feature is not there";
    case VK_ERROR_INCOMPATIBLE_DRIVER: return "no driver is compatible";
    case VK_ERROR_TOO_MANY_OBJECTS: return "too many objects";
    case VK_ERROR_FRAGMENTED_POOL: return "a fragmented pool";
    case VK_ERROR_OUT_OF_POOL_MEMORY: return "a pool is full";
    default: return "an unknown error";
    }
}
