/* Little-endian bytes put together by hand: files for the tests of parsers. */
#ifndef DSPARK_TESTS_BYTE_WRITER_H
#define DSPARK_TESTS_BYTE_WRITER_H

#include "check.h"

struct bytes {
    uint8_t data[1 << 14];
    size_t size;
};

static inline void put(struct bytes *out, const void *data, size_t bytes) {
    assert_true(bytes <= sizeof out->data - out->size);
    if (bytes > 0) memcpy(out->data + out->size, data, bytes);
    out->size += bytes;
}

static inline void put_number(struct bytes *out, uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) put(out, &(uint8_t){(uint8_t)(value >> 8 * i)}, 1);
}

static inline void put_u32(struct bytes *out, uint32_t value) {
    put_number(out, value, 4);
}

static inline void put_u64(struct bytes *out, uint64_t value) {
    put_number(out, value, 8);
}

/* As GGUF has them: length, then bytes. */
static inline void put_text(struct bytes *out, const char *text) {
    put_u64(out, strlen(text));
    put(out, text, strlen(text));
}

static inline void pad_to(struct bytes *out, size_t alignment) {
    while (out->size % alignment != 0) put(out, "", 1);
}

#endif
