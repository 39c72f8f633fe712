/*
 * Passes of the target that take their rows into the drafter's context as they go, with all that a session can ask of its tokens: two launches a
 * round, and the processor's tokens, rounds and accepted drafts, which tell whether the drafter's context has its bits.
 */
#include "emulator.h"

#include "../unit/tiny_pair.h"
#include "dspark.h"

enum { TOKENS = 24 };

static int begin(void **state) { return write_models(state) == 0 ? load_emulator(state) : -1; }

static ds_session_params fixed(uint32_t length) {
    ds_session_params params = ds_session_defaults();
    params.ignore_stop = true;
    params.spec = DS_SPEC_FIXED;
    params.spec_length = length;
    return params;
}

struct answer {
    ds_token tokens[2 * TOKENS];
    size_t length;
    ds_stats stats;
    struct ds_emu_counts before, after;
};

static void answer_on(const char *device, const ds_session_params *params, struct answer *out) {
    ds_engine_params engine_params = ds_engine_defaults();
    engine_params.target = target_folder;
    engine_params.drafter = drafter_folder;
    engine_params.device = device;
    engine_params.modules = EMULATOR_FOLDER;
    engine_params.threads = 1;
    engine_params.context = 64;
    engine_params.max_rows = TINY_BLOCK + 1;
    ds_engine *engine;
    ds_session *session;
    struct ds_error err;
    check_ok(ds_engine_open(&engine_params, &engine, &err), &err);
    check_ok(ds_engine_prepare(engine, NULL, NULL, &err), &err);
    check_ok(ds_session_create(engine, params, &session, &err), &err);
    check_ok(ds_session_append(session, (const ds_token[]){1, 2, 3, 4}, 4, &err), &err);
    check_ok(ds_session_generate(session, 1, NULL, NULL, NULL, &err), &err);
    out->before = emulator.counts();
    check_ok(ds_session_generate(session, TOKENS, NULL, NULL, NULL, &err), &err);
    out->after = emulator.counts();
    out->length = ds_session_length(session);
    assert_true(out->length <= DS_COUNT(out->tokens));
    memcpy(out->tokens, ds_session_tokens(session), out->length * sizeof *out->tokens);
    out->stats = (ds_stats){.size = sizeof out->stats};
    ds_session_get_stats(session, &out->stats);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
}

static void check_rounds(const ds_session_params *params) {
    struct answer gpu, host;
    answer_on("emu:0", params, &gpu);
    answer_on("cpu", params, &host);
    assert_int_equal(gpu.length, host.length);
    assert_memory_equal(gpu.tokens, host.tokens, host.length * sizeof *host.tokens);
    assert_int_equal(gpu.stats.rounds, host.stats.rounds);
    assert_int_equal(gpu.stats.drafted, host.stats.drafted);
    assert_int_equal(gpu.stats.accepted, host.stats.accepted);
    assert_true(gpu.stats.rounds > 3);
    assert_int_equal(gpu.after.graphs - gpu.before.graphs, 2 * gpu.stats.rounds);
    assert_int_equal(gpu.after.launches, gpu.before.launches);
    assert_int_equal(gpu.after.allocations, gpu.before.allocations);
}

static void rounds_at_temperature_are_two_launches(void **state) {
    (void)state;
    ds_session_params params = fixed(TINY_BLOCK);
    params.sampling = (ds_sampling){.temperature = 0.5f, .top_k = 20, .top_p = 0.9f, .seed = 5};
    check_rounds(&params);
}

static void rounds_by_rejection_are_two_launches(void **state) {
    (void)state;
    ds_session_params params = fixed(TINY_BLOCK);
    params.sampling = (ds_sampling){.temperature = 0.5f, .seed = 5};
    params.acceptance = DS_REJECTION;
    check_rounds(&params);
}

static void rounds_with_penalties_and_biases_are_two_launches(void **state) {
    (void)state;
    static const ds_logit_bias bias[] = {{.token = 7, .bias = 0.5f}, {.token = 9, .bias = -1.0f}};
    ds_session_params params = fixed(2);
    params.penalties = (ds_penalties){.repetition = 1.1f, .presence = 0.1f};
    params.logit_bias = bias;
    params.n_logit_bias = DS_COUNT(bias);
    check_rounds(&params);
}

static bool forbid_one(void *user, const ds_token *drafted, size_t n_drafted, float *bias) {
    (void)user;
    (void)drafted;
    bias[n_drafted + 1] = -100.0f;
    return true;
}

static void rounds_with_a_bias_from_the_host_are_two_launches(void **state) {
    (void)state;
    ds_session_params params = fixed(TINY_BLOCK);
    params.bias = forbid_one;
    check_rounds(&params);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounds_at_temperature_are_two_launches),
        cmocka_unit_test(rounds_by_rejection_are_two_launches),
        cmocka_unit_test(rounds_with_penalties_and_biases_are_two_launches),
        cmocka_unit_test(rounds_with_a_bias_from_the_host_are_two_launches),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]); /* a name, with * and ? */
    return cmocka_run_group_tests(tests, begin, remove_models);
}
