/* Devices vulkan:0, vulkan:1, ...: finding, opening, and the slots of ops. */
#include "device.h"
#include "pack.h"

#include "base/os.h"
#include "pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const struct ds_backend ds_backend_vulkan;

enum { MOST_DEVICES = 16 };
static const char *const device_names[MOST_DEVICES] = {
    "vulkan:0", "vulkan:1", "vulkan:2",  "vulkan:3",  "vulkan:4",  "vulkan:5",  "vulkan:6",  "vulkan:7",
    "vulkan:8", "vulkan:9", "vulkan:10", "vulkan:11", "vulkan:12", "vulkan:13", "vulkan:14", "vulkan:15",
};

struct ds_vk_options ds_vk_options_get(void) {
    struct ds_vk_options options = {.no_cache = false};
    const struct {
        const char *word;
        bool *flag;
    } words[] = {{"no-address", &options.no_address}, {"no-half", &options.no_half}, {"no-dot", &options.no_dot}, {"no-unified", &options.no_unified},
                 {"twice", &options.twice}, {"no-cache", &options.no_cache}, {"no-exact", &options.no_exact},
                 {"no-clock", &options.no_clock}};
    const char *text = getenv("DSPARK_VULKAN");
    while (text && *text) {
        const size_t n = strcspn(text, ",");
        for (size_t i = 0; i < DS_COUNT(words); i++)
            if (strlen(words[i].word) == n && strncmp(words[i].word, text, n) == 0) *words[i].flag = true;
        if (strncmp(text, "buffer:", 7) == 0) options.most_buffer = strtoull(text + 7, NULL, 10);
        if (strncmp(text, "range:", 6) == 0) options.most_range = strtoull(text + 6, NULL, 10);
        text += n + (text[n] == ',');
    }
    return options;
}

/* --- finding --- */

/* Faster kinds first; software last. */
static int rank_of(VkPhysicalDeviceType type) {
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: return 0;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: return 1;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU: return 2;
    case VK_PHYSICAL_DEVICE_TYPE_CPU: return 4;
    default: return 3;
    }
}

struct found {
    VkPhysicalDevice devices[MOST_DEVICES];
    int ranks[MOST_DEVICES];
    uint32_t count;
};

static uint32_t compute_family(const struct ds_vk_api *api, VkPhysicalDevice device) {
    VkQueueFamilyProperties families[16];
    uint32_t count = DS_COUNT(families), best = UINT32_MAX;
    api->GetPhysicalDeviceQueueFamilyProperties(device, &count, families);
    for (uint32_t i = 0; i < count; i++) {
        const bool compute = families[i].queueFlags & VK_QUEUE_COMPUTE_BIT, graphics = families[i].queueFlags & VK_QUEUE_GRAPHICS_BIT;
        if (compute && (best == UINT32_MAX || !graphics)) best = i; /* one without graphics competes with no screen */
        if (compute && !graphics) break;
    }
    return best;
}

/* Those of version 1.2 with a queue for compute. */
static VkResult find_devices(const struct ds_vk_api *api, bool twice, struct found *found) {
    VkPhysicalDevice all[MOST_DEVICES];
    uint32_t count = MOST_DEVICES;
    found->count = 0;
    const VkResult result = api->EnumeratePhysicalDevices(api->instance, &count, all);
    if (result != VK_SUCCESS && result != VK_INCOMPLETE) return result;
    for (int rank = 0; rank <= 4; rank++) {
        for (uint32_t i = 0; i < count; i++) {
            VkPhysicalDeviceProperties properties;
            api->GetPhysicalDeviceProperties(all[i], &properties);
            if (rank_of(properties.deviceType) != rank || properties.apiVersion < VK_API_VERSION_1_2 || compute_family(api, all[i]) == UINT32_MAX) continue;
            for (int copies = 0; copies < (twice ? 2 : 1) && found->count < MOST_DEVICES; copies++) {
                found->ranks[found->count] = rank;
                found->devices[found->count++] = all[i];
            }
        }
    }
    return VK_SUCCESS;
}

static uint32_t list_up_to(int rank, const char **names, uint32_t capacity) {
    struct ds_vk_api api;
    struct ds_error ignored;
    struct found found = {.count = 0};
    if (ds_vk_api_open(&api, &ignored) != DS_OK) return 0;
    (void)find_devices(&api, ds_vk_options_get().twice, &found);
    ds_vk_api_close(&api);
    uint32_t count = 0;
    while (count < found.count && found.ranks[count] <= rank) count++;
    for (uint32_t i = 0; i < DS_MIN(count, capacity); i++) names[i] = device_names[i];
    return count;
}

static uint32_t list(const char **names, uint32_t capacity) { return list_up_to(4, names, capacity); }
static uint32_t preferred(const char **names, uint32_t capacity) { return list_up_to(3, names, capacity); }

/* --- the slots --- */

#define DS_OP(name, text)                                                                                                          \
    static ds_status run_##name(struct ds_stream *stream, const union ds_op_params *params, struct ds_error *err) {                \
        return ds_vk_stream_op(stream, DS_OP_##name, params, err);                                                                 \
    }
#include "ops/ops.def"
#undef DS_OP

static bool can_run(const struct ds_device *base, ds_op op, const union ds_op_params *params) {
    const struct ds_vk_device *device = (const struct ds_vk_device *)base;
    if (op >= DS_OP_COUNT || !ds_vk_ops[op].record || !ds_vk_operands_fit(device, op, params)) return false;
    return !ds_vk_ops[op].can_run || ds_vk_ops[op].can_run(device, params);
}

static uint64_t weight_bytes(const struct ds_device *base, ds_type type, uint32_t rows, uint32_t cols) {
    const struct ds_vk_device *device = (const struct ds_vk_device *)base;
    const uint64_t bytes = ds_vk_matrix_bytes(type, rows, cols);
    return bytes > device->features.max_buffer || !ds_vk_in_range(device, ds_vk_tile_bytes(type, cols)) ? 0 : bytes;
}

enum { MOST_ROWS = 65535 }; /* a grid's second dimension */

static void limits(const struct ds_device *base, struct ds_device_limits *out) {
    const struct ds_vk_device *device = (const struct ds_vk_device *)base;
    *out = (struct ds_device_limits){
        .name = device->name,
        .description = device->description,
        .memory_bytes = device->memory_bytes,
        .max_buffer_bytes = device->features.max_buffer,
        .max_rows = MOST_ROWS,
        .exact = device->note[0] == 0,
        .note = device->note,
    };
}

static void destroy(struct ds_device *base) {
    struct ds_vk_device *device = (struct ds_vk_device *)base;
    if (!device) return;
    if (device->handle) {
        ds_vk_stream_destroy(device->own);
        ds_vk_pipelines_close(device);
        device->api.DestroyDevice(device->handle, NULL);
    }
    ds_vk_api_close(&device->api);
    ds_pool_destroy(device->pool);
    ds_os_mutex_destroy(device->mutex);
    ds_os_mutex_destroy(device->own_mutex);
    ds_os_mutex_destroy(device->pack_mutex);
    ds_os_mutex_destroy(device->slab_mutex);
    free(device);
}

static const struct ds_device_fns fns = {
    .version = DS_DEVICE_VERSION,
    .destroy = destroy,
    .limits = limits,
    .buffer_create = ds_vk_buffer_create,
    .buffer_destroy = ds_vk_buffer_destroy,
    .stream_create = ds_vk_stream_create,
    .stream_sync = ds_vk_stream_sync,
    .stream_destroy = ds_vk_stream_destroy,
    .write = ds_vk_write,
    .read = ds_vk_read,
    .copy = ds_vk_copy,
    .weight_bytes = weight_bytes,
    .weight_write = ds_vk_weight_write,
    .can_run = can_run,
    .graph_create = ds_vk_graph_create,
    .graph_run = ds_vk_graph_run,
    .graph_destroy = ds_vk_graph_destroy,
    .mark = ds_vk_mark,
    .elapsed = ds_vk_elapsed,
    .op =
        {
#define DS_OP(name, text) [DS_OP_##name] = run_##name,
#include "ops/ops.def"
#undef DS_OP
        },
};

/* --- opening --- */

static ds_status choose(struct ds_vk_device *device, const char *name, struct ds_error *err) {
    struct found found;
    const VkResult result = find_devices(&device->api, device->options.twice, &found);
    if (result != VK_SUCCESS) return ds_fail(err, DS_ERROR_DEVICE, "device %s: Vulkan cannot list its devices: %s", name, ds_vk_result_name(result));
    const char *const digits = strchr(name, ':');
    char *end = NULL;
    const unsigned long n = digits ? strtoul(digits + 1, &end, 10) : 0;
    if ((digits && (digits[1] < '0' || digits[1] > '9' || *end)) || n >= found.count || n >= MOST_DEVICES)
        return ds_fail(err, DS_ERROR_DEVICE, "there is no device %s: this machine has %u of that kind%s", name, found.count,
                       found.count > 0 ? ", numbered from vulkan:0" : "");
    device->physical = found.devices[n];
    device->family = compute_family(&device->api, device->physical);
    snprintf(device->name, sizeof device->name, "%s", device_names[n]);
    return DS_OK;
}

/* "$XDG_CACHE_HOME/dspark/vulkan-UUID" is for who opens the device to say; here only the file's name. */
static char *cache_file(const struct ds_vk_device *device, const char *folder) {
    VkPhysicalDeviceProperties properties;
    char name[16 + 2 * VK_UUID_SIZE] = "vulkan-";
    device->api.GetPhysicalDeviceProperties(device->physical, &properties);
    for (size_t i = 0; i < VK_UUID_SIZE; i++) snprintf(name + 7 + 2 * i, 3, "%02x", device->driver_uuid[i] ^ properties.pipelineCacheUUID[i]);
    return ds_os_join(folder, name);
}

static ds_status open_device(struct ds_vk_device *device, const char *name, const struct ds_device_params *params, struct ds_error *err) {
    device->mutex = ds_os_mutex_create();
    device->own_mutex = ds_os_mutex_create();
    device->pack_mutex = ds_os_mutex_create();
    device->slab_mutex = ds_os_mutex_create();
    if (!device->mutex || !device->own_mutex || !device->pack_mutex || !device->slab_mutex) return ds_fail_memory(err, sizeof(void *), "a lock of a device");
    if (ds_vk_api_open(&device->api, err) != DS_OK) return ds_fail_context(err, "device %s", name);
    DS_TRY(choose(device, name, err));
    DS_TRY(ds_vk_features_open(device, err));
    if (!device->features.clock_bits) device->fns.mark = NULL, device->fns.elapsed = NULL;
    struct ds_error ignored;
    if (params->cache && !device->options.no_cache && ds_os_make_folders(params->cache, &ignored) == DS_OK)
        device->cache_path = cache_file(device, params->cache);
    DS_TRY(ds_vk_pipelines_open(device, err));
    DS_TRY(ds_vk_stream_create(&device->base, &device->own, err));
    return ds_vk_self_test(device, err);
}

static ds_status create(const char *name, const struct ds_device_params *params, struct ds_device **out, struct ds_error *err) {
    *out = NULL;
    struct ds_vk_device *device = calloc(1, sizeof *device);
    if (!device) return ds_fail_memory(err, sizeof *device, "a device");
    device->fns = fns;
    device->base.fns = &device->fns;
    device->threads = params->threads;
    device->options = ds_vk_options_get();
    ds_vk_take_failure(device);
    const ds_status status = open_device(device, name, params, err);
    if (status != DS_OK) {
        destroy(&device->base);
        return status;
    }
    *out = &device->base;
    return DS_OK;
}

const struct ds_backend ds_backend_vulkan = {.name = "vulkan", .list = list, .create = create, .preferred = preferred};
