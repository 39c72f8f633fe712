/* A drafter's shortlist: it says what is drafted, never what is said; and one that does not fit is refused with a reason. */
#include "linked_drafter.h"

#include "engine/engine_internal.h"

enum { VOCABULARY = 4096, ROUNDS = 64 };
static const char *const drafters[] = {"dspark", "dflash", "eagle3"};

struct drafts {
    size_t rounds;
    uint32_t n[ROUNDS];
    ds_token token[ROUNDS][7];
};
static void keep_drafts(void *user, const ds_round *round) {
    struct drafts *d = user;
    if (d->rounds == ROUNDS) return;
    d->n[d->rounds] = (uint32_t)round->n_draft;
    memcpy(d->token[d->rounds++], round->draft, round->n_draft * sizeof *round->draft);
}

static struct stream answer(struct drafts *drafts, float temperature) {
    ds_engine *engine = open_pair();
    ds_session_params params = ds_session_defaults();
    params.spec = DS_SPEC_FIXED;
    params.spec_length = 7;
    params.ignore_stop = true;
    params.sampling = (ds_sampling){.temperature = temperature, .seed = 3};
    size_t count;
    ds_token *prompt = prompt_tokens(engine, example_prompt, &count);
    ds_session *session = new_session(engine, &params);
    append(session, prompt, count);
    memset(drafts, 0, sizeof *drafts);
    ds_session_set_trace(session, keep_drafts, drafts);
    generate(session, 100);
    const struct stream stream = stream_of(session);
    ds_session_destroy(session);
    ds_free(prompt);
    ds_engine_destroy(engine);
    return stream;
}

/* Tokens first, first - step, .., 0 or above. */
static void save(int32_t first, int32_t step) {
    static ds_token tokens[VOCABULARY];
    struct ds_error err;
    size_t n = 0;
    char *path;
    for (int32_t t = first; t >= 0; t -= step) tokens[n++] = t;
    ds_engine *engine = open_pair();
    check_ok(ds_dev_shortlist_save(engine, tokens, n, &path, &err), &err);
    check_contains(path, "/shortlist.json");
    ds_free(path);
    ds_engine_destroy(engine);
    engine = open_pair();
    assert_string_equal(warning, "");
    assert_int_equal(ds_dev_draft_vocabulary(engine), n);
    ds_engine_destroy(engine);
}

static void a_list_of_all_tokens_in_any_order_drafts_what_no_list_does(void **state) {
    (void)state;
    static struct drafts without, with;
    for (size_t d = 0; d < DS_COUNT(drafters); d++) {
        make_drafter(drafters[d]);
        const struct stream plain = answer(&without, 0);
        save(VOCABULARY - 1, 1);
        const struct stream listed = answer(&with, 0);
        same_stream(&listed, &plain);
        assert_memory_equal(&with, &without, sizeof with);
        check_remove_folder(folder);
    }
}

static void a_short_list_drafts_its_tokens_alone_and_changes_no_output(void **state) {
    (void)state;
    static struct drafts without, with;
    for (size_t d = 0; d < DS_COUNT(drafters); d++) {
        for (int t = 0; t < 2; t++) {
            make_drafter(drafters[d]);
            const struct stream plain = answer(&without, t ? 0.8f : 0);
            save(VOCABULARY - 2, 2); /* the even ones */
            const struct stream listed = answer(&with, t ? 0.8f : 0);
            same_stream(&listed, &plain);
            size_t odd = 0;
            for (size_t i = 0; i < with.rounds; i++)
                for (uint32_t k = 0; k < with.n[i]; k++) assert_int_equal(with.token[i][k] % 2, 0);
            for (size_t i = 0; i < without.rounds; i++)
                for (uint32_t k = 0; k < without.n[i]; k++) odd += (size_t)without.token[i][k] % 2;
            assert_true(odd > 0 && with.rounds > 0);
            check_remove_folder(folder);
        }
    }
}

static void expect_refused(const char *text, const char *part) {
    char *path = check_write_file(folder, "shortlist.json", text, strlen(text));
    ds_engine *engine = open_pair();
    check_contains(warning, part);
    check_contains(warning, "not used");
    assert_int_equal(ds_dev_draft_vocabulary(engine), VOCABULARY);
    ds_engine_destroy(engine);
    assert_int_equal(remove(path), 0);
    free(path);
}

static void what_is_no_shortlist_of_this_drafter_is_refused_with_a_reason(void **state) {
    (void)state;
    make_drafter("dspark");
    ds_engine *engine = open_pair();
    const unsigned long long print = ds_fingerprint(engine->draft_ckpt);
    ds_engine_destroy(engine);
    expect_refused("{", "not valid JSON");
    expect_refused("[1]", "expected a shortlist with format");
    expect_refused("{\"format\": \"dspark-shortlist-1\", \"drafter\": \"0123456789abcdef\", \"tokens\": [1]}", "another drafter");
    static const struct {
        const char *tokens, *part;
    } wrong[] = {{"[]", "a list of 0"}, {"7", "a list of 0"}, {"[1, 4096]", "number 2 is no token"}, {"[-1]", "number 1 is no token"},
                 {"[1, 2, 1]", "1 is there twice"}, {"[\"1\"]", "number 1 is no token"}, {"[1.5]", "number 1 is no token"}};
    for (size_t i = 0; i < DS_COUNT(wrong); i++) {
        char text[256];
        snprintf(text, sizeof text, "{\"format\": \"dspark-shortlist-1\", \"drafter\": \"%016llx\", \"tokens\": %s}", print, wrong[i].tokens);
        expect_refused(text, wrong[i].part);
    }
    check_remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_of_all_tokens_in_any_order_drafts_what_no_list_does),
        cmocka_unit_test(a_short_list_drafts_its_tokens_alone_and_changes_no_output),
        cmocka_unit_test(what_is_no_shortlist_of_this_drafter_is_refused_with_a_reason),
    };
    return cmocka_run_group_tests_name("shortlist", tests, NULL, NULL);
}
