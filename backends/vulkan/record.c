/* What goes into command buffers: barriers, arguments, dispatches. */
#include "device.h"

#include <assert.h>
#include <string.h>

/* --- barriers --- */

static void memory_barrier(struct ds_vk_recorder *r, VkPipelineStageFlags to, VkAccessFlags access) {
    const VkMemoryBarrier barrier = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                                     .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT, .dstAccessMask = access};
    r->device->api.CmdPipelineBarrier(r->commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT, to, 0, 1, &barrier, 0, NULL, 0,
                                      NULL);
}

void ds_vk_barrier(struct ds_vk_recorder *r) {
    memory_barrier(r, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
                   VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT);
    r->n_ranges = 0;
    r->device->counts.barriers++;
}

void ds_vk_record_begin(struct ds_vk_recorder *r) {
    r->bound = VK_NULL_HANDLE;
    r->n_bindings = 0;
    ds_vk_barrier(r);
}

void ds_vk_record_end(struct ds_vk_recorder *r) { memory_barrier(r, VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT); }

static bool meets_another(const struct ds_vk_recorder *r, const struct ds_vk_range *range) {
    for (uint32_t i = 0; i < r->n_ranges; i++) {
        const struct ds_vk_range *other = &r->ranges[i];
        if (other->buffer == range->buffer && (other->write || range->write) && other->first < range->end && range->first < other->end) return true;
    }
    return false;
}

/* They do not meet each other, except as one op itself wants it, so all are tried before any is remembered. */
static void touch_all(struct ds_vk_recorder *r, const struct ds_vk_range *ranges, uint32_t n) {
    bool meet = r->n_ranges + n > DS_VK_RANGES;
    for (uint32_t i = 0; i < n && !meet; i++) meet = meets_another(r, &ranges[i]);
    if (meet) ds_vk_barrier(r);
    memcpy(r->ranges + r->n_ranges, ranges, n * sizeof *ranges);
    r->n_ranges += n;
}

void ds_vk_touch(struct ds_vk_recorder *r, const struct ds_slice *slice, uint64_t bytes, bool write) {
    const struct ds_vk_range range = {slice->buffer, slice->offset, slice->offset + bytes, write};
    if (slice->buffer && bytes) touch_all(r, &range, 1);
}

/* Operands and scratch at once: a barrier in between would forget the ones that were remembered. */
static void touch_op(struct ds_vk_recorder *r, ds_op op, const union ds_op_params *params) {
    struct ds_operand operands[DS_MAX_OPERANDS];
    struct ds_vk_range ranges[DS_MAX_OPERANDS + 1];
    uint32_t n = ds_op_operands(op, params, operands);
    for (uint32_t k = 0; k < n; k++) {
        const struct ds_slice *slice = (const struct ds_slice *)(const void *)((const char *)params + operands[k].offset);
        ranges[k] = (struct ds_vk_range){slice->buffer, slice->offset, slice->offset + operands[k].bytes, (operands[k].access & DS_WRITE) != 0};
    }
    const uint64_t scratch = ds_vk_ops[op].scratch ? ds_vk_ops[op].scratch(r->device, params) : 0;
    if (scratch) ranges[n++] = (struct ds_vk_range){r->scratch.buffer, r->scratch.offset, r->scratch.offset + scratch, true};
    touch_all(r, ranges, n);
}

ds_status ds_vk_record_op(struct ds_vk_recorder *r, ds_op op, const union ds_op_params *params, struct ds_error *err) {
    assert(ds_vk_ops[op].record);
    touch_op(r, op, params);
    return ds_vk_ops[op].record(r, params, err);
}

/* --- descriptors --- */

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

static VkResult bind_operands(struct ds_vk_recorder *r) {
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
    while (!r->bindings[any].buffer) any++;
    for (uint32_t i = 0; i < DS_VK_BINDINGS; i++) { /* what is absent shows one that is there, which the shader does not look at */
        const bool present = i < r->n_bindings && r->bindings[i].buffer;
        const struct ds_slice slice = r->bindings[present ? i : any];
        const uint64_t first = slice.offset / device->features.align * device->features.align;
        const uint64_t bytes = DS_ALIGN_UP(DS_MAX(slice.buffer->bytes, 1), (uint64_t)DS_ALIGN) - first;
        buffers[i] = (VkDescriptorBufferInfo){ds_vk_buffer_of(&slice)->memory.buffer, first, DS_MIN(bytes, device->features.max_range)};
        writes[i] = (VkWriteDescriptorSet){.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET, .dstSet = set, .dstBinding = i, .descriptorCount = 1,
                                           .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, .pBufferInfo = &buffers[i]};
    }
    device->api.UpdateDescriptorSets(device->handle, DS_VK_BINDINGS, writes, 0, NULL);
    device->counts.descriptor_updates++;
    device->api.CmdBindDescriptorSets(r->commands, VK_PIPELINE_BIND_POINT_COMPUTE, device->layout, 0, 1, &set, 0, NULL);
    return VK_SUCCESS;
}

uint64_t ds_vk_at(struct ds_vk_recorder *r, uint32_t binding, struct ds_slice slice) {
    assert(binding < DS_VK_BINDINGS);
    while (r->n_bindings <= binding) r->bindings[r->n_bindings++] = (struct ds_slice){0};
    r->bindings[binding] = slice;
    if (!slice.buffer) return DS_VK_ABSENT;
    if (r->device->features.variant & DS_VK_ADDRESS) return ds_vk_buffer_of(&slice)->memory.address + slice.offset;
    return slice.offset % r->device->features.align;
}

/* --- dispatches --- */

ds_status ds_vk_dispatch(struct ds_vk_recorder *r, const struct ds_vk_dispatch *dispatch, struct ds_error *err) {
    struct ds_vk_device *device = r->device;
    assert(dispatch->bytes <= DS_VK_PUSH_BYTES && dispatch->bytes % 4 == 0);
    VkPipeline pipeline;
    VkResult result = VK_SUCCESS;
    DS_TRY(ds_vk_pipeline_get(device, dispatch->code, dispatch->constants, &pipeline, err));
    if (dispatch->groups[0] && dispatch->groups[1] && dispatch->groups[2]) {
        if (pipeline != r->bound) device->api.CmdBindPipeline(r->commands, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
        r->bound = pipeline;
        if (!(device->features.variant & DS_VK_ADDRESS)) result = bind_operands(r);
        r->n_bindings = 0;
        if (result != VK_SUCCESS) return ds_vk_fail(device, result, dispatch->code->name, 0, err);
        device->api.CmdPushConstants(r->commands, device->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, dispatch->bytes, dispatch->args);
        device->api.CmdDispatch(r->commands, dispatch->groups[0], dispatch->groups[1], dispatch->groups[2]);
        device->counts.dispatches++;
    }
    r->n_bindings = 0;
    return DS_OK;
}
