/* Several sessions in one batch, and the streams they have alone. */
#ifndef DSPARK_TESTS_COMPANY_H
#define DSPARK_TESTS_COMPANY_H

#include "streams.h"

#include "engine/engine_internal.h"

enum { CONTEXT = 320, SESSIONS = 8, ANSWER = 26 };

static struct stream alone[2][SESSIONS]; /* by temperature: greedy, 0.8 */
static ds_token prompts[SESSIONS][200];
static size_t prompt_lengths[SESSIONS];

static inline ds_engine *open_with_prefixes(const char *drafter, uint32_t rows, uint64_t kv_positions, uint64_t prefix_positions) {
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

static inline ds_engine *open_pair(const char *drafter, uint32_t rows, uint64_t kv_positions) { return open_with_prefixes(drafter, rows, kv_positions, 0); }

static inline ds_session_params params_of(int warm, uint32_t index) {
    static const uint32_t lengths[] = {0, 7, 3, 1};
    ds_session_params params = ds_session_defaults();
    params.ignore_stop = true;
    params.sampling = (ds_sampling){.temperature = warm ? 0.8f : 0, .top_p = 0.95f, .seed = 7 + index};
    params.spec_length = lengths[index % 4];
    params.spec = params.spec_length ? DS_SPEC_FIXED : index ? DS_SPEC_AUTO : DS_SPEC_OFF; /* all of them in one batch */
    return params;
}

static inline ds_session *session_with_prompt(ds_engine *engine, int warm, uint32_t index) {
    const ds_session_params params = params_of(warm, index);
    ds_session *session = new_session(engine, &params);
    append(session, prompts[index], prompt_lengths[index]);
    return session;
}

static inline int start(void **state) {
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

static inline bool count_token(void *user, ds_token token) {
    (void)token;
    struct answer *a = user;
    assert_false(a->done);
    a->tokens++;
    return true;
}

static inline void note_done(void *user, ds_session *session, ds_stop stop, ds_status status, const struct ds_error *err) {
    struct answer *a = user;
    assert_false(a->done);
    assert_ptr_equal(a->session, session);
    *a = (struct answer){session, a->tokens, true, stop, status, *err};
}

static inline void add(ds_batch *batch, struct answer *a, size_t most) {
    struct ds_error err;
    const ds_batch_request request = {.size = sizeof request, .max_tokens = most, .token = count_token, .done = note_done, .user = a};
    check_ok(ds_batch_add(batch, a->session, &request, &err), &err);
}

static inline ds_batch *new_batch(ds_engine *engine, ds_batch_params params) {
    ds_batch *batch;
    struct ds_error err;
    params.size = sizeof params;
    check_ok(ds_batch_create(engine, &params, &batch, &err), &err);
    return batch;
}

static inline size_t step(ds_batch *batch) {
    size_t left;
    struct ds_error err;
    check_ok(ds_batch_step(batch, &left, &err), &err);
    return left;
}

static inline void expect_alone(const struct answer *a, int warm, uint32_t index) {
    const struct stream got = stream_of(a->session);
    assert_true(a->done);
    assert_int_equal(a->status, DS_OK);
    assert_int_equal(a->stop, DS_STOP_LENGTH);
    assert_int_equal(a->tokens, ANSWER);
    same_stream(&got, &alone[warm][index]);
}

static inline void expect_no_page_lost(const ds_engine *engine) {
    const struct ds_pager *p = &engine->pager;
    assert_int_equal(p->n_free + engine->prefix.count, p->pages); /* the prefix cache's are not lost */
    for (uint32_t s = 0; s < p->sequences; s++) assert_true(!p->taken[s] && !p->lengths[s] && !p->promised[s]);
    uint32_t held = 0;
    for (uint32_t i = 0; i < p->pages; i++) held += p->references[i];
    assert_int_equal(held, engine->prefix.count);
}

#endif
