/*
 * Rejection sampling against DeepSpec at temperature 0.8: two recorded rounds of the trained pair. The reference's random numbers cannot be
 * repeated, its probabilities can. So the op `reject` gets the recorded logits and a thousand random numbers a row, and each decision must be the
 * one that the recorded acceptance probability, residual or distribution gives for that number. The engine must arrive at the recorded logits.
 */
#include "golden.h"

#include "base/philox.h"
#include "engine/engine_internal.h"

#include <math.h>

enum { DRAFTS = 7, ROUNDS = 2 };
static const uint64_t seed = 20260705;
static const float inverse_temperature = 1 / 0.8f;
/* Nearer than this to a border of the reference's float32 probabilities, a number tells nothing. */
static const double margin = 2e-5;

struct recorded {
    struct golden golden, pair;
    size_t vocabulary;
};

static void open_recorded(struct recorded *r) {
    golden_open(&r->golden, "sampling", "vectors");
    golden_open(&r->pair, "pair-dspark", "trace"); /* the tolerances */
    const struct ds_ckpt_tensor *t = ds_ckpt_find(r->golden.arrays, "r0.residual");
    assert_non_null(t);
    assert_int_equal(t->dims, 2);
    r->vocabulary = t->shape[1];
}

static void close_recorded(struct recorded *r) {
    golden_close(&r->pair);
    golden_close(&r->golden);
}

static const float *array(const struct recorded *r, int round, const char *name, size_t rows) {
    return golden_array(&r->golden, rows * r->vocabulary, "r%d.%s", round, name);
}

static const json_t *round_of(const struct recorded *r, int round) { return json_array_get(golden_member(r->golden.json, "rounds"), (size_t)round); }

/* --- the op --- */

struct bench {
    struct ds_device *device;
    struct ds_stream *stream;
    struct ds_buffer *logits, *drafted, *how, *tokens;
    size_t vocabulary;
};

static struct ds_buffer *buffer(const struct bench *b, size_t bytes) {
    struct ds_buffer *out;
    struct ds_error err;
    check_ok(b->device->fns->buffer_create(b->device, bytes, &out, &err), &err);
    return out;
}

static void open_bench(struct bench *b, const char *device, size_t vocabulary) {
    struct ds_error err;
    check_ok(ds_device_create(device, &(struct ds_device_params){.modules = golden_modules()}, &b->device, &err), &err);
    check_ok(b->device->fns->stream_create(b->device, &b->stream, &err), &err);
    b->vocabulary = vocabulary;
    b->logits = buffer(b, (DRAFTS + 1) * vocabulary * sizeof(float));
    b->drafted = buffer(b, DRAFTS * vocabulary * sizeof(float));
    b->how = buffer(b, (DRAFTS + 1) * sizeof(struct ds_sample_row));
    b->tokens = buffer(b, (DRAFTS + 1) * sizeof(ds_token));
}

static void close_bench(struct bench *b) {
    struct ds_buffer *const all[] = {b->logits, b->drafted, b->how, b->tokens};
    for (size_t i = 0; i < DS_COUNT(all); i++) b->device->fns->buffer_destroy(all[i]);
    b->device->fns->stream_destroy(b->stream);
    ds_device_destroy(b->device);
}

static void put(const struct bench *b, struct ds_buffer *to, const void *from, size_t bytes) {
    struct ds_error err;
    check_ok(b->device->fns->write(b->stream, (struct ds_slice){to, 0}, from, bytes, &err), &err);
}

static void decide(const struct bench *b, uint32_t rows, const struct ds_sample_row *how, ds_token *tokens) {
    struct ds_error err;
    const uint32_t vocabulary = (uint32_t)b->vocabulary;
    put(b, b->how, how, rows * sizeof *how);
    const union ds_op_params params = {.reject = {.logits = ds_view_of((struct ds_slice){b->logits, 0}, DS_ELEM_F32, rows, vocabulary),
                                                  .drafted = ds_view_of((struct ds_slice){b->drafted, 0}, DS_ELEM_F32, DRAFTS, vocabulary),
                                                  .rows = {b->how, 0}, .tokens = {b->tokens, 0}}};
    check_ok(ds_op_check(DS_OP_reject, &params, &err), &err);
    check_ok(b->device->fns->op[DS_OP_reject](b->stream, &params, &err), &err);
    check_ok(b->device->fns->read(b->stream, (struct ds_slice){b->tokens, 0}, tokens, rows * sizeof *tokens, &err), &err);
}

/* A number of [0, 1) from words 0 and 1 of a block: where a draw by masses looks. */
static double uniform(uint32_t position, uint32_t purpose) {
    const uint32_t counter[4] = {0, position, purpose, 0};
    uint32_t words[4];
    ds_philox(seed, counter, words);
    return ((double)words[1] + (double)words[0] * 0x1p-32) * 0x1p-32;
}

/* `token` is where the sums of p pass `u`. */
static void check_draw(const char *what, const float *p, size_t n, ds_token token, double u) {
    double below = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        if ((ds_token)i < token) below += (double)p[i];
        all += (double)p[i];
    }
    assert_true(fabs(all - 1) < 1e-4);
    assert_in_range(token, 0, n - 1);
    if (u < below / all - margin || u > (below + (double)p[token]) / all + margin)
        fail_msg("%s: %g gives token %d, whose part is %g to %g", what, u, (int)token, below / all, (below + (double)p[token]) / all);
}

/* How many decisions were of either kind. */
struct tally {
    size_t accepted, rejected, unclear;
};

static void check_decision(const struct recorded *r, int round, size_t j, const struct ds_sample_row *how, ds_token token, struct tally *tally) {
    const double accept = (double)golden_array(&r->golden, DRAFTS, "r%d.accept_prob", round)[j];
    const uint32_t word = ds_philox_word(seed, 0, how->position, DS_PHILOX_ACCEPTANCE, 0);
    const double coin = (2 * (double)(word >> 9) + 1) * 0x1p-24;
    if (fabs(coin - accept) < margin) {
        tally->unclear++;
        return;
    }
    if ((token == how->draft) != (coin < accept))
        fail_msg("round %d, draft %zu: the coin %g is held against %g, and the token is %d, the draft %d", round, j, coin, accept, (int)token, how->draft);
    if (coin < accept) {
        tally->accepted++;
        return;
    }
    tally->rejected++;
    check_draw("the residual", array(r, round, "residual", DRAFTS) + j * r->vocabulary, r->vocabulary, token, uniform(how->position, DS_PHILOX_RESIDUAL));
}

static void check_rounds(const struct recorded *r, const struct bench *b, uint32_t tries, struct tally *tally) {
    for (int round = 0; round < ROUNDS; round++) {
        size_t n;
        ds_token *draft = golden_ints(round_of(r, round), "draft", &n), tokens[DRAFTS + 1];
        assert_int_equal(n, DRAFTS);
        put(b, b->logits, array(r, round, "target_logits", DRAFTS + 1), (DRAFTS + 1) * r->vocabulary * sizeof(float));
        put(b, b->drafted, array(r, round, "draft_logits", DRAFTS), DRAFTS * r->vocabulary * sizeof(float));
        for (uint32_t i = 0; i < tries; i++) {
            struct ds_sample_row how[DRAFTS + 1];
            for (uint32_t j = 0; j <= DRAFTS; j++)
                how[j] = (struct ds_sample_row){.inverse_temperature = inverse_temperature, .seed_low = (uint32_t)seed, .position = i * (DRAFTS + 1) + j,
                                                .bias_row = -1, .method = j < DRAFTS ? DS_DRAW_REJECTION : DS_DRAW_MASS, .purpose = DS_PHILOX_RESIDUAL,
                                                .draft = j < DRAFTS ? draft[j] : -1, .draft_row = j < DRAFTS ? j : 0};
            decide(b, DRAFTS + 1, how, tokens);
            for (uint32_t j = 0; j < DRAFTS; j++) check_decision(r, round, j, &how[j], tokens[j], tally);
            check_draw("the target's own token", array(r, round, "p_target", DRAFTS + 1) + DRAFTS * r->vocabulary, r->vocabulary, tokens[DRAFTS],
                       uniform(how[DRAFTS].position, DS_PHILOX_RESIDUAL));
        }
        free(draft);
    }
}

/* The drafter's draws: its logits take the place of the target's. */
static void check_drafts(const struct recorded *r, const struct bench *b, uint32_t tries) {
    for (int round = 0; round < ROUNDS; round++) {
        put(b, b->logits, array(r, round, "draft_logits", DRAFTS), DRAFTS * r->vocabulary * sizeof(float));
        for (uint32_t i = 0; i < tries; i++) {
            struct ds_sample_row how[DRAFTS];
            ds_token tokens[DRAFTS];
            for (uint32_t j = 0; j < DRAFTS; j++)
                how[j] = (struct ds_sample_row){.inverse_temperature = inverse_temperature, .seed_low = (uint32_t)seed, .position = i * DRAFTS + j,
                                                .bias_row = -1, .method = DS_DRAW_MASS, .purpose = DS_PHILOX_DRAFT};
            decide(b, DRAFTS, how, tokens);
            for (uint32_t j = 0; j < DRAFTS; j++)
                check_draw("a draft", array(r, round, "p_draft", DRAFTS) + j * r->vocabulary, r->vocabulary, tokens[j],
                           uniform(how[j].position, DS_PHILOX_DRAFT));
        }
    }
}

static void drafts_are_drawn_accepted_and_replaced_by_the_references_probabilities(void **state) {
    (void)state;
    const char *devices[GOLDEN_MOST_DEVICES];
    const size_t n_devices = golden_devices(devices);
    struct recorded r;
    open_recorded(&r);
    for (size_t d = 0; d < n_devices; d++) {
        struct bench b;
        struct tally tally = {0};
        open_bench(&b, devices[d], r.vocabulary);
        if (b.device->fns->op[DS_OP_reject]) {
            const uint32_t tries = (uint32_t)golden_share(devices[d], 500, 100);
            check_rounds(&r, &b, tries, &tally);
            check_drafts(&r, &b, tries / 2);
            print_message("# %s: %zu drafts accepted, %zu rejected, %zu too near to tell\n", devices[d], tally.accepted, tally.rejected, tally.unclear);
            assert_true(tally.accepted > 5 * tries && tally.rejected > tries && tally.unclear < 10);
        } else print_message("# %s has no rejection sampling and is left out\n", devices[d]);
        close_bench(&b);
    }
    close_recorded(&r);
}

/* --- the logits --- */

/* The sequence in front of the round's anchor, malloc'ed: the prompt, then what the rounds before it committed. */
static ds_token *tokens_before(const struct recorded *r, int round, size_t *count) {
    size_t n, most;
    ds_token *prompt = golden_ints(r->golden.json, "prompt_ids", &n), *all;
    assert_int_equal(golden_int(round_of(r, 0), "start"), n);
    all = malloc((n + (size_t)round * (DRAFTS + 1)) * sizeof *all);
    assert_non_null(all);
    memcpy(all, prompt, n * sizeof *all);
    free(prompt);
    for (int i = 0; i < round; i++) {
        ds_token *draft = golden_ints(round_of(r, i), "draft", &most);
        const size_t accepted = (size_t)golden_int(round_of(r, i), "accepted");
        all[n++] = (ds_token)golden_int(round_of(r, i), "anchor");
        memcpy(all + n, draft, accepted * sizeof *all);
        n += accepted;
        free(draft);
    }
    assert_int_equal(golden_int(round_of(r, round), "start"), n);
    *count = n;
    return all;
}

/* The target's rows over the recorded anchor and drafts. */
static void check_target(const struct recorded *r, int round, ds_engine *engine, struct golden_report *report) {
    size_t n, drafts;
    ds_token *before = tokens_before(r, round, &n), *draft = golden_ints(round_of(r, round), "draft", &drafts);
    ds_token *all = realloc(before, (n + 1 + drafts) * sizeof *all);
    float *logits = malloc((n + 1 + drafts) * r->vocabulary * sizeof *logits);
    struct ds_error err;
    assert_true(all && logits);
    all[n] = (ds_token)golden_int(round_of(r, round), "anchor");
    memcpy(all + n + 1, draft, drafts * sizeof *all);
    ds_session *session = golden_session(engine, DS_SPEC_OFF);
    check_ok(ds_dev_forward(session, all, n + 1 + drafts, false, logits, NULL, &err), &err);
    ds_session_destroy(session);
    golden_check(report, "target.logits", logits + n * r->vocabulary, array(r, round, "target_logits", DRAFTS + 1), (DRAFTS + 1) * r->vocabulary,
                 golden_tolerance(&r->pair, "target.logits"));
    free(logits);
    free(draft);
    free(all);
}

/* The drafter's block behind the recorded anchor. Slots behind another draft than the recorded one have other logits. */
static void check_block(const struct recorded *r, int round, ds_engine *engine, struct golden_report *report) {
    size_t n, drafts;
    struct ds_error err;
    ds_token *before = tokens_before(r, round, &n), *draft = golden_ints(round_of(r, round), "draft", &drafts), next;
    ds_session *session = golden_session(engine, DS_SPEC_FIXED);
    struct ds_sequence *s = &session->sequence;
    check_ok(ds_session_append(session, before, n, &err), &err);
    check_ok(ds_spec_extend(&engine->spec, s, &(struct ds_extend){.feed_drafter = true, .sample = true}, &next, &err), &err);
    s->tokens[s->length++] = (ds_token)golden_int(round_of(r, round), "anchor");
    struct ds_round_result result;
    check_ok(ds_spec_round(&engine->spec, s, &(struct ds_round_plan){.draft = true, .verify_most = DRAFTS, .taps = DS_TAPS_FEED}, &result, &err), &err);
    const struct ds_draft_outputs *out = &engine->drafter.block_outputs;
    float *base = golden_read(engine, out->base_logits, DRAFTS), *logits = golden_read(engine, out->logits, DRAFTS);
    golden_check(report, "draft.base_logits", base, array(r, round, "base_logits", DRAFTS), DRAFTS * r->vocabulary,
                 golden_tolerance(&r->pair, "draft.base_logits"));
    size_t same = 1;
    while (same < DRAFTS && result.draft[same - 1] == draft[same - 1]) same++;
    golden_check(report, "draft.logits", logits, array(r, round, "draft_logits", DRAFTS), same * r->vocabulary, golden_tolerance(&r->pair, "draft.logits"));
    golden_check(report, "draft.confidence", engine->drafter.confidence, golden_array(&r->golden, DRAFTS, "r%d.confidence", round), same,
                 golden_tolerance(&r->pair, "draft.confidence"));
    free(logits);
    free(base);
    ds_session_destroy(session);
    free(draft);
    free(before);
}

static void the_engine_arrives_at_the_references_logits_behind_drawn_drafts(void **state) {
    (void)state;
    const char *devices[GOLDEN_MOST_DEVICES];
    const size_t n_devices = golden_devices(devices);
    char *target = golden_path("models/tiny/target"), *drafter = golden_path("models/tiny/dspark");
    struct recorded r;
    open_recorded(&r);
    for (size_t d = 0; d < n_devices; d++) {
        struct golden_report report = {0};
        snprintf(report.label, sizeof report.label, "sampling on %s", devices[d]);
        ds_engine *engine = golden_pair(target, drafter, devices[d]);
        for (int round = 0; round < (int)golden_share(devices[d], ROUNDS, 1); round++) {
            check_target(&r, round, engine, &report);
            check_block(&r, round, engine, &report);
        }
        ds_engine_destroy(engine);
        golden_print(&report);
    }
    close_recorded(&r);
    free(drafter);
    free(target);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drafts_are_drawn_accepted_and_replaced_by_the_references_probabilities),
        cmocka_unit_test(the_engine_arrives_at_the_references_logits_behind_drawn_drafts),
    };
    return cmocka_run_group_tests_name("sampling_golden", tests, NULL, NULL);
}
