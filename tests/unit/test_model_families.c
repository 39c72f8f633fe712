/*
 * Families beyond Qwen3, on the random targets of tests/golden: what changes their results and is not implemented is refused by key,
 * text parts of multimodal folders are the same model, layers that share keys and values are saved once.
 */
#include "streams.h"

#include "ckpt/checkpoint.h"

#include <jansson.h>

#define GOLDEN DSPARK_SOURCE_ROOT "/tests/golden/"

static json_t *config_of(const char *model) {
    char path[256];
    snprintf(path, sizeof path, GOLDEN "%s/config.json", model);
    json_error_t error;
    json_t *config = json_load_file(path, 0, &error);
    assert_non_null(config);
    return config;
}

static void write_config(const char *folder, const json_t *config) {
    char *text = json_dumps(config, 0);
    free(check_write_file(folder, "config.json", text, strlen(text)));
    free(text);
}

/* The model's folder with another configuration. */
static char *write_model(const char *model, const json_t *config) {
    char path[256], *data;
    size_t size;
    struct ds_error err;
    char *folder = check_make_folder();
    write_config(folder, config);
    snprintf(path, sizeof path, GOLDEN "%s/model.safetensors", model);
    check_ok(ds_os_read_file(path, 1 << 24, &data, &size, &err), &err);
    free(check_write_file(folder, "model.safetensors", data, size));
    free(data);
    return folder;
}

static ds_status try_folder(const char *folder, struct ds_error *err) {
    ds_engine_params params = ds_engine_defaults();
    params.target = folder;
    params.device = "ref";
    params.context = 64;
    ds_engine *engine;
    const ds_status status = ds_engine_open(&params, &engine, err);
    ds_engine_destroy(engine);
    return status;
}

/* A key of the configuration set to a value (NULL: taken out), and what the message must say (NULL: it opens). */
struct change {
    const char *model, *key, *json, *part;
};

static void check_change(const struct change *change) {
    json_t *config = config_of(change->model);
    if (change->json) json_object_set_new(config, change->key, json_loads(change->json, JSON_DECODE_ANY, NULL));
    else json_object_del(config, change->key);
    char *folder = write_model(change->model, config);
    struct ds_error err;
    const ds_status status = try_folder(folder, &err);
    if (!change->part) {
        check_ok(status, &err);
    } else {
        if (status == DS_OK) fail_msg("%s: %s = %s was accepted", change->model, change->key, change->json ? change->json : "nothing");
        check_contains(err.message, change->part);
    }
    check_remove_folder(folder);
    json_decref(config);
}

static void gemma_configurations_that_change_the_result_are_refused_by_key(void **state) {
    (void)state;
    static const struct change changes[] = {
        {"target-gemma3-text", "hidden_activation", "\"silu\"", "hidden_activation is 'silu'"},
        {"target-gemma3-text", "use_bidirectional_attention", "true", "use_bidirectional_attention"},
        {"target-gemma3-text", "attention_bias", "true", "attention_bias is true"},
        {"target-gemma3-text", "sliding_window", "null", "sliding_window"},
        {"target-gemma3-text", "layer_types", NULL, NULL}, /* then every sixth layer is global */
        {"target-gemma4-text", "use_bidirectional_attention", "\"vision\"", NULL},
        {"target-gemma4-text", "use_bidirectional_attention", "\"all\"", "use_bidirectional_attention"},
        {"target-gemma4-text", "layer_types", NULL, "layer_types is missing"},
        {"target-gemma4-text", "per_layer_config", "{\"2\": {\"head_dim\": 16}}", "per_layer_config.2.head_dim is 16; expected 32"},
        {"target-gemma4-text", "attention_k_eq_v", "false", "per_layer_config.2.num_key_value_heads is 1; expected 2"},
        {"target-gemma4-text", "num_kv_shared_layers", "4", "num_kv_shared_layers"},
        {"target-gemma4-text", "num_kv_shared_layers", "2", "layer 2 shares keys and values, but none of the first 2 layers is of its kind"},
        {"target-gemma4-text", "rope_parameters", "{\"full_attention\": {\"rope_type\": \"proportional\", \"partial_rotary_factor\": 0}}",
         "partial_rotary_factor is 0"},
        {"target-gemma4-text", "rope_parameters", "{\"full_attention\": {\"rope_type\": \"longrope\"}}", "rope scaling 'longrope'"},
        {"target-gemma4-ple", "vocab_size_per_layer_input", "100", "vocab_size_per_layer_input is 100"},
        {"target-gemma4-ple", "use_double_wide_mlp", "false", "mlp.gate_proj.weight"},
        {"target-gemma4-ple", "hidden_size_per_layer_input", "0", "is not part of a gemma4 model"},
        {"target-gemma4-moe", "enable_moe_block", "false", "is not part of a gemma4 model"},
        {"target-gemma4-moe", "top_k_experts", "9", "top_k_experts"},
        {"target-gemma4-moe", "num_experts", "9", "expected shape [9, 64]"},
    };
    for (size_t i = 0; i < DS_COUNT(changes); i++) check_change(&changes[i]);
}

static void llamas_mistrals_and_mixtures_are_checked_likewise(void **state) {
    (void)state;
    static const struct change changes[] = {
        {"target-mistral-swa", "sliding_window", "null", NULL}, /* as in version 0.2 and later */
        {"target-mistral-swa", "sliding_window", "-1", "sliding_window"},
        {"target-llama3-rope", "attention_bias", "true", "self_attn.q_proj.bias"},
        {"target-llama3-rope", "mlp_bias", "true", "mlp.gate_proj.bias"},
        {"target-llama3-rope", "rope_parameters", "{\"rope_type\": \"dynamic\", \"factor\": 2.0}", "rope scaling 'dynamic'"},
        {"target-qwen2", "use_sliding_window", "true", NULL}, /* no layer slides: the list says so */
        {"target-qwen2", "architectures", "[\"Qwen3ForCausalLM\"]", "self_attn.q_norm.weight"},
        {"target-qwen2", "architectures", "[\"LlamaForCausalLM\"]", "_proj.bias' is not part of a llama model"},
        {"target-qwen3-moe", "num_experts_per_tok", "9", "num_experts_per_tok"},
        {"target-qwen3-moe", "num_experts_per_tok", NULL, "num_experts_per_tok"},
        {"target-qwen3-moe", "num_local_experts", "7", "mlp.gate.weight"},
        {"target-qwen3-moe", "moe_intermediate_size", "32", "mlp.experts.0.gate_proj.weight"},
    };
    for (size_t i = 0; i < DS_COUNT(changes); i++) check_change(&changes[i]);
}

/* --- multimodal folders --- */

/* The tensors under other names: "model.x" becomes prefix + "x". */
static void write_renamed(const char *model, const char *folder, const char *prefix) {
    char path[256];
    snprintf(path, sizeof path, GOLDEN "%s", model);
    struct ds_ckpt *ckpt;
    struct ds_error err;
    check_ok(ds_ckpt_open(path, &ckpt, &err), &err);
    const size_t count = ds_ckpt_tensor_count(ckpt);
    struct ds_safetensors_array *arrays = calloc(count + 1, sizeof *arrays);
    char(*names)[128] = calloc(count, sizeof *names);
    assert_true(arrays && names);
    for (size_t i = 0; i < count; i++) {
        const struct ds_ckpt_tensor *t = ds_ckpt_tensor_at(ckpt, i);
        snprintf(names[i], sizeof names[i], "%s%s", prefix, t->name + strlen("model."));
        arrays[i] = (struct ds_safetensors_array){.name = names[i], .type = t->type, .dims = t->dims, .data = t->data};
        memcpy(arrays[i].shape, t->shape, sizeof t->shape);
    }
    static const float patch[4] = {1, 2, 3, 4};
    arrays[count] = (struct ds_safetensors_array){.name = "model.vision_tower.patch.weight", .type = DS_TYPE_F32, .dims = 1, .shape = {4}, .data = patch};
    char *file = ds_os_join(folder, "model.safetensors");
    check_ok(ds_safetensors_write(file, arrays, count + 1, &err), &err);
    free(file);
    free(names);
    free(arrays);
    ds_ckpt_close(ckpt);
}

static const ds_token prompt[] = {3, 1, 41, 59, 26, 5, 35, 8, 97, 93, 23, 84, 62, 64, 33, 83};

static struct stream greedy_stream(const char *target) {
    ds_engine_params params = ds_engine_defaults();
    params.target = target;
    params.device = "ref";
    params.context = 128;
    ds_engine *engine = open_engine(&params);
    ds_session_params session_params = ds_session_defaults();
    session_params.ignore_stop = true;
    ds_session *session = new_session(engine, &session_params);
    append(session, prompt, DS_COUNT(prompt));
    generate(session, 12);
    const struct stream stream = stream_of(session);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
    return stream;
}

static void the_text_part_of_a_multimodal_folder_is_the_same_model(void **state) {
    (void)state;
    static const struct {
        const char *model, *architecture, *prefix;
    } cases[] = {{"target-gemma3-text", "Gemma3ForConditionalGeneration", "model.language_model."},
                 {"target-gemma3-text", "Gemma3ForConditionalGeneration", "language_model.model."},
                 {"target-gemma4-moe", "Gemma4ForConditionalGeneration", "model.language_model."}};
    for (size_t i = 0; i < DS_COUNT(cases); i++) {
        json_t *config = json_pack("{s:[s], s:o}", "architectures", cases[i].architecture, "text_config", config_of(cases[i].model));
        char *folder = check_make_folder(), plain[256];
        write_config(folder, config);
        write_renamed(cases[i].model, folder, cases[i].prefix);
        snprintf(plain, sizeof plain, GOLDEN "%s", cases[i].model);
        const struct stream expected = greedy_stream(plain), got = greedy_stream(folder);
        same_stream(&expected, &got);
        check_remove_folder(folder);
        json_decref(config);
    }
}

/* --- the cache --- */

static void a_saved_session_with_shared_keys_and_values_goes_on_with_the_same_stream(void **state) {
    (void)state;
    ds_engine_params params = ds_engine_defaults();
    params.target = GOLDEN "target-gemma4-ple";
    params.device = "ref";
    params.context = 128;
    params.max_sessions = 2;
    ds_engine *engine = open_engine(&params);
    ds_session_params session_params = ds_session_defaults();
    session_params.ignore_stop = true;
    ds_session *session = new_session(engine, &session_params), *again = new_session(engine, &session_params);
    append(session, prompt, DS_COUNT(prompt));
    generate(session, 60);
    char *folder = check_make_folder(), *path = ds_os_join(folder, "session");
    struct ds_error err;
    check_ok(ds_session_save(session, path, &err), &err);
    check_ok(ds_session_load(again, path, &err), &err);
    generate(session, 20);
    generate(again, 20);
    const struct stream expected = stream_of(session), got = stream_of(again);
    same_stream(&expected, &got);
    ds_session_destroy(session);
    ds_session_destroy(again);
    ds_engine_destroy(engine);
    free(path);
    check_remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gemma_configurations_that_change_the_result_are_refused_by_key),
        cmocka_unit_test(llamas_mistrals_and_mixtures_are_checked_likewise),
        cmocka_unit_test(the_text_part_of_a_multimodal_folder_is_the_same_model),
        cmocka_unit_test(a_saved_session_with_shared_keys_and_values_goes_on_with_the_same_stream),
    };
    return cmocka_run_group_tests_name("model_families", tests, NULL, NULL);
}
