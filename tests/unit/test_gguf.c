/* GGUF files are read as the format says. */
#include "gguf_files.h"

static void every_kind_of_value_is_read(void **state) {
    (void)state;
    static const struct {
        uint32_t type;
        uint64_t bits;
        size_t bytes;
        ds_value_kind kind;
        int64_t integer;
        double real;
    } numbers[] = {
        {U8, 255, 1, DS_VALUE_INT, 255, 255},
        {I8, 0xFF, 1, DS_VALUE_INT, -1, -1},
        {U16, 0xFFFE, 2, DS_VALUE_INT, 65534, 65534},
        {I16, 0xFFFE, 2, DS_VALUE_INT, -2, -2},
        {U32, 0xFFFFFFFD, 4, DS_VALUE_INT, 4294967293, 4294967293.0},
        {I32, 0xFFFFFFFD, 4, DS_VALUE_INT, -3, -3},
        {F32, 0x3F000000, 4, DS_VALUE_REAL, 0, 0.5},
        {F32, 0x49742400, 4, DS_VALUE_REAL, 1000000, 1e6},
        {U64, INT64_MAX, 8, DS_VALUE_INT, INT64_MAX, 0x1p63},
        {I64, UINT64_C(0xFFFFFFFFFFFFFFFC), 8, DS_VALUE_INT, -4, -4},
        {F64, UINT64_C(0x3FB999999999999A), 8, DS_VALUE_REAL, 0, 0.1},
    };
    struct bytes file = {.size = 0};
    put_header(&file, 3, 0, DS_COUNT(numbers) + 2);
    for (size_t i = 0; i < DS_COUNT(numbers); i++) {
        put_key(&file, (char[]){'k', (char)('a' + i), 0}, numbers[i].type);
        put_number(&file, numbers[i].bits, numbers[i].bytes);
    }
    put_key(&file, "flag", BOOL);
    put(&file, "\1", 1);
    put_key(&file, "name", STRING);
    put_text(&file, "qwen3");

    struct ds_ckpt *ckpt = open_good(&file);
    assert_int_equal(ds_ckpt_get_format(ckpt), DS_CKPT_GGUF);
    assert_int_equal(ds_ckpt_value_count(ckpt), DS_COUNT(numbers) + 2);
    for (size_t i = 0; i < DS_COUNT(numbers); i++) {
        const struct ds_value *value = ds_ckpt_value_at(ckpt, i); /* in the file's order */
        assert_true(value->kind == numbers[i].kind && value->integer == numbers[i].integer && value->real == numbers[i].real);
        assert_ptr_equal(ds_ckpt_value(ckpt, value->key), value);
    }
    assert_true(ds_ckpt_value(ckpt, "flag")->kind == DS_VALUE_BOOL && ds_ckpt_value(ckpt, "flag")->boolean);
    assert_string_equal(ds_ckpt_value(ckpt, "name")->string, "qwen3");
    assert_null(ds_ckpt_value(ckpt, "nam"));
    ds_ckpt_close(ckpt);
}

static void arrays_are_read_by_kind(void **state) {
    (void)state;
    struct bytes file = {.size = 0};
    put_header(&file, 3, 0, 5);
    put_key(&file, "ints", ARRAY);
    put_u32(&file, I16);
    put_u64(&file, 2);
    put_number(&file, 0xFFFF, 2);
    put_number(&file, 7, 2);
    put_key(&file, "reals", ARRAY);
    put_u32(&file, F32);
    put_u64(&file, 1);
    put_u32(&file, 0x3F000000);
    put_key(&file, "flags", ARRAY);
    put_u32(&file, BOOL);
    put_u64(&file, 2);
    put(&file, "\0\1", 2);
    put_key(&file, "texts", ARRAY);
    put_u32(&file, STRING);
    put_u64(&file, 2);
    put_text(&file, "");
    put_text(&file, "token");
    put_key(&file, "none", ARRAY);
    put_u32(&file, U32);
    put_u64(&file, 0);

    struct ds_ckpt *ckpt = open_good(&file);
    const int64_t *ints;
    size_t count;
    struct ds_error err;
    check_ok(ds_ckpt_ints(ckpt, "ints", 2, 2, -1, 7, &ints, &count, &err), &err);
    assert_true(count == 2 && ints[0] == -1 && ints[1] == 7);
    assert_true(((const double *)ds_ckpt_value(ckpt, "reals")->array)[0] == 0.5);
    const bool *flags = ds_ckpt_value(ckpt, "flags")->array;
    assert_true(!flags[0] && flags[1]);
    const struct ds_value *texts = ds_ckpt_value(ckpt, "texts");
    const struct ds_text *text = texts->array;
    assert_true(texts->element == DS_VALUE_STRING && texts->length == 2 && text[0].length == 0 && text[1].length == 5);
    assert_memory_equal(text[1].data, "token", 5);
    assert_true((const uint8_t *)text[1].data > file.data); /* not a copy: vocabularies are large */
    assert_true((const uint8_t *)text[1].data < file.data + file.size);
    const struct ds_value *none = ds_ckpt_value(ckpt, "none");
    assert_true(none->kind == DS_VALUE_ARRAY && none->element == DS_VALUE_NULL && none->length == 0 && !none->mixed);
    ds_ckpt_close(ckpt);
}

static void shapes_are_outermost_first_and_data_is_found(void **state) {
    (void)state;
    struct bytes file = {.size = 0};
    put_header(&file, 2, 3, 1);
    put_key(&file, "general.alignment", U32);
    put_u32(&file, 8);
    put_info(&file, "matrix", 2, (const uint64_t[]){32, 3}, 2, 16); /* Q4_0: 3 rows of 18 bytes */
    put_info(&file, "scalar", 0, NULL, 0, 72);
    put_vector(&file, "vector", 3, 0);
    pad_to(&file, 8);
    const size_t base = file.size;
    for (size_t i = 0; i < 76; i++) put(&file, &(uint8_t){(uint8_t)i}, 1);

    struct ds_ckpt *ckpt = open_good(&file);
    assert_int_equal(ds_ckpt_tensor_count(ckpt), 3);
    const struct ds_ckpt_tensor *t = ds_ckpt_tensor_at(ckpt, 1); /* by place in the file */
    assert_string_equal(t->name, "matrix");
    assert_ptr_equal(ds_ckpt_find(ckpt, "matrix"), t);
    assert_true(t->type == DS_TYPE_Q4_0 && t->dims == 2 && t->shape[0] == 3 && t->shape[1] == 32 && t->shape[2] == 1);
    assert_true(t->bytes == 54 && t->offset == base + 16 && t->data == file.data + base + 16);
    t = ds_ckpt_find(ckpt, "scalar");
    assert_true(t->dims == 0 && t->bytes == 4 && t->data[0] == 72);
    ds_ckpt_release(ckpt, t); /* memory that is not ours stays as it is */
    assert_int_equal(t->data[0], 72);
    assert_null(ds_ckpt_find(ckpt, "missing"));
    ds_ckpt_close(ckpt);
}

static void a_tensor_of_another_type_is_missed_only_when_asked_for(void **state) {
    (void)state;
    struct bytes file = {.size = 0};
    const uint64_t ne[] = {256};
    put_header(&file, 3, 3, 0);
    put_info(&file, "a", 1, ne, 16, 0);
    put_info(&file, "b", 1, ne, 9999, 96);
    put_info(&file, "c", 1, (const uint64_t[]){1}, 0, 128);
    put_data(&file, 132);
    struct ds_ckpt *ckpt = open_good(&file);
    const struct ds_ckpt_tensor *tensor;
    struct ds_error err;
    assert_int_equal(ds_ckpt_tensor_count(ckpt), 1);
    assert_null(ds_ckpt_find(ckpt, "a"));
    assert_int_equal(ds_ckpt_require(ckpt, "a", 1, ne, &tensor, &err), DS_ERROR_UNSUPPORTED);
    check_contains(err.message, "good.gguf: tensor 'a' is of type iq2_xxs");
    assert_int_equal(ds_ckpt_require(ckpt, "b", 1, ne, &tensor, &err), DS_ERROR_UNSUPPORTED);
    check_ok(ds_ckpt_require(ckpt, "c", 1, (const uint64_t[]){1}, &tensor, &err), &err);
    ds_ckpt_close(ckpt);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_value_is_read),
        cmocka_unit_test(arrays_are_read_by_kind),
        cmocka_unit_test(shapes_are_outermost_first_and_data_is_found),
        cmocka_unit_test(a_tensor_of_another_type_is_missed_only_when_asked_for),
    };
    return cmocka_run_group_tests_name("gguf", tests, NULL, NULL);
}
