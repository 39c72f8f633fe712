/*
 * What quantising costs: targets and drafters stored in each type stay near the logits that the references gave with all bits
 * of the weights.
 */
#include "golden_drafter.h"
#include "golden_forward.h"

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
    struct golden_forward f;
    size_t count;
    golden_open(&golden, name, "vectors");
    ds_engine *engine = open_as_stored(path);
    ds_token *ids = golden_ints(json_array_get(golden_member(golden.json, "prompts"), 0), "prompt_ids", &count);
    golden_run_forward(&f, engine, ids, count);
    const double kl = golden_divergence(golden_array(&golden, count * f.vocabulary, "p0.logits"), f.logits, count, f.vocabulary);
    golden_free_forward(&f);
    free(ids);
    ds_engine_destroy(engine);
    golden_close(&golden);
    return kl;
}

static void check_divergence(const char *name, const char *type, double kl, double most) {
    print_message("# %s as %s: %.2e nats\n", name, type, kl);
    if (!(kl <= most)) fail_msg("%s as %s is %g nats from the reference; expected at most %g", name, type, kl, most);
}

/*
 * Rows of 48 to 160 columns: types with blocks of 256 become Q8_0 here, with 48 columns F16. These weights are noise with loud
 * rows: far worse to quantise than a model.
 */
static void quantised_files_of_every_family_stay_near_the_references_logits(void **state) {
    (void)state;
    static const struct {
        const char *type;
        double most; /* nats a row */
    } types[] = {{"bf16", 5e-3}, {"q4_0", 1.0}, {"q4_k_m", 5e-2}};
    char *folder = check_make_folder();
    for (size_t i = 0; i < DS_COUNT(golden_targets); i++) {
        char *source = golden_path("tests/golden/%s", golden_targets[i]);
        for (size_t t = 0; t < DS_COUNT(types); t++) {
            char *path = golden_convert(folder, "model.gguf", source, types[t].type, NULL, NULL);
            check_divergence(golden_targets[i], types[t].type, divergence_of(golden_targets[i], path), types[t].most);
            free(path);
        }
        free(source);
    }
    check_remove_folder(folder);
}

/* The first prompt's rows with all weights of one type. */
static double pair_divergence(const struct golden *golden, const char *path) {
    const json_t *prompt = json_array_get(golden_member(golden->json, "prompts"), 0);
    size_t count, n_rows;
    ds_token *ids = golden_prompt_and_answer(prompt, &count), *rows = golden_ints(prompt, "rows", &n_rows);
    struct golden_forward f;
    ds_engine *engine = open_as_stored(path);
    golden_run_forward(&f, engine, ids, count);
    float *picked = golden_pick_rows(f.logits, rows, n_rows, f.vocabulary);
    const double kl = golden_divergence(golden_array(golden, n_rows * f.vocabulary, "p0.logits"), picked, n_rows, f.vocabulary);
    free(picked);
    golden_free_forward(&f);
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

static void quantised_drafters_stay_near_the_references_logits(void **state) {
    (void)state;
    static const char *const names[] = {"random-dspark-vanilla", "random-dspark-gated", "random-dspark-rnn", "random-dspark-noconf", "random-dspark-conf-nomarkov",
                                        "random-dflash", "random-eagle3", "random-dspark-gemma4", "random-eagle3-gemma4"};
    static const struct {
        const char *type;
        double most; /* nats */
    } types[] = {{"q8_0", 2e-3}, {"q4_0", 0.5}};
    char *folder = check_make_folder();
    for (size_t i = 0; i < DS_COUNT(names); i++) {
        char *target = golden_path("tests/golden/%s/target", names[i]), *source = golden_path("tests/golden/%s/draft", names[i]);
        for (size_t t = 0; t < DS_COUNT(types); t++) {
            char *gguf = golden_convert(folder, "draft.gguf", source, types[t].type, NULL, target);
            const double kl = golden_drafter_divergence(names[i], target, gguf);
            print_message("# %s as %s: %.2e nats\n", names[i], types[t].type, kl);
            if (!(kl <= types[t].most)) fail_msg("%s as %s is %g nats from the reference; expected at most %g", names[i], types[t].type, kl, types[t].most);
            free(gguf);
        }
        free(source);
        free(target);
    }
    check_remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantised_files_of_every_family_stay_near_the_references_logits),
        cmocka_unit_test(the_trained_target_quantised_to_every_type_stays_near_the_references_logits),
        cmocka_unit_test(quantised_drafters_stay_near_the_references_logits),
    };
    return cmocka_run_group_tests_name("quantised", tests, NULL, NULL);
}
