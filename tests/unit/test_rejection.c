/*
 * Rejection sampling leaves the target's distribution as it is: whole rounds of the op `reject` and of src/spec/accept.h over a target and
 * a drafter that are tables of probabilities given the token before, 100,000 continuations of three tokens against the exact
 * probabilities. Deliberately broken rules are caught by the same test. Random numbers are fixed, so no run differs from another.
 */
#include "check.h"
#include "chi_square.h"
#include "ref_device.h"

#include "graph/graph.h"
#include "ops/wide.h"
#include "spec/accept.h"
#include "spec/schedule.h"

#include <math.h>
#include <stdlib.h>

enum { V = 5, DRAFTS = 3, LENGTH = 3, SAMPLES = 100000, CELLS = V * V * V };
static const float temperature = 0.8f;

/* Logits of the next token given the last one. The drafter is wrong by degrees; it never says token 4 behind token 1. */
static const float target_logits[V][V] = {{1, 0, -1, 2, 0.5f}, {0, 0, 0, 0, 0}, {3, -2, 1, 0, 1}, {-1, 1, 1, 2, -3}, {0.1f, 2.5f, -1, 0, 1}};
static const float draft_logits[V][V] = {{1, 0.5f, -1, 1, 1}, {2, 0, 0, 0, -1e30f}, {3, -2, 1, 0, 1}, {1, -1, 2, -1, 3}, {-2, 2, 0, 1, 0}};

enum rule {
    RIGHT,
    ACCEPT_ALL,
    RESIDUAL_IS_TARGET, /* the token behind a rejection is drawn from p_t */
    OTHER_TEMPERATURE,  /* drafts are drawn at temperature 1, and accepted as if they were not */
};

/* What the drafter at hand says; see restrict_drafts. */
static const float (*drafts_from)[V] = draft_logits;

static struct ds_buffer *buffer(uint64_t bytes) {
    struct ds_error err;
    struct ds_buffer *b;
    check_ok(device->fns->buffer_create(device, bytes, &b, &err), &err);
    return b;
}

/* A state of many requests: all rows of one slot are drawn at once. */
struct pass {
    uint32_t rows;
    struct ds_buffer *logits, *drafted, *how, *tokens;
};

static void open_pass(struct pass *p, uint32_t rows) {
    *p = (struct pass){.rows = rows, .logits = buffer(4ull * V * rows), .drafted = buffer(4ull * V * rows),
                       .how = buffer(sizeof(struct ds_sample_row) * rows), .tokens = buffer(4ull * rows)};
}
static void close_pass(struct pass *p) {
    device->fns->buffer_destroy(p->logits);
    device->fns->buffer_destroy(p->drafted);
    device->fns->buffer_destroy(p->how);
    device->fns->buffer_destroy(p->tokens);
}
static float *logits_of(const struct pass *p, uint32_t r) { return (float *)device->fns->host(p->logits) + (size_t)r * V; }
static float *drafted_of(const struct pass *p, uint32_t r) { return (float *)device->fns->host(p->drafted) + (size_t)r * V; }
static struct ds_sample_row *how_of(const struct pass *p, uint32_t r) { return (struct ds_sample_row *)device->fns->host(p->how) + r; }
static const int32_t *tokens_of(const struct pass *p) { return device->fns->host(p->tokens); }

static void run(const struct pass *p) {
    struct ds_error err;
    const union ds_op_params params = {.reject = {.logits = ds_view_of((struct ds_slice){p->logits, 0}, DS_ELEM_F32, p->rows, V),
                                                  .drafted = ds_view_of((struct ds_slice){p->drafted, 0}, DS_ELEM_F32, p->rows, V),
                                                  .rows = {p->how, 0}, .tokens = {p->tokens, 0}}};
    check_ok(ds_op_check(DS_OP_reject, &params, &err), &err);
    check_ok(device->fns->op[DS_OP_reject](stream, &params, &err), &err);
}

static struct ds_sample_row row_of(uint32_t request, uint32_t position, float t) {
    return (struct ds_sample_row){.inverse_temperature = 1 / t, .seed_low = 20240607, .position = position, .stream = request, .bias_row = -1};
}

struct request {
    int32_t sequence[1 + LENGTH + DRAFTS + 1];
    uint32_t length; /* the first token is given */
    int32_t draft[DRAFTS];
};

/* Slot by slot: a draft depends on the one before it. */
static void draft_all(struct request *requests, const struct pass *p, enum rule rule) {
    for (uint32_t k = 0; k < DRAFTS; k++) {
        for (uint32_t i = 0; i < SAMPLES; i++) {
            const struct request *q = &requests[i];
            const int32_t previous = k ? q->draft[k - 1] : q->sequence[q->length - 1];
            memcpy(logits_of(p, i), drafts_from[previous], sizeof drafts_from[previous]);
            *how_of(p, i) = row_of(i, q->length + k, rule == OTHER_TEMPERATURE ? 1.0f : temperature);
            how_of(p, i)->method = DS_DRAW_MASS;
            how_of(p, i)->purpose = 1;
        }
        run(p);
        for (uint32_t i = 0; i < SAMPLES; i++) requests[i].draft[k] = tokens_of(p)[i];
    }
}

static void verify_all(struct request *requests, const struct pass *p, enum rule rule) {
    struct ds_error err;
    enum { ROWS = DRAFTS + 1 };
    for (uint32_t r = 0; r < SAMPLES * ROWS; r++) {
        const struct request *q = &requests[r / ROWS];
        const uint32_t j = r % ROWS;
        const int32_t previous = j ? q->draft[j - 1] : q->sequence[q->length - 1];
        memcpy(logits_of(p, r), target_logits[previous], sizeof target_logits[previous]);
        memcpy(drafted_of(p, r), drafts_from[previous], sizeof drafts_from[previous]);
        struct ds_sample_row *how = how_of(p, r);
        *how = row_of(r / ROWS, q->length + j, temperature);
        how->method = j < DRAFTS ? DS_DRAW_REJECTION : DS_DRAW_MASS;
        how->purpose = 3;
        how->draft = j < DRAFTS ? q->draft[j] : -1;
        how->draft_row = r;
    }
    run(p);
    int32_t *tokens = device->fns->host(p->tokens);
    static int32_t decided[SAMPLES * ROWS];
    memcpy(decided, tokens, sizeof decided);
    if (rule == RESIDUAL_IS_TARGET) {
        for (uint32_t r = 0; r < SAMPLES * ROWS; r++) how_of(p, r)->method = DS_DRAW_MASS;
        run(p);
        for (uint32_t r = 0; r < SAMPLES * ROWS; r++)
            if (r % ROWS < DRAFTS && decided[r] != requests[r / ROWS].draft[r % ROWS]) decided[r] = tokens[r];
    }
    const uint32_t no_flags[ROWS] = {0};
    for (uint32_t i = 0; i < SAMPLES; i++) {
        struct request *q = &requests[i];
        for (uint32_t j = 0; j < DRAFTS && rule == ACCEPT_ALL; j++) decided[i * ROWS + j] = q->draft[j];
        uint32_t accepted;
        ds_token next;
        check_ok(ds_accept(&(struct ds_verified_rows){.tokens = decided + i * ROWS, .flags = no_flags, .flags_rows = no_flags, .draft = q->draft,
                                                  .n_draft = DRAFTS, .position = q->length - 1}, &accepted, &next, &err), &err);
        if (q->length > LENGTH) continue;
        for (uint32_t j = 0; j < accepted; j++) q->sequence[q->length + j] = q->draft[j];
        q->sequence[q->length + accepted] = next;
        q->length += accepted + 1;
    }
}

/* Of the continuation x1 x2 x3 behind token 0. */
static double probability(int cell) {
    const int x[LENGTH + 1] = {0, cell / (V * V), cell / V % V, cell % V};
    double p = 1;
    for (int k = 0; k < LENGTH; k++) {
        double sum = 0;
        for (int i = 0; i < V; i++) sum += exp((double)target_logits[x[k]][i] / (double)temperature);
        p *= exp((double)target_logits[x[k]][x[k + 1]] / (double)temperature) / sum;
    }
    return p;
}

/* Of 100,000 continuations, by chi_square.h. */
static double chi_square(enum rule rule, int *freedom) {
    struct request *requests = calloc(SAMPLES, sizeof *requests);
    struct pass drafting, verifying;
    assert_non_null(requests);
    open_pass(&drafting, SAMPLES);
    open_pass(&verifying, SAMPLES * (DRAFTS + 1));
    for (uint32_t i = 0; i < SAMPLES; i++) requests[i].length = 1;
    for (int round = 0; round < LENGTH; round++) {
        draft_all(requests, &drafting, rule);
        verify_all(requests, &verifying, rule);
    }
    uint32_t counts[CELLS] = {0};
    for (uint32_t i = 0; i < SAMPLES; i++) counts[(requests[i].sequence[1] * V + requests[i].sequence[2]) * V + requests[i].sequence[3]]++;
    free(requests);
    close_pass(&drafting);
    close_pass(&verifying);
    double p[CELLS];
    for (int cell = 0; cell < CELLS; cell++) p[cell] = probability(cell);
    const struct chi_square x = chi_square_of(counts, p, CELLS, SAMPLES);
    *freedom = x.freedom;
    return x.sum;
}

static void whole_rounds_give_the_targets_distribution(void **state) {
    (void)state;
    int freedom;
    const double x = chi_square(RIGHT, &freedom);
    if (!(x < chi_square_limit(freedom))) fail_msg("chi square %.1f with %d degrees of freedom, the limit is %.1f", x, freedom, chi_square_limit(freedom));
}

/*
 * A sequential head for the two likeliest tokens alone: op top_linear over the drafter's table, with a bias for each token that grows with the
 * token before. The other three are never drafted.
 */
static void restrict_drafts(float out[V][V]) {
    static const float w[V] = {0.5f, -0.5f, 1, -1, 0.25f}, x[V] = {0, 0.5f, 1, 1.5f, 2};
    struct ds_error err;
    struct ds_buffer *weights = buffer(device->fns->weight_bytes(device, DS_TYPE_F32, V, 1)), *inputs = buffer(sizeof x), *base = buffer(sizeof draft_logits),
                     *y = buffer(sizeof draft_logits);
    const struct ds_weight weight = {.at = {weights, 0}, .type = DS_TYPE_F32, .rows = V, .cols = 1};
    check_ok(device->fns->weight_write(stream, &weight, 0, V, w, &err), &err);
    memcpy(device->fns->host(inputs), x, sizeof x);
    memcpy(device->fns->host(base), draft_logits, sizeof draft_logits);
    const union ds_op_params params = {.top_linear = {.weight = weight, .x = ds_view_of((struct ds_slice){inputs, 0}, DS_ELEM_F32, V, 1),
                                                      .residual = ds_view_of((struct ds_slice){base, 0}, DS_ELEM_F32, V, V),
                                                      .y = ds_view_of((struct ds_slice){y, 0}, DS_ELEM_F32, V, V), .top = 2, .fill = -1e30f}};
    check_ok(ds_op_check(DS_OP_top_linear, &params, &err), &err);
    check_ok(device->fns->op[DS_OP_top_linear](stream, &params, &err), &err);
    memcpy(out, device->fns->host(y), sizeof draft_logits);
    struct ds_buffer *all[] = {weights, inputs, base, y};
    for (size_t i = 0; i < DS_COUNT(all); i++) device->fns->buffer_destroy(all[i]);
}

static void a_restricted_head_gives_the_targets_distribution_too(void **state) {
    (void)state;
    static float restricted[V][V];
    restrict_drafts(restricted);
    for (int i = 0; i < V; i++) {
        int never = 0;
        for (int k = 0; k < V; k++) never += restricted[i][k] == -1e30f;
        assert_int_equal(never, V - 2);
    }
    drafts_from = (const float (*)[V])restricted;
    whole_rounds_give_the_targets_distribution(state);
    drafts_from = draft_logits;
}

static void broken_rules_are_noticed(void **state) {
    (void)state;
    for (enum rule rule = ACCEPT_ALL; rule <= OTHER_TEMPERATURE; rule++) {
        int freedom;
        const double x = chi_square(rule, &freedom);
        if (!(x > 2 * chi_square_limit(freedom))) fail_msg("rule %d: chi square %.1f with %d degrees of freedom", (int)rule, x, freedom);
    }
}

/* --- Appendix A of the paper: p_t = (0.7, 0.3), p_d = (0.5, 0.5), passes a second (1, 0.5, 0.45) --- */

/*
 * Two drafts, whose second is sure to be accepted behind token 0 and sure not to be behind token 1. The share of first tokens that
 * are 0, when lengths are chosen by a search over all, or by Algorithm 1.
 */
static double share_of_first(bool search) {
    enum { TRIES = 20000 };
    const float p_t[2] = {logf(0.7f), logf(0.3f)}, p_d[2] = {0, 0};
    uint32_t firsts = 0;
    struct pass p;
    open_pass(&p, 1);
    for (uint32_t i = 0; i < TRIES; i++) {
        *how_of(&p, 0) = row_of(i, 1, 1);
        struct ds_sample_row *how = how_of(&p, 0);
        how->method = DS_DRAW_MASS;
        how->purpose = 1;
        memset(logits_of(&p, 0), 0, 4 * V);
        for (uint32_t k = 0; k < V; k++) logits_of(&p, 0)[k] = drafted_of(&p, 0)[k] = k < 2 ? p_d[k] : -1e30f;
        run(&p);
        const int32_t y = tokens_of(&p)[0];
        const double survival[2] = {0.8, y == 0 ? 0.8 : 0.0}, pass[] = {0, 1, 2, 1 / 0.45}; /* 1 - TV = 0.8 */
        const struct ds_schedule_request request = {survival, 2};
        const struct ds_schedule_costs costs = {.pass = pass, .rows = 3};
        struct ds_schedule got;
        if (search) ds_schedule_search(&costs, &request, 1, &got);
        else ds_schedule_admit(&costs, &request, 1, &got);
        for (uint32_t k = 0; k < V; k++) logits_of(&p, 0)[k] = k < 2 ? p_t[k] : -1e30f;
        how->method = got.lengths[0] ? DS_DRAW_REJECTION : DS_DRAW_MASS;
        how->draft = y;
        how->purpose = 3;
        run(&p);
        firsts += tokens_of(&p)[0] == 0;
    }
    close_pass(&p);
    return (double)firsts / TRIES;
}

static void a_search_that_sees_the_drafts_bends_the_distribution_and_algorithm_1_does_not(void **state) {
    (void)state;
    const double admitted = share_of_first(false), searched = share_of_first(true);
    if (fabs(admitted - 0.7) > 0.013) fail_msg("Algorithm 1: %.3f, expected 0.7", admitted); /* 4 standard deviations */
    if (fabs(searched - 0.85) > 0.011) fail_msg("the search: %.3f, expected 0.85", searched);
}

/* --- integers of 128 bits --- */

static void wide_products_and_shares_are_exact(void **state) {
    (void)state;
    const uint64_t all = UINT64_MAX;
    struct ds_wide x = ds_wide_mul(all, all); /* 2^128 - 2^65 + 1 */
    assert_true(x.high == all - 1 && x.low == 1);
    x = ds_wide_mul(UINT64_C(0x123456789abcdef0), UINT64_C(0xfedcba9876543210));
    assert_true(x.high == UINT64_C(0x121fa00ad77d7422) && x.low == UINT64_C(0x236d88fe5618cf00));
    x = ds_wide_add((struct ds_wide){1, all}, (struct ds_wide){2, 1});
    assert_true(x.high == 4 && x.low == 0);
    x = ds_wide_sub(x, (struct ds_wide){0, 1});
    assert_true(x.high == 3 && x.low == all);
    x = ds_wide_share(UINT64_C(1) << 63, (struct ds_wide){5, 2}); /* the half */
    assert_true(x.high == 2 && x.low == (UINT64_C(1) << 63 | 1));
    assert_true(ds_wide_less(ds_wide_share(all, (struct ds_wide){7, 0}), (struct ds_wide){7, 0}));
    assert_false(ds_wide_less((struct ds_wide){1, 0}, (struct ds_wide){0, all}));
}

static void a_draft_as_likely_as_the_target_has_it_is_always_accepted(void **state) {
    (void)state;
    assert_true(ds_accepts(UINT32_MAX, 3, 10, 6, 20)); /* p_t = p_d, the largest coin */
    assert_false(ds_accepts(UINT32_MAX, 3, 10, 6 + 1, 20));
    assert_false(ds_accepts(0, 0, 10, 6, 20)); /* p_t = 0, the smallest coin */
    const uint64_t most = UINT64_C(1) << 32, sum = (UINT64_C(1) << 63) - 1;
    assert_true(ds_accepts(UINT32_MAX, most, sum, most, sum));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wide_products_and_shares_are_exact),
        cmocka_unit_test(a_draft_as_likely_as_the_target_has_it_is_always_accepted),
        cmocka_unit_test(whole_rounds_give_the_targets_distribution),
        cmocka_unit_test(a_restricted_head_gives_the_targets_distribution_too),
        cmocka_unit_test(broken_rules_are_noticed),
        cmocka_unit_test(a_search_that_sees_the_drafts_bends_the_distribution_and_algorithm_1_does_not),
    };
    return cmocka_run_group_tests_name("rejection", tests, open_device, close_device);
}
