/*
 * Rejection sampling by a whole engine leaves the target's distribution as it is: 100,000 continuations of three tokens, drafted, verified
 * and replaced by the rounds that programs run, against the exact probabilities of the target's own logits. Biases leave six tokens,
 * so that every continuation is met often. The same test notices rules that were broken on purpose.
 */
#include "chi_square.h"
#include "streams.h"
#include "tiny_pair.h"

#include "engine/engine_internal.h"

#include <math.h>

enum { KEPT = 6, LENGTH = 3, CELLS = KEPT * KEPT * KEPT, PROMPT = 5, FIRST = 11, STEP = 9 };
static const ds_token prompt[PROMPT] = {3, 1, 4, 1, 5};

static ds_token kept(int i) { return FIRST + i * STEP; }

/* Which of the tokens that were left it is; -1: none. */
static int index_of(ds_token token) {
    const int i = (token - FIRST) / STEP;
    return i >= 0 && i < KEPT && kept(i) == token ? i : -1;
}

static ds_session_params params_of(ds_acceptance acceptance, ds_spec_mode spec, bool filters) {
    static ds_logit_bias forbidden[TINY_VOCABULARY];
    ds_session_params params = ds_session_defaults();
    params.sampling = (ds_sampling){.temperature = 0.8f, .seed = 12, .top_k = filters ? 4 : 0};
    if (filters) params.penalties = (ds_penalties){.frequency = 0.75f};
    params.acceptance = acceptance;
    params.spec = spec;
    params.spec_length = spec == DS_SPEC_FIXED ? TINY_BLOCK : 0;
    params.ignore_stop = true;
    params.n_logit_bias = 0;
    for (ds_token t = 0; t < TINY_VOCABULARY; t++)
        if (index_of(t) < 0) forbidden[params.n_logit_bias++] = (ds_logit_bias){t, -INFINITY};
    params.logit_bias = forbidden;
    return params;
}

/* --- rules that are wrong --- */

enum rule { RIGHT, ACCEPT_ALL, RESIDUAL_IS_TARGET };

static const struct ds_device_fns *right_fns;
static enum rule rule;

static ds_status broken(struct ds_stream *stream, const union ds_op_params *params, struct ds_error *err) {
    const struct ds_op_reject *p = &params->reject;
    DS_TRY(right_fns->op[DS_OP_reject](stream, params, err));
    struct ds_sample_row *rows = (struct ds_sample_row *)(void *)((uint8_t *)right_fns->host(p->rows.buffer) + p->rows.offset);
    int32_t *tokens = (int32_t *)(void *)((uint8_t *)right_fns->host(p->tokens.buffer) + p->tokens.offset);
    for (uint32_t r = 0; r < p->logits.rows; r++) {
        if (rows[r].method != DS_DRAW_REJECTION || tokens[r] == rows[r].draft) continue;
        if (rule == ACCEPT_ALL) tokens[r] = rows[r].draft;
        else rows[r].method = DS_DRAW_MASS;
    }
    if (rule == RESIDUAL_IS_TARGET) return right_fns->op[DS_OP_reject](stream, params, err);
    return DS_OK;
}

static ds_engine *open_with(enum rule how) {
    ds_engine_params params = ds_engine_defaults();
    params.target = target_folder;
    params.drafter = drafter_folder;
    params.device = "cpu";
    params.context = 64;
    params.threads = 1;
    params.weights = DS_WEIGHTS_F32;
    ds_engine *engine;
    struct ds_error err;
    check_ok(ds_engine_open(&params, &engine, &err), &err);
    static struct ds_device_fns fns;
    struct ds_device *device = engine->placements[0].device;
    right_fns = device->fns;
    fns = *device->fns;
    rule = how;
    if (how != RIGHT) {
        fns.graph_create = NULL; /* ops run one by one, through the table */
        fns.graph_run = NULL;
        fns.graph_destroy = NULL;
        fns.op[DS_OP_reject] = broken;
        device->fns = &fns;
    }
    check_ok(ds_engine_prepare(engine, NULL, NULL, &err), &err);
    return engine;
}

/* --- exact probabilities --- */

/* Of the tokens that were left, behind the given ones. */
static void distribution(ds_session *plain, const ds_session_params *params, const ds_token *tokens, size_t n, double p[KEPT]) {
    float logits[TINY_VOCABULARY];
    struct ds_error err;
    check_ok(ds_session_rewind(plain, 0, &err), &err);
    check_ok(ds_dev_forward(plain, tokens, n, true, logits, NULL, &err), &err);
    double sum = 0, sorted[KEPT];
    for (int i = 0; i < KEPT; i++) {
        int count = 0;
        for (size_t k = 0; k < n; k++) count += tokens[k] == kept(i);
        p[i] = (double)logits[kept(i)] - count * (double)params->penalties.frequency;
        int at = i;
        for (; at > 0 && sorted[at - 1] < p[i]; at--) sorted[at] = sorted[at - 1];
        sorted[at] = p[i];
    }
    for (int i = 0; i < KEPT; i++) {
        const bool filtered = params->sampling.top_k && p[i] < sorted[params->sampling.top_k - 1];
        sum += p[i] = filtered ? 0 : exp((p[i] - sorted[0]) / (double)params->sampling.temperature);
    }
    for (int i = 0; i < KEPT; i++) p[i] /= sum;
}

static void exact(ds_engine *engine, const ds_session_params *params, double cells[CELLS]) {
    ds_session_params plain_params = ds_session_defaults();
    plain_params.spec = DS_SPEC_OFF;
    ds_session *plain = new_session(engine, &plain_params);
    ds_token tokens[PROMPT + LENGTH];
    memcpy(tokens, prompt, sizeof prompt);
    double first[KEPT], second[KEPT], third[KEPT];
    distribution(plain, params, tokens, PROMPT, first);
    for (int a = 0; a < KEPT; a++) {
        tokens[PROMPT] = kept(a);
        distribution(plain, params, tokens, PROMPT + 1, second);
        for (int b = 0; b < KEPT; b++) {
            tokens[PROMPT + 1] = kept(b);
            distribution(plain, params, tokens, PROMPT + 2, third);
            for (int c = 0; c < KEPT; c++) cells[(a * KEPT + b) * KEPT + c] = first[a] * second[b] * third[c];
        }
    }
    ds_session_destroy(plain);
}

/* --- samples --- */

static void sample(ds_engine *engine, ds_session_params params, uint32_t samples, uint32_t counts[CELLS], ds_stats *stats) {
    ds_session *session = new_session(engine, &params);
    struct ds_error err;
    append(session, prompt, PROMPT);
    for (uint32_t i = 0; i < samples; i++) {
        params.sampling.stream = i;
        check_ok(ds_session_configure(session, &params, &err), &err);
        check_ok(ds_session_rewind(session, PROMPT, &err), &err);
        generate(session, LENGTH);
        int cell = 0;
        for (int k = 0; k < LENGTH; k++) {
            const int index = index_of(ds_session_tokens(session)[PROMPT + k]);
            assert_in_range(index, 0, KEPT - 1);
            cell = cell * KEPT + index;
        }
        counts[cell]++;
    }
    stats->size = sizeof *stats;
    ds_session_get_stats(session, stats);
    ds_session_destroy(session);
}

/* Chi square over what a right rule hardly ever reaches: below 1 for a right one. */
static double distance(enum rule how, ds_acceptance acceptance, ds_spec_mode spec, bool filters, uint32_t samples) {
    static double p[CELLS];
    uint32_t counts[CELLS] = {0};
    ds_engine *engine = open_with(how);
    const ds_session_params params = params_of(acceptance, spec, filters);
    ds_stats stats;
    exact(engine, &params, p);
    sample(engine, params, samples, counts, &stats);
    const struct chi_square x = chi_square_of(counts, p, CELLS, samples);
    const double limit = chi_square_limit(x.freedom);
    print_message("# chi square %.1f with %d degrees of freedom (limit %.1f); %llu drafts verified, %llu accepted\n", x.sum, x.freedom, limit,
                  (unsigned long long)stats.verified, (unsigned long long)stats.accepted);
    assert_true(x.rare_expected >= 5 || x.rare <= 30);
    if (spec == DS_SPEC_FIXED && how == RIGHT) assert_true(stats.accepted > samples / 10 && stats.accepted < stats.verified);
    ds_engine_destroy(engine);
    return x.sum / limit;
}

static void sampling_alone_has_the_distribution_of_the_logits(void **state) {
    (void)state;
    assert_true(distance(RIGHT, DS_COUPLED, DS_SPEC_OFF, false, 20000) < 1);
}

static void rejection_sampling_has_the_distribution_of_the_logits(void **state) {
    (void)state;
    assert_true(distance(RIGHT, DS_REJECTION, DS_SPEC_FIXED, false, 100000) < 1);
}

static void rejection_sampling_behind_penalties_and_filters_has_theirs(void **state) {
    (void)state;
    assert_true(distance(RIGHT, DS_REJECTION, DS_SPEC_FIXED, true, 20000) < 1);
}

static void coupled_drafts_leave_the_distribution(void **state) {
    (void)state;
    assert_true(distance(RIGHT, DS_COUPLED, DS_SPEC_FIXED, true, 20000) < 1);
}

static void broken_rules_are_noticed(void **state) {
    (void)state;
    assert_true(distance(ACCEPT_ALL, DS_REJECTION, DS_SPEC_FIXED, false, 5000) > 2);
    assert_true(distance(RESIDUAL_IS_TARGET, DS_REJECTION, DS_SPEC_FIXED, false, 5000) > 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sampling_alone_has_the_distribution_of_the_logits),
        cmocka_unit_test(rejection_sampling_has_the_distribution_of_the_logits),
        cmocka_unit_test(rejection_sampling_behind_penalties_and_filters_has_theirs),
        cmocka_unit_test(coupled_drafts_leave_the_distribution),
        cmocka_unit_test(broken_rules_are_noticed),
    };
    return cmocka_run_group_tests_name("distribution", tests, write_models, remove_models);
}
