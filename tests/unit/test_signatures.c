/* Signed manifests: only what a trusted key signed is trusted, and an engine checks it while it loads. */
#include "manifest_place.h"

/* --- keys and signatures --- */

static void sign_manifest(const struct place *p, const char *key_path) {
    uint8_t key[DS_SECRET_KEY_BYTES];
    struct ds_signature signature;
    struct ds_error err;
    size_t size;
    char *text;
    read_text(p->manifest, &text, &size);
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
    char *line;
    read_text(p->signature, &line, &size);
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
    char *path = ds_os_join(p->folder, "model.safetensors"), *data;
    read_text(path, &data, &size);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(only_what_a_trusted_key_signed_is_trusted),
        TEST(a_flipped_bit_of_a_signature_is_found),
        TEST(keys_of_the_wrong_size_or_kind_are_refused),
        cmocka_unit_test(digests_are_those_of_the_standards),
        TEST(an_engine_refuses_a_changed_model_when_it_is_prepared),
    };
    return cmocka_run_group_tests_name("signatures", tests, NULL, NULL);
}
