/* The prefix cache: what it finds, what it keeps, that a page is never lost; and that a session cannot tell it from a cold start. */
#include "streams.h"

#include "engine/engine_internal.h"

/* --- the tree, held against a list of everything that was inserted --- */

enum { SEQUENCES = 4, PER_SEQUENCE = 5, MOST = PER_SEQUENCE * DS_PAGE, KEPT = 9 };

static void expect_sound(const struct ds_prefix *p, const struct ds_pager *pager) {
    uint32_t held[SEQUENCES * PER_SEQUENCE + KEPT] = {0}, taken = 0;
    for (uint32_t i = 1; i <= p->capacity; i++) {
        const struct ds_prefix_node *n = &p->nodes[i];
        if (!n->taken) continue;
        taken++;
        held[n->page]++;
        assert_true(n->count >= 1 && n->count <= DS_PAGE && (n->count == DS_PAGE || !n->child));
        bool listed = false;
        for (uint32_t c = p->nodes[n->parent].child; c; c = p->nodes[c].next) listed |= c == i;
        assert_true(listed);
    }
    assert_int_equal(taken, p->count);
    for (uint32_t s = 0; s < SEQUENCES; s++)
        for (uint32_t i = 0; i < pager->lengths[s]; i++) held[pager->table[s * PER_SEQUENCE + i]]++;
    uint32_t free_pages = 0;
    for (uint32_t i = 0; i < pager->pages; i++) {
        assert_int_equal(pager->references[i], held[i]);
        free_pages += !held[i];
    }
    assert_int_equal(free_pages, pager->n_free);
}

/* What page p's position i "contains": the tokens up to it. */
static uint32_t content[SEQUENCES * PER_SEQUENCE + KEPT][DS_PAGE];

static uint32_t hash_of(const int32_t *tokens, uint32_t n) {
    uint32_t h = 1;
    for (uint32_t i = 0; i < n; i++) h = (h * 31 + (uint32_t)tokens[i] + 7) * 2654435761u;
    return h;
}

static void a_match_is_always_of_pages_with_these_very_tokens(void **state) {
    (void)state;
    struct ds_pager pager;
    struct ds_prefix prefix;
    struct ds_error err;
    check_ok(ds_pager_create(SEQUENCES, PER_SEQUENCE, SEQUENCES * PER_SEQUENCE + KEPT, &pager, &err), &err);
    check_ok(ds_prefix_create(&pager, KEPT, &prefix, &err), &err);
    for (int s = 0; s < SEQUENCES; s++) (void)ds_pager_take_sequence(&pager);
    uint32_t random = 3, hits = 0;
    for (int round = 0; round < 3000; round++) {
        random = random * 1664525u + 1013904223u;
        const int32_t s = (int32_t)(random >> 9) % SEQUENCES;
        const uint32_t n = 1 + (random >> 12) % MOST, fork = (random >> 5) % MOST, kind = (random >> 28) % 3;
        int32_t tokens[MOST];
        for (uint32_t i = 0; i < MOST; i++) tokens[i] = i < fork ? (int32_t)(i % 3) : (int32_t)kind; /* few beginnings, many ends */
        const uint32_t matched = ds_prefix_match(&prefix, tokens, n, round % 2);
        assert_true(matched <= n);
        for (uint32_t i = 0; i < matched; i++) assert_int_equal(content[prefix.path[i / DS_PAGE]][i % DS_PAGE], hash_of(tokens, i + 1));
        hits += matched > 0;
        ds_pager_truncate(&pager, s, 0);
        const uint32_t whole = matched / DS_PAGE;
        ds_pager_adopt(&pager, s, prefix.path, whole);
        check_ok(ds_pager_reserve(&pager, s, n, &err), &err);
        for (uint32_t i = whole * DS_PAGE; i < n; i++) content[pager.table[s * PER_SEQUENCE + (int32_t)(i / DS_PAGE)]][i % DS_PAGE] = hash_of(tokens, i + 1);
        ds_prefix_insert(&prefix, s, tokens, n, random >> 31, round % 5 == 0);
        if (round % 5 == 0) ds_pager_truncate(&pager, s, 0); /* a partly filled page is kept only when it is not written any more */
        assert_true(prefix.count <= KEPT);
        if (round % 50 == 0) expect_sound(&prefix, &pager);
    }
    assert_true(hits > 1000);
    for (int32_t s = 0; s < SEQUENCES; s++) ds_pager_release_sequence(&pager, s);
    expect_sound(&prefix, &pager);
    ds_prefix_free(&prefix);
    assert_int_equal(pager.n_free, pager.pages);
    ds_pager_free(&pager);
}

static void the_page_of_no_use_for_longest_goes_first_and_when_sessions_need_it(void **state) {
    (void)state;
    struct ds_pager pager;
    struct ds_prefix prefix;
    struct ds_error err;
    int32_t a[DS_PAGE], b[DS_PAGE], c[DS_PAGE];
    for (int i = 0; i < DS_PAGE; i++) a[i] = 1, b[i] = 2, c[i] = 3;
    check_ok(ds_pager_create(2, 2, 3, &pager, &err), &err);
    check_ok(ds_prefix_create(&pager, 2, &prefix, &err), &err);
    assert_int_equal(ds_pager_take_sequence(&pager), 0);
    const int32_t *const all[] = {a, b, NULL, c};
    for (int i = 0; i < 4; i++) {
        if (!all[i]) { /* a is looked at again */
            assert_int_equal(ds_prefix_match(&prefix, a, DS_PAGE, false), DS_PAGE);
            continue;
        }
        check_ok(ds_pager_reserve(&pager, 0, DS_PAGE, &err), &err);
        ds_prefix_insert(&prefix, 0, all[i], DS_PAGE, false, true);
        ds_pager_truncate(&pager, 0, 0);
    }
    assert_int_equal(ds_prefix_match(&prefix, b, DS_PAGE, false), 0);
    assert_int_equal(ds_prefix_match(&prefix, a, DS_PAGE, false), DS_PAGE);
    assert_int_equal(ds_prefix_match(&prefix, c, DS_PAGE, true), 0); /* without the drafter's context it is no hit for those who draft */
    assert_int_equal(pager.n_free, 1);
    assert_true(ds_pager_promise(&pager, 0, 2 * DS_PAGE)); /* what is kept can be had */
    check_ok(ds_pager_reserve(&pager, 0, 2 * DS_PAGE, &err), &err);
    assert_int_equal(prefix.count, 1);
    assert_int_equal(ds_pager_take_sequence(&pager), 1);
    assert_false(ds_pager_promise(&pager, 1, 2 * DS_PAGE));
    assert_true(ds_pager_promise(&pager, 1, DS_PAGE));
    ds_prefix_free(&prefix);
    ds_pager_free(&pager);
}

/* --- sessions --- */

static ds_engine *open_pair(const char *drafter, uint64_t prefix) {
    char path[256];
    ds_engine_params params = ds_engine_defaults();
    params.target = PAIR_TARGET;
    if (drafter) snprintf(path, sizeof path, "%s/models/tiny/%s", DSPARK_SOURCE_ROOT, drafter);
    params.drafter = drafter ? path : NULL;
    params.device = "cpu";
    params.threads = 1;
    params.context = 320;
    params.max_sessions = 3;
    params.prefix_positions = prefix;
    return open_engine(&params);
}

struct outcome {
    struct stream stream;
    ds_stats stats;
};

static struct outcome run(ds_engine *engine, const ds_token *tokens, size_t count, float temperature, bool speculates, ds_session **keep) {
    ds_session_params params = ds_session_defaults();
    params.ignore_stop = true;
    params.sampling = (ds_sampling){.temperature = temperature, .seed = 11};
    params.spec = speculates ? DS_SPEC_FIXED : DS_SPEC_OFF;
    params.spec_length = 7;
    ds_session *session = new_session(engine, &params);
    append(session, tokens, count);
    generate(session, 18);
    struct outcome out = {.stream = stream_of(session), .stats = {.size = sizeof out.stats}};
    ds_session_get_stats(session, &out.stats);
    if (keep) *keep = session;
    else ds_session_destroy(session);
    return out;
}

static void expect_pages_come_back(ds_engine *engine) {
    const struct ds_pager *p = &engine->pager;
    assert_int_equal(p->n_free + engine->prefix.count, p->pages);
    for (uint32_t s = 0; s < p->sequences; s++) assert_int_equal(p->lengths[s], 0);
}

/* The same prompt cold and after others that share 1, 63, 64, 65, .. of its tokens. */
static void a_hit_gives_the_tokens_and_accepts_the_drafts_of_a_cold_start(void **state) {
    (void)state;
    static const char *const drafters[] = {NULL, "dspark", "dflash", "eagle3"};
    static const size_t shared[] = {2, 64, 65, 150};
    enum { PROMPT = 150 };
    for (size_t d = 0; d < DS_COUNT(drafters); d++) {
        ds_engine *cold = open_pair(drafters[d], 0), *warm = open_pair(drafters[d], 24 * DS_PAGE);
        size_t count;
        ds_token *text = prompt_tokens(cold, example_prompt, &count), prompt[PROMPT];
        for (size_t i = 0; i < PROMPT; i++) prompt[i] = text[i % count];
        for (size_t i = 0; i < DS_COUNT(shared); i++) {
            ds_token first[PROMPT];
            for (size_t t = 0; t < PROMPT; t++) first[t] = t < shared[i] ? (prompt[t] + 10 * (ds_token)i) % 4000 : 5 + (ds_token)(t % 7);
            ds_token second[PROMPT];
            for (size_t t = 0; t < PROMPT; t++) second[t] = (prompt[t] + 10 * (ds_token)i) % 4000;
            const float temperature = i % 2 ? 0.8f : 0;
            const struct outcome expected = run(cold, second, PROMPT, temperature, drafters[d], NULL);
            ds_session *alive = NULL; /* of some the page's owner is there still, and goes on writing */
            (void)run(warm, first, PROMPT, 0, drafters[d], i % 3 ? NULL : &alive);
            const struct outcome got = run(warm, second, PROMPT, temperature, drafters[d], NULL);
            same_stream(&got.stream, &expected.stream);
            assert_int_equal(got.stats.drafted, expected.stats.drafted);
            assert_int_equal(got.stats.accepted, expected.stats.accepted);
            assert_int_equal(got.stats.rounds, expected.stats.rounds);
            assert_int_equal(got.stats.cached_tokens + got.stats.prompt_tokens, PROMPT);
            const bool steps = drafters[d] && strcmp(drafters[d], "eagle3") == 0;
            const size_t whole = alive ? (shared[i] - steps) / DS_PAGE * DS_PAGE : shared[i] - steps;
            if (whole > 1) assert_true(got.stats.cached_tokens + 1 + steps >= (whole < PROMPT - 2 ? whole : PROMPT - 2));
            if (alive) generate(alive, 20);
            const struct outcome again = run(warm, second, PROMPT, temperature, drafters[d], NULL); /* its own pages */
            same_stream(&again.stream, &expected.stream);
            assert_int_equal(again.stats.accepted, expected.stats.accepted);
            assert_int_equal(again.stats.cached_tokens, PROMPT - 2);
            ds_session_destroy(alive);
        }
        expect_pages_come_back(warm);
        ds_free(text);
        ds_engine_destroy(warm);
        ds_engine_destroy(cold);
    }
}

static void the_rest_of_a_shared_page_is_written_in_a_copy(void **state) {
    (void)state;
    ds_engine *engine = open_pair("dspark", 24 * DS_PAGE);
    ds_token prompt[100];
    for (size_t i = 0; i < DS_COUNT(prompt); i++) prompt[i] = (ds_token)(20 + i * 5 % 97);
    struct ds_error err;
    const struct outcome expected = run(engine, prompt, 100, 0, true, NULL);
    ds_session *first, *second;
    (void)run(engine, prompt, 100, 0, true, &first);
    (void)run(engine, prompt, 100, 0, true, &second);
    check_ok(ds_session_rewind(first, 70, &err), &err); /* into a page that the cache and perhaps the other one hold */
    append(first, prompt, 60);
    generate(first, 30);
    generate(second, 10);
    ds_session_destroy(first);
    ds_session_destroy(second);
    const struct outcome got = run(engine, prompt, 100, 0, true, NULL);
    same_stream(&got.stream, &expected.stream);
    assert_int_equal(got.stats.accepted, expected.stats.accepted);
    expect_pages_come_back(engine);
    ds_engine_destroy(engine);
}

/* Pages go and come all the time, and what is left of a prefix is as good as a cold start: with every kind of drafter. */
static void a_small_cache_gives_way_loses_nothing_and_changes_nothing(void **state) {
    (void)state;
    static const char *const drafters[] = {NULL, "dspark", "dflash", "eagle3"};
    enum { ROUNDS = 4 };
    for (size_t d = 0; d < DS_COUNT(drafters); d++) {
        ds_engine *engine = open_pair(drafters[d], 2 * DS_PAGE), *cold = open_pair(drafters[d], 0);
        uint64_t hits = 0;
        for (int i = 0; i < ROUNDS; i++) {
            ds_token prompt[140];
            for (size_t t = 0; t < DS_COUNT(prompt); t++) prompt[t] = (ds_token)(t < 70 ? 9 : 20 + i % 3 + t % 11);
            ds_session *held;
            const struct outcome first = run(engine, prompt, 140, 0, drafters[d], &held), first_cold = run(cold, prompt, 140, 0, drafters[d], NULL);
            const struct outcome second = run(engine, prompt, 100, 0.8f, drafters[d] && i % 2, NULL),
                                 second_cold = run(cold, prompt, 100, 0.8f, drafters[d] && i % 2, NULL);
            ds_session_destroy(held);
            const struct outcome *const got[] = {&first, &second}, *const expected[] = {&first_cold, &second_cold};
            for (int k = 0; k < 2; k++) {
                same_stream(&got[k]->stream, &expected[k]->stream);
                assert_int_equal(got[k]->stats.rounds, expected[k]->stats.rounds);
                assert_int_equal(got[k]->stats.drafted, expected[k]->stats.drafted);
                assert_int_equal(got[k]->stats.accepted, expected[k]->stats.accepted);
                hits += got[k]->stats.cached_tokens > 0;
            }
            assert_true(engine->prefix.count <= 2);
            expect_pages_come_back(engine);
        }
        assert_true(hits >= ROUNDS / 2);
        ds_engine_destroy(cold);
        ds_engine_destroy(engine);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_match_is_always_of_pages_with_these_very_tokens),
        cmocka_unit_test(the_page_of_no_use_for_longest_goes_first_and_when_sessions_need_it),
        cmocka_unit_test(a_hit_gives_the_tokens_and_accepts_the_drafts_of_a_cold_start),
        cmocka_unit_test(the_rest_of_a_shared_page_is_written_in_a_copy),
        cmocka_unit_test(a_small_cache_gives_way_loses_nothing_and_changes_nothing),
    };
    return cmocka_run_group_tests_name("prefix", tests, NULL, NULL);
}
