#include "text/byte_alphabet.h"
#include "text/utf8.h"

static bool stands_for_itself(uint32_t c) {
    return (c >= 0x21 && c <= 0x7E) || (c >= 0xA1 && c <= 0xAC) || (c >= 0xAE && c <= 0xFF);
}

/* The byte a character stands for, -1: none. The moved bytes are 00..20, 7F..A0 and AD. */
static int byte_of(uint32_t c) {
    if (stands_for_itself(c)) return (int)c;
    if (c < 0x100 || c > 0x143) return -1;
    const int index = (int)c - 0x100;
    if (index < 0x21) return index;
    return index == 0x43 ? 0xAD : 0x7F + (index - 0x21);
}

static uint32_t character_of(uint8_t byte) {
    if (stands_for_itself(byte)) return byte;
    if (byte == 0xAD) return 0x143;
    return 0x100 + (uint32_t)(byte < 0x21 ? byte : byte - 0x7F + 0x21);
}

size_t ds_byte_alphabet_encode(uint8_t byte, char out[2]) {
    const uint32_t c = character_of(byte);
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    out[0] = (char)(0xC0 | c >> 6);
    out[1] = (char)(0x80 | (c & 0x3F));
    return 2;
}

bool ds_byte_alphabet_decode(const char *text, size_t n, char *out, size_t *length) {
    *length = 0;
    for (size_t i = 0; i < n;) {
        const struct ds_utf8_part part = ds_utf8_classify(text + i, n - i);
        const int byte = part.kind == DS_UTF8_VALID ? byte_of(ds_utf8_decode(text + i)) : -1;
        if (byte < 0) return false;
        out[(*length)++] = (char)byte;
        i += part.length;
    }
    return true;
}
