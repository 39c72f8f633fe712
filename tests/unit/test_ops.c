/* The front of every backend refuses what would make one read or write where it should not, and says why. */
#include "ops/device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* --- parameters that are right --- */

enum { ROWS = 5, BUFFER_BYTES = 1 << 20, MAX_BUFFERS = 16 };

static struct ds_buffer buffers[MAX_BUFFERS];
static uint32_t used;

/* The start of a buffer of its own; nothing is ever read or written. */
static struct ds_slice fresh(void) {
    assert_true(used < MAX_BUFFERS);
    buffers[used] = (struct ds_buffer){.bytes = BUFFER_BYTES};
    return (struct ds_slice){.buffer = &buffers[used++]};
}

static struct ds_view view(ds_elem elem, uint32_t rows, uint32_t cols) {
    return (struct ds_view){.at = fresh(), .elem = elem, .rows = rows, .cols = cols, .stride = cols};
}

static struct ds_kv kv(void) {
    return (struct ds_kv){.k = fresh(), .v = fresh(), .f16 = true, .pages = 4, .kv_heads = 2, .head_dim = 16};
}

static struct ds_paging paging(void) {
    return (struct ds_paging){
        .page_table = fresh(), .sequences = 2, .pages_per_sequence = 2, .row_sequence = fresh(), .positions = fresh()};
}

/* Every op with all its optional operands. */
static union ds_op_params good(ds_op op) {
    union ds_op_params p;
    memset(&p, 0, sizeof p);
    used = 0;
    switch (op) {
    case DS_OP_embed:
        p.embed = (struct ds_op_embed){.table = {.at = fresh(), .type = DS_TYPE_Q4_K, .rows = 70, .cols = 256},
                                       .ids = fresh(),
                                       .out = view(DS_ELEM_F32, ROWS, 256),
                                       .scale = 1,
                                       .count = fresh()};
        break;
    case DS_OP_rms_norm:
        p.rms_norm = (struct ds_op_rms_norm){.x = view(DS_ELEM_F32, ROWS, 96),
                                             .out = view(DS_ELEM_F32, ROWS, 96),
                                             .dim = 32,
                                             .weight = fresh(),
                                             .eps = 1e-6f,
                                             .count = fresh()};
        break;
    case DS_OP_quantize:
        p.quantize = (struct ds_op_quantize){
            .x = view(DS_ELEM_F32, ROWS, 300), .out = view(DS_ELEM_Q8, ROWS, 300), .flags = fresh(), .count = fresh()};
        break;
    case DS_OP_linear:
        p.linear = (struct ds_op_linear){.weight = {.at = fresh(), .type = DS_TYPE_Q4_K, .rows = 512, .cols = 256},
                                         .x = view(DS_ELEM_Q8, ROWS, 256),
                                         .y = view(DS_ELEM_F32, ROWS, 512),
                                         .bias = fresh(),
                                         .residual = view(DS_ELEM_F32, ROWS, 512),
                                         .count = fresh()};
        break;
    case DS_OP_rope:
        p.rope = (struct ds_op_rope){.x = view(DS_ELEM_F32, ROWS, 64),
                                     .head_dim = 32,
                                     .n_rot = 16,
                                     .cos = fresh(),
                                     .sin = fresh(),
                                     .table_positions = 100,
                                     .positions = fresh(),
                                     .count = fresh()};
        break;
    case DS_OP_kv_store:
        p.kv_store = (struct ds_op_kv_store){.k = view(DS_ELEM_F32, ROWS, 32),
                                             .v = view(DS_ELEM_F32, ROWS, 32),
                                             .kv = kv(),
                                             .paging = paging(),
                                             .count = fresh()};
        break;
    case DS_OP_attention:
        p.attention = (struct ds_op_attention){.q = view(DS_ELEM_F32, ROWS, 64),
                                               .out = view(DS_ELEM_F32, ROWS, 64),
                                               .heads = 4,
                                               .kv = kv(),
                                               .paging = paging(),
                                               .visible = fresh(),
                                               .scale = 1,
                                               .count = fresh()};
        break;
    case DS_OP_glu:
        p.glu = (struct ds_op_glu){.gate = view(DS_ELEM_F32, ROWS, 48),
                                   .up = view(DS_ELEM_F32, ROWS, 48),
                                   .out = view(DS_ELEM_F32, ROWS, 48),
                                   .count = fresh()};
        break;
    case DS_OP_copy:
        p.copy = (struct ds_op_copy){
            .x = view(DS_ELEM_I32, 9, 7), .out = view(DS_ELEM_I32, ROWS, 7), .index = fresh(), .count = fresh()};
        break;
    case DS_OP_sample:
        p.sample = (struct ds_op_sample){.logits = view(DS_ELEM_F32, ROWS, 1000),
                                         .rows = fresh(),
                                         .bias = fresh(),
                                         .bias_rows = 3,
                                         .tokens = fresh(),
                                         .flags = fresh(),
                                         .count = fresh()};
        break;
    case DS_OP_scale:
        p.scale = (struct ds_op_scale){.x = view(DS_ELEM_F32, ROWS, 40), .out = view(DS_ELEM_F32, ROWS, 40), .scale = 0.5f, .softcap = 30, .count = fresh()};
        break;
    case DS_OP_route:
        p.route = (struct ds_op_route){.logits = view(DS_ELEM_F32, ROWS, 12),
                                       .ids = view(DS_ELEM_I32, ROWS, 3),
                                       .weights = view(DS_ELEM_F32, ROWS, 3),
                                       .scale = fresh(),
                                       .count = fresh()};
        break;
    case DS_OP_expert_linear:
        p.expert_linear = (struct ds_op_expert_linear){.weight = {.at = fresh(), .type = DS_TYPE_Q4_K, .rows = 4 * 128, .cols = 256},
                                                       .experts = 4,
                                                       .outputs = 100,
                                                       .x = view(DS_ELEM_Q8, ROWS, 256),
                                                       .ids = view(DS_ELEM_I32, ROWS, 3),
                                                       .y = view(DS_ELEM_F32, ROWS, 300),
                                                       .count = fresh()};
        break;
    case DS_OP_expert_sum:
        p.expert_sum = (struct ds_op_expert_sum){.x = view(DS_ELEM_F32, ROWS, 3 * 40),
                                                 .weights = view(DS_ELEM_F32, ROWS, 3),
                                                 .y = view(DS_ELEM_F32, ROWS, 40),
                                                 .residual = view(DS_ELEM_F32, ROWS, 40),
                                                 .count = fresh()};
        break;
    case DS_OP_rnn_cell:
        p.rnn_cell = (struct ds_op_rnn_cell){.gates = view(DS_ELEM_F32, ROWS, 60),
                                             .state = view(DS_ELEM_F32, ROWS, 20),
                                             .next = view(DS_ELEM_F32, ROWS, 20),
                                             .out = view(DS_ELEM_F32, ROWS, 20),
                                             .count = fresh()};
        break;
    case DS_OP_scatter:
        p.scatter = (struct ds_op_scatter){
            .x = view(DS_ELEM_F32, ROWS, 20), .ids = fresh(), .out = view(DS_ELEM_F32, ROWS, 50), .fill = -1, .count = fresh()};
        break;
    case DS_OP_adjust:
        p.adjust = (struct ds_op_adjust){.x = view(DS_ELEM_F32, ROWS, 1000),
                                         .out = view(DS_ELEM_F32, ROWS, 1000),
                                         .rows = fresh(),
                                         .history = view(DS_ELEM_I32, 4, 300),
                                         .drafted = fresh(),
                                         .n_drafted = 6,
                                         .bias_ids = view(DS_ELEM_I32, 4, 20),
                                         .bias_values = view(DS_ELEM_F32, 4, 20),
                                         .count = fresh()};
        break;
    case DS_OP_reject:
        p.reject = (struct ds_op_reject){.logits = view(DS_ELEM_F32, ROWS, 1000),
                                         .rows = fresh(),
                                         .drafted = view(DS_ELEM_F32, 9, 1000),
                                         .bias = fresh(),
                                         .bias_rows = 3,
                                         .tokens = fresh(),
                                         .flags = fresh(),
                                         .count = fresh()};
        break;
    case DS_OP_norm_quantize:
        p.norm_quantize = (struct ds_op_norm_quantize){.x = view(DS_ELEM_F32, ROWS, 300), .weight = fresh(), .eps = 1e-6f,
                                                       .normed = view(DS_ELEM_F32, ROWS, 300), .out = view(DS_ELEM_Q8, ROWS, 300), .flags = fresh(),
                                                       .count = fresh()};
        break;
    case DS_OP_glu_quantize:
        p.glu_quantize = (struct ds_op_glu_quantize){.gate = view(DS_ELEM_F32, ROWS, 600), .up = view(DS_ELEM_F32, ROWS, 600),
                                                     .gated = view(DS_ELEM_F32, ROWS, 600), .out = view(DS_ELEM_Q8, 2 * ROWS, 300), .groups = 2,
                                                     .flags = fresh(), .count = fresh()};
        break;
    case DS_OP_heads:
        p.heads = (struct ds_op_heads){.q = view(DS_ELEM_F32, ROWS, 64), .k = view(DS_ELEM_F32, ROWS, 32), .v = view(DS_ELEM_F32, ROWS, 32),
                                       .q_norm = fresh(), .k_norm = fresh(), .eps = 1e-6f, .n_rot = 16, .cos = fresh(), .sin = fresh(),
                                       .table_positions = 100, .kv = kv(), .paging = paging(), .count = fresh()};
        break;
    case DS_OP_top_linear:
        p.top_linear = (struct ds_op_top_linear){.weight = {.at = fresh(), .type = DS_TYPE_Q4_K, .rows = 100, .cols = 256},
                                                 .x = view(DS_ELEM_Q8, ROWS, 256), .residual = view(DS_ELEM_F32, ROWS, 100),
                                                 .y = view(DS_ELEM_F32, ROWS, 100), .top = 100, .fill = -1, .count = fresh()};
        break;
    case DS_OP_COUNT:
        break;
    }
    return p;
}

static void assert_accepted(ds_op op, const union ds_op_params *params) {
    struct ds_error err;
    if (ds_op_check(op, params, &err) != DS_OK) fail_msg("refused: %s", err.message);
}

static void assert_refused(ds_op op, const union ds_op_params *params, const char *part) {
    struct ds_error err;
    if (ds_op_check(op, params, &err) == DS_OK) fail_msg("%s was accepted, expected \"%s\"", ds_op_name(op), part);
    assert_non_null(strstr(err.message, ds_op_name(op)));
    if (!strstr(err.message, part)) fail_msg("\"%s\" does not say \"%s\"", err.message, part);
}

static struct ds_slice *slice_at(union ds_op_params *params, const struct ds_operand *operand) {
    return (struct ds_slice *)(void *)((char *)params + operand->offset);
}

/* --- what holds for every operand of every op --- */

static void good_parameters_of_every_op_are_accepted(void **state) {
    (void)state;
    for (ds_op op = 0; op < DS_OP_COUNT; op++) {
        const union ds_op_params params = good(op);
        assert_accepted(op, &params);
    }
}

static void a_buffer_one_byte_short_is_refused_for_every_operand(void **state) {
    (void)state;
    for (ds_op op = 0; op < DS_OP_COUNT; op++) {
        union ds_op_params params = good(op);
        struct ds_operand operands[DS_MAX_OPERANDS];
        const uint32_t n = ds_op_operands(op, &params, operands);
        assert_true(n >= 3);
        for (uint32_t i = 0; i < n; i++) {
            struct ds_slice *slice = slice_at(&params, &operands[i]);
            slice->offset = 128;
            slice->buffer->bytes = 128 + operands[i].bytes;
            assert_accepted(op, &params);
            slice->buffer->bytes--;
            assert_refused(op, &params, operands[i].name);
            slice->buffer->bytes = 100; /* the offset itself lies outside */
            assert_refused(op, &params, "of a buffer of 100");
            slice->buffer->bytes = BUFFER_BYTES;
        }
    }
}

static void a_misaligned_operand_is_refused(void **state) {
    (void)state;
    for (ds_op op = 0; op < DS_OP_COUNT; op++) {
        union ds_op_params params = good(op);
        struct ds_operand operands[DS_MAX_OPERANDS];
        const uint32_t n = ds_op_operands(op, &params, operands);
        for (uint32_t i = 0; i < n; i++) {
            slice_at(&params, &operands[i])->offset = 1;
            assert_refused(op, &params, "not a multiple of");
            slice_at(&params, &operands[i])->offset = 0;
        }
    }
}

static void only_optional_operands_may_be_absent(void **state) {
    (void)state;
    static const struct {
        ds_op op;
        const char *name;
    } optional[] = {{DS_OP_rms_norm, "weight"}, {DS_OP_quantize, "flags"}, {DS_OP_linear, "bias"},
                    {DS_OP_linear, "residual"}, {DS_OP_copy, "index"},     {DS_OP_sample, "flags"},
                    {DS_OP_route, "scale"},    {DS_OP_expert_sum, "residual"},                     {DS_OP_rnn_cell, "state"},
                    {DS_OP_reject, "drafted"}, {DS_OP_reject, "flags"},
                    {DS_OP_norm_quantize, "weight"},  {DS_OP_norm_quantize, "flags"}, {DS_OP_glu_quantize, "flags"},
                    {DS_OP_heads, "q"},        {DS_OP_heads, "q_norm"},    {DS_OP_heads, "k_norm"}};
    for (ds_op op = 0; op < DS_OP_COUNT; op++) {
        const union ds_op_params all = good(op);
        struct ds_operand operands[DS_MAX_OPERANDS];
        const uint32_t n = ds_op_operands(op, &all, operands);
        for (uint32_t i = 0; i < n; i++) {
            bool may_be_absent = strcmp(operands[i].name, "count") == 0;
            for (size_t k = 0; k < DS_COUNT(optional); k++)
                may_be_absent = may_be_absent || (optional[k].op == op && strcmp(optional[k].name, operands[i].name) == 0);
            union ds_op_params params = all;
            slice_at(&params, &operands[i])->buffer = NULL;
            struct ds_operand fewer[DS_MAX_OPERANDS];
            assert_int_equal(ds_op_operands(op, &params, fewer), n - 1);
            if (may_be_absent)
                assert_accepted(op, &params);
            else
                assert_refused(op, &params, operands[i].name);
        }
    }
}

static void an_output_overlaps_no_input(void **state) {
    (void)state;
    for (ds_op op = 0; op < DS_OP_COUNT; op++) {
        const union ds_op_params all = good(op);
        struct ds_operand operands[DS_MAX_OPERANDS];
        const uint32_t n = ds_op_operands(op, &all, operands);
        for (uint32_t i = 0; i < n; i++) {
            for (uint32_t k = 0; k < n; k++) {
                if (i == k || !(operands[i].access & DS_WRITE)) continue;
                union ds_op_params params = all;
                const struct ds_slice *output = slice_at(&params, &operands[i]);
                struct ds_slice *other = slice_at(&params, &operands[k]);
                /* The last byte of the output; then just behind it. */
                *other = (struct ds_slice){.buffer = output->buffer, .offset = (operands[i].bytes - 1) / 64 * 64};
                assert_refused(op, &params, "overlap");
                other->offset = DS_ALIGN_UP(operands[i].bytes, 64);
                assert_accepted(op, &params);
            }
        }
    }
}

static void operands_on_two_devices_are_refused(void **state) {
    (void)state;
    struct ds_device one = {0}, two = {0};
    union ds_op_params params = good(DS_OP_glu);
    params.glu.gate.at.buffer->device = &one;
    params.glu.up.at.buffer->device = &one;
    assert_accepted(DS_OP_glu, &params);
    params.glu.up.at.buffer->device = &two;
    assert_refused(DS_OP_glu, &params, "gate and up lie on different devices");
}

/* --- overlaps of views --- */

static void column_blocks_of_one_matrix_do_not_overlap(void **state) {
    (void)state;
    union ds_op_params params = good(DS_OP_glu);
    struct ds_op_glu *p = &params.glu;
    /* gate, up and out side by side in rows of 150 */
    p->gate.stride = p->up.stride = p->out.stride = 150;
    p->up.at = p->out.at = p->gate.at;
    p->up.at.offset = 50 * 4;
    p->out.at.offset = 100 * 4;
    assert_accepted(DS_OP_glu, &params);
    /* one column into up; then cyclically, out's last columns in the next row's gate */
    p->out.at.offset = 97 * 4;
    assert_refused(DS_OP_glu, &params, "up and out overlap");
    p->out.at.offset = 103 * 4;
    assert_refused(DS_OP_glu, &params, "gate and out overlap");
    /* rows that start later in the same columns */
    p->out.at.offset = (150 * ROWS + 100) * 4;
    assert_accepted(DS_OP_glu, &params);
    p->out.at.offset = 150 * 4;
    assert_refused(DS_OP_glu, &params, "overlap");
    /* another pitch counts as an overlap */
    p->out.at.offset = 100 * 4;
    p->out.stride = 151;
    assert_refused(DS_OP_glu, &params, "overlap");
    /* one row has no pitch */
    p->gate.rows = p->up.rows = p->out.rows = 1;
    assert_accepted(DS_OP_glu, &params);
}

static void in_place_means_the_very_same_view(void **state) {
    (void)state;
    union ds_op_params params = good(DS_OP_glu);
    params.glu.out = params.glu.gate;
    assert_accepted(DS_OP_glu, &params);
    params.glu.out = params.glu.up;
    assert_accepted(DS_OP_glu, &params);
    params.glu.out.at.offset += 4;
    assert_refused(DS_OP_glu, &params, "without being the very same view");

    params = good(DS_OP_rms_norm);
    params.rms_norm.out = params.rms_norm.x;
    assert_accepted(DS_OP_rms_norm, &params);
    params.rms_norm.out.stride++;
    assert_refused(DS_OP_rms_norm, &params, "x and out overlap");

    params = good(DS_OP_linear);
    params.linear.residual = params.linear.y;
    assert_accepted(DS_OP_linear, &params);

    params = good(DS_OP_copy);
    params.copy.x = params.copy.out;
    assert_refused(DS_OP_copy, &params, "x and out overlap");
}

/* --- each op's own rules --- */

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

/* --- operands --- */

static uint64_t bytes_of(ds_op op, const char *name, ds_access access) {
    const union ds_op_params params = good(op);
    struct ds_operand operands[DS_MAX_OPERANDS];
    const uint32_t n = ds_op_operands(op, &params, operands);
    for (uint32_t i = 0; i < n; i++) {
        if (strcmp(operands[i].name, name) != 0) continue;
        assert_int_equal(operands[i].access, access);
        return operands[i].bytes;
    }
    fail_msg("%s has no operand %s", ds_op_name(op), name);
    return 0;
}

static void operands_reach_exactly_as_far_as_the_op_does(void **state) {
    (void)state;
    assert_int_equal(bytes_of(DS_OP_embed, "table", DS_READ), 70 * 144);
    assert_int_equal(bytes_of(DS_OP_embed, "ids", DS_READ), ROWS * 4);
    assert_int_equal(bytes_of(DS_OP_embed, "out", DS_WRITE), ROWS * 256 * 4);
    assert_int_equal(bytes_of(DS_OP_rms_norm, "weight", DS_READ), 32 * 4);
    /* 300 columns: 512 values, 2 scales, 32 sums of 2 bytes, rounded up to 64 */
    assert_int_equal(bytes_of(DS_OP_quantize, "out", DS_WRITE), ROWS * 640);
    assert_int_equal(bytes_of(DS_OP_quantize, "flags", DS_READ_WRITE), ROWS * 4);
    /* 255 columns: 256 values, 8 scales, 16 sums, a whole number of 64 */
    assert_int_equal(ds_view_bytes(&(struct ds_view){.elem = DS_ELEM_Q8_32, .rows = 3, .cols = 255}), 3 * 320);
    assert_int_equal(bytes_of(DS_OP_linear, "weight", DS_READ), 512 * 144);
    assert_int_equal(bytes_of(DS_OP_linear, "bias", DS_READ), 512 * 4);
    assert_int_equal(bytes_of(DS_OP_rope, "x", DS_READ_WRITE), ROWS * 64 * 4);
    assert_int_equal(bytes_of(DS_OP_rope, "cos", DS_READ), 100 * 8 * 4);
    assert_int_equal(bytes_of(DS_OP_kv_store, "kv.k", DS_READ_WRITE), 4 * 2 * 16 * 64 * 2);
    assert_int_equal(bytes_of(DS_OP_kv_store, "paging.page_table", DS_READ), 2 * 2 * 4);
    assert_int_equal(bytes_of(DS_OP_attention, "kv.v", DS_READ), 4 * 2 * 16 * 64 * 2);
    assert_int_equal(bytes_of(DS_OP_attention, "visible", DS_READ), ROWS * 4);
    assert_int_equal(bytes_of(DS_OP_copy, "x", DS_READ), 9 * 7 * 4);
    assert_int_equal(bytes_of(DS_OP_sample, "rows", DS_READ), ROWS * 64);
    assert_int_equal(bytes_of(DS_OP_sample, "bias", DS_READ), 3 * 1000 * 4);
    assert_int_equal(bytes_of(DS_OP_sample, "tokens", DS_WRITE), ROWS * 4);
    assert_int_equal(bytes_of(DS_OP_sample, "count", DS_READ), 4);
    const struct ds_view strided = {.elem = DS_ELEM_F32, .rows = 3, .cols = 10, .stride = 100};
    assert_int_equal(ds_view_bytes(&strided), (2 * 100 + 10) * 4);
}

/* --- devices --- */

static void devices_are_found_by_name_and_others_are_listed(void **state) {
    (void)state;
    const char *names[8];
    const uint32_t count = ds_device_names(NULL, names, DS_COUNT(names));
    assert_true(count >= 1 && count <= DS_COUNT(names));
    assert_string_equal(names[count - 1], "ref"); /* the slowest comes last */
    assert_int_equal(ds_device_names(NULL, NULL, 0), count);

    struct ds_error err;
    const struct ds_device_params params = {.threads = 1};
    for (uint32_t i = 0; i <= count; i++) { /* and the best one, without a name */
        struct ds_device *device;
        assert_int_equal(ds_device_create(i < count ? names[i] : NULL, &params, &device, &err), DS_OK);
        assert_int_equal(device->fns->version, DS_DEVICE_VERSION);
        struct ds_device_limits limits;
        device->fns->limits(device, &limits);
        assert_string_equal(limits.name, names[i < count ? i : 0]);
        ds_device_destroy(device);
    }
    struct ds_device *device = (struct ds_device *)&params;
    assert_int_equal(ds_device_create("gpu:7", &params, &device, &err), DS_ERROR_DEVICE);
    assert_null(device);
    assert_non_null(strstr(err.message, "gpu:7"));
    assert_non_null(strstr(err.message, "ref"));
    ds_device_destroy(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_parameters_of_every_op_are_accepted),
        cmocka_unit_test(a_buffer_one_byte_short_is_refused_for_every_operand),
        cmocka_unit_test(a_misaligned_operand_is_refused),
        cmocka_unit_test(only_optional_operands_may_be_absent),
        cmocka_unit_test(an_output_overlaps_no_input),
        cmocka_unit_test(operands_on_two_devices_are_refused),
        cmocka_unit_test(column_blocks_of_one_matrix_do_not_overlap),
        cmocka_unit_test(in_place_means_the_very_same_view),
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
        cmocka_unit_test(operands_reach_exactly_as_far_as_the_op_does),
        cmocka_unit_test(devices_are_found_by_name_and_others_are_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
