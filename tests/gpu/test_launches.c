/*
 * What a token and a round cost the host: launches, copies and waits, counted by the emulated device. Plain decoding is one launch a token; a round is two,
 * with one read and one wait where its length is fixed, and one small read and one wait more where it is chosen from confidences.
 */
#include "emulator.h"

#include "dspark.h"
#include "engine/engine_internal.h"

static void generate(ds_session *session, const ds_token *prompt, size_t n_prompt, uint32_t tokens, struct ds_emu_counts *spent) {
    struct ds_error err;
    check_ok(ds_session_rewind(session, 0, &err), &err);
    check_ok(ds_session_append(session, prompt, n_prompt, &err), &err);
    check_ok(ds_session_generate(session, 1, NULL, NULL, NULL, &err), &err);
    const struct ds_emu_counts before = emulator.counts();
    check_ok(ds_session_generate(session, tokens, NULL, NULL, NULL, &err), &err);
    const struct ds_emu_counts after = emulator.counts();
    *spent = (struct ds_emu_counts){.launches = after.launches - before.launches, .graphs = after.graphs - before.graphs,
                                    .kernels = after.kernels - before.kernels,
                                    .to_device = after.to_device - before.to_device, .to_host = after.to_host - before.to_host,
                                    .on_device = after.on_device - before.on_device, .waits = after.waits - before.waits,
                                    .allocations = after.allocations - before.allocations};
}

static const ds_token counted_prompt[] = {464, 2106, 286, 262};

/* A session of an engine on `device`; `length`: drafts of `drafter` that are verified. Without a drafter: plain decoding. */
static ds_session *open_on(const char *device, uint32_t context, const char *drafter, uint32_t length, ds_engine **engine) {
    ds_engine_params params = ds_engine_defaults();
    params.target = DSPARK_SOURCE_ROOT "/models/tiny/target";
    params.drafter = drafter;
    params.device = device;
    params.threads = 1;
    params.modules = EMULATOR_FOLDER;
    params.context = context;
    params.max_rows = 8;
    ds_session *session;
    struct ds_error err;
    ds_session_params session_params = ds_session_defaults();
    session_params.ignore_stop = true;
    session_params.spec = drafter ? DS_SPEC_FIXED : DS_SPEC_OFF;
    session_params.spec_length = length;
    check_ok(ds_engine_open(&params, engine, &err), &err);
    check_ok(ds_engine_prepare(*engine, NULL, NULL, &err), &err);
    check_ok(ds_session_create(*engine, &session_params, &session, &err), &err);
    return session;
}

/*
 * A layer: norm_quantize, q k v, heads, attention, quantize, o, norm_quantize, gate up, glu_quantize, down. Then embed, the rows that are
 * wanted, norm_quantize, head, sample. Op by op it would be 166 kernels.
 */
static void a_token_is_one_launch_of_few_kernels(void **state) {
    (void)state;
    enum { TOKENS = 16, LAYERS = 8 };
    ds_engine *engine;
    ds_session *session = open_on("emu:0", 128, NULL, 0, &engine);
    struct ds_emu_counts spent;
    generate(session, counted_prompt, DS_COUNT(counted_prompt), TOKENS, &spent); /* warm-up */
    generate(session, counted_prompt, DS_COUNT(counted_prompt), TOKENS, &spent);
    print_message("# %d tokens: %d graphs of %d kernels, %d single launches, %d copies to the device, %d from it, %d waits\n", TOKENS, (int)spent.graphs,
                  (int)(spent.kernels / DS_MAX(spent.graphs, 1)), (int)spent.launches, (int)spent.to_device, (int)spent.to_host, (int)spent.waits);
    assert_int_equal(spent.graphs, TOKENS);
    assert_true(spent.kernels <= TOKENS * (LAYERS * 10 + 5));
    assert_int_equal(spent.waits, TOKENS);
    assert_int_equal(spent.launches, 0);
    assert_int_equal(spent.allocations, 0);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
}

/*
 * The block with its sequential head, then the verification, which takes its rows into the drafter's context: a launch each. Its length is
 * fixed, so the drafts go to the target on the device, and all is read behind it. A drafter in steps moves the feature that it goes on from, before and behind.
 */
enum { ROUND_TOKENS = 14, ROUND_LENGTH = 3 };

/* How sure the drafter was of each draft, of a head or of its own greatest probability: read with the drafts. */
struct sureness {
    float logits[ROUND_TOKENS * ROUND_LENGTH];
    uint32_t n;
};

static void hear(void *user, const ds_round *round) {
    struct sureness *heard = user;
    assert_non_null(round->confidence_logits);
    assert_true(heard->n + round->n_draft <= DS_COUNT(heard->logits));
    memcpy(&heard->logits[heard->n], round->confidence_logits, round->n_draft * sizeof(float));
    heard->n += round->n_draft;
}

/* Rounds that take the drafter's context in with the verification draft as those on the processor do: same tokens, same rounds, as sure. */
static void check_like_the_processor(const ds_session *session, const ds_stats *found, const struct sureness *heard, const char *drafter) {
    ds_engine *engine;
    ds_session *other = open_on("cpu", 64, drafter, ROUND_LENGTH, &engine);
    struct sureness theirs = {.n = 0};
    struct ds_emu_counts unused;
    ds_session_set_trace(other, hear, &theirs);
    generate(other, counted_prompt, DS_COUNT(counted_prompt), ROUND_TOKENS, &unused);
    assert_int_equal(heard->n, theirs.n);
    assert_memory_equal(heard->logits, theirs.logits, theirs.n * sizeof(float));
    assert_int_equal(ds_session_length(session), ds_session_length(other));
    assert_memory_equal(ds_session_tokens(session), ds_session_tokens(other), ds_session_length(other) * sizeof(ds_token));
    ds_stats expected = {.size = sizeof expected};
    ds_session_get_stats(other, &expected);
    assert_int_equal(found->rounds, expected.rounds);
    assert_int_equal(found->drafted, expected.drafted);
    assert_int_equal(found->accepted, expected.accepted);
    ds_session_destroy(other);
    ds_engine_destroy(engine);
}

static void check_round(const char *drafter, uint32_t moved) {
    ds_engine *engine;
    ds_session *session = open_on("emu:0", 64, drafter, ROUND_LENGTH, &engine); /* one page: the page table changes once */
    struct ds_emu_counts spent;
    struct sureness heard = {.n = 0};
    ds_session_set_trace(session, hear, &heard);
    generate(session, counted_prompt, DS_COUNT(counted_prompt), ROUND_TOKENS, &spent); /* nothing is warmed up */
    ds_stats stats = {.size = sizeof stats};
    ds_session_get_stats(session, &stats);
    const uint64_t rounds = stats.rounds;
    print_message("# %d rounds: %d graphs, %d single launches, %d copies to the device, %d on it, %d from it, %d waits\n", (int)rounds, (int)spent.graphs,
                  (int)spent.launches, (int)spent.to_device, (int)spent.on_device, (int)spent.to_host, (int)spent.waits);
    assert_true(rounds >= 4);
    assert_int_equal(spent.graphs, 2 * rounds);
    assert_int_equal(spent.launches, 0);
    assert_true(spent.to_device <= 2 * rounds + 2); /* rows of each pass; page tables when they change */
    assert_int_equal(spent.on_device, (moved + 2) * rounds); /* the drafts, to the target; what the drafter found, to where it is read */
    assert_int_equal(spent.to_host, rounds);
    assert_int_equal(spent.waits, rounds);
    assert_int_equal(spent.allocations, 0);
    check_like_the_processor(session, &stats, &heard, drafter);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
}

static void a_round_is_two_launches_and_one_read(void **state) {
    (void)state;
    check_round(DSPARK_SOURCE_ROOT "/models/tiny/dspark", 0);
}

static void a_round_of_a_drafter_without_a_head_is_two_launches_and_one_read(void **state) {
    (void)state;
    check_round(DSPARK_SOURCE_ROOT "/models/tiny/dflash", 0);
}

static void a_round_of_a_drafter_in_steps_is_two_launches_and_one_read(void **state) {
    (void)state;
    check_round(DSPARK_SOURCE_ROOT "/models/tiny/eagle3", 2);
}

/* --- a round whose length is chosen --- */

/* Of single rounds: those that drafted, and those of one row that `auto` makes to know what they cost. */
struct watched {
    ds_session *session;
    struct ds_emu_counts last;
    int drafted, plain;
    bool waiting; /* features of plain rounds: the next block's drafter takes them in first, in a pass of its own */
};

static void watch(void *user, const ds_round *round) {
    struct watched *w = user;
    const struct ds_emu_counts now = emulator.counts(), before = w->last;
    const uint32_t passes = round->n_draft ? 2 : 1, first = round->n_draft && w->waiting ? 1 : 0;
    w->last = now;
    w->waiting = round->n_draft == 0;
    if (round->n_draft) w->drafted++;
    else w->plain++;
    assert_int_equal(now.graphs - before.graphs, passes + first);
    assert_int_equal(now.launches - before.launches, 0);
    assert_int_equal(now.to_host - before.to_host, passes); /* the block's tokens and confidences; what the target said */
    assert_int_equal(now.waits - before.waits, passes);
    assert_true(now.to_device - before.to_device <= passes + first + 2); /* rows of each pass; page tables when they change */
    assert_int_equal(now.allocations - before.allocations, 0);
    struct ds_cost_tuning *const tuning = &w->session->pace.learned.costs.tuning; /* what this machine took corrects nothing */
    tuning->all = tuning->draft = 1;
    for (size_t i = 0; i < DS_COUNT(tuning->pass); i++) tuning->pass[i] = 1;
}

/* Drafting is believed to cost nothing, so that there are rounds to count whatever this machine takes for them. */
static void believe_that_drafts_are_free(ds_engine *engine) {
    struct ds_cost_samples samples = {.n = 2, .near_context = 1, .block = engine->draft_model->block_size, .draft_one = 0.01, .draft_whole = 0.01};
    struct ds_cost_table table;
    samples.pass[0] = (struct ds_cost_sample){1, 1, 0};
    samples.pass[1] = (struct ds_cost_sample){8, 1, 0};
    ds_cost_fit(&samples, &table);
    ds_pace_learned_start(&engine->scheduling.learned, &table, DS_CONFIDENCE_HEAD);
    engine->scheduling.known = true;
}

static void check_chosen(const char *drafter) {
    ds_engine *engine;
    ds_session *session = open_on("emu:0", 64, drafter, ROUND_LENGTH, &engine);
    ds_session_params params = ds_session_defaults();
    params.ignore_stop = true;
    params.spec = DS_SPEC_AUTO;
    struct ds_error err;
    struct watched watched = {.session = session};
    believe_that_drafts_are_free(engine);
    check_ok(ds_session_configure(session, &params, &err), &err);
    check_ok(ds_session_append(session, counted_prompt, DS_COUNT(counted_prompt), &err), &err);
    check_ok(ds_session_generate(session, 1, NULL, NULL, NULL, &err), &err);
    ds_session_set_trace(session, watch, &watched);
    watched.last = emulator.counts();
    check_ok(ds_session_generate(session, ROUND_TOKENS, NULL, NULL, NULL, &err), &err);
    print_message("# %d rounds with a draft, %d without\n", watched.drafted, watched.plain);
    assert_true(watched.drafted > 1);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
}

static void a_round_whose_length_is_chosen_is_two_launches_and_two_reads(void **state) {
    (void)state;
    check_chosen(DSPARK_SOURCE_ROOT "/models/tiny/dspark");
}

static void so_it_is_with_drafters_without_a_head(void **state) {
    (void)state;
    check_chosen(DSPARK_SOURCE_ROOT "/models/tiny/dflash");
    check_chosen(DSPARK_SOURCE_ROOT "/models/tiny/eagle3");
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_is_one_launch_of_few_kernels),
        cmocka_unit_test(a_round_is_two_launches_and_one_read),
        cmocka_unit_test(a_round_of_a_drafter_without_a_head_is_two_launches_and_one_read),
        cmocka_unit_test(a_round_of_a_drafter_in_steps_is_two_launches_and_one_read),
        cmocka_unit_test(a_round_whose_length_is_chosen_is_two_launches_and_two_reads),
        cmocka_unit_test(so_it_is_with_drafters_without_a_head),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]); /* a name, with * and ? */
    return cmocka_run_group_tests(tests, load_emulator, NULL);
}
