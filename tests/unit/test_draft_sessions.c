/*
 * Each trained drafter follows its session: whatever happened to the sequence before (rewound, extended, asked for logits, saved and
 * loaded), the drafts behind a given beginning are those of a fresh session, and the stream is that of plain decoding. A drafter's context
 * that is missing or stale shows nowhere else: the target corrects it silently.
 */
#include "streams.h"

enum { LENGTH = 72, SPAN = 28, POSITIONS = 256, BLOCK = 7 };

static const char *const drafters[] = {"dspark", "dflash", "eagle3"};

/* What was drafted behind the anchor at each position. */
struct drafts {
    ds_token tokens[POSITIONS][BLOCK];
    size_t count[POSITIONS]; /* 0: no round began there */
};

static void note(void *user, const ds_round *round) {
    struct drafts *d = user;
    assert_true(round->position < POSITIONS && round->n_draft <= BLOCK);
    d->count[round->position] = round->n_draft;
    memcpy(d->tokens[round->position], round->draft, round->n_draft * sizeof *round->draft);
}

static ds_engine *open_pair(const char *drafter) {
    char path[256];
    snprintf(path, sizeof path, "%s/models/tiny/%s", DSPARK_SOURCE_ROOT, drafter);
    ds_engine_params params = ds_engine_defaults();
    params.target = PAIR_TARGET;
    params.drafter = path;
    params.device = "cpu";
    params.threads = 1;
    params.context = POSITIONS - BLOCK - 1;
    params.max_sessions = 2;
    return open_engine(&params);
}

static ds_session *open_session(ds_engine *engine, ds_spec_mode spec) {
    ds_session_params params = ds_session_defaults();
    params.ignore_stop = true;
    ds_engine_info info = {.size = sizeof info};
    ds_engine_get_info(engine, &info);
    params.spec = spec;
    params.spec_length = spec == DS_SPEC_FIXED ? info.block_size : 0;
    return new_session(engine, &params);
}

/* Prompt and greedy answer, LENGTH tokens in all. */
static struct stream plain_stream(ds_engine *engine) {
    size_t count;
    ds_token *prompt = prompt_tokens(engine, example_prompt, &count);
    ds_session *session = open_session(engine, DS_SPEC_OFF);
    append(session, prompt, count);
    generate(session, LENGTH - count);
    const struct stream stream = stream_of(session);
    ds_session_destroy(session);
    ds_free(prompt);
    return stream;
}

/* A round at every position that a fresh session gets to from the first `length` tokens. */
static void fresh_drafts(ds_engine *engine, const struct stream *stream, size_t length, struct drafts *out) {
    ds_session *session = open_session(engine, DS_SPEC_FIXED);
    ds_session_set_trace(session, note, out);
    append(session, stream->tokens, length);
    generate(session, SPAN);
    for (size_t i = 0; i < length + SPAN && i < stream->count; i++) assert_int_equal(ds_session_tokens(session)[i], stream->tokens[i]);
    ds_session_destroy(session);
}

/* Rounds that begin at the same position draft the same. At least one does. */
static void same_drafts(const struct drafts *a, const struct drafts *b) {
    size_t common = 0;
    for (size_t p = 0; p < POSITIONS; p++) {
        if (!a->count[p] || !b->count[p]) continue;
        common++;
        assert_int_equal(a->count[p], b->count[p]);
        for (size_t k = 0; k < a->count[p]; k++)
            if (a->tokens[p][k] != b->tokens[p][k])
                fail_msg("behind position %zu draft %zu is %d; a fresh session drafts %d", p, k, (int)b->tokens[p][k], (int)a->tokens[p][k]);
    }
    assert_true(common > 0);
}

/* What may happen to a session before `length` tokens of the stream are in it. */
static void rewound(ds_session *session, const struct stream *stream, size_t length) {
    struct ds_error err;
    append(session, stream->tokens, length - 5);
    generate(session, 20);
    check_ok(ds_session_rewind(session, length, &err), &err);
}

static void rewound_and_extended(ds_session *session, const struct stream *stream, size_t length) {
    static const ds_token other[] = {11, 12, 13};
    struct ds_error err;
    append(session, stream->tokens, length - 9);
    append(session, other, DS_COUNT(other));
    generate(session, 10);
    check_ok(ds_session_rewind(session, length - 9, &err), &err);
    append(session, stream->tokens + length - 9, 9);
}

static void asked_for_logits(ds_session *session, const struct stream *stream, size_t length) {
    static float logits[3 * 4096];
    struct ds_error err;
    append(session, stream->tokens, length - 1);
    check_ok(ds_session_logits(session, 3, logits, &err), &err);
    append(session, stream->tokens + length - 1, 1);
}

static void saved_and_loaded(ds_session *session, const struct stream *stream, size_t length) {
    char *folder = check_make_folder(), *path = ds_os_join(folder, "session");
    struct ds_error err;
    append(session, stream->tokens, length - 4);
    generate(session, 4);
    check_ok(ds_session_save(session, path, &err), &err);
    check_ok(ds_session_rewind(session, 2, &err), &err);
    check_ok(ds_session_load(session, path, &err), &err);
    free(path);
    check_remove_folder(folder);
}

static void stopped_inside_a_round(ds_session *session, const struct stream *stream, size_t length) {
    append(session, stream->tokens, length - 15);
    for (int i = 0; i < 15; i++) generate(session, 1);
}

static void follows(void (*prepare)(ds_session *session, const struct stream *stream, size_t length)) {
    for (size_t i = 0; i < DS_COUNT(drafters); i++) {
        ds_engine *engine = open_pair(drafters[i]);
        const struct stream stream = plain_stream(engine);
        for (size_t length = 41; length <= 42; length++) {
            struct drafts fresh = {{{0}}, {0}}, other = {{{0}}, {0}};
            fresh_drafts(engine, &stream, length, &fresh);
            fresh_drafts(engine, &stream, length - 1, &fresh);
            ds_session *session = open_session(engine, DS_SPEC_FIXED);
            prepare(session, &stream, length);
            assert_int_equal(ds_session_length(session), length);
            ds_session_set_trace(session, note, &other);
            generate(session, SPAN);
            for (size_t t = 0; t < length + SPAN && t < stream.count; t++) assert_int_equal(ds_session_tokens(session)[t], stream.tokens[t]);
            same_drafts(&fresh, &other);
            ds_session_destroy(session);
        }
        ds_engine_destroy(engine);
    }
}

static void a_rewound_session_drafts_as_a_fresh_one(void **state) {
    (void)state;
    follows(rewound);
}

static void a_session_whose_end_was_replaced_drafts_as_a_fresh_one(void **state) {
    (void)state;
    follows(rewound_and_extended);
}

static void a_session_asked_for_logits_drafts_as_a_fresh_one(void **state) {
    (void)state;
    follows(asked_for_logits);
}

static void a_loaded_session_drafts_as_a_fresh_one(void **state) {
    (void)state;
    follows(saved_and_loaded);
}

static void a_session_generated_token_by_token_drafts_as_a_fresh_one(void **state) {
    (void)state;
    follows(stopped_inside_a_round);
}

/* Two sessions take turns: what one carries over is not the other's. */
static void sessions_side_by_side_draft_as_alone(void **state) {
    (void)state;
    for (size_t i = 0; i < DS_COUNT(drafters); i++) {
        ds_engine *engine = open_pair(drafters[i]);
        const struct stream stream = plain_stream(engine);
        struct drafts alone[2] = {{{{0}}, {0}}}, together[2] = {{{{0}}, {0}}};
        ds_session *sessions[2];
        for (int s = 0; s < 2; s++) {
            ds_session *session = open_session(engine, DS_SPEC_FIXED);
            ds_session_set_trace(session, note, &alone[s]);
            append(session, stream.tokens + s, 30);
            for (int n = 0; n < 6; n++) generate(session, 4);
            ds_session_destroy(session);
        }
        for (int s = 0; s < 2; s++) {
            sessions[s] = open_session(engine, DS_SPEC_FIXED);
            ds_session_set_trace(sessions[s], note, &together[s]);
            append(sessions[s], stream.tokens + s, 30);
        }
        for (int n = 0; n < 12; n++) generate(sessions[n % 2], 4);
        for (int s = 0; s < 2; s++) {
            same_drafts(&alone[s], &together[s]);
            ds_session_destroy(sessions[s]);
        }
        ds_engine_destroy(engine);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rewound_session_drafts_as_a_fresh_one),
        cmocka_unit_test(a_session_whose_end_was_replaced_drafts_as_a_fresh_one),
        cmocka_unit_test(a_session_asked_for_logits_drafts_as_a_fresh_one),
        cmocka_unit_test(a_loaded_session_drafts_as_a_fresh_one),
        cmocka_unit_test(a_session_generated_token_by_token_drafts_as_a_fresh_one),
        cmocka_unit_test(sessions_side_by_side_draft_as_alone),
    };
    return cmocka_run_group_tests_name("draft_sessions", tests, NULL, NULL);
}
