/*
 * Sessions that generate together: however one of them ends, and whatever its callbacks do, the others have the stream they
 * have alone.
 */
#include "company.h"

#include <math.h>

/* --- ends of every kind --- */

enum fate { CANCELLED, REMOVED, DESTROYED, FATES };

static void end_one_at_any_moment(ds_engine *engine, const uint32_t indices[4]) {
    struct ds_error err;
    for (uint32_t moment = 0; moment < 9; moment++) {
        const enum fate fate = (enum fate)(moment % FATES);
        ds_batch *batch = new_batch(engine, (ds_batch_params){.max_running = 3, .prefill_rows = 16});
        struct answer answers[4];
        for (uint32_t i = 0; i < 4; i++) {
            answers[i] = (struct answer){.session = session_with_prompt(engine, 1, indices[i])};
            add(batch, &answers[i], ANSWER);
        }
        struct answer *victim = &answers[moment % 4];
        size_t left = 4;
        for (uint32_t s = 0; left; s++) {
            if (s == moment && !victim->done) {
                if (fate == CANCELLED) ds_cancel(victim->session);
                if (fate == REMOVED) check_ok(ds_batch_remove(batch, victim->session, &err), &err);
                if (fate == DESTROYED) ds_session_destroy(victim->session);
                if (fate == DESTROYED) victim->session = NULL;
            }
            left = step(batch);
        }
        for (uint32_t i = 0; i < 4; i++) {
            if (&answers[i] != victim) expect_alone(&answers[i], 1, indices[i]);
            else if (fate == CANCELLED && victim->status != DS_OK) assert_int_equal(victim->status, DS_ERROR_CANCELLED);
        }
        if (victim->session && victim->tokens < ANSWER) { /* it goes on by itself, from where it was */
            generate(victim->session, ANSWER - victim->tokens);
            const struct stream got = stream_of(victim->session);
            same_stream(&got, &alone[1][indices[moment % 4]]);
        }
        for (uint32_t i = 0; i < 4; i++) ds_session_destroy(answers[i].session);
        ds_batch_destroy(batch);
        expect_no_page_lost(engine);
    }
    ds_engine_destroy(engine);
}

static void ending_one_at_any_moment_leaves_the_others_alone_and_loses_no_page(void **state) {
    (void)state;
    end_one_at_any_moment(open_pair("eagle3", 0, 12 * DS_PAGE), (const uint32_t[]){5, 1, 2, 7});
    /* Pages that are shared and taken back by others, and a session with lengths of its own choice. */
    end_one_at_any_moment(open_with_prefixes("dspark", 0, 14 * DS_PAGE, 6 * DS_PAGE), (const uint32_t[]){5, 4, 2, 1});
}

static bool forbid_all(void *user, const ds_token *drafted, size_t n_drafted, float *bias) {
    (void)drafted;
    const struct answer *a = user;
    if (a->tokens + n_drafted < 5) return false;
    for (size_t i = 0; i < 4096; i++) bias[i] = -INFINITY;
    return true;
}

static void an_error_of_one_session_ends_it_alone(void **state) {
    (void)state;
    ds_engine *engine = open_pair("dspark", 0, 0);
    ds_engine_info info = {.size = sizeof info};
    ds_engine_get_info(engine, &info);
    assert_int_equal(info.vocabulary, 4096); /* forbid_all reckons with it */
    ds_batch *batch = new_batch(engine, (ds_batch_params){.size = 0});
    struct answer good = {.session = session_with_prompt(engine, 0, 1)}, bad = {.session = session_with_prompt(engine, 0, 2)};
    ds_session_params params = params_of(0, 2);
    params.bias = forbid_all;
    params.bias_user = &bad;
    struct ds_error err;
    check_ok(ds_session_configure(bad.session, &params, &err), &err);
    add(batch, &bad, ANSWER);
    add(batch, &good, ANSWER);
    while (step(batch)) continue;
    expect_alone(&good, 0, 1);
    assert_int_equal(bad.status, DS_ERROR_ARGUMENT);
    check_contains(bad.err.message, "forbids every token");
    assert_int_equal(bad.tokens, 5);
    ds_session_destroy(good.session);
    ds_session_destroy(bad.session);
    ds_batch_destroy(batch);
    expect_no_page_lost(engine);
    ds_engine_destroy(engine);
}

/* What its first page holds of a sequence becomes NaN in one layer: its next row's logits are no numbers. */
static void poison(ds_engine *engine, const ds_session *session) {
    const struct ds_kv *kv = &engine->target.stages[0].cache.layers[0];
    const uint64_t bytes = ds_cache_page_bytes(kv);
    const int32_t page = engine->pager.table[(size_t)session->sequence.slot * engine->pager.pages_per_sequence];
    const struct ds_target_params *target = &engine->target.params;
    struct ds_error err;
    char *ones = malloc((size_t)bytes);
    assert_non_null(ones);
    memset(ones, 0xff, (size_t)bytes);
    check_ok(target->device->fns->write(target->stream, ds_slice_add(kv->v, (uint64_t)page * bytes), ones, bytes, &err), &err);
    free(ones);
}

static void a_sequence_whose_numbers_are_none_ends_alone_whether_it_drafts_or_not(void **state) {
    (void)state;
    for (uint32_t index = 0; index < 3; index++) { /* plain, fixed:7, fixed:3 */
        ds_engine *engine = open_pair("dspark", 0, 0);
        ds_batch *batch = new_batch(engine, (ds_batch_params){.size = 0});
        struct answer bad = {.session = session_with_prompt(engine, 0, index)}, good = {.session = session_with_prompt(engine, 0, 4)},
                      other = {.session = session_with_prompt(engine, 0, 6)};
        add(batch, &good, ANSWER);
        add(batch, &bad, ANSWER);
        add(batch, &other, ANSWER);
        while (bad.tokens < 2) step(batch);
        const size_t before = bad.tokens;
        poison(engine, bad.session);
        while (step(batch)) continue;
        expect_alone(&good, 0, 4);
        expect_alone(&other, 0, 6);
        assert_true(bad.done && bad.status != DS_OK && bad.tokens == before);
        check_contains(bad.err.message, "finite");
        ds_session_destroy(bad.session);
        ds_session_destroy(good.session);
        ds_session_destroy(other.session);
        ds_batch_destroy(batch);
        expect_no_page_lost(engine);
        ds_engine_destroy(engine);
    }
}

/* --- callbacks --- */

struct host {
    ds_batch *batch;
    struct answer first, second, third;
    bool refused;
};

static bool meddle(void *user, ds_token token) {
    struct host *h = user;
    struct ds_error err;
    (void)token;
    if (h->first.tokens++ == 3) {
        add(h->batch, &h->third, ANSWER);
        check_ok(ds_batch_remove(h->batch, h->second.session, &err), &err);
        h->refused = ds_session_rewind(h->first.session, 0, &err) == DS_ERROR_ARGUMENT && ds_batch_step(h->batch, NULL, &err) == DS_ERROR_ARGUMENT;
    }
    return h->first.tokens < 10;
}

static void end_first(void *user, ds_session *session, ds_stop stop, ds_status status, const struct ds_error *err) {
    struct host *h = user;
    (void)err;
    assert_true(status == DS_OK && stop == DS_STOP_CALLBACK && session == h->first.session);
    ds_session_destroy(session); /* it has left */
    h->first.session = NULL;
}

static void callbacks_may_add_remove_and_destroy(void **state) {
    (void)state;
    ds_engine *engine = open_pair("dspark", 0, 0);
    struct host h = {.batch = new_batch(engine, (ds_batch_params){.size = 0})};
    struct ds_error err;
    h.first.session = session_with_prompt(engine, 0, 1);
    h.second.session = session_with_prompt(engine, 0, 2);
    h.third.session = session_with_prompt(engine, 0, 3);
    const ds_batch_request request = {.size = sizeof request, .max_tokens = ANSWER, .token = meddle, .done = end_first, .user = &h};
    check_ok(ds_batch_add(h.batch, h.first.session, &request, &err), &err);
    add(h.batch, &h.second, ANSWER);
    while (step(h.batch)) continue;
    assert_true(h.refused && !h.first.session && !h.second.done);
    expect_alone(&h.third, 0, 3);
    generate(h.second.session, ANSWER - h.second.tokens);
    const struct stream got = stream_of(h.second.session);
    same_stream(&got, &alone[0][2]);
    ds_session_destroy(h.second.session);
    ds_session_destroy(h.third.session);
    ds_batch_destroy(h.batch);
    expect_no_page_lost(engine);
    ds_engine_destroy(engine);
}

static void wrong_calls_are_refused(void **state) {
    (void)state;
    ds_engine *engine = open_pair(NULL, 0, 0), *other = open_pair(NULL, 0, 0);
    struct ds_error err;
    ds_batch *batch = NULL;
    assert_int_equal(ds_batch_create(engine, &(ds_batch_params){.size = sizeof(ds_batch_params), .max_sessions = 9}, &batch, &err), DS_ERROR_ARGUMENT);
    check_contains(err.message, "opened for 8");
    assert_null(batch);
    assert_int_equal(ds_batch_create(engine, &(ds_batch_params){.size = 0}, &batch, &err), DS_ERROR_ARGUMENT);
    batch = new_batch(engine, (ds_batch_params){.max_sessions = 1});
    const ds_batch_request request = {.size = sizeof request, .max_tokens = 4};
    ds_session *session = session_with_prompt(engine, 0, 1), *foreign = session_with_prompt(other, 0, 1), *second = session_with_prompt(engine, 0, 2);
    const ds_session_params params = params_of(0, 0);
    ds_session *empty = new_session(engine, &params);
    assert_int_equal(ds_batch_add(batch, foreign, &request, &err), DS_ERROR_ARGUMENT);
    check_contains(err.message, "another engine");
    assert_int_equal(ds_batch_add(batch, empty, &request, &err), DS_ERROR_ARGUMENT);
    check_contains(err.message, "empty");
    assert_int_equal(ds_batch_remove(batch, session, &err), DS_ERROR_ARGUMENT);
    check_ok(ds_batch_add(batch, session, &request, &err), &err);
    assert_int_equal(ds_batch_add(batch, session, &request, &err), DS_ERROR_ARGUMENT);
    assert_int_equal(ds_session_append(session, prompts[0], 1, &err), DS_ERROR_ARGUMENT);
    check_contains(err.message, "in a batch");
    assert_int_equal(ds_session_generate(session, 1, NULL, NULL, NULL, &err), DS_ERROR_ARGUMENT);
    assert_int_equal(ds_batch_add(batch, second, &request, &err), DS_ERROR_LIMIT);
    check_contains(err.message, "made for 1");
    ds_batch_destroy(batch); /* with a session in it */
    generate(session, 1);
    ds_session_destroy(session);
    ds_session_destroy(second);
    ds_session_destroy(empty);
    ds_session_destroy(foreign);
    expect_no_page_lost(engine);
    ds_engine_destroy(other);
    ds_engine_destroy(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ending_one_at_any_moment_leaves_the_others_alone_and_loses_no_page),
        cmocka_unit_test(an_error_of_one_session_ends_it_alone),
        cmocka_unit_test(a_sequence_whose_numbers_are_none_ends_alone_whether_it_drafts_or_not),
        cmocka_unit_test(callbacks_may_add_remove_and_destroy),
        cmocka_unit_test(wrong_calls_are_refused),
    };
    return cmocka_run_group_tests_name("batch_ends", tests, start, NULL);
}
