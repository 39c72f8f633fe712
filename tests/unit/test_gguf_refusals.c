/* GGUF files that are not as the format says are refused with a message that names what is wrong. */
#include "gguf_files.h"

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
        cmocka_unit_test(a_file_cut_off_at_any_byte_is_refused),
        cmocka_unit_test(other_magics_versions_and_byte_orders_are_refused),
        cmocka_unit_test(counts_beyond_the_file_are_refused),
        cmocka_unit_test(malformed_values_are_refused_with_their_key),
        cmocka_unit_test(names_with_nul_or_control_characters_do_no_harm),
        cmocka_unit_test(keys_and_tensors_occur_once),
        cmocka_unit_test(malformed_tensors_are_refused_by_name),
        cmocka_unit_test(overlapping_tensors_are_refused),
    };
    return cmocka_run_group_tests_name("gguf_refusals", tests, NULL, NULL);
}
