/*
 * DSpark, DFlash and Eagle3 drafters against DeepSpec in float32 (golden_drafter.h): as they were trained, converted, and in
 * the original form of DFlash.
 */
#include "golden_drafter.h"

#include <unistd.h>

/* A case with target and drafter of its own. */
static void check_random(const char *name) {
    char target[128], drafter[128];
    snprintf(target, sizeof target, "tests/golden/%s/target", name);
    snprintf(drafter, sizeof drafter, "tests/golden/%s/draft", name);
    golden_drafter_check(name, target, drafter);
}

static void vanilla_head_drafts_as_the_reference(void **state) {
    (void)state;
    check_random("random-dspark-vanilla");
}

static void gated_head_drafts_as_the_reference(void **state) {
    (void)state;
    check_random("random-dspark-gated");
}

static void rnn_head_drafts_as_the_reference(void **state) {
    (void)state;
    check_random("random-dspark-rnn");
}

static void tap_of_the_embedding_and_no_confidence_head_draft_as_the_reference(void **state) {
    (void)state;
    check_random("random-dspark-noconf");
}

static void no_sequential_head_drafts_as_the_reference(void **state) {
    (void)state;
    check_random("random-dspark-conf-nomarkov");
}

static void dflash_drafts_as_the_reference(void **state) {
    (void)state;
    check_random("random-dflash");
}

static void eagle3_drafts_as_the_reference(void **state) {
    (void)state;
    check_random("random-eagle3");
}

static void gemma4_dspark_drafts_as_the_reference(void **state) {
    (void)state;
    check_random("random-dspark-gemma4");
}

static void gemma4_eagle3_drafts_as_the_reference(void **state) {
    (void)state;
    check_random("random-eagle3-gemma4");
}

static void trained_dspark_drafts_as_the_reference(void **state) {
    (void)state;
    golden_drafter_check("pair-dspark", "models/tiny/target", "models/tiny/dspark");
}

static void trained_dflash_drafts_as_the_reference(void **state) {
    (void)state;
    golden_drafter_check("pair-dflash", "models/tiny/target", "models/tiny/dflash");
}

static void trained_eagle3_drafts_as_the_reference(void **state) {
    (void)state;
    golden_drafter_check("pair-eagle3", "models/tiny/target", "models/tiny/eagle3");
}

/* --- converted --- */

static void remove_layout(const char *path) {
    static const char *const names[] = {"config.json", "model.safetensors"};
    for (size_t i = 0; i < DS_COUNT(names); i++) {
        char *file = ds_os_join(path, names[i]);
        assert_int_equal(remove(file), 0);
        free(file);
    }
    assert_int_equal(rmdir(path), 0);
}

static void check_back(const char *name, const char *layout, const char *folder, const char *gguf, const char *target) {
    char *back = golden_convert(folder, layout, gguf, "f32", layout, target), kind[64];
    snprintf(kind, sizeof kind, " in %s layout", layout);
    golden_drafter_check_on(name, kind, "cpu", target, back);
    remove_layout(back);
    free(back);
}

/* To GGUF and, where that changes the form of tensors, from there to a folder; each must draft as the original. */
static void check_converted(const char *name, bool back) {
    char *folder = check_make_folder(), *target = golden_path("tests/golden/%s/target", name), *source = golden_path("tests/golden/%s/draft", name);
    char *gguf_target = golden_convert(folder, "target.gguf", target, "f32", NULL, NULL);
    char *gguf = golden_convert(folder, "draft.gguf", source, "f32", NULL, target);
    golden_drafter_check_on(name, " as GGUF", "cpu", gguf_target, gguf);
    if (back) check_back(name, "deepspec", folder, gguf, target);
    free(gguf);
    free(gguf_target);
    free(source);
    free(target);
    check_remove_folder(folder);
}

static void converted_drafters_draft_as_the_reference(void **state) {
    (void)state;
    check_converted("random-dspark-vanilla", false);
    check_converted("random-dspark-gated", false);
    check_converted("random-dspark-rnn", false);
    check_converted("random-dspark-noconf", false);
    check_converted("random-dspark-conf-nomarkov", false);
    check_converted("random-dflash", false);
    check_converted("random-eagle3", true);
    check_converted("random-dspark-gemma4", true);
    check_converted("random-eagle3-gemma4", false);
}

/* --- the original form of DFlash --- */

/* The drafter's folder with another configuration: as the original files write it. */
static char *write_original_form(const char *drafter) {
    char *config_path = golden_path("%s/config.json", drafter), *tensors = golden_path("%s/model.safetensors", drafter);
    json_error_t error;
    json_t *config = json_load_file(config_path, 0, &error);
    assert_non_null(config);
    json_object_set_new(config, "architectures", json_pack("[s]", "DFlashDraftModel"));
    json_object_set_new(config, "dflash_config", json_pack("{s:O, s:O}", "mask_token_id", golden_member(config, "mask_token_id"), "target_layer_ids",
                                                           golden_member(config, "target_layer_ids")));
    json_object_del(config, "mask_token_id");
    json_object_del(config, "target_layer_ids");
    char *folder = check_make_folder(), *text = json_dumps(config, 0), *link = ds_os_join(folder, "model.safetensors");
    check_write_text(folder, "config.json", text);
    assert_int_equal(symlink(tensors, link), 0);
    free(link);
    free(text);
    json_decref(config);
    free(tensors);
    free(config_path);
    return folder;
}

/* There slot k predicts its own position: the same network gives the logits of its rows 1.. to drafts one position nearer. */
static void original_dflash_predicts_with_its_mask_slots(void **state) {
    (void)state;
    static const char name[] = "random-dflash";
    struct golden golden;
    golden_open(&golden, name, "trace");
    char *target = golden_path("tests/golden/%s/target", name), *folder = write_original_form("tests/golden/random-dflash/draft");
    ds_engine *engine = golden_pair(target, folder, "ref");
    struct ds_round_result result;
    ds_session *session = golden_drafter_first_round(&golden, engine, &result);
    const uint32_t drafts = engine->draft_model->block_size, vocabulary = engine->model->config.vocabulary;
    assert_int_equal(engine->draft_model->block_rows, drafts + 1);
    const float *expected = golden_array(&golden, (size_t)(drafts + 1) * vocabulary, "p0.r0.base_logits") + vocabulary;
    float *got = golden_read(engine, engine->drafter.block_outputs.base_logits, drafts);
    golden_compare("logits of the mask slots", got, expected, (size_t)drafts * vocabulary, golden_tolerance(&golden, "draft.base_logits"));
    assert_int_equal(result.n_draft, drafts);
    for (uint32_t k = 0; k < drafts; k++) assert_int_equal(result.draft[k], golden_argmax(expected + (size_t)k * vocabulary, vocabulary));
    free(got);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
    check_remove_folder(folder);
    free(target);
    golden_close(&golden);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vanilla_head_drafts_as_the_reference),
        cmocka_unit_test(gated_head_drafts_as_the_reference),
        cmocka_unit_test(rnn_head_drafts_as_the_reference),
        cmocka_unit_test(tap_of_the_embedding_and_no_confidence_head_draft_as_the_reference),
        cmocka_unit_test(no_sequential_head_drafts_as_the_reference),
        cmocka_unit_test(dflash_drafts_as_the_reference),
        cmocka_unit_test(original_dflash_predicts_with_its_mask_slots),
        cmocka_unit_test(eagle3_drafts_as_the_reference),
        cmocka_unit_test(gemma4_dspark_drafts_as_the_reference),
        cmocka_unit_test(gemma4_eagle3_drafts_as_the_reference),
        cmocka_unit_test(converted_drafters_draft_as_the_reference),
        cmocka_unit_test(trained_dspark_drafts_as_the_reference),
        cmocka_unit_test(trained_dflash_drafts_as_the_reference),
        cmocka_unit_test(trained_eagle3_drafts_as_the_reference),
    };
    return cmocka_run_group_tests_name("drafter_golden", tests, NULL, NULL);
}
