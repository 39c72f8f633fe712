#include "text/pieces.h"

#include "text/tokenizer_internal.h"
#include "text/utf8.h"

#include <stdio.h>
#include <string.h>

static const char blank[] = "\xE2\x96\x81"; /* U+2581 */
enum { BLANK_BYTES = 3 };

static bool starts_with_blank(const char *text, size_t length) {
    return length >= BLANK_BYTES && memcmp(text, blank, BLANK_BYTES) == 0;
}

static bool wants_prefix(const struct ds_pieces *pieces, const char *text, size_t length, bool first) {
    if (length == 0 || pieces->prefix == DS_PREFIX_NONE) return false;
    if (pieces->prefix == DS_PREFIX_EVERY) return true;
    if (text[0] == ' ' || starts_with_blank(text, length)) return false;
    return pieces->prefix == DS_PREFIX_OTHER || first;
}

ds_status ds_pieces_escape(const struct ds_pieces *pieces, const char *text, size_t length, bool first, struct ds_buffer *out,
                           struct ds_error *err) {
    out->length = 0;
    DS_TRY(ds_buffer_reserve(out, BLANK_BYTES * (length + 1), err));
    char *to = out->data;
    if (wants_prefix(pieces, text, length, first)) {
        memcpy(to, blank, BLANK_BYTES);
        to += BLANK_BYTES;
    }
    for (size_t i = 0; i < length; i++) {
        if (text[i] == ' ') {
            memcpy(to, blank, BLANK_BYTES);
            to += BLANK_BYTES;
        } else {
            *to++ = text[i];
        }
    }
    out->length = (size_t)(to - out->data);
    return DS_OK;
}

void ds_pieces_byte_token(uint8_t byte, char out[7]) { snprintf(out, 7, "<0x%02X>", byte); }

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

size_t ds_pieces_decode(const char *text, size_t length, char *out) {
    if (length == 6 && memcmp(text, "<0x", 3) == 0 && text[5] == '>' && hex_digit(text[3]) >= 0 && hex_digit(text[4]) >= 0) {
        out[0] = (char)(hex_digit(text[3]) * 16 + hex_digit(text[4]));
        return 1;
    }
    size_t n = 0;
    for (size_t i = 0; i < length;) {
        const bool is_blank = starts_with_blank(text + i, length - i);
        out[n++] = is_blank ? ' ' : text[i];
        i += is_blank ? BLANK_BYTES : 1;
    }
    return n;
}

/* --- merges of scores --- */

struct candidate {
    double score;
    int32_t id, left, right;
};

static int by_score(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    if (x->left != y->left) return x->left < y->left ? -1 : 1;
    return (x->right > y->right) - (x->right < y->right);
}

/* A token that is made of others; a byte's is not, whatever its name. */
static bool is_joined(const struct ds_token_entry *entry, struct ds_text text) {
    return entry->is_word && !(entry->length == 1 && text.length == 6);
}

/* Every way to cut a token into two tokens; returns how many there are. */
static size_t cut(const struct ds_token_builder *builder, struct ds_text text, int32_t id, double score, struct candidate *out) {
    size_t n = 0;
    for (size_t i = 1; i < text.length; i++) {
        if (((uint8_t)text.data[i] & 0xC0) == 0x80) continue; /* inside a character */
        const int32_t left = ds_string_map_find(&builder->ids, (struct ds_text){text.data, i});
        if (left < 0) continue;
        const int32_t right = ds_string_map_find(&builder->ids, (struct ds_text){text.data + i, text.length - i});
        if (right < 0) continue;
        if (out) out[n] = (struct candidate){score, id, left, right};
        n++;
    }
    return n;
}

ds_status ds_pieces_merges_of_scores(struct ds_token_builder *builder, const struct ds_text *texts, const double *scores, size_t count,
                                     struct ds_error *err) {
    const struct ds_tokenizer *tokenizer = builder->tokenizer;
    size_t total = 0, n = 0;
    for (size_t i = 0; i < count; i++)
        if (is_joined(&tokenizer->tokens[i], texts[i])) total += cut(builder, texts[i], (int32_t)i, scores[i], NULL);
    struct candidate *all = malloc(DS_MAX(total, 1) * sizeof *all);
    if (!all) return ds_fail_memory(err, total * sizeof *all, "merges");
    for (size_t i = 0; i < count; i++)
        if (is_joined(&tokenizer->tokens[i], texts[i])) n += cut(builder, texts[i], (int32_t)i, scores[i], all + n);
    qsort(all, total, sizeof *all, by_score);
    const ds_status status = ds_bpe_init(&builder->tokenizer->bpe, total, &builder->tokenizer->arena, err);
    for (size_t i = 0; i < total && status == DS_OK; i++)
        ds_bpe_add_merge(&builder->tokenizer->bpe, (uint32_t)i, all[i].left, all[i].right, all[i].id);
    free(all);
    return status;
}
