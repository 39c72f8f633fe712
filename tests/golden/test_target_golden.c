/* Targets against Hugging Face transformers in float32: logits, hidden states, greedy tokens, on every device. */
#include "golden.h"

#include <math.h>

enum { MOST_HIDDEN = 16 };

/* What ds_dev_forward gives for all rows of `tokens`. */
struct forward {
    size_t rows, vocabulary, width, states; /* states: layers + 1 */
    float *logits, *hidden[MOST_HIDDEN];
};

static void run_forward(struct forward *f, ds_engine *engine, const ds_token *tokens, size_t count) {
    ds_engine_info info = {.size = sizeof info};
    ds_engine_get_info(engine, &info);
    *f = (struct forward){.rows = count, .vocabulary = info.vocabulary, .width = info.hidden_size, .states = info.layers + 1};
    assert_true(f->states <= MOST_HIDDEN);
    f->logits = malloc(count * f->vocabulary * sizeof *f->logits);
    assert_non_null(f->logits);
    for (size_t l = 0; l < f->states; l++) {
        f->hidden[l] = malloc(count * f->width * sizeof *f->hidden[l]);
        assert_non_null(f->hidden[l]);
    }
    ds_session *session = golden_session(engine, DS_SPEC_OFF);
    struct ds_error err;
    check_ok(ds_dev_forward(session, tokens, count, false, f->logits, f->hidden, &err), &err);
    ds_session_destroy(session);
}

static void free_forward(struct forward *f) {
    for (size_t l = 0; l < f->states; l++) free(f->hidden[l]);
    free(f->logits);
}

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
    struct forward f;
    run_forward(&f, engine, ids, count);
    golden_check(report, "logits", f.logits, golden_array(golden, count * f.vocabulary, "p%zu.logits", p), count * f.vocabulary,
                 golden_tolerance(golden, "logits"));
    static const char *const names[] = {"hidden.0", "hidden.1", "hidden.2", "hidden.3", "hidden.4", "hidden.5", "hidden.6"};
    assert_true(f.states <= DS_COUNT(names));
    for (size_t l = 0; l < f.states; l++)
        golden_check(report, names[l], f.hidden[l], golden_array(golden, count * f.width, "p%zu.%s", p, names[l]), count * f.width,
                     golden_tolerance(golden, names[l]));
    free_forward(&f);
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

static const char *const families[] = {"target-qwen3", "target-qwen3-yarn", "target-qwen2", "target-llama3-rope", "target-mistral-swa", "target-qwen3-moe",
                                       "target-gemma3-text", "target-gemma4-text", "target-gemma4-ple", "target-gemma4-moe"};

/* Converted by us, once from the folder and once from that file: names, keys and what changes its form are what the reader means by them. */
static void converted_files_of_every_family_give_the_references_logits_hidden_states_and_tokens(void **state) {
    (void)state;
    char *folder = check_make_folder();
    for (size_t i = 0; i < DS_COUNT(families); i++) {
        char *source = golden_path("tests/golden/%s", families[i]), *once = golden_convert(folder, "once.gguf", source, "f32", NULL, NULL);
        char *twice = golden_convert(folder, "twice.gguf", once, "f32", NULL, NULL);
        check_model(families[i], " converted", once);
        check_same_file(once, twice);
        free(twice);
        free(once);
        free(source);
    }
    check_remove_folder(folder);
}

/* --- quantised --- */

/* Mean over rows of sum p log(p/q), p of the reference's logits. */
static double divergence(const float *reference, const float *found, size_t rows, size_t vocabulary) {
    double sum = 0;
    for (size_t r = 0; r < rows; r++) {
        const float *a = reference + r * vocabulary, *b = found + r * vocabulary;
        double total_a = 0, total_b = 0, row = 0;
        for (size_t i = 0; i < vocabulary; i++) total_a += exp((double)a[i]), total_b += exp((double)b[i]);
        for (size_t i = 0; i < vocabulary; i++) row += exp((double)a[i]) / total_a * ((double)a[i] - (double)b[i] - log(total_a / total_b));
        sum += row;
    }
    return sum / (double)rows;
}

/* As users run it: activations rounded as the type wants it. */
static ds_engine *open_as_stored(const char *path) {
    ds_engine_params params = ds_engine_defaults();
    params.target = path;
    params.device = "cpu";
    params.threads = 1;
    params.kv = DS_KV_F32;
    return golden_engine(&params);
}

static double divergence_of(const char *name, const char *path) {
    struct golden golden;
    struct forward f;
    size_t count;
    golden_open(&golden, name, "vectors");
    ds_engine *engine = open_as_stored(path);
    ds_token *ids = golden_ints(json_array_get(golden_member(golden.json, "prompts"), 0), "prompt_ids", &count);
    run_forward(&f, engine, ids, count);
    const double kl = divergence(golden_array(&golden, count * f.vocabulary, "p0.logits"), f.logits, count, f.vocabulary);
    free_forward(&f);
    free(ids);
    ds_engine_destroy(engine);
    golden_close(&golden);
    return kl;
}

static void check_divergence(const char *name, const char *type, double kl, double most) {
    print_message("# %s as %s: %.2e nats\n", name, type, kl);
    if (!(kl <= most)) fail_msg("%s as %s is %g nats from the reference; expected at most %g", name, type, kl, most);
}

/* Rows of 48 to 160 columns: types with blocks of 256 become Q8_0 here, with 48 columns F16. These weights are noise with loud rows: far worse to quantise than a model. */
static void quantised_files_of_every_family_stay_near_the_references_logits(void **state) {
    (void)state;
    static const struct {
        const char *type;
        double most; /* nats a row */
    } types[] = {{"bf16", 5e-3}, {"q4_0", 1.0}, {"q4_k_m", 5e-2}};
    char *folder = check_make_folder();
    for (size_t i = 0; i < DS_COUNT(families); i++) {
        char *source = golden_path("tests/golden/%s", families[i]);
        for (size_t t = 0; t < DS_COUNT(types); t++) {
            char *path = golden_convert(folder, "model.gguf", source, types[t].type, NULL, NULL);
            check_divergence(families[i], types[t].type, divergence_of(families[i], path), types[t].most);
            free(path);
        }
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

/* The rows in `rows` of a matrix, one behind the other. */
static float *pick_rows(const float *matrix, const ds_token *rows, size_t count, size_t width) {
    float *picked = malloc(count * width * sizeof *picked);
    assert_non_null(picked);
    for (size_t i = 0; i < count; i++) memcpy(picked + i * width, matrix + (size_t)rows[i] * width, width * sizeof *picked);
    return picked;
}

static void check_rows(struct golden_report *report, const char *array, const float *matrix, const ds_token *rows, size_t count, size_t width,
                       const float *expected, double tolerance) {
    float *got = pick_rows(matrix, rows, count, width);
    golden_check(report, array, got, expected, count * width, tolerance);
    free(got);
}

static ds_token *prompt_and_answer(const json_t *prompt, size_t *count) {
    size_t n_prompt, n_greedy;
    ds_token *ids = golden_ints(prompt, "prompt_ids", &n_prompt), *greedy = golden_ints(prompt, "greedy", &n_greedy);
    *count = n_prompt + n_greedy;
    ids = realloc(ids, *count * sizeof *ids);
    assert_non_null(ids);
    memcpy(ids + n_prompt, greedy, n_greedy * sizeof *ids);
    free(greedy);
    return ids;
}

static void check_pair_prompt(struct golden_report *report, const struct golden *golden, ds_engine *engine, size_t p) {
    const json_t *prompt = json_array_get(golden_member(golden->json, "prompts"), p);
    size_t count, n_rows;
    ds_token *ids = prompt_and_answer(prompt, &count), *rows = golden_ints(prompt, "rows", &n_rows);
    struct forward f;
    run_forward(&f, engine, ids, count);
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
    free_forward(&f);
    free(rows);
    free(ids);
    check_greedy(report->label, engine, prompt, "margin", golden_tolerance(golden, "logits"));
}

/* The first prompt's rows with all weights of one type. */
static double pair_divergence(const struct golden *golden, const char *path) {
    const json_t *prompt = json_array_get(golden_member(golden->json, "prompts"), 0);
    size_t count, n_rows;
    ds_token *ids = prompt_and_answer(prompt, &count), *rows = golden_ints(prompt, "rows", &n_rows);
    struct forward f;
    ds_engine *engine = open_as_stored(path);
    run_forward(&f, engine, ids, count);
    float *picked = pick_rows(f.logits, rows, n_rows, f.vocabulary);
    const double kl = divergence(golden_array(golden, n_rows * f.vocabulary, "p0.logits"), picked, n_rows, f.vocabulary);
    free(picked);
    free_forward(&f);
    ds_engine_destroy(engine);
    free(rows);
    free(ids);
    return kl;
}

static void the_trained_target_quantised_to_every_type_stays_near_the_references_logits(void **state) {
    (void)state;
    static const struct {
        const char *type;
        double most; /* nats a row: about twice what was measured */
    } types[] = {{"bf16", 1e-5}, {"f16", 1e-6}, {"q8_0", 2e-4}, {"q6_k", 1e-3}, {"q5_k", 2e-3}, {"q4_k_m", 6e-3}, {"q4_k", 1e-2}, {"q4_0", 1e-2}};
    char *folder = check_make_folder(), *source = golden_path("models/tiny/target");
    struct golden golden;
    golden_open(&golden, "pair-target", "vectors");
    for (size_t t = 0; t < DS_COUNT(types); t++) {
        char *path = golden_convert(folder, "model.gguf", source, types[t].type, NULL, NULL);
        check_divergence("pair-target", types[t].type, pair_divergence(&golden, path), types[t].most);
        free(path);
    }
    golden_close(&golden);
    free(source);
    check_remove_folder(folder);
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
        cmocka_unit_test(quantised_files_of_every_family_stay_near_the_references_logits),
        cmocka_unit_test(the_trained_target_quantised_to_every_type_stays_near_the_references_logits),
        cmocka_unit_test(trained_target_gives_the_references_logits_hidden_states_and_tokens),
    };
    return cmocka_run_group_tests_name("target_golden", tests, NULL, NULL);
}
