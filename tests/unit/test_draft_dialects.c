/*
 * One drafter drafts the same in every dialect it can be written in, whatever its tap numbers, anchor, rotary pairs and vocabulary
 * map are there; and what is older, ambiguous or made for something else is refused with a message that says what was expected.
 */
#include "drafts.h"
#include "refusals.h"
#include "tiny_drafters.h"

/* Folder of the tiny target; the caller removes it. */
static char *write_target(void) {
    struct tiny_model target = tiny_target();
    return tiny_write(&target);
}

static struct drafts run_folder(struct tiny_model *m) {
    char *home = write_target(), *folder = tiny_write(m);
    const struct drafts drafts = run_drafter(home, folder, DS_KV_F32);
    check_remove_folder(folder);
    check_remove_folder(home);
    return drafts;
}

static struct drafts run_gguf(struct tiny_model *m, const char *arch) {
    char *home = write_target(), *folder = check_make_folder(), *path = tiny_write_gguf(m, folder, arch);
    const struct drafts drafts = run_drafter(home, path, DS_KV_F32);
    free(path);
    check_remove_folder(folder);
    check_remove_folder(home);
    return drafts;
}

static const struct {
    struct tiny_model (*make)(void);
    const char *speculators, *gguf;
} kinds[] = {{tiny_drafter, "dspark", "dflash"}, {tiny_gated, "dspark", "dflash"}, {tiny_rnn, "dspark", "dflash"}, {tiny_dflash, "dflash", "dflash"},
             {tiny_eagle3, "eagle3", "eagle3"}};

static void a_drafter_drafts_the_same_in_every_dialect(void **state) {
    (void)state;
    for (size_t i = 0; i < DS_COUNT(kinds); i++) {
        struct tiny_model deepspec = kinds[i].make(), speculators = kinds[i].make(), gguf = kinds[i].make();
        tiny_to_speculators(&speculators, kinds[i].speculators);
        const struct drafts a = run_folder(&deepspec), b = run_folder(&speculators), c = run_gguf(&gguf, kinds[i].gguf);
        if (differences(&a, &b)) fail_msg("kind %zu: %zu drafts differ between DeepSpec and speculators", i, differences(&a, &b));
        if (differences(&a, &c)) fail_msg("kind %zu: %zu drafts differ between DeepSpec and GGUF", i, differences(&a, &c));
    }
}

static void kinds_of_drafters_draft_differently(void **state) {
    (void)state;
    struct drafts all[DS_COUNT(kinds)];
    for (size_t i = 0; i < DS_COUNT(kinds); i++) {
        struct tiny_model m = kinds[i].make();
        all[i] = run_folder(&m);
        for (size_t k = 0; k < i; k++) assert_true(differences(&all[i], &all[k]) > 0);
    }
}

/* --- anchor and block --- */

static void without_sampling_from_the_anchor_a_block_has_one_draft_less(void **state) {
    (void)state;
    struct tiny_model m = tiny_drafter();
    tiny_set(&m, "sample_from_anchor", json_false());
    assert_int_equal(run_folder(&m).first, TINY_BLOCK - 1);
    m = tiny_drafter(); /* what speculators means when it does not say */
    tiny_to_speculators(&m, "dspark");
    json_object_del(m.config, "sample_from_anchor");
    assert_int_equal(run_folder(&m).first, TINY_BLOCK - 1);
    m = tiny_drafter(); /* and what GGUF means */
    assert_int_equal(run_gguf(&m, "dflash").first, TINY_BLOCK);
}

static void original_dflash_has_blocks_of_16_unless_it_says_otherwise(void **state) {
    (void)state;
    for (int stated = 0; stated < 2; stated++) {
        struct tiny_model m = tiny_dflash();
        json_t *own = json_object();
        tiny_move(m.config, own, "mask_token_id");
        tiny_move(m.config, own, "target_layer_ids");
        json_object_del(m.config, "block_size");
        if (stated) json_object_set_new(own, "block_size", json_integer(5));
        tiny_set(&m, "dflash_config", own);
        tiny_set(&m, "architectures", json_pack("[s]", "DFlashDraftModel"));
        assert_int_equal(run_folder(&m).first, stated ? 4 : 15);
    }
}

/* --- sliding windows --- */

static struct drafts run_windowed(int window, bool causal) {
    struct tiny_model m = tiny_dflash();
    tiny_to_speculators(&m, "dflash");
    json_t *layer = json_object_get(m.config, "transformer_layer_config");
    if (window) {
        json_object_set_new(layer, "layer_types", json_pack("[s]", "sliding_attention"));
        json_object_set_new(layer, "sliding_window", json_integer(window));
    }
    if (!causal) tiny_set(&m, "sliding_window_non_causal", json_true());
    return run_folder(&m);
}

static void a_window_hides_context_and_is_causal_only_where_the_file_says_so(void **state) {
    (void)state;
    const struct drafts all = run_windowed(0, false), wide = run_windowed(100, false), narrow = run_windowed(6, false), causal = run_windowed(100, true);
    assert_int_equal(differences(&all, &wide), 0);
    assert_true(differences(&all, &narrow) > 0);
    assert_true(differences(&all, &causal) > 0);
}

/* --- reduced vocabularies --- */

enum { REDUCED = 30 };

/* Every second token and some more: ids 1, 3, 5, .. */
static int64_t reduced_id(int64_t i) { return 2 * i + 1; }

static struct tiny_model reduced_eagle3(const int64_t *d2t) {
    struct tiny_model m = tiny_eagle3();
    tiny_find(&m, "lm_head.weight")->shape[0] = REDUCED;
    struct tiny_tensor *map = tiny_add(&m, "d2t", 1, REDUCED, 1);
    map->type = DS_TYPE_I64;
    map->values = d2t;
    return m;
}

static void a_reduced_vocabulary_is_offsets_in_speculators_and_ids_in_gguf(void **state) {
    (void)state;
    int64_t offsets[REDUCED], ids[REDUCED];
    for (int64_t i = 0; i < REDUCED; i++) {
        ids[i] = reduced_id(i);
        offsets[i] = ids[i] - i;
    }
    struct tiny_model a = reduced_eagle3(offsets), b = reduced_eagle3(ids);
    tiny_to_speculators(&a, "eagle3");
    tiny_set(&a, "draft_vocab_size", json_integer(REDUCED));
    const struct drafts folder = run_folder(&a), gguf = run_gguf(&b, "eagle3");
    assert_int_equal(differences(&folder, &gguf), 0);
    for (size_t i = 0; i < folder.count; i++) assert_true(folder.tokens[i] % 2 == 1 && folder.tokens[i] <= reduced_id(REDUCED - 1));
}

/* --- what is refused --- */

static void refuse_gguf(struct tiny_model *m, const char *arch, ds_status expected, const char *part) {
    char *home = write_target(), *folder = check_make_folder(), *path = tiny_write_gguf(m, folder, arch);
    struct ds_error err;
    expect(try_open(home, path, &err), expected, &err, part);
    check_contains(err.message, path);
    free(path);
    check_remove_folder(folder);
    check_remove_folder(home);
}

static void one_kind_of_vocabulary_map_taken_for_the_other_is_found_out(void **state) {
    (void)state;
    int64_t offsets[REDUCED], ids[REDUCED];
    for (int64_t i = 0; i < REDUCED; i++) {
        ids[i] = 79 - i;
        offsets[i] = i < 10 ? 0 : 20;
    }
    struct tiny_model m = reduced_eagle3(offsets);
    refuse_gguf(&m, "eagle3", DS_ERROR_FORMAT, "d2t[1] is 0: token 0 a second time; d2t holds ids of the target here, expected different tokens");
    m = reduced_eagle3(ids);
    tiny_to_speculators(&m, "eagle3");
    refuse_drafter(&m, DS_ERROR_FORMAT, "d2t[1] is 78: token 79 a second time; d2t holds offsets (id = i + d2t[i]) here");
    for (int64_t i = 0; i < REDUCED; i++) offsets[i] = 3 * i;
    m = reduced_eagle3(offsets);
    tiny_to_speculators(&m, "eagle3");
    refuse_drafter(&m, DS_ERROR_FORMAT, "d2t[20] is 60; d2t holds offsets (id = i + d2t[i]) here, expected a token from 0 to 79");
}

static void a_head_that_is_not_the_targets_needs_a_map(void **state) {
    (void)state;
    int64_t ids[REDUCED];
    for (int64_t i = 0; i < REDUCED; i++) ids[i] = i + 1;
    struct tiny_model m = tiny_eagle3();
    tiny_find(&m, "lm_head.weight")->shape[0] = REDUCED;
    refuse_drafter(&m, DS_ERROR_MISMATCH, "the head has 30 rows, the target's vocabulary 80, and no tensor 'd2t' says which tokens they are");
    m = reduced_eagle3(ids);
    tiny_drop(&m, "lm_head.weight");
    refuse_gguf(&m, "eagle3", DS_ERROR_FORMAT, "there is a reduced vocabulary (d2t), but no head 'output.weight' for it");
    m = tiny_eagle3();
    tiny_to_speculators(&m, "eagle3");
    tiny_set(&m, "draft_vocab_size", json_integer(32000));
    refuse_drafter(&m, DS_ERROR_MISMATCH, "draft_vocab_size is 32000, but there is no tensor 'd2t'");
}

static void older_dialects_are_refused_with_the_way_out(void **state) {
    (void)state;
    static const char *const names[] = {"dspark", "dflash-draft"};
    char *home = write_target(), *folder = check_make_folder();
    for (size_t i = 0; i < DS_COUNT(names); i++) {
        char *path = write_bare_gguf(folder, names[i]);
        struct ds_error err;
        expect(try_open(home, path, &err), DS_ERROR_UNSUPPORTED, &err, "an older dialect whose keys and tap numbers differ between files");
        check_contains(err.message, names[i]);
        check_contains(err.message, "dspark convert FOLDER FILE.gguf --type bf16");
        free(path);
    }
    check_remove_folder(folder);
    check_remove_folder(home);
}

static void taps_beyond_the_last_but_one_layer_are_refused_in_the_files_own_count(void **state) {
    (void)state;
    struct tiny_model m = tiny_drafter();
    tiny_set(&m, "target_layer_ids", json_pack("[i, i]", 0, 2)); /* an output in DeepSpec's count, which GGUF writes as 3 */
    refuse_gguf(&m, "dflash", DS_ERROR_MISMATCH, "dflash.target_layers taps layer 3; the target has 3 layers and its last cannot be tapped: expected at most 2");
    m = tiny_drafter();
    tiny_to_speculators(&m, "dspark");
    tiny_set(&m, "aux_hidden_state_layer_ids", json_pack("[i, i]", 1, 3));
    refuse_drafter(&m, DS_ERROR_MISMATCH, "aux_hidden_state_layer_ids taps layer 3; the target has 3 layers and its last cannot be tapped: expected at most 2");
    m = tiny_drafter();
    tiny_to_speculators(&m, "dspark");
    tiny_set(&m, "aux_hidden_state_layer_ids", json_pack("[i, i]", -1, 1)); /* -1 is DeepSpec's embedding; here it is 0 */
    refuse_drafter(&m, DS_ERROR_FORMAT, "aux_hidden_state_layer_ids");
}

struct change {
    const char *key, *json; /* NULL: the key is taken out */
    ds_status status;
    const char *part;
};

static void refuse_changes(struct tiny_model (*make)(void), const char *speculators, const struct change *changes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct tiny_model m = make();
        json_error_t error;
        if (speculators) tiny_to_speculators(&m, speculators);
        json_t *layer = json_object_get(m.config, "transformer_layer_config"), *owner = layer && strncmp(changes[i].key, "layer.", 6) == 0 ? layer : m.config;
        const char *key = owner == m.config ? changes[i].key : changes[i].key + 6;
        if (changes[i].json) assert_int_equal(json_object_set_new(owner, key, json_loads(changes[i].json, JSON_DECODE_ANY, &error)), 0);
        else json_object_del(owner, key);
        refuse_drafter(&m, changes[i].status, changes[i].part);
    }
}

static void settings_of_eagle3_that_do_not_fit_are_refused_by_key(void **state) {
    (void)state;
    static const struct change deepspec[] = {
        {"ttt_length", NULL, DS_ERROR_FORMAT, "ttt_length"},
        {"ttt_length", "0", DS_ERROR_FORMAT, "ttt_length"},
        {"ttt_length", "65", DS_ERROR_FORMAT, "ttt_length"},
        {"num_hidden_layers", "2", DS_ERROR_UNSUPPORTED, "num_hidden_layers is 2; an Eagle3 drafter has 1 layer"},
        {"target_layer_ids", NULL, DS_ERROR_FORMAT, "target_layer_ids"},
        {"target_layer_ids", "[0, 1]", DS_ERROR_FORMAT, "fc.weight"},
        {"vocab_size", "81", DS_ERROR_MISMATCH, "vocab_size is 81, the target's vocabulary has 80"},
        {"num_target_layers", "4", DS_ERROR_MISMATCH, "num_target_layers is 4"},
    };
    static const struct change speculators[] = {
        {"norm_before_residual", NULL, DS_ERROR_FORMAT, "norm_before_residual is missing, and either value is usual; expected true or false"},
        {"norm_before_residual", "1", DS_ERROR_FORMAT, "norm_before_residual"},
        {"norm_before_fc", "true", DS_ERROR_FORMAT, "input_norm.weight"},
        {"norm_output", "true", DS_ERROR_UNSUPPORTED, "norm_output is true"},
        {"fc_norm", "true", DS_ERROR_UNSUPPORTED, "fc_norm is true"},
        {"eagle_aux_hidden_state_layer_ids", NULL, DS_ERROR_MISMATCH, "eagle_aux_hidden_state_layer_ids is missing, and a target of 3 layers has no usual taps"},
        {"target_hidden_size", "64", DS_ERROR_MISMATCH, "target_hidden_size is 64, the target's hidden size 32"},
        {"speculators_model_type", "\"mtp\"", DS_ERROR_UNSUPPORTED, "speculators_model_type is 'mtp'; expected 'dspark', 'dflash' or 'eagle3'"},
        {"layer.model_type", "\"gpt_oss\"", DS_ERROR_UNSUPPORTED, "transformer_layer_config.model_type is 'gpt_oss'; expected 'llama' or 'qwen3'"},
        {"layer.vocab_size", "79", DS_ERROR_MISMATCH, "transformer_layer_config.vocab_size is 79, the target's vocabulary has 80"},
    };
    refuse_changes(tiny_eagle3, NULL, deepspec, DS_COUNT(deepspec));
    refuse_changes(tiny_eagle3, "eagle3", speculators, DS_COUNT(speculators));
}

static void settings_of_speculators_blocks_that_do_not_fit_are_refused_by_key(void **state) {
    (void)state;
    static const struct change changes[] = {
        {"mask_token_id", NULL, DS_ERROR_FORMAT, "mask_token_id"},
        {"mask_token_id", "null", DS_ERROR_FORMAT, "mask_token_id"},
        {"aux_hidden_state_layer_ids", NULL, DS_ERROR_FORMAT, "aux_hidden_state_layer_ids"},
        {"markov_rank", NULL, DS_ERROR_FORMAT, "markov_rank"},
        {"sample_from_anchor", "\"yes\"", DS_ERROR_FORMAT, "sample_from_anchor"},
        {"layer.hidden_size", "64", DS_ERROR_MISMATCH, "the drafter's hidden size is 64, the target's 32"},
        {"layer.hidden_size", NULL, DS_ERROR_FORMAT, "transformer_layer_config.hidden_size"},
        {"layer.layer_types", "[\"sliding_attention\"]", DS_ERROR_FORMAT, "sliding_window"},
    };
    refuse_changes(tiny_drafter, "dspark", changes, DS_COUNT(changes));
}

static void gguf_without_a_key_or_a_tensor_is_refused_by_name(void **state) {
    (void)state;
    struct tiny_model m = tiny_eagle3();
    tiny_set(&m, "target_layer_ids", json_pack("[i, i]", 0, 1));
    refuse_gguf(&m, "eagle3", DS_ERROR_FORMAT, "eagle3.target_layers has 2 entries; expected 3");
    m = tiny_gated();
    json_object_del(m.config, "markov_head_type"); /* vanilla, with a gate in the file */
    refuse_gguf(&m, "dflash", DS_ERROR_UNSUPPORTED, "tensor 'markov_gate.weight' is not part of a dspark drafter of this configuration");
    m = tiny_rnn();
    tiny_set(&m, "markov_head_type", json_string("gated"));
    refuse_gguf(&m, "dflash", DS_ERROR_FORMAT, "markov_gate.weight");
    m = tiny_eagle3();
    tiny_drop(&m, "layers.0.hidden_norm.weight");
    refuse_gguf(&m, "eagle3", DS_ERROR_FORMAT, "blk.0.attn_norm_2.weight");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_drafter_drafts_the_same_in_every_dialect),
        cmocka_unit_test(kinds_of_drafters_draft_differently),
        cmocka_unit_test(without_sampling_from_the_anchor_a_block_has_one_draft_less),
        cmocka_unit_test(original_dflash_has_blocks_of_16_unless_it_says_otherwise),
        cmocka_unit_test(a_window_hides_context_and_is_causal_only_where_the_file_says_so),
        cmocka_unit_test(a_reduced_vocabulary_is_offsets_in_speculators_and_ids_in_gguf),
        cmocka_unit_test(one_kind_of_vocabulary_map_taken_for_the_other_is_found_out),
        cmocka_unit_test(a_head_that_is_not_the_targets_needs_a_map),
        cmocka_unit_test(older_dialects_are_refused_with_the_way_out),
        cmocka_unit_test(taps_beyond_the_last_but_one_layer_are_refused_in_the_files_own_count),
        cmocka_unit_test(settings_of_eagle3_that_do_not_fit_are_refused_by_key),
        cmocka_unit_test(settings_of_speculators_blocks_that_do_not_fit_are_refused_by_key),
        cmocka_unit_test(gguf_without_a_key_or_a_tensor_is_refused_by_name),
    };
    return cmocka_run_group_tests_name("draft_dialects", tests, NULL, NULL);
}
