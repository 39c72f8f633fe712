/*
 * What an op touches: of each op list_NAME says which operands it has and how far each reaches. All that checks places, plans
 * memory or measures traffic follows from these lists.
 */
#include "ops/extents.h"

#include "ops/device.h"
#include "ops/shapes.h"

#include <assert.h>

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

uint64_t ds_weight_bytes(const struct ds_weight *weight) {
    const struct ds_device *device = weight->at.buffer ? weight->at.buffer->device : NULL;
    if (device) return device->fns->weight_bytes(device, weight->type, weight->rows, weight->cols);
    uint64_t bytes;
    return ds_type_size(weight->type, weight->rows, weight->cols, &bytes) ? bytes : 0;
}

/* --- kinds of operands --- */

static void add(struct ds_extents *all, struct ds_extent operand) {
    if (!operand.slice->buffer) return;
    assert(all->count < DS_MAX_OPERANDS);
    all->list[all->count++] = operand;
}

static void add_view(struct ds_extents *all, const char *name, const struct ds_view *view, ds_access access, bool in_place) {
    add(all, (struct ds_extent){.name = name,
                                .slice = &view->at,
                                .access = access,
                                .in_place = in_place,
                                .rows = view->rows,
                                .alignment = ds_elem_is_q8(view->elem) ? DS_ALIGN : (uint32_t)elem_bytes(view->elem),
                                .row_bytes = view_row_bytes(view),
                                .pitch = view_pitch(view),
                                .bytes = ds_view_bytes(view)});
}

static void add_aligned(struct ds_extents *all, const char *name, const struct ds_slice *slice, ds_access access, uint64_t bytes,
                        uint32_t alignment) {
    add(all, (struct ds_extent){.name = name,
                                .slice = slice,
                                .access = access,
                                .alignment = alignment,
                                .rows = 1,
                                .row_bytes = bytes,
                                .pitch = bytes,
                                .bytes = bytes});
}

/* `a` x `b` words of four bytes. */
static void add_words(struct ds_extents *all, const char *name, const struct ds_slice *slice, ds_access access, uint64_t a,
                      uint64_t b) {
    add_aligned(all, name, slice, access, saturating_mul(saturating_mul(a, b), 4), 4);
}

static void add_count(struct ds_extents *all, const struct ds_slice *count) {
    add_words(all, "count", count, DS_READ, 1, 1);
}

static void add_flags(struct ds_extents *all, const struct ds_slice *flags, uint32_t rows) {
    add_words(all, "flags", flags, DS_READ_WRITE, rows, 1); /* bits are only ever set: what was there stays */
}

static void add_weight(struct ds_extents *all, const char *name, const struct ds_weight *weight) {
    add_aligned(all, name, &weight->at, DS_READ, ds_weight_bytes(weight), DS_ALIGN);
}

static void add_kv(struct ds_extents *all, const struct ds_kv *kv, ds_access access) {
    const uint64_t page = saturating_mul(saturating_mul(kv->kv_heads, kv->head_dim), DS_PAGE * (kv->f16 ? 2 : 4));
    const uint64_t bytes = saturating_mul(page, kv->pages);
    add_aligned(all, "kv.k", &kv->k, access, bytes, DS_ALIGN);
    add_aligned(all, "kv.v", &kv->v, access, bytes, DS_ALIGN);
}

static void add_paging(struct ds_extents *all, const struct ds_paging *paging, uint32_t rows) {
    add_words(all, "paging.page_table", &paging->page_table, DS_READ, paging->sequences, paging->pages_per_sequence);
    add_words(all, "paging.row_sequence", &paging->row_sequence, DS_READ, rows, 1);
    add_words(all, "paging.positions", &paging->positions, DS_READ, rows, 1);
}

/* --- the operands of each op --- */

static void list_embed(const struct ds_op_embed *p, struct ds_extents *all) {
    add_weight(all, "table", &p->table);
    add_words(all, "ids", &p->ids, DS_READ, p->out.rows, 1);
    add_view(all, "out", &p->out, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_rms_norm(const struct ds_op_rms_norm *p, struct ds_extents *all) {
    add_view(all, "x", &p->x, DS_READ, true);
    add_words(all, "weight", &p->weight, DS_READ, p->dim, 1);
    add_view(all, "residual", &p->residual, DS_READ, true);
    add_view(all, "out", &p->out, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_quantize(const struct ds_op_quantize *p, struct ds_extents *all) {
    add_view(all, "x", &p->x, DS_READ, false);
    add_view(all, "out", &p->out, DS_WRITE, false);
    add_flags(all, &p->flags, p->x.rows);
    add_count(all, &p->count);
}

static void list_linear(const struct ds_op_linear *p, struct ds_extents *all) {
    add_weight(all, "weight", &p->weight);
    add_view(all, "x", &p->x, DS_READ, false);
    add_words(all, "bias", &p->bias, DS_READ, p->weight.rows, 1);
    add_view(all, "residual", &p->residual, DS_READ, true);
    add_view(all, "y", &p->y, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_rope(const struct ds_op_rope *p, struct ds_extents *all) {
    add_view(all, "x", &p->x, DS_READ_WRITE, false);
    add_words(all, "cos", &p->cos, DS_READ, p->table_positions, p->n_rot / 2);
    add_words(all, "sin", &p->sin, DS_READ, p->table_positions, p->n_rot / 2);
    add_words(all, "positions", &p->positions, DS_READ, p->x.rows, 1);
    add_count(all, &p->count);
}

static void list_kv_store(const struct ds_op_kv_store *p, struct ds_extents *all) {
    add_view(all, "k", &p->k, DS_READ, false);
    add_view(all, "v", &p->v, DS_READ, false);
    add_kv(all, &p->kv, DS_READ_WRITE); /* other positions keep what they hold */
    add_paging(all, &p->paging, p->k.rows);
    add_count(all, &p->count);
}

static void list_attention(const struct ds_op_attention *p, struct ds_extents *all) {
    add_view(all, "q", &p->q, DS_READ, false);
    add_kv(all, &p->kv, DS_READ);
    add_paging(all, &p->paging, p->q.rows);
    add_words(all, "visible", &p->visible, DS_READ, p->q.rows, 1);
    add_view(all, "out", &p->out, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_glu(const struct ds_op_glu *p, struct ds_extents *all) {
    add_view(all, "gate", &p->gate, DS_READ, true);
    add_view(all, "up", &p->up, DS_READ, true);
    add_view(all, "out", &p->out, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_copy(const struct ds_op_copy *p, struct ds_extents *all) {
    add_view(all, "x", &p->x, DS_READ, false);
    add_words(all, "index", &p->index, DS_READ, p->out.rows, 1);
    add_view(all, "out", &p->out, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_sample(const struct ds_op_sample *p, struct ds_extents *all) {
    add_view(all, "logits", &p->logits, DS_READ, false);
    add_words(all, "rows", &p->rows, DS_READ, p->logits.rows, sizeof(struct ds_sample_row) / 4);
    add_words(all, "bias", &p->bias, DS_READ, p->bias_rows, p->logits.cols);
    add_words(all, "tokens", &p->tokens, DS_WRITE, p->logits.rows, 1);
    add_flags(all, &p->flags, p->logits.rows);
    add_count(all, &p->count);
}

static void list_scale(const struct ds_op_scale *p, struct ds_extents *all) {
    add_view(all, "x", &p->x, DS_READ, true);
    add_view(all, "out", &p->out, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_rnn_cell(const struct ds_op_rnn_cell *p, struct ds_extents *all) {
    add_view(all, "gates", &p->gates, DS_READ, false);
    add_view(all, "state", &p->state, DS_READ, true);
    add_view(all, "next", &p->next, DS_WRITE, false);
    add_view(all, "out", &p->out, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_route(const struct ds_op_route *p, struct ds_extents *all) {
    add_view(all, "logits", &p->logits, DS_READ, false);
    add_words(all, "scale", &p->scale, DS_READ, p->logits.cols, 1);
    add_view(all, "ids", &p->ids, DS_WRITE, false);
    add_view(all, "weights", &p->weights, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_expert_linear(const struct ds_op_expert_linear *p, struct ds_extents *all) {
    add_weight(all, "weight", &p->weight);
    add_view(all, "x", &p->x, DS_READ, false);
    add_view(all, "ids", &p->ids, DS_READ, false);
    add_view(all, "y", &p->y, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_expert_sum(const struct ds_op_expert_sum *p, struct ds_extents *all) {
    add_view(all, "x", &p->x, DS_READ, false);
    add_view(all, "weights", &p->weights, DS_READ, false);
    add_view(all, "residual", &p->residual, DS_READ, true);
    add_view(all, "y", &p->y, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_scatter(const struct ds_op_scatter *p, struct ds_extents *all) {
    add_view(all, "x", &p->x, DS_READ, false);
    add_words(all, "ids", &p->ids, DS_READ, p->x.cols, 1);
    add_view(all, "out", &p->out, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_adjust(const struct ds_op_adjust *p, struct ds_extents *all) {
    add_view(all, "x", &p->x, DS_READ, true);
    add_words(all, "rows", &p->rows, DS_READ, p->x.rows, sizeof(struct ds_adjust_row) / 4);
    add_view(all, "history", &p->history, DS_READ, false);
    add_words(all, "drafted", &p->drafted, DS_READ, p->n_drafted, 1);
    add_view(all, "bias_ids", &p->bias_ids, DS_READ, false);
    add_view(all, "bias_values", &p->bias_values, DS_READ, false);
    add_view(all, "out", &p->out, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_reject(const struct ds_op_reject *p, struct ds_extents *all) {
    add_view(all, "logits", &p->logits, DS_READ, false);
    add_words(all, "rows", &p->rows, DS_READ, p->logits.rows, sizeof(struct ds_sample_row) / 4);
    add_view(all, "drafted", &p->drafted, DS_READ, false);
    add_words(all, "bias", &p->bias, DS_READ, p->bias_rows, p->logits.cols);
    add_words(all, "tokens", &p->tokens, DS_READ_WRITE, p->logits.rows, 1);
    add_flags(all, &p->flags, p->logits.rows);
    add_count(all, &p->count);
}

static void list_norm_quantize(const struct ds_op_norm_quantize *p, struct ds_extents *all) {
    add_view(all, "x", &p->x, DS_READ, false);
    add_words(all, "weight", &p->weight, DS_READ, p->x.cols, 1);
    add_view(all, "normed", &p->normed, DS_WRITE, false);
    add_view(all, "out", &p->out, DS_WRITE, false);
    add_flags(all, &p->flags, p->x.rows);
    add_count(all, &p->count);
}

static void list_glu_quantize(const struct ds_op_glu_quantize *p, struct ds_extents *all) {
    add_view(all, "gate", &p->gate, DS_READ, true);
    add_view(all, "up", &p->up, DS_READ, true);
    add_view(all, "gated", &p->gated, DS_WRITE, false);
    add_view(all, "out", &p->out, DS_WRITE, false);
    add_flags(all, &p->flags, p->gate.rows);
    add_count(all, &p->count);
}

static void list_heads(const struct ds_op_heads *p, struct ds_extents *all) {
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

static void list_top_linear(const struct ds_op_top_linear *p, struct ds_extents *all) {
    add_weight(all, "weight", &p->weight);
    add_view(all, "x", &p->x, DS_READ, false);
    add_view(all, "residual", &p->residual, DS_READ, false);
    add_view(all, "y", &p->y, DS_WRITE, false);
    add_count(all, &p->count);
}

static void list_max_prob(const struct ds_op_max_prob *p, struct ds_extents *all) {
    add_view(all, "logits", &p->logits, DS_READ, false);
    add_view(all, "log_odds", &p->log_odds, DS_WRITE, false);
    add_count(all, &p->count);
}

void ds_op_extents(ds_op op, const union ds_op_params *params, struct ds_extents *all) {
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
    struct ds_extents all;
    ds_op_extents(op, params, &all);
    for (uint32_t i = 0; i < all.count; i++) {
        const struct ds_extent *operand = &all.list[i];
        out[i] = (struct ds_operand){.name = operand->name,
                                       .access = operand->access,
                                       .bytes = operand->bytes,
                                       .offset = (size_t)((const char *)operand->slice - (const char *)params)};
    }
    return all.count;
}
