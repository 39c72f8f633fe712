/* Sessions of one engine in threads of their own give the streams they give alone; a cancel may come from any thread. */
#include "streams.h"
#include "tiny_pair.h"

enum { SESSIONS = 4, LENGTH = 60 };

static ds_engine_params tiny_params(const char *device) {
    ds_engine_params params = ds_engine_defaults();
    params.target = target_folder;
    params.drafter = drafter_folder;
    params.device = device;
    params.context = 300;
    params.max_sessions = SESSIONS;
    params.threads = 2;
    return params;
}

struct worker {
    ds_engine *engine;
    uint32_t index;
    struct stream stream;
    ds_status status; /* cmocka's checks belong to the main thread */
    struct ds_error err;
};

static void add_tokens(struct worker *w, ds_session *session) {
    ds_token prompt[80];
    const size_t count = 5 + 20 * w->index; /* some end inside a page, some reach over it */
    for (size_t i = 0; i < count; i++) prompt[i] = (ds_token)((i * 7 + w->index) % TINY_VOCABULARY);
    w->status = ds_session_append(session, prompt, count, &w->err);
}

/* A life with everything in it: sampling of its own, a rewind, logits, tokens again. */
static void live(void *user) {
    struct worker *w = user;
    ds_session_params params = ds_session_defaults();
    params.sampling = (ds_sampling){.temperature = w->index % 2 ? 1.0f : 0.0f, .seed = w->index};
    params.ignore_stop = true;
    params.spec = w->index == 3 ? DS_SPEC_OFF : DS_SPEC_AUTO;
    ds_session *session;
    float logits[TINY_VOCABULARY];
    w->status = ds_session_create(w->engine, &params, &session, &w->err);
    if (w->status != DS_OK) return;
    add_tokens(w, session);
    const size_t length = ds_session_length(session);
    if (w->status == DS_OK) w->status = ds_session_generate(session, LENGTH, NULL, NULL, NULL, &w->err);
    if (w->status == DS_OK) w->status = ds_session_rewind(session, length + 10, &w->err);
    if (w->status == DS_OK) w->status = ds_session_logits(session, 1, logits, &w->err);
    if (w->status == DS_OK) w->status = ds_session_generate(session, LENGTH, NULL, NULL, NULL, &w->err);
    if (w->status == DS_OK) w->stream = stream_of(session);
    ds_session_destroy(session);
}

static void run_workers(ds_engine *engine, struct worker workers[SESSIONS], bool together) {
    struct ds_os_thread *threads[SESSIONS];
    struct ds_error err;
    for (uint32_t i = 0; i < SESSIONS; i++) {
        workers[i] = (struct worker){.engine = engine, .index = i};
        if (together) check_ok(ds_os_thread_create(live, &workers[i], "worker", &threads[i], &err), &err);
        else live(&workers[i]);
    }
    for (uint32_t i = 0; i < SESSIONS; i++) {
        if (together) ds_os_thread_join(threads[i]);
        check_ok(workers[i].status, &workers[i].err);
    }
}

static void sessions_in_threads_give_the_streams_they_give_alone(void **state) {
    (void)state;
    static const char *const devices[] = {"cpu", "ref"};
    static struct worker alone[SESSIONS], together[SESSIONS];
    for (size_t d = 0; d < DS_COUNT(devices); d++) {
        const ds_engine_params params = tiny_params(devices[d]);
        ds_engine *engine = open_engine(&params);
        run_workers(engine, alone, false);
        for (int round = 0; round < 3; round++) {
            run_workers(engine, together, true);
            for (uint32_t i = 0; i < SESSIONS; i++) same_stream(&together[i].stream, &alone[i].stream);
        }
        ds_engine_destroy(engine);
    }
}

/* --- preparing and creating from several threads --- */

static void prepare_and_create(void *user) {
    struct worker *w = user;
    const ds_session_params params = ds_session_defaults();
    do { /* refused while another thread is at it */
        w->status = ds_engine_prepare(w->engine, NULL, NULL, &w->err);
    } while (w->status == DS_ERROR_ARGUMENT);
    for (int i = 0; w->status == DS_OK && i < 50; i++) {
        ds_session *session;
        w->status = ds_session_create(w->engine, &params, &session, &w->err);
        if (w->status == DS_OK) ds_session_destroy(session);
    }
}

static void an_engine_prepared_by_several_threads_is_prepared_once(void **state) {
    (void)state;
    const ds_engine_params params = tiny_params("cpu");
    static struct worker workers[SESSIONS];
    struct ds_os_thread *threads[SESSIONS];
    ds_engine *engine;
    struct ds_error err;
    check_ok(ds_engine_open(&params, &engine, &err), &err);
    for (uint32_t i = 0; i < SESSIONS; i++) {
        workers[i] = (struct worker){.engine = engine};
        check_ok(ds_os_thread_create(prepare_and_create, &workers[i], "worker", &threads[i], &err), &err);
    }
    for (uint32_t i = 0; i < SESSIONS; i++) {
        ds_os_thread_join(threads[i]);
        check_ok(workers[i].status, &workers[i].err);
    }
    ds_engine_destroy(engine);
}

/* --- cancelling --- */

static void cancel(void *user) { ds_cancel(user); }

static bool start_cancelling(void *user, ds_token token) {
    (void)token;
    struct ds_os_thread **thread = ((void **)user)[1];
    struct ds_error err;
    if (!*thread) check_ok(ds_os_thread_create(cancel, ((void **)user)[0], "cancel", thread, &err), &err);
    return true;
}

static void another_thread_may_cancel(void **state) {
    (void)state;
    const ds_engine_params params = tiny_params("cpu");
    ds_session_params session_params = ds_session_defaults();
    session_params.ignore_stop = true;
    ds_engine *engine = open_engine(&params);
    ds_session *session = new_session(engine, &session_params);
    struct ds_error err;
    ds_status status = DS_OK;
    struct ds_os_thread *thread = NULL;
    void *both[] = {session, &thread};
    append(session, (const ds_token[]){1}, 1);
    /* However late the thread comes: what it asked for sticks until a call has seen it. */
    while (status == DS_OK) {
        check_ok(ds_session_rewind(session, 1, &err), &err);
        status = ds_session_generate(session, 200, start_cancelling, both, NULL, &err);
    }
    assert_int_equal(status, DS_ERROR_CANCELLED);
    ds_os_thread_join(thread);
    generate(session, 1);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
}

/* --- text --- */

struct reader {
    const ds_engine *engine;
    bool same;
};

static void tokenize_often(void *user) {
    struct reader *r = user;
    struct ds_error err;
    r->same = true;
    for (int i = 0; i < 20 && r->same; i++) {
        ds_token *tokens = NULL;
        char *text = NULL;
        size_t count, bytes;
        r->same = ds_tokenize(r->engine, example_prompt, strlen(example_prompt), DS_TOKENIZE_SPECIAL, &tokens, &count, &err) == DS_OK &&
                  ds_detokenize(r->engine, tokens, count, true, &text, &bytes, &err) == DS_OK && strcmp(text, example_prompt) == 0;
        ds_free(tokens);
        ds_free(text);
    }
}

static void any_thread_may_tokenize(void **state) {
    (void)state;
    ds_engine_params params = ds_engine_defaults();
    params.target = PAIR_TARGET;
    params.context = 64;
    ds_engine *engine;
    struct ds_error err;
    check_ok(ds_engine_open(&params, &engine, &err), &err);
    struct reader readers[SESSIONS];
    struct ds_os_thread *threads[SESSIONS];
    for (size_t i = 0; i < SESSIONS; i++) {
        readers[i].engine = engine;
        check_ok(ds_os_thread_create(tokenize_often, &readers[i], "reader", &threads[i], &err), &err);
    }
    for (size_t i = 0; i < SESSIONS; i++) {
        ds_os_thread_join(threads[i]);
        assert_true(readers[i].same);
    }
    ds_engine_destroy(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_in_threads_give_the_streams_they_give_alone),
        cmocka_unit_test(an_engine_prepared_by_several_threads_is_prepared_once),
        cmocka_unit_test(another_thread_may_cancel),
        cmocka_unit_test(any_thread_may_tokenize),
    };
    return cmocka_run_group_tests_name("concurrency", tests, write_models, remove_models);
}
