/* A drafter that contradicts itself, was made for another target, or is of a kind not supported is refused with a message that says why. */
#include "refusals.h"

static void the_unchanged_pair_opens(void **state) {
    (void)state;
    struct tiny_model target = tiny_target(), drafter = tiny_drafter();
    char *home = tiny_write(&target), *folder = tiny_write(&drafter);
    struct ds_error err;
    check_ok(try_open(home, folder, &err), &err);
    check_remove_folder(home);
    check_remove_folder(folder);
}

/* Only the embedding may be left out: then it is the target's. */
static void every_tensor_is_missed_by_name(void **state) {
    (void)state;
    const struct tiny_model whole = tiny_drafter();
    json_decref(whole.config);
    for (size_t i = 0; i < whole.count; i++) {
        struct tiny_model m = tiny_drafter();
        tiny_drop(&m, whole.tensors[i].name);
        if (strcmp(whole.tensors[i].name, "embed_tokens.weight") == 0) json_decref(m.config);
        else refuse_drafter(&m, DS_ERROR_FORMAT, whole.tensors[i].name);
    }
}

static void tables_left_out_are_the_targets(void **state) {
    (void)state;
    for (int tied = 0; tied < 2; tied++) {
        struct tiny_model target = tiny_target(), drafter = tiny_drafter();
        if (!tied) {
            tiny_set(&target, "tie_word_embeddings", json_false());
            tiny_add(&target, "lm_head.weight", 2, TINY_VOCABULARY, TINY_HIDDEN);
        }
        tiny_drop(&drafter, "embed_tokens.weight");
        char *home = tiny_write(&target), *folder = tiny_write(&drafter);
        struct ds_error err;
        check_ok(try_open(home, folder, &err), &err);
        check_remove_folder(home);
        check_remove_folder(folder);
    }
}

static void every_tensor_of_another_shape_is_refused(void **state) {
    (void)state;
    const struct tiny_model whole = tiny_drafter();
    json_decref(whole.config);
    for (size_t i = 0; i < whole.count; i++) {
        struct tiny_model m = tiny_drafter();
        m.tensors[i].shape[0]++;
        refuse_drafter(&m, DS_ERROR_FORMAT, whole.tensors[i].name);
    }
}

struct change {
    const char *key, *json; /* NULL: the key is taken out */
    ds_status status;
    const char *part;
};

static void settings_that_do_not_fit_are_refused_by_key(void **state) {
    (void)state;
    static const struct change changes[] = {
        {"hidden_size", "64", DS_ERROR_MISMATCH, "hidden size is 64, the target's 32"},
        {"vocab_size", "79", DS_ERROR_MISMATCH, "vocab_size is 79, the target's vocabulary has 80"},
        {"num_target_layers", "4", DS_ERROR_MISMATCH, "num_target_layers is 4, the target has 3 layers"},
        {"target_layer_ids", "[0, 2]", DS_ERROR_MISMATCH, "taps layer 2"},
        {"target_layer_ids", "[0, 1000000000]", DS_ERROR_MISMATCH, "taps layer 1000000000"},
        {"target_layer_ids", "[-2, 0]", DS_ERROR_FORMAT, "target_layer_ids"},
        {"target_layer_ids", "[]", DS_ERROR_FORMAT, "target_layer_ids"},
        {"target_layer_ids", "[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]", DS_ERROR_FORMAT, "target_layer_ids"},
        {"target_layer_ids", "[0]", DS_ERROR_FORMAT, "fc.weight"},
        {"target_layer_ids", NULL, DS_ERROR_FORMAT, "target_layer_ids"},
        {"mask_token_id", "80", DS_ERROR_FORMAT, "mask_token_id"},
        {"mask_token_id", "-1", DS_ERROR_FORMAT, "mask_token_id"},
        {"mask_token_id", NULL, DS_ERROR_FORMAT, "mask_token_id"},
        {"block_size", "0", DS_ERROR_FORMAT, "block_size"},
        {"block_size", "65", DS_ERROR_FORMAT, "block_size"},
        {"block_size", NULL, DS_ERROR_FORMAT, "block_size"},
        {"markov_rank", "0", DS_ERROR_FORMAT, "confidence_head.proj.weight"}, /* no Markov features to look at */
        {"markov_rank", "9", DS_ERROR_FORMAT, "markov_w1"},
        {"markov_rank", "100000", DS_ERROR_FORMAT, "markov_rank"},
        {"markov_rank", NULL, DS_ERROR_FORMAT, "markov_rank"},
        {"markov_head_type", "\"gated\"", DS_ERROR_FORMAT, "markov_head.gate_proj.weight"}, /* a head that the file does not hold */
        {"markov_head_type", "\"rnn\"", DS_ERROR_FORMAT, "markov_head.joint_proj.weight"},
        {"markov_head_type", "\"lstm\"", DS_ERROR_UNSUPPORTED, "markov_head_type is 'lstm'; expected 'vanilla', 'gated' or 'rnn'"},
        {"enable_confidence_head", "false", DS_ERROR_UNSUPPORTED, "tensor 'confidence_head.proj.weight' is not part of a dspark drafter"},
        {"sample_from_anchor", "3", DS_ERROR_FORMAT, "sample_from_anchor"},
        {"confidence_head_with_markov", "false", DS_ERROR_FORMAT, "confidence_head.proj.weight"},
        {"num_hidden_layers", "2", DS_ERROR_FORMAT, "layers.1."},
        {"head_dim", "15", DS_ERROR_FORMAT, "head_dim is 15"},
        {"architectures", "[\"Qwen3ForCausalLM\"]", DS_ERROR_UNSUPPORTED, "is not a drafter this version runs"},
        {"architectures", NULL, DS_ERROR_UNSUPPORTED, "is not a drafter this version runs"},
    };
    for (size_t i = 0; i < DS_COUNT(changes); i++) {
        struct tiny_model m = tiny_drafter();
        json_error_t error;
        if (changes[i].json) tiny_set(&m, changes[i].key, json_loads(changes[i].json, JSON_DECODE_ANY, &error));
        else json_object_del(m.config, changes[i].key);
        refuse_drafter(&m, changes[i].status, changes[i].part);
    }
}

static void a_target_given_as_drafter_is_refused(void **state) {
    (void)state;
    struct tiny_model target = tiny_target();
    refuse_drafter(&target, DS_ERROR_UNSUPPORTED, "is not a drafter this version runs");
    struct tiny_model home = tiny_target();
    char *home_folder = tiny_write(&home), *folder = check_make_folder();
    struct ds_error err;
    char *path = write_bare_gguf(folder, "qwen3");
    expect(try_open(home_folder, path, &err), DS_ERROR_UNSUPPORTED, &err, "is not a drafter this version runs");
    free(path);
    check_remove_folder(folder);
    check_remove_folder(home_folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_unchanged_pair_opens),
        cmocka_unit_test(every_tensor_is_missed_by_name),
        cmocka_unit_test(tables_left_out_are_the_targets),
        cmocka_unit_test(every_tensor_of_another_shape_is_refused),
        cmocka_unit_test(settings_that_do_not_fit_are_refused_by_key),
        cmocka_unit_test(a_target_given_as_drafter_is_refused),
    };
    return cmocka_run_group_tests_name("draft_config", tests, NULL, NULL);
}
