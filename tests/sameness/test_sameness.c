/*
 * One request, one stream of tokens: whatever the device, the threads, the width of a pass, the drafter and how much of its
 * work is verified. The first stream of each model is computed on the best device by one thread without a drafter; all others
 * are held against it. `--hostile`: all but those first ones in a host with a floating-point state of its own (host.h), and
 * fewer of them, because that state does not depend on the number of threads or the length drafted. `--devices`: only what compares
 * devices, those of DSPARK_TEST_DEVICES, and little of it.
 */
#include "golden.h"
#include "host.h"

/* --- what is asked for --- */

static const struct model {
    const char *label, *path;
    ds_kv_type kv;
} models[] = {
    {"BF16", "models/tiny/target", DS_KV_F16},
    {"BF16 with an f32 cache", "models/tiny/target", DS_KV_F32},
    {"Q8_0", "tests/golden/gguf/target-Q8_0/model.gguf", DS_KV_F16},
    {"Q4_K_M", "tests/golden/gguf/target-Q4_K_M/model.gguf", DS_KV_F16},
};

enum { FULL = 2 }; /* the model that goes through everything: integers are the fastest */

/* A prompt of pair-target (LONG: two of them, cut so that the answer crosses a chunk of attention) and how its answer is drawn. */
enum { LONG = -1, LONG_LENGTH = 230, TOKENS = 64, CONTEXT = 512 };
static const struct request {
    const char *label;
    int prompt;
    ds_sampling sampling;
    ds_penalties penalties;
    size_t biases; /* so many of those below */
} requests[] = {
    {"everything", 3, {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.02f, .seed = 0x123456789abcdefull, .stream = 2},
     {.repetition = 1.1f, .presence = 0.2f, .frequency = 0.1f, .window = 50}, 3},
    {"greedy", 1, {.temperature = 0}},
    {"temperature", 0, {.temperature = 0.8f, .seed = 7}},
    {"top-k", 1, {.temperature = 0.8f, .top_k = 5, .seed = 8}},
    {"top-p", 3, {.temperature = 0.8f, .top_p = 0.8f, .seed = 9}},
    {"min-p", 0, {.temperature = 0.8f, .min_p = 0.1f, .seed = 10}},
    {"all filters", 3, {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.02f, .seed = 0x123456789abcdefull, .stream = 2}},
    {"greedy with penalties", 1, {.temperature = 0}, {.repetition = 1.3f, .presence = -0.1f, .frequency = 0.3f}},
    {"greedy behind a long prompt", LONG, {.temperature = 0}},
};
static const ds_logit_bias biases[] = {{13, -2.5f}, {262, -1000}, {300, 1.5f}};

/* Where and how. Without a drafter every length means plain decoding. */
struct setup {
    const char *device, *draft_device; /* draft_device NULL: no drafter */
    uint32_t threads, chunk;
};
enum { BLOCK = 7, OFF = 0, AUTO = BLOCK + 1 }; /* lengths: OFF, fixed 1..BLOCK, AUTO */

static struct {
    const char *devices[GOLDEN_MOST_DEVICES]; /* best first */
    size_t n_devices;
    struct golden vectors;
    ds_token *prompts[DS_COUNT(requests)];
    size_t lengths[DS_COUNT(requests)];
    ds_token first[DS_COUNT(models)][DS_COUNT(requests)][TOKENS];
    size_t compared;
    bool few; /* devices are emulated: one model of blocks and one of floats, one request each */
} all;

static ds_engine *open_engine(const struct model *model, const struct setup *setup) {
    char *target = golden_path("%s", model->path), *drafter = golden_path("models/tiny/dspark");
    ds_engine_params params = ds_engine_defaults();
    params.target = target;
    params.drafter = setup->draft_device ? drafter : NULL;
    params.device = setup->device;
    params.modules = golden_modules();
    params.draft_device = setup->draft_device;
    params.threads = setup->threads;
    params.max_rows = setup->chunk;
    params.context = CONTEXT;
    params.kv = model->kv;
    ds_engine *engine;
    struct ds_error err;
    HOST(ds_engine_open(&params, &engine, &err));
    HOST(ds_engine_prepare(engine, NULL, NULL, &err));
    free(drafter);
    free(target);
    return engine;
}

static ds_session_params session_params(size_t request, int length) {
    ds_session_params params = ds_session_defaults();
    params.sampling = requests[request].sampling;
    params.penalties = requests[request].penalties;
    params.logit_bias = biases;
    params.n_logit_bias = requests[request].biases;
    params.ignore_stop = true;
    params.spec = length == OFF ? DS_SPEC_OFF : length == AUTO ? DS_SPEC_AUTO : DS_SPEC_FIXED;
    params.spec_length = length == OFF || length == AUTO ? 0 : (uint32_t)length;
    return params;
}

static ds_session *open_session(ds_engine *engine) {
    const ds_session_params params = session_params(0, OFF);
    ds_session *session;
    struct ds_error err;
    HOST(ds_session_create(engine, &params, &session, &err));
    return session;
}

static void close_both(ds_engine *engine, ds_session *session) {
    host_enter();
    ds_session_destroy(session);
    ds_engine_destroy(engine);
    host_leave("ds_engine_destroy");
}

static void generate(ds_session *session, size_t request, int length, ds_token out[TOKENS]) {
    const ds_session_params params = session_params(request, length);
    struct ds_error err;
    HOST(ds_session_configure(session, &params, &err));
    HOST(ds_session_rewind(session, 0, &err));
    HOST(ds_session_append(session, all.prompts[request], all.lengths[request], &err));
    HOST(ds_session_generate(session, TOKENS, NULL, NULL, NULL, &err));
    assert_int_equal(ds_session_length(session), all.lengths[request] + TOKENS);
    memcpy(out, ds_session_tokens(session) + all.lengths[request], TOKENS * sizeof *out);
}

/* The requests [0, n_requests) at lengths from `length` to AUTO by `step`: all streams equal the first ones of the model. */
static void check_setup(size_t model, const struct setup *setup, size_t n_requests, int length, int step) {
    ds_engine *engine = open_engine(&models[model], setup);
    ds_session *session = open_session(engine);
    for (; length <= (setup->draft_device ? AUTO : OFF); length += step) {
        for (size_t r = 0; r < n_requests; r++) {
            ds_token got[TOKENS];
            generate(session, r, length, got);
            for (size_t i = 0; i < TOKENS; i++)
                if (got[i] != all.first[model][r][i])
                    fail_msg("%s, %s, on %s (%u threads, chunks of %u), drafter on %s, length %d of 0 (off), 1..%d, %d (auto): token %zu is "
                             "%d; expected %d",
                             models[model].label, requests[r].label, setup->device, setup->threads, setup->chunk,
                             setup->draft_device ? setup->draft_device : "nothing", length, BLOCK, AUTO, i, (int)got[i],
                             (int)all.first[model][r][i]);
            all.compared++;
        }
    }
    close_both(engine, session);
}

/* --- streams --- */

static const uint32_t thread_counts[] = {1, 3, 2}, chunks[] = {7, 256, 1, 64};

/* All nine lengths with one thread, five with more: what threads change does not depend on the length. */
static void threads_chunks_and_lengths_give_one_stream(void **state) {
    (void)state;
    const size_t n_threads = host_is_hostile ? 2 : DS_COUNT(thread_counts), n_chunks = host_is_hostile ? 2 : DS_COUNT(chunks);
    for (size_t t = 0; t < n_threads; t++) {
        for (size_t c = 0; c < n_chunks; c++) {
            const struct setup drafted = {all.devices[0], all.devices[0], thread_counts[t], chunks[c]};
            const struct setup alone = {all.devices[0], NULL, thread_counts[t], chunks[c]};
            check_setup(FULL, &drafted, 2, OFF, host_is_hostile ? 4 : t ? 2 : 1);
            check_setup(FULL, &alone, 2, OFF, 1);
        }
    }
}

static void every_way_of_sampling_gives_one_stream_for_each_model(void **state) {
    (void)state;
    for (size_t m = 0; m < DS_COUNT(models); m++) {
        for (size_t i = 0; i < (host_is_hostile ? 1 : 2); i++) {
            const struct setup setup = {all.devices[0], all.devices[0], thread_counts[i], chunks[i]};
            check_setup(m, &setup, DS_COUNT(requests), host_is_hostile ? AUTO : OFF, AUTO);
        }
    }
}

/* Devices compute rows at very different speeds: few requests and lengths for the others. */
static void every_device_gives_the_same_stream(void **state) {
    (void)state;
    for (size_t d = 1; d < all.n_devices; d++) {
        for (size_t m = 0; m < DS_COUNT(models); m++) {
            const struct setup drafted = {all.devices[d], all.devices[d], 1, m % 2 ? 7 : 64};
            if (all.few && m != FULL) continue;
            check_setup(m, &drafted, m == FULL && !all.few ? 2 : 1, m == FULL && !all.few ? OFF : AUTO, AUTO);
        }
    }
}

static void a_drafter_on_another_device_gives_the_same_stream(void **state) {
    (void)state;
    if (all.n_devices < 2) skip();
    for (size_t d = 1; d < all.n_devices; d++) {
        const struct setup there = {all.devices[0], all.devices[d], 2, 64}, back = {all.devices[d], all.devices[0], 2, 7};
        if (!all.few || d == 1) check_setup(FULL, &there, all.few ? 1 : 2, all.few ? AUTO : 4, 4);
        if (!all.few) check_setup(FULL, &back, 1, AUTO, 1);
    }
}

/* The target's layers on the best device and another one, home being either; the drafter at home, or with the second stage. */
static void a_target_cut_over_two_devices_gives_the_same_stream(void **state) {
    (void)state;
    char there[64], back[64];
    for (size_t d = 1; d < all.n_devices; d++) {
        snprintf(there, sizeof there, "%s=5,%s", all.devices[0], all.devices[d]);
        snprintf(back, sizeof back, "%s=2,%s", all.devices[d], all.devices[0]);
        check_setup(FULL, &(struct setup){there, all.devices[0], 2, 64}, 2, AUTO, AUTO);
        check_setup(FULL, &(struct setup){back, all.devices[0], 2, 7}, 1, AUTO, 1);
    }
}

/*
 * A test of equality proves nothing about requests whose answers are all alike. (The type of the cache changes bits, which
 * the test of logits sees, but none of these tokens.)
 */
static void requests_have_different_answers(void **state) {
    (void)state;
    for (size_t a = 0; a < DS_COUNT(requests); a++)
        for (size_t b = a + 1; b < DS_COUNT(requests); b++) assert_memory_not_equal(all.first[0][a], all.first[0][b], sizeof all.first[0][a]);
    for (size_t m = 2; m < DS_COUNT(models); m++) assert_memory_not_equal(all.first[0], all.first[m], sizeof all.first[0]);
}

/* --- logits --- */

enum { MOST_ROWS = 16, VOCABULARY = 4096 };

/* The session holds the first `length` tokens of the long prompt. */
static void start_sequence(ds_session *session, size_t length) {
    struct ds_error err;
    HOST(ds_session_append(session, all.prompts[DS_COUNT(requests) - 1], length, &err));
}

/* Rows of the pass that computed the cache, then of passes of 1..most_rows rows: bits equal the last of `expected`. */
static void check_logit_bits(const struct model *model, const struct setup *setup, size_t length, size_t most_rows, const float *expected) {
    ds_engine *engine = open_engine(model, setup);
    ds_session *session = open_session(engine);
    float *got = malloc(MOST_ROWS * VOCABULARY * sizeof *got);
    struct ds_error err;
    assert_non_null(got);
    start_sequence(session, length);
    for (size_t i = 0; i <= most_rows; i++) {
        const size_t rows = i ? i : most_rows;
        HOST(ds_session_logits(session, rows, got, &err));
        const size_t bytes = rows * VOCABULARY * sizeof *got;
        if (memcmp(got, expected + (MOST_ROWS - rows) * VOCABULARY, bytes) != 0)
            fail_msg("%s on %s (%u threads, chunks of %u): %zu rows up to position %zu differ from the same rows in one pass of %d", model->label,
                     setup->device, setup->threads, setup->chunk, rows, length - 1, MOST_ROWS);
    }
    free(got);
    close_both(engine, session);
}

/* `length` 264: the rows lie on both sides of a chunk of attention. */
static void check_lengths(const struct model *model, const char *device, size_t length, size_t most_rows) {
    float *expected = malloc(MOST_ROWS * VOCABULARY * sizeof *expected);
    assert_non_null(expected);
    ds_engine *engine = open_engine(model, &(struct setup){all.devices[0], NULL, 1, 256});
    ds_session *session = open_session(engine);
    struct ds_error err;
    start_sequence(session, length);
    HOST(ds_session_logits(session, MOST_ROWS, expected, &err));
    close_both(engine, session);
    for (size_t c = 0; c < (host_is_hostile || all.few ? 2 : DS_COUNT(chunks)); c++)
        check_logit_bits(model, &(struct setup){device, NULL, thread_counts[c % DS_COUNT(thread_counts)], chunks[c]}, length, most_rows, expected);
    free(expected);
}

static void a_row_has_the_same_logits_in_any_company(void **state) {
    (void)state;
    for (size_t m = 0; m < DS_COUNT(models); m++) {
        if (!all.few) check_lengths(&models[m], all.devices[0], 40, MOST_ROWS);
        if (!all.few) check_lengths(&models[m], all.devices[0], 264, 4);
        for (size_t d = 1; d < all.n_devices && (!all.few || m % 3 == 0); d++) check_lengths(&models[m], all.devices[d], MOST_ROWS, 2);
    }
}

/* --- the program --- */

static ds_token *prompt_tokens(int index, size_t *count) {
    return golden_ints(json_array_get(golden_member(all.vectors.json, "prompts"), (size_t)index), "prompt_ids", count);
}

static void read_prompts(void) {
    for (size_t r = 0; r < DS_COUNT(requests); r++) {
        if (requests[r].prompt != LONG) {
            all.prompts[r] = prompt_tokens(requests[r].prompt, &all.lengths[r]);
            continue;
        }
        size_t more;
        ds_token *first = prompt_tokens(4, &all.lengths[r]), *second = prompt_tokens(5, &more);
        first = realloc(first, (all.lengths[r] + more) * sizeof *first);
        assert_non_null(first);
        memcpy(first + all.lengths[r], second, more * sizeof *first);
        free(second);
        all.prompts[r] = first;
        all.lengths[r] = LONG_LENGTH; /* of the request; the test of logits reads further */
    }
}

static int compute_first_streams(void **state) {
    (void)state;
    const bool hostile = host_is_hostile;
    host_is_hostile = false;
    all.n_devices = golden_devices(all.devices);
    golden_open(&all.vectors, "pair-target", "vectors");
    read_prompts();
    for (size_t m = 0; m < DS_COUNT(models); m++) {
        ds_engine *engine = open_engine(&models[m], &(struct setup){all.devices[0], NULL, 1, 256});
        ds_session *session = open_session(engine);
        for (size_t r = 0; r < DS_COUNT(requests); r++) generate(session, r, OFF, all.first[m][r]);
        close_both(engine, session);
    }
    host_is_hostile = hostile;
    return 0;
}

static int finish(void **state) {
    (void)state;
    print_message("# %zu streams of %d tokens compared\n", all.compared, TOKENS);
    for (size_t r = 0; r < DS_COUNT(requests); r++) free(all.prompts[r]);
    golden_close(&all.vectors);
    return 0;
}

int main(int argc, char **argv) {
    host_is_hostile = argc == 2 && strcmp(argv[1], "--hostile") == 0;
    all.few = argc == 2 && strcmp(argv[1], "--devices") == 0;
    const struct CMUnitTest across[] = {
        cmocka_unit_test(every_device_gives_the_same_stream),
        cmocka_unit_test(a_drafter_on_another_device_gives_the_same_stream), /* cuts over emulated GPUs: tests/gpu/test_cut.c */
        cmocka_unit_test(a_row_has_the_same_logits_in_any_company),
    };
    if (all.few)
        return cmocka_run_group_tests_name("sameness, across devices", across, compute_first_streams, finish);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_have_different_answers),
        cmocka_unit_test(threads_chunks_and_lengths_give_one_stream),
        cmocka_unit_test(every_way_of_sampling_gives_one_stream_for_each_model),
        cmocka_unit_test(every_device_gives_the_same_stream),
        cmocka_unit_test(a_drafter_on_another_device_gives_the_same_stream),
        cmocka_unit_test(a_target_cut_over_two_devices_gives_the_same_stream),
        cmocka_unit_test(a_row_has_the_same_logits_in_any_company),
    };
    return cmocka_run_group_tests_name(host_is_hostile ? "sameness, hostile host" : "sameness", tests, compute_first_streams, finish);
}
