#include "base/quote.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

/* Control characters, line ends and direction marks could make a terminal show another text than the message's. */
static bool is_printable(utf8proc_int32_t code) {
    switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    default:
        return true;
    }
}

/* Writes the first character, escaped byte by byte where it must be. Returns the bytes of `text` it took. */
static size_t quote_character(const char *text, size_t length, char out[20]) {
    utf8proc_int32_t code;
    const utf8proc_ssize_t most = length < 4 ? (utf8proc_ssize_t)length : 4;
    const utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text, most, &code);
    const size_t taken = n > 0 ? (size_t)n : 1;
    if (n > 0 && is_printable(code)) {
        memcpy(out, text, taken);
        out[taken] = '\0';
        return taken;
    }
    for (size_t i = 0; i < taken; i++) snprintf(out + 4 * i, 5, "\\x%02x", (unsigned)(unsigned char)text[i]);
    return taken;
}

struct ds_quoted ds_quote(const char *text, size_t length) {
    static const char cut[] = "...";
    struct ds_quoted quoted;
    size_t used = 0;
    for (size_t i = 0; i < length;) {
        char character[20];
        i += quote_character(text + i, length - i, character);
        const size_t n = strlen(character);
        if (used + n + sizeof cut > sizeof quoted.text) {
            memcpy(quoted.text + used, cut, sizeof cut);
            return quoted;
        }
        memcpy(quoted.text + used, character, n);
        used += n;
    }
    quoted.text[used] = '\0';
    return quoted;
}

struct ds_quoted ds_quote_name(const char *name) {
    return ds_quote(name, strlen(name));
}
