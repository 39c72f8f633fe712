/* What the GGUF writer writes is what the reader finds, and a file that is not complete does not appear. */
#include "ckpt/gguf_writer.h"
#include "check.h"

static struct ds_gguf_writer *make(void) {
    struct ds_gguf_writer *writer = ds_gguf_writer_create();
    assert_non_null(writer);
    return writer;
}

static void add_tensor(struct ds_gguf_writer *writer, const char *name, ds_type type, uint32_t dims, uint64_t rows, uint64_t cols) {
    struct ds_error err;
    const uint64_t shape[2] = {dims == 2 ? rows : cols, cols};
    check_ok(ds_gguf_add_tensor(writer, name, type, dims, shape, &err), &err);
}

static void assert_folder_holds(const char *folder, size_t expected) {
    struct ds_error err;
    char **names;
    size_t count;
    check_ok(ds_os_list_folder(folder, &names, &count, &err), &err);
    ds_os_free_names(names, count);
    assert_int_equal(count, expected);
}

struct scratch {
    char *folder, *path;
};

static int set_up(void **state) {
    struct scratch *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->folder = check_make_folder();
    s->path = ds_os_join(s->folder, "out.gguf");
    *state = s;
    return 0;
}

static int tear_down(void **state) {
    struct scratch *s = *state;
    check_remove_folder(s->folder);
    free(s->path);
    free(s);
    return 0;
}

static void add_one_key_of_each_kind(struct ds_gguf_writer *writer) {
    struct ds_error err;
    const int32_t numbers[] = {-1, 0, INT32_MAX};
    const struct ds_text texts[] = {{"a", 1}, {"", 0}, {"\xC4\xA0" "b", 3}};
    check_ok(ds_gguf_add_string(writer, "general.architecture", "x", 1, &err), &err);
    check_ok(ds_gguf_add_bool(writer, "a.bool", true, &err), &err);
    check_ok(ds_gguf_add_u32(writer, "a.u32", UINT32_MAX, &err), &err);
    check_ok(ds_gguf_add_f32(writer, "a.f32", 0.1f, &err), &err);
    check_ok(ds_gguf_add_i32s(writer, "a.i32s", numbers, 3, &err), &err);
    check_ok(ds_gguf_add_strings(writer, "a.strings", texts, 3, &err), &err);
    check_ok(ds_gguf_add_strings(writer, "a.none", NULL, 0, &err), &err);
}

static void check_keys(const struct ds_ckpt *ckpt) {
    assert_int_equal(ds_ckpt_value_count(ckpt), 7);
    assert_string_equal(ds_ckpt_value(ckpt, "general.architecture")->string, "x");
    assert_true(ds_ckpt_value(ckpt, "a.bool")->boolean);
    assert_true(ds_ckpt_value(ckpt, "a.u32")->integer == UINT32_MAX);
    assert_true(ds_ckpt_value(ckpt, "a.f32")->real == (double)0.1f);
    const int64_t *numbers = ds_ckpt_value(ckpt, "a.i32s")->array;
    assert_true(numbers[0] == -1 && numbers[1] == 0 && numbers[2] == INT32_MAX);
    const struct ds_text *texts = ds_ckpt_value(ckpt, "a.strings")->array;
    assert_true(texts[1].length == 0 && texts[2].length == 3);
    assert_memory_equal(texts[2].data, "\xC4\xA0" "b", 3);
    assert_int_equal(ds_ckpt_value(ckpt, "a.none")->length, 0);
}

static void keys_and_tensors_come_back_as_they_were_written(void **state) {
    const struct scratch *s = *state;
    struct ds_error err;
    struct ds_gguf_writer *writer = make();
    add_one_key_of_each_kind(writer);
    add_tensor(writer, "small", DS_TYPE_F32, 1, 1, 3); /* 12 bytes: padding follows */
    add_tensor(writer, "wide", DS_TYPE_Q8_0, 2, 2, 64);
    add_tensor(writer, "last", DS_TYPE_BF16, 2, 1, 5);
    uint8_t data[12 + 136 + 10];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 7 + 1);
    check_ok(ds_gguf_begin(writer, s->path, &err), &err);
    check_ok(ds_gguf_write(writer, data, 12, &err), &err);
    check_ok(ds_gguf_write(writer, data + 12, 100, &err), &err); /* in pieces that are no rows */
    check_ok(ds_gguf_write(writer, data + 112, 36, &err), &err);
    check_ok(ds_gguf_write(writer, data + 148, 10, &err), &err);
    check_ok(ds_gguf_commit(writer, &err), &err);
    ds_gguf_writer_destroy(writer);

    struct ds_ckpt *ckpt;
    check_ok(ds_ckpt_open(s->path, &ckpt, &err), &err);
    check_keys(ckpt);
    assert_int_equal(ds_ckpt_tensor_count(ckpt), 3);
    const struct ds_ckpt_tensor *small = ds_ckpt_find(ckpt, "small"), *wide = ds_ckpt_find(ckpt, "wide"), *last = ds_ckpt_find(ckpt, "last");
    assert_true(small->dims == 1 && small->shape[0] == 3 && wide->shape[0] == 2 && wide->shape[1] == 64 && wide->type == DS_TYPE_Q8_0);
    assert_memory_equal(small->data, data, 12);
    assert_memory_equal(wide->data, data + 12, 136);
    assert_memory_equal(last->data, data + 148, 10);
    assert_true(small->offset % 32 == 0 && wide->offset % 32 == 0 && last->offset % 32 == 0);
    ds_ckpt_close(ckpt);
}

static void stored_values_keep_their_types(void **state) {
    const struct scratch *s = *state;
    struct ds_error err;
    char *again = ds_os_join(s->folder, "again.gguf");
    struct ds_gguf_writer *writer = make();
    add_one_key_of_each_kind(writer);
    check_ok(ds_gguf_begin(writer, s->path, &err), &err);
    check_ok(ds_gguf_commit(writer, &err), &err);
    ds_gguf_writer_destroy(writer);
    struct ds_ckpt *ckpt;
    check_ok(ds_ckpt_open(s->path, &ckpt, &err), &err);
    writer = make();
    for (size_t i = 0; i < ds_ckpt_value_count(ckpt); i++) {
        const struct ds_value *value = ds_ckpt_value_at(ckpt, i);
        check_ok(ds_gguf_add_stored(writer, value->key, value, &err), &err);
    }
    ds_ckpt_close(ckpt);
    check_ok(ds_gguf_begin(writer, again, &err), &err);
    check_ok(ds_gguf_commit(writer, &err), &err);
    ds_gguf_writer_destroy(writer);
    char *first, *second;
    size_t n_first, n_second;
    check_ok(ds_os_read_file(s->path, 1 << 20, &first, &n_first, &err), &err);
    check_ok(ds_os_read_file(again, 1 << 20, &second, &n_second, &err), &err);
    assert_int_equal(n_first, n_second);
    assert_memory_equal(first, second, n_first);
    free(first);
    free(second);
    free(again);
}

static void a_file_that_is_not_complete_does_not_appear(void **state) {
    const struct scratch *s = *state;
    struct ds_error err;
    struct ds_gguf_writer *writer = make();
    add_tensor(writer, "t", DS_TYPE_F32, 1, 1, 4);
    check_ok(ds_gguf_begin(writer, s->path, &err), &err);
    check_ok(ds_gguf_write(writer, "12345678", 8, &err), &err);
    assert_int_equal(ds_gguf_commit(writer, &err), DS_ERROR_INTERNAL);
    assert_int_equal(ds_os_path_kind(s->path), DS_PATH_MISSING);
    ds_gguf_writer_destroy(writer);
    assert_folder_holds(s->folder, 0);
}

static void data_beyond_what_was_stated_is_refused(void **state) {
    const struct scratch *s = *state;
    struct ds_error err;
    struct ds_gguf_writer *writer = make();
    add_tensor(writer, "t", DS_TYPE_F32, 1, 1, 1);
    check_ok(ds_gguf_begin(writer, s->path, &err), &err);
    assert_int_equal(ds_gguf_write(writer, "12345678", 8, &err), DS_ERROR_INTERNAL);
    check_ok(ds_gguf_write(writer, "1234", 4, &err), &err);
    assert_int_equal(ds_gguf_write(writer, "1", 1, &err), DS_ERROR_INTERNAL);
    ds_gguf_writer_destroy(writer);
}

static void a_key_given_twice_is_refused(void **state) {
    (void)state;
    struct ds_error err;
    struct ds_gguf_writer *writer = make();
    check_ok(ds_gguf_add_u32(writer, "k", 1, &err), &err);
    assert_true(ds_gguf_has_key(writer, "k"));
    assert_int_equal(ds_gguf_add_bool(writer, "k", true, &err), DS_ERROR_ARGUMENT);
    check_contains(err.message, "'k'");
    ds_gguf_writer_destroy(writer);
}

static void shapes_that_no_file_can_hold_are_refused(void **state) {
    (void)state;
    struct ds_error err;
    struct ds_gguf_writer *writer = make();
    assert_int_equal(ds_gguf_add_tensor(writer, "t", DS_TYPE_Q4_K, 2, (const uint64_t[]){1, 100}, &err), DS_ERROR_ARGUMENT);
    check_contains(err.message, "'t'");
    const uint64_t huge[] = {UINT64_C(1) << 40, UINT64_C(1) << 40};
    assert_int_equal(ds_gguf_add_tensor(writer, "t", DS_TYPE_F32, 2, huge, &err), DS_ERROR_ARGUMENT);
    ds_gguf_writer_destroy(writer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(keys_and_tensors_come_back_as_they_were_written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stored_values_keep_their_types, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_is_not_complete_does_not_appear, set_up, tear_down),
        cmocka_unit_test_setup_teardown(data_beyond_what_was_stated_is_refused, set_up, tear_down),
        cmocka_unit_test(a_key_given_twice_is_refused),
        cmocka_unit_test(shapes_that_no_file_can_hold_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
