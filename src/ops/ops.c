/*
 * The front of every backend: whether an op's parameters make sense. What the shapes must be is said in shapes.c, what the op
 * touches in extents.c; bounds, alignment, devices and overlaps follow from that and are checked here.
 */
#include "ops/ops.h"

#include "ops/extents.h"
#include "ops/shapes.h"

#include <inttypes.h>

const char *ds_op_name(ds_op op) {
    static const char *const names[] = {
#define DS_OP(name, text) [DS_OP_##name] = #name,
#include "ops/ops.def"
#undef DS_OP
    };
    return (size_t)op < DS_COUNT(names) ? names[op] : "unknown op";
}

ds_elem ds_linear_input(ds_type weight_type) {
    switch (weight_type) {
    case DS_TYPE_F32:
    case DS_TYPE_F16:
        return DS_ELEM_F32;
    case DS_TYPE_BF16:
        return DS_ELEM_BF16;
    case DS_TYPE_Q8_0:
        return DS_ELEM_Q8_32;
    default:
        return DS_ELEM_Q8;
    }
}

/* --- what holds for all operands --- */

static ds_status check_place(ds_op op, const struct ds_extent *operand, struct ds_error *err) {
    const struct ds_slice *at = operand->slice;
    if (at->offset % operand->alignment != 0)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s: %s lies at byte %" PRIu64 ", not a multiple of %u", ds_op_name(op),
                       operand->name, at->offset, operand->alignment);
    if (!at->buffer->device && at->buffer->bytes == 0) return DS_OK; /* planned, its size not yet known */
    if (at->offset > at->buffer->bytes || operand->bytes > at->buffer->bytes - at->offset)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s: %s needs %" PRIu64 " bytes from byte %" PRIu64 " of a buffer of %" PRIu64,
                       ds_op_name(op), operand->name, operand->bytes, at->offset, at->buffer->bytes);
    return DS_OK;
}

static bool same_view(const struct ds_extent *a, const struct ds_extent *b) {
    return a->slice->offset == b->slice->offset && a->rows == b->rows && a->row_bytes == b->row_bytes &&
           (a->pitch == b->pitch || a->rows == 1);
}

/*
 * Whether two operands share a byte. Views of one matrix's column blocks interleave: with a common pitch, rows of one lie
 * between rows of the other where their columns, modulo the pitch, are disjoint. Other interleavings count as overlaps.
 */
static bool overlap(const struct ds_extent *a, const struct ds_extent *b) {
    if (a->slice->buffer != b->slice->buffer) return false;
    const uint64_t a_at = a->slice->offset, b_at = b->slice->offset;
    if (a_at + a->bytes <= b_at || b_at + b->bytes <= a_at) return false;
    const uint64_t pitch = a->rows > 1 ? a->pitch : b->pitch; /* a single row has no pitch of its own */
    if (a->rows > 1 && b->rows > 1 && a->pitch != b->pitch) return true;
    if (a->row_bytes > pitch || b->row_bytes > pitch) return true;
    const uint64_t ahead = (b_at % pitch + pitch - a_at % pitch) % pitch; /* from a's columns on to b's, cyclically */
    return ahead < a->row_bytes || ahead + b->row_bytes > pitch;
}

static ds_status check_pair(ds_op op, const struct ds_extent *a, const struct ds_extent *b, struct ds_error *err) {
    const struct ds_device *a_device = a->slice->buffer->device, *b_device = b->slice->buffer->device;
    if (a_device && b_device && a_device != b_device)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s: %s and %s lie on different devices", ds_op_name(op), a->name, b->name);
    if (!((a->access | b->access) & DS_WRITE) || !overlap(a, b)) return DS_OK;
    const bool in_place = (a->in_place && b->access == DS_WRITE) || (b->in_place && a->access == DS_WRITE);
    if (in_place && same_view(a, b)) return DS_OK;
    return ds_fail(err, DS_ERROR_ARGUMENT, "%s: %s and %s overlap%s", ds_op_name(op), a->name, b->name,
                   in_place ? " without being the very same view" : "");
}

ds_status ds_op_check(ds_op op, const union ds_op_params *params, struct ds_error *err) {
    DS_TRY(ds_op_check_shapes(op, params, err));
    struct ds_extents all;
    ds_op_extents(op, params, &all);
    for (uint32_t i = 0; i < all.count; i++) DS_TRY(check_place(op, &all.list[i], err));
    for (uint32_t i = 0; i < all.count; i++)
        for (uint32_t k = 0; k < i; k++) DS_TRY(check_pair(op, &all.list[k], &all.list[i], err));
    return DS_OK;
}
