/*
 * The front of every backend: what an op touches, and whether its parameters make sense.
 *
 * Of each op list_NAME says which operands it has and how far each reaches. Bounds, alignment, devices and overlaps follow
 * from the list and are checked in one place; what the shapes must be is said in shapes.c.
 */
#include "ops/ops.h"

#include "ops/device.h"
#include "ops/shapes.h"

#include <assert.h>
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

/* --- extents --- */

static uint64_t elem_bytes(ds_elem elem) {
    return elem == DS_ELEM_BF16 ? 2 : 4;
}

/* a * b, or the largest number when that does not fit: such an operand fits into no buffer. */
static uint64_t saturating_mul(uint64_t a, uint64_t b) {
    uint64_t product;
    return ds_mul_u64(a, b, &product) ? product : UINT64_MAX;
}

/* Bytes of a row that are touched, and bytes from one row to the next. */
static uint64_t view_row_bytes(const struct ds_view *view) {
    if (!ds_elem_is_q8(view->elem)) return view->cols * elem_bytes(view->elem);
    return view->cols <= DS_MAX_EXTENT ? ds_view_pitch(view) : UINT64_MAX;
}
static uint64_t view_pitch(const struct ds_view *view) {
    return ds_elem_is_q8(view->elem) ? view_row_bytes(view) : ds_view_pitch(view);
}

uint64_t ds_view_bytes(const struct ds_view *view) {
    if (view->rows == 0) return 0;
    const uint64_t before_last = saturating_mul(view->rows - 1, view_pitch(view)), last = view_row_bytes(view);
    return before_last > UINT64_MAX - last ? UINT64_MAX : before_last + last;
}

/* --- the operands of each op --- */

struct operand {
    const char *name;
    const struct ds_slice *slice;
    ds_access access;
    uint32_t alignment; /* of the offset, bytes */
    bool in_place;      /* an input that may be the very same view as an output */
    uint64_t rows;      /* `row_bytes` touched in each, `pitch` bytes apart */
    uint64_t row_bytes, pitch;
    uint64_t bytes;
};

struct operands {
    uint32_t count;
    struct operand list[DS_MAX_OPERANDS];
};

static void add(struct operands *all, struct operand operand) {
    if (!operand.slice->buffer) return;
    assert(all->count < DS_MAX_OPERANDS);
    all->list[all->count++] = operand;
}

static void add_view(struct operands *all, const char *name, const struct ds_view *view, ds_access access, bool in_place) {
    add(all, (struct operand){.name = name,
                              .slice = &view->at,
                              .access = access,
                              .in_place = in_place,
                              .rows = view->rows,
                              .alignment = ds_elem_is_q8(view->elem) ? DS_ALIGN : (uint32_t)elem_bytes(view->elem),
                              .row_bytes = view_row_bytes(view),
                              .pitch = view_pitch(view),
                              .bytes = ds_view_bytes(view)});
}

static void add_aligned(struct operands *all, const char *name, const struct ds_slice *slice, ds_access access, uint64_t bytes,
                        uint32_t alignment) {
    add(all, (struct operand){.name = name,
                              .slice = slice,
                              .access = access,
                              .alignment = alignment,
                              .rows = 1,
                              .row_bytes = bytes,
                              .pitch = bytes,
                              .bytes = bytes});
}

/* `a` x `b` words of four bytes. */
static void add_words(struct operands *all, const char *name, const struct ds_slice *slice, ds_access access, uint64_t a,
                      uint64_t b) {
    add_aligned(all, name, slice, access, saturating_mul(saturating_mul(a, b), 4), 4);
}

static void add_count(struct operands *all, const struct ds_slice *count) {
    add_words(all, "count", count, DS_READ, 1, 1);
}

static void add_flags(struct operands *all, const struct ds_slice *flags, uint32_t rows) {
    add_words(all, "flags", flags, DS_READ_WRITE, rows, 1); /* bits are only ever set: what was there stays */
}

uint64_t ds_weight_bytes(const struct ds_weight *weight) {
    const struct ds_device *device = weight->at.buffer ? weight->at.buffer->device : NULL;
    if (device) return device->fns->weight_bytes(device, weight->type, weight->rows, weight->cols);
    uint64_t bytes;
    return ds_type_size(weight->type, weight->rows, weight->cols, &bytes) ? bytes : 0;
}

static void add_weight(struct operands *all, const char *name, const struct ds_weight *weight) {
    add_aligned(all, name, &weight->at, DS_READ, ds_weight_bytes(weight), DS_ALIGN);
}

static void add_kv(struct operands *all, const struct ds_kv *kv, ds_access access) {
    const uint64_t page = saturating_mul(saturating_mul(kv->kv_heads, kv->head_dim), DS_PAGE * (kv->f16 ? 2 : 4));
    const uint64_t bytes = saturating_mul(page, kv->pages);
    add_aligned(all, "kv.k", &kv->k, access, bytes, DS_ALIGN);
    add_aligned(all, "kv.v", &kv->v, access, bytes, DS_ALIGN);
}

static void add_paging(struct operands *all, const struct ds_paging *paging, uint32_t rows) {
    add_words(all, "paging.page_table", &paging->page_table, DS_READ, paging->sequences, paging->pages_per_sequence);
    add_words(all, "paging.row_sequence", &paging->row_sequence, DS_READ, rows, 1);
    add_words(all, "paging.positions", &paging->positions, DS_READ, rows, 1);
}

static void list_embed(const struct ds_op_embed *p, struct operands *all) {
    add_weight(all, "table", &p->table);
    add_words(all, "ids", &p->ids, DS_READ, p->out.rows, 1);
    add_view(all, "out", &p->out, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_rms_norm(const struct ds_op_rms_norm *p, struct operands *all) {
    add_view(all, "x", &p->x, DS_READ, true);
    add_words(all, "weight", &p->weight, DS_READ, p->dim, 1);
    add_view(all, "residual", &p->residual, DS_READ, true);
    add_view(all, "out", &p->out, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_quantize(const struct ds_op_quantize *p, struct operands *all) {
    add_view(all, "x", &p->x, DS_READ, false);
    add_view(all, "out", &p->out, DS_WRITE, false);
    add_flags(all, &p->flags, p->x.rows);
    add_count(all, &p->count);
}

static void list_linear(const struct ds_op_linear *p, struct operands *all) {
    add_weight(all, "weight", &p->weight);
    add_view(all, "x", &p->x, DS_READ, false);
    add_words(all, "bias", &p->bias, DS_READ, p->weight.rows, 1);
    add_view(all, "residual", &p->residual, DS_READ, true);
    add_view(all, "y", &p->y, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_rope(const struct ds_op_rope *p, struct operands *all) {
    add_view(all, "x", &p->x, DS_READ_WRITE, false);
    add_words(all, "cos", &p->cos, DS_READ, p->table_positions, p->n_rot / 2);
    add_words(all, "sin", &p->sin, DS_READ, p->table_positions, p->n_rot / 2);
    add_words(all, "positions", &p->positions, DS_READ, p->x.rows, 1);
    add_count(all, &p->count);
}

static void list_kv_store(const struct ds_op_kv_store *p, struct operands *all) {
    add_view(all, "k", &p->k, DS_READ, false);
    add_view(all, "v", &p->v, DS_READ, false);
    add_kv(all, &p->kv, DS_READ_WRITE); /* other positions keep what they hold */
    add_paging(all, &p->paging, p->k.rows);
    add_count(all, &p->count);
}

static void list_attention(const struct ds_op_attention *p, struct operands *all) {
    add_view(all, "q", &p->q, DS_READ, false);
    add_kv(all, &p->kv, DS_READ);
    add_paging(all, &p->paging, p->q.rows);
    add_words(all, "visible", &p->visible, DS_READ, p->q.rows, 1);
    add_view(all, "out", &p->out, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_glu(const struct ds_op_glu *p, struct operands *all) {
    add_view(all, "gate", &p->gate, DS_READ, true);
    add_view(all, "up", &p->up, DS_READ, true);
    add_view(all, "out", &p->out, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_copy(const struct ds_op_copy *p, struct operands *all) {
    add_view(all, "x", &p->x, DS_READ, false);
    add_words(all, "index", &p->index, DS_READ, p->out.rows, 1);
    add_view(all, "out", &p->out, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_sample(const struct ds_op_sample *p, struct operands *all) {
    add_view(all, "logits", &p->logits, DS_READ, false);
    add_words(all, "rows", &p->rows, DS_READ, p->logits.rows, sizeof(struct ds_sample_row) / 4);
    add_words(all, "bias", &p->bias, DS_READ, p->bias_rows, p->logits.cols);
    add_words(all, "tokens", &p->tokens, DS_WRITE, p->logits.rows, 1);
    add_flags(all, &p->flags, p->logits.rows);
    add_count(all, &p->count);
}

static void list_scale(const struct ds_op_scale *p, struct operands *all) {
    add_view(all, "x", &p->x, DS_READ, true);
    add_view(all, "out", &p->out, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_rnn_cell(const struct ds_op_rnn_cell *p, struct operands *all) {
    add_view(all, "gates", &p->gates, DS_READ, false);
    add_view(all, "state", &p->state, DS_READ, true);
    add_view(all, "next", &p->next, DS_WRITE, false);
    add_view(all, "out", &p->out, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_route(const struct ds_op_route *p, struct operands *all) {
    add_view(all, "logits", &p->logits, DS_READ, false);
    add_words(all, "scale", &p->scale, DS_READ, p->logits.cols, 1);
    add_view(all, "ids", &p->ids, DS_WRITE, false);
    add_view(all, "weights", &p->weights, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_expert_linear(const struct ds_op_expert_linear *p, struct operands *all) {
    add_weight(all, "weight", &p->weight);
    add_view(all, "x", &p->x, DS_READ, false);
    add_view(all, "ids", &p->ids, DS_READ, false);
    add_view(all, "y", &p->y, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_expert_sum(const struct ds_op_expert_sum *p, struct operands *all) {
    add_view(all, "x", &p->x, DS_READ, false);
    add_view(all, "weights", &p->weights, DS_READ, false);
    add_view(all, "residual", &p->residual, DS_READ, true);
    add_view(all, "y", &p->y, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_scatter(const struct ds_op_scatter *p, struct operands *all) {
    add_view(all, "x", &p->x, DS_READ, false);
    add_words(all, "ids", &p->ids, DS_READ, p->x.cols, 1);
    add_view(all, "out", &p->out, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_adjust(const struct ds_op_adjust *p, struct operands *all) {
    add_view(all, "x", &p->x, DS_READ, true);
    add_words(all, "rows", &p->rows, DS_READ, p->x.rows, sizeof(struct ds_adjust_row) / 4);
    add_view(all, "history", &p->history, DS_READ, false);
    add_words(all, "drafted", &p->drafted, DS_READ, p->n_drafted, 1);
    add_view(all, "bias_ids", &p->bias_ids, DS_READ, false);
    add_view(all, "bias_values", &p->bias_values, DS_READ, false);
    add_view(all, "out", &p->out, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_reject(const struct ds_op_reject *p, struct operands *all) {
    add_view(all, "logits", &p->logits, DS_READ, false);
    add_words(all, "rows", &p->rows, DS_READ, p->logits.rows, sizeof(struct ds_sample_row) / 4);
    add_view(all, "drafted", &p->drafted, DS_READ, false);
    add_words(all, "bias", &p->bias, DS_READ, p->bias_rows, p->logits.cols);
    add_words(all, "tokens", &p->tokens, DS_READ_WRITE, p->logits.rows, 1);
    add_flags(all, &p->flags, p->logits.rows);
    add_count(all, &p->count);
}

static void list_norm_quantize(const struct ds_op_norm_quantize *p, struct operands *all) {
    add_view(all, "x", &p->x, DS_READ, false);
    add_words(all, "weight", &p->weight, DS_READ, p->x.cols, 1);
    add_view(all, "normed", &p->normed, DS_WRITE, false);
    add_view(all, "out", &p->out, DS_WRITE, false);
    add_flags(all, &p->flags, p->x.rows);
    add_count(all, &p->count);
}

static void list_glu_quantize(const struct ds_op_glu_quantize *p, struct operands *all) {
    add_view(all, "gate", &p->gate, DS_READ, true);
    add_view(all, "up", &p->up, DS_READ, true);
    add_view(all, "gated", &p->gated, DS_WRITE, false);
    add_view(all, "out", &p->out, DS_WRITE, false);
    add_flags(all, &p->flags, p->gate.rows);
    add_count(all, &p->count);
}

static void list_heads(const struct ds_op_heads *p, struct operands *all) {
    add_view(all, "q", &p->q, DS_READ_WRITE, false);
    add_view(all, "k", &p->k, DS_READ_WRITE, false);
    add_view(all, "v", &p->v, DS_READ, false);
    add_words(all, "q_norm", &p->q_norm, DS_READ, p->kv.head_dim, 1);
    add_words(all, "k_norm", &p->k_norm, DS_READ, p->kv.head_dim, 1);
    add_words(all, "cos", &p->cos, DS_READ, p->table_positions, p->n_rot / 2);
    add_words(all, "sin", &p->sin, DS_READ, p->table_positions, p->n_rot / 2);
    add_kv(all, &p->kv, DS_READ_WRITE);
    add_paging(all, &p->paging, p->k.rows);
    add_count(all, &p->count);
}

static void list_top_linear(const struct ds_op_top_linear *p, struct operands *all) {
    add_weight(all, "weight", &p->weight);
    add_view(all, "x", &p->x, DS_READ, false);
    add_view(all, "residual", &p->residual, DS_READ, false);
    add_view(all, "y", &p->y, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_operands(ds_op op, const union ds_op_params *params, struct operands *all) {
    all->count = 0;
    switch (op) {
#define DS_OP(name, text)                                                                                                      \
    case DS_OP_##name:                                                                                                         \
        list_##name(&params->name, all);                                                                                       \
        break;
#include "ops/ops.def"
#undef DS_OP
    case DS_OP_COUNT:
        break;
    }
}

uint32_t ds_op_operands(ds_op op, const union ds_op_params *params, struct ds_operand out[DS_MAX_OPERANDS]) {
    struct operands all;
    list_operands(op, params, &all);
    for (uint32_t i = 0; i < all.count; i++) {
        const struct operand *operand = &all.list[i];
        out[i] = (struct ds_operand){.name = operand->name,
                                     .access = operand->access,
                                     .bytes = operand->bytes,
                                     .offset = (size_t)((const char *)operand->slice - (const char *)params)};
    }
    return all.count;
}

/* --- what holds for all operands --- */

static ds_status check_place(ds_op op, const struct operand *operand, struct ds_error *err) {
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

static bool same_view(const struct operand *a, const struct operand *b) {
    return a->slice->offset == b->slice->offset && a->rows == b->rows && a->row_bytes == b->row_bytes &&
           (a->pitch == b->pitch || a->rows == 1);
}

/*
 * Whether two operands share a byte. Views of one matrix's column blocks interleave: with a common pitch, rows of one lie
 * between rows of the other where their columns, modulo the pitch, are disjoint. Other interleavings count as overlaps.
 */
static bool overlap(const struct operand *a, const struct operand *b) {
    if (a->slice->buffer != b->slice->buffer) return false;
    const uint64_t a_at = a->slice->offset, b_at = b->slice->offset;
    if (a_at + a->bytes <= b_at || b_at + b->bytes <= a_at) return false;
    const uint64_t pitch = a->rows > 1 ? a->pitch : b->pitch; /* a single row has no pitch of its own */
    if (a->rows > 1 && b->rows > 1 && a->pitch != b->pitch) return true;
    if (a->row_bytes > pitch || b->row_bytes > pitch) return true;
    const uint64_t ahead = (b_at % pitch + pitch - a_at % pitch) % pitch; /* from a's columns on to b's, cyclically */
    return ahead < a->row_bytes || ahead + b->row_bytes > pitch;
}

static ds_status check_pair(ds_op op, const struct operand *a, const struct operand *b, struct ds_error *err) {
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
    struct operands all;
    list_operands(op, params, &all);
    for (uint32_t i = 0; i < all.count; i++) DS_TRY(check_place(op, &all.list[i], err));
    for (uint32_t i = 0; i < all.count; i++)
        for (uint32_t k = 0; k < i; k++) DS_TRY(check_pair(op, &all.list[k], &all.list[i], err));
    return DS_OK;
}
