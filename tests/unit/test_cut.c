/* A target cut by layers over several devices: no cut changes a bit, whatever else a session asks for. */
#include "cuts.h"

static void check_answers(ds_engine *engine, const struct stream expected[DS_COUNT(all_asked)], const char *what) {
    for (size_t i = 0; i < DS_COUNT(all_asked); i++) {
        const struct stream got = answer(engine, &all_asked[i]);
        for (size_t t = 0; t < got.count; t++)
            if (got.tokens[t] != expected[i].tokens[t])
                fail_msg("%s, %s: token %zu is %d, expected %d", what, all_asked[i].name, t, (int)got.tokens[t], (int)expected[i].tokens[t]);
        assert_int_equal(got.count, expected[i].count);
    }
}

static void answers_of(const char *drafter, const char *draft_device, const char *const *devices, size_t n) {
    static struct stream expected[DS_COUNT(all_asked)];
    ds_engine_params params = params_on("cpu", drafter);
    ds_engine *engine = open_engine(&params);
    for (size_t i = 0; i < DS_COUNT(all_asked); i++) expected[i] = answer(engine, &all_asked[i]);
    ds_engine_destroy(engine);
    for (size_t i = 0; i < n; i++) {
        params = params_on(devices[i], drafter);
        params.draft_device = draft_device;
        engine = open_engine(&params);
        assert_int_equal(engine->target.n_stages, 2);
        check_answers(engine, expected, devices[i]);
        ds_engine_destroy(engine);
    }
}

static void no_cut_changes_a_token_whatever_is_asked_for(void **state) {
    (void)state;
    answers_of(drafter_folder, NULL, cuts, DS_COUNT(cuts));
}

static void taps_of_every_stage_reach_every_kind_of_drafter(void **state) {
    (void)state;
    static const char *const both[] = {"cpu=1,ref", "ref=2,cpu"};
    answers_of(eagle_folder, NULL, both, DS_COUNT(both));
    answers_of(flash_folder, NULL, both, DS_COUNT(both));
    answers_of(drafter_folder, "ref", both, DS_COUNT(both)); /* at home, or with the other stage */
}

/* Tokens would be right whatever a drafter gets to see: how many are accepted tells. */
static void a_drafter_sees_the_same_features_and_drafts_the_same(void **state) {
    (void)state;
    static const char *const devices[] = {"cpu", "cpu=0,ref", "cpu=1,ref", "cpu=2,ref", "ref=1,cpu"};
    char *const drafters[] = {drafter_folder, eagle_folder, flash_folder};
    for (size_t k = 0; k < DS_COUNT(drafters); k++) {
        struct ds_view taps = {.rows = 0};
        float expected[8 * 3 * TINY_HIDDEN], found[8 * 3 * TINY_HIDDEN];
        uint64_t accepted = 0;
        for (size_t i = 0; i < DS_COUNT(devices); i++) {
            struct ds_error err;
            const ds_engine_params params = params_on(devices[i], drafters[k]);
            const ds_session_params how = session_params(&all_asked[3]);
            ds_engine *engine = open_engine(&params);
            ds_session *session = new_session(engine, &how);
            append(session, prompt, 9);
            generate(session, 1); /* the prompt's last pass, of one row */
            append(session, prompt, 6);
            generate(session, 1);
            taps = engine->target.taps;
            assert_true(taps.cols * 6 <= DS_COUNT(found));
            check_ok(engine->target.params.device->fns->read(engine->target.params.stream, taps.at, i ? found : expected, 24 * (uint64_t)taps.cols, &err), &err);
            if (i) assert_memory_equal(found, expected, 24 * taps.cols);
            generate(session, 2 * LENGTH);
            ds_stats stats = {.size = sizeof stats};
            ds_session_get_stats(session, &stats);
            if (i) assert_int_equal(stats.accepted, accepted);
            accepted = stats.accepted;
            ds_session_destroy(session);
            ds_engine_destroy(engine);
        }
    }
}

/* --- several sessions --- */

static void run_batch(ds_engine *engine, struct stream out[2]) {
    struct ds_error err;
    const ds_batch_params params = ds_batch_defaults();
    const ds_batch_request request = {.size = sizeof request, .max_tokens = LENGTH};
    ds_batch *batch;
    ds_session *sessions[2];
    check_ok(ds_batch_create(engine, &params, &batch, &err), &err);
    for (size_t i = 0; i < 2; i++) {
        const ds_session_params how = session_params(&all_asked[i ? 5 : 1]);
        sessions[i] = new_session(engine, &how);
        append(sessions[i], prompt + i, DS_COUNT(prompt) - 4 * i);
        check_ok(ds_batch_add(batch, sessions[i], &request, &err), &err);
    }
    for (size_t left = 1; left;) check_ok(ds_batch_step(batch, &left, &err), &err);
    for (size_t i = 0; i < 2; i++) {
        out[i] = stream_of(sessions[i]);
        ds_session_destroy(sessions[i]);
    }
    ds_batch_destroy(batch);
}

static void sessions_of_a_batch_go_through_all_stages_together(void **state) {
    (void)state;
    static struct stream expected[2], found[2];
    for (size_t i = 0; i < 3; i++) {
        const ds_engine_params params = params_on(i ? cuts[i] : "cpu", drafter_folder);
        ds_engine *engine = open_engine(&params);
        run_batch(engine, i ? found : expected);
        for (size_t k = 0; i && k < 2; k++) same_stream(&found[k], &expected[k]);
        ds_engine_destroy(engine);
    }
}

/* The second session starts behind what the first one left, in pages that it has to copy before it writes them. */
static void beginnings_are_shared_on_every_device(void **state) {
    (void)state;
    static struct stream first, again;
    ds_engine_params params = params_on("cpu=1,ref", drafter_folder);
    params.prefix_positions = 128;
    ds_engine *engine = open_engine(&params);
    const ds_session_params how = session_params(&all_asked[3]);
    for (int i = 0; i < 2; i++) {
        ds_session *session = new_session(engine, &how);
        append(session, prompt, DS_COUNT(prompt));
        generate(session, LENGTH);
        *(i ? &again : &first) = stream_of(session);
        ds_stats stats = {.size = sizeof stats};
        ds_session_get_stats(session, &stats);
        assert_int_equal(stats.cached_tokens > 0, i);
        ds_session_destroy(session);
    }
    same_stream(&again, &first);
    ds_engine_destroy(engine);
}

/* --- a session that moves --- */

static void a_session_is_saved_by_one_placement_and_goes_on_in_another(void **state) {
    (void)state;
    static struct stream expected, found;
    static const char *const devices[] = {"cpu", "cpu=1,ref", "ref=2,cpu", "ref"};
    char *files = check_make_folder(), *path = ds_os_join(files, "session");
    const ds_session_params how = session_params(&all_asked[3]);
    struct ds_error err;
    for (size_t i = 0; i < DS_COUNT(devices); i++) {
        const ds_engine_params params = params_on(devices[i], drafter_folder);
        ds_engine *engine = open_engine(&params);
        ds_session *session = new_session(engine, &how);
        if (i) {
            check_ok(ds_session_load(session, path, &err), &err);
            generate(session, LENGTH);
            found = stream_of(session);
            same_stream(&found, &expected);
            check_ok(ds_session_rewind(session, 0, &err), &err);
        }
        append(session, prompt, DS_COUNT(prompt));
        generate(session, 70); /* more than a page */
        check_ok(ds_session_save(session, path, &err), &err);
        generate(session, LENGTH);
        expected = stream_of(session);
        ds_session_destroy(session);
        ds_engine_destroy(engine);
    }
    free(path);
    check_remove_folder(files);
}

/* --- models of all kinds --- */

/* Logits and all hidden states of a short prompt, as bytes. */
struct forward {
    float *logits, *hidden[DS_MOST_LAYERS + 1];
    size_t n_logits, n_hidden, states;
};

static ds_status try_forward(const char *target, const char *device, struct forward *f, struct ds_error *err) {
    enum { ROWS = 11 };
    ds_engine_params params = params_on(device, NULL);
    params.target = target;
    ds_engine *engine;
    DS_TRY(ds_engine_open(&params, &engine, err));
    check_ok(ds_engine_prepare(engine, NULL, NULL, err), err);
    ds_engine_info info = {.size = sizeof info};
    ds_engine_get_info(engine, &info);
    *f = (struct forward){.n_logits = ROWS * info.vocabulary, .n_hidden = ROWS * info.hidden_size, .states = info.layers + 1};
    f->logits = malloc(f->n_logits * sizeof *f->logits);
    for (size_t l = 0; l < f->states; l++) f->hidden[l] = malloc(f->n_hidden * sizeof *f->hidden[l]);
    const ds_session_params how = ds_session_defaults();
    ds_session *session = new_session(engine, &how);
    check_ok(ds_dev_forward(session, prompt, ROWS, false, f->logits, f->hidden, err), err);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
    return DS_OK;
}

static void free_forward(struct forward *f) {
    free(f->logits);
    for (size_t l = 0; l < f->states; l++) free(f->hidden[l]);
}

/* Every cut of a model of the golden vectors gives the bits of one device, or is refused; returns how many were refused. */
static uint32_t check_cuts_of(const char *name) {
    char path[1024], device[64];
    struct ds_error err;
    static struct forward expected, found;
    snprintf(path, sizeof path, "%s/tests/golden/%s", DSPARK_SOURCE_ROOT, name);
    check_ok(try_forward(path, "cpu", &expected, &err), &err);
    const uint32_t layers = (uint32_t)expected.states - 1;
    uint32_t refused = 0;
    for (uint32_t cut = 0; cut < layers; cut++) {
        snprintf(device, sizeof device, "cpu=%u,ref", cut);
        if (try_forward(path, device, &found, &err) != DS_OK) {
            assert_int_equal(err.status, DS_ERROR_UNSUPPORTED);
            check_contains(err.message, "keys and values");
            refused++;
            continue;
        }
        assert_memory_equal(found.logits, expected.logits, found.n_logits * sizeof *found.logits);
        for (size_t l = 0; l < found.states; l++)
            if (memcmp(found.hidden[l], expected.hidden[l], found.n_hidden * sizeof **found.hidden) != 0)
                fail_msg("%s on %s: hidden state %zu differs", name, device, l);
        free_forward(&found);
    }
    free_forward(&expected);
    return refused;
}

static void every_family_can_be_cut_and_keeps_its_bits(void **state) {
    (void)state;
    static const char *const names[] = {"target-qwen2", "target-qwen3-moe", "target-gemma3-text", "target-gemma4-text", "target-gemma4-moe", "target-mistral-swa"};
    for (size_t i = 0; i < DS_COUNT(names); i++) assert_int_equal(check_cuts_of(names[i]), 0);
}

/* Its last layers read keys and values of earlier ones: they stay together. */
static void per_layer_inputs_are_carried_and_layers_that_share_keys_stay_together(void **state) {
    (void)state;
    const uint32_t refused = check_cuts_of("target-gemma4-ple");
    assert_true(refused >= 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_cut_changes_a_token_whatever_is_asked_for),
        cmocka_unit_test(taps_of_every_stage_reach_every_kind_of_drafter),
        cmocka_unit_test(a_drafter_sees_the_same_features_and_drafts_the_same),
        cmocka_unit_test(sessions_of_a_batch_go_through_all_stages_together),
        cmocka_unit_test(beginnings_are_shared_on_every_device),
        cmocka_unit_test(a_session_is_saved_by_one_placement_and_goes_on_in_another),
        cmocka_unit_test(every_family_can_be_cut_and_keeps_its_bits),
        cmocka_unit_test(per_layer_inputs_are_carried_and_layers_that_share_keys_stay_together),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
