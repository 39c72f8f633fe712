/* Sessions that generate together: each has the stream it has alone, whatever the company, the order and the fate of the others. */
#include "streams.h"

#include "engine/engine_internal.h"

#include <math.h>

enum { CONTEXT = 320, SESSIONS = 8, ANSWER = 26 };

static struct stream alone[2][SESSIONS]; /* by temperature: greedy, 0.8 */
static ds_token prompts[SESSIONS][200];
static size_t prompt_lengths[SESSIONS];

static ds_engine *open_with_prefixes(const char *drafter, uint32_t rows, uint64_t kv_positions, uint64_t prefix_positions) {
    char path[256];
    ds_engine_params params = ds_engine_defaults();
    params.target = PAIR_TARGET;
    if (drafter) snprintf(path, sizeof path, "%s/models/tiny/%s", DSPARK_SOURCE_ROOT, drafter);
    params.drafter = drafter ? path : NULL;
    params.device = "cpu";
    params.context = CONTEXT;
    params.max_sessions = SESSIONS;
    params.max_rows = rows;
    params.threads = 1;
    params.kv_positions = kv_positions;
    params.prefix_positions = prefix_positions;
    ds_engine *engine = open_engine(&params);
    if (!drafter) return engine;
    /* Costs that nobody has to measure: with them `auto` drafts. */
    struct ds_cost_samples s = {.n = 2, .near_context = 1, .block = 7, .draft_one = 0.1, .draft_whole = 0.1};
    s.pass[0] = (struct ds_cost_sample){1, 1, 0};
    s.pass[1] = (struct ds_cost_sample){8, 1.2, 0};
    struct ds_cost_table table;
    ds_cost_fit(&s, &table);
    ds_pace_learned_start(&engine->scheduling.learned, &table, DS_CONFIDENCE_HEAD);
    engine->scheduling.known = true;
    return engine;
}

static ds_engine *open_pair(const char *drafter, uint32_t rows, uint64_t kv_positions) { return open_with_prefixes(drafter, rows, kv_positions, 0); }

static ds_session_params params_of(int warm, uint32_t index) {
    static const uint32_t lengths[] = {0, 7, 3, 1};
    ds_session_params params = ds_session_defaults();
    params.ignore_stop = true;
    params.sampling = (ds_sampling){.temperature = warm ? 0.8f : 0, .top_p = 0.95f, .seed = 7 + index};
    params.spec_length = lengths[index % 4];
    params.spec = params.spec_length ? DS_SPEC_FIXED : index ? DS_SPEC_AUTO : DS_SPEC_OFF; /* all of them in one batch */
    return params;
}

static ds_session *session_with_prompt(ds_engine *engine, int warm, uint32_t index) {
    const ds_session_params params = params_of(warm, index);
    ds_session *session = new_session(engine, &params);
    append(session, prompts[index], prompt_lengths[index]);
    return session;
}

static int start(void **state) {
    (void)state;
    ds_engine *engine = open_pair(NULL, 0, 0);
    size_t count;
    ds_token *text = prompt_tokens(engine, example_prompt, &count);
    assert_true(count > 20);
    for (uint32_t i = 0; i < SESSIONS; i++) { /* some share their beginning, one is long */
        prompt_lengths[i] = i == 5 ? 180 : 3 + 4 * i;
        for (size_t t = 0; t < prompt_lengths[i]; t++) prompts[i][t] = text[(t + (i % 2) * i) % count];
    }
    ds_free(text);
    for (int warm = 0; warm < 2; warm++) {
        for (uint32_t i = 0; i < SESSIONS; i++) {
            ds_session *session = session_with_prompt(engine, warm, i);
            generate(session, ANSWER);
            alone[warm][i] = stream_of(session);
            ds_session_destroy(session);
        }
    }
    ds_engine_destroy(engine);
    return 0;
}

/* --- a batch and what was told about it --- */

struct answer {
    ds_session *session;
    size_t tokens;
    bool done;
    ds_stop stop;
    ds_status status;
    struct ds_error err;
};

static bool count_token(void *user, ds_token token) {
    (void)token;
    struct answer *a = user;
    assert_false(a->done);
    a->tokens++;
    return true;
}

static void note_done(void *user, ds_session *session, ds_stop stop, ds_status status, const struct ds_error *err) {
    struct answer *a = user;
    assert_false(a->done);
    assert_ptr_equal(a->session, session);
    *a = (struct answer){session, a->tokens, true, stop, status, *err};
}

static void add(ds_batch *batch, struct answer *a, size_t most) {
    struct ds_error err;
    const ds_batch_request request = {.size = sizeof request, .max_tokens = most, .token = count_token, .done = note_done, .user = a};
    check_ok(ds_batch_add(batch, a->session, &request, &err), &err);
}

static ds_batch *new_batch(ds_engine *engine, ds_batch_params params) {
    ds_batch *batch;
    struct ds_error err;
    params.size = sizeof params;
    check_ok(ds_batch_create(engine, &params, &batch, &err), &err);
    return batch;
}

static size_t step(ds_batch *batch) {
    size_t left;
    struct ds_error err;
    check_ok(ds_batch_step(batch, &left, &err), &err);
    return left;
}

static void expect_alone(const struct answer *a, int warm, uint32_t index) {
    const struct stream got = stream_of(a->session);
    assert_true(a->done);
    assert_int_equal(a->status, DS_OK);
    assert_int_equal(a->stop, DS_STOP_LENGTH);
    assert_int_equal(a->tokens, ANSWER);
    same_stream(&got, &alone[warm][index]);
}

static void expect_no_page_lost(const ds_engine *engine) {
    const struct ds_pager *p = &engine->pager;
    assert_int_equal(p->n_free + engine->prefix.count, p->pages); /* the prefix cache's are not lost */
    for (uint32_t s = 0; s < p->sequences; s++) assert_true(!p->taken[s] && !p->lengths[s] && !p->promised[s]);
    uint32_t held = 0;
    for (uint32_t i = 0; i < p->pages; i++) held += p->references[i];
    assert_int_equal(held, engine->prefix.count);
}

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

/* --- ends of every kind --- */

enum fate { CANCELLED, REMOVED, DESTROYED, FATES };

static void ending_one_at_any_moment_leaves_the_others_alone_and_loses_no_page(void **state) {
    (void)state;
    ds_engine *engine = open_pair("eagle3", 0, 12 * DS_PAGE);
    struct ds_error err;
    for (uint32_t moment = 0; moment < 9; moment++) {
        const enum fate fate = (enum fate)(moment % FATES);
        ds_batch *batch = new_batch(engine, (ds_batch_params){.max_running = 3, .prefill_rows = 16});
        static const uint32_t indices[] = {5, 1, 2, 7};
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
        cmocka_unit_test(any_company_in_any_order_gives_each_the_stream_it_has_alone),
        cmocka_unit_test(passes_of_few_rows_give_the_same_streams),
        cmocka_unit_test(a_prefix_cache_changes_no_stream),
        cmocka_unit_test(a_long_prompt_does_not_keep_those_that_decode_waiting),
        cmocka_unit_test(sessions_wait_for_pages_and_all_get_their_answers),
        cmocka_unit_test(what_will_never_fit_ends_with_a_limit_and_the_next_goes_on),
        cmocka_unit_test(ending_one_at_any_moment_leaves_the_others_alone_and_loses_no_page),
        cmocka_unit_test(an_error_of_one_session_ends_it_alone),
        cmocka_unit_test(a_sequence_whose_numbers_are_none_ends_alone_whether_it_drafts_or_not),
        cmocka_unit_test(callbacks_may_add_remove_and_destroy),
        cmocka_unit_test(wrong_calls_are_refused),
    };
    return cmocka_run_group_tests_name("batch", tests, start, NULL);
}
