/*
 * Operands of dispatches: their addresses, or descriptors of what is touched of them. A descriptor shows no more than maxStorageBufferRange bytes, so
 * that a dispatch may be split along its grid, each part with descriptors of its own (device.h).
 */
#include "device.h"

#include <assert.h>
#include <string.h>

/* --- sets --- */

enum { SETS_A_POOL = 64 };

static VkResult add_pool(struct ds_vk_device *device, struct ds_vk_sets *sets) {
    if (sets->n_pools == DS_COUNT(sets->pools)) return VK_ERROR_OUT_OF_POOL_MEMORY;
    const VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, SETS_A_POOL * DS_VK_BINDINGS};
    const VkDescriptorPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO, .maxSets = SETS_A_POOL, .poolSizeCount = 1,
                                             .pPoolSizes = &size};
    const VkResult result = DS_VK_CALL(device, device->api.CreateDescriptorPool(device->handle, &info, NULL, &sets->pools[sets->n_pools]));
    if (result != VK_SUCCESS) return result;
    sets->n_pools++;
    sets->left = SETS_A_POOL;
    return VK_SUCCESS;
}

void ds_vk_sets_destroy(struct ds_vk_device *device, struct ds_vk_sets *sets) {
    for (uint32_t i = 0; i < sets->n_pools; i++) device->api.DestroyDescriptorPool(device->handle, sets->pools[i], NULL);
    *sets = (struct ds_vk_sets){0};
}

/* --- what a descriptor shows --- */

/* The descriptor begins at a multiple of `align` at or below the part, which begins at a multiple of DS_ALIGN, and ends with a whole word. */
static uint64_t most_bytes(const struct ds_vk_device *device) {
    const uint64_t lost = device->features.align + 2 * (uint64_t)DS_ALIGN;
    return device->features.max_range > lost ? device->features.max_range - lost : 0;
}

bool ds_vk_in_range(const struct ds_vk_device *device, uint64_t bytes) {
    return device->features.variant & DS_VK_ADDRESS || bytes <= most_bytes(device);
}

uint32_t ds_vk_items_at_once(const struct ds_vk_device *device, uint64_t item_bytes, uint32_t items) {
    if (device->features.variant & DS_VK_ADDRESS) return DS_MAX(items, 1);
    return (uint32_t)DS_MIN(DS_MAX(most_bytes(device) / DS_MAX(item_bytes, 1), 1), DS_MAX(items, 1));
}

/* Bytes of an operand of the op on trial, wherever it is. */
static uint64_t bytes_on_trial(const struct ds_vk_recorder *r, const struct ds_slice *slice) {
    uint64_t most = 0;
    for (uint32_t i = 0; i < r->n_trial; i++) {
        const struct ds_slice *at = (const struct ds_slice *)(const void *)((const char *)r->params + r->trial[i].offset);
        if (at->buffer == slice->buffer && at->offset == slice->offset) most = DS_MAX(most, r->trial[i].bytes);
    }
    return most;
}

bool ds_vk_bindings_fit(const struct ds_vk_recorder *r) {
    for (uint32_t i = 0; i < r->n_bindings; i++) {
        const struct ds_vk_binding *b = &r->bindings[i];
        const uint64_t step = DS_MAX(b->steps.x, b->steps.y), bytes = b->bytes ? b->bytes : step ? step : bytes_on_trial(r, &b->slice);
        if (b->slice.buffer && !ds_vk_in_range(r->device, bytes)) return false;
    }
    return true;
}

bool ds_vk_operands_fit(const struct ds_vk_device *device, ds_op op, const union ds_op_params *params) {
    struct ds_operand operands[DS_MAX_OPERANDS];
    struct ds_error ignored;
    if (device->features.variant & DS_VK_ADDRESS) return true;
    struct ds_vk_recorder trial = {.device = (struct ds_vk_device *)(uintptr_t)device, .trial = operands, .params = params};
    trial.n_trial = ds_op_operands(op, params, operands);
    return ds_vk_ops[op].record(&trial, params, &ignored) == DS_OK;
}

struct ds_vk_steps ds_vk_groups_at_once(const struct ds_vk_recorder *r, const uint32_t groups[3]) {
    struct ds_vk_steps most = {groups[0], groups[1]};
    if (r->device->features.variant & DS_VK_ADDRESS) return most;
    for (uint32_t i = 0; i < r->n_bindings; i++) {
        const struct ds_vk_steps step = r->bindings[i].steps;
        if (step.x) most.x = DS_MIN(most.x, ds_vk_items_at_once(r->device, step.x, groups[0]));
        if (step.y) most.y = DS_MIN(most.y, ds_vk_items_at_once(r->device, step.y, groups[1]));
    }
    return most;
}

/* What the part of the grid touches of an operand, as its first byte; *bytes 0: to the end of the buffer. */
static uint64_t touched(const struct ds_vk_binding *b, const struct ds_vk_grid_part *part, uint64_t *bytes) {
    const uint32_t along = b->steps.x ? 0 : 1;
    const uint64_t step = b->steps.x ? b->steps.x : b->steps.y;
    *bytes = step ? part->count[along] * step : b->bytes;
    return step ? part->first[along] * step : b->first;
}

/* The descriptor; `at` becomes what the shader finds its operand by (shaders/common.glsl). */
static VkDescriptorBufferInfo describe(const struct ds_vk_device *device, const struct ds_vk_binding *b, const struct ds_vk_grid_part *part, uint32_t at[2]) {
    uint64_t bytes;
    const uint64_t wanted = touched(b, part, &bytes), first = wanted / DS_ALIGN * DS_ALIGN, place = b->slice.offset + first;
    const uint64_t start = place / device->features.align * device->features.align;
    const uint64_t end = DS_ALIGN_UP(DS_MAX(b->slice.buffer->bytes, 1), (uint64_t)DS_ALIGN);
    const uint64_t last = bytes ? DS_MIN(DS_ALIGN_UP(b->slice.offset + wanted + bytes, (uint64_t)DS_ALIGN), end) : end;
    at[0] = (uint32_t)(place - start);
    at[1] = (uint32_t)(first / 4);
    return (VkDescriptorBufferInfo){ds_vk_buffer_of(&b->slice)->memory.buffer, start, DS_MIN(last - start, device->features.max_range)};
}

VkResult ds_vk_bind(struct ds_vk_recorder *r, const struct ds_vk_grid_part *part, uint32_t *args) {
    struct ds_vk_device *device = r->device;
    if (r->sets->left == 0) {
        const VkResult result = add_pool(device, r->sets);
        if (result != VK_SUCCESS) return result;
    }
    VkDescriptorSet set;
    const VkDescriptorSetAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                              .descriptorPool = r->sets->pools[r->sets->n_pools - 1], .descriptorSetCount = 1,
                                              .pSetLayouts = &device->set_layout};
    const VkResult result = DS_VK_CALL(device, device->api.AllocateDescriptorSets(device->handle, &info, &set));
    if (result != VK_SUCCESS) return result;
    r->sets->left--;
    VkDescriptorBufferInfo buffers[DS_VK_BINDINGS];
    VkWriteDescriptorSet writes[DS_VK_BINDINGS];
    uint32_t any = 0;
    while (!r->bindings[any].slice.buffer) any++;
    for (uint32_t i = 0; i < DS_VK_BINDINGS; i++) { /* what is absent shows one that is there, which the shader does not look at */
        const bool present = i < r->n_bindings && r->bindings[i].slice.buffer;
        uint32_t unused[2];
        buffers[i] = describe(device, &r->bindings[present ? i : any], part, present ? &args[2 * i] : unused);
        writes[i] = (VkWriteDescriptorSet){.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET, .dstSet = set, .dstBinding = i, .descriptorCount = 1,
                                           .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, .pBufferInfo = &buffers[i]};
    }
    device->api.UpdateDescriptorSets(device->handle, DS_VK_BINDINGS, writes, 0, NULL);
    device->counts.descriptor_updates++;
    device->api.CmdBindDescriptorSets(r->commands, VK_PIPELINE_BIND_POINT_COMPUTE, device->layout, 0, 1, &set, 0, NULL);
    return VK_SUCCESS;
}

/* --- what ops ask for --- */

static uint64_t bind(struct ds_vk_recorder *r, uint32_t binding, struct ds_vk_binding b) {
    assert(binding < DS_VK_BINDINGS);
    while (r->n_bindings <= binding) r->bindings[r->n_bindings++] = (struct ds_vk_binding){.first = 0};
    r->bindings[binding] = b;
    if (!b.slice.buffer) return DS_VK_ABSENT;
    if (r->device->features.variant & DS_VK_ADDRESS) return ds_vk_buffer_of(&b.slice)->memory.address + b.slice.offset;
    return 0; /* ds_vk_bind knows */
}

uint64_t ds_vk_at(struct ds_vk_recorder *r, uint32_t binding, struct ds_slice slice) { return bind(r, binding, (struct ds_vk_binding){.slice = slice}); }

uint64_t ds_vk_stepped(struct ds_vk_recorder *r, uint32_t binding, struct ds_slice slice, struct ds_vk_steps steps) {
    return bind(r, binding, (struct ds_vk_binding){.slice = slice, .steps = steps});
}

uint64_t ds_vk_rows(struct ds_vk_recorder *r, uint32_t binding, const struct ds_view *view) {
    return ds_vk_stepped(r, binding, view->at, (struct ds_vk_steps){.y = view->at.buffer ? ds_view_pitch(view) : 0});
}

uint64_t ds_vk_part(struct ds_vk_recorder *r, uint32_t binding, struct ds_slice slice, uint64_t first, uint64_t bytes) {
    return bind(r, binding, (struct ds_vk_binding){.slice = slice, .first = first, .bytes = bytes});
}
