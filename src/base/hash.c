#include "base/hash.h"

#include <string.h>

bool ds_digest_equal(const struct ds_digest *a, const struct ds_digest *b) { return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0; }

#ifdef DS_HAVE_SODIUM

#include <sodium.h>

_Static_assert(sizeof(crypto_generichash_state) <= sizeof(((struct ds_blake2b *)0)->state), "room for libsodium's state");
_Static_assert(sizeof(crypto_hash_sha256_state) <= sizeof(((struct ds_sha256 *)0)->state), "room for libsodium's state");
_Static_assert(crypto_sign_PUBLICKEYBYTES == DS_PUBLIC_KEY_BYTES && crypto_sign_SECRETKEYBYTES == DS_SECRET_KEY_BYTES &&
                   crypto_sign_BYTES == DS_SIGNATURE_BYTES && crypto_hash_sha256_BYTES == DS_DIGEST_BYTES, "sizes of libsodium");

bool ds_hash_available(void) { return true; }

ds_status ds_hash_require(struct ds_error *err) {
    return sodium_init() >= 0 ? DS_OK : ds_fail(err, DS_ERROR_INTERNAL, "libsodium cannot be used here");
}

static crypto_generichash_state *blake2b_state(struct ds_blake2b *hash) { return (crypto_generichash_state *)(void *)hash->state; }
static crypto_hash_sha256_state *sha256_state(struct ds_sha256 *hash) { return (crypto_hash_sha256_state *)(void *)hash->state; }

void ds_blake2b_begin(struct ds_blake2b *hash) { (void)crypto_generichash_init(blake2b_state(hash), NULL, 0, DS_DIGEST_BYTES); }

void ds_blake2b_add(struct ds_blake2b *hash, const void *data, size_t bytes) {
    (void)crypto_generichash_update(blake2b_state(hash), data, bytes);
}

struct ds_digest ds_blake2b_end(struct ds_blake2b *hash) {
    struct ds_digest digest;
    (void)crypto_generichash_final(blake2b_state(hash), digest.bytes, sizeof digest.bytes);
    return digest;
}

void ds_sha256_begin(struct ds_sha256 *hash) { (void)crypto_hash_sha256_init(sha256_state(hash)); }
void ds_sha256_add(struct ds_sha256 *hash, const void *data, size_t bytes) { (void)crypto_hash_sha256_update(sha256_state(hash), data, bytes); }

struct ds_digest ds_sha256_end(struct ds_sha256 *hash) {
    struct ds_digest digest;
    (void)crypto_hash_sha256_final(sha256_state(hash), digest.bytes);
    return digest;
}

void ds_sign_make_keys(uint8_t public_key[DS_PUBLIC_KEY_BYTES], uint8_t secret_key[DS_SECRET_KEY_BYTES]) { (void)crypto_sign_keypair(public_key, secret_key); }
void ds_sign_public_key(const uint8_t secret_key[DS_SECRET_KEY_BYTES], uint8_t public_key[DS_PUBLIC_KEY_BYTES]) { (void)crypto_sign_ed25519_sk_to_pk(public_key, secret_key); }

bool ds_sign_key_is_whole(const uint8_t secret_key[DS_SECRET_KEY_BYTES]) {
    uint8_t seed[crypto_sign_SEEDBYTES], public_key[DS_PUBLIC_KEY_BYTES], again[DS_SECRET_KEY_BYTES];
    const bool whole = crypto_sign_ed25519_sk_to_seed(seed, secret_key) == 0 && crypto_sign_seed_keypair(public_key, again, seed) == 0 &&
                       sodium_memcmp(again, secret_key, sizeof again) == 0;
    sodium_memzero(seed, sizeof seed);
    sodium_memzero(again, sizeof again);
    return whole;
}

void ds_sign(const void *data, size_t bytes, const uint8_t secret_key[DS_SECRET_KEY_BYTES], uint8_t signature[DS_SIGNATURE_BYTES]) {
    (void)crypto_sign_detached(signature, NULL, data, bytes, secret_key);
}

bool ds_sign_check(const void *data, size_t bytes, const uint8_t public_key[DS_PUBLIC_KEY_BYTES], const uint8_t signature[DS_SIGNATURE_BYTES]) {
    return crypto_sign_verify_detached(signature, data, bytes, public_key) == 0;
}

void ds_wipe(void *data, size_t bytes) { sodium_memzero(data, bytes); }

#else

bool ds_hash_available(void) { return false; }

ds_status ds_hash_require(struct ds_error *err) {
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "this dspark was built without libsodium, which digests and signatures need: install libsodium-dev and build again");
}

void ds_blake2b_begin(struct ds_blake2b *hash) { memset(hash, 0, sizeof *hash); }
void ds_blake2b_add(struct ds_blake2b *hash, const void *data, size_t bytes) { (void)hash, (void)data, (void)bytes; }
struct ds_digest ds_blake2b_end(struct ds_blake2b *hash) { return (void)hash, (struct ds_digest){{0}}; }
void ds_sha256_begin(struct ds_sha256 *hash) { memset(hash, 0, sizeof *hash); }
void ds_sha256_add(struct ds_sha256 *hash, const void *data, size_t bytes) { (void)hash, (void)data, (void)bytes; }
struct ds_digest ds_sha256_end(struct ds_sha256 *hash) { return (void)hash, (struct ds_digest){{0}}; }
void ds_sign_make_keys(uint8_t public_key[DS_PUBLIC_KEY_BYTES], uint8_t secret_key[DS_SECRET_KEY_BYTES]) { memset(public_key, 0, DS_PUBLIC_KEY_BYTES), memset(secret_key, 0, DS_SECRET_KEY_BYTES); }
void ds_sign_public_key(const uint8_t secret_key[DS_SECRET_KEY_BYTES], uint8_t public_key[DS_PUBLIC_KEY_BYTES]) { (void)secret_key, memset(public_key, 0, DS_PUBLIC_KEY_BYTES); }
bool ds_sign_key_is_whole(const uint8_t secret_key[DS_SECRET_KEY_BYTES]) { return (void)secret_key, false; }
void ds_sign(const void *data, size_t bytes, const uint8_t secret_key[DS_SECRET_KEY_BYTES], uint8_t signature[DS_SIGNATURE_BYTES]) { (void)data, (void)bytes, (void)secret_key, memset(signature, 0, DS_SIGNATURE_BYTES); }
bool ds_sign_check(const void *data, size_t bytes, const uint8_t public_key[DS_PUBLIC_KEY_BYTES], const uint8_t signature[DS_SIGNATURE_BYTES]) { return (void)data, (void)bytes, (void)public_key, (void)signature, false; }
void ds_wipe(void *data, size_t bytes) { memset(data, 0, bytes); }

#endif

/* --- hexadecimal --- */

void ds_hex_write(const uint8_t *data, size_t bytes, char *out) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < bytes; i++) {
        *out++ = digits[data[i] >> 4];
        *out++ = digits[data[i] & 15];
    }
    *out = '\0';
}

static int digit_of(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

bool ds_hex_read(const char *text, size_t length, uint8_t *out, size_t bytes) {
    if (length != 2 * bytes) return false;
    for (size_t i = 0; i < bytes; i++) {
        const int high = digit_of(text[2 * i]), low = digit_of(text[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}
