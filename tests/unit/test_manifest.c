/* Manifests: what was changed is found and named; what is no manifest is refused with a clear message. */
#include "manifest_place.h"

/* --- changes --- */

static void what_was_hashed_is_good(void **state) {
    skip_without_libsodium();
    const struct place *p = *state;
    expect_good(p, &anybody);
    expect_good(p, &(struct ds_manifest_trust){.required = true});
}

static void a_changed_byte_is_named_by_its_tensor(void **state) {
    skip_without_libsodium();
    const struct place *p = *state;
    struct ds_ckpt *ckpt = open_ckpt(p->folder);
    char *path = ds_os_join(p->folder, "model.safetensors");
    for (size_t i = 0; i < ds_ckpt_tensor_count(ckpt); i++) {
        const struct ds_ckpt_tensor *tensor = ds_ckpt_tensor_at(ckpt, i);
        const uint64_t at = tensor->offset + i % tensor->bytes;
        const uint8_t byte = tensor->data[i % tensor->bytes];
        for (int turn = 0; turn < 2; turn++) { /* changed, and put back */
            FILE *file = fopen(path, "r+b");
            assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
            fputc(turn ? byte : byte ^ (1 << i % 8), file);
            assert_int_equal(fclose(file), 0);
            if (turn == 0) expect_bad(p, &anybody, tensor->name);
        }
    }
    expect_good(p, &anybody);
    free(path);
    ds_ckpt_close(ckpt);
}

static void a_changed_file_beside_the_tensors_is_named(void **state) {
    skip_without_libsodium();
    const struct place *p = *state;
    size_t size;
    char *path = ds_os_join(p->folder, "config.json"), *text;
    read_text(path, &text, &size);
    char *space = strchr(text, ' ');
    assert_non_null(space);
    *space = '\n'; /* means the same */
    write_bytes(path, text, size);
    expect_bad(p, &anybody, "config.json");
    *space = ' ';
    write_bytes(path, text, size);
    expect_good(p, &anybody);
    check_write_text(p->folder, "tokenizer_config.json", "{}"); /* would be read, too */
    expect_bad(p, &anybody, "tokenizer_config.json");
    free(text);
    free(path);
}

static void the_header_of_a_file_is_covered(void **state) {
    skip_without_libsodium();
    const struct place *p = *state;
    size_t size;
    char *path = ds_os_join(p->folder, "model.safetensors"), *data;
    read_text(path, &data, &size);
    char *quote = strstr(data + 8, "BF16");
    assert_non_null(quote);
    memcpy(quote, "F16 ", 4); /* no such type: the tensor is skipped */
    write_bytes(path, data, size);
    struct ds_error err;
    assert_int_not_equal(guard(p, &anybody, &err), DS_OK);
    free(data);
    free(path);
}

/* As loading does it, without opening the model again for each of many thousand times. */
static ds_status check_text(const struct ds_ckpt *ckpt, const char *text, size_t size, struct ds_error *err) {
    struct ds_manifest manifest;
    DS_TRY(ds_manifest_parse(text, size, &manifest, err));
    const ds_status status = ds_manifest_verify(&manifest, ckpt, &(struct ds_hash_params){.threads = 1}, NULL, NULL, err);
    ds_manifest_free(&manifest);
    return status;
}

static void any_flipped_bit_of_the_manifest_is_found(void **state) {
    skip_without_libsodium();
    const struct place *p = *state;
    size_t size, named = 0, changed = 0;
    char *text;
    read_text(p->manifest, &text, &size);
    const char *const tensors = strstr(text, "\"offset\"");
    struct ds_ckpt *ckpt = open_ckpt(p->folder);
    struct ds_error err;
    check_ok(check_text(ckpt, text, size, &err), &err);
    for (size_t i = 0; i < size; i++) {
        text[i] ^= (char)(1 << i % 8);
        if (check_text(ckpt, text, size, &err) == DS_OK) fail_msg("byte %zu, bit %zu changed and nobody noticed", i, i % 8);
        text[i] ^= (char)(1 << i % 8);
        if (text + i < tensors || !strstr(text + i, "\"offset\"")) continue;
        changed++;
        named += strstr(err.message, "model.") || strstr(err.message, "norm") || strstr(err.message, "tensor");
    }
    assert_true(named > changed * 9 / 10); /* the rest are brackets and line ends between the tensors */
    ds_ckpt_close(ckpt);
    free(text);
}

static void a_manifest_cut_off_anywhere_is_refused(void **state) {
    skip_without_libsodium();
    const struct place *p = *state;
    size_t size;
    char *text;
    read_text(p->manifest, &text, &size);
    for (size_t n = 0; n < size; n++) {
        struct ds_manifest manifest;
        struct ds_error err;
        if (ds_manifest_parse(text, n, &manifest, &err) == DS_OK) fail_msg("%zu of %zu bytes were accepted", n, size);
        assert_true(err.message[0] && !manifest.files);
    }
    free(text);
}

/* --- manifests that say what cannot be --- */

static void contradictions_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", "not valid JSON"},
        {"[]", "expected an object"},
        {"{}", "'format': expected a text, found nothing"},
        {"{\"format\": \"other\"}", "expected 'dspark-manifest', found 'other'"},
        {"{\"format\": \"dspark-manifest\", \"version\": 2}", "'version': expected 1, found 2"},
        {"{\"format\": \"dspark-manifest\", \"version\": 1, \"algorithm\": \"md5\"}", "'algorithm': expected 'blake2b-256', found 'md5'"},
        {HEAD "]}", "'files': expected an array of 1 to"},
        {HEAD "{\"name\": \"../a\"}]}", "plain name"},
        {HEAD "{\"name\": \"a\", \"bytes\": -1}]}", "'bytes': expected a whole number"},
        {HEAD "{\"name\": \"a\", \"bytes\": 1, \"digest\": \"00ff\"}]}", "expected 64 lower-case hexadecimal digits, found 4"},
        {HEAD "{\"name\": \"a\", \"name\": \"b\"}]}", "duplicate"},
        {HEAD FILE_HEAD "]}, " FILE_HEAD "]}]}", "file 'a' occurs twice"},
        {HEAD FILE_HEAD TENSOR("t", "0", "10") ", " TENSOR("t", "10", "10") "]}]}", "tensor 't' occurs twice"},
        {HEAD FILE_HEAD TENSOR("t", "0", "101") "]}]}", "within the file's 100 bytes, found 101"},
        {HEAD FILE_HEAD TENSOR("t", "9223372036854775807", "9223372036854775807") "]}]}", "within the file's 100 bytes"},
        {HEAD FILE_HEAD TENSOR("t", "0", "10") ", " TENSOR("u", "9", "10") "]}]}", "expected an offset of 10 or more"},
        {HEAD FILE_HEAD "7]}]}", "expected a text, found nothing"},
        {HEAD FILE_HEAD "]}]}", "is not written as dspark writes it"}, /* all is right but the spaces */
        {HEAD FILE_HEAD "], \"more\": 1}]}", "is not written as dspark writes it"},
    };
    for (size_t i = 0; i < DS_COUNT(cases); i++) {
        struct ds_manifest manifest;
        struct ds_error err;
        if (ds_manifest_parse(cases[i].text, strlen(cases[i].text), &manifest, &err) == DS_OK) fail_msg("case %zu was accepted", i);
        check_contains(err.message, cases[i].part);
    }
}

static void text_and_manifest_are_the_same_thing(void **state) {
    skip_without_libsodium();
    const struct place *p = *state;
    struct ds_manifest manifest;
    struct ds_error err;
    size_t size, again_size;
    char *text, *again;
    read_text(p->manifest, &text, &size);
    check_ok(ds_manifest_parse(text, size, &manifest, &err), &err);
    check_ok(ds_manifest_text(&manifest, &again, &again_size, &err), &err);
    assert_int_equal(size, again_size);
    assert_memory_equal(text, again, size);
    free(again);
    free(text);
    ds_manifest_free(&manifest);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(what_was_hashed_is_good),
        TEST(a_changed_byte_is_named_by_its_tensor),
        TEST(a_changed_file_beside_the_tensors_is_named),
        TEST(the_header_of_a_file_is_covered),
        TEST(any_flipped_bit_of_the_manifest_is_found),
        TEST(a_manifest_cut_off_anywhere_is_refused),
        cmocka_unit_test(contradictions_are_refused),
        TEST(text_and_manifest_are_the_same_thing),
    };
    return cmocka_run_group_tests_name("manifest", tests, NULL, NULL);
}
