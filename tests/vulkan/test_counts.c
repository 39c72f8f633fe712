/*
 * What a round costs between host and device, counted: submissions, memory, pipelines, descriptors, bytes. A round is one submission where
 * lengths do not depend on confidences, else two and one small read in between; nothing is made anew; what moves are ids, positions, counts,
 * flags and how rows are drawn, whose sizes do not depend on the model's.
 */
#include "vulkan.h"

struct spent {
    struct ds_vk_counts counts;
    uint64_t rounds;
    double draft_seconds, verify_seconds;
};

static struct ds_vk_counts less(struct ds_vk_counts a, const struct ds_vk_counts *b) {
    return (struct ds_vk_counts){
        .submissions = a.submissions - b->submissions, .waits = a.waits - b->waits, .dispatches = a.dispatches - b->dispatches,
        .barriers = a.barriers - b->barriers, .allocations = a.allocations - b->allocations, .buffers = a.buffers - b->buffers, .pipelines = a.pipelines - b->pipelines,
        .descriptor_updates = a.descriptor_updates - b->descriptor_updates, .writes = a.writes - b->writes, .reads = a.reads - b->reads,
        .bytes_to_device = a.bytes_to_device - b->bytes_to_device, .bytes_to_host = a.bytes_to_host - b->bytes_to_host,
    };
}

/* Rounds of an answer within one page of the cache, behind a first answer that warms up. */
static struct spent spend(ds_engine *engine, ds_session *session) {
    struct ds_error err;
    struct ds_device *device = engine->placements[0].device;
    check_ok(ds_session_generate(session, 8, NULL, NULL, NULL, &err), &err);
    ds_session_reset_stats(session);
    const struct ds_vk_counts before = vulkan.counts(device);
    check_ok(ds_session_generate(session, 40, NULL, NULL, NULL, &err), &err);
    ds_stats stats = {.size = sizeof stats};
    ds_session_get_stats(session, &stats);
    const struct spent spent = {less(vulkan.counts(device), &before), stats.rounds, stats.draft_seconds, stats.verify_seconds};
    print_message("# %d rounds: %d submissions, %d writes of %d bytes, %d reads of %d bytes\n", (int)spent.rounds, (int)spent.counts.submissions,
                  (int)spent.counts.writes, (int)spent.counts.bytes_to_device, (int)spent.counts.reads, (int)spent.counts.bytes_to_host);
    assert_true(spent.rounds >= 8);
    assert_int_equal(spent.counts.allocations, 0);
    assert_int_equal(spent.counts.buffers, 0);
    assert_int_equal(spent.counts.pipelines, 0);
    assert_int_equal(spent.counts.descriptor_updates, 0);
    return spent;
}

/* Features taken away: descriptors instead of addresses, memory that is not the host's. */
static const char *const masks[] = {"", "no-address,no-unified"};

static void check_fused(float temperature, size_t n) {
    for (size_t i = 0; i < n; i++) {
        setenv("DSPARK_VULKAN", masks[i], 1);
        ds_engine *engine = open_engine(&(struct vulkan_engine){.device = "vulkan:0"});
        ds_session *session = open_session(engine, temperature, TINY_BLOCK);
        const struct spent s = spend(engine, session);
        const struct ds_rows_buffer *pass = &engine->target.rows, *block = &engine->drafter.block;
        assert_int_equal(s.counts.submissions, s.rounds);
        assert_int_equal(s.counts.reads, s.rounds);
        assert_int_equal(s.counts.writes, 2 * s.rounds);
        assert_int_equal(s.counts.bytes_to_host, s.rounds * pass->flags_bytes);
        assert_int_equal(s.counts.bytes_to_device, s.rounds * (pass->host_bytes + block->host_bytes));
        ds_session_destroy(session);
        ds_engine_destroy(engine);
    }
    unsetenv("DSPARK_VULKAN");
}

static void a_greedy_round_is_one_submission_and_one_read(void **state) {
    (void)state;
    check_fused(0, DS_COUNT(masks));
}

/* By the device's clock, which is software here: that it tells both apart can be tested, not how well. Without one all is the target's. */
static void a_fused_round_knows_how_long_it_drafted(void **state) {
    (void)state;
    for (int clock = 0; clock < 2; clock++) {
        setenv("DSPARK_VULKAN", clock ? "" : "no-clock", 1);
        ds_engine *engine = open_engine(&(struct vulkan_engine){.device = "vulkan:0"});
        assert_true((engine->placements[0].device->fns->mark != NULL) == clock);
        ds_session *session = open_session(engine, 0, TINY_BLOCK);
        const struct spent s = spend(engine, session);
        assert_int_equal(s.counts.submissions, s.rounds);
        assert_true(s.verify_seconds > 0);
        assert_true((s.draft_seconds > 0) == clock);
        ds_session_destroy(session);
        ds_engine_destroy(engine);
    }
    unsetenv("DSPARK_VULKAN");
}

static void a_coupled_round_is_one_submission_and_one_read(void **state) {
    (void)state;
    check_fused(0.8f, 1);
}

static void a_token_without_a_drafter_is_one_submission_and_one_read(void **state) {
    (void)state;
    ds_engine *engine = open_engine(&(struct vulkan_engine){.alone = true});
    ds_session *session = open_session(engine, 0, 0);
    const struct spent s = spend(engine, session);
    assert_int_equal(s.counts.submissions, s.rounds);
    assert_int_equal(s.counts.reads, s.rounds);
    assert_int_equal(s.counts.writes, s.rounds);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
}

/* The scheduler decides by measured times whether it drafts at all, so what is certain is a bound. */
static void a_round_of_chosen_length_is_two_submissions_and_one_small_read_more(void **state) {
    (void)state;
    ds_engine *engine = open_engine(&(struct vulkan_engine){.device = "vulkan:0"});
    ds_session *session = open_session(engine, 0, TINY_BLOCK);
    ds_session_params params = ds_session_defaults();
    params.ignore_stop = true;
    params.spec = DS_SPEC_AUTO;
    struct ds_error err;
    check_ok(ds_session_configure(session, &params, &err), &err);
    const struct spent s = spend(engine, session);
    assert_true(s.counts.submissions <= 2 * s.rounds);
    assert_true(s.counts.reads <= 2 * s.rounds);
    assert_true(s.counts.bytes_to_host <= s.rounds * (engine->target.rows.flags_bytes + engine->drafter.block.flags_bytes));
    ds_session_destroy(session);
    ds_engine_destroy(engine);
}

/* A round of the split form for certain. */
static void a_split_round_is_two_submissions_and_two_reads(void **state) {
    (void)state;
    struct ds_error err;
    ds_engine *engine = open_engine(&(struct vulkan_engine){.device = "vulkan:0"});
    ds_session *session = open_session(engine, 0, TINY_BLOCK);
    check_ok(ds_session_generate(session, 8, NULL, NULL, NULL, &err), &err);
    ds_sequence_forget(&session->sequence, session->sequence.length - 1);
    const struct ds_round_plan plan = {.draft = true, .verify_most = TINY_BLOCK, .taps = DS_TAPS_FEED};
    struct ds_round_result result;
    for (uint32_t i = 0; i < 2; i++) {
        const struct ds_vk_counts before = vulkan.counts(engine->placements[0].device);
        check_ok(ds_spec_round(&engine->spec, &session->sequence, &plan, &result, &err), &err);
        const struct ds_vk_counts spent = less(vulkan.counts(engine->placements[0].device), &before);
        assert_int_equal(spent.submissions, 2);
        assert_int_equal(spent.reads, 2);
        assert_int_equal(spent.bytes_to_host, engine->target.rows.flags_bytes + engine->drafter.block.flags_bytes);
        for (uint32_t k = 0; k < result.accepted; k++) session->sequence.tokens[session->sequence.length++] = result.draft[k];
        session->sequence.tokens[session->sequence.length++] = result.next;
    }
    ds_session_destroy(session);
    ds_engine_destroy(engine);
}

static void a_fused_round_gives_what_a_split_one_gives(void **state) {
    (void)state;
    static const float temperatures[] = {0, 0.8f};
    for (size_t i = 0; i < DS_COUNT(temperatures); i++) {
        ds_token expected[TINY_LENGTH], found[TINY_LENGTH];
        tokens_of(&(struct vulkan_engine){.device = "cpu"}, temperatures[i], 3, expected);
        tokens_of(&(struct vulkan_engine){.device = "vulkan:0"}, temperatures[i], 3, found);
        check_same_tokens(found, expected, "one sequence");
    }
}

static void done(void *user, ds_session *session, ds_stop stop, ds_status status, const struct ds_error *err) {
    (void)user, (void)session, (void)stop;
    check_ok(status, err);
}

static void run_batch(const char *device, uint32_t n, ds_token out[][TINY_LENGTH]) {
    struct ds_error err;
    ds_engine *engine = open_engine(&(struct vulkan_engine){.device = device, .sessions = n});
    ds_session *sessions[4];
    ds_batch *batch;
    ds_batch_params params = {.size = sizeof params};
    check_ok(ds_batch_create(engine, &params, &batch, &err), &err);
    for (uint32_t i = 0; i < n; i++) {
        sessions[i] = open_session(engine, i ? 0.7f : 0, 1 + i);
        check_ok(ds_session_append(sessions[i], &(ds_token){(ds_token)(i + 9)}, 1, &err), &err);
        const ds_batch_request request = {.size = sizeof request, .max_tokens = TINY_LENGTH, .done = done};
        check_ok(ds_batch_add(batch, sessions[i], &request, &err), &err);
    }
    for (size_t left = 1; left;) check_ok(ds_batch_step(batch, &left, &err), &err);
    for (uint32_t i = 0; i < n; i++) memcpy(out[i], ds_session_tokens(sessions[i]) + DS_COUNT(tiny_prompt) + 1, TINY_LENGTH * sizeof(ds_token));
    ds_batch_destroy(batch);
    for (uint32_t i = 0; i < n; i++) ds_session_destroy(sessions[i]);
    ds_engine_destroy(engine);
}

/* Their drafts lie side by side, and each goes to its row on the device. */
static void fused_rounds_of_several_sequences_give_what_split_ones_give(void **state) {
    (void)state;
    ds_token expected[3][TINY_LENGTH], found[3][TINY_LENGTH];
    run_batch("cpu", 3, expected);
    run_batch("vulkan:0", 3, found);
    for (uint32_t i = 0; i < 3; i++) check_same_tokens(found[i], expected[i], "several sequences");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_greedy_round_is_one_submission_and_one_read),
        cmocka_unit_test(a_fused_round_knows_how_long_it_drafted),
        cmocka_unit_test(a_coupled_round_is_one_submission_and_one_read),
        cmocka_unit_test(a_token_without_a_drafter_is_one_submission_and_one_read),
        cmocka_unit_test(a_round_of_chosen_length_is_two_submissions_and_one_small_read_more),
        cmocka_unit_test(a_split_round_is_two_submissions_and_two_reads),
        cmocka_unit_test(a_fused_round_gives_what_a_split_one_gives),
        cmocka_unit_test(fused_rounds_of_several_sequences_give_what_split_ones_give),
    };
    return cmocka_run_group_tests(tests, vulkan_begin, remove_models);
}
