/* GGUF files are read as the format says, and refused with a message that names what is wrong. */
#include "byte_writer.h"
#include "ckpt/ckpt_internal.h"

enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 };

static const uint64_t huge = UINT64_C(1) << 63;

static void put_header(struct bytes *out, uint32_t version, uint64_t tensors, uint64_t keys) {
    put(out, "GGUF", 4);
    put_u32(out, version);
    put_u64(out, tensors);
    put_u64(out, keys);
}

static void put_key(struct bytes *out, const char *name, uint32_t type) {
    put_text(out, name);
    put_u32(out, type);
}

/* Dimensions innermost first, as in the file. */
static void put_info(struct bytes *out, const char *name, uint32_t dims, const uint64_t *ne, uint32_t type, uint64_t offset) {
    put_text(out, name);
    put_u32(out, dims);
    for (uint32_t i = 0; i < dims; i++) put_u64(out, ne[i]);
    put_u32(out, type);
    put_u64(out, offset);
}

static void put_vector(struct bytes *out, const char *name, uint64_t count, uint64_t offset) {
    put_info(out, name, 1, &count, 0, offset);
}

static void put_data(struct bytes *out, size_t bytes) {
    pad_to(out, 32);
    for (size_t i = 0; i < bytes; i++) put(out, &(uint8_t){(uint8_t)i}, 1);
}

static struct ds_ckpt *open_good(const struct bytes *file) {
    struct ds_ckpt *ckpt;
    struct ds_error err;
    check_ok(ds_ckpt_open_memory(DS_CKPT_GGUF, "good.gguf", file->data, file->size, &ckpt, &err), &err);
    return ckpt;
}

static void refuse(const struct bytes *file, ds_status expected, const char *part) {
    /* A copy of exactly this size, so that sanitizers see a read behind it. */
    uint8_t *copy = malloc(file->size ? file->size : 1);
    assert_non_null(copy);
    if (file->size) memcpy(copy, file->data, file->size);
    struct ds_ckpt *ckpt;
    struct ds_error err;
    const ds_status status = ds_ckpt_open_memory(DS_CKPT_GGUF, "bad.gguf", copy, file->size, &ckpt, &err);
    free(copy);
    if (status != expected)
        fail_msg("expected '%s' for '%s', found '%s'", ds_status_name(expected), part, ds_status_name(status));
    assert_null(ckpt);
    check_contains(err.message, "bad.gguf: ");
    check_contains(err.message, part);
}

/* --- what is read --- */

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

/* --- what is refused --- */

static void a_file_cut_off_at_any_byte_is_refused(void **state) {
    (void)state;
    struct bytes file = {.size = 0};
    put_header(&file, 3, 2, 3);
    put_key(&file, "name", STRING);
    put_text(&file, "tiny");
    put_key(&file, "texts", ARRAY);
    put_u32(&file, STRING);
    put_u64(&file, 2);
    put_text(&file, "a");
    put_text(&file, "bc");
    put_key(&file, "number", F64);
    put_u64(&file, 0);
    put_vector(&file, "x", 4, 0);
    put_vector(&file, "y", 3, 32);
    put_data(&file, 44);
    ds_ckpt_close(open_good(&file));
    for (const size_t whole = file.size; file.size-- > 0;) {
        refuse(&file, DS_ERROR_FORMAT, "found");
        assert_true(file.size < whole);
    }
}

static void other_magics_versions_and_byte_orders_are_refused(void **state) {
    (void)state;
    static const struct {
        uint32_t version;
        ds_status status;
        const char *part;
    } cases[] = {
        {1, DS_ERROR_UNSUPPORTED, "found 1: convert the model again"},
        {4, DS_ERROR_UNSUPPORTED, "expected GGUF version 2 or 3, found 4"},
        {0, DS_ERROR_UNSUPPORTED, "found 0"},
        {0x03000000, DS_ERROR_UNSUPPORTED, "big-endian"},
    };
    for (size_t i = 0; i < DS_COUNT(cases); i++) {
        struct bytes file = {.size = 0};
        put_header(&file, cases[i].version, 0, 0);
        refuse(&file, cases[i].status, cases[i].part);
    }
    struct bytes file = {.size = 0};
    put_header(&file, 3, 0, 0);
    memcpy(file.data, "GG\nF", 4);
    refuse(&file, DS_ERROR_FORMAT, "found 'GG\\x0aF'");
}

static void counts_beyond_the_file_are_refused(void **state) {
    (void)state;
    static const uint64_t counts[] = {2, 1000, UINT64_C(1) << 32, UINT64_C(1) << 61, UINT64_C(1) << 63, UINT64_MAX};
    for (size_t i = 0; i < DS_COUNT(counts); i++) {
        struct bytes file = {.size = 0};
        put_header(&file, 3, counts[i], 0);
        refuse(&file, DS_ERROR_FORMAT, "tensors, for which the file has room");
        file.size = 0;
        put_header(&file, 3, 0, counts[i]);
        refuse(&file, DS_ERROR_FORMAT, "keys, for which the file has room");
        static const uint32_t elements[] = {U8, U64, STRING};
        for (size_t j = 0; j < DS_COUNT(elements); j++) {
            file.size = 0;
            put_header(&file, 3, 0, 1);
            put_key(&file, "k", ARRAY);
            put_u32(&file, elements[j]);
            put_u64(&file, counts[i]);
            refuse(&file, DS_ERROR_FORMAT, "key 'k': expected an array of at most 0 elements");
        }
    }
}

/* A file with one key; `fill` puts type and value. */
static void refuse_key(const char *name, void (*fill)(struct bytes *), ds_status status, const char *part) {
    struct bytes file = {.size = 0};
    put_header(&file, 3, 0, 1);
    put_text(&file, name);
    fill(&file);
    pad_to(&file, 64);
    refuse(&file, status, part);
}

static void fill_long_string(struct bytes *out) {
    put_u32(out, STRING);
    put_u64(out, huge);
}
static void fill_unknown_type(struct bytes *out) {
    put_u32(out, 13);
}
static void fill_unknown_element(struct bytes *out) {
    put_u32(out, ARRAY);
    put_u32(out, 99);
    put_u64(out, 1);
}
static void fill_nested_array(struct bytes *out) {
    put_u32(out, ARRAY);
    put_u32(out, ARRAY);
    put_u64(out, 1);
}
static void fill_bad_boolean(struct bytes *out) {
    put_u32(out, BOOL);
    put(out, "\2", 1);
}
static void fill_bad_boolean_element(struct bytes *out) {
    put_u32(out, ARRAY);
    put_u32(out, BOOL);
    put_u64(out, 2);
    put(out, "\1\2", 2);
}
static void fill_large_number(struct bytes *out) {
    put_u32(out, U64);
    put_u64(out, huge);
}
static void fill_three(struct bytes *out) {
    put_u32(out, U32);
    put_u32(out, 3);
}
static void fill_zero(struct bytes *out) {
    put_u32(out, U32);
    put_u32(out, 0);
}

static void malformed_values_are_refused_with_their_key(void **state) {
    (void)state;
    refuse_key("k", fill_long_string, DS_ERROR_FORMAT, "key 'k': the file is cut off: expected 9223372036854775808 bytes");
    refuse_key("k", fill_unknown_type, DS_ERROR_FORMAT, "key 'k': expected a value type from 0 to 12, found 13");
    refuse_key("k", fill_unknown_element, DS_ERROR_FORMAT, "key 'k': expected an element type from 0 to 12, found 99");
    refuse_key("k", fill_nested_array, DS_ERROR_UNSUPPORTED, "key 'k': arrays of arrays");
    refuse_key("k", fill_bad_boolean, DS_ERROR_FORMAT, "key 'k': expected a boolean, 0 or 1, found 2");
    refuse_key("k", fill_bad_boolean_element, DS_ERROR_FORMAT, "key 'k': element 1: expected a boolean");
    refuse_key("k", fill_large_number, DS_ERROR_UNSUPPORTED, "key 'k': expected an integer below 2^63");
    refuse_key("", fill_three, DS_ERROR_FORMAT, "key 0: expected a key, found an empty one");
    refuse_key("general.alignment", fill_three, DS_ERROR_FORMAT, "key 'general.alignment': expected a power of two, found 3");
    refuse_key("general.alignment", fill_zero, DS_ERROR_FORMAT, "expected a power of two, found 0");
    refuse_key("split.count", fill_three, DS_ERROR_UNSUPPORTED, "one of 3 parts of a split model");
}

static void names_with_nul_or_control_characters_do_no_harm(void **state) {
    (void)state;
    struct bytes file = {.size = 0};
    put_header(&file, 3, 0, 1);
    put_u64(&file, 3);
    put(&file, "a\0b", 3);
    fill_three(&file);
    refuse(&file, DS_ERROR_FORMAT, "key 0: expected a key without NUL characters, found 'a\\x00b'");
    file.size = 0;
    put_header(&file, 3, 0, 1);
    put_key(&file, "\x1b[31m\xff", 99);
    pad_to(&file, 64);
    refuse(&file, DS_ERROR_FORMAT, "key '\\x1b[31m\\xff'");
}

static void keys_and_tensors_occur_once(void **state) {
    (void)state;
    struct bytes file = {.size = 0};
    put_header(&file, 3, 0, 3);
    put_key(&file, "same", U8);
    put(&file, "\1", 1);
    put_key(&file, "other", U8);
    put(&file, "\1", 1);
    put_key(&file, "same", U8);
    put(&file, "\1", 1);
    refuse(&file, DS_ERROR_FORMAT, "key 'same' occurs twice");
    file.size = 0;
    put_header(&file, 3, 2, 0);
    put_vector(&file, "same", 1, 0);
    put_vector(&file, "same", 1, 32);
    put_data(&file, 64);
    refuse(&file, DS_ERROR_FORMAT, "tensor 'same' occurs twice");
}

static void refuse_tensor(uint32_t dims, const uint64_t *ne, uint32_t type, uint64_t offset, const char *part) {
    struct bytes file = {.size = 0};
    put_header(&file, 3, 1, 0);
    put_info(&file, "t", dims, ne, type, offset);
    put_data(&file, 64);
    refuse(&file, DS_ERROR_FORMAT, part);
}

static void malformed_tensors_are_refused_by_name(void **state) {
    (void)state;
    const uint64_t large = UINT64_C(1) << 32;
    refuse_tensor(5, (const uint64_t[]){1, 1, 1, 1, 1}, 0, 0, "tensor 't': expected at most 4 dimensions, found 5");
    refuse_tensor(2, (const uint64_t[]){4, 0}, 0, 0, "tensor 't': expected dimensions above 0, found 0");
    refuse_tensor(1, (const uint64_t[]){33}, 2, 0,
                  "tensor 't': expected rows of whole q4_0 blocks of 32 elements, found rows of 33");
    refuse_tensor(2, (const uint64_t[]){large, large}, 0, 0,
                  "a tensor of shape [4294967296, 4294967296] is larger than any file");
    refuse_tensor(3, (const uint64_t[]){1, large, large}, 0, 0, "larger than any file");
    refuse_tensor(1, &huge, 0, 0, "larger than any file");
    refuse_tensor(1, (const uint64_t[]){1}, 0, 4, "expected an offset that is a multiple of 32, found 4");
    refuse_tensor(1, (const uint64_t[]){17}, 0, 0, "tensor 't': the file is cut off: expected 68 bytes at offset 0");
    refuse_tensor(1, (const uint64_t[]){1}, 0, 64, "tensor 't': the file is cut off: expected 4 bytes at offset 64");
    refuse_tensor(1, (const uint64_t[]){1}, 0, UINT64_MAX - 31, "tensor 't': the file is cut off");
    refuse_tensor(1, (const uint64_t[]){1}, 16, huge, "tensor 't': the file is cut off"); /* a type we cannot read */
}

static void overlapping_tensors_are_refused(void **state) {
    (void)state;
    struct bytes file = {.size = 0};
    put_header(&file, 3, 2, 0);
    put_vector(&file, "second", 4, 32);
    put_vector(&file, "first", 9, 0);
    put_data(&file, 64);
    refuse(&file, DS_ERROR_FORMAT, "tensor 'second' overlaps another");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_value_is_read),
        cmocka_unit_test(arrays_are_read_by_kind),
        cmocka_unit_test(shapes_are_outermost_first_and_data_is_found),
        cmocka_unit_test(a_tensor_of_another_type_is_missed_only_when_asked_for),
        cmocka_unit_test(a_file_cut_off_at_any_byte_is_refused),
        cmocka_unit_test(other_magics_versions_and_byte_orders_are_refused),
        cmocka_unit_test(counts_beyond_the_file_are_refused),
        cmocka_unit_test(malformed_values_are_refused_with_their_key),
        cmocka_unit_test(names_with_nul_or_control_characters_do_no_harm),
        cmocka_unit_test(keys_and_tensors_occur_once),
        cmocka_unit_test(malformed_tensors_are_refused_by_name),
        cmocka_unit_test(overlapping_tensors_are_refused),
    };
    return cmocka_run_group_tests_name("gguf", tests, NULL, NULL);
}
