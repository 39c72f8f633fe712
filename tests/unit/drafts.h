/* What a drafter proposes for a fixed prompt, so that two forms of one drafter can be held against each other. */
#ifndef DSPARK_TESTS_DRAFTS_H
#define DSPARK_TESTS_DRAFTS_H

#include "check.h"
#include "dspark.h"

enum { ROUNDS = 24, MOST = ROUNDS * 64 };

struct drafts {
    ds_token tokens[MOST];
    size_t count, first; /* of the first round */
};

static inline void note_round(void *user, const ds_round *round) {
    struct drafts *d = user;
    if (!d->first) d->first = round->n_draft;
    for (size_t i = 0; i < round->n_draft && d->count < MOST; i++) d->tokens[d->count++] = round->draft[i];
}

static inline struct drafts run_drafter(const char *target, const char *drafter, ds_kv_type kv) {
    static const ds_token prompt[] = {3, 14, 15, 9, 26, 5, 35, 8, 9, 7, 9, 3, 23, 8, 46};
    ds_engine_params params = ds_engine_defaults();
    params.target = target;
    params.drafter = drafter;
    params.device = "cpu";
    params.threads = 1;
    params.context = 128;
    params.kv = kv;
    params.weights = DS_WEIGHTS_F32;
    ds_engine *engine;
    ds_session *session;
    struct ds_error err;
    struct drafts drafts = {.count = 0};
    check_ok(ds_engine_open(&params, &engine, &err), &err);
    check_ok(ds_engine_prepare(engine, NULL, NULL, &err), &err);
    ds_session_params how = ds_session_defaults();
    how.ignore_stop = true;
    ds_engine_info info = {.size = sizeof info};
    ds_engine_get_info(engine, &info);
    how.spec = DS_SPEC_FIXED;
    how.spec_length = info.block_size;
    check_ok(ds_session_create(engine, &how, &session, &err), &err);
    ds_session_set_trace(session, note_round, &drafts);
    check_ok(ds_session_append(session, prompt, DS_COUNT(prompt), &err), &err);
    check_ok(ds_session_generate(session, ROUNDS, NULL, NULL, NULL, &err), &err);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
    assert_true(drafts.count > 0);
    return drafts;
}

static inline size_t differences(const struct drafts *a, const struct drafts *b) {
    size_t different = a->count != b->count;
    for (size_t i = 0; i < a->count && i < b->count; i++) different += a->tokens[i] != b->tokens[i];
    return different;
}

#endif
