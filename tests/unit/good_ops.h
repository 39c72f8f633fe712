/* Parameters of every op that are right, for tests that spoil them. */
#ifndef DSPARK_TESTS_GOOD_OPS_H
#define DSPARK_TESTS_GOOD_OPS_H

#include "ops/device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { ROWS = 5, BUFFER_BYTES = 1 << 20, MAX_BUFFERS = 16 };

static struct ds_buffer buffers[MAX_BUFFERS];
static uint32_t used;

/* The start of a buffer of its own; nothing is ever read or written. */
static inline struct ds_slice fresh(void) {
    assert_true(used < MAX_BUFFERS);
    buffers[used] = (struct ds_buffer){.bytes = BUFFER_BYTES};
    return (struct ds_slice){.buffer = &buffers[used++]};
}

static inline struct ds_view view(ds_elem elem, uint32_t rows, uint32_t cols) {
    return (struct ds_view){.at = fresh(), .elem = elem, .rows = rows, .cols = cols, .stride = cols};
}

static inline struct ds_kv kv(void) {
    return (struct ds_kv){.k = fresh(), .v = fresh(), .f16 = true, .pages = 4, .kv_heads = 2, .head_dim = 16};
}

static inline struct ds_paging paging(void) {
    return (struct ds_paging){
        .page_table = fresh(), .sequences = 2, .pages_per_sequence = 2, .row_sequence = fresh(), .positions = fresh()};
}

/* Every op with all its optional operands. */
static inline union ds_op_params good(ds_op op) {
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
    case DS_OP_max_prob:
        p.max_prob = (struct ds_op_max_prob){.logits = view(DS_ELEM_F32, ROWS, 1000), .log_odds = view(DS_ELEM_F32, ROWS, 1), .count = fresh()};
        break;
    case DS_OP_COUNT:
        break;
    }
    return p;
}

static inline void assert_accepted(ds_op op, const union ds_op_params *params) {
    struct ds_error err;
    if (ds_op_check(op, params, &err) != DS_OK) fail_msg("refused: %s", err.message);
}

static inline void assert_refused(ds_op op, const union ds_op_params *params, const char *part) {
    struct ds_error err;
    if (ds_op_check(op, params, &err) == DS_OK) fail_msg("%s was accepted, expected \"%s\"", ds_op_name(op), part);
    assert_non_null(strstr(err.message, ds_op_name(op)));
    if (!strstr(err.message, part)) fail_msg("\"%s\" does not say \"%s\"", err.message, part);
}

static inline struct ds_slice *slice_at(union ds_op_params *params, const struct ds_operand *operand) {
    return (struct ds_slice *)(void *)((char *)params + operand->offset);
}

#endif
