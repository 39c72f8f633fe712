/* Folders, configurations and the checked readers: what is there is found, what is not is named. */
#include "byte_writer.h"
#include "ckpt/checkpoint.h"

/* A file with these F32 tensors of one element each. */
static void write_tensors(const char *folder, const char *name, const char *const *tensors, size_t count) {
    struct ds_safetensors_array arrays[4];
    static const float one = 1.0f;
    struct ds_error err;
    assert_true(count <= DS_COUNT(arrays));
    for (size_t i = 0; i < count; i++)
        arrays[i] = (struct ds_safetensors_array){.name = tensors[i], .dims = 1, .shape = {1}, .data = &one};
    char *path = ds_os_join(folder, name);
    check_ok(ds_safetensors_write(path, arrays, count, &err), &err);
    free(path);
}

static struct ds_ckpt *open_good(const char *path) {
    struct ds_ckpt *ckpt;
    struct ds_error err;
    check_ok(ds_ckpt_open(path, &ckpt, &err), &err);
    return ckpt;
}

static void refuse(const char *path, ds_status expected, const char *part) {
    struct ds_ckpt *ckpt;
    struct ds_error err;
    assert_int_equal(ds_ckpt_open(path, &ckpt, &err), expected);
    assert_null(ckpt);
    check_contains(err.message, path);
    check_contains(err.message, part);
}

/* A folder with one tensor "x" and this config.json (NULL: none). */
static char *make_model(const char *config) {
    char *folder = check_make_folder();
    write_tensors(folder, "model.safetensors", (const char *[]){"x"}, 1);
    if (config) check_write_text(folder, "config.json", config);
    return folder;
}

/* --- configuration --- */

static void configurations_are_flat_and_generation_has_a_prefix(void **state) {
    (void)state;
    char *folder = make_model(
        "{\"a\": 1, \"rope\": {\"theta\": 1e6, \"deep\": {\"s\": \"\\u0000x\"}}, \"none\": null, \"empty\": {},"
        " \"ints\": [1, 2], \"reals\": [1, 2.5], \"flags\": [true], \"texts\": [\"p\", \"q\"], \"mixed\": [1, \"a\"],"
        " \"nested\": [[1]], \"nothing\": []}");
    check_write_text(folder, "generation_config.json", "{\"eos_token_id\": [3, 4]}");
    struct ds_ckpt *ckpt = open_good(folder);
    assert_int_equal(ds_ckpt_get_format(ckpt), DS_CKPT_SAFETENSORS);
    assert_int_equal(ds_ckpt_value(ckpt, "a")->integer, 1);
    const struct ds_value *theta = ds_ckpt_value(ckpt, "rope.theta");
    assert_true(theta->kind == DS_VALUE_REAL && theta->integer == 1000000);
    assert_int_equal(ds_ckpt_value(ckpt, "rope.deep.s")->length, 2);
    assert_int_equal(ds_ckpt_value(ckpt, "none")->kind, DS_VALUE_NULL);
    assert_null(ds_ckpt_value(ckpt, "rope"));
    assert_null(ds_ckpt_value(ckpt, "empty"));
    assert_true(((const double *)ds_ckpt_value(ckpt, "reals")->array)[0] == 1.0);
    assert_true(((const bool *)ds_ckpt_value(ckpt, "flags")->array)[0]);
    assert_memory_equal(((const struct ds_text *)ds_ckpt_value(ckpt, "texts")->array)[1].data, "q", 1);
    static const char *const odd[] = {"mixed", "nested"};
    for (size_t i = 0; i < DS_COUNT(odd); i++) {
        const struct ds_value *value = ds_ckpt_value(ckpt, odd[i]);
        assert_true(value->kind == DS_VALUE_ARRAY && value->mixed && value->length == 0 && value->element == DS_VALUE_NULL);
    }
    assert_false(ds_ckpt_value(ckpt, "nothing")->mixed);
    assert_int_equal(ds_ckpt_value(ckpt, "generation_config.eos_token_id")->length, 2);
    ds_ckpt_close(ckpt);
    check_remove_folder(folder);
}

static void malformed_configurations_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *config, *part;
        ds_status status;
    } cases[] = {
        {"{\"a\": ", "config.json: not valid JSON: line 1", DS_ERROR_FORMAT},
        {"[1]", "config.json: expected a JSON object, found an array", DS_ERROR_FORMAT},
        {"{\"a\": 1, \"a\": 2}", "duplicate", DS_ERROR_FORMAT},
        {"{\"a.b\": 1, \"a\": {\"b\": 2}}", "config.json: key 'a.b' occurs twice", DS_ERROR_FORMAT},
        {"{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{"
         "\"a\":1}"
         "}}}}}}}}}}}}}}}}",
         "nested at most 16 deep", DS_ERROR_LIMIT},
    };
    for (size_t i = 0; i < DS_COUNT(cases); i++) {
        char *folder = make_model(cases[i].config);
        refuse(folder, cases[i].status, cases[i].part);
        check_remove_folder(folder);
    }
}

static void integers_beyond_64_bits_become_reals(void **state) {
    (void)state;
    char *folder = make_model("{\"model_max_length\": 1000000000000000019884624838656, \"layers\": 36}");
    struct ds_ckpt *ckpt = open_good(folder);
    struct ds_error err;
    int64_t layers;
    assert_true(ds_ckpt_value(ckpt, "model_max_length")->real == 1e30);
    check_ok(ds_ckpt_int(ckpt, "layers", 1, 100, &layers, &err), &err);
    assert_int_equal(layers, 36);
    ds_ckpt_close(ckpt);
    check_remove_folder(folder);
}

/* --- checked readers --- */

static const char readers_config[] =
    "{\"i\": 7, \"whole\": 8.0, \"half\": 0.5, \"s\": \"text\", \"nul\": \"a\\u0000b\", \"t\": true,"
    " \"null\": null, \"ints\": [1, 5], \"reals\": [0.5], \"mixed\": [1, null], \"empty\": []}";

static void readers_give_what_is_in_range(void **state) {
    (void)state;
    char *folder = make_model(readers_config);
    struct ds_ckpt *ckpt = open_good(folder);
    struct ds_error err;
    int64_t i;
    double r;
    bool b;
    const char *s;
    const int64_t *ints;
    size_t count;
    check_ok(ds_ckpt_int(ckpt, "i", 7, 7, &i, &err), &err);
    assert_int_equal(i, 7);
    check_ok(ds_ckpt_int(ckpt, "whole", 0, 10, &i, &err), &err);
    assert_int_equal(i, 8);
    check_ok(ds_ckpt_real(ckpt, "half", 0.0, 1.0, &r, &err), &err);
    assert_true(r == 0.5);
    check_ok(ds_ckpt_real(ckpt, "i", 0.0, 10.0, &r, &err), &err);
    assert_true(r == 7.0);
    check_ok(ds_ckpt_string(ckpt, "s", &s, &err), &err);
    assert_string_equal(s, "text");
    check_ok(ds_ckpt_bool_or(ckpt, "t", false, &b, &err), &err);
    assert_true(b);
    check_ok(ds_ckpt_ints(ckpt, "ints", 1, 2, 1, 5, &ints, &count, &err), &err);
    assert_true(count == 2 && ints[1] == 5);
    check_ok(ds_ckpt_ints(ckpt, "empty", 0, 2, 1, 5, &ints, &count, &err), &err);
    assert_int_equal(count, 0);
    ds_ckpt_close(ckpt);
    check_remove_folder(folder);
}

static void defaults_stand_for_absent_and_null_only(void **state) {
    (void)state;
    char *folder = make_model(readers_config);
    struct ds_ckpt *ckpt = open_good(folder);
    static const char *const absent[] = {"nowhere", "null"};
    struct ds_error err;
    int64_t i;
    double r;
    bool b;
    const char *s;
    for (size_t k = 0; k < DS_COUNT(absent); k++) {
        check_ok(ds_ckpt_int_or(ckpt, absent[k], 0, 1, -5, &i, &err), &err);
        check_ok(ds_ckpt_real_or(ckpt, absent[k], 0, 1, -5.5, &r, &err), &err);
        check_ok(ds_ckpt_bool_or(ckpt, absent[k], true, &b, &err), &err);
        check_ok(ds_ckpt_string_or(ckpt, absent[k], "default", &s, &err), &err);
        assert_true(i == -5 && r == -5.5 && b);
        assert_string_equal(s, "default");
    }
    assert_int_equal(ds_ckpt_int_or(ckpt, "s", 0, 1, 0, &i, &err), DS_ERROR_FORMAT);
    assert_int_equal(ds_ckpt_int_or(ckpt, "i", 0, 1, 0, &i, &err), DS_ERROR_FORMAT);
    assert_int_equal(ds_ckpt_real_or(ckpt, "t", 0, 1, 0, &r, &err), DS_ERROR_FORMAT);
    assert_int_equal(ds_ckpt_bool_or(ckpt, "i", false, &b, &err), DS_ERROR_FORMAT);
    assert_int_equal(ds_ckpt_string_or(ckpt, "i", "", &s, &err), DS_ERROR_FORMAT);
    ds_ckpt_close(ckpt);
    check_remove_folder(folder);
}

static void refusals_name_file_key_expected_and_found(void **state) {
    (void)state;
    char *folder = make_model(readers_config), *config = ds_os_join(folder, "config.json");
    struct ds_ckpt *ckpt = open_good(folder);
    struct ds_error err;
    int64_t i;
    double r;
    const char *s;
    const int64_t *ints;
    size_t count;
#define REFUSED(call, part)                                                                                                    \
    do {                                                                                                                       \
        assert_int_equal(call, DS_ERROR_FORMAT);                                                                               \
        check_contains(err.message, config);                                                                                   \
        check_contains(err.message, part);                                                                                     \
    } while (0)
    REFUSED(ds_ckpt_int(ckpt, "nowhere", 1, 9, &i, &err), "key 'nowhere' is missing: expected an integer from 1 to 9");
    REFUSED(ds_ckpt_int(ckpt, "null", 1, 9, &i, &err), "key 'null': expected an integer from 1 to 9, found null");
    REFUSED(ds_ckpt_int(ckpt, "i", 8, 9, &i, &err), "key 'i': expected an integer from 8 to 9, found 7");
    REFUSED(ds_ckpt_int(ckpt, "half", 0, 9, &i, &err), "found 0.5");
    REFUSED(ds_ckpt_int(ckpt, "s", 0, 9, &i, &err), "found the string 'text'");
    REFUSED(ds_ckpt_int(ckpt, "ints", 0, 9, &i, &err), "found an array of 2 integers");
    REFUSED(ds_ckpt_real(ckpt, "half", 1.0, 2.0, &r, &err), "key 'half': expected a number from 1 to 2, found 0.5");
    REFUSED(ds_ckpt_string(ckpt, "i", &s, &err), "key 'i': expected a string, found 7");
    REFUSED(ds_ckpt_string(ckpt, "nul", &s, &err), "without NUL characters, found the string 'a\\x00b'");
    REFUSED(ds_ckpt_ints(ckpt, "ints", 3, 3, 0, 9, &ints, &count, &err), "an array of 3 to 3 integers from 0 to 9");
    REFUSED(ds_ckpt_ints(ckpt, "ints", 1, 3, 0, 4, &ints, &count, &err), "found 5 as element 1");
    REFUSED(ds_ckpt_ints(ckpt, "reals", 1, 3, 0, 4, &ints, &count, &err), "found an array of 1 numbers");
    REFUSED(ds_ckpt_ints(ckpt, "mixed", 0, 3, 0, 4, &ints, &count, &err), "elements of mixed kinds");
    REFUSED(ds_ckpt_ints(ckpt, "i", 0, 3, 0, 9, &ints, &count, &err), "found 7");
#undef REFUSED
    ds_ckpt_close(ckpt);
    free(config);
    check_remove_folder(folder);
}

static void a_missing_configuration_is_said_to_be_missing(void **state) {
    (void)state;
    char *folder = make_model(NULL);
    struct ds_ckpt *ckpt = open_good(folder);
    struct ds_error err;
    int64_t i;
    assert_int_equal(ds_ckpt_int(ckpt, "vocab_size", 1, 9, &i, &err), DS_ERROR_FORMAT);
    check_contains(err.message, "config.json: key 'vocab_size' is missing (there is no such file)");
    ds_ckpt_close(ckpt);
    check_remove_folder(folder);
}

static void tensors_of_another_shape_are_refused_by_name(void **state) {
    (void)state;
    char *folder = make_model(NULL);
    struct ds_ckpt *ckpt = open_good(folder);
    const struct ds_ckpt_tensor *tensor;
    struct ds_error err;
    check_ok(ds_ckpt_require(ckpt, "x", 1, (const uint64_t[]){1}, &tensor, &err), &err);
    assert_string_equal(tensor->name, "x");
    assert_int_equal(ds_ckpt_require(ckpt, "x", 2, (const uint64_t[]){1, 1}, &tensor, &err), DS_ERROR_FORMAT);
    check_contains(err.message, "model.safetensors: tensor 'x': expected shape [1, 1], found [1]");
    assert_null(tensor);
    assert_int_equal(ds_ckpt_require(ckpt, "y", 2, (const uint64_t[]){5, 6}, &tensor, &err), DS_ERROR_FORMAT);
    check_contains(err.message, "tensor 'y' is missing: expected one of shape [5, 6]");
    ds_ckpt_close(ckpt);
    check_remove_folder(folder);
}

/* --- folders of several files --- */

static char *make_shards(const char *index) {
    char *folder = check_make_folder();
    write_tensors(folder, "model-00001-of-00002.safetensors", (const char *[]){"a", "b"}, 2);
    write_tensors(folder, "model-00002-of-00002.safetensors", (const char *[]){"c"}, 1);
    if (index) check_write_text(folder, "model.safetensors.index.json", index);
    return folder;
}

static void shards_are_one_checkpoint_with_and_without_an_index(void **state) {
    (void)state;
    static const char *const indices[] = {NULL, "{\"weight_map\": {\"c\": \"model-00002-of-00002.safetensors\","
                                                "\"a\": \"model-00001-of-00002.safetensors\"}}"};
    for (size_t i = 0; i < DS_COUNT(indices); i++) {
        char *folder = make_shards(indices[i]);
        struct ds_ckpt *ckpt = open_good(folder);
        assert_int_equal(ds_ckpt_file_count(ckpt), 2);
        assert_int_equal(ds_ckpt_tensor_count(ckpt), 3);
        assert_int_equal(ds_ckpt_find(ckpt, "a")->file, 0);
        assert_int_equal(ds_ckpt_find(ckpt, "c")->file, 1);
        ds_ckpt_release(ckpt, ds_ckpt_find(ckpt, "c"));
        float value;
        ds_dequantize_row(DS_TYPE_F32, ds_ckpt_find(ckpt, "c")->data, 1, &value);
        assert_true(value == 1.0f);
        ds_ckpt_close(ckpt);
        check_remove_folder(folder);
    }
}

static void indices_that_do_not_fit_their_files_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *index, *part;
        ds_status status;
    } cases[] = {
        {"{}", "'weight_map': expected an object with members, found nothing", DS_ERROR_FORMAT},
        {"{\"weight_map\": {}}", "'weight_map'", DS_ERROR_FORMAT},
        {"{\"weight_map\": {\"a\": 1}}", "tensor 'a': expected a file's name, found a number", DS_ERROR_FORMAT},
        {"{\"weight_map\": {\"a\": \"../model-00001-of-00002.safetensors\"}}", "plain name", DS_ERROR_FORMAT},
        {"{\"weight_map\": {\"a\": \"/etc/passwd\"}}", "plain name", DS_ERROR_FORMAT},
        {"{\"weight_map\": {\"a\": \"..\"}}", "plain name", DS_ERROR_FORMAT},
        {"{\"weight_map\": {\"a\": \"x\\u0000.safetensors\"}}", "plain name", DS_ERROR_FORMAT},
        {"{\"weight_map\": {\"a\": \"absent.safetensors\"}}", "absent.safetensors", DS_ERROR_IO},
        {"{\"weight_map\": {\"c\": \"model-00001-of-00002.safetensors\"}}", "expected tensor 'c' in", DS_ERROR_FORMAT},
    };
    for (size_t i = 0; i < DS_COUNT(cases); i++) {
        char *folder = make_shards(cases[i].index);
        refuse(folder, cases[i].status, cases[i].part);
        check_remove_folder(folder);
    }
}

static void a_tensor_in_two_files_is_refused(void **state) {
    (void)state;
    char *folder = make_shards(NULL);
    write_tensors(folder, "other.safetensors", (const char *[]){"c"}, 1);
    refuse(folder, DS_ERROR_FORMAT, "other.safetensors: tensor 'c' occurs twice");
    check_remove_folder(folder);
}

static void paths_without_a_model_are_refused_helpfully(void **state) {
    (void)state;
    char *folder = check_make_folder();
    refuse("/nonexistent/model", DS_ERROR_IO, "does not exist");
    refuse(folder, DS_ERROR_FORMAT, "expected *.safetensors in this folder, found none");
    check_write_text(folder, "model.gguf", "");
    refuse(folder, DS_ERROR_FORMAT, "give its own path, such as model.gguf");
    char *text = check_write_file(folder, "notes.txt", "some text", 9);
    refuse(text, DS_ERROR_FORMAT, "found 9 bytes that start with 'some tex'");
    free(text);
    check_remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(configurations_are_flat_and_generation_has_a_prefix),
        cmocka_unit_test(malformed_configurations_are_refused),
        cmocka_unit_test(integers_beyond_64_bits_become_reals),
        cmocka_unit_test(readers_give_what_is_in_range),
        cmocka_unit_test(defaults_stand_for_absent_and_null_only),
        cmocka_unit_test(refusals_name_file_key_expected_and_found),
        cmocka_unit_test(a_missing_configuration_is_said_to_be_missing),
        cmocka_unit_test(tensors_of_another_shape_are_refused_by_name),
        cmocka_unit_test(shards_are_one_checkpoint_with_and_without_an_index),
        cmocka_unit_test(indices_that_do_not_fit_their_files_are_refused),
        cmocka_unit_test(a_tensor_in_two_files_is_refused),
        cmocka_unit_test(paths_without_a_model_are_refused_helpfully),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
}
