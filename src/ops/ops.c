/*
 * The front of every backend: what an op touches, and whether its parameters make sense.
 *
 * Each op has two functions below: list_NAME says which operands it has and how far each reaches, require_NAME what their
 * shapes must be. Bounds, alignment, devices and overlaps follow from the list and are checked in one place.
 */
#include "ops/ops.h"

#include "ops/device.h"

#include <assert.h>
#include <inttypes.h>

/* Larger extents are refused, so that products of two of them and an element size need no further thought. */
enum { MAX_EXTENT = 1 << 30 };

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
    case DS_TYPE_F16: return DS_ELEM_F32;
    case DS_TYPE_BF16: return DS_ELEM_BF16;
    default: return DS_ELEM_Q8;
    }
}

/* --- extents --- */

static const char *elem_name(ds_elem elem) {
    static const char *const names[] = {[DS_ELEM_F32] = "f32", [DS_ELEM_I32] = "i32", [DS_ELEM_BF16] = "bf16", [DS_ELEM_Q8] = "q8"};
    return (size_t)elem < DS_COUNT(names) ? names[elem] : "of an unknown element type";
}

static uint64_t elem_bytes(ds_elem elem) { return elem == DS_ELEM_Q8 ? 1 : elem == DS_ELEM_BF16 ? 2 : 4; }

/* a * b, or the largest number when that does not fit: such an operand fits into no buffer. */
static uint64_t saturating_mul(uint64_t a, uint64_t b) {
    uint64_t product;
    return ds_mul_u64(a, b, &product) ? product : UINT64_MAX;
}

/* Bytes of a row that are touched, and bytes from one row to the next. */
static uint64_t view_row_bytes(const struct ds_view *view) {
    if (view->elem != DS_ELEM_Q8) return view->cols * elem_bytes(view->elem);
    return view->cols <= MAX_EXTENT ? ds_q8_row_bytes(view->cols) : UINT64_MAX;
}
static uint64_t view_pitch(const struct ds_view *view) {
    return view->elem == DS_ELEM_Q8 ? view_row_bytes(view) : view->stride * elem_bytes(view->elem);
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
    uint32_t alignment;  /* of the offset, bytes */
    bool in_place;       /* an input that may be the very same view as an output */
    uint64_t rows;       /* `row_bytes` touched in each, `pitch` bytes apart */
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
    add(all, (struct operand){.name = name, .slice = &view->at, .access = access, .in_place = in_place, .rows = view->rows,
                              .alignment = view->elem == DS_ELEM_Q8 ? DS_ALIGN : (uint32_t)elem_bytes(view->elem),
                              .row_bytes = view_row_bytes(view), .pitch = view_pitch(view), .bytes = ds_view_bytes(view)});
}

static void add_aligned(struct operands *all, const char *name, const struct ds_slice *slice, ds_access access, uint64_t bytes,
                        uint32_t alignment) {
    add(all, (struct operand){.name = name, .slice = slice, .access = access, .alignment = alignment, .rows = 1,
                              .row_bytes = bytes, .pitch = bytes, .bytes = bytes});
}

/* `a` x `b` words of four bytes. */
static void add_words(struct operands *all, const char *name, const struct ds_slice *slice, ds_access access, uint64_t a, uint64_t b) {
    add_aligned(all, name, slice, access, saturating_mul(saturating_mul(a, b), 4), 4);
}

static void add_count(struct operands *all, const struct ds_slice *count) { add_words(all, "count", count, DS_READ, 1, 1); }

static void add_flags(struct operands *all, const struct ds_slice *flags, uint32_t rows) {
    add_words(all, "flags", flags, DS_READ_WRITE, rows, 1); /* bits are only ever set: what was there stays */
}

/* What a matrix takes on its device; as it is stored in a file where the device is not known yet. 0: it cannot be. */
static uint64_t weight_bytes(const struct ds_weight *weight) {
    const struct ds_device *device = weight->at.buffer ? weight->at.buffer->device : NULL;
    if (device) return device->fns->weight_bytes(device, weight->type, weight->rows, weight->cols);
    uint64_t bytes;
    return ds_type_size(weight->type, weight->rows, weight->cols, &bytes) ? bytes : 0;
}

static void add_weight(struct operands *all, const char *name, const struct ds_weight *weight) {
    add_aligned(all, name, &weight->at, DS_READ, weight_bytes(weight), DS_ALIGN);
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

static void list_operands(ds_op op, const union ds_op_params *params, struct operands *all) {
    all->count = 0;
    switch (op) {
#define DS_OP(name, text) case DS_OP_##name: list_##name(&params->name, all); break;
#include "ops/ops.def"
#undef DS_OP
    case DS_OP_COUNT: break;
    }
}

uint32_t ds_op_operands(ds_op op, const union ds_op_params *params, struct ds_operand out[DS_MAX_OPERANDS]) {
    struct operands all;
    list_operands(op, params, &all);
    for (uint32_t i = 0; i < all.count; i++) {
        const struct operand *operand = &all.list[i];
        out[i] = (struct ds_operand){.name = operand->name, .access = operand->access, .bytes = operand->bytes,
                                     .offset = (size_t)((const char *)operand->slice - (const char *)params)};
    }
    return all.count;
}

/* --- what the shapes must be --- */

/* Fails with "OP: ..." unless the condition holds; every documented "must" of ops.h is one such line. */
#define REQUIRE(condition, op, ...)                                              \
    do {                                                                         \
        if (!(condition)) return ds_fail(err, DS_ERROR_ARGUMENT, op ": " __VA_ARGS__); \
    } while (0)

static ds_status require_present(const char *op, const char *name, const struct ds_slice *slice, struct ds_error *err) {
    if (slice->buffer) return DS_OK;
    return ds_fail(err, DS_ERROR_ARGUMENT, "%s: %s is missing", op, name);
}

static ds_status require_view(const char *op, const char *name, const struct ds_view *view, ds_elem elem, struct ds_error *err) {
    DS_TRY(require_present(op, name, &view->at, err));
    if (view->elem != elem)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s: %s is %s and must be %s", op, name, elem_name(view->elem), elem_name(elem));
    if (view->rows == 0 || view->cols == 0 || view->rows > MAX_EXTENT || view->cols > MAX_EXTENT)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s: %s is [%u, %u]; rows and columns must be 1 to %d", op, name, view->rows, view->cols,
                       MAX_EXTENT);
    if (elem != DS_ELEM_Q8 && view->stride < view->cols)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s: %s has a stride of %u, less than its %u columns", op, name, view->stride, view->cols);
    return DS_OK;
}

static ds_status require_same_shape(const char *op, const char *name, const struct ds_view *view, const char *other_name,
                                    const struct ds_view *other, struct ds_error *err) {
    if (view->rows == other->rows && view->cols == other->cols) return DS_OK;
    return ds_fail(err, DS_ERROR_ARGUMENT, "%s: %s is [%u, %u] and must be [%u, %u] like %s", op, name, view->rows, view->cols,
                   other->rows, other->cols, other_name);
}

static ds_status require_weight(const char *op, const char *name, const struct ds_weight *weight, struct ds_error *err) {
    DS_TRY(require_present(op, name, &weight->at, err));
    const bool known = (unsigned)weight->type < DS_TYPE_COUNT;
    if (!known || weight->type == DS_TYPE_I32 || weight->type == DS_TYPE_I64)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s: %s is stored as %s, which is no type of weights", op, name,
                       known ? ds_type_get(weight->type)->name : "an unknown type");
    const struct ds_type_info *type = ds_type_get(weight->type);
    if (weight->rows == 0 || weight->cols == 0 || weight->rows > MAX_EXTENT || weight->cols > MAX_EXTENT)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s: %s is [%u, %u]; rows and columns must be 1 to %d", op, name, weight->rows,
                       weight->cols, MAX_EXTENT);
    if (weight->cols % type->block != 0)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s: %s has %u columns; %s needs a multiple of %u", op, name, weight->cols, type->name,
                       type->block);
    if (weight_bytes(weight) == 0)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: this device cannot hold %s %s [%u, %u]", op, name, type->name, weight->rows,
                       weight->cols);
    return DS_OK;
}

static ds_status require_kv(const char *op, const struct ds_kv *kv, const struct ds_paging *paging, struct ds_error *err) {
    DS_TRY(require_present(op, "kv.k", &kv->k, err));
    DS_TRY(require_present(op, "kv.v", &kv->v, err));
    DS_TRY(require_present(op, "paging.page_table", &paging->page_table, err));
    DS_TRY(require_present(op, "paging.row_sequence", &paging->row_sequence, err));
    DS_TRY(require_present(op, "paging.positions", &paging->positions, err));
    if (kv->pages == 0 || kv->kv_heads == 0 || paging->sequences == 0 || paging->pages_per_sequence == 0)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s: pages (%u), kv_heads (%u), sequences (%u) and pages_per_sequence (%u) must be at least 1",
                       op, kv->pages, kv->kv_heads, paging->sequences, paging->pages_per_sequence);
    if (kv->head_dim == 0 || kv->head_dim % 2 != 0)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s: head_dim is %u and must be even and at least 2", op, kv->head_dim);
    return DS_OK;
}

/* The columns of a view that holds `heads` heads. */
static ds_status require_heads(const char *op, const char *name, const struct ds_view *view, uint32_t heads, uint32_t head_dim,
                               struct ds_error *err) {
    const uint64_t cols = (uint64_t)heads * head_dim;
    if (view->cols == cols) return DS_OK;
    return ds_fail(err, DS_ERROR_ARGUMENT, "%s: %s has %u columns, %u heads of %u need %" PRIu64, op, name, view->cols, heads, head_dim, cols);
}

static ds_status require_embed(const struct ds_op_embed *p, struct ds_error *err) {
    DS_TRY(require_weight("embed", "table", &p->table, err));
    DS_TRY(require_present("embed", "ids", &p->ids, err));
    DS_TRY(require_view("embed", "out", &p->out, DS_ELEM_F32, err));
    REQUIRE(p->out.cols == p->table.cols, "embed", "out has %u columns, table %s [%u, %u] needs %u", p->out.cols,
            ds_type_get(p->table.type)->name, p->table.rows, p->table.cols, p->table.cols);
    REQUIRE(p->scale - p->scale == 0, "embed", "scale must be finite");
    return DS_OK;
}

static ds_status require_rms_norm(const struct ds_op_rms_norm *p, struct ds_error *err) {
    DS_TRY(require_view("rms_norm", "x", &p->x, DS_ELEM_F32, err));
    DS_TRY(require_view("rms_norm", "out", &p->out, DS_ELEM_F32, err));
    DS_TRY(require_same_shape("rms_norm", "out", &p->out, "x", &p->x, err));
    REQUIRE(p->dim > 0 && p->x.cols % p->dim == 0, "rms_norm", "x has %u columns, not a multiple of dim %u", p->x.cols, p->dim);
    /* Without eps a group of zeros would be divided by zero. */
    REQUIRE(p->eps > 0 && p->eps - p->eps == 0, "rms_norm", "eps is %g and must be finite and above 0", (double)p->eps);
    return DS_OK;
}

static ds_status require_quantize(const struct ds_op_quantize *p, struct ds_error *err) {
    REQUIRE(p->out.elem == DS_ELEM_BF16 || p->out.elem == DS_ELEM_Q8, "quantize", "out is %s and must be bf16 or q8", elem_name(p->out.elem));
    DS_TRY(require_view("quantize", "x", &p->x, DS_ELEM_F32, err));
    DS_TRY(require_view("quantize", "out", &p->out, p->out.elem, err));
    return require_same_shape("quantize", "out", &p->out, "x", &p->x, err);
}

static ds_status require_linear(const struct ds_op_linear *p, struct ds_error *err) {
    const struct ds_weight *w = &p->weight;
    DS_TRY(require_weight("linear", "weight", w, err));
    DS_TRY(require_view("linear", "x", &p->x, ds_linear_input(w->type), err));
    DS_TRY(require_view("linear", "y", &p->y, DS_ELEM_F32, err));
    const char *type = ds_type_get(w->type)->name;
    REQUIRE(p->x.cols == w->cols, "linear", "x has %u columns, weight %s [%u, %u] needs %u", p->x.cols, type, w->rows, w->cols, w->cols);
    REQUIRE(p->y.cols == w->rows, "linear", "y has %u columns, weight %s [%u, %u] gives %u", p->y.cols, type, w->rows, w->cols, w->rows);
    REQUIRE(p->y.rows == p->x.rows, "linear", "y has %u rows and must have %u like x", p->y.rows, p->x.rows);
    if (!p->residual.at.buffer) return DS_OK;
    DS_TRY(require_view("linear", "residual", &p->residual, DS_ELEM_F32, err));
    return require_same_shape("linear", "residual", &p->residual, "y", &p->y, err);
}

static ds_status require_rope(const struct ds_op_rope *p, struct ds_error *err) {
    DS_TRY(require_view("rope", "x", &p->x, DS_ELEM_F32, err));
    DS_TRY(require_present("rope", "cos", &p->cos, err));
    DS_TRY(require_present("rope", "sin", &p->sin, err));
    DS_TRY(require_present("rope", "positions", &p->positions, err));
    REQUIRE(p->head_dim > 0 && p->head_dim % 2 == 0, "rope", "head_dim is %u and must be even and at least 2", p->head_dim);
    REQUIRE(p->x.cols % p->head_dim == 0, "rope", "x has %u columns, not a multiple of head_dim %u", p->x.cols, p->head_dim);
    REQUIRE(p->n_rot > 0 && p->n_rot % 2 == 0 && p->n_rot <= p->head_dim, "rope", "n_rot is %u and must be even and 2 to head_dim %u",
            p->n_rot, p->head_dim);
    REQUIRE(p->table_positions > 0, "rope", "table_positions is 0: the tables of cos and sin are empty");
    return DS_OK;
}

static ds_status require_kv_store(const struct ds_op_kv_store *p, struct ds_error *err) {
    DS_TRY(require_view("kv_store", "k", &p->k, DS_ELEM_F32, err));
    DS_TRY(require_view("kv_store", "v", &p->v, DS_ELEM_F32, err));
    DS_TRY(require_same_shape("kv_store", "v", &p->v, "k", &p->k, err));
    DS_TRY(require_kv("kv_store", &p->kv, &p->paging, err));
    return require_heads("kv_store", "k", &p->k, p->kv.kv_heads, p->kv.head_dim, err);
}

static ds_status require_attention(const struct ds_op_attention *p, struct ds_error *err) {
    DS_TRY(require_view("attention", "q", &p->q, DS_ELEM_F32, err));
    DS_TRY(require_view("attention", "out", &p->out, DS_ELEM_F32, err));
    DS_TRY(require_same_shape("attention", "out", &p->out, "q", &p->q, err));
    DS_TRY(require_kv("attention", &p->kv, &p->paging, err));
    DS_TRY(require_present("attention", "visible", &p->visible, err));
    REQUIRE(p->heads > 0 && p->heads % p->kv.kv_heads == 0, "attention", "%u heads cannot share %u kv_heads evenly", p->heads, p->kv.kv_heads);
    DS_TRY(require_heads("attention", "q", &p->q, p->heads, p->kv.head_dim, err));
    REQUIRE(p->scale - p->scale == 0, "attention", "scale must be finite");
    REQUIRE(p->softcap >= 0 && p->softcap - p->softcap == 0, "attention", "softcap is %g and must be finite and not below 0",
            (double)p->softcap);
    return DS_OK;
}

static ds_status require_glu(const struct ds_op_glu *p, struct ds_error *err) {
    DS_TRY(require_view("glu", "gate", &p->gate, DS_ELEM_F32, err));
    DS_TRY(require_view("glu", "up", &p->up, DS_ELEM_F32, err));
    DS_TRY(require_view("glu", "out", &p->out, DS_ELEM_F32, err));
    DS_TRY(require_same_shape("glu", "up", &p->up, "gate", &p->gate, err));
    DS_TRY(require_same_shape("glu", "out", &p->out, "gate", &p->gate, err));
    REQUIRE(p->activation == DS_ACT_SILU || p->activation == DS_ACT_GELU_TANH, "glu", "activation %d is unknown", (int)p->activation);
    return DS_OK;
}

static ds_status require_copy(const struct ds_op_copy *p, struct ds_error *err) {
    REQUIRE(p->x.elem == DS_ELEM_F32 || p->x.elem == DS_ELEM_I32, "copy", "x is %s and must be f32 or i32", elem_name(p->x.elem));
    DS_TRY(require_view("copy", "x", &p->x, p->x.elem, err));
    DS_TRY(require_view("copy", "out", &p->out, p->x.elem, err));
    REQUIRE(p->out.cols == p->x.cols, "copy", "out has %u columns and must have %u like x", p->out.cols, p->x.cols);
    REQUIRE(p->index.buffer || p->x.rows >= p->out.rows, "copy", "out has %u rows, x without an index only %u", p->out.rows, p->x.rows);
    return DS_OK;
}

static ds_status require_sample(const struct ds_op_sample *p, struct ds_error *err) {
    DS_TRY(require_view("sample", "logits", &p->logits, DS_ELEM_F32, err));
    DS_TRY(require_present("sample", "rows", &p->rows, err));
    DS_TRY(require_present("sample", "tokens", &p->tokens, err));
    REQUIRE(!p->bias.buffer == (p->bias_rows == 0), "sample", "bias is %s but bias_rows is %u", p->bias.buffer ? "given" : "absent",
            p->bias_rows);
    return DS_OK;
}

static ds_status require_shapes(ds_op op, const union ds_op_params *params, struct ds_error *err) {
    switch (op) {
#define DS_OP(name, text) case DS_OP_##name: return require_##name(&params->name, err);
#include "ops/ops.def"
#undef DS_OP
    case DS_OP_COUNT: break;
    }
    return ds_fail(err, DS_ERROR_ARGUMENT, "there is no op %d", (int)op);
}

/* --- what holds for all operands --- */

static ds_status check_place(ds_op op, const struct operand *operand, struct ds_error *err) {
    const struct ds_slice *at = operand->slice;
    if (at->offset % operand->alignment != 0)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s: %s lies at byte %" PRIu64 ", not a multiple of %u", ds_op_name(op), operand->name,
                       at->offset, operand->alignment);
    if (!at->buffer->device && at->buffer->bytes == 0) return DS_OK; /* planned, its size not yet known */
    if (at->offset > at->buffer->bytes || operand->bytes > at->buffer->bytes - at->offset)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s: %s needs %" PRIu64 " bytes from byte %" PRIu64 " of a buffer of %" PRIu64, ds_op_name(op),
                       operand->name, operand->bytes, at->offset, at->buffer->bytes);
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
    DS_TRY(require_shapes(op, params, err));
    struct operands all;
    list_operands(op, params, &all);
    for (uint32_t i = 0; i < all.count; i++) DS_TRY(check_place(op, &all.list[i], err));
    for (uint32_t i = 0; i < all.count; i++)
        for (uint32_t k = 0; k < i; k++) DS_TRY(check_pair(op, &all.list[k], &all.list[i], err));
    return DS_OK;
}
