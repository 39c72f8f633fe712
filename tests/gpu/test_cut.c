/*
 * A target cut by layers over GPUs, the processor and both: the processor's tokens and accepted drafts, whatever a session asks for and wherever the
 * drafter lies; nothing allocated once an engine is prepared; memory that is out moves layers to the next device.
 */
#include "emulator.h"

#include "../unit/tiny_pair.h"
#include "dspark_dev.h"
#include "engine/engine_internal.h"

enum { TOKENS = 16, ROWS = 9 };

static int begin(void **state) { return write_models(state) == 0 ? load_emulator(state) : -1; }

static ds_engine_params params_on(const char *device, const char *draft_device) {
    ds_engine_params params = ds_engine_defaults();
    params.target = target_folder;
    params.drafter = drafter_folder;
    params.device = device;
    params.draft_device = draft_device;
    params.modules = EMULATOR_FOLDER;
    params.threads = 1;
    params.context = 64;
    params.max_rows = TINY_BLOCK + 1;
    return params;
}

static ds_session_params asking(bool everything) {
    static const ds_logit_bias biases[] = {{3, 1.5f}};
    ds_session_params params = ds_session_defaults();
    params.ignore_stop = true;
    params.spec = DS_SPEC_FIXED;
    params.spec_length = 3;
    if (!everything) return params; /* drafts that the host does not see in between */
    params.sampling = (ds_sampling){.temperature = 0.8f, .seed = 4};
    params.acceptance = DS_REJECTION;
    params.penalties.repetition = 1.2f;
    params.logit_bias = biases;
    params.n_logit_bias = DS_COUNT(biases);
    return params;
}

struct answer {
    ds_token tokens[64];
    size_t length;
    uint64_t rounds, accepted;
};

static struct answer answer_of(ds_engine *engine, bool everything) {
    struct answer out = {.length = 0};
    struct ds_error err;
    ds_session *session;
    const ds_session_params params = asking(everything);
    check_ok(ds_session_create(engine, &params, &session, &err), &err);
    check_ok(ds_session_append(session, (const ds_token[]){1, 2, 3, 4, 5, 6, 7}, 7, &err), &err);
    check_ok(ds_session_generate(session, 2, NULL, NULL, NULL, &err), &err);
    const int64_t held = emulator.counts().allocations;
    check_ok(ds_session_generate(session, TOKENS, NULL, NULL, NULL, &err), &err);
    assert_int_equal(emulator.counts().allocations, held);
    ds_stats stats = {.size = sizeof stats};
    ds_session_get_stats(session, &stats);
    out.rounds = stats.rounds;
    out.accepted = stats.accepted;
    out.length = ds_session_length(session);
    assert_true(out.length <= DS_COUNT(out.tokens));
    memcpy(out.tokens, ds_session_tokens(session), out.length * sizeof *out.tokens);
    ds_session_destroy(session);
    return out;
}

static void check_same(const struct answer *got, const struct answer *expected, const char *what) {
    for (size_t i = 0; i < expected->length; i++)
        if (got->tokens[i] != expected->tokens[i]) fail_msg("%s: token %zu is %d, expected %d", what, i, (int)got->tokens[i], (int)expected->tokens[i]);
    assert_int_equal(got->length, expected->length);
    assert_int_equal(got->rounds, expected->rounds);
    assert_int_equal(got->accepted, expected->accepted);
}

static ds_engine *prepared(const char *device, const char *draft_device) {
    ds_engine *engine;
    struct ds_error err;
    const ds_engine_params params = params_on(device, draft_device);
    check_ok(ds_engine_open(&params, &engine, &err), &err);
    check_ok(ds_engine_prepare(engine, NULL, NULL, &err), &err);
    return engine;
}

static void no_cut_over_gpus_changes_a_token(void **state) {
    (void)state;
    static const struct {
        const char *device, *draft_device;
        uint32_t stages;
        bool joined; /* a pass at whose end the drafter takes its rows in */
    } cases[] = {
        {"emu:0=1,cpu", NULL, 2, true},      {"cpu=1,emu:0", NULL, 2, false},       {"emu:0=2,emu:1", NULL, 2, true},
        {"emu:1=0,emu:0", NULL, 2, true},    {"cpu=1,emu:0", "emu:0", 2, false},    {"emu:0=1,cpu", "cpu", 2, false},
        {"emu:0=1,emu:1", "cpu", 2, false},  {"emu:0=1,cpu=1,emu:1", NULL, 3, true}, {"cpu=1,emu:0=1,ref", "emu:1", 3, false},
    };
    struct answer expected[2];
    emulator.fail_at(0);
    ds_engine *engine = prepared("cpu", NULL);
    for (int i = 0; i < 2; i++) expected[i] = answer_of(engine, i);
    ds_engine_destroy(engine);
    for (size_t c = 0; c < DS_COUNT(cases); c++) {
        engine = prepared(cases[c].device, cases[c].draft_device);
        assert_int_equal(engine->target.n_stages, cases[c].stages);
        assert_int_equal(engine->drafter.n_joined > 0, cases[c].joined);
        for (int i = 0; i < 2; i++) {
            const struct answer got = answer_of(engine, i);
            check_same(&got, &expected[i], cases[c].device);
        }
        ds_engine_destroy(engine);
    }
}

/* Per-layer inputs go through the stage in the middle unchanged. */
static void per_layer_inputs_are_carried_through_three_devices(void **state) {
    (void)state;
    static const char *const devices[] = {"cpu", "cpu=1,emu:0=1,ref", "emu:0=1,cpu=1,emu:1"};
    static float logits[2][ROWS * 320];
    for (size_t i = 0; i < DS_COUNT(devices); i++) {
        struct ds_error err;
        ds_engine_params params = params_on(devices[i], NULL);
        params.target = DSPARK_SOURCE_ROOT "/tests/golden/target-gemma4-ple";
        params.drafter = NULL;
        ds_engine *engine;
        ds_session *session;
        const ds_session_params how = ds_session_defaults();
        check_ok(ds_engine_open(&params, &engine, &err), &err);
        check_ok(ds_engine_prepare(engine, NULL, NULL, &err), &err);
        assert_int_equal(engine->target.n_stages, i ? 3 : 1);
        check_ok(ds_session_create(engine, &how, &session, &err), &err);
        const ds_token tokens[ROWS] = {2, 30, 100, 7, 250, 250, 1, 64, 9};
        check_ok(ds_dev_forward(session, tokens, ROWS, false, logits[i > 0], NULL, &err), &err);
        assert_memory_equal(logits[i > 0], logits[0], sizeof logits[0]);
        ds_session_destroy(session);
        ds_engine_destroy(engine);
    }
}

/* Whatever allocation fails, the engine is prepared with fewer layers there, or says why not; and nothing is left behind. */
static void an_allocation_that_fails_moves_layers_to_the_next_device(void **state) {
    (void)state;
    struct ds_error err;
    ds_engine *engine = prepared("cpu", NULL);
    const struct answer expected = answer_of(engine, false);
    ds_engine_destroy(engine);
    emulator.fail_at(0);
    ds_engine_destroy(prepared("emu:0,cpu", NULL));
    const uint64_t calls = emulator.calls();
    const int64_t held = emulator.counts().allocations;
    uint32_t moved = 0;
    for (uint64_t n = 1; n <= calls; n++) {
        const ds_engine_params params = params_on("emu:0,cpu", NULL);
        emulator.fail_at(n);
        ds_status status = ds_engine_open(&params, &engine, &err);
        if (status == DS_OK) status = ds_engine_prepare(engine, NULL, NULL, &err);
        if (status == DS_OK && engine->sharing.moved) {
            moved++;
            assert_int_equal(engine->sharing.layers[0], TINY_LAYERS - 1);
            assert_string_equal(engine->sharing.text, "emu:0=2,cpu=1");
            if (moved == 1) {
                const struct answer got = answer_of(engine, false);
                check_same(&got, &expected, "after memory was out");
            }
        } else if (status != DS_OK) {
            assert_true(status == DS_ERROR_DEVICE || status == DS_ERROR_MEMORY); /* what fails while a device is opened has nowhere to go */
        }
        ds_engine_destroy(engine);
        engine = NULL;
        assert_int_equal(emulator.counts().allocations, held);
    }
    emulator.fail_at(0);
    assert_true(moved >= 5); /* weights, scratch, cache, rows, .. */
}

/* As many layers as the memory that may be used holds; one device alone spills nowhere. */
static void memory_that_may_be_used_decides_how_many_layers_lie_there(void **state) {
    (void)state;
    struct ds_error err;
    ds_engine *engine = prepared("emu:0=0,cpu", NULL);
    const uint64_t ends = engine->placements[0].planned_bytes;
    char device[64];
    ds_engine_destroy(engine);
    snprintf(device, sizeof device, "emu:0=%uK,emu:1", (unsigned)(ends / 1024 + 48));
    engine = prepared(device, NULL);
    assert_int_equal(engine->target.n_stages, 2);
    assert_true(engine->sharing.layers[0] < TINY_LAYERS);
    ds_engine_destroy(engine);
    snprintf(device, sizeof device, "emu:0=%uK", (unsigned)(ends / 1024 + 48));
    const ds_engine_params params = params_on(device, NULL);
    assert_int_equal(ds_engine_open(&params, &engine, &err), DS_ERROR_MEMORY);
    check_contains(err.message, "device 'emu:0'");
    check_contains(err.message, "a second device named behind it");
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_cut_over_gpus_changes_a_token),
        cmocka_unit_test(per_layer_inputs_are_carried_through_three_devices),
        cmocka_unit_test(an_allocation_that_fails_moves_layers_to_the_next_device),
        cmocka_unit_test(memory_that_may_be_used_decides_how_many_layers_lie_there),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]); /* a name, with * and ? */
    return cmocka_run_group_tests(tests, begin, remove_models);
}
