/* Each op's own rules: what ops.h says its parameters must be is refused where they are not. */
#include "good_ops.h"

/* `change` spoils good parameters p of op NAME; the message must then contain `part`. */
#define REFUSES(NAME, change, part)                                                                                            \
    do {                                                                                                                       \
        union ds_op_params params = good(DS_OP_##NAME);                                                                        \
        struct ds_op_##NAME *p = &params.NAME;                                                                                 \
        change;                                                                                                                \
        assert_refused(DS_OP_##NAME, &params, part);                                                                           \
    } while (0)

static void wrong_views_are_refused(void **state) {
    (void)state;
    REFUSES(glu, p->gate.elem = DS_ELEM_BF16, "gate is bf16 and must be f32");
    REFUSES(glu, p->up.elem = (ds_elem)9, "of an unknown element type");
    REFUSES(glu, p->gate.rows = 0, "gate is [0, 48]");
    REFUSES(glu, p->gate.cols = 0, "gate is [5, 0]");
    REFUSES(glu, p->gate.rows = UINT32_MAX, "rows and columns must be 1 to");
    REFUSES(glu, p->gate.stride = 47, "gate has a stride of 47, less than its 48 columns");
    REFUSES(glu, p->gate.stride = UINT32_MAX, "gate needs");
    REFUSES(quantize, p->x.cols = p->x.stride = p->out.cols = 1 << 30, "needs");
    REFUSES(quantize, p->x.cols = p->x.stride = p->out.cols = UINT32_MAX, "rows and columns must be 1 to");
}

static void sizes_saturate_instead_of_wrapping(void **state) {
    (void)state;
    struct ds_view huge = {.elem = DS_ELEM_F32, .rows = UINT32_MAX, .cols = UINT32_MAX, .stride = UINT32_MAX};
    assert_true(ds_view_bytes(&huge) == UINT64_MAX);
    huge.elem = DS_ELEM_Q8;
    assert_true(ds_view_bytes(&huge) == UINT64_MAX);
    huge.elem = DS_ELEM_Q8_32;
    assert_true(ds_view_bytes(&huge) == UINT64_MAX);
    huge.rows = 0;
    assert_true(ds_view_bytes(&huge) == 0);
    REFUSES(kv_store, p->kv.pages = UINT32_MAX, "kv.k needs");
    REFUSES(attention, (p->paging.sequences = UINT32_MAX, p->paging.pages_per_sequence = UINT32_MAX),
            "paging.page_table needs");
    REFUSES(rope, p->table_positions = UINT32_MAX, "cos needs");
    REFUSES(sample, p->bias_rows = UINT32_MAX, "bias needs");
}

static void wrong_embeds_are_refused(void **state) {
    (void)state;
    REFUSES(embed, p->out.cols = 255, "out has 255 columns, table q4_k [70, 256] needs 256");
    REFUSES(embed, p->table.type = DS_TYPE_I64, "table is stored as i64, which is no type of weights");
    REFUSES(embed, p->table.type = (ds_type)99, "table is stored as an unknown type");
    REFUSES(embed, p->table.cols = 250, "table has 250 columns; q4_k needs a multiple of 256");
    REFUSES(embed, p->table.rows = 0, "table is [0, 256]");
    REFUSES(embed, p->scale = -1.0f / 0.0f, "scale must be finite");
}

static void wrong_norms_are_refused(void **state) {
    (void)state;
    REFUSES(rms_norm, p->dim = 0, "not a multiple of dim 0");
    REFUSES(rms_norm, p->dim = 64, "x has 96 columns, not a multiple of dim 64");
    REFUSES(rms_norm, p->eps = 0, "eps is 0 and must be finite and above 0");
    REFUSES(rms_norm, p->eps = 1.0f / 0.0f, "eps is inf");
    REFUSES(rms_norm, p->out.rows = 4, "out is [4, 96] and must be [5, 96] like x");
}

static void wrong_quantisations_are_refused(void **state) {
    (void)state;
    REFUSES(quantize, p->out.elem = DS_ELEM_F32, "out is f32 and must be bf16, q8 or q8_32");
    REFUSES(quantize, p->out.cols = 299, "out is [5, 299] and must be [5, 300] like x");
    REFUSES(quantize, p->x.elem = DS_ELEM_I32, "x is i32 and must be f32");
}

static void wrong_linears_are_refused(void **state) {
    (void)state;
    REFUSES(linear, p->x.cols = 255, "x has 255 columns, weight q4_k [512, 256] needs 256");
    REFUSES(linear, p->y.cols = 511, "y has 511 columns, weight q4_k [512, 256] gives 512");
    REFUSES(linear, p->y.rows = 4, "y has 4 rows and must have 5 like x");
    REFUSES(linear, p->weight.type = DS_TYPE_F32, "x is q8 and must be f32");
    REFUSES(linear, p->weight.type = DS_TYPE_BF16, "x is q8 and must be bf16");
    REFUSES(linear, p->residual.cols = 500, "residual is [5, 500] and must be [5, 512] like y");
    REFUSES(linear, p->weight.type = DS_TYPE_I32, "no type of weights");
}

static void wrong_ropes_are_refused(void **state) {
    (void)state;
    REFUSES(rope, p->head_dim = 0, "head_dim is 0");
    REFUSES(rope, p->head_dim = 31, "head_dim is 31 and must be even");
    REFUSES(rope, p->head_dim = 48, "x has 64 columns, not a multiple of head_dim 48");
    REFUSES(rope, p->n_rot = 0, "n_rot is 0");
    REFUSES(rope, p->n_rot = 15, "n_rot is 15 and must be even and 2 to head_dim 32");
    REFUSES(rope, p->n_rot = 34, "n_rot is 34");
    REFUSES(rope, p->table_positions = 0, "table_positions is 0");
}

static void wrong_caches_are_refused(void **state) {
    (void)state;
    REFUSES(kv_store, p->k.cols = p->k.stride = 33, "v is [5, 32] and must be [5, 33] like k");
    REFUSES(kv_store, p->kv.kv_heads = 3, "k has 32 columns, 3 heads of 16 need 48");
    REFUSES(kv_store, p->kv.pages = 0, "pages (0)");
    REFUSES(kv_store, p->paging.sequences = 0, "sequences (0)");
    REFUSES(kv_store, p->paging.pages_per_sequence = 0, "pages_per_sequence (0)");
    REFUSES(kv_store, p->kv.kv_heads = 0, "kv_heads (0)");
    REFUSES(kv_store, p->kv.head_dim = 15, "head_dim is 15 and must be even");
}

static void wrong_attentions_are_refused(void **state) {
    (void)state;
    REFUSES(attention, p->heads = 0, "0 heads cannot share 2 kv_heads evenly");
    REFUSES(attention, p->heads = 3, "3 heads cannot share 2 kv_heads evenly");
    REFUSES(attention, p->heads = 6, "q has 64 columns, 6 heads of 16 need 96");
    REFUSES(attention, p->out.cols = 60, "out is [5, 60] and must be [5, 64] like q");
    REFUSES(attention, p->scale = 1.0f / 0.0f, "scale must be finite");
    REFUSES(attention, p->softcap = -1, "softcap is -1");
    REFUSES(attention, p->kv.head_dim = 0, "head_dim is 0");
}

static void wrong_gates_copies_and_samples_are_refused(void **state) {
    (void)state;
    REFUSES(glu, p->activation = (ds_activation)7, "activation 7 is unknown");
    REFUSES(glu, p->up.cols = 40, "up is [5, 40] and must be [5, 48] like gate");
    REFUSES(rnn_cell, p->gates.cols = 59, "gates is [5, 59]; next of [5, 20] needs as many rows and three times the columns");
    REFUSES(rnn_cell, p->gates.rows = 4, "gates is [4, 60]");
    REFUSES(rnn_cell, p->state.cols = 19, "state is [5, 19] and must be [5, 20] like next");
    REFUSES(rnn_cell, p->out.rows = 6, "out is [6, 20] and must be [5, 20] like next");
    REFUSES(rnn_cell, p->out = p->next, "next and out overlap");
    REFUSES(scatter, p->out.cols = 19, "out has 19 columns, fewer than the 20 of x");
    REFUSES(scatter, p->out.rows = 4, "out has 4 rows and must have 5 like x");
    REFUSES(scatter, p->ids.buffer = NULL, "ids is missing");
    REFUSES(scatter, p->fill = 1.0f / 0.0f, "fill must be finite");
    REFUSES(adjust, p->out.cols = 999, "out is [5, 999] and must be [5, 1000] like x");
    REFUSES(adjust, p->bias_ids.rows = p->bias_values.rows = 3, "bias_ids has 3 rows and must have 4 like history");
    REFUSES(adjust, p->bias_values.cols = 19, "bias_values is [4, 19] and must be [4, 20] like bias_ids");
    REFUSES(adjust, p->n_drafted = 0, "drafted is given but n_drafted is 0");
    REFUSES(reject, p->drafted.cols = 999, "drafted has 999 columns and must have 1000 like logits");
    REFUSES(reject, p->bias_rows = 0, "bias is given but bias_rows is 0");
    REFUSES(top_linear, p->residual.at.buffer = NULL, "residual is missing");
    REFUSES(top_linear, p->residual.cols = 99, "residual is [5, 99] and must be [5, 100] like y");
    REFUSES(top_linear, p->x.elem = DS_ELEM_BF16, "x is bf16 and must be q8");
    REFUSES(top_linear, p->top = 0, "top is 0 and must be 1 to 100");
    REFUSES(top_linear, p->top = 101, "top is 101 and must be 1 to 100");
    REFUSES(top_linear, p->fill = 1.0f / 0.0f, "fill must be finite");
    REFUSES(top_linear, p->residual = p->y, "residual and y overlap");
    REFUSES(max_prob, p->log_odds.cols = p->log_odds.stride = 2, "log_odds is [5, 2] and must be [5, 1] for the rows of logits");
    REFUSES(max_prob, p->log_odds.rows = 4, "log_odds is [4, 1] and must be [5, 1]");
    REFUSES(max_prob, p->logits.elem = DS_ELEM_I32, "logits is i32 and must be f32");
    REFUSES(max_prob, p->log_odds.at = p->logits.at, "logits and log_odds overlap");
    REFUSES(copy, p->x.elem = DS_ELEM_BF16, "x is bf16 and must be f32 or i32");
    REFUSES(copy, p->out.elem = DS_ELEM_F32, "out is f32 and must be i32");
    REFUSES(copy, p->out.cols = 6, "out has 6 columns and must have 7 like x");
    REFUSES(copy, (p->index.buffer = NULL, p->out.rows = 10), "out has 10 rows, x without an index only 9");
    REFUSES(sample, p->bias_rows = 0, "bias is given but bias_rows is 0");
    REFUSES(sample, p->bias.buffer = NULL, "bias is absent but bias_rows is 3");
    REFUSES(sample, p->logits.elem = DS_ELEM_BF16, "logits is bf16 and must be f32");
}

static void a_fused_op_is_refused_where_a_part_of_it_is(void **state) {
    (void)state;
    REFUSES(norm_quantize, p->out.cols = 299, "out is [5, 299] and must be [5, 300] like x");
    REFUSES(norm_quantize, p->eps = 0, "eps is 0");
    REFUSES(norm_quantize, p->normed = p->x, "x and normed overlap");
    REFUSES(glu_quantize, p->groups = 3, "3 groups in a row of x");
    REFUSES(glu_quantize, p->activation = (ds_activation)7, "activation 7 is unknown");
    REFUSES(heads, p->q.cols = 60, "x has 60 columns, not a multiple of dim 16");
    REFUSES(heads, (p->q.cols = 60, p->q_norm.buffer = NULL), "x has 60 columns, not a multiple of head_dim 16");
    REFUSES(heads, p->n_rot = 18, "n_rot is 18");
    REFUSES(heads, p->v = p->k, "k and v overlap");
    REFUSES(heads, p->kv.kv_heads = 3, "k has 32 columns, 3 heads of 16 need 48");
}

static void wrong_mixtures_of_experts_are_refused(void **state) {
    (void)state;
    REFUSES(scale, p->out.cols = 39, "out is [5, 39] and must be [5, 40] like x");
    REFUSES(scale, p->scale = 1.0f / 0.0f, "scale must be finite");
    REFUSES(scale, p->softcap = -1, "softcap is -1");
    REFUSES(rms_norm, (p->residual = p->out, p->residual.cols = 95), "residual is [5, 95] and must be [5, 96] like x");
    REFUSES(quantize, p->groups = 3, "3 groups in a row of x");
    REFUSES(route, p->ids.cols = 2, "weights is [5, 3] and must be [5, 2] like ids");
    REFUSES(route, (p->ids.cols = p->ids.stride = 13, p->weights.cols = p->weights.stride = 13), "13 slots of 12 experts");
    REFUSES(route, p->logits.rows = 4, "ids has 5 rows and must have 4 like logits");
    REFUSES(route, p->logits.cols = p->logits.stride = 1025, "1025 experts");
    REFUSES(expert_linear, p->experts = 5, "weight has 512 rows, 5 experts of 100 outputs need 640");
    REFUSES(expert_linear, p->outputs = 0, "4 experts of 0 outputs");
    REFUSES(expert_linear, p->x.rows = 7, "x has 7 rows and must have 5, or one for each of 3 slots");
    REFUSES(expert_linear, p->y.cols = 299, "y is [5, 299]; ids [5, 3] and 100 outputs give [5, 300]");
    REFUSES(expert_linear, p->weight.type = DS_TYPE_BF16, "x is q8 and must be bf16");
    REFUSES(expert_sum, p->weights.cols = 2, "x has 120 columns, 2 slots of 40 need 80");
    REFUSES(expert_sum, p->y.rows = 4, "weights has 5 rows, y 4; both must have 5 like x");
    REFUSES(expert_sum, p->residual.cols = 30, "residual is [5, 30] and must be [5, 40] like y");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_views_are_refused),
        cmocka_unit_test(sizes_saturate_instead_of_wrapping),
        cmocka_unit_test(wrong_embeds_are_refused),
        cmocka_unit_test(wrong_norms_are_refused),
        cmocka_unit_test(wrong_quantisations_are_refused),
        cmocka_unit_test(wrong_linears_are_refused),
        cmocka_unit_test(wrong_ropes_are_refused),
        cmocka_unit_test(wrong_caches_are_refused),
        cmocka_unit_test(wrong_attentions_are_refused),
        cmocka_unit_test(wrong_gates_copies_and_samples_are_refused),
        cmocka_unit_test(a_fused_op_is_refused_where_a_part_of_it_is),
        cmocka_unit_test(wrong_mixtures_of_experts_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
