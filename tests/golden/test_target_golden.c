/* Targets against Hugging Face transformers in float32: logits, hidden states, greedy tokens, on every device. */
#include "golden_forward.h"

static ds_engine *open_target(const char *path, const char *device) {
    ds_engine_params params = ds_engine_defaults();
    params.target = path;
    params.device = device;
    params.modules = golden_modules();
    params.kv = DS_KV_F32;
    params.weights = DS_WEIGHTS_F32;
    return golden_engine(&params);
}

/*
 * Greedy tokens equal the reference's. Where its margin is below the tolerance another token is no error, but what follows
 * it cannot be compared.
 */
static void check_greedy(const char *label, ds_engine *engine, const json_t *prompt, const char *margin_key, double tolerance) {
    size_t n_prompt, count, margins;
    ds_token *ids = golden_ints(prompt, "prompt_ids", &n_prompt), *expected = golden_ints(prompt, "greedy", &count);
    float *margin = golden_reals(prompt, margin_key, &margins);
    ds_token *got = malloc(count * sizeof *got);
    assert_non_null(got);
    assert_int_equal(count, margins);
    ds_session *session = golden_session(engine, DS_SPEC_OFF);
    golden_generate(session, ids, n_prompt, got, count);
    for (size_t i = 0; i < count; i++) {
        if (got[i] == expected[i]) continue;
        if ((double)margin[i] > tolerance)
            fail_msg("%s: greedy token %zu is %d; expected %d, whose margin is %g", label, i, (int)got[i], (int)expected[i], (double)margin[i]);
        print_message("# %s: greedy token %zu differs where the margin is %g; the %zu behind it are not compared\n", label, i,
                      (double)margin[i], count - i - 1);
        break;
    }
    ds_session_destroy(session);
    free(got);
    free(margin);
    free(expected);
    free(ids);
}

/* --- random targets: every row of every array --- */

static void check_random_prompt(struct golden_report *report, const struct golden *golden, ds_engine *engine, size_t p) {
    const json_t *prompt = json_array_get(golden_member(golden->json, "prompts"), p);
    size_t count;
    ds_token *ids = golden_ints(prompt, "prompt_ids", &count);
    assert_int_equal(json_array_size(golden_member(prompt, "rows")), count);
    struct golden_forward f;
    golden_run_forward(&f, engine, ids, count);
    golden_check(report, "logits", f.logits, golden_array(golden, count * f.vocabulary, "p%zu.logits", p), count * f.vocabulary,
                 golden_tolerance(golden, "logits"));
    static const char *const names[] = {"hidden.0", "hidden.1", "hidden.2", "hidden.3", "hidden.4", "hidden.5", "hidden.6"};
    assert_true(f.states <= DS_COUNT(names));
    for (size_t l = 0; l < f.states; l++)
        golden_check(report, names[l], f.hidden[l], golden_array(golden, count * f.width, "p%zu.%s", p, names[l]), count * f.width,
                     golden_tolerance(golden, names[l]));
    golden_free_forward(&f);
    free(ids);
    check_greedy(report->label, engine, prompt, "greedy_margin", golden_tolerance(golden, "logits"));
}

/* `path`: the folder of the vectors' model, or the same model in another container. */
static void check_model(const char *name, const char *kind, const char *path) {
    const char *devices[GOLDEN_MOST_DEVICES];
    const size_t n_devices = golden_devices(devices);
    struct golden golden;
    golden_open(&golden, name, "vectors");
    for (size_t d = 0; d < n_devices; d++) {
        struct golden_report report = {0};
        snprintf(report.label, sizeof report.label, "%s%s on %s", name, kind, devices[d]);
        ds_engine *engine = open_target(path, devices[d]);
        for (size_t p = 0; p < json_array_size(golden_member(golden.json, "prompts")); p++) check_random_prompt(&report, &golden, engine, p);
        ds_engine_destroy(engine);
        golden_print(&report);
    }
    golden_close(&golden);
}

static void check_same_file(const char *a, const char *b) {
    struct ds_error err;
    char *x, *y;
    size_t n, m;
    check_ok(ds_os_read_file(a, 1 << 28, &x, &n, &err), &err);
    check_ok(ds_os_read_file(b, 1 << 28, &y, &m, &err), &err);
    assert_true(n == m && memcmp(x, y, n) == 0);
    free(x);
    free(y);
}

static void check_random(const char *name) {
    char *path = golden_path("tests/golden/%s", name);
    check_model(name, "", path);
    free(path);
}

static void check_gguf(const char *name) {
    char *path = golden_path("tests/golden/gguf-random/%s.gguf", name);
    check_model(name, " as GGUF", path);
    free(path);
}

static void gguf_files_of_every_architecture_give_the_references_logits_hidden_states_and_tokens(void **state) {
    (void)state;
    check_gguf("target-qwen2");
    check_gguf("target-llama3-rope"); /* q and k reordered, frequencies scaled by a tensor */
    check_gguf("target-qwen3-moe");   /* experts stacked */
    check_gguf("target-gemma3-text");
    check_gguf("target-gemma4-text");
    check_gguf("target-gemma4-ple");
    check_gguf("target-gemma4-moe"); /* gate and up of an expert in one matrix */
}

/*
 * Converted by us, once from the folder and once from that file: names, keys and what changes its form are what the reader
 * means by them.
 */
static void converted_files_of_every_family_give_the_references_logits_hidden_states_and_tokens(void **state) {
    (void)state;
    char *folder = check_make_folder();
    for (size_t i = 0; i < DS_COUNT(golden_targets); i++) {
        char *source = golden_path("tests/golden/%s", golden_targets[i]), *once = golden_convert(folder, "once.gguf", source, "f32", NULL, NULL);
        char *twice = golden_convert(folder, "twice.gguf", once, "f32", NULL, NULL);
        check_model(golden_targets[i], " converted", once);
        check_same_file(once, twice);
        free(twice);
        free(once);
        free(source);
    }
    check_remove_folder(folder);
}

static void qwen3_gives_the_references_logits_hidden_states_and_tokens(void **state) {
    (void)state;
    check_random("target-qwen3");
}

static void yarn_gives_the_references_logits_hidden_states_and_tokens(void **state) {
    (void)state;
    check_random("target-qwen3-yarn");
}

static void qwen2_gives_the_references_logits_hidden_states_and_tokens(void **state) {
    (void)state;
    check_random("target-qwen2");
}

static void llama3_gives_the_references_logits_hidden_states_and_tokens(void **state) {
    (void)state;
    check_random("target-llama3-rope");
}

static void mistral_gives_the_references_logits_hidden_states_and_tokens(void **state) {
    (void)state;
    check_random("target-mistral-swa");
}

static void qwen3_moe_gives_the_references_logits_hidden_states_and_tokens(void **state) {
    (void)state;
    check_random("target-qwen3-moe");
}

static void gemma3_gives_the_references_logits_hidden_states_and_tokens(void **state) {
    (void)state;
    check_random("target-gemma3-text");
}

static void gemma4_gives_the_references_logits_hidden_states_and_tokens(void **state) {
    (void)state;
    check_random("target-gemma4-text");
}

static void gemma4_with_per_layer_inputs_gives_the_references_logits_hidden_states_and_tokens(void **state) {
    (void)state;
    check_random("target-gemma4-ple");
}

static void gemma4_with_experts_gives_the_references_logits_hidden_states_and_tokens(void **state) {
    (void)state;
    check_random("target-gemma4-moe");
}

/* --- the trained target: five rows of each prompt with its answer --- */

static void check_rows(struct golden_report *report, const char *array, const float *matrix, const ds_token *rows, size_t count, size_t width,
                       const float *expected, double tolerance) {
    float *got = golden_pick_rows(matrix, rows, count, width);
    golden_check(report, array, got, expected, count * width, tolerance);
    free(got);
}

static void check_pair_prompt(struct golden_report *report, const struct golden *golden, ds_engine *engine, size_t p) {
    const json_t *prompt = json_array_get(golden_member(golden->json, "prompts"), p);
    size_t count, n_rows;
    ds_token *ids = golden_prompt_and_answer(prompt, &count), *rows = golden_ints(prompt, "rows", &n_rows);
    struct golden_forward f;
    golden_run_forward(&f, engine, ids, count);
    check_rows(report, "logits", f.logits, rows, n_rows, f.vocabulary, golden_array(golden, n_rows * f.vocabulary, "p%zu.logits", p),
               golden_tolerance(golden, "logits"));
    check_rows(report, "final_norm", f.hidden[f.states - 1], rows, n_rows, f.width, golden_array(golden, n_rows * f.width, "p%zu.final_norm", p),
               golden_tolerance(golden, "final_norm"));
    /* hidden[l] of ours is layer l - 1's output; the last layer's is only handed out behind the final norm. */
    static const char *const names[] = {"hidden.0", "hidden.1", "hidden.2", "hidden.3", "hidden.4", "hidden.5", "hidden.6"};
    const float *layers = golden_array(golden, (f.states - 1) * n_rows * f.width, "p%zu.hidden", p);
    assert_int_equal(f.states - 2, DS_COUNT(names));
    for (size_t l = 0; l < DS_COUNT(names); l++)
        check_rows(report, names[l], f.hidden[l + 1], rows, n_rows, f.width, layers + l * n_rows * f.width, golden_tolerance(golden, names[l]));
    golden_free_forward(&f);
    free(rows);
    free(ids);
    check_greedy(report->label, engine, prompt, "margin", golden_tolerance(golden, "logits"));
}

static void trained_target_gives_the_references_logits_hidden_states_and_tokens(void **state) {
    (void)state;
    const char *devices[GOLDEN_MOST_DEVICES];
    const size_t n_devices = golden_devices(devices);
    struct golden golden;
    golden_open(&golden, "pair-target", "vectors");
    char *path = golden_path("models/tiny/target");
    for (size_t d = 0; d < n_devices; d++) {
        struct golden_report report = {0};
        snprintf(report.label, sizeof report.label, "pair-target on %s", devices[d]);
        ds_engine *engine = open_target(path, devices[d]);
        const size_t count = golden_share(devices[d], json_array_size(golden_member(golden.json, "prompts")), 2);
        for (size_t p = 0; p < count; p++) check_pair_prompt(&report, &golden, engine, p);
        ds_engine_destroy(engine);
        golden_print(&report);
    }
    free(path);
    golden_close(&golden);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(qwen3_gives_the_references_logits_hidden_states_and_tokens),
        cmocka_unit_test(yarn_gives_the_references_logits_hidden_states_and_tokens),
        cmocka_unit_test(qwen2_gives_the_references_logits_hidden_states_and_tokens),
        cmocka_unit_test(llama3_gives_the_references_logits_hidden_states_and_tokens),
        cmocka_unit_test(mistral_gives_the_references_logits_hidden_states_and_tokens),
        cmocka_unit_test(qwen3_moe_gives_the_references_logits_hidden_states_and_tokens),
        cmocka_unit_test(gemma3_gives_the_references_logits_hidden_states_and_tokens),
        cmocka_unit_test(gemma4_gives_the_references_logits_hidden_states_and_tokens),
        cmocka_unit_test(gemma4_with_per_layer_inputs_gives_the_references_logits_hidden_states_and_tokens),
        cmocka_unit_test(gemma4_with_experts_gives_the_references_logits_hidden_states_and_tokens),
        cmocka_unit_test(gguf_files_of_every_architecture_give_the_references_logits_hidden_states_and_tokens),
        cmocka_unit_test(converted_files_of_every_family_give_the_references_logits_hidden_states_and_tokens),
        cmocka_unit_test(trained_target_gives_the_references_logits_hidden_states_and_tokens),
    };
    return cmocka_run_group_tests_name("target_golden", tests, NULL, NULL);
}
