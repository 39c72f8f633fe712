/* Sessions that generate together: each has the stream it has alone, whatever the company and the order. */
#include "company.h"

/* `n` sessions, added by and by in an order of their own. */
static void run_company(ds_engine *engine, int warm, uint32_t n, uint32_t turn, ds_batch_params params) {
    ds_batch *batch = new_batch(engine, params);
    struct answer answers[SESSIONS] = {{.session = NULL}};
    uint32_t added = 0;
    for (size_t left = 1; left || added < n;) {
        for (uint32_t k = 0; added < n && k < 1 + turn % 3; k++, added++) {
            const uint32_t index = (added * (turn % 2 ? 3 : 5) + turn) % SESSIONS;
            answers[index].session = session_with_prompt(engine, warm, index);
            add(batch, &answers[index], ANSWER);
        }
        left = step(batch);
    }
    for (uint32_t i = 0; i < SESSIONS; i++) {
        if (!answers[i].session) continue;
        expect_alone(&answers[i], warm, i);
        ds_session_destroy(answers[i].session);
    }
    ds_batch_destroy(batch);
    expect_no_page_lost(engine);
}

static void any_company_in_any_order_gives_each_the_stream_it_has_alone(void **state) {
    (void)state;
    static const char *const drafters[] = {NULL, "dspark", "eagle3"};
    static const uint32_t sizes[] = {1, 2, 3, 8};
    for (size_t d = 0; d < DS_COUNT(drafters); d++) {
        ds_engine *engine = open_pair(drafters[d], 0, 0);
        for (int warm = 0; warm < 2; warm++)
            for (uint32_t i = 0; i < DS_COUNT(sizes); i++)
                if ((i + d) % 2 == 0 || sizes[i] == 8) run_company(engine, warm, sizes[i], i + 2 * d + (uint32_t)warm, (ds_batch_params){.prefill_rows = 16});
        ds_engine_destroy(engine);
    }
}

static void passes_of_few_rows_give_the_same_streams(void **state) {
    (void)state;
    ds_engine *engine = open_pair("dspark", 9, 0);
    run_company(engine, 0, 8, 0, (ds_batch_params){.prefill_rows = 0});
    run_company(engine, 1, 4, 1, (ds_batch_params){.max_running = 2, .prefill_rows = 3});
    ds_engine_destroy(engine);
}

/* Lengths of `auto` differ, streams do not. */
static void a_calibration_changes_no_stream(void **state) {
    (void)state;
    static const float temperatures[] = {0.2f, 5, 1, 0.3f, 4, 1, 2};
    ds_engine *engine = open_pair("dspark", 0, 0);
    engine->spec.temperature = temperatures;
    for (int warm = 0; warm < 2; warm++) run_company(engine, warm, 8, 1, (ds_batch_params){.prefill_rows = 16});
    ds_engine_destroy(engine);
}

/* The first company leaves what the second begins with; pages are few, so that some of it has to go. */
static void a_prefix_cache_changes_no_stream(void **state) {
    (void)state;
    static const char *const drafters[] = {"dspark", "eagle3"};
    for (size_t d = 0; d < DS_COUNT(drafters); d++) {
        ds_engine *engine = open_with_prefixes(drafters[d], 0, 14 * DS_PAGE, 6 * DS_PAGE);
        for (uint32_t turn = 0; turn < 3; turn++) run_company(engine, turn % 2, 8, turn, (ds_batch_params){.prefill_rows = 16});
        assert_true(engine->prefix.count > 0);
        ds_engine_destroy(engine);
    }
}

/* --- prompts beside answers --- */

static void a_long_prompt_does_not_keep_those_that_decode_waiting(void **state) {
    (void)state;
    ds_engine *engine = open_pair(NULL, 0, 0);
    ds_batch *batch = new_batch(engine, (ds_batch_params){.prefill_rows = 20});
    struct answer first = {.session = session_with_prompt(engine, 0, 1)}, late = {.session = session_with_prompt(engine, 0, 5)},
                  last = {.session = session_with_prompt(engine, 0, 2)};
    add(batch, &first, ANSWER);
    while (!first.tokens) step(batch);
    add(batch, &late, ANSWER);
    add(batch, &last, ANSWER);
    size_t steps = 0, last_waited = 0;
    for (const size_t before = first.tokens; !late.tokens; steps++) {
        step(batch);
        assert_int_equal(first.tokens, before + steps + 1); /* one in every step */
        last_waited += !last.tokens;
    }
    assert_true(steps >= 180 / 20 && steps <= 180 / 20 + 2); /* 180 tokens, at most 20 a step */
    assert_true(last_waited <= 1);                           /* a short prompt behind a long one does not wait for it */
    while (step(batch)) continue;
    expect_alone(&first, 0, 1);
    expect_alone(&late, 0, 5);
    expect_alone(&last, 0, 2);
    ds_session_destroy(first.session);
    ds_session_destroy(late.session);
    ds_session_destroy(last.session);
    ds_batch_destroy(batch);
    ds_engine_destroy(engine);
}

/* --- pages --- */

static void sessions_wait_for_pages_and_all_get_their_answers(void **state) {
    (void)state;
    ds_engine *engine = open_pair("dspark", 0, 5 * DS_PAGE); /* the long one needs four */
    assert_int_equal(engine->pager.pages, 5);
    ds_batch *batch = new_batch(engine, (ds_batch_params){.size = 0});
    struct answer answers[SESSIONS];
    for (uint32_t i = 0; i < SESSIONS; i++) {
        answers[i] = (struct answer){.session = session_with_prompt(engine, 0, i)};
        add(batch, &answers[i], ANSWER);
    }
    uint32_t waited = 0;
    for (bool over = false; !over;) {
        over = step(batch) == 0;
        ds_batch_stats stats = {.size = sizeof stats};
        ds_batch_get_stats(batch, &stats);
        waited += stats.waiting > 0;
        for (uint32_t i = 0; i < SESSIONS; i++) {
            if (!answers[i].done || !answers[i].session) continue;
            expect_alone(&answers[i], 0, i);
            ds_session_destroy(answers[i].session);
            answers[i].session = NULL;
        }
    }
    assert_true(waited > 0);
    for (uint32_t i = 0; i < SESSIONS; i++) assert_true(answers[i].done);
    ds_batch_destroy(batch);
    expect_no_page_lost(engine);
    ds_engine_destroy(engine);
}

static void what_will_never_fit_ends_with_a_limit_and_the_next_goes_on(void **state) {
    (void)state;
    ds_engine *engine = open_pair(NULL, 0, 2 * DS_PAGE);
    ds_batch *batch = new_batch(engine, (ds_batch_params){.size = 0});
    struct answer large = {.session = session_with_prompt(engine, 0, 5)}, small = {.session = session_with_prompt(engine, 0, 1)};
    add(batch, &large, ANSWER);
    add(batch, &small, ANSWER);
    while (step(batch)) continue;
    assert_int_equal(large.status, DS_ERROR_LIMIT);
    check_contains(large.err.message, "needs 4 pages");
    check_contains(large.err.message, "2 pages");
    expect_alone(&small, 0, 1);
    /* Alone it fails, too, when the pages are all in use, and goes on where it was when there are some. */
    struct ds_error err;
    assert_int_equal(ds_session_generate(large.session, 1, NULL, NULL, NULL, &err), DS_ERROR_LIMIT);
    check_contains(err.message, "kv_positions");
    ds_session_destroy(large.session);
    ds_session_destroy(small.session);
    ds_batch_destroy(batch);
    expect_no_page_lost(engine);
    ds_engine_destroy(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_company_in_any_order_gives_each_the_stream_it_has_alone),
        cmocka_unit_test(passes_of_few_rows_give_the_same_streams),
        cmocka_unit_test(a_calibration_changes_no_stream),
        cmocka_unit_test(a_prefix_cache_changes_no_stream),
        cmocka_unit_test(a_long_prompt_does_not_keep_those_that_decode_waiting),
        cmocka_unit_test(sessions_wait_for_pages_and_all_get_their_answers),
        cmocka_unit_test(what_will_never_fit_ends_with_a_limit_and_the_next_goes_on),
    };
    return cmocka_run_group_tests_name("batch", tests, start, NULL);
}
