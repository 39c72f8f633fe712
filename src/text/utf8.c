#include "text/utf8.h"
#include "text/tokenizer.h"

#include <string.h>

struct ds_utf8_part ds_utf8_classify(const char *text, size_t n) {
    const uint8_t *p = (const uint8_t *)text;
    const uint8_t lead = p[0];
    if (lead < 0x80) return (struct ds_utf8_part){DS_UTF8_VALID, 1};
    if (lead < 0xC2 || lead > 0xF4) return (struct ds_utf8_part){DS_UTF8_INVALID, 1};

    const uint32_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    /* The second byte alone decides about overlong forms, surrogates and the upper end. */
    const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    for (uint32_t i = 1; i < length; i++) {
        if (i == n) return (struct ds_utf8_part){DS_UTF8_INCOMPLETE, i};
        const uint8_t from = i == 1 ? low : 0x80, to = i == 1 ? high : 0xBF;
        if (p[i] < from || p[i] > to) return (struct ds_utf8_part){DS_UTF8_INVALID, i};
    }
    return (struct ds_utf8_part){DS_UTF8_VALID, length};
}

size_t ds_utf8_valid_prefix(const char *text, size_t n) {
    size_t i = 0;
    while (i < n) {
        uint64_t word;
        if (n - i >= sizeof word) { /* eight ASCII bytes at a time */
            memcpy(&word, text + i, sizeof word);
            if (!(word & 0x8080808080808080u)) {
                i += sizeof word;
                continue;
            }
        }
        const struct ds_utf8_part part = ds_utf8_classify(text + i, n - i);
        if (part.kind != DS_UTF8_VALID) break;
        i += part.length;
    }
    return i;
}

uint32_t ds_utf8_decode(const char *text) {
    const uint8_t *p = (const uint8_t *)text;
    if (p[0] < 0x80) return p[0];
    if (p[0] < 0xE0) return (uint32_t)(p[0] & 0x1F) << 6 | (p[1] & 0x3F);
    if (p[0] < 0xF0) return (uint32_t)(p[0] & 0x0F) << 12 | (uint32_t)(p[1] & 0x3F) << 6 | (p[2] & 0x3F);
    return (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3F) << 12 | (uint32_t)(p[2] & 0x3F) << 6 | (p[3] & 0x3F);
}

const char *ds_utf8_previous(const char *text, const char *end) {
    do end--;
    while (end > text && ((uint8_t)*end & 0xC0) == 0x80);
    return end;
}

/* --- decoding as a stream --- */

static const char replacement[3] = {'\xEF', '\xBF', '\xBD'}; /* U+FFFD */

static size_t put(char *out, const void *data, size_t n) {
    memcpy(out, data, n);
    return n;
}

size_t ds_utf8_push(struct ds_utf8_stream *stream, const char *bytes, size_t n, char *out) {
    size_t written = 0, i = 0;
    while (i < n) {
        if (stream->n_held == 0) {
            const size_t valid = ds_utf8_valid_prefix(bytes + i, n - i);
            written += put(out + written, bytes + i, valid);
            i += valid;
            if (i == n) break;
        }
        /* Something is held, or begins here, that is not a whole character yet: go on byte by byte. */
        stream->held[stream->n_held++] = (uint8_t)bytes[i];
        const struct ds_utf8_part part = ds_utf8_classify((const char *)stream->held, stream->n_held);
        if (part.kind == DS_UTF8_INCOMPLETE) {
            i++;
            continue;
        }
        if (part.kind == DS_UTF8_VALID) {
            written += put(out + written, stream->held, part.length);
            i++;
        } else {
            written += put(out + written, replacement, sizeof replacement);
            /* A byte that only ended the invalid part is looked at again, as a beginning. */
            if (part.length == stream->n_held) i++;
        }
        stream->n_held = 0;
    }
    return written;
}

size_t ds_utf8_finish(struct ds_utf8_stream *stream, char *out) {
    if (stream->n_held == 0) return 0;
    stream->n_held = 0; /* what is held is one maximal subpart */
    return put(out, replacement, sizeof replacement);
}
