#include "golden_drafter.h"

#include "golden_forward.h"

/* One prompt's run while it is compared. */
struct run {
    struct golden_report *report;
    const struct golden *golden;
    ds_engine *engine;
    ds_session *session;
    const json_t *prompt;
    size_t p;              /* its number */
    size_t context_first, context_rows; /* what became context since the last proposal */
    size_t stored;         /* rounds with arrays */
};

/* Array `name` of round r against the first rows of a view. `key`: of the tolerance, and of the report. */
static void check_view(struct run *run, size_t r, const char *name, const char *key, struct ds_view view, size_t rows) {
    float *got = golden_read(run->engine, view, rows);
    golden_check(run->report, key, got, golden_array(run->golden, rows * view.cols, "p%zu.r%zu.%s", run->p, r, name), rows * view.cols,
                 golden_tolerance(run->golden, key));
    free(got);
}

static void check_ids(const struct run *run, size_t r, const char *what, const ds_token *got, const ds_token *expected, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (got[i] != expected[i])
            fail_msg("%s, prompt %zu, round %zu: %s %zu is %d; expected %d", run->report->label, run->p, r, what, i, (int)got[i], (int)expected[i]);
}

/* Taps and context feature of the rows that the target's last pass made context: those of round r. */
static void check_context(struct run *run, size_t r) {
    const json_t *round = json_array_get(golden_member(run->prompt, "rounds"), r);
    assert_int_equal(golden_int(round, "context_first"), run->context_first);
    check_view(run, r, "context", "draft.context", run->engine->target.taps, run->context_rows);
    check_view(run, r, "context_feature", "draft.context_feature", run->engine->drafter.feature_out, run->context_rows);
    if (!run->engine->draft_model->arch->steps) return;
    size_t n_tokens;
    ds_token *tokens = golden_ints(round, "context_tokens", &n_tokens);
    assert_int_equal(n_tokens, run->context_rows);
    check_ids(run, r, "token paired with row", run->engine->drafter.context.in_ids, tokens, n_tokens);
    free(tokens);
}

/* What the block of round r computed, and the rows that verified it. */
static void check_arrays(struct run *run, size_t r, const struct ds_round_result *result) {
    const struct ds_draft_outputs *out = &run->engine->drafter.block_outputs;
    const bool steps = run->engine->draft_model->arch->steps;
    const size_t g = steps ? result->n_draft : run->engine->draft_model->block_size;
    check_view(run, r, "hidden", "draft.hidden", out->hidden, g);
    if (!steps) check_view(run, r, "base_logits", "draft.base_logits", out->base_logits, g);
    check_view(run, r, "logits", "draft.logits", out->logits, g);
    if (run->engine->draft_model->has_confidence) check_view(run, r, "confidence", "draft.confidence", out->confidence, g);
    check_view(run, r, "target_logits", "target.logits", run->engine->target.logits, result->verified + 1);
}

static bool is_stop(const struct golden *golden, ds_token token) {
    size_t i;
    const json_t *id;
    json_array_foreach(json_object_get(golden->json, "stop_ids"), i, id)
        if (json_integer_value(id) == token) return true;
    return false;
}

static bool stops_inside(const struct golden *golden, const struct ds_round_result *result) {
    for (uint32_t j = 0; j < result->accepted; j++)
        if (is_stop(golden, result->draft[j])) return true;
    return false;
}

/* Accepted drafts as the reference counts them: a stop token ends them. */
static ds_token accepted(const struct golden *golden, const struct ds_round_result *result) {
    uint32_t count = 0;
    while (count < result->accepted && !is_stop(golden, result->draft[count])) count++;
    return (ds_token)(count < result->accepted ? count + 1 : count);
}

/* Tokens and counts of a recorded round. */
static void check_round(const struct run *run, size_t r, const struct ds_round_result *result) {
    const json_t *round = json_array_get(golden_member(run->prompt, "rounds"), r);
    size_t n_draft, n_argmax;
    ds_token *draft = golden_ints(round, "draft", &n_draft), *argmax = golden_ints(round, "target_argmax", &n_argmax);
    const bool stopped = json_is_true(golden_member(round, "stopped"));
    assert_int_equal(result->n_draft, n_draft);
    assert_int_equal(result->verified + 1, n_argmax);
    assert_int_equal(result->position, golden_int(round, "start"));
    assert_int_equal(result->anchor, golden_int(round, "anchor"));
    check_ids(run, r, "draft", result->draft, draft, n_draft);
    check_ids(run, r, "the target's token", run->engine->target.rows.out_tokens, argmax, n_argmax);
    assert_int_equal(accepted(run->golden, result), golden_int(round, "accepted"));
    assert_int_equal(stops_inside(run->golden, result), stopped);
    if (!stopped) assert_int_equal(result->next, golden_int(round, "next"));
    if (json_object_get(round, "confidence_logits")) {
        size_t n_confidence;
        float *expected = golden_reals(round, "confidence_logits", &n_confidence);
        assert_int_equal(n_confidence, n_draft);
        golden_check(run->report, "draft.confidence", run->engine->drafter.confidence, expected, n_confidence,
                     golden_tolerance(run->golden, "draft.confidence"));
        free(expected);
    }
    free(argmax);
    free(draft);
}

/* --- the drafter's cache --- */

/* Keys or values of one layer at the given positions: [kv_heads][count][head_dim], out of the pages. */
static float *gather(const struct run *run, const struct ds_kv *kv, bool keys, const ds_token *positions, size_t count) {
    const struct ds_placement *home = &run->engine->placements[0];
    const uint64_t elements = kv->pages * ds_cache_page_bytes(kv) / sizeof(float);
    const struct ds_pager *pager = &run->engine->pager;
    const int32_t *pages = pager->table + (size_t)run->session->sequence.slot * pager->pages_per_sequence;
    float *all = malloc(elements * sizeof *all), *out = malloc(kv->kv_heads * count * kv->head_dim * sizeof *out);
    struct ds_error err;
    assert_non_null(all);
    assert_non_null(out);
    check_ok(home->device->fns->read(home->stream, keys ? kv->k : kv->v, all, elements * sizeof *all, &err), &err);
    size_t n = 0;
    const bool paired = run->engine->draft_model->config.interleaved; /* the reference's keys have halves */
    const uint32_t half = kv->head_dim / 2;
    for (uint32_t h = 0; h < kv->kv_heads; h++) {
        for (size_t i = 0; i < count; i++) {
            const uint32_t page = (uint32_t)pages[positions[i] / DS_PAGE], slot = (uint32_t)positions[i] % DS_PAGE;
            for (uint32_t dim = 0; dim < kv->head_dim; dim++)
                out[n++] = all[(keys ? ds_kv_key_index : ds_kv_value_index)(page, h, slot, paired && keys ? 2 * (dim % half) + dim / half : dim,
                                                                            kv->kv_heads, kv->head_dim)];
        }
    }
    free(all);
    return out;
}

/* Context positions in the cache once the last stored round has run; what that round appended lies behind them. */
static void check_cache(struct run *run, size_t start) {
    const struct ds_cache_memory *cache = &run->engine->drafter.cache;
    size_t count = start;
    ds_token *positions;
    if (json_object_get(run->golden->json, "cache_positions")) {
        if (run->p != 0) return;
        positions = golden_ints(run->golden->json, "cache_positions", &count);
    } else {
        positions = malloc(count * sizeof *positions);
        assert_non_null(positions);
        for (size_t i = 0; i < count; i++) positions[i] = (ds_token)i;
    }
    for (uint32_t l = 0; l < cache->n; l++) {
        const struct ds_kv *kv = &cache->layers[l];
        const size_t elements = kv->kv_heads * count * kv->head_dim;
        for (int keys = 0; keys < 2; keys++) {
            float *got = gather(run, kv, keys, positions, count);
            golden_check(run->report, "draft.cache", got, golden_array(run->golden, elements, "p%zu.cache.%u.%c", run->p, l, keys ? 'k' : 'v'),
                         elements, golden_tolerance(run->golden, "draft.cache"));
            free(got);
        }
    }
    free(positions);
}

/* --- whole runs --- */

static size_t stored_rounds(const struct golden *golden, size_t p) {
    char name[64];
    for (size_t r = 0;; r++) {
        snprintf(name, sizeof name, "p%zu.r%zu.context", p, r);
        if (!ds_ckpt_find(golden->arrays, name)) return r;
    }
}

static void start_run(struct run *run) {
    struct ds_sequence *s = &run->session->sequence;
    struct ds_error err;
    size_t count;
    ds_token *ids = golden_ints(run->prompt, "prompt_ids", &count), next;
    check_ok(ds_session_append(run->session, ids, count, &err), &err);
    free(ids);
    assert_true(count <= run->engine->spec.chunk); /* taps of the whole prompt are those of one pass */
    const struct ds_extend how = {.feed_drafter = true, .sample = true};
    check_ok(ds_spec_extend(&run->engine->spec, s, &how, &next, &err), &err);
    s->tokens[s->length++] = next;
    run->context_rows = count;
    run->stored = stored_rounds(run->golden, run->p);
    assert_true(run->stored >= 2);
}

/* Round r, which must accept as the reference's did; its tokens become part of the sequence. */
static void run_round(struct run *run, size_t r, ds_token acceptance_length) {
    struct ds_sequence *s = &run->session->sequence;
    struct ds_round_result result;
    struct ds_error err;
    if (r < run->stored) check_context(run, r);
    const struct ds_round_plan plan = {.draft = true, .verify_most = run->engine->draft_model->block_size, .taps = DS_TAPS_FEED};
    check_ok(ds_spec_round(&run->engine->spec, s, &plan, &result, &err), &err);
    if (r < run->stored) check_arrays(run, r, &result);
    if (r + 1 == run->stored) check_cache(run, result.position);
    if (r < json_array_size(golden_member(run->prompt, "rounds"))) check_round(run, r, &result);
    if (accepted(run->golden, &result) + !stops_inside(run->golden, &result) != acceptance_length)
        fail_msg("%s, prompt %zu, round %zu: %u drafts accepted; expected an acceptance length of %d", run->report->label, run->p, r,
                 result.accepted, (int)acceptance_length);
    for (uint32_t j = 0; j < result.accepted; j++) s->tokens[s->length++] = result.draft[j];
    s->tokens[s->length++] = result.next;
    run->context_first = result.position;
    run->context_rows = result.accepted + 1;
}

static void check_run(struct golden_report *report, const struct golden *golden, ds_engine *engine, size_t p) {
    struct run run = {.report = report, .golden = golden, .engine = engine, .session = golden_session(engine, DS_SPEC_FIXED), .p = p,
                      .prompt = json_array_get(golden_member(golden->json, "prompts"), p)};
    size_t n_rounds, n_output;
    ds_token *lengths = golden_ints(run.prompt, "acceptance_lengths", &n_rounds), *output = golden_ints(run.prompt, "output_ids", &n_output);
    start_run(&run);
    const size_t n_prompt = run.context_rows;
    for (size_t r = 0; r < n_rounds; r++) run_round(&run, r, lengths[r]);
    assert_true(ds_session_length(run.session) >= n_prompt + n_output);
    check_ids(&run, n_rounds, "output token", ds_session_tokens(run.session) + n_prompt, output, n_output);
    ds_session_destroy(run.session);
    free(output);
    free(lengths);
}

void golden_drafter_check_on(const char *name, const char *kind, const char *device, const char *target, const char *drafter) {
    struct golden golden;
    struct golden_report report = {0};
    golden_open(&golden, name, "trace");
    snprintf(report.label, sizeof report.label, "%s%s on %s", name, kind, device);
    ds_engine *engine = golden_pair(target, drafter, device);
    const size_t count = golden_share(device, json_array_size(golden_member(golden.json, "prompts")), 2);
    for (size_t p = 0; p < count; p++) check_run(&report, &golden, engine, p);
    ds_engine_destroy(engine);
    golden_print(&report);
    golden_close(&golden);
}

void golden_drafter_check(const char *name, const char *target, const char *drafter) {
    const char *devices[GOLDEN_MOST_DEVICES];
    const size_t n_devices = golden_devices(devices);
    char *target_path = golden_path("%s", target), *draft_path = golden_path("%s", drafter);
    for (size_t d = 0; d < n_devices; d++) golden_drafter_check_on(name, "", devices[d], target_path, draft_path);
    free(draft_path);
    free(target_path);
}

/* --- single rounds --- */

ds_session *golden_drafter_first_round(const struct golden *golden, ds_engine *engine, struct ds_round_result *result) {
    struct run run = {.golden = golden, .engine = engine, .session = golden_session(engine, DS_SPEC_FIXED),
                      .prompt = json_array_get(golden_member(golden->json, "prompts"), 0)};
    start_run(&run);
    struct ds_error err;
    const struct ds_round_plan plan = {.draft = true, .verify_most = engine->draft_model->block_size, .taps = DS_TAPS_FEED};
    check_ok(ds_spec_round(&engine->spec, &run.session->sequence, &plan, result, &err), &err);
    return run.session;
}

double golden_drafter_divergence(const char *name, const char *target, const char *drafter) {
    struct golden golden;
    golden_open(&golden, name, "trace");
    ds_engine *engine = golden_pair(target, drafter, "cpu");
    struct ds_round_result result;
    ds_session *session = golden_drafter_first_round(&golden, engine, &result);
    const uint32_t drafts = engine->draft_model->block_size, vocabulary = engine->model->config.vocabulary;
    float *got = golden_read(engine, engine->drafter.block_outputs.logits, 1);
    const double kl = golden_divergence(golden_array(&golden, (size_t)drafts * vocabulary, "p0.r0.logits"), got, 1, vocabulary);
    free(got);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
    golden_close(&golden);
    return kl;
}
