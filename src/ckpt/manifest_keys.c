/* Keys and signatures: a line of text each, so that they can be read, mailed and compared by people. */
#include "base/os.h"
#include "base/quote.h"
#include "ckpt/manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char secret_word[] = "dspark-secret-key ed25519 ", public_word[] = "dspark-public-key ed25519 ", signature_word[] = "dspark-signature ed25519 ";
enum { MOST_KEY_BYTES = 64 << 10 };

/* The digits behind `word` at the beginning of a line, up to its end; the line's end may have blanks. */
static bool digits_of(const char *line, size_t length, const char *word, const char **digits, size_t *count) {
    const size_t n = strlen(word);
    while (length && strchr(" \t\r", line[length - 1])) length--;
    if (length < n || memcmp(line, word, n) != 0) return false;
    *digits = line + n;
    *count = length - n;
    return true;
}

static ds_status read_hex(const char *what, const char *digits, size_t count, uint8_t *out, size_t bytes, struct ds_error *err) {
    if (ds_hex_read(digits, count, out, bytes)) return DS_OK;
    return ds_fail(err, DS_ERROR_FORMAT, "%s: expected %zu lower-case hexadecimal digits (%zu bytes), found %zu characters", what, 2 * bytes, bytes, count);
}

static size_t line_length(const char *text, size_t size) {
    const char *end = memchr(text, '\n', size);
    return end ? (size_t)(end - text) : size;
}

/* --- keys --- */

static ds_status write_new(const char *path, bool secret, const char *word, const uint8_t *key, size_t bytes, struct ds_error *err) {
    char line[sizeof secret_word + 2 * DS_SECRET_KEY_BYTES + 2], hex[2 * DS_SECRET_KEY_BYTES + 1];
    ds_hex_write(key, bytes, hex);
    const int n = snprintf(line, sizeof line, "%s%s\n", word, hex);
    const ds_status status = ds_os_create_file(path, secret, line, (size_t)n, err);
    ds_wipe(line, sizeof line);
    ds_wipe(hex, sizeof hex);
    return status;
}

ds_status ds_keys_write(const char *path, struct ds_error *err) {
    DS_TRY(ds_hash_require(err));
    const size_t n = strlen(path);
    char *public_path = malloc(n + 5);
    if (!public_path) return ds_fail_memory(err, n + 5, "a path");
    memcpy(public_path, path, n);
    memcpy(public_path + n, ".pub", 5);
    uint8_t public_key[DS_PUBLIC_KEY_BYTES], secret_key[DS_SECRET_KEY_BYTES];
    ds_sign_make_keys(public_key, secret_key);
    ds_status status = DS_OK;
    if (ds_os_path_kind(public_path) != DS_PATH_MISSING)
        status = ds_fail(err, DS_ERROR_IO, "'%s' exists: keys are never overwritten; choose another name", public_path);
    if (status == DS_OK) status = write_new(path, true, secret_word, secret_key, sizeof secret_key, err);
    if (status == DS_OK) status = write_new(public_path, false, public_word, public_key, sizeof public_key, err);
    ds_wipe(secret_key, sizeof secret_key);
    free(public_path);
    return status;
}

static ds_status parse_secret(const char *text, size_t size, uint8_t *key, struct ds_error *err) {
    const char *digits;
    size_t count;
    if (digits_of(text, line_length(text, size), public_word, &digits, &count))
        return ds_fail(err, DS_ERROR_FORMAT, "this is a public key; the secret one is in the file without .pub");
    if (!digits_of(text, line_length(text, size), secret_word, &digits, &count))
        return ds_fail(err, DS_ERROR_FORMAT, "expected a line that begins with '%s'", secret_word);
    DS_TRY(read_hex("the secret key", digits, count, key, DS_SECRET_KEY_BYTES, err));
    return ds_sign_key_is_whole(key) ? DS_OK : ds_fail(err, DS_ERROR_FORMAT, "the halves of the secret key do not belong together: it was changed");
}

ds_status ds_secret_key_read(const char *path, uint8_t key[DS_SECRET_KEY_BYTES], struct ds_error *err) {
    char *text;
    size_t size;
    DS_TRY(ds_hash_require(err));
    DS_TRY(ds_os_read_file(path, MOST_KEY_BYTES, &text, &size, err));
    const ds_status status = parse_secret(text, size, key, err);
    ds_wipe(text, size);
    free(text);
    if (status != DS_OK) ds_wipe(key, DS_SECRET_KEY_BYTES);
    return status == DS_OK ? DS_OK : ds_fail_context(err, "%s", path);
}

static ds_status parse_public(const char *text, size_t size, struct ds_public_keys *out, struct ds_error *err) {
    for (size_t i = 0, length, number = 1; i < size; i += length + 1, number++) {
        const char *digits;
        size_t count;
        length = line_length(text + i, size - i);
        if (length == 0 || text[i] == '#') continue;
        if (!digits_of(text + i, length, public_word, &digits, &count))
            return ds_fail(err, DS_ERROR_FORMAT, "line %zu: expected '%s' and a key, or a comment that begins with #", number, public_word);
        if (out->count == DS_MOST_KEYS) return ds_fail(err, DS_ERROR_LIMIT, "more than %d keys", DS_MOST_KEYS);
        if (read_hex("the public key", digits, count, out->keys[out->count++], DS_PUBLIC_KEY_BYTES, err) != DS_OK) return ds_fail_context(err, "line %zu", number);
    }
    return out->count ? DS_OK : ds_fail(err, DS_ERROR_FORMAT, "expected a line that begins with '%s', found none", public_word);
}

ds_status ds_public_keys_read(const char *text, struct ds_public_keys *out, struct ds_error *err) {
    out->count = 0;
    DS_TRY(ds_hash_require(err));
    if (ds_hex_read(text, strlen(text), out->keys[0], DS_PUBLIC_KEY_BYTES)) {
        out->count = 1;
        return DS_OK;
    }
    if (ds_os_path_kind(text) == DS_PATH_MISSING)
        return ds_fail(err, DS_ERROR_ARGUMENT, "key '%s': expected %d lower-case hexadecimal digits, or the file of a public key, found neither (%zu characters)",
                       ds_quote_name(text).text, 2 * DS_PUBLIC_KEY_BYTES, strlen(text));
    char *lines;
    size_t size;
    DS_TRY(ds_os_read_file(text, MOST_KEY_BYTES, &lines, &size, err));
    const ds_status status = parse_public(lines, size, out, err);
    free(lines);
    return status == DS_OK ? DS_OK : ds_fail_context(err, "%s", text);
}

/* --- signatures --- */

ds_status ds_signature_parse(const char *text, size_t size, struct ds_signature *out, struct ds_error *err) {
    enum { KEY_DIGITS = 2 * DS_PUBLIC_KEY_BYTES };
    const size_t n = sizeof signature_word - 1, length = line_length(text, size);
    if (length < n || memcmp(text, signature_word, n) != 0 || length + 1 != size)
        return ds_fail(err, DS_ERROR_FORMAT, "expected one line '%s', a public key and a signature", signature_word);
    const char *key = text + n, *space = memchr(key, ' ', length - n);
    const size_t key_length = space ? (size_t)(space - key) : length - n;
    DS_TRY(read_hex("the signature's public key", key, key_length, out->public_key, sizeof out->public_key, err));
    return read_hex("the signature", key + KEY_DIGITS + 1, space ? length - n - KEY_DIGITS - 1 : 0, out->signature, sizeof out->signature, err);
}

ds_status ds_signature_write(const char *path, const struct ds_signature *signature, struct ds_error *err) {
    char key[2 * DS_PUBLIC_KEY_BYTES + 1], hex[2 * DS_SIGNATURE_BYTES + 1], line[sizeof signature_word + sizeof key + sizeof hex + 2];
    ds_hex_write(signature->public_key, sizeof signature->public_key, key);
    ds_hex_write(signature->signature, sizeof signature->signature, hex);
    const int n = snprintf(line, sizeof line, "%s%s %s\n", signature_word, key, hex);
    struct ds_os_writer writer;
    DS_TRY(ds_os_write_begin(path, &writer, err));
    DS_TRY(ds_os_write(&writer, line, (size_t)n, err)); /* aborts by itself when it fails */
    return ds_os_write_commit(&writer, err);
}
