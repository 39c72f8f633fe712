/*
 * Digests and signatures, from libsodium. A build without it has these calls, too: they fail with DS_ERROR_UNSUPPORTED, or do
 * nothing where they cannot fail, so ask ds_hash_require first.
 */
#ifndef DSPARK_BASE_HASH_H
#define DSPARK_BASE_HASH_H

#include "base/status.h"

enum { DS_DIGEST_BYTES = 32, DS_PUBLIC_KEY_BYTES = 32, DS_SECRET_KEY_BYTES = 64, DS_SIGNATURE_BYTES = 64 };

/* BLAKE2b with 256 bits and no key (RFC 7693; `b2sum -l 256`), or SHA-256 (FIPS 180-4). */
struct ds_digest {
    uint8_t bytes[DS_DIGEST_BYTES];
};
bool ds_digest_equal(const struct ds_digest *a, const struct ds_digest *b);

bool ds_hash_available(void);
/* Makes the library ready; DS_ERROR_UNSUPPORTED in a build without it. Any thread, any number of times. */
ds_status ds_hash_require(struct ds_error *err);

/* One digest under way, in pieces of any size. One thread at a time. */
struct ds_blake2b {
    _Alignas(64) uint8_t state[384];
};
void ds_blake2b_begin(struct ds_blake2b *hash);
void ds_blake2b_add(struct ds_blake2b *hash, const void *data, size_t bytes);
struct ds_digest ds_blake2b_end(struct ds_blake2b *hash);

struct ds_sha256 {
    _Alignas(64) uint8_t state[128];
};
void ds_sha256_begin(struct ds_sha256 *hash);
void ds_sha256_add(struct ds_sha256 *hash, const void *data, size_t bytes);
struct ds_digest ds_sha256_end(struct ds_sha256 *hash);

/* Ed25519 (RFC 8032). */
void ds_sign_make_keys(uint8_t public_key[DS_PUBLIC_KEY_BYTES], uint8_t secret_key[DS_SECRET_KEY_BYTES]);
/* The public half, which a secret key carries. */
void ds_sign_public_key(const uint8_t secret_key[DS_SECRET_KEY_BYTES], uint8_t public_key[DS_PUBLIC_KEY_BYTES]);
/* False when the two halves of the key do not belong together. */
bool ds_sign_key_is_whole(const uint8_t secret_key[DS_SECRET_KEY_BYTES]);
void ds_sign(const void *data, size_t bytes, const uint8_t secret_key[DS_SECRET_KEY_BYTES], uint8_t signature[DS_SIGNATURE_BYTES]);
bool ds_sign_check(const void *data, size_t bytes, const uint8_t public_key[DS_PUBLIC_KEY_BYTES], const uint8_t signature[DS_SIGNATURE_BYTES]);
/* Overwrites a secret; the compiler may not leave it out. */
void ds_wipe(void *data, size_t bytes);

/* --- hexadecimal, lower case --- */

/* Writes 2 * bytes digits and a NUL. */
void ds_hex_write(const uint8_t *data, size_t bytes, char *out);
/* False unless `text` is exactly 2 * bytes lower-case digits. */
bool ds_hex_read(const char *text, size_t length, uint8_t *out, size_t bytes);

#endif
