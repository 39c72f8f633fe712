/* What the parameters of each op must be: ops.h, line by line. */
#include "ops/shapes.h"

#include <inttypes.h>

static const char *elem_name(ds_elem elem) {
    static const char *const names[DS_ELEM_COUNT] = {
        [DS_ELEM_F32] = "f32", [DS_ELEM_I32] = "i32", [DS_ELEM_BF16] = "bf16", [DS_ELEM_Q8] = "q8", [DS_ELEM_Q8_32] = "q8_32"};
    return (size_t)elem < DS_COUNT(names) ? names[elem] : "of an unknown element type";
}

/* An infinity or a NaN less itself is a NaN. */
static bool is_finite(float x) {
    return x - x == 0;
}

/* Fails with "OP: ..." unless the condition holds; every documented "must" of ops.h is one such line. */
#define REQUIRE(condition, op, ...)                                                                                            \
    do {                                                                                                                       \
        if (!(condition)) return ds_fail(err, DS_ERROR_ARGUMENT, op ": " __VA_ARGS__);                                         \
    } while (0)

static ds_status require_present(const char *op, const char *name, const struct ds_slice *slice, struct ds_error *err) {
    if (slice->buffer) return DS_OK;
    return ds_fail(err, DS_ERROR_ARGUMENT, "%s: %s is missing", op, name);
}

static ds_status require_view(const char *op, const char *name, const struct ds_view *view, ds_elem elem,
                              struct ds_error *err) {
    DS_TRY(require_present(op, name, &view->at, err));
    if (view->elem != elem)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s: %s is %s and must be %s", op, name, elem_name(view->elem), elem_name(elem));
    if (view->rows == 0 || view->cols == 0 || view->rows > DS_MAX_EXTENT || view->cols > DS_MAX_EXTENT)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s: %s is [%u, %u]; rows and columns must be 1 to %d", op, name, view->rows,
                       view->cols, DS_MAX_EXTENT);
    if (!ds_elem_is_q8(elem) && view->stride < view->cols)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s: %s has a stride of %u, less than its %u columns", op, name, view->stride,
                       view->cols);
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
    if (weight->rows == 0 || weight->cols == 0 || weight->rows > DS_MAX_EXTENT || weight->cols > DS_MAX_EXTENT)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s: %s is [%u, %u]; rows and columns must be 1 to %d", op, name, weight->rows,
                       weight->cols, DS_MAX_EXTENT);
    if (weight->cols % type->block != 0)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s: %s has %u columns; %s needs a multiple of %u", op, name, weight->cols,
                       type->name, type->block);
    if (ds_weight_bytes(weight) == 0)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: this device cannot hold %s %s [%u, %u]", op, name, type->name,
                       weight->rows, weight->cols);
    return DS_OK;
}

static ds_status require_kv(const char *op, const struct ds_kv *kv, const struct ds_paging *paging, struct ds_error *err) {
    DS_TRY(require_present(op, "kv.k", &kv->k, err));
    DS_TRY(require_present(op, "kv.v", &kv->v, err));
    DS_TRY(require_present(op, "paging.page_table", &paging->page_table, err));
    DS_TRY(require_present(op, "paging.row_sequence", &paging->row_sequence, err));
    DS_TRY(require_present(op, "paging.positions", &paging->positions, err));
    if (kv->pages == 0 || kv->kv_heads == 0 || paging->sequences == 0 || paging->pages_per_sequence == 0)
        return ds_fail(err, DS_ERROR_ARGUMENT,
                       "%s: pages (%u), kv_heads (%u), sequences (%u) and pages_per_sequence (%u) must be at least 1", op,
                       kv->pages, kv->kv_heads, paging->sequences, paging->pages_per_sequence);
    if (kv->head_dim == 0 || kv->head_dim % 2 != 0)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s: head_dim is %u and must be even and at least 2", op, kv->head_dim);
    return DS_OK;
}

/* The columns of a view that holds `heads` heads. */
static ds_status require_head_columns(const char *op, const char *name, const struct ds_view *view, uint32_t heads, uint32_t head_dim,
                               struct ds_error *err) {
    const uint64_t cols = (uint64_t)heads * head_dim;
    if (view->cols == cols) return DS_OK;
    return ds_fail(err, DS_ERROR_ARGUMENT, "%s: %s has %u columns, %u heads of %u need %" PRIu64, op, name, view->cols, heads,
                   head_dim, cols);
}

static ds_status require_embed(const struct ds_op_embed *p, struct ds_error *err) {
    DS_TRY(require_weight("embed", "table", &p->table, err));
    DS_TRY(require_present("embed", "ids", &p->ids, err));
    DS_TRY(require_view("embed", "out", &p->out, DS_ELEM_F32, err));
    REQUIRE(p->out.cols == p->table.cols, "embed", "out has %u columns, table %s [%u, %u] needs %u", p->out.cols,
            ds_type_get(p->table.type)->name, p->table.rows, p->table.cols, p->table.cols);
    REQUIRE(is_finite(p->scale), "embed", "scale must be finite");
    return DS_OK;
}

static ds_status require_rms_norm(const struct ds_op_rms_norm *p, struct ds_error *err) {
    DS_TRY(require_view("rms_norm", "x", &p->x, DS_ELEM_F32, err));
    DS_TRY(require_view("rms_norm", "out", &p->out, DS_ELEM_F32, err));
    DS_TRY(require_same_shape("rms_norm", "out", &p->out, "x", &p->x, err));
    REQUIRE(p->dim > 0 && p->x.cols % p->dim == 0, "rms_norm", "x has %u columns, not a multiple of dim %u", p->x.cols, p->dim);
    /* Without eps a group of zeros would be divided by zero. */
    REQUIRE(p->eps > 0 && is_finite(p->eps), "rms_norm", "eps is %g and must be finite and above 0", (double)p->eps);
    if (!p->residual.at.buffer) return DS_OK;
    DS_TRY(require_view("rms_norm", "residual", &p->residual, DS_ELEM_F32, err));
    return require_same_shape("rms_norm", "residual", &p->residual, "x", &p->x, err);
}

static ds_status require_quantize(const struct ds_op_quantize *p, struct ds_error *err) {
    REQUIRE(p->out.elem == DS_ELEM_BF16 || ds_elem_is_q8(p->out.elem), "quantize", "out is %s and must be bf16, q8 or q8_32",
            elem_name(p->out.elem));
    DS_TRY(require_view("quantize", "x", &p->x, DS_ELEM_F32, err));
    DS_TRY(require_view("quantize", "out", &p->out, p->out.elem, err));
    if (p->groups <= 1) return require_same_shape("quantize", "out", &p->out, "x", &p->x, err);
    REQUIRE((uint64_t)p->x.rows * p->groups == p->out.rows && (uint64_t)p->out.cols * p->groups == p->x.cols, "quantize",
            "out is [%u, %u], x [%u, %u]; %u groups in a row of x need as many rows of out, and columns of it", p->out.rows, p->out.cols, p->x.rows,
            p->x.cols, p->groups);
    return DS_OK;
}

static ds_status require_linear(const struct ds_op_linear *p, struct ds_error *err) {
    const struct ds_weight *w = &p->weight;
    DS_TRY(require_weight("linear", "weight", w, err));
    DS_TRY(require_view("linear", "x", &p->x, ds_linear_input(w->type), err));
    DS_TRY(require_view("linear", "y", &p->y, DS_ELEM_F32, err));
    const char *type = ds_type_get(w->type)->name;
    REQUIRE(p->x.cols == w->cols, "linear", "x has %u columns, weight %s [%u, %u] needs %u", p->x.cols, type, w->rows, w->cols,
            w->cols);
    REQUIRE(p->y.cols == w->rows, "linear", "y has %u columns, weight %s [%u, %u] gives %u", p->y.cols, type, w->rows, w->cols,
            w->rows);
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
    REQUIRE(p->n_rot > 0 && p->n_rot % 2 == 0 && p->n_rot <= p->head_dim, "rope",
            "n_rot is %u and must be even and 2 to head_dim %u", p->n_rot, p->head_dim);
    REQUIRE(p->table_positions > 0, "rope", "table_positions is 0: the tables of cos and sin are empty");
    return DS_OK;
}

static ds_status require_kv_store(const struct ds_op_kv_store *p, struct ds_error *err) {
    DS_TRY(require_view("kv_store", "k", &p->k, DS_ELEM_F32, err));
    DS_TRY(require_view("kv_store", "v", &p->v, DS_ELEM_F32, err));
    DS_TRY(require_same_shape("kv_store", "v", &p->v, "k", &p->k, err));
    DS_TRY(require_kv("kv_store", &p->kv, &p->paging, err));
    return require_head_columns("kv_store", "k", &p->k, p->kv.kv_heads, p->kv.head_dim, err);
}

static ds_status require_attention(const struct ds_op_attention *p, struct ds_error *err) {
    DS_TRY(require_view("attention", "q", &p->q, DS_ELEM_F32, err));
    DS_TRY(require_view("attention", "out", &p->out, DS_ELEM_F32, err));
    DS_TRY(require_same_shape("attention", "out", &p->out, "q", &p->q, err));
    DS_TRY(require_kv("attention", &p->kv, &p->paging, err));
    DS_TRY(require_present("attention", "visible", &p->visible, err));
    REQUIRE(p->heads > 0 && p->heads % p->kv.kv_heads == 0, "attention", "%u heads cannot share %u kv_heads evenly", p->heads,
            p->kv.kv_heads);
    DS_TRY(require_head_columns("attention", "q", &p->q, p->heads, p->kv.head_dim, err));
    REQUIRE(is_finite(p->scale), "attention", "scale must be finite");
    REQUIRE(p->softcap >= 0 && is_finite(p->softcap), "attention", "softcap is %g and must be finite and not below 0",
            (double)p->softcap);
    return DS_OK;
}

static ds_status require_glu(const struct ds_op_glu *p, struct ds_error *err) {
    DS_TRY(require_view("glu", "gate", &p->gate, DS_ELEM_F32, err));
    DS_TRY(require_view("glu", "up", &p->up, DS_ELEM_F32, err));
    DS_TRY(require_view("glu", "out", &p->out, DS_ELEM_F32, err));
    DS_TRY(require_same_shape("glu", "up", &p->up, "gate", &p->gate, err));
    DS_TRY(require_same_shape("glu", "out", &p->out, "gate", &p->gate, err));
    REQUIRE((unsigned)p->activation <= DS_ACT_SIGMOID, "glu", "activation %d is unknown", (int)p->activation);
    return DS_OK;
}

static ds_status require_copy(const struct ds_op_copy *p, struct ds_error *err) {
    REQUIRE(p->x.elem == DS_ELEM_F32 || p->x.elem == DS_ELEM_I32, "copy", "x is %s and must be f32 or i32",
            elem_name(p->x.elem));
    DS_TRY(require_view("copy", "x", &p->x, p->x.elem, err));
    DS_TRY(require_view("copy", "out", &p->out, p->x.elem, err));
    REQUIRE(p->out.cols == p->x.cols, "copy", "out has %u columns and must have %u like x", p->out.cols, p->x.cols);
    REQUIRE(p->index.buffer || p->x.rows >= p->out.rows, "copy", "out has %u rows, x without an index only %u", p->out.rows,
            p->x.rows);
    return DS_OK;
}

static ds_status require_sample(const struct ds_op_sample *p, struct ds_error *err) {
    DS_TRY(require_view("sample", "logits", &p->logits, DS_ELEM_F32, err));
    DS_TRY(require_present("sample", "rows", &p->rows, err));
    DS_TRY(require_present("sample", "tokens", &p->tokens, err));
    REQUIRE(!p->bias.buffer == (p->bias_rows == 0), "sample", "bias is %s but bias_rows is %u",
            p->bias.buffer ? "given" : "absent", p->bias_rows);
    return DS_OK;
}

static ds_status require_scale(const struct ds_op_scale *p, struct ds_error *err) {
    DS_TRY(require_view("scale", "x", &p->x, DS_ELEM_F32, err));
    DS_TRY(require_view("scale", "out", &p->out, DS_ELEM_F32, err));
    DS_TRY(require_same_shape("scale", "out", &p->out, "x", &p->x, err));
    REQUIRE(is_finite(p->scale), "scale", "scale must be finite");
    REQUIRE(p->softcap >= 0 && is_finite(p->softcap), "scale", "softcap is %g and must be finite and not below 0", (double)p->softcap);
    return DS_OK;
}

static ds_status require_route(const struct ds_op_route *p, struct ds_error *err) {
    DS_TRY(require_view("route", "logits", &p->logits, DS_ELEM_F32, err));
    DS_TRY(require_view("route", "ids", &p->ids, DS_ELEM_I32, err));
    DS_TRY(require_view("route", "weights", &p->weights, DS_ELEM_F32, err));
    DS_TRY(require_same_shape("route", "weights", &p->weights, "ids", &p->ids, err));
    REQUIRE(p->ids.rows == p->logits.rows, "route", "ids has %u rows and must have %u like logits", p->ids.rows, p->logits.rows);
    REQUIRE(p->logits.cols <= DS_MOST_EXPERTS, "route", "%u experts, the limit is %d", p->logits.cols, DS_MOST_EXPERTS);
    REQUIRE(p->ids.cols <= p->logits.cols && p->ids.cols <= DS_MOST_SLOTS, "route", "%u slots of %u experts; the limit is %d", p->ids.cols,
            p->logits.cols, DS_MOST_SLOTS);
    return DS_OK;
}

static ds_status require_expert_linear(const struct ds_op_expert_linear *p, struct ds_error *err) {
    const struct ds_weight *w = &p->weight;
    DS_TRY(require_weight("expert_linear", "weight", w, err));
    DS_TRY(require_view("expert_linear", "x", &p->x, ds_linear_input(w->type), err));
    DS_TRY(require_view("expert_linear", "ids", &p->ids, DS_ELEM_I32, err));
    DS_TRY(require_view("expert_linear", "y", &p->y, DS_ELEM_F32, err));
    REQUIRE(p->experts > 0 && p->experts <= DS_MOST_EXPERTS && p->outputs > 0 && p->outputs <= DS_MAX_EXTENT, "expert_linear",
            "%u experts of %u outputs; both must be at least 1, and at most %d experts", p->experts, p->outputs, DS_MOST_EXPERTS);
    REQUIRE((uint64_t)p->experts * ds_expert_rows(p->outputs) == w->rows, "expert_linear", "weight has %u rows, %u experts of %u outputs need %" PRIu64,
            w->rows, p->experts, p->outputs, (uint64_t)p->experts * ds_expert_rows(p->outputs));
    REQUIRE(p->x.cols == w->cols, "expert_linear", "x has %u columns, weight needs %u", p->x.cols, w->cols);
    REQUIRE(p->ids.cols <= DS_MOST_SLOTS, "expert_linear", "%u slots; the limit is %d", p->ids.cols, DS_MOST_SLOTS);
    REQUIRE(p->y.rows == p->ids.rows && p->y.cols == (uint64_t)p->ids.cols * p->outputs, "expert_linear",
            "y is [%u, %u]; ids [%u, %u] and %u outputs give [%u, %" PRIu64 "]", p->y.rows, p->y.cols, p->ids.rows, p->ids.cols, p->outputs,
            p->ids.rows, (uint64_t)p->ids.cols * p->outputs);
    REQUIRE(p->x.rows == p->ids.rows || p->x.rows == (uint64_t)p->ids.rows * p->ids.cols, "expert_linear",
            "x has %u rows and must have %u, or one for each of %u slots", p->x.rows, p->ids.rows, p->ids.cols);
    return DS_OK;
}

static ds_status require_expert_sum(const struct ds_op_expert_sum *p, struct ds_error *err) {
    DS_TRY(require_view("expert_sum", "x", &p->x, DS_ELEM_F32, err));
    DS_TRY(require_view("expert_sum", "weights", &p->weights, DS_ELEM_F32, err));
    DS_TRY(require_view("expert_sum", "y", &p->y, DS_ELEM_F32, err));
    REQUIRE(p->weights.rows == p->x.rows && p->y.rows == p->x.rows, "expert_sum", "weights has %u rows, y %u; both must have %u like x",
            p->weights.rows, p->y.rows, p->x.rows);
    REQUIRE(p->x.cols == (uint64_t)p->weights.cols * p->y.cols, "expert_sum", "x has %u columns, %u slots of %u need %" PRIu64, p->x.cols,
            p->weights.cols, p->y.cols, (uint64_t)p->weights.cols * p->y.cols);
    if (!p->residual.at.buffer) return DS_OK;
    DS_TRY(require_view("expert_sum", "residual", &p->residual, DS_ELEM_F32, err));
    return require_same_shape("expert_sum", "residual", &p->residual, "y", &p->y, err);
}

static ds_status require_rnn_cell(const struct ds_op_rnn_cell *p, struct ds_error *err) {
    DS_TRY(require_view("rnn_cell", "gates", &p->gates, DS_ELEM_F32, err));
    DS_TRY(require_view("rnn_cell", "next", &p->next, DS_ELEM_F32, err));
    DS_TRY(require_view("rnn_cell", "out", &p->out, DS_ELEM_F32, err));
    REQUIRE(p->gates.rows == p->next.rows && p->gates.cols == 3 * (uint64_t)p->next.cols, "rnn_cell",
            "gates is [%u, %u]; next of [%u, %u] needs as many rows and three times the columns", p->gates.rows, p->gates.cols,
            p->next.rows, p->next.cols);
    DS_TRY(require_same_shape("rnn_cell", "out", &p->out, "next", &p->next, err));
    if (!p->state.at.buffer) return DS_OK;
    DS_TRY(require_view("rnn_cell", "state", &p->state, DS_ELEM_F32, err));
    return require_same_shape("rnn_cell", "state", &p->state, "next", &p->next, err);
}

static ds_status require_scatter(const struct ds_op_scatter *p, struct ds_error *err) {
    DS_TRY(require_view("scatter", "x", &p->x, DS_ELEM_F32, err));
    DS_TRY(require_present("scatter", "ids", &p->ids, err));
    DS_TRY(require_view("scatter", "out", &p->out, DS_ELEM_F32, err));
    REQUIRE(p->out.rows == p->x.rows, "scatter", "out has %u rows and must have %u like x", p->out.rows, p->x.rows);
    REQUIRE(p->out.cols >= p->x.cols, "scatter", "out has %u columns, fewer than the %u of x", p->out.cols, p->x.cols);
    REQUIRE(is_finite(p->fill), "scatter", "fill must be finite");
    return DS_OK;
}

static ds_status require_adjust(const struct ds_op_adjust *p, struct ds_error *err) {
    DS_TRY(require_view("adjust", "x", &p->x, DS_ELEM_F32, err));
    DS_TRY(require_view("adjust", "out", &p->out, DS_ELEM_F32, err));
    DS_TRY(require_same_shape("adjust", "out", &p->out, "x", &p->x, err));
    DS_TRY(require_present("adjust", "rows", &p->rows, err));
    DS_TRY(require_view("adjust", "history", &p->history, DS_ELEM_I32, err));
    DS_TRY(require_view("adjust", "bias_ids", &p->bias_ids, DS_ELEM_I32, err));
    DS_TRY(require_view("adjust", "bias_values", &p->bias_values, DS_ELEM_F32, err));
    DS_TRY(require_same_shape("adjust", "bias_values", &p->bias_values, "bias_ids", &p->bias_ids, err));
    REQUIRE(p->bias_ids.rows == p->history.rows, "adjust", "bias_ids has %u rows and must have %u like history", p->bias_ids.rows, p->history.rows);
    REQUIRE(!p->drafted.buffer == (p->n_drafted == 0), "adjust", "drafted is %s but n_drafted is %u",
            p->drafted.buffer ? "given" : "absent", p->n_drafted);
    return DS_OK;
}

static ds_status require_reject(const struct ds_op_reject *p, struct ds_error *err) {
    DS_TRY(require_view("reject", "logits", &p->logits, DS_ELEM_F32, err));
    DS_TRY(require_present("reject", "rows", &p->rows, err));
    DS_TRY(require_present("reject", "tokens", &p->tokens, err));
    REQUIRE(!p->bias.buffer == (p->bias_rows == 0), "reject", "bias is %s but bias_rows is %u", p->bias.buffer ? "given" : "absent",
            p->bias_rows);
    if (!p->drafted.at.buffer) return DS_OK;
    DS_TRY(require_view("reject", "drafted", &p->drafted, DS_ELEM_F32, err));
    REQUIRE(p->drafted.cols == p->logits.cols, "reject", "drafted has %u columns and must have %u like logits", p->drafted.cols, p->logits.cols);
    return DS_OK;
}

/* A fused op is right where its parts are; the message is theirs, behind its own name. */
static ds_status require_parts(ds_op op, const union ds_op_params *params, struct ds_error *err) {
    ds_op ops[DS_MOST_PARTS];
    union ds_op_params parts[DS_MOST_PARTS];
    const uint32_t n = ds_op_parts(op, params, ops, parts);
    for (uint32_t i = 0; i < n; i++)
        if (ds_op_check_shapes(ops[i], &parts[i], err) != DS_OK) return ds_fail_context(err, "%s", ds_op_name(op));
    return DS_OK;
}

static ds_status require_norm_quantize(const struct ds_op_norm_quantize *p, struct ds_error *err) {
    DS_TRY(require_present("norm_quantize", "x", &p->x.at, err));
    DS_TRY(require_present("norm_quantize", "normed", &p->normed.at, err));
    return require_parts(DS_OP_norm_quantize, &(union ds_op_params){.norm_quantize = *p}, err);
}

static ds_status require_glu_quantize(const struct ds_op_glu_quantize *p, struct ds_error *err) {
    DS_TRY(require_present("glu_quantize", "gated", &p->gated.at, err));
    return require_parts(DS_OP_glu_quantize, &(union ds_op_params){.glu_quantize = *p}, err);
}

static ds_status require_heads(const struct ds_op_heads *p, struct ds_error *err) {
    DS_TRY(require_present("heads", "k", &p->k.at, err));
    DS_TRY(require_kv("heads", &p->kv, &p->paging, err));
    return require_parts(DS_OP_heads, &(union ds_op_params){.heads = *p}, err);
}

static ds_status require_top_linear(const struct ds_op_top_linear *p, struct ds_error *err) {
    const struct ds_op_linear linear = {.weight = p->weight, .x = p->x, .y = p->y, .residual = p->residual};
    DS_TRY(require_present("top_linear", "residual", &p->residual.at, err));
    if (require_linear(&linear, err) != DS_OK) return ds_fail_context(err, "top_linear");
    REQUIRE(p->top > 0 && p->top <= p->weight.rows, "top_linear", "top is %u and must be 1 to %u, the outputs", p->top, p->weight.rows);
    REQUIRE(is_finite(p->fill), "top_linear", "fill must be finite");
    return DS_OK;
}

static ds_status require_max_prob(const struct ds_op_max_prob *p, struct ds_error *err) {
    DS_TRY(require_view("max_prob", "logits", &p->logits, DS_ELEM_F32, err));
    DS_TRY(require_view("max_prob", "log_odds", &p->log_odds, DS_ELEM_F32, err));
    REQUIRE(p->log_odds.rows == p->logits.rows && p->log_odds.cols == 1, "max_prob", "log_odds is [%u, %u] and must be [%u, 1] for the rows of logits",
            p->log_odds.rows, p->log_odds.cols, p->logits.rows);
    return DS_OK;
}

ds_status ds_op_check_shapes(ds_op op, const union ds_op_params *params, struct ds_error *err) {
    switch (op) {
#define DS_OP(name, text)                                                                                                      \
    case DS_OP_##name:                                                                                                         \
        return require_##name(&params->name, err);
#include "ops/ops.def"
#undef DS_OP
    case DS_OP_COUNT:
        break;
    }
    return ds_fail(err, DS_ERROR_ARGUMENT, "there is no op %d", (int)op);
}
