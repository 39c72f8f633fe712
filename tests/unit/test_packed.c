/* Packed files: mapped as they are, with the bits of plain ones, and refused by whatever would misread them. */
#include "dspark_dev.h"
#include "base/mix.h"
#include "ops/device.h"
#include "tiny_model.h"

static const char target_folder[] = DSPARK_SOURCE_ROOT "/models/tiny/target";

struct files {
    char *folder, *plain, *packed, *broken;
};

static void convert(const char *layout, const char *type, const char *output) {
    ds_convert_params params = ds_convert_defaults();
    struct ds_error err;
    params.input = target_folder;
    params.output = output;
    params.type = type;
    params.layout = layout;
    check_ok(ds_convert(&params, NULL, NULL, NULL, &err), &err);
}

static int set_up(void **state) {
    struct files *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->folder = check_make_folder();
    f->plain = ds_os_join(f->folder, "plain.gguf");
    f->packed = ds_os_join(f->folder, "packed.gguf");
    f->broken = ds_os_join(f->folder, "broken.gguf");
    convert("gguf", "q4_k_m", f->plain);
    convert("packed", "q4_k_m", f->packed);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct files *f = *state;
    check_remove_folder(f->folder);
    free(f->plain);
    free(f->packed);
    free(f->broken);
    free(f);
    return 0;
}

static ds_status open_engine(const char *path, const char *device, ds_weights weights, ds_engine **engine, struct ds_error *err) {
    ds_engine_params params = ds_engine_defaults();
    params.target = path;
    params.device = device;
    params.weights = weights;
    params.threads = 2;
    params.context = 64;
    *engine = NULL;
    ds_status status = ds_engine_open(&params, engine, err);
    if (status == DS_OK) status = ds_engine_prepare(*engine, NULL, NULL, err);
    return status;
}

enum { VOCABULARY = 1 << 16 };

/* The logits behind a few tokens. Returns how many there are. */
static size_t logits_of(const char *path, float *logits) {
    static const ds_token tokens[] = {5, 17, 250, 3};
    ds_engine *engine;
    ds_session *session;
    struct ds_error err;
    ds_engine_info info = {.size = sizeof info};
    check_ok(open_engine(path, "cpu", DS_WEIGHTS_FILE, &engine, &err), &err);
    ds_engine_get_info(engine, &info);
    assert_true(info.vocabulary <= VOCABULARY);
    const ds_session_params params = ds_session_defaults();
    check_ok(ds_session_create(engine, &params, &session, &err), &err);
    check_ok(ds_dev_forward(session, tokens, DS_COUNT(tokens), true, logits, NULL, &err), &err);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
    return info.vocabulary;
}

static void a_packed_file_gives_the_bits_of_the_plain_one(void **state) {
    const struct files *f = *state;
    float *plain = calloc(VOCABULARY, sizeof *plain), *packed = calloc(VOCABULARY, sizeof *packed);
    assert_true(plain && packed);
    const size_t n = logits_of(f->plain, plain);
    assert_int_equal(logits_of(f->packed, packed), n);
    assert_memory_equal(plain, packed, n * sizeof *plain);
    static const char *const others[] = {"bf16", "q8_0", "q4_0", "f32"};
    for (size_t i = 0; i < DS_COUNT(others); i++) {
        convert("gguf", others[i], f->plain);
        convert("packed", others[i], f->packed);
        logits_of(f->plain, plain);
        logits_of(f->packed, packed);
        assert_memory_equal(plain, packed, n * sizeof *plain);
    }
    free(plain);
    free(packed);
}

static void a_packed_file_does_not_depend_on_the_machine(void **state) {
    const struct files *f = *state;
    struct ds_error err;
    char *expected, *found;
    size_t size, again;
    check_ok(ds_os_read_file(f->packed, 1 << 28, &expected, &size, &err), &err);
    ds_convert_params params = ds_convert_defaults();
    params.input = target_folder;
    params.output = f->broken;
    params.type = "q4_k_m";
    params.layout = "packed";
    params.threads = 3;
    check_ok(ds_convert(&params, NULL, NULL, NULL, &err), &err);
    check_ok(ds_os_read_file(f->broken, 1 << 28, &found, &again, &err), &err);
    assert_int_equal(size, again);
    assert_memory_equal(expected, found, size);
    free(expected);
    free(found);
}

static void refuse(const char *path, const char *device, ds_weights weights, ds_status expected, const char *part) {
    ds_engine *engine;
    struct ds_error err;
    assert_int_equal(open_engine(path, device, weights, &engine, &err), expected);
    check_contains(err.message, path);
    check_contains(err.message, part);
    ds_engine_destroy(engine);
}

static void devices_without_the_layout_refuse_it_and_say_what_to_do(void **state) {
    const struct files *f = *state;
    refuse(f->packed, "ref", DS_WEIGHTS_FILE, DS_ERROR_UNSUPPORTED, "packed for device 'cpu', which device 'ref' cannot read; use the file that this one was made from");
    refuse(f->packed, "cpu", DS_WEIGHTS_F32, DS_ERROR_UNSUPPORTED, "cannot be widened");
}

static void a_packed_file_is_not_converted_again(void **state) {
    const struct files *f = *state;
    ds_convert_params params = ds_convert_defaults();
    struct ds_error err;
    params.input = f->packed;
    params.output = f->broken;
    params.type = "q8_0";
    assert_int_equal(ds_convert(&params, NULL, NULL, NULL, &err), DS_ERROR_UNSUPPORTED);
    check_contains(err.message, "its weights are packed");
}

/* The first place behind the key `key` in the file, where its value's type stands. */
static size_t behind(const char *data, size_t size, const char *key) {
    const size_t n = strlen(key);
    for (size_t i = 8; i + n < size; i++)
        if (memcmp(data + i, key, n) == 0 && data[i - 8] == (char)n && data[i - 7] == 0) return i + n;
    fail_msg("there is no key %s", key);
    return 0;
}

/* The packed file with one byte `at` bytes behind the end of a key changed. */
static void break_file(const struct files *f, const char *key, size_t at, char value) {
    struct ds_error err;
    char *data;
    size_t size;
    check_ok(ds_os_read_file(f->packed, 1 << 28, &data, &size, &err), &err);
    data[behind(data, size, key) + at] = value;
    free(check_write_file(f->folder, "broken.gguf", data, size));
    free(data);
}

static void other_versions_and_layouts_are_refused_by_name(void **state) {
    const struct files *f = *state;
    break_file(f, "dspark.layout.version", 4, 99);
    refuse(f->broken, "cpu", DS_WEIGHTS_FILE, DS_ERROR_UNSUPPORTED, "version 99");
    break_file(f, "dspark.layout", 4 + 8, 'g');
    refuse(f->broken, "cpu", DS_WEIGHTS_FILE, DS_ERROR_UNSUPPORTED, "device 'gpu'");
}

static void lists_that_do_not_fit_the_tensors_are_refused(void **state) {
    const struct files *f = *state;
    enum { TO_COUNT = 4 + 4, TO_FIRST = TO_COUNT + 8 };
    break_file(f, "dspark.layout.types", TO_FIRST, 26); /* i32 */
    refuse(f->broken, "cpu", DS_WEIGHTS_FILE, DS_ERROR_FORMAT, "expected a type of weights, found 26");
    break_file(f, "dspark.layout.types", TO_FIRST, 127);
    refuse(f->broken, "cpu", DS_WEIGHTS_FILE, DS_ERROR_FORMAT, "found 127");
    break_file(f, "dspark.layout.rows", TO_FIRST + 3, -1); /* negative */
    refuse(f->broken, "cpu", DS_WEIGHTS_FILE, DS_ERROR_FORMAT, "dspark.layout.rows");
    break_file(f, "dspark.layout.tensors", TO_FIRST + 8, '?');
    refuse(f->broken, "cpu", DS_WEIGHTS_FILE, DS_ERROR_FORMAT, "there is no tensor '?");
    break_file(f, "dspark.layout.types", TO_FIRST, 8); /* q8_0: larger than what is there */
    refuse(f->broken, "cpu", DS_WEIGHTS_FILE, DS_ERROR_FORMAT, "bytes");
}

/* --- the layout itself --- */

/* A matrix [20, 512] of one type, whose bytes are the same everywhere: no scale among them is infinite or no number. */
static uint64_t hash_of_packed(struct ds_device *device, struct ds_stream *stream, ds_type type) {
    enum { ROWS = 20, COLS = 512 };
    struct ds_error err;
    struct ds_weight weight = {.type = type, .rows = ROWS, .cols = COLS};
    uint64_t bytes = 0;
    assert_true(ds_type_size(type, ROWS, COLS, &bytes));
    const uint64_t room = device->fns->weight_bytes(device, type, ROWS, COLS);
    if (!room) return 0;
    uint8_t *rows = malloc((size_t)bytes);
    assert_non_null(rows);
    uint32_t state = 1;
    for (uint64_t i = 0; i < bytes; i++) {
        state = state * 1664525u + 1013904223u;
        rows[i] = (uint8_t)(state >> 24 & 0x3f);
    }
    check_ok(device->fns->buffer_create(device, room, &weight.at.buffer, &err), &err);
    check_ok(device->fns->weight_write(stream, &weight, 0, ROWS, rows, &err), &err);
    check_ok(device->fns->stream_sync(stream, &err), &err);
    const uint64_t hash = ds_hash_mix(DS_HASH_START, device->fns->host(weight.at.buffer), (size_t)room);
    ds_buffer_drop(&weight.at.buffer);
    free(rows);
    return hash;
}

/*
 * Packed files are read by later versions: another byte here means that DS_PACK_VERSION must be raised, and this table be made anew (the test
 * prints what it finds). 0: the type has no packed layout.
 */
static void no_byte_of_the_packed_layout_changes_without_another_version(void **state) {
    (void)state;
    static const uint32_t version = 1;
    static const struct {
        ds_type type;
        uint64_t hash;
    } expected[] = {
        {DS_TYPE_F32, 0xe9670e2d406f0044u},
        {DS_TYPE_F16, 0x815b8798d5532f76u},
        {DS_TYPE_BF16, 0x9ccbf2c96597f469u},
        {DS_TYPE_Q4_0, 0x18c949983e445b02u},
        {DS_TYPE_Q4_1, 0xba1a0ee08f13d751u},
        {DS_TYPE_Q5_0, 0xbba8bd3e19eb34c5u},
        {DS_TYPE_Q5_1, 0x230ed26dd7a1410eu},
        {DS_TYPE_Q8_0, 0x8e59c42bf8338d5au},
        {DS_TYPE_Q2_K, 0x1567c4e6449225efu},
        {DS_TYPE_Q3_K, 0xe53d01a633159bcfu},
        {DS_TYPE_Q4_K, 0x550f0ff70417a6e0u},
        {DS_TYPE_Q5_K, 0xa32cf25e7356ff3du},
        {DS_TYPE_Q6_K, 0x24bdf5b13e8dd29au},
        {DS_TYPE_IQ4_NL, 0x18c949983e445b02u},
        {DS_TYPE_IQ4_XS, 0x909f5ff5bf776206u},
        {DS_TYPE_MXFP4, 0x44b1ddb53ae351f7u},
    };
    struct ds_device *device;
    struct ds_stream *stream;
    struct ds_error err;
    const struct ds_log quiet = {.fn = NULL};
    size_t different = 0;
    check_ok(ds_device_create("cpu", &(struct ds_device_params){.threads = 2, .log = quiet}, &device, &err), &err);
    check_ok(device->fns->stream_create(device, &stream, &err), &err);
    assert_int_equal(device->fns->weight_layout->version, version);
    for (size_t i = 0; i < DS_COUNT(expected); i++) {
        const uint64_t found = hash_of_packed(device, stream, expected[i].type);
        if (found != expected[i].hash) print_message("# {DS_TYPE_%s, 0x%016llxu},\n", ds_type_get(expected[i].type)->name, (unsigned long long)found);
        different += found != expected[i].hash;
    }
    device->fns->stream_destroy(stream);
    ds_device_destroy(device);
    if (different) fail_msg("%zu types are packed otherwise than version %u says", different, version);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_packed_file_gives_the_bits_of_the_plain_one),
        TEST(a_packed_file_does_not_depend_on_the_machine),
        TEST(devices_without_the_layout_refuse_it_and_say_what_to_do),
        TEST(a_packed_file_is_not_converted_again),
        TEST(other_versions_and_layouts_are_refused_by_name),
        TEST(lists_that_do_not_fit_the_tensors_are_refused),
        cmocka_unit_test(no_byte_of_the_packed_layout_changes_without_another_version),
    };
    return cmocka_run_group_tests_name("packed", tests, NULL, NULL);
}
