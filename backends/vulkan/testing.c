/* For tests that load the module: what a device was asked for, and failures on demand. */
#include "device.h"

#include "ops/module.h"

DS_MODULE_EXPORT void ds_vk_fail_at(uint64_t call, int result);
DS_MODULE_EXPORT uint64_t ds_vk_calls(const struct ds_device *device);
DS_MODULE_EXPORT void ds_vk_fail_next(struct ds_device *device, uint64_t call, int result);
DS_MODULE_EXPORT struct ds_vk_counts ds_vk_get_counts(const struct ds_device *device);
DS_MODULE_EXPORT int64_t ds_vk_alive(void);
DS_MODULE_EXPORT void ds_vk_fail_allocation(uint64_t call, int result);
DS_MODULE_EXPORT void ds_vk_fail_next_allocation(struct ds_device *device, uint64_t call, int result);
DS_MODULE_EXPORT uint64_t ds_vk_allocating_calls(const struct ds_device *device);

static struct {
    uint64_t call, allocating_call;
    VkResult result;
} wanted;

/* Call `call` of every device that is opened from now on fails with this VkResult; 0: none. Not thread-safe. */
void ds_vk_fail_at(uint64_t call, int result) {
    wanted.call = call;
    wanted.result = (VkResult)result;
}

/* Of this device, the call that is `call` calls away, 1 being the next. */
void ds_vk_fail_next(struct ds_device *base, uint64_t call, int result) {
    struct ds_vk_device *device = (struct ds_vk_device *)base;
    device->fail_at = call ? device->calls + call : 0;
    device->fail_with = (VkResult)result;
}

/* Calls so far that can fail. */
uint64_t ds_vk_calls(const struct ds_device *device) { return ((const struct ds_vk_device *)device)->calls; }

struct ds_vk_counts ds_vk_get_counts(const struct ds_device *device) { return ((const struct ds_vk_device *)device)->counts; }

/* Slabs and buffers that are there, of all devices. */
int64_t ds_vk_alive(void) { return __atomic_load_n(&ds_vk_slabs_alive, __ATOMIC_RELAXED) + __atomic_load_n(&ds_vk_buffers_alive, __ATOMIC_RELAXED); }

/* The same as the others, for calls that ask for memory of buffers alone. */
void ds_vk_fail_allocation(uint64_t call, int result) {
    wanted.allocating_call = call;
    wanted.result = (VkResult)result;
}

void ds_vk_fail_next_allocation(struct ds_device *base, uint64_t call, int result) {
    struct ds_vk_device *device = (struct ds_vk_device *)base;
    device->fail_allocation_at = call ? device->allocating_calls + call : 0;
    device->fail_with = (VkResult)result;
}

uint64_t ds_vk_allocating_calls(const struct ds_device *device) { return ((const struct ds_vk_device *)device)->allocating_calls; }

void ds_vk_take_failure(struct ds_vk_device *device) {
    device->fail_at = wanted.call;
    device->fail_allocation_at = wanted.allocating_call;
    device->fail_with = wanted.result;
}
