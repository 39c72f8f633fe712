/* Conversion: what goes in comes out, wherever it comes from and however many threads work; what cannot is refused by name. */
#include "conversions.h"
#include "text/tokenizer.h"

/* --- tensors --- */

static void float_types_keep_every_weight(void **state) {
    const struct scratch *s = *state;
    static const char *const types[] = {"f32", "bf16"};
    static const char *const pairs[][2] = {{"model.embed_tokens.weight", "token_embd.weight"},
                                           {"model.norm.weight", "output_norm.weight"},
                                           {"model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight"},
                                           {"model.layers.0.self_attn.k_norm.weight", "blk.0.attn_k_norm.weight"},
                                           {"model.layers.3.mlp.down_proj.weight", "blk.3.ffn_down.weight"},
                                           {"model.layers.7.post_attention_layernorm.weight", "blk.7.ffn_norm.weight"}};
    struct ds_ckpt *original = open_ckpt(target_folder);
    for (size_t t = 0; t < DS_COUNT(types); t++) {
        convert_simply(target_folder, s->path, types[t]);
        struct ds_ckpt *made = open_ckpt(s->path);
        assert_int_equal(ds_ckpt_tensor_count(made), ds_ckpt_tensor_count(original));
        for (size_t i = 0; i < DS_COUNT(pairs); i++) assert_same_values(original, pairs[i][0], made, pairs[i][1]);
        assert_int_equal(ds_ckpt_find(made, "output_norm.weight")->type, DS_TYPE_F32);
        ds_ckpt_close(made);
    }
    ds_ckpt_close(original);
}

static void threads_change_no_byte(void **state) {
    const struct scratch *s = *state;
    ds_convert_params params = params_of(target_folder, s->path, "q4_0");
    params.threads = 1;
    convert(&params);
    params.output = s->other;
    params.threads = 5;
    convert(&params);
    assert_same_files(s->path, s->other);
}

static void a_gguf_file_converted_to_its_own_type_stays_as_it_is(void **state) {
    const struct scratch *s = *state;
    convert_simply(target_folder, s->path, "q8_0");
    convert_simply(s->path, s->other, "q8_0");
    struct ds_ckpt *a = open_ckpt(s->path), *b = open_ckpt(s->other);
    assert_int_equal(ds_ckpt_value_count(a), ds_ckpt_value_count(b));
    for (size_t i = 0; i < ds_ckpt_tensor_count(a); i++) {
        const struct ds_ckpt_tensor *x = ds_ckpt_tensor_at(a, i), *y = ds_ckpt_find(b, x->name);
        assert_true(y && y->type == x->type && y->bytes == x->bytes && memcmp(x->data, y->data, (size_t)x->bytes) == 0);
    }
    ds_ckpt_close(a);
    ds_ckpt_close(b);
}

static void both_containers_give_the_same_file(void **state) {
    const struct scratch *s = *state;
    convert_simply(target_folder, s->path, "bf16");
    convert_simply(s->path, s->other, "q4_k");
    convert_simply(target_folder, s->path, "q4_k");
    struct ds_ckpt *direct = open_ckpt(s->path), *over = open_ckpt(s->other);
    for (size_t i = 0; i < ds_ckpt_tensor_count(direct); i++) {
        const struct ds_ckpt_tensor *x = ds_ckpt_tensor_at(direct, i), *y = ds_ckpt_find(over, x->name);
        assert_true(y && y->bytes == x->bytes && memcmp(x->data, y->data, (size_t)x->bytes) == 0);
    }
    ds_ckpt_close(direct);
    ds_ckpt_close(over);
}

/* Rows of 48 and of 8 are no whole blocks of any quantised type, rows of 32 are none of 256. */
static void rows_that_are_no_whole_blocks_get_another_type(void **state) {
    const struct scratch *s = *state;
    struct tiny_model m = tiny_target();
    char *folder = tiny_write(&m);
    convert_simply(folder, s->path, "q4_k_m");
    struct ds_ckpt *ckpt = open_ckpt(s->path);
    assert_int_equal(ds_ckpt_find(ckpt, "blk.0.attn_q.weight")->type, DS_TYPE_Q8_0);
    assert_int_equal(ds_ckpt_find(ckpt, "blk.0.ffn_down.weight")->type, DS_TYPE_BF16);
    ds_ckpt_close(ckpt);
    check_remove_folder(folder);
}

/* --- the tokenizer --- */

static void check_case(const struct ds_tokenizer *tokenizer, const json_t *line) {
    const json_t *text = json_object_get(line, "text"), *expected = json_object_get(line, "ids");
    struct ds_ids ids = {0};
    struct ds_error err;
    check_ok(ds_tokenizer_encode(tokenizer, json_string_value(text), json_string_length(text), json_is_true(json_object_get(line, "parse_special")),
                                 &ids, &err), &err);
    assert_int_equal(ids.count, json_array_size(expected));
    for (size_t i = 0; i < ids.count; i++) assert_int_equal(ids.ids[i], json_integer_value(json_array_get(expected, i)));
    free(ids.ids);
}

static void the_tokenizer_gives_the_golden_ids(void **state) {
    const struct scratch *s = *state;
    convert_simply(target_folder, s->path, "q8_0");
    struct ds_ckpt *ckpt = open_ckpt(s->path);
    struct ds_tokenizer *tokenizer;
    struct ds_error err;
    check_ok(ds_tokenizer_open(ckpt, &tokenizer, &err), &err);
    FILE *file = fopen(DSPARK_SOURCE_ROOT "/tests/golden/tokenizer/pair/cases.jsonl", "r");
    assert_non_null(file);
    char *line = NULL;
    size_t capacity = 0, cases = 0;
    for (ssize_t n; (n = getline(&line, &capacity, file)) > 0; cases++) {
        json_t *value = json_loadb(line, (size_t)n, JSON_ALLOW_NUL, NULL);
        assert_non_null(value);
        check_case(tokenizer, value);
        json_decref(value);
    }
    assert_int_equal(cases, 400);
    free(line);
    fclose(file);
    assert_int_equal(ds_tokenizer_eos(tokenizer), 4092);
    assert_int_equal(ds_tokenizer_bos(tokenizer), -1);
    assert_non_null(ds_tokenizer_chat_template(tokenizer));
    ds_tokenizer_close(tokenizer);
    ds_ckpt_close(ckpt);
}

/* --- what is refused --- */

static void assert_refused(const struct scratch *s, const ds_convert_params *params, ds_status status, const char *part) {
    struct ds_error err;
    assert_int_equal(ds_convert(params, NULL, NULL, NULL, &err), status);
    check_contains(err.message, part);
    assert_nothing_written(s);
}

static void unknown_types_and_names_are_refused(void **state) {
    const struct scratch *s = *state;
    ds_convert_params params = params_of(target_folder, s->path, "q9_9");
    assert_refused(s, &params, DS_ERROR_ARGUMENT, "q4_k_m");
    params.type = "q8_0";
    params.pre = "nonsense";
    assert_refused(s, &params, DS_ERROR_ARGUMENT, "qwen2");
    params.pre = NULL;
    params.input = DSPARK_SOURCE_ROOT "/absent";
    assert_refused(s, &params, DS_ERROR_IO, "absent");
    params.input = target_folder;
    params.target = target_folder;
    assert_refused(s, &params, DS_ERROR_ARGUMENT, "not a drafter");
    params.target = NULL;
    params.size = 3;
    assert_refused(s, &params, DS_ERROR_ARGUMENT, "size");
}

static void a_tensor_that_is_not_known_is_refused(void **state) {
    const struct scratch *s = *state;
    struct tiny_model m = tiny_target();
    tiny_add(&m, "model.layers.0.self_attn.q_proj.bias", 1, 64, 1);
    char *folder = tiny_write(&m);
    const ds_convert_params params = params_of(folder, s->path, "bf16");
    assert_refused(s, &params, DS_ERROR_UNSUPPORTED, "q_proj.bias");
    check_remove_folder(folder);
}

static void a_missing_tensor_is_refused(void **state) {
    const struct scratch *s = *state;
    struct tiny_model m = tiny_drafter();
    tiny_drop(&m, "fc.weight");
    char *folder = tiny_write(&m);
    const ds_convert_params params = params_of(folder, s->path, "bf16");
    assert_refused(s, &params, DS_ERROR_FORMAT, "fc.weight");
    check_remove_folder(folder);
}

static void a_weight_that_the_type_cannot_hold_is_refused(void **state) {
    const struct scratch *s = *state;
    struct tiny_model m = tiny_target();
    char *folder = tiny_write(&m), *path = ds_os_join(folder, "model.safetensors");
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    const uint8_t nan[2] = {0xC0, 0x7F};
    assert_int_equal(fseek(file, -2L * TINY_HIDDEN * TINY_WIDTH, SEEK_END), 0); /* the last tensor: down_proj of layer 2 */
    assert_int_equal(fwrite(nan, 1, 2, file), 2);
    assert_int_equal(fclose(file), 0);
    ds_convert_params params = params_of(folder, s->path, "f16");
    assert_refused(s, &params, DS_ERROR_FORMAT, "model.layers.2.mlp.down_proj.weight");
    params.type = "bf16"; /* copied as it is */
    convert(&params);
    free(path);
    check_remove_folder(folder);
}

static bool give_up(void *user, uint64_t done, uint64_t total) {
    unsigned *calls = user;
    assert_true(done <= total);
    return ++*calls < 3;
}

static void a_conversion_given_up_leaves_nothing_behind(void **state) {
    const struct scratch *s = *state;
    const ds_convert_params params = params_of(target_folder, s->path, "q8_0");
    struct ds_error err;
    unsigned calls = 0;
    assert_int_equal(ds_convert(&params, give_up, &calls, NULL, &err), DS_ERROR_CANCELLED);
    assert_int_equal(calls, 3);
    assert_nothing_written(s);
}

static bool count_up(void *user, uint64_t done, uint64_t total) {
    uint64_t *last = user;
    assert_true(done > last[0] && done <= total);
    last[0] = done;
    last[1] = total;
    return true;
}

static void progress_ends_at_the_total(void **state) {
    const struct scratch *s = *state;
    const ds_convert_params params = params_of(target_folder, s->path, "q8_0");
    ds_convert_stats stats = {.size = sizeof stats};
    struct ds_error err;
    uint64_t last[2] = {0};
    check_ok(ds_convert(&params, count_up, last, &stats, &err), &err);
    assert_true(last[0] == last[1] && last[0] == stats.source_bytes);
    assert_int_equal(stats.tensors, 90);
    assert_int_equal(stats.elements, 7345408);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(float_types_keep_every_weight),
        TEST(threads_change_no_byte),
        TEST(a_gguf_file_converted_to_its_own_type_stays_as_it_is),
        TEST(both_containers_give_the_same_file),
        TEST(rows_that_are_no_whole_blocks_get_another_type),
        TEST(the_tokenizer_gives_the_golden_ids),
        TEST(unknown_types_and_names_are_refused),
        TEST(a_tensor_that_is_not_known_is_refused),
        TEST(a_missing_tensor_is_refused),
        TEST(a_weight_that_the_type_cannot_hold_is_refused),
        TEST(a_conversion_given_up_leaves_nothing_behind),
        TEST(progress_ends_at_the_total),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
