/* The calibration beside a drafter: used when it is the drafter's, refused with a reason when it is not, and never a change of tokens. */
#include "linked_drafter.h"

#include "engine/engine_internal.h"
#include "ops/numerics.h"

static int make_calibrated(void **state) {
    (void)state;
    make_drafter("dspark");
    return 0;
}

static int remove_drafter(void **state) {
    (void)state;
    check_remove_folder(folder);
    return 0;
}

struct first_round {
    size_t n;
    float confidence[7], logits[7];
};
static void keep_first(void *user, const ds_round *round) {
    struct first_round *first = user;
    if (first->n) return;
    first->n = round->n_draft;
    memcpy(first->confidence, round->confidence, sizeof first->confidence);
    memcpy(first->logits, round->confidence_logits, sizeof first->logits);
}

static struct stream answer(ds_engine *engine, struct first_round *first, ds_dev_outcomes *outcomes) {
    ds_session_params params = ds_session_defaults();
    params.spec = DS_SPEC_FIXED;
    params.spec_length = 7;
    params.ignore_stop = true;
    size_t count;
    ds_token *prompt = prompt_tokens(engine, example_prompt, &count);
    ds_session *session = new_session(engine, &params);
    append(session, prompt, count);
    *first = (struct first_round){0};
    ds_session_set_trace(session, keep_first, first);
    generate(session, 30);
    if (outcomes) ds_session_set_trace(session, ds_dev_outcomes_add, outcomes);
    generate(session, 90);
    const struct stream stream = stream_of(session);
    ds_session_destroy(session);
    ds_free(prompt);
    return stream;
}

static void a_saved_calibration_scales_the_confidences_and_changes_no_token(void **state) {
    (void)state;
    static struct stream before, after;
    static const float temperatures[] = {2, 0.5f, 1, 1.5f, 3, 1, 1};
    struct first_round raw, scaled;
    struct ds_error err;
    char *path;
    ds_engine *engine = open_pair();
    before = answer(engine, &raw, NULL);
    assert_int_equal(raw.n, 7);
    for (int k = 0; k < 7; k++) assert_true(raw.confidence[k] == ds_sigmoid(raw.logits[k]));
    check_ok(ds_dev_calibration_save(engine, temperatures, 1234, &path, &err), &err);
    check_contains(path, "/calibration.json");
    ds_engine_destroy(engine);

    engine = open_pair();
    assert_string_equal(warning, "");
    after = answer(engine, &scaled, NULL);
    same_stream(&after, &before);
    assert_memory_equal(scaled.logits, raw.logits, sizeof raw.logits);
    for (int k = 0; k < 7; k++) assert_true(scaled.confidence[k] == ds_sigmoid(ds_div(raw.logits[k], temperatures[k])));
    ds_engine_destroy(engine);
    assert_int_equal(remove(path), 0);
    ds_free(path);
}

/* Its confidences are shifted, too, by what engines learn: temperatures alone would do harm. */
static void a_drafter_without_a_head_is_given_no_calibration(void **state) {
    (void)state;
    static const char *const drafters[] = {"dflash", "eagle3"};
    static const float temperatures[] = {2, 0.5f, 1, 1.5f, 3, 1, 1};
    char *const shared = folder;
    for (size_t i = 0; i < DS_COUNT(drafters); i++) {
        struct first_round first;
        struct ds_error err;
        char *path;
        make_drafter(drafters[i]);
        ds_engine *engine = open_pair();
        assert_int_equal(ds_dev_calibration_save(engine, temperatures, 1234, &path, &err), DS_ERROR_UNSUPPORTED);
        check_contains(err.message, "confidence head");
        assert_null(path);
        ds_engine_destroy(engine);
        char *file = check_write_file(folder, "calibration.json", "{", 1); /* not looked at */
        engine = open_pair();
        assert_string_equal(warning, "");
        (void)answer(engine, &first, NULL);
        assert_true(first.n > 0);
        for (size_t k = 0; k < first.n; k++) assert_true(first.confidence[k] == ds_sigmoid(first.logits[k]));
        ds_engine_destroy(engine);
        free(file);
        check_remove_folder(folder);
    }
    folder = shared;
}

static void expect_refused(const char *text, const char *part) {
    char *path = check_write_file(folder, "calibration.json", text, strlen(text));
    ds_engine *engine = open_pair();
    check_contains(warning, part);
    check_contains(warning, "not used");
    assert_null(engine->spec.temperature);
    ds_engine_destroy(engine);
    assert_int_equal(remove(path), 0);
    free(path);
}

static void what_is_no_calibration_of_this_drafter_is_refused_with_a_reason(void **state) {
    (void)state;
    ds_engine *engine = open_pair();
    const unsigned long long print = ds_fingerprint(engine->draft_ckpt);
    ds_engine_destroy(engine);
    expect_refused("{", "not valid JSON");
    expect_refused("[1]", "expected a calibration with format");
    expect_refused("{\"format\": \"dspark-sts-1\", \"drafter\": \"0123456789abcdef\", \"temperatures\": [1,1,1,1,1,1,1]}", "another drafter");
    static const struct {
        const char *temperatures, *part;
    } wrong[] = {{"[1, 1]", "has 2 numbers, the drafter's block 7"}, {"[1,1,1,1,1,1,0]", "number 7 is 0"}, {"[1,1,-1,1,1,1,1]", "number 3 is -1"},
                 {"[1,1,1,1e9,1,1,1]", "number 4"}, {"[1,1,1,1,1,1,\"2\"]", "number 7 is 0"}, {"7", "has 0 numbers"}};
    for (size_t i = 0; i < DS_COUNT(wrong); i++) {
        char text[256];
        snprintf(text, sizeof text, "{\"format\": \"dspark-sts-1\", \"drafter\": \"%016llx\", \"temperatures\": %s}", print, wrong[i].temperatures);
        expect_refused(text, wrong[i].part);
    }
}

static void outcomes_of_real_rounds_can_be_fitted(void **state) {
    (void)state;
    struct first_round unused;
    struct ds_error err;
    ds_dev_outcomes *outcomes;
    float t[7];
    static ds_dev_quality quality;
    ds_engine *engine = open_pair();
    check_ok(ds_dev_outcomes_create(engine, &outcomes, &err), &err);
    assert_int_equal(ds_dev_calibration_fit(outcomes, t, &err), DS_ERROR_ARGUMENT);
    check_contains(err.message, "no outcomes");
    (void)answer(engine, &unused, outcomes);
    assert_true(ds_dev_outcomes_count(outcomes) > 10);
    check_ok(ds_dev_calibration_fit(outcomes, t, &err), &err);
    check_ok(ds_dev_calibration_quality(outcomes, t, &quality, &err), &err);
    assert_int_equal(quality.slots, 7);
    assert_int_equal(quality.slot[0].samples, ds_dev_outcomes_count(outcomes)); /* whole blocks: every fate is known */
    assert_int_equal(quality.slot[6].samples, ds_dev_outcomes_count(outcomes));
    assert_true(quality.all.ece >= 0 && quality.all.ece <= 1);
    ds_dev_outcomes_destroy(outcomes);
    ds_engine_destroy(engine);
}

/* Fitting what was written and read again gives the same temperatures, bit for bit; lines go to one and the other in turns. */
static void outcomes_written_and_read_again_are_the_same(void **state) {
    (void)state;
    struct first_round unused;
    struct ds_error err;
    ds_dev_outcomes *first, *fit, *held;
    float a[7], b[7];
    ds_engine *engine = open_pair();
    check_ok(ds_dev_outcomes_create(engine, &first, &err), &err);
    check_ok(ds_dev_outcomes_create(engine, &fit, &err), &err);
    check_ok(ds_dev_outcomes_create(engine, &held, &err), &err);
    char *path = ds_os_join(folder, "use.jsonl");
    check_ok(ds_dev_outcomes_save(first, path, &err), &err);
    assert_int_equal(ds_os_path_kind(path), DS_PATH_MISSING); /* nothing to write */
    (void)answer(engine, &unused, first);
    for (int i = 0; i < 3; i++) check_ok(ds_dev_outcomes_save(first, path, &err), &err);
    check_ok(ds_dev_outcomes_load(fit, held, path, &err), &err);
    assert_int_equal(ds_dev_outcomes_count(fit), 2 * ds_dev_outcomes_count(first));
    assert_int_equal(ds_dev_outcomes_count(held), ds_dev_outcomes_count(first));
    check_ok(ds_dev_calibration_fit(first, a, &err), &err);
    check_ok(ds_dev_calibration_fit(held, b, &err), &err);
    assert_memory_equal(a, b, sizeof a);

    /* A line that is wrong leaves both as they were. */
    FILE *file = fopen(path, "ab");
    fputs("{}\n", file);
    fclose(file);
    assert_int_equal(ds_dev_outcomes_load(fit, held, path, &err), DS_ERROR_FORMAT);
    check_contains(err.message, "line 4");
    assert_int_equal(ds_dev_outcomes_count(held), ds_dev_outcomes_count(first));
    assert_int_equal(remove(path), 0);
    free(path);
    ds_dev_outcomes_destroy(first);
    ds_dev_outcomes_destroy(fit);
    ds_dev_outcomes_destroy(held);
    ds_engine_destroy(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_saved_calibration_scales_the_confidences_and_changes_no_token),
        cmocka_unit_test(a_drafter_without_a_head_is_given_no_calibration),
        cmocka_unit_test(what_is_no_calibration_of_this_drafter_is_refused_with_a_reason),
        cmocka_unit_test(outcomes_of_real_rounds_can_be_fitted),
        cmocka_unit_test(outcomes_written_and_read_again_are_the_same),
    };
    return cmocka_run_group_tests_name("calibration", tests, make_calibrated, remove_drafter);
}
