#include "text/pretokenize.h"
#include "text/utf8.h"

#include <stdlib.h>
#include <string.h>

const char ds_gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

ds_status ds_pretokenizer_add(struct ds_pretokenizer *pre, const char *pattern, size_t length, bool literal,
                              ds_split_behavior behavior, bool invert, struct ds_error *err) {
    if (pre->count == DS_PRETOKENIZER_MAX)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "more than %d pre-tokenizers in sequence", (int)DS_PRETOKENIZER_MAX);
    struct ds_split *split = &pre->splits[pre->count];
    *split = (struct ds_split){.behavior = behavior, .invert = invert};
    DS_TRY(ds_regex_compile(pattern, length, literal, &split->regex, err));
    pre->count++;
    return DS_OK;
}

void ds_pretokenizer_free(struct ds_pretokenizer *pre) {
    for (uint32_t i = 0; i < pre->count; i++) ds_regex_free(pre->splits[i].regex);
    *pre = (struct ds_pretokenizer){0};
}

void ds_pretokenizer_work_free(struct ds_pretokenizer_work *work) {
    for (size_t i = 0; i < DS_COUNT(work->matches); i++) ds_regex_match_destroy(work->matches[i]);
    free(work->prefixed.data);
    *work = (struct ds_pretokenizer_work){0};
}

/* --- the pieces of one split --- */

/* A stretch of text that the pattern matches, or one between two matches. */
struct part {
    struct ds_range range;
    bool is_match; /* with `invert` applied */
};

struct parts {
    const struct ds_split *split;
    struct ds_regex_match *match;
    const char *text;
    size_t length;
    size_t searched, emitted;
    size_t last_end; /* of the match before; SIZE_MAX: none yet */
    bool has_match;  /* `found` waits behind the stretch before it */
    struct ds_range found;
};

/* The next match, as regular expression libraries iterate: an empty one right behind another does not count. */
static ds_status find_match(struct parts *parts, bool *found, struct ds_error *err) {
    *found = false;
    while (parts->searched <= parts->length) {
        DS_TRY(ds_regex_find(parts->split->regex, parts->match, parts->text, parts->length, parts->searched, found,
                             &parts->found, err));
        if (!*found) break;
        const struct ds_range range = parts->found;
        const bool empty = range.start == range.end;
        parts->searched = range.end;
        if (empty) {
            const size_t left = parts->length - range.end;
            parts->searched += left ? ds_utf8_classify(parts->text + range.end, left).length : 1;
            if (range.end == parts->last_end) {
                *found = false;
                continue;
            }
        }
        parts->last_end = range.end;
        return DS_OK;
    }
    parts->searched = parts->length + 1;
    return DS_OK;
}

/* False at the end of the text. Parts cover it; an empty match gives an empty part. */
static ds_status next_part(struct parts *parts, bool *got, struct part *part, struct ds_error *err) {
    if (!parts->has_match) DS_TRY(find_match(parts, &parts->has_match, err));
    const size_t stretch_end = parts->has_match ? parts->found.start : parts->length;
    *got = true;
    if (parts->emitted < stretch_end) {
        *part = (struct part){{parts->emitted, stretch_end}, parts->split->invert};
    } else if (parts->has_match) {
        *part = (struct part){parts->found, !parts->split->invert};
        parts->has_match = false;
    } else {
        *got = false;
        return DS_OK;
    }
    parts->emitted = part->range.end;
    return DS_OK;
}

static bool joins(ds_split_behavior behavior, bool left_is_match, bool right_is_match) {
    switch (behavior) {
    case DS_SPLIT_CONTIGUOUS:
        return left_is_match == right_is_match;
    case DS_SPLIT_MERGED_WITH_PREVIOUS:
        return !left_is_match && right_is_match;
    case DS_SPLIT_MERGED_WITH_NEXT:
        return left_is_match && !right_is_match;
    case DS_SPLIT_ISOLATED:
    case DS_SPLIT_REMOVED:
        break;
    }
    return false;
}

/* Parts joined as the behaviour says. `ahead` is the part that begins the next piece. */
struct pieces {
    struct parts parts;
    bool has_ahead;
    struct part ahead;
};

/* False at the end of the text. Pieces are never empty. */
static ds_status next_piece(struct pieces *pieces, bool *got, struct ds_range *piece, struct ds_error *err) {
    const ds_split_behavior behavior = pieces->parts.split->behavior;
    struct part last;
    do {
        if (!pieces->has_ahead) DS_TRY(next_part(&pieces->parts, &pieces->has_ahead, &pieces->ahead, err));
        *got = pieces->has_ahead;
        if (!*got) return DS_OK;
        *piece = pieces->ahead.range;
        do {
            last = pieces->ahead;
            piece->end = last.range.end;
            DS_TRY(next_part(&pieces->parts, &pieces->has_ahead, &pieces->ahead, err));
        } while (pieces->has_ahead && joins(behavior, last.is_match, pieces->ahead.is_match));
    } while ((behavior == DS_SPLIT_REMOVED && last.is_match) || piece->start == piece->end);
    return DS_OK;
}

/* --- all splits, depth first: nothing but the text is stored --- */

struct walk {
    const struct ds_pretokenizer *pre;
    struct ds_pretokenizer_work *work;
    ds_word_fn fn;
    void *user;
};

static ds_status prefix(struct ds_buffer *buffer, const char **text, size_t *length, struct ds_error *err) {
    if (*length == 0 || **text == ' ') return DS_OK;
    buffer->length = 0;
    DS_TRY(ds_buffer_append(buffer, " ", 1, err));
    DS_TRY(ds_buffer_append(buffer, *text, *length, err));
    *text = buffer->data;
    *length = buffer->length;
    return DS_OK;
}

/* Recursion is bounded by the number of splits. */
static ds_status split_from(const struct walk *walk, uint32_t level, const char *text, size_t length, struct ds_error *err) {
    const struct ds_pretokenizer *pre = walk->pre;
    if (pre->prefix_space && level == pre->prefix_before) DS_TRY(prefix(&walk->work->prefixed, &text, &length, err));
    if (level == pre->count) return walk->fn(walk->user, text, length, err);

    struct ds_regex_match **match = &walk->work->matches[level];
    if (!*match) *match = ds_regex_match_create();
    if (!*match) return ds_fail_memory(err, 0, "splitting text");
    struct pieces pieces = {
        .parts = {.split = &pre->splits[level], .match = *match, .text = text, .length = length, .last_end = SIZE_MAX}};
    for (;;) {
        bool got;
        struct ds_range piece;
        DS_TRY(next_piece(&pieces, &got, &piece, err));
        if (!got) return DS_OK;
        DS_TRY(split_from(walk, level + 1, text + piece.start, piece.end - piece.start, err));
    }
}

ds_status ds_pretokenize(const struct ds_pretokenizer *pre, struct ds_pretokenizer_work *work, const char *text, size_t length,
                         ds_word_fn fn, void *user, struct ds_error *err) {
    const struct walk walk = {.pre = pre, .work = work, .fn = fn, .user = user};
    return length ? split_from(&walk, 0, text, length, err) : DS_OK;
}
