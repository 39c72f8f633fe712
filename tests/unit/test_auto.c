/* DS_SPEC_AUTO in a session: what it does to tokens (nothing), to the drafter's context, and where its costs come from. */
#include "streams.h"

#include "engine/engine_internal.h"

enum { CONTEXT = 512, SOME = 150 };

static ds_engine *alone;
static ds_token *prompt;
static size_t prompt_count;

static ds_engine *open_drafter(const char *drafter, const char *cache, uint32_t rows) {
    ds_engine_params params = ds_engine_defaults();
    params.target = PAIR_TARGET;
    params.drafter = drafter;
    params.context = CONTEXT;
    params.max_sessions = 2;
    params.threads = 1;
    params.cache = cache;
    params.max_rows = rows;
    return open_engine(&params);
}
static ds_engine *open_pair(const char *cache) { return open_drafter(PAIR_DRAFTER, cache, 0); }

static int start(void **state) {
    (void)state;
    ds_engine_params params = ds_engine_defaults();
    params.target = PAIR_TARGET;
    params.context = CONTEXT;
    params.threads = 1;
    alone = open_engine(&params);
    prompt = prompt_tokens(alone, example_prompt, &prompt_count);
    return 0;
}

static int finish(void **state) {
    (void)state;
    ds_free(prompt);
    ds_engine_destroy(alone);
    return 0;
}

static ds_session_params params_of(float temperature, ds_spec_mode spec) {
    ds_session_params params = ds_session_defaults();
    params.sampling = (ds_sampling){.temperature = temperature, .top_p = 0.95f, .seed = 5};
    params.ignore_stop = true;
    params.spec = spec;
    return params;
}

static ds_session *session_with_prompt(ds_engine *engine, const ds_session_params *params) {
    ds_session *session = new_session(engine, params);
    append(session, prompt, prompt_count);
    return session;
}

/* The engine believes in these milliseconds: what follows does not depend on the machine. */
static void believe(ds_engine *engine, double row, double draft) {
    struct ds_cost_samples s = {.n = 2, .near_context = 1, .block = 7, .draft_one = draft, .draft_whole = draft};
    s.pass[0] = (struct ds_cost_sample){1, 1, 0};
    s.pass[1] = (struct ds_cost_sample){8, 1 + 7 * row, 0};
    struct ds_cost_table table;
    ds_cost_fit(&s, &table);
    ds_pace_learned_start(&engine->scheduling.learned, &table, DS_CONFIDENCE_HEAD);
    engine->scheduling.known = true;
}

/* --- tokens --- */

static void whatever_speculation_is_believed_to_cost_the_tokens_are_the_same(void **state) {
    (void)state;
    static const double rows[] = {0, 0.3, 5}, drafts[] = {0.01, 0.5, 50};
    for (int t = 0; t < 2; t++) {
        const ds_session_params params = params_of(t ? 0.9f : 0, DS_SPEC_AUTO);
        ds_session *plain = session_with_prompt(alone, &params);
        generate(plain, SOME);
        const struct stream expected = stream_of(plain);
        ds_session_destroy(plain);
        for (size_t i = 0; i < DS_COUNT(rows); i++) {
            ds_engine *engine = open_pair(NULL);
            believe(engine, rows[i], drafts[i]);
            ds_session *session = session_with_prompt(engine, &params);
            generate(session, SOME);
            const struct stream got = stream_of(session);
            same_stream(&got, &expected);
            ds_stats stats = {.size = sizeof stats};
            ds_session_get_stats(session, &stats);
            /* Real times correct what is believed, so no more is certain: one way drafts; where nothing can pay not even a probe does. */
            if (i < 2) assert_true(stats.drafted > 0);
            else assert_true(stats.drafted == 0 && stats.rounds == SOME - 1);
            ds_session_destroy(session);
            ds_engine_destroy(engine);
        }
    }
}

static void no_draft_is_made_that_the_answer_has_no_room_for(void **state) {
    (void)state;
    ds_engine *engine = open_pair(NULL);
    believe(engine, 0, 0.01);
    const ds_session_params params = params_of(0, DS_SPEC_AUTO);
    ds_session *session = session_with_prompt(engine, &params);
    for (int i = 0; i < 12; i++) generate(session, 1);
    ds_stats stats = {.size = sizeof stats};
    ds_session_get_stats(session, &stats);
    assert_int_equal(stats.drafted, 0);
    generate(session, 3);
    ds_session_get_stats(session, &stats);
    assert_true(stats.verified <= 4);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
}

/* --- the drafter's context while parked --- */

struct last_draft {
    ds_token tokens[7];
    float confidence[7];
    size_t position;
};
static void keep_draft(void *user, const ds_round *round) {
    struct last_draft *last = user;
    if (!round->n_draft) return;
    memcpy(last->tokens, round->draft, sizeof last->tokens);
    memcpy(last->confidence, round->confidence, sizeof last->confidence);
    last->position = round->position;
}

/* `plain` tokens with features stored or fed, then a draft. */
static struct last_draft draft_after(ds_engine *engine, enum ds_round_taps taps, uint32_t plain) {
    const ds_session_params params = params_of(0, DS_SPEC_AUTO);
    ds_session *session = session_with_prompt(engine, &params);
    struct ds_sequence *s = &session->sequence;
    struct ds_error err;
    struct ds_round_result r;
    ds_token next;
    check_ok(ds_spec_extend(&engine->spec, s, &(struct ds_extend){.feed_drafter = true, .sample = true}, &next, &err), &err);
    s->tokens[s->length++] = next;
    for (uint32_t i = 0; i < plain; i++) {
        check_ok(ds_spec_round(&engine->spec, s, &(struct ds_round_plan){.taps = taps}, &r, &err), &err);
        assert_true(ds_sequence_can_draft(s) && s->stored <= DS_STORED_TAPS && (taps == DS_TAPS_STORE || !s->stored));
        s->tokens[s->length++] = r.next;
    }
    check_ok(ds_spec_round(&engine->spec, s, &(struct ds_round_plan){.draft = true, .verify_most = 7, .taps = DS_TAPS_FEED}, &r, &err), &err);
    struct last_draft last = {.position = r.position};
    assert_true(r.n_draft >= 1 && r.n_draft <= 7);
    memcpy(last.tokens, r.draft, r.n_draft * sizeof *r.draft);
    memcpy(last.confidence, r.confidence, r.n_draft * sizeof *r.confidence);
    ds_session_destroy(session);
    return last;
}

static void a_draft_after_parking_is_the_draft_of_a_context_that_followed_at_once(void **state) {
    (void)state;
    static const char *const drafters[] = {PAIR_DRAFTER, DSPARK_SOURCE_ROOT "/models/tiny/eagle3"};
    static const uint32_t lengths[] = {1, 63, 64, 65, 200};
    for (size_t d = 0; d < DS_COUNT(drafters); d++) {
        for (uint32_t chunk = 0; chunk <= 7; chunk += 7) { /* passes of 256 rows, and so few that features go in by portions */
            ds_engine *engine = open_drafter(drafters[d], NULL, chunk);
            for (size_t i = chunk ? 3 : 0; i < DS_COUNT(lengths); i++) {
                const struct last_draft fed = draft_after(engine, DS_TAPS_FEED, lengths[i]), stored = draft_after(engine, DS_TAPS_STORE, lengths[i]);
                assert_memory_equal(&stored, &fed, sizeof fed);
            }
            ds_engine_destroy(engine);
        }
    }
}

/* The first drafts of a block are the same, however many of it are drafted. */
static void fewer_slots_give_the_first_drafts_of_the_block(void **state) {
    (void)state;
    static const char *const drafters[] = {PAIR_DRAFTER, DSPARK_SOURCE_ROOT "/models/tiny/dflash", DSPARK_SOURCE_ROOT "/models/tiny/eagle3",
                                           DSPARK_SOURCE_ROOT "/models/tiny/dspark"};
    for (size_t d = 0; d < DS_COUNT(drafters); d++) {
        ds_engine *engine = open_drafter(drafters[d], NULL, 0);
        const ds_session_params params = params_of(d == 3 ? 0.8f : 0, DS_SPEC_AUTO);
        struct ds_round_result whole = {.n_draft = 0}, some;
        struct ds_error err;
        for (uint32_t slots = 0; slots <= 7; slots++) {
            ds_session *session = session_with_prompt(engine, &params);
            struct ds_sequence *s = &session->sequence;
            ds_token next;
            check_ok(ds_spec_extend(&engine->spec, s, &(struct ds_extend){.feed_drafter = true, .sample = true}, &next, &err), &err);
            s->tokens[s->length++] = next;
            struct ds_round_result *const r = slots ? &some : &whole;
            check_ok(ds_spec_round(&engine->spec, s, &(struct ds_round_plan){.draft = true, .slots = slots, .verify_most = 7, .taps = DS_TAPS_FEED}, r, &err),
                     &err);
            if (slots) {
                assert_true(r->n_draft == DS_MIN(slots, whole.n_draft) && r->verified == r->n_draft);
                assert_int_equal(r->accepted, DS_MIN(whole.accepted, r->n_draft));
                assert_memory_equal(r->draft, whole.draft, r->n_draft * sizeof *r->draft);
                assert_memory_equal(r->confidence, whole.confidence, r->n_draft * sizeof *r->confidence);
            }
            ds_session_destroy(session);
        }
        ds_engine_destroy(engine);
    }
}

static void rewinding_a_parked_session_keeps_its_context_usable(void **state) {
    (void)state;
    ds_engine *engine = open_pair(NULL);
    believe(engine, 0.3, 0.5);
    engine->scheduling.learned.parked = true;
    engine->scheduling.learned.wait = 1000;
    const ds_session_params params = params_of(0, DS_SPEC_AUTO), fixed = {.size = sizeof fixed, .ignore_stop = true, .spec = DS_SPEC_FIXED, .spec_length = 7};
    struct last_draft last[2] = {{.position = 0}};
    struct ds_error err;
    for (int fresh = 0; fresh < 2; fresh++) {
        ds_session *session = session_with_prompt(engine, fresh ? &fixed : &params);
        generate(session, 100);
        check_ok(ds_session_rewind(session, prompt_count + 40, &err), &err);
        check_ok(ds_session_configure(session, &fixed, &err), &err);
        ds_session_set_trace(session, keep_draft, &last[fresh]);
        generate(session, 1);
        ds_session_set_trace(session, NULL, NULL);
        generate(session, 5);
        ds_session_destroy(session);
    }
    assert_memory_equal(&last[0], &last[1], sizeof last[0]);
    ds_engine_destroy(engine);
}

/* --- where the costs come from --- */

static void warn(void *user, ds_log_level level, const char *message) {
    if (level == DS_LOG_WARNING) snprintf(user, 1024, "%s", message);
}

static void run_once(const char *cache, struct ds_cost_table *table, char warning[1024]) {
    ds_engine_params engine_params = ds_engine_defaults();
    engine_params.target = PAIR_TARGET;
    engine_params.drafter = PAIR_DRAFTER;
    engine_params.context = CONTEXT;
    engine_params.threads = 1;
    engine_params.cache = cache;
    engine_params.log = warn;
    engine_params.log_user = warning;
    warning[0] = '\0';
    ds_engine *engine = open_engine(&engine_params);
    const ds_session_params params = params_of(0, DS_SPEC_AUTO);
    ds_session *session = session_with_prompt(engine, &params);
    generate(session, 4);
    assert_true(engine->scheduling.known && session->paced);
    *table = engine->scheduling.learned.costs.table;
    assert_true(ds_cost_valid(table));
    ds_session_destroy(session);
    ds_engine_destroy(engine);
}

/* As if nothing else had run on this machine: it is not measured again. */
static void calm(const char *path) {
    static const char name[] = "\"spread\": ";
    char *text;
    size_t size;
    struct ds_error err;
    check_ok(ds_os_read_file(path, 1 << 16, &text, &size, &err), &err);
    char *at = strstr(text, name);
    assert_non_null(at);
    for (at += sizeof name - 1; *at != ','; at++) *at = ' ';
    at[-1] = '1';
    check_overwrite(path, text, size);
    free(text);
}

/* What was learned is kept and used by the next process; what makes no sense is not. */
static void what_was_learned_is_kept_and_what_makes_no_sense_is_learned_anew(void **state) {
    (void)state;
    static const char park[] = "\"parked\": ", wait[] = "\"wait\": ";
    char *base = check_make_folder(), *cache = ds_os_join(base, "a"), warning[1024], *text;
    struct ds_cost_table table;
    struct ds_error err;
    size_t size;
    run_once(cache, &table, warning);
    char *path = check_only_file(cache);
    calm(path);
    check_ok(ds_os_read_file(path, 1 << 16, &text, &size, &err), &err);
    char *const parked = strstr(text, park), *const waits = strstr(text, wait);
    assert_true(parked && waits);
    /* A pair that was found not to pay starts parked. */
    memcpy(parked + sizeof park - 1, "true ", 5);
    if (parked[sizeof park + 4] != ',') parked[sizeof park + 4] = ',', parked[sizeof park + 3] = ' ';
    check_overwrite(path, text, size);
    ds_engine *engine = open_pair(cache);
    const ds_session_params params = params_of(0, DS_SPEC_AUTO);
    ds_session *session = session_with_prompt(engine, &params);
    generate(session, 8);
    ds_stats stats = {.size = sizeof stats};
    ds_session_get_stats(session, &stats);
    assert_int_equal(stats.drafted, 0);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
    waits[sizeof wait - 1] = '-';
    check_overwrite(path, text, size);
    run_once(cache, &table, warning);
    check_contains(warning, "learned anew");
    free(text);
    calm(path);
    check_ok(ds_os_read_file(path, 1 << 16, &text, &size, &err), &err);
    char *const company = strstr(text, "\"company\""); /* what was learned in it is worth nothing without */
    assert_non_null(company);
    company[1] = 'C';
    check_overwrite(path, text, size);
    run_once(cache, &table, warning);
    check_contains(warning, "learned anew");
    run_once(cache, &table, warning);
    assert_string_equal(warning, "");
    free(text);
    free(path);
    check_remove_folder(cache);
    check_remove_folder(base);
}

static void costs_are_kept_and_what_is_damaged_or_foreign_is_measured_anew(void **state) {
    (void)state;
    char *base = check_make_folder(), *cache = ds_os_join(base, "a"), warning[1024], *text;
    struct ds_cost_table first, again;
    struct ds_error err;
    size_t size;
    run_once(cache, &first, warning); /* the folder is made */
    assert_string_equal(warning, "");
    char *path = check_only_file(cache);
    calm(path);
    run_once(cache, &again, warning);
    assert_string_equal(warning, "");
    assert_memory_equal(first.pass, again.pass, sizeof first.pass); /* read, not measured: to the last bit */
    assert_true(first.draft.base == again.draft.base && first.feed == again.feed);

    check_ok(ds_os_read_file(path, 1 << 16, &text, &size, &err), &err);
    for (size_t cut = 0; cut < size - 1; cut += size / 3) {
        check_overwrite(path, text, cut);
        run_once(cache, &again, warning);
        check_contains(warning, "measured anew");
    }
    static const char *const wrong[] = {"[]", "{}", "{\"key\": 7}", "{\"key\": \"another machine\", \"passes\": []}"};
    for (size_t i = 0; i < DS_COUNT(wrong); i++) {
        check_overwrite(path, wrong[i], strlen(wrong[i]));
        run_once(cache, &again, warning);
        check_contains(warning, "not of this pair and machine");
    }
    char *number = strstr(text, "\"seconds\": ");
    assert_non_null(number);
    number[11] = '-'; /* a negative time */
    check_overwrite(path, text, size);
    run_once(cache, &again, warning);
    check_contains(warning, "measured anew");
    run_once(cache, &again, warning); /* what was written in its place is good */
    assert_string_equal(warning, "");
    free(text);
    free(path);
    check_remove_folder(cache);
    check_remove_folder(base);
}

static void a_cache_that_cannot_be_written_is_a_warning(void **state) {
    (void)state;
    char warning[1024];
    struct ds_cost_table table;
    run_once("/dev/null/dspark", &table, warning);
    check_contains(warning, "not kept");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_speculation_is_believed_to_cost_the_tokens_are_the_same),
        cmocka_unit_test(no_draft_is_made_that_the_answer_has_no_room_for),
        cmocka_unit_test(a_draft_after_parking_is_the_draft_of_a_context_that_followed_at_once),
        cmocka_unit_test(fewer_slots_give_the_first_drafts_of_the_block),
        cmocka_unit_test(rewinding_a_parked_session_keeps_its_context_usable),
        cmocka_unit_test(costs_are_kept_and_what_is_damaged_or_foreign_is_measured_anew),
        cmocka_unit_test(what_was_learned_is_kept_and_what_makes_no_sense_is_learned_anew),
        cmocka_unit_test(a_cache_that_cannot_be_written_is_a_warning),
    };
    return cmocka_run_group_tests_name("auto", tests, start, finish);
}
