/* safetensors files are read and written as the format says, and refused with a message that names what is wrong. */
#include "byte_writer.h"
#include "ckpt/ckpt_internal.h"

static struct bytes make(const char *header, size_t data_bytes) {
    struct bytes file = {.size = 0};
    put_text(&file, header);
    for (size_t i = 0; i < data_bytes; i++) put(&file, &(uint8_t){(uint8_t)(i + 1)}, 1);
    return file;
}

/* In a copy of exactly this size, so that sanitizers see a read behind it; *copy stays valid for the caller to free. */
static ds_status open_copy(const struct bytes *file, uint8_t **copy, struct ds_ckpt **ckpt, struct ds_error *err) {
    *copy = malloc(file->size ? file->size : 1);
    assert_non_null(*copy);
    if (file->size) memcpy(*copy, file->data, file->size);
    return ds_ckpt_open_memory(DS_CKPT_SAFETENSORS, "x.safetensors", *copy, file->size, ckpt, err);
}

static void refuse(const struct bytes *file, const char *part) {
    uint8_t *copy;
    struct ds_ckpt *ckpt;
    struct ds_error err;
    assert_int_equal(open_copy(file, &copy, &ckpt, &err), DS_ERROR_FORMAT);
    assert_null(ckpt);
    free(copy);
    check_contains(err.message, "x.safetensors: ");
    check_contains(err.message, part);
}

static const char good_header[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                                  "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[4,16]},"
                                  "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}  ";

static void tensors_are_found_at_any_alignment(void **state) {
    (void)state;
    const struct bytes file = make(good_header, 16);
    uint8_t *copy;
    struct ds_ckpt *ckpt;
    struct ds_error err;
    check_ok(open_copy(&file, &copy, &ckpt, &err), &err);
    assert_int_not_equal(strlen(good_header) % 4, 0); /* or the test would not show it */
    assert_int_equal(ds_ckpt_tensor_count(ckpt), 2);
    const struct ds_ckpt_tensor *a = ds_ckpt_tensor_at(ckpt, 0), *b = ds_ckpt_tensor_at(ckpt, 1);
    assert_string_equal(a->name, "a");
    assert_true(a->dims == 0 && a->bytes == 4 && a->type == DS_TYPE_F32 && a->data[0] == 1);
    assert_true(b->dims == 2 && b->shape[0] == 2 && b->shape[1] == 3 && b->bytes == 12 && b->data[0] == 5);
    assert_int_equal(b->offset, file.size - 12);
    assert_int_equal(ds_ckpt_value_count(ckpt), 0);
    ds_ckpt_close(ckpt);
    free(copy);
}

static void a_file_cut_off_at_any_byte_is_refused(void **state) {
    (void)state;
    struct bytes file = make(good_header, 16);
    while (file.size-- > 0) refuse(&file, "");
}

static void what_cannot_be_read_is_missed_only_when_asked_for(void **state) {
    (void)state;
    static const struct {
        const char *name, *part;
    } cases[] = {
        {"f8", "is of dtype F8_E4M3"}, {"flags", "is of dtype BOOL"}, {"none", "is empty"}, {"five", "more than 4 dimensions"}};
    const struct bytes file = make("{\"f8\":{\"dtype\":\"F8_E4M3\",\"shape\":[4],\"data_offsets\":[0,4]},"
                                   "\"flags\":{\"dtype\":\"BOOL\",\"shape\":[2],\"data_offsets\":[4,6]},"
                                   "\"none\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[6,6]},"
                                   "\"five\":{\"dtype\":\"F16\",\"shape\":[1,1,1,1,1],\"data_offsets\":[6,8]}}",
                                   8);
    uint8_t *copy;
    struct ds_ckpt *ckpt;
    struct ds_error err;
    check_ok(open_copy(&file, &copy, &ckpt, &err), &err);
    assert_int_equal(ds_ckpt_tensor_count(ckpt), 0);
    for (size_t i = 0; i < DS_COUNT(cases); i++) {
        const struct ds_ckpt_tensor *tensor;
        assert_null(ds_ckpt_find(ckpt, cases[i].name));
        assert_int_equal(ds_ckpt_require(ckpt, cases[i].name, 1, (const uint64_t[]){4}, &tensor, &err), DS_ERROR_UNSUPPORTED);
        check_contains(err.message, cases[i].name);
        check_contains(err.message, cases[i].part);
    }
    ds_ckpt_close(ckpt);
    free(copy);
}

static void malformed_headers_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t data;
        const char *part;
    } cases[] = {
        {"[]", 0, "the header: expected a JSON object, found an array"},
        {"{\"a\":", 0, "the header: not valid JSON: line 1"},
        {"{} x", 0, "the header: not valid JSON"},
        {"{\"a\":{},\"a\":{}}", 0, "duplicate"},
        {"{\"a\":[]}", 0, "tensor 'a': expected an object, found an array"},
        {"{\"a\":{}}", 0, "tensor 'a': 'dtype': expected a string, found nothing"},
        {"{\"a\":{\"dtype\":7}}", 0, "tensor 'a': 'dtype': expected a string, found a number"},
        {"{\"a\":{\"dtype\":\"F32\"}}", 0, "tensor 'a': 'shape': expected an array"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "'shape': expected integers of 0 or more"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4, "'shape': expected integers"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, "does not fit 64 bits"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}}", 0,
         "expected 4611686018427387904"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "'data_offsets': expected an array"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "'data_offsets': expected an array of two"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,-4]}}", 4, "'data_offsets'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "'data_offsets': expected a range"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", 4, "4 bytes of data, found 0 to 8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "expected 2 elements of 4 bytes"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 5, "bytes 66 to 67 belong to no tensor"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[1,5]}}", 5, "belong to no tensor"},
        {"{\"a\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"I32\",\"shape\":[1],\"data_"
         "offsets\":[2,6]}}",
         6, "tensor 'b' overlaps another"},
    };
    for (size_t i = 0; i < DS_COUNT(cases); i++) {
        const struct bytes file = make(cases[i].header, cases[i].data);
        refuse(&file, cases[i].part);
    }
}

static void header_lengths_beyond_the_file_are_refused(void **state) {
    (void)state;
    static const uint64_t lengths[] = {3, 100, 100000001, UINT64_C(1) << 63, UINT64_MAX, UINT64_MAX - 7};
    for (size_t i = 0; i < DS_COUNT(lengths); i++) {
        struct bytes file = {.size = 0};
        put_u64(&file, lengths[i]);
        put(&file, "{}", 2);
        refuse(&file, "expected a header of at most 2 bytes");
    }
}

static void deeply_nested_headers_are_refused(void **state) {
    (void)state;
    struct bytes file = {.size = 0};
    put_u64(&file, 4000);
    for (int i = 0; i < 4000; i++) put(&file, "[", 1);
    refuse(&file, "not valid JSON");
}

static void what_is_written_reads_back(void **state) {
    (void)state;
    static const float logits[] = {1.0f, -2.5f, 3.0f, 0.0f, 5.0f, 6.0f};
    static const int32_t ids[] = {7, -8, 9};
    const struct ds_safetensors_array arrays[] = {
        {.name = "logits \"quoted\"", .type = DS_TYPE_F32, .dims = 2, .shape = {2, 3}, .data = logits},
        {.name = "ids", .type = DS_TYPE_I32, .dims = 1, .shape = {3}, .data = ids},
        {.name = "nothing", .type = DS_TYPE_F32, .dims = 2, .shape = {0, 3}, .data = NULL},
    };
    char *folder = check_make_folder(), *path = ds_os_join(folder, "out.safetensors");
    struct ds_ckpt *ckpt;
    struct ds_error err;
    check_ok(ds_safetensors_write(path, arrays, DS_COUNT(arrays), &err), &err);
    check_ok(ds_ckpt_open(path, &ckpt, &err), &err);
    const struct ds_ckpt_tensor *tensor;
    check_ok(ds_ckpt_require(ckpt, arrays[0].name, 2, arrays[0].shape, &tensor, &err), &err);
    assert_memory_equal(tensor->data, logits, sizeof logits);
    assert_int_equal(tensor->offset % 8, 0);
    check_ok(ds_ckpt_require(ckpt, "ids", 1, arrays[1].shape, &tensor, &err), &err);
    assert_memory_equal(tensor->data, ids, sizeof ids);
    ds_ckpt_close(ckpt);
    free(path);
    check_remove_folder(folder);
}

static void what_cannot_be_written_leaves_no_file(void **state) {
    (void)state;
    static const float one[] = {1.0f};
    const struct ds_safetensors_array quantised = {.name = "a", .type = DS_TYPE_Q4_0, .dims = 1, .shape = {32}, .data = one};
    const struct ds_safetensors_array huge = {
        .name = "a", .dims = 2, .shape = {UINT64_C(1) << 40, UINT64_C(1) << 40}, .data = one};
    const struct ds_safetensors_array twice[] = {{.name = "a", .dims = 1, .shape = {1}, .data = one},
                                                 {.name = "a", .dims = 1, .shape = {1}, .data = one}};
    char *folder = check_make_folder(), *path = ds_os_join(folder, "out.safetensors");
    struct ds_error err;
    assert_int_equal(ds_safetensors_write(path, &quantised, 1, &err), DS_ERROR_ARGUMENT);
    check_contains(err.message, "cannot hold type q4_0");
    assert_int_equal(ds_safetensors_write(path, &huge, 1, &err), DS_ERROR_ARGUMENT);
    assert_int_equal(ds_safetensors_write(path, twice, 2, &err), DS_ERROR_ARGUMENT);
    check_contains(err.message, "'a' is given twice");
    assert_int_equal(ds_os_path_kind(path), DS_PATH_MISSING);
    free(path);
    check_remove_folder(folder); /* fails if anything was left */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_found_at_any_alignment),
        cmocka_unit_test(a_file_cut_off_at_any_byte_is_refused),
        cmocka_unit_test(what_cannot_be_read_is_missed_only_when_asked_for),
        cmocka_unit_test(malformed_headers_are_refused),
        cmocka_unit_test(header_lengths_beyond_the_file_are_refused),
        cmocka_unit_test(deeply_nested_headers_are_refused),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(what_cannot_be_written_leaves_no_file),
    };
    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
