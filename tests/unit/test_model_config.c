/* A target whose files contradict themselves, or that this version cannot run, is refused with a message that says what and where. */
#include "refusals.h"

static void the_unchanged_model_opens(void **state) {
    (void)state;
    struct tiny_model m = tiny_target();
    char *folder = tiny_write(&m);
    struct ds_error err;
    check_ok(try_open(folder, NULL, &err), &err);
    check_remove_folder(folder);
}

static void every_tensor_is_missed_by_name(void **state) {
    (void)state;
    const struct tiny_model whole = tiny_target();
    json_decref(whole.config);
    for (size_t i = 0; i < whole.count; i++) {
        struct tiny_model m = tiny_target();
        tiny_drop(&m, whole.tensors[i].name);
        refuse_target(&m, DS_ERROR_FORMAT, whole.tensors[i].name);
    }
}

static void every_tensor_of_another_shape_is_refused_with_both_shapes(void **state) {
    (void)state;
    const struct tiny_model whole = tiny_target();
    json_decref(whole.config);
    for (size_t i = 0; i < whole.count; i++) {
        struct tiny_model m = tiny_target();
        struct tiny_tensor *t = &m.tensors[i];
        t->shape[0]++;
        char found[64];
        if (t->dims == 1) snprintf(found, sizeof found, "[%d]", (int)t->shape[0]);
        else snprintf(found, sizeof found, "[%d, %d]", (int)t->shape[0], (int)t->shape[1]);
        char *folder = tiny_write(&m);
        struct ds_error err;
        expect(try_open(folder, NULL, &err), DS_ERROR_FORMAT, &err, whole.tensors[i].name);
        check_contains(err.message, found);
        check_remove_folder(folder);
    }
}

static void a_tensor_with_more_dimensions_is_refused(void **state) {
    (void)state;
    struct tiny_model m = tiny_target();
    tiny_find(&m, "model.norm.weight")->dims = 2;
    refuse_target(&m, DS_ERROR_FORMAT, "model.norm.weight");
}

static void weights_that_are_integers_are_refused(void **state) {
    (void)state;
    static const char *const names[] = {"model.embed_tokens.weight", "model.norm.weight", "model.layers.1.mlp.up_proj.weight"};
    for (size_t i = 0; i < DS_COUNT(names); i++) {
        struct tiny_model m = tiny_target();
        tiny_find(&m, names[i])->type = DS_TYPE_I32;
        refuse_target(&m, DS_ERROR_UNSUPPORTED, names[i]);
    }
}

static void floats_of_every_kind_are_accepted(void **state) {
    (void)state;
    static const ds_type types[] = {DS_TYPE_F32, DS_TYPE_F16, DS_TYPE_BF16};
    for (size_t k = 0; k < DS_COUNT(types); k++) {
        struct tiny_model m = tiny_target();
        for (size_t i = 0; i < m.count; i++) m.tensors[i].type = types[k];
        char *folder = tiny_write(&m);
        struct ds_error err;
        check_ok(try_open(folder, NULL, &err), &err);
        check_remove_folder(folder);
    }
}

static void an_unknown_architecture_is_named_with_those_known(void **state) {
    (void)state;
    struct tiny_model m = tiny_target();
    tiny_set(&m, "architectures", json_pack("[s]", "MambaForCausalLM"));
    refuse_target(&m, DS_ERROR_UNSUPPORTED, "'MambaForCausalLM' is not a target this version runs; it runs: qwen3 (Qwen3ForCausalLM)");
    m = tiny_target();
    json_object_del(m.config, "architectures");
    refuse_target(&m, DS_ERROR_FORMAT, "`architectures`");
    m = tiny_target();
    tiny_set(&m, "architectures", json_pack("[i]", 3));
    refuse_target(&m, DS_ERROR_FORMAT, "`architectures`");
}

/* One key set to a value that must be refused; NULL: the key is taken out. */
struct change {
    const char *key, *json;
    ds_status status;
    const char *part;
};

static void refuse_changes(const struct change *changes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct tiny_model m = tiny_target();
        json_error_t error;
        if (changes[i].json) {
            json_t *value = json_loads(changes[i].json, JSON_DECODE_ANY, &error);
            assert_non_null(value);
            tiny_set(&m, changes[i].key, value);
        } else {
            json_object_del(m.config, changes[i].key);
        }
        refuse_target(&m, changes[i].status, changes[i].part);
    }
}

static void sizes_that_make_no_sense_are_refused_by_key(void **state) {
    (void)state;
    static const struct change changes[] = {
        {"hidden_size", NULL, DS_ERROR_FORMAT, "hidden_size"},
        {"hidden_size", "0", DS_ERROR_FORMAT, "hidden_size"},
        {"hidden_size", "\"32\"", DS_ERROR_FORMAT, "hidden_size"},
        {"hidden_size", "-32", DS_ERROR_FORMAT, "hidden_size"},
        {"num_hidden_layers", "1000000000000", DS_ERROR_FORMAT, "num_hidden_layers"},
        {"num_hidden_layers", "1025", DS_ERROR_FORMAT, "num_hidden_layers"},
        {"num_hidden_layers", "4", DS_ERROR_FORMAT, "model.layers.3."},
        {"num_attention_heads", "0", DS_ERROR_FORMAT, "num_attention_heads"},
        {"num_attention_heads", "3", DS_ERROR_FORMAT, "3 attention heads cannot be shared by 2"},
        {"num_key_value_heads", "8", DS_ERROR_FORMAT, "4 attention heads cannot be shared by 8"},
        {"head_dim", "15", DS_ERROR_FORMAT, "head_dim is 15"},
        {"head_dim", "8", DS_ERROR_FORMAT, "q_"},
        {"head_dim", "1e300", DS_ERROR_FORMAT, "head_dim"},
        {"intermediate_size", "2097152", DS_ERROR_FORMAT, "intermediate_size"},
        {"max_position_embeddings", "0", DS_ERROR_FORMAT, "max_position_embeddings"},
        {"rms_norm_eps", NULL, DS_ERROR_FORMAT, "rms_norm_eps"},
        {"rms_norm_eps", "-1", DS_ERROR_FORMAT, "rms_norm_eps"},
        {"vocab_size", "0", DS_ERROR_FORMAT, "vocab_size"},
        {"vocab_size", "81", DS_ERROR_FORMAT, "model.embed_tokens.weight"},
        {"vocab_size", "4294967297", DS_ERROR_FORMAT, "vocab_size"},
        {"eos_token_id", "-1", DS_ERROR_FORMAT, "stop token -1"},
        {"eos_token_id", "\"</s>\"", DS_ERROR_FORMAT, "eos_token_id"},
        {"tie_word_embeddings", "false", DS_ERROR_FORMAT, "'lm_head.weight'"},
        {"tie_word_embeddings", "\"yes\"", DS_ERROR_FORMAT, "tie_word_embeddings"},
    };
    refuse_changes(changes, DS_COUNT(changes));
}

static void what_changes_the_result_and_is_not_implemented_is_refused(void **state) {
    (void)state;
    static const struct change changes[] = {
        {"attention_bias", "true", DS_ERROR_FORMAT, "model.layers.0.self_attn.q_proj.bias"},
        {"mlp_bias", "true", DS_ERROR_FORMAT, "model.layers.0.mlp.gate_proj.bias"},
        {"layer_types", "[\"full_attention\"]", DS_ERROR_FORMAT, "layer_types must have an entry for each of the 3 layers"},
        {"layer_types", "[1, 2, 3]", DS_ERROR_FORMAT, "layer_types must have an entry for each of the 3 layers"},
        {"layer_types", "[\"full_attention\", \"sliding_attention\", \"full_attention\"]", DS_ERROR_FORMAT, "sliding_window"},
        {"layer_types", "[\"full_attention\", \"chunked_attention\", \"full_attention\"]", DS_ERROR_UNSUPPORTED,
         "layer_types[1] is 'chunked_attention'"},
        {"partial_rotary_factor", "0.5", DS_ERROR_UNSUPPORTED, "partial_rotary_factor is 0.5"},
        {"rope_parameters", "{\"rope_type\": \"default\", \"partial_rotary_factor\": 0.25}", DS_ERROR_UNSUPPORTED,
         "rope_parameters.partial_rotary_factor is 0.25"},
        {"final_logit_softcapping", "30.0", DS_ERROR_UNSUPPORTED, "final_logit_softcapping is 30"},
        {"attn_logit_softcapping", "50.0", DS_ERROR_UNSUPPORTED, "attn_logit_softcapping is 50"},
        {"residual_multiplier", "0.22", DS_ERROR_UNSUPPORTED, "residual_multiplier is 0.22"},
        {"quantization_config", "{\"quant_method\": \"awq\", \"bits\": 4}", DS_ERROR_UNSUPPORTED, "quantization_config.quant_method is 'awq'"},
        {"hidden_act", "\"gelu\"", DS_ERROR_UNSUPPORTED, "hidden_act is 'gelu'"},
        {"rope_scaling", "{\"rope_type\": \"longrope\", \"factor\": 2.0}", DS_ERROR_UNSUPPORTED, "rope scaling 'longrope'"},
        {"rope_parameters", "{\"rope_type\": \"llama3\", \"rope_theta\": 1e4}", DS_ERROR_FORMAT, "rope_parameters.factor is missing"},
        {"rope_parameters", "{\"rope_type\": \"llama3\", \"factor\": 8.0, \"high_freq_factor\": 4.0}", DS_ERROR_FORMAT, "low_freq_factor is 0"},
        {"rope_parameters", "{\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 4.0, \"high_freq_factor\": 4.0}",
         DS_ERROR_FORMAT, "high_freq_factor is 4"},
        {"rope_scaling", "{\"rope_type\": \"yarn\"}", DS_ERROR_FORMAT, "rope_scaling.factor is missing"},
        {"rope_scaling", "{\"type\": \"linear\", \"factor\": -2}", DS_ERROR_FORMAT, "rope_scaling.factor"},
        {"rope_scaling", "{\"type\": \"yarn\", \"factor\": 2, \"original_max_position_embeddings\": 0}", DS_ERROR_FORMAT, "original context"},
        {"rope_scaling", "{\"type\": 3}", DS_ERROR_FORMAT, "rope_scaling.type"},
        {"rope_theta", "0", DS_ERROR_FORMAT, "rope_theta"},
        {"rope_theta", "\"big\"", DS_ERROR_FORMAT, "rope_theta"},
    };
    refuse_changes(changes, DS_COUNT(changes));
}

static void a_tensor_that_the_architecture_does_not_know_is_refused_by_name(void **state) {
    (void)state;
    static const char *const names[] = {"model.layers.1.self_attn.q_proj.bias", "model.layers.0.mlp.gate.weight", "model.norm_2.weight"};
    for (size_t i = 0; i < DS_COUNT(names); i++) {
        struct tiny_model m = tiny_target();
        tiny_add(&m, names[i], 1, 64, 1);
        refuse_target(&m, DS_ERROR_UNSUPPORTED, names[i]);
    }
}

static void tables_copies_and_parts_for_images_are_no_reason_to_refuse_a_file(void **state) {
    (void)state;
    struct tiny_model m = tiny_target();
    tiny_add(&m, "lm_head.weight", 2, TINY_VOCABULARY, TINY_HIDDEN)->seed = TINY_EMBEDDING_SEED;
    tiny_add(&m, "model.layers.0.self_attn.rotary_emb.inv_freq", 1, 8, 1);
    tiny_add(&m, "model.vision_tower.patch.weight", 2, 4, 4);
    char *folder = tiny_write(&m);
    struct ds_error err;
    check_ok(try_open(folder, NULL, &err), &err);
    check_remove_folder(folder);
}

static void a_head_of_its_own_is_used_when_the_file_has_one(void **state) {
    (void)state;
    struct tiny_model m = tiny_target();
    tiny_set(&m, "tie_word_embeddings", json_false());
    tiny_add(&m, "lm_head.weight", 2, TINY_VOCABULARY, TINY_HIDDEN);
    char *folder = tiny_write(&m);
    struct ds_error err;
    check_ok(try_open(folder, NULL, &err), &err);
    check_remove_folder(folder);
}

static void a_tokenizer_with_more_ids_than_the_embedding_has_rows_is_a_mismatch(void **state) {
    (void)state;
    struct tiny_model m = tiny_target();
    char *folder = tiny_write(&m), *text;
    size_t size;
    struct ds_error err;
    check_ok(ds_os_read_file(DSPARK_SOURCE_ROOT "/models/tiny/target/tokenizer.json", 1 << 24, &text, &size, &err), &err);
    free(check_write_file(folder, "tokenizer.json", text, size));
    free(text);
    expect(try_open(folder, NULL, &err), DS_ERROR_MISMATCH, &err, "ids up to 4095, the embedding only 80 rows");
    check_remove_folder(folder);
}

static void a_drafter_given_as_target_is_refused(void **state) {
    (void)state;
    struct tiny_model m = tiny_drafter();
    refuse_target(&m, DS_ERROR_UNSUPPORTED, "'Qwen3DSparkModel' is not a target");
    char *folder = check_make_folder(), *path = write_bare_gguf(folder, "dflash");
    struct ds_error err;
    expect(try_open(path, NULL, &err), DS_ERROR_UNSUPPORTED, &err, "'dflash' is not a target");
    free(path);
    path = write_bare_gguf(folder, "qwen3");
    expect(try_open(path, NULL, &err), DS_ERROR_FORMAT, &err, "qwen3.embedding_length");
    free(path);
    check_remove_folder(folder);
}

static void paths_that_hold_no_model_are_refused(void **state) {
    (void)state;
    struct ds_error err;
    expect(try_open("/nonexistent/model", NULL, &err), DS_ERROR_IO, &err, "/nonexistent/model");
    char *folder = check_make_folder();
    assert_int_not_equal(try_open(folder, NULL, &err), DS_OK);
    check_contains(err.message, folder);
    check_remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_unchanged_model_opens),
        cmocka_unit_test(every_tensor_is_missed_by_name),
        cmocka_unit_test(every_tensor_of_another_shape_is_refused_with_both_shapes),
        cmocka_unit_test(a_tensor_with_more_dimensions_is_refused),
        cmocka_unit_test(weights_that_are_integers_are_refused),
        cmocka_unit_test(floats_of_every_kind_are_accepted),
        cmocka_unit_test(an_unknown_architecture_is_named_with_those_known),
        cmocka_unit_test(sizes_that_make_no_sense_are_refused_by_key),
        cmocka_unit_test(what_changes_the_result_and_is_not_implemented_is_refused),
        cmocka_unit_test(a_tensor_that_the_architecture_does_not_know_is_refused_by_name),
        cmocka_unit_test(tables_copies_and_parts_for_images_are_no_reason_to_refuse_a_file),
        cmocka_unit_test(a_head_of_its_own_is_used_when_the_file_has_one),
        cmocka_unit_test(a_tokenizer_with_more_ids_than_the_embedding_has_rows_is_a_mismatch),
        cmocka_unit_test(a_drafter_given_as_target_is_refused),
        cmocka_unit_test(paths_that_hold_no_model_are_refused),
    };
    return cmocka_run_group_tests_name("model_config", tests, NULL, NULL);
}
