/* Manifests: what was changed is found and named; what is no manifest, key or signature is refused with a clear message. */
#include "ckpt/manifest.h"
#include "tiny_model.h"

struct place {
    char *folder, *manifest, *signature, *key, *public_key;
};

static void skip_without_libsodium(void) {
    if (!ds_hash_available()) skip();
}

static struct ds_ckpt *open_ckpt(const char *path) {
    struct ds_ckpt *ckpt;
    struct ds_error err;
    check_ok(ds_ckpt_open(path, &ckpt, &err), &err);
    return ckpt;
}

static char *text_of(const char *path, size_t *size) {
    char *text;
    struct ds_error err;
    check_ok(ds_os_read_file(path, 1 << 26, &text, size, &err), &err);
    return text;
}

static void write_bytes(const char *path, const char *data, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void write_manifest(const struct place *p) {
    struct ds_ckpt *ckpt = open_ckpt(p->folder);
    struct ds_manifest manifest;
    struct ds_error err;
    char *text;
    size_t size;
    check_ok(ds_manifest_build(ckpt, &(struct ds_hash_params){.threads = 2}, &manifest, &err), &err);
    check_ok(ds_manifest_text(&manifest, &text, &size, &err), &err);
    write_bytes(p->manifest, text, size);
    free(text);
    ds_manifest_free(&manifest);
    ds_ckpt_close(ckpt);
}

/* A tiny model with a manifest, and keys in a folder of their own. */
static int set_up(void **state) {
    struct place *p = calloc(1, sizeof *p);
    struct tiny_model m = tiny_target();
    p->folder = tiny_write(&m);
    p->manifest = ds_manifest_path(p->folder);
    p->signature = ds_signature_path(p->manifest);
    p->key = ds_os_join(p->folder, "key");
    p->public_key = ds_os_join(p->folder, "key.pub");
    if (ds_hash_available()) write_manifest(p);
    *state = p;
    return 0;
}

static int tear_down(void **state) {
    struct place *p = *state;
    check_remove_folder(p->folder);
    free(p->manifest);
    free(p->signature);
    free(p->key);
    free(p->public_key);
    free(p);
    return 0;
}

static const struct ds_manifest_trust anybody = {0};

/* As loading does it. */
static ds_status guard(const struct place *p, const struct ds_manifest_trust *trust, struct ds_error *err) {
    struct ds_ckpt *ckpt = NULL;
    struct ds_guard *g = NULL;
    struct ds_log log = {0};
    err->message[0] = '\0';
    ds_status status = ds_ckpt_open(p->folder, &ckpt, err);
    if (status == DS_OK) status = ds_guard_open(ckpt, trust, &log, &g, err);
    if (status == DS_OK) status = ds_guard_begin(g, 1, err);
    if (status == DS_OK) status = ds_guard_finish(g, err);
    ds_guard_close(g);
    ds_ckpt_close(ckpt);
    return status;
}

static void expect_good(const struct place *p, const struct ds_manifest_trust *trust) {
    struct ds_error err;
    check_ok(guard(p, trust, &err), &err);
}

static void expect_bad(const struct place *p, const struct ds_manifest_trust *trust, const char *part) {
    struct ds_error err;
    assert_int_not_equal(guard(p, trust, &err), DS_OK);
    check_contains(err.message, part);
}

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
    char *path = ds_os_join(p->folder, "config.json"), *text = text_of(path, &size), *space = strchr(text, ' ');
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
    char *path = ds_os_join(p->folder, "model.safetensors"), *data = text_of(path, &size);
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
    char *text = text_of(p->manifest, &size);
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
    char *text = text_of(p->manifest, &size);
    for (size_t n = 0; n < size; n++) {
        struct ds_manifest manifest;
        struct ds_error err;
        if (ds_manifest_parse(text, n, &manifest, &err) == DS_OK) fail_msg("%zu of %zu bytes were accepted", n, size);
        assert_true(err.message[0] && !manifest.files);
    }
    free(text);
}

/* --- manifests that say what cannot be --- */

#define DIGEST "00000000000000000000000000000000000000000000000000000000000000aa"
#define HEAD "{\"format\": \"dspark-manifest\", \"version\": 1, \"algorithm\": \"blake2b-256\", \"files\": ["
#define FILE_HEAD "{\"name\": \"a\", \"bytes\": 100, \"digest\": \"" DIGEST "\", \"rest\": \"" DIGEST "\", \"tensors\": ["
#define TENSOR(name, offset, bytes) "{\"name\": \"" name "\", \"offset\": " offset ", \"bytes\": " bytes ", \"digest\": \"" DIGEST "\"}"

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
    char *text = text_of(p->manifest, &size), *again;
    check_ok(ds_manifest_parse(text, size, &manifest, &err), &err);
    check_ok(ds_manifest_text(&manifest, &again, &again_size, &err), &err);
    assert_int_equal(size, again_size);
    assert_memory_equal(text, again, size);
    free(again);
    free(text);
    ds_manifest_free(&manifest);
}

/* --- keys and signatures --- */

static void sign_manifest(const struct place *p, const char *key_path) {
    uint8_t key[DS_SECRET_KEY_BYTES];
    struct ds_signature signature;
    struct ds_error err;
    size_t size;
    char *text = text_of(p->manifest, &size);
    check_ok(ds_secret_key_read(key_path, key, &err), &err);
    ds_sign(text, size, key, signature.signature);
    ds_sign_public_key(key, signature.public_key);
    check_ok(ds_signature_write(p->signature, &signature, &err), &err);
    free(text);
}

static void only_what_a_trusted_key_signed_is_trusted(void **state) {
    skip_without_libsodium();
    const struct place *p = *state;
    struct ds_error err;
    char *other = ds_os_join(p->folder, "other"), *other_public = ds_os_join(p->folder, "other.pub");
    check_ok(ds_keys_write(p->key, &err), &err);
    check_ok(ds_keys_write(other, &err), &err);
    assert_int_not_equal(ds_keys_write(other, &err), DS_OK); /* never overwritten */
    const struct ds_manifest_trust trust = {.trust = p->public_key}, strange = {.trust = other_public};
    expect_bad(p, &trust, "is not signed");
    sign_manifest(p, p->key);
    expect_good(p, &trust);
    expect_good(p, &anybody);
    expect_bad(p, &strange, "not trusted");
    struct ds_public_keys keys;
    char hex[2 * DS_PUBLIC_KEY_BYTES + 1];
    check_ok(ds_public_keys_read(p->public_key, &keys, &err), &err);
    ds_hex_write(keys.keys[0], DS_PUBLIC_KEY_BYTES, hex);
    expect_good(p, &(struct ds_manifest_trust){.trust = hex});
    assert_int_equal(remove(p->manifest), 0);
    expect_bad(p, &trust, "there is no manifest");
    free(other);
    free(other_public);
}

static void a_flipped_bit_of_a_signature_is_found(void **state) {
    skip_without_libsodium();
    const struct place *p = *state;
    struct ds_error err;
    size_t size;
    check_ok(ds_keys_write(p->key, &err), &err);
    sign_manifest(p, p->key);
    char *line = text_of(p->signature, &size);
    for (size_t i = 0; i < size; i++) {
        line[i] ^= (char)(1 << i % 8);
        write_bytes(p->signature, line, size);
        expect_bad(p, &anybody, "dspark-manifest.json.sig");
        line[i] ^= (char)(1 << i % 8);
        struct ds_signature signature;
        assert_int_not_equal(ds_signature_parse(line, i, &signature, &err), DS_OK);
    }
    free(line);
}

static void keys_of_the_wrong_size_or_kind_are_refused(void **state) {
    skip_without_libsodium();
    const struct place *p = *state;
    struct ds_public_keys keys;
    struct ds_error err;
    uint8_t secret[DS_SECRET_KEY_BYTES];
    static const struct {
        const char *text, *part;
    } publics[] = {
        {"", "found none"},
        {"dspark-public-key ed25519 00ff\n", "expected 64 lower-case hexadecimal digits (32 bytes), found 4"},
        {"dspark-public-key ed25519 " DIGEST "aa\n", "found 66 characters"},
        {"dspark-public-key rsa " DIGEST "\n", "line 1: expected 'dspark-public-key ed25519 '"},
        {"# mine\n\ndspark-public-key ed25519 zz\n", "line 3"},
    };
    for (size_t i = 0; i < DS_COUNT(publics); i++) {
        write_bytes(p->public_key, publics[i].text, strlen(publics[i].text));
        assert_int_not_equal(ds_public_keys_read(p->public_key, &keys, &err), DS_OK);
        check_contains(err.message, publics[i].part);
    }
    assert_int_not_equal(ds_public_keys_read("00ff", &keys, &err), DS_OK);
    check_contains(err.message, "expected 64 lower-case hexadecimal digits, or the file of a public key");
    static const struct {
        const char *text, *part;
    } secrets[] = {
        {"", "expected a line that begins with 'dspark-secret-key"},
        {"dspark-public-key ed25519 " DIGEST "\n", "is a public key"},
        {"dspark-secret-key ed25519 " DIGEST "\n", "expected 128 lower-case hexadecimal digits (64 bytes), found 64"},
        {"dspark-secret-key ed25519 " DIGEST DIGEST "\n", "do not belong together"},
    };
    for (size_t i = 0; i < DS_COUNT(secrets); i++) {
        write_bytes(p->key, secrets[i].text, strlen(secrets[i].text));
        assert_int_not_equal(ds_secret_key_read(p->key, secret, &err), DS_OK);
        check_contains(err.message, secrets[i].part);
    }
}

/* BLAKE2b with 256 bits and SHA-256 of "abc": b2sum -l 256, FIPS 180-4. */
static void digests_are_those_of_the_standards(void **state) {
    (void)state;
    skip_without_libsodium();
    struct ds_blake2b blake;
    struct ds_sha256 sha;
    char hex[2 * DS_DIGEST_BYTES + 1];
    ds_blake2b_begin(&blake);
    ds_blake2b_add(&blake, "a", 1);
    ds_blake2b_add(&blake, "bc", 2);
    ds_hex_write(ds_blake2b_end(&blake).bytes, DS_DIGEST_BYTES, hex);
    assert_string_equal(hex, "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
    ds_sha256_begin(&sha);
    ds_sha256_add(&sha, "abc", 3);
    ds_hex_write(ds_sha256_end(&sha).bytes, DS_DIGEST_BYTES, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

/* --- the engine --- */

static void an_engine_refuses_a_changed_model_when_it_is_prepared(void **state) {
    skip_without_libsodium();
    const struct place *p = *state;
    ds_engine_params params = ds_engine_defaults();
    params.target = p->folder;
    params.require_manifest = true;
    ds_engine *engine;
    struct ds_error err;
    check_ok(ds_engine_open(&params, &engine, &err), &err);
    check_ok(ds_engine_prepare(engine, NULL, NULL, &err), &err);
    ds_engine_destroy(engine);
    size_t size;
    char *path = ds_os_join(p->folder, "model.safetensors"), *data = text_of(path, &size);
    data[size - 3] ^= 1;
    write_bytes(path, data, size);
    check_ok(ds_engine_open(&params, &engine, &err), &err);
    for (int i = 0; i < 2; i++) { /* and again when asked again */
        assert_int_equal(ds_engine_prepare(engine, NULL, NULL, &err), DS_ERROR_MISMATCH);
        check_contains(err.message, "tensor 'model.layers.2.mlp.down_proj.weight'");
    }
    ds_engine_destroy(engine);
    free(data);
    free(path);
    assert_int_equal(remove(p->manifest), 0);
    assert_int_equal(ds_engine_open(&params, &engine, &err), DS_ERROR_MISMATCH);
    check_contains(err.message, "there is no manifest");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

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
        TEST(only_what_a_trusted_key_signed_is_trusted),
        TEST(a_flipped_bit_of_a_signature_is_found),
        TEST(keys_of_the_wrong_size_or_kind_are_refused),
        cmocka_unit_test(digests_are_those_of_the_standards),
        TEST(an_engine_refuses_a_changed_model_when_it_is_prepared),
    };
    return cmocka_run_group_tests_name("manifest", tests, NULL, NULL);
}
