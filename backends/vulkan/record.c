/* What goes into command buffers: barriers and dispatches. */
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
    if (r->trial) return;
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

/* What an op touches: its operands, and scratch. Returns how many. */
static uint32_t ranges_of(const struct ds_vk_recorder *r, ds_op op, const union ds_op_params *params, struct ds_vk_range ranges[DS_MAX_OPERANDS + 1]) {
    struct ds_operand operands[DS_MAX_OPERANDS];
    uint32_t n = ds_op_operands(op, params, operands);
    for (uint32_t k = 0; k < n; k++) {
        const struct ds_slice *slice = (const struct ds_slice *)(const void *)((const char *)params + operands[k].offset);
        ranges[k] = (struct ds_vk_range){slice->buffer, slice->offset, slice->offset + operands[k].bytes, (operands[k].access & DS_WRITE) != 0};
    }
    const uint64_t scratch = ds_vk_ops[op].scratch ? ds_vk_ops[op].scratch(r->device, params) : 0;
    if (scratch) ranges[n++] = (struct ds_vk_range){r->scratch.buffer, r->scratch.offset, r->scratch.offset + scratch, true};
    return n;
}

ds_status ds_vk_record_op(struct ds_vk_recorder *r, ds_op op, const union ds_op_params *params, struct ds_error *err) {
    struct ds_vk_range ranges[DS_MAX_OPERANDS + 1];
    assert(ds_vk_ops[op].record);
    const uint32_t n = ranges_of(r, op, params, ranges);
    touch_all(r, ranges, n); /* at once: a barrier in between would forget the ones that were remembered */
    DS_TRY(ds_vk_ops[op].record(r, params, err));
    if (r->n_ranges == 0) touch_all(r, ranges, n); /* a barrier within the op has forgotten them; dispatches behind it touched them, too */
    return DS_OK;
}

/* --- dispatches --- */

/* What `part` of the grid touches, and its workgroups. */
static ds_status dispatch_part(struct ds_vk_recorder *r, const struct ds_vk_dispatch *dispatch, const struct ds_vk_grid_part *part, struct ds_error *err) {
    struct ds_vk_device *device = r->device;
    uint32_t args[DS_VK_PUSH_BYTES / 4];
    memcpy(args, dispatch->args, dispatch->bytes);
    if (!(device->features.variant & DS_VK_ADDRESS)) {
        const VkResult result = ds_vk_bind(r, part, args);
        if (result != VK_SUCCESS) return ds_vk_fail(device, result, dispatch->code->name, 0, err);
    }
    device->api.CmdPushConstants(r->commands, device->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, dispatch->bytes, args);
    if (part->first[0] || part->first[1])
        device->api.CmdDispatchBase(r->commands, part->first[0], part->first[1], 0, part->count[0], part->count[1], dispatch->groups[2]);
    else
        device->api.CmdDispatch(r->commands, part->count[0], part->count[1], dispatch->groups[2]);
    device->counts.dispatches++;
    return DS_OK;
}

static ds_status record(struct ds_vk_recorder *r, const struct ds_vk_dispatch *dispatch, struct ds_error *err) {
    const uint32_t x = dispatch->groups[0], y = dispatch->groups[1];
    const struct ds_vk_steps most = ds_vk_groups_at_once(r, dispatch->groups);
    struct ds_vk_grid_part part = {{0, 0}, {0, 0}};
    bool first = true;
    for (part.first[1] = 0; part.first[1] < y; part.first[1] += part.count[1]) {
        part.count[1] = (uint32_t)DS_MIN(most.y, y - part.first[1]);
        for (part.first[0] = 0; part.first[0] < x; part.first[0] += part.count[0]) {
            part.count[0] = (uint32_t)DS_MIN(most.x, x - part.first[0]);
            if (!first) ds_vk_barrier(r); /* their descriptors overlap, which the validation layer takes for what they write */
            DS_TRY(dispatch_part(r, dispatch, &part, err));
            first = false;
        }
    }
    return DS_OK;
}

ds_status ds_vk_dispatch(struct ds_vk_recorder *r, const struct ds_vk_dispatch *dispatch, struct ds_error *err) {
    struct ds_vk_device *device = r->device;
    assert(dispatch->bytes <= DS_VK_PUSH_BYTES && dispatch->bytes % 4 == 0);
    const bool any = dispatch->groups[0] && dispatch->groups[1] && dispatch->groups[2];
    VkPipeline pipeline;
    ds_status status = DS_OK;
    if (r->trial) {
        status = !any || ds_vk_bindings_fit(r) ? DS_OK : ds_fail(err, DS_ERROR_UNSUPPORTED, "an operand of %s is larger than a descriptor shows", dispatch->code->name);
    } else {
        DS_TRY(ds_vk_pipeline_get(device, dispatch->code, dispatch->constants, &pipeline, err));
        if (any && pipeline != r->bound) device->api.CmdBindPipeline(r->commands, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
        if (any) r->bound = pipeline;
        if (any) status = record(r, dispatch, err);
    }
    r->n_bindings = 0;
    return status;
}
