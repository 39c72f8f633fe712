/* Memory: the token loop allocates nothing, and an allocation that fails anywhere is an answer without a leak. */
#include "counting_malloc.h"
#include "streams.h"
#include "tiny_pair.h"

#include "engine/engine_internal.h"

#include <math.h>

#ifdef COUNTING_WORKS

static char *files;

static int set_up(void **state) {
    /* jansson 2.14's lexer goes on without the character it had no memory for; nobody who calls it can notice. Not counted. */
    json_set_alloc_funcs(__libc_malloc, __libc_free);
    files = check_make_folder();
    return write_models(state);
}

static int tear_down(void **state) {
    check_remove_folder(files);
    return remove_models(state);
}

static ds_engine_params tiny_params(const char *device, bool drafter) {
    ds_engine_params params = ds_engine_defaults();
    params.target = target_folder;
    params.drafter = drafter ? drafter_folder : NULL;
    params.device = device;
    params.context = 512;
    params.threads = 2;
    return params;
}

/* --- the token loop --- */

static bool prefer_some(void *user, const ds_token *drafted, size_t n_drafted, float *bias) {
    (void)user;
    (void)drafted;
    bias[n_drafted] = -INFINITY;
    return true;
}

static void expect_no_allocation(ds_session *session, const ds_session_params *params) {
    struct ds_error err;
    ds_token prompt[200];
    for (size_t i = 0; i < DS_COUNT(prompt); i++) prompt[i] = (ds_token)(i * 3 % TINY_VOCABULARY);
    check_ok(ds_session_configure(session, params, &err), &err);
    check_ok(ds_session_rewind(session, 0, &err), &err);
    const unsigned long before = atomic_load(&counting_calls);
    append(session, prompt, DS_COUNT(prompt)); /* prefill, pages, rounds: all of it */
    generate(session, 250);
    check_ok(ds_session_rewind(session, 100, &err), &err);
    generate(session, 50);
    assert_int_equal(atomic_load(&counting_calls) - before, 0);
}

/* Not on `ref`, whose definitions take their scratch where they need it. */
static void generating_allocates_nothing(void **state) {
    (void)state;
    for (int drafter = 0; drafter < 2; drafter++) {
        const ds_engine_params engine_params = tiny_params("cpu", drafter);
        ds_session_params params = ds_session_defaults();
        params.ignore_stop = true;
        ds_engine *engine = open_engine(&engine_params);
        ds_session *session = new_session(engine, &params);
        append(session, (const ds_token[]){1, 2, 3}, 3);
        engine->scheduling.remeasured = true; /* costs are not measured again, however busy the machine is */
        generate(session, 10); /* warm */
        expect_no_allocation(session, &params);
        params.sampling = (ds_sampling){.temperature = 1.0f, .top_k = 20, .top_p = 0.9f, .min_p = 0.01f, .seed = 9};
        expect_no_allocation(session, &params);
        params.acceptance = DS_REJECTION;
        params.penalties = (ds_penalties){.repetition = 1.1f, .presence = 0.2f, .frequency = 0.1f, .window = 64};
        params.logit_bias = (const ds_logit_bias[]){{3, 1.5f}, {4, -INFINITY}};
        params.n_logit_bias = 2;
        struct ds_error err;
        check_ok(ds_session_configure(session, &params, &err), &err); /* makes room, once */
        append(session, (const ds_token[]){1, 2, 3}, 3);
        generate(session, 10);
        expect_no_allocation(session, &params);
        params.bias = prefer_some;
        check_ok(ds_session_configure(session, &params, &err), &err); /* makes room, once */
        expect_no_allocation(session, &params);
        ds_session_destroy(session);
        ds_engine_destroy(engine);
    }
}

/* Operations of `ref` as they are, but not counted: its definitions take their scratch where they need it. */
static const struct ds_device_fns *ref_fns;
static ds_status uncounted(ds_op op, struct ds_stream *stream, const union ds_op_params *params, struct ds_error *err) {
    const unsigned long before = atomic_load(&counting_calls);
    const ds_status status = ref_fns->op[op](stream, params, err);
    atomic_store(&counting_calls, before);
    return status;
}
#define DS_OP(name, text) \
    static ds_status uncounted_##name(struct ds_stream *stream, const union ds_op_params *params, struct ds_error *err) { return uncounted(DS_OP_##name, stream, params, err); }
#include "ops/ops.def"
#undef DS_OP

static void generating_through_a_cut_target_allocates_nothing(void **state) {
    (void)state;
    static struct ds_device_fns fns;
    ds_engine_params engine_params = tiny_params("cpu=1,ref", true);
    engine_params.threads = 1;
    ds_session_params params = ds_session_defaults();
    params.ignore_stop = true;
    params.spec = DS_SPEC_FIXED;
    params.spec_length = TINY_BLOCK;
    ds_engine *engine = open_engine(&engine_params);
    ref_fns = engine->target.stages[1].device->fns;
    fns = *ref_fns;
#define DS_OP(name, text) fns.op[DS_OP_##name] = uncounted_##name;
#include "ops/ops.def"
#undef DS_OP
    engine->target.stages[1].device->fns = &fns;
    ds_session *session = new_session(engine, &params);
    append(session, (const ds_token[]){1, 2, 3}, 3);
    generate(session, 10);
    expect_no_allocation(session, &params);
    params.sampling = (ds_sampling){.temperature = 1.0f, .top_k = 20, .seed = 9};
    params.acceptance = DS_REJECTION;
    params.penalties.repetition = 1.1f;
    struct ds_error err;
    check_ok(ds_session_configure(session, &params, &err), &err); /* makes room, once */
    append(session, (const ds_token[]){1, 2, 3}, 3);
    generate(session, 10);
    expect_no_allocation(session, &params);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
}

static void run_batch(ds_batch *batch, ds_session *const *sessions, size_t n) {
    struct ds_error err;
    size_t left = n;
    for (size_t i = 0; i < n; i++)
        check_ok(ds_batch_add(batch, sessions[i], &(ds_batch_request){.size = sizeof(ds_batch_request), .max_tokens = 60}, &err), &err);
    while (left) check_ok(ds_batch_step(batch, &left, &err), &err);
}

static void generating_together_allocates_nothing(void **state) {
    (void)state;
    struct ds_error err;
    ds_engine_params engine_params = tiny_params("cpu", true);
    engine_params.max_sessions = 2;
    engine_params.prefix_positions = 256;
    ds_engine *engine = open_engine(&engine_params);
    ds_session_params params = ds_session_defaults();
    params.ignore_stop = true;
    params.spec = DS_SPEC_FIXED; /* nothing is measured */
    params.spec_length = TINY_BLOCK;
    ds_session *sessions[2];
    ds_batch *batch;
    const ds_batch_params batch_params = ds_batch_defaults();
    check_ok(ds_batch_create(engine, &batch_params, &batch, &err), &err);
    for (int i = 0; i < 2; i++) {
        sessions[i] = new_session(engine, &params);
        append(sessions[i], (const ds_token[]){1, 2, 3, 4}, 4);
    }
    run_batch(batch, sessions, 2); /* warm */
    const unsigned long before = atomic_load(&counting_calls);
    for (int turn = 0; turn < 2; turn++) {
        for (int i = 0; i < 2; i++) check_ok(ds_session_rewind(sessions[i], turn ? 3 : 0, &err), &err);
        for (int i = 0; i < 2; i++) append(sessions[i], (const ds_token[]){5, 6, 7, 8, 9}, 5);
        run_batch(batch, sessions, 2);
    }
    assert_int_equal(atomic_load(&counting_calls) - before, 0);
    for (int i = 0; i < 2; i++) ds_session_destroy(sessions[i]);
    ds_batch_destroy(batch);
    ds_engine_destroy(engine);
}

static bool take_text(void *user, ds_token token) {
    size_t length;
    (void)ds_text_stream_push(user, token, &length);
    return true;
}

static void text_that_follows_the_tokens_allocates_nothing(void **state) {
    (void)state;
    ds_engine_params params = ds_engine_defaults();
    params.target = PAIR_TARGET;
    params.context = 128;
    params.threads = 2;
    ds_session_params session_params = ds_session_defaults();
    session_params.ignore_stop = true;
    ds_engine *engine = open_engine(&params);
    ds_session *session = new_session(engine, &session_params);
    ds_text_stream *text;
    struct ds_error err;
    check_ok(ds_text_stream_create(engine, true, &text, &err), &err);
    append(session, (const ds_token[]){1, 2, 3}, 3);
    generate(session, 3);
    const unsigned long before = atomic_load(&counting_calls);
    check_ok(ds_session_generate(session, 60, take_text, text, NULL, &err), &err);
    assert_int_equal(atomic_load(&counting_calls) - before, 0);
    ds_text_stream_destroy(text);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
}

/* --- allocations that fail --- */

static ds_status answer_in_batch(ds_engine *engine, ds_session *session, struct ds_error *err) {
    const ds_batch_params params = ds_batch_defaults();
    ds_batch *batch = NULL;
    size_t left = 1;
    ds_status status = ds_batch_create(engine, &params, &batch, err);
    assert_true((status == DS_OK) == (batch != NULL));
    if (status == DS_OK) status = ds_batch_add(batch, session, &(ds_batch_request){.size = sizeof(ds_batch_request), .max_tokens = 3}, err);
    while (status == DS_OK && left) status = ds_batch_step(batch, &left, err);
    ds_batch_destroy(batch);
    return status;
}

/* A life from opening to a saved session; every step may fail for lack of memory, none for another reason. */
static ds_status live(ds_engine_params engine_params, const char *path, struct ds_error *err) {
    static const ds_token prompt[] = {1, 2, 3, 4};
    ds_session_params params = ds_session_defaults();
    params.ignore_stop = true;
    params.bias = prefer_some;
    params.sampling.temperature = 1;
    params.acceptance = DS_REJECTION;
    params.penalties.repetition = 1.1f;
    params.logit_bias = (const ds_logit_bias[]){{3, 1.5f}};
    params.n_logit_bias = 1;
    ds_engine *engine = NULL;
    ds_session *session = NULL;
    float logits[TINY_VOCABULARY];
    ds_status status = ds_engine_open(&engine_params, &engine, err);
    assert_true((status == DS_OK) == (engine != NULL));
    if (status == DS_OK) status = ds_engine_prepare(engine, NULL, NULL, err);
    if (status == DS_OK) status = ds_session_create(engine, &params, &session, err);
    if (status == DS_OK) status = ds_session_append(session, prompt, DS_COUNT(prompt), err);
    if (status == DS_OK) status = ds_session_generate(session, 5, NULL, NULL, NULL, err);
    if (status == DS_OK) status = ds_session_logits(session, 1, logits, err);
    if (status == DS_OK) status = ds_session_save(session, path, err);
    if (status == DS_OK) status = ds_session_load(session, path, err);
    if (status == DS_OK) status = answer_in_batch(engine, session, err);
    ds_session_destroy(session);
    if (engine) assert_int_equal(engine->pager.n_free, engine->pager.pages);
    ds_engine_destroy(engine);
    return status;
}

/* Lives with the n-th allocation failing, for each n until one is never reached; `step` leaves some out. */
static void fail_each_allocation(ds_engine_params params, unsigned long step) {
    char *path = ds_os_join(files, "session");
    struct ds_error err;
    params.context = 70;
    check_ok(live(params, path, &err), &err); /* what the C library keeps for itself is there now */
    unsigned long reached = 0, survived = 0;
    for (unsigned long n = 1;; n += step) {
        const long alive = atomic_load(&counting_alive);
        const unsigned long before = atomic_load(&counting_calls);
        atomic_store(&counting_fail_at, before + n);
        const ds_status status = live(params, path, &err);
        atomic_store(&counting_fail_at, 0);
        const bool failed = atomic_load(&counting_calls) - before >= n;
        if (status != DS_OK && status != DS_ERROR_MEMORY) fail_msg("allocation %lu: %s: %s", n, ds_status_name(status), err.message);
        if (atomic_load(&counting_alive) != alive)
            fail_msg("allocation %lu: %ld blocks leaked (%s)", n, atomic_load(&counting_alive) - alive, err.message);
        if (!failed) break;
        reached++;
        survived += status == DS_OK;
    }
    free(path);
    assert_true(reached > 100 / step);
    assert_true(survived < reached / 2); /* those that only cost something: a hint, a message */
}

static void an_allocation_that_fails_is_an_error_and_leaks_nothing_on_ref(void **state) {
    (void)state;
    fail_each_allocation(tiny_params("ref", true), 2);
}

static void an_allocation_that_fails_is_an_error_and_leaks_nothing_on_cpu(void **state) {
    (void)state;
    fail_each_allocation(tiny_params("cpu", true), 5);
}

static void an_allocation_that_fails_is_an_error_and_leaks_nothing_on_two_devices(void **state) {
    (void)state;
    ds_engine_params params = tiny_params("cpu=1,ref", true);
    params.draft_device = "ref";
    params.weights = DS_WEIGHTS_F32;
    fail_each_allocation(params, 11);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generating_allocates_nothing),
        cmocka_unit_test(generating_through_a_cut_target_allocates_nothing),
        cmocka_unit_test(generating_together_allocates_nothing),
        cmocka_unit_test(text_that_follows_the_tokens_allocates_nothing),
        cmocka_unit_test(an_allocation_that_fails_is_an_error_and_leaks_nothing_on_ref),
        cmocka_unit_test(an_allocation_that_fails_is_an_error_and_leaks_nothing_on_cpu),
        cmocka_unit_test(an_allocation_that_fails_is_an_error_and_leaks_nothing_on_two_devices),
    };
    return cmocka_run_group_tests_name("allocations", tests, set_up, tear_down);
}

#else

int main(void) {
    puts("1..0 # SKIP a sanitizer or another C library is in the place where allocations would be counted");
    return 0;
}

#endif
