/*
 * What a drafter that does not pay costs: counted, not timed. Rounds run on a real engine; the scheduler is told the times of a table of
 * costs, so that the same happens on every machine. One drafter is the trained pair's, with random numbers for weights.
 */
#include "linked_drafter.h"

#include "engine/engine_internal.h"

static ds_engine *engine;
static ds_token *prompt;
static size_t prompt_count;

/* Every weight a bf16 of random sign in [2^-6, 2^-4), all of them finite. */
static void scramble(const char *path) {
    char *data;
    size_t size;
    struct ds_error err;
    check_ok(ds_os_read_file(path, 1 << 26, &data, &size, &err), &err);
    uint64_t header = 0, state = 1;
    for (int i = 7; i >= 0; i--) header = header << 8 | (unsigned char)data[i];
    assert_true(header < size);
    for (size_t at = 8 + (size_t)header; at + 1 < size; at += 2) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const uint16_t bits = (uint16_t)(0x3c80 + (state >> 40) % 256 + (state >> 63 ? 0x8000 : 0));
        memcpy(data + at, &bits, 2);
    }
    assert_int_equal(remove(path), 0); /* it is a link */
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    fclose(file);
    free(data);
}

static ds_engine *open_with(const char *drafter) {
    ds_engine_params params = ds_engine_defaults();
    params.target = PAIR_TARGET;
    params.drafter = drafter;
    params.context = 2304;
    params.max_sessions = 2;
    params.prefix_positions = 4096;
    params.threads = 1;
    return open_engine(&params);
}

static int open_random(void **state) {
    (void)state;
    make_drafter("dspark");
    char *weights = ds_os_join(folder, "model.safetensors");
    scramble(weights);
    free(weights);
    engine = open_with(folder);
    prompt = prompt_tokens(engine, example_prompt, &prompt_count);
    return 0;
}

static int close_random(void **state) {
    (void)state;
    ds_free(prompt);
    ds_engine_destroy(engine);
    check_remove_folder(folder);
    return 0;
}

/* In plain passes: `row` more for each row of a pass, a draft, context for one position. */
static struct ds_cost_table table_of(double row, double draft, double feed) {
    struct ds_cost_samples s = {.n = 2, .near_context = 1, .block = 7, .draft_one = draft, .draft_whole = draft, .feed_rows = 64, .feed_one = feed,
                                .feed_many = 64 * feed};
    s.pass[0] = (struct ds_cost_sample){1, 1, 0};
    s.pass[1] = (struct ds_cost_sample){8, 1 + 7 * row, 0};
    struct ds_cost_table table;
    ds_cost_fit(&s, &table);
    return table;
}

static ds_session *session_of(ds_spec_mode spec) {
    ds_session_params params = ds_session_defaults();
    params.ignore_stop = true;
    params.spec = spec;
    params.spec_length = 7;
    ds_session *session = new_session(engine, &params);
    append(session, prompt, prompt_count);
    return session;
}

/* --- rounds with times from the table --- */

struct spent {
    double passes;                   /* all of it */
    uint32_t drafts, fed, most_wait; /* blocks drafted, positions taken in behind the prompt, most features that waited */
};

static void commit(struct ds_sequence *s, struct ds_pace *pace, ds_token token) {
    s->tokens[s->length++] = token;
    ds_pace_committed(pace, s->length - 1, token);
}

/* As src/engine/step.c and generate.c have it, for one sequence. */
static void run_round(struct ds_sequence *s, struct ds_pace *pace, const struct ds_costs *costs, struct spent *spent) {
    struct ds_error err;
    struct ds_round_result r;
    const struct ds_pace_plan p = ds_pace_next(pace, s->computed, s->stored, 7);
    const bool speculates = p.step == DS_PACE_SPECULATE;
    const struct ds_round_plan plan = {.draft = p.step != DS_PACE_PLAIN, .slots = p.slots, .verify_most = speculates ? 7 : 0,
                                       .taps = speculates ? DS_TAPS_FEED : p.keep ? DS_TAPS_STORE : DS_TAPS_IGNORE};
    const uint32_t context = s->drafted_context;
    struct ds_turn turn;
    ds_turn_begin_round(&turn, s, &plan);
    check_ok(ds_spec_draft(&engine->spec, &turn, 1, &err), &err);
    if (speculates && turn.result.n_draft)
        turn.result.verified = ds_pace_choose(pace, turn.result.position, turn.result.confidence, turn.result.n_draft, turn.result.verified);
    check_ok(ds_spec_run(&engine->spec, &turn, 1, &err), &err);
    check_ok(turn.status, &turn.error);
    r = turn.result;
    const double draft = ds_cost_draft(costs, r.n_draft, 0), pass = ds_cost_pass(costs, r.verified + 1, 0);
    spent->fed += s->drafted_context - context;
    spent->drafts += r.n_draft > 0;
    spent->most_wait = DS_MAX(spent->most_wait, s->stored);
    spent->passes += pass + (r.n_draft ? draft : 0) + ds_cost_feed(costs, s->drafted_context - context);
    if (speculates) {
        ds_pace_speculated(pace, &(struct ds_pace_round){.context = r.position, .confidence = r.confidence, .slots = r.n_draft, .verified = r.verified,
                                                         .accepted = r.accepted, .draft_seconds = draft, .pass_seconds = pass});
    } else {
        if (p.step == DS_PACE_PROBE) ds_pace_probed(pace, r.position, r.draft, r.confidence, r.n_draft, draft);
        ds_pace_plain(pace, r.position, pass);
    }
    for (uint32_t j = 0; j < r.accepted; j++) commit(s, pace, r.draft[j]);
    commit(s, pace, r.next);
}

static struct spent run(const struct ds_cost_table *table, uint32_t tokens, bool *forgone) {
    struct ds_costs costs = {.table = *table};
    struct ds_pace_learned learned;
    struct ds_pace pace;
    struct ds_error err;
    struct spent spent = {.passes = 0};
    ds_cost_tuning_start(&costs.tuning);
    ds_pace_learned_start(&learned, table, DS_CONFIDENCE_HEAD);
    ds_pace_start(&pace, &learned, 7, true);
    ds_session *session = session_of(DS_SPEC_AUTO);
    struct ds_sequence *s = &session->sequence;
    ds_token next;
    check_ok(ds_spec_extend(&engine->spec, s, &(struct ds_extend){.feed_drafter = ds_pace_follows(&pace, 0, true), .sample = true}, &next, &err), &err);
    s->tokens[s->length++] = next;
    while (s->length < prompt_count + 1 + tokens) run_round(s, &pace, &costs, &spent);
    *forgone = pace.forgone;
    spent.passes /= (double)(s->length - prompt_count - 1);
    ds_session_destroy(session);
    return spent;
}

static void random_weights_cost_at_most_two_per_cent(void **state) {
    (void)state;
    static const struct {
        double row, draft, feed;
        bool keeps; /* context is so cheap that it follows to the end */
    } cases[] = {
        {0.15, 0.6, 0.004, true}, /* Qwen3-4B's shape on a processor */
        {0.2, 0.5, 0.025, false}, /* a small target: context alone costs more than may be spent */
    };
    enum { TOKENS = 2000 };
    for (size_t i = 0; i < DS_COUNT(cases); i++) {
        const struct ds_cost_table table = table_of(cases[i].row, cases[i].draft, cases[i].feed);
        bool forgone;
        const struct spent spent = run(&table, TOKENS, &forgone);
        if (spent.passes > 1.02) fail_msg("case %zu: %.4f plain passes a token", i, spent.passes);
        assert_int_equal(forgone, !cases[i].keeps);
        /* Probes come every 64 tokens at most, as often as one per cent of the time pays for. Before, a few rounds. */
        assert_true(spent.drafts >= 1 && spent.drafts <= TOKENS / 64 + 12);
        assert_true(spent.most_wait <= DS_STORED_TAPS);
        /* Either everything becomes context in batches, or hardly more than one batch does. */
        if (cases[i].keeps) assert_true(spent.fed >= TOKENS - 2 * DS_STORED_TAPS);
        else assert_true(spent.fed <= 4 * DS_STORED_TAPS);
    }
}

static void where_nothing_can_pay_nothing_is_drafted_stored_or_taken_in(void **state) {
    (void)state;
    const struct ds_cost_table table = table_of(5, 50, 0.02);
    bool forgone;
    const struct spent spent = run(&table, 300, &forgone);
    assert_true(forgone && !spent.drafts && !spent.fed && !spent.most_wait);
    assert_true(spent.passes == 1);
}

/* --- sessions --- */

static void believe(double row, double draft, double feed) {
    const struct ds_cost_table table = table_of(row, draft, feed);
    ds_pace_learned_start(&engine->scheduling.learned, &table, DS_CONFIDENCE_HEAD);
    engine->scheduling.known = engine->scheduling.remeasured = true; /* real passes are faster than that, and would have it measured anew */
}

static void a_hopeless_drafter_gets_no_context_and_pages_serve_those_who_need_none(void **state) {
    (void)state;
    believe(5, 50, 0.02);
    ds_stats stats = {.size = sizeof stats};
    ds_session *first = session_of(DS_SPEC_AUTO);
    generate(first, 300);
    ds_session_get_stats(first, &stats);
    assert_true(first->pace.forgone && !stats.drafted && !first->sequence.drafted_context && !first->sequence.stored);
    const struct stream expected = stream_of(first);
    ds_session_destroy(first);
    static const struct {
        ds_spec_mode spec;
        bool hit;
    } then[] = {{DS_SPEC_OFF, true}, {DS_SPEC_AUTO, true}, {DS_SPEC_FIXED, false}};
    for (size_t i = 0; i < DS_COUNT(then); i++) {
        ds_session *session = session_of(then[i].spec);
        append(session, expected.tokens + prompt_count, 250 - prompt_count);
        generate(session, 50 + prompt_count);
        ds_session_get_stats(session, &stats);
        assert_true(then[i].hit ? stats.cached_tokens >= 192 : stats.cached_tokens == 0);
        const struct stream got = stream_of(session);
        same_stream(&got, &expected);
        ds_session_destroy(session);
    }
}

/* The next turn of a conversation runs only what is new, although the drafter knows nothing of the last one. */
static void what_was_forgone_is_not_run_again_for_the_next_turn(void **state) {
    (void)state;
    believe(5, 50, 0.02);
    ds_stats stats = {.size = sizeof stats};
    ds_session *session = session_of(DS_SPEC_AUTO);
    generate(session, 100);
    ds_session_get_stats(session, &stats);
    const uint64_t before = stats.prompt_tokens;
    append(session, prompt, prompt_count);
    generate(session, 20);
    ds_session_get_stats(session, &stats);
    assert_int_equal(stats.prompt_tokens - before, prompt_count + 1); /* and the last token, which had not run */
    ds_session_destroy(session);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        /* first: the prefix cache is empty */
        cmocka_unit_test(a_hopeless_drafter_gets_no_context_and_pages_serve_those_who_need_none),
        cmocka_unit_test(random_weights_cost_at_most_two_per_cent),
        cmocka_unit_test(where_nothing_can_pay_nothing_is_drafted_stored_or_taken_in),
        cmocka_unit_test(what_was_forgone_is_not_run_again_for_the_next_turn),
    };
    return cmocka_run_group_tests_name("parked", tests, open_random, close_random);
}
