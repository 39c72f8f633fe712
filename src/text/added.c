#include "text/added.h"
#include "text/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* By content, equal ones by id: a total order, so that sorting is the same everywhere. */
static int by_content(const void *a, const void *b) {
    const struct ds_added_token *left = a, *right = b;
    const struct ds_text *x = &left->content, *y = &right->content;
    const int order = memcmp(x->data, y->data, DS_MIN(x->length, y->length));
    if (order) return order;
    if (x->length != y->length) return x->length < y->length ? -1 : 1;
    return left->id < right->id ? -1 : left->id > right->id;
}

ds_status ds_added_init(struct ds_added_set *set, const struct ds_added_token *tokens, uint32_t count, struct ds_arena *arena,
                        struct ds_error *err) {
    set->tokens = ds_arena_array(arena, count, sizeof *set->tokens);
    if (!set->tokens) return ds_fail_memory(err, count * sizeof *set->tokens, "added tokens");
    if (count) memcpy(set->tokens, tokens, count * sizeof *set->tokens);
    qsort(set->tokens, count, sizeof *set->tokens, by_content);
    set->count = count;
    uint32_t i = 0;
    for (unsigned b = 0; b < 256; b++) {
        set->first[b] = i;
        while (i < count && (uint8_t)set->tokens[i].content.data[0] == b) i++;
    }
    set->first[256] = count;
    return DS_OK;
}

/* The longest token at the start of `n` bytes: the sorted range of those that share the text's prefix narrows byte by byte. */
static const struct ds_added_token *longest_match(const struct ds_added_set *set, const char *text, size_t n) {
    const struct ds_added_token *found = NULL;
    uint32_t low = set->first[(uint8_t)text[0]], high = set->first[(uint8_t)text[0] + 1];
    for (size_t depth = 1; low < high; depth++) {
        if (set->tokens[low].content.length == depth) { /* the shortest of the range comes first */
            found = &set->tokens[low];
            while (low < high && set->tokens[low].content.length == depth) low++;
        }
        if (depth == n) break;
        const uint8_t byte = (uint8_t)text[depth];
        uint32_t a = low, b = high;
        while (a < b) { /* first with content[depth] >= byte */
            const uint32_t middle = a + (b - a) / 2;
            if ((uint8_t)set->tokens[middle].content.data[depth] < byte)
                a = middle + 1;
            else
                b = middle;
        }
        low = a;
        b = high;
        while (a < b) { /* first with content[depth] > byte */
            const uint32_t middle = a + (b - a) / 2;
            if ((uint8_t)set->tokens[middle].content.data[depth] <= byte)
                a = middle + 1;
            else
                b = middle;
        }
        high = a;
    }
    return found;
}

/* Unicode's word characters: Alphabetic, marks, decimal digits, connectors, joiners (UTS 18). */
static bool is_word(uint32_t c) {
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
               (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
    }
}

static bool is_space(uint32_t c) {
    if (c <= 0x20) return c == ' ' || (c >= '\t' && c <= '\r');
    const utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return c == 0x85 || category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
           category == UTF8PROC_CATEGORY_ZP;
}

static bool is_between_words(const struct ds_added_scan *scan, size_t start, size_t end) {
    if (start > 0 && is_word(ds_utf8_decode(ds_utf8_previous(scan->text, scan->text + start)))) return false;
    return end == scan->length || !is_word(ds_utf8_decode(scan->text + end));
}

static bool is_accepted(const struct ds_added_scan *scan, const struct ds_added_token *token, size_t start, size_t end) {
    if (token->special && !scan->filter.special) return false;
    for (size_t i = 0; i < scan->filter.n_refused; i++)
        if (scan->filter.refused[i] == token->id) return false;
    return !token->single_word || is_between_words(scan, start, end);
}

static size_t strip_left(const struct ds_added_scan *scan, size_t start) {
    while (start > scan->emitted) {
        const char *previous = ds_utf8_previous(scan->text, scan->text + start);
        if (!is_space(ds_utf8_decode(previous))) break;
        start = (size_t)(previous - scan->text);
    }
    return start;
}

static size_t strip_right(const struct ds_added_scan *scan, size_t end) {
    while (end < scan->length && is_space(ds_utf8_decode(scan->text + end)))
        end += ds_utf8_classify(scan->text + end, scan->length - end).length;
    return end;
}

/* The next accepted token at or behind `searched`, and the text it covers. */
static const struct ds_added_token *next_token(struct ds_added_scan *scan, size_t *start, size_t *end) {
    while (scan->searched < scan->length) {
        const size_t at = scan->searched;
        const struct ds_added_token *token = longest_match(scan->set, scan->text + at, scan->length - at);
        if (!token) {
            scan->searched++;
            continue;
        }
        scan->searched = at + token->content.length;
        if (!is_accepted(scan, token, at, scan->searched)) continue;
        /* Blanks that the token before took with it may hold this one: what was given out is not given out again. */
        *start = DS_MAX(token->lstrip ? strip_left(scan, at) : at, scan->emitted);
        *end = DS_MAX(token->rstrip ? strip_right(scan, scan->searched) : scan->searched, *start);
        return token;
    }
    return NULL;
}

static bool emit(struct ds_added_scan *scan, size_t end, int32_t id, struct ds_segment *segment) {
    *segment = (struct ds_segment){.start = scan->emitted, .length = end - scan->emitted, .id = id};
    scan->emitted = end;
    return true;
}

bool ds_added_next(struct ds_added_scan *scan, struct ds_segment *segment) {
    if (scan->pending) {
        scan->pending = false;
        return emit(scan, scan->pending_end, scan->pending_id, segment);
    }
    size_t start, end;
    const struct ds_added_token *token = scan->set->count ? next_token(scan, &start, &end) : NULL;
    if (!token) return scan->emitted < scan->length && emit(scan, scan->length, -1, segment);
    if (start == scan->emitted) return emit(scan, end, token->id, segment);
    scan->pending = true;
    scan->pending_id = token->id;
    scan->pending_end = end;
    return emit(scan, start, -1, segment);
}
