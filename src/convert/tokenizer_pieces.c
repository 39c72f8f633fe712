/*
 * GGUF has two forms of such a tokenizer. `llama` has scores: every way to cut a token into two tokens is a merge, the best-scored whole first, which is
 * what SentencePiece trains and all runtimes read. `gemma4` has the merges themselves. Scores are written where they say exactly what the document's
 * merges say, the merges otherwise, so that a text has the same ids from either container.
 */
#include "convert/tokenizer_pieces.h"

#include "base/arena.h"
#include "base/quote.h"
#include "text/json_member.h"
#include "text/pieces.h"
#include "text/string_map.h"

#include <string.h>

/* As the field's converters have them: of tokens that are no result of a merge. */
static const float added_score = -1000.0f, unused_score = -10000.0f;

struct pieces {
    const struct ds_tokenizer_export *to;
    struct ds_text *texts;
    int32_t *types;
    float *scores;    /* [vocabulary] */
    uint32_t *merges; /* [vocabulary] how many make this token */
    struct ds_string_map ids;
    struct ds_arena arena;
};

bool ds_export_is_pieces(const json_t *root) { return json_is_true(json_object_get(json_object_get(root, "model"), "byte_fallback")); }

/* "left right", or the two apart. */
static bool parts_of(const json_t *merge, struct ds_text *left, struct ds_text *right) {
    if (!json_is_string(merge)) {
        const json_t *a = json_array_get(merge, 0), *b = json_array_get(merge, 1);
        *left = (struct ds_text){json_string_value(a), json_string_length(a)};
        *right = (struct ds_text){json_string_value(b), json_string_length(b)};
        return a && b;
    }
    const char *text = json_string_value(merge), *space = memchr(text, ' ', json_string_length(merge));
    if (!space) return false;
    *left = (struct ds_text){text, (size_t)(space - text)};
    *right = (struct ds_text){space + 1, json_string_length(merge) - left->length - 1};
    return true;
}

/* Ways to cut a text into two tokens. */
static uint32_t count_cuts(const struct pieces *p, struct ds_text text) {
    uint32_t n = 0;
    for (size_t i = 1; i < text.length; i++) {
        if (((uint8_t)text.data[i] & 0xC0) == 0x80) continue; /* inside a character */
        n += ds_string_map_find(&p->ids, (struct ds_text){text.data, i}) >= 0 &&
             ds_string_map_find(&p->ids, (struct ds_text){text.data + i, text.length - i}) >= 0;
    }
    return n;
}

/* A score for each whole, in the order of the merges. False: the merges of a whole are not side by side, in the order of their parts' ids. */
static bool score_merges(struct pieces *p, const json_t *merges) {
    int32_t whole = -1, last_left = -1, last_right = -1;
    uint32_t wholes = 0;
    for (size_t i = 0; i < json_array_size(merges); i++) {
        struct ds_text left, right;
        char joined[1024];
        if (!parts_of(json_array_get(merges, i), &left, &right) || left.length + right.length > sizeof joined) return false;
        memcpy(joined, left.data, left.length);
        memcpy(joined + left.length, right.data, right.length);
        const int32_t id = ds_string_map_find(&p->ids, (struct ds_text){joined, left.length + right.length}), l = ds_string_map_find(&p->ids, left),
                      r = ds_string_map_find(&p->ids, right);
        if (id < 0) return false;
        if (id != whole && p->merges[id]) return false;
        if (id == whole && (l < last_left || (l == last_left && r <= last_right))) return false;
        if (id != whole) p->scores[id] = -(float)wholes++;
        p->merges[id]++;
        whole = id;
        last_left = l;
        last_right = r;
    }
    /* Tokens that nothing makes: behind the others, as trainers order single characters. */
    for (uint32_t id = 0; id < p->to->vocabulary; id++)
        if (p->types[id] == DS_TOKEN_NORMAL && !p->merges[id]) p->scores[id] = -(float)wholes++;
    return true;
}

/* Whether the score form makes just these merges: every cut of a plain token is one, and none makes another kind of token. */
static bool scores_suffice(struct pieces *p, const json_t *merges) {
    if (!score_merges(p, merges)) return false;
    for (uint32_t id = 0; id < p->to->vocabulary; id++) {
        const uint32_t expected = p->types[id] == DS_TOKEN_NORMAL ? count_cuts(p, p->texts[id]) : 0;
        if (p->merges[id] != expected) return false;
    }
    return true;
}

/* Tokens that merges read or make must keep their text where the merges are written. */
static void mark_merged(const struct pieces *p, const json_t *merges, bool *merged) {
    for (size_t i = 0; i < json_array_size(merges); i++) {
        struct ds_text parts[2];
        char joined[1024];
        if (!parts_of(json_array_get(merges, i), &parts[0], &parts[1]) || parts[0].length + parts[1].length > sizeof joined) continue;
        memcpy(joined, parts[0].data, parts[0].length);
        memcpy(joined + parts[0].length, parts[1].data, parts[1].length);
        const struct ds_text all[] = {parts[0], parts[1], {joined, parts[0].length + parts[1].length}};
        for (size_t k = 0; k < DS_COUNT(all); k++) {
            const int32_t id = ds_string_map_find(&p->ids, all[k]);
            if (id >= 0) merged[id] = true;
        }
    }
}

/* Added tokens that are looked for in escaped text: GGUF's are looked for in the text as it is. */
static ds_status unescape_added(struct pieces *p, const json_t *root, const bool *merged, bool prefix, struct ds_error *err) {
    const json_t *added = json_object_get(root, "added_tokens");
    bool warned = !prefix;
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *token = json_array_get(added, i), *normalized = json_object_get(token, "normalized");
        const json_int_t id = json_integer_value(json_object_get(token, "id"));
        const bool escaped = normalized ? json_is_true(normalized) : !json_is_true(json_object_get(token, "special"));
        if (!escaped || id < 0 || id >= p->to->vocabulary || (merged && merged[id])) continue;
        struct ds_text *text = &p->texts[id];
        char *copy = ds_arena_copy(&p->arena, text->data, text->length);
        if (!copy) return ds_fail_memory(err, text->length, "tokens");
        const size_t length = ds_pieces_decode(text->data, text->length, copy);
        if (length != text->length && !warned)
            ds_logf(p->to->log, DS_LOG_WARNING, "added token '%s' is looked for behind the blank that is put in front of a text; GGUF looks for it before",
                    ds_quote(text->data, text->length).text);
        warned |= length != text->length;
        *text = (struct ds_text){copy, length};
    }
    return DS_OK;
}

static void set_kinds(struct pieces *p, const json_t *root) {
    const json_t *unknown = json_object_get(json_object_get(root, "model"), "unk_token");
    for (unsigned byte = 0; byte < 256; byte++) {
        char name[7];
        ds_pieces_byte_token((uint8_t)byte, name);
        const int32_t id = ds_string_map_find(&p->ids, (struct ds_text){name, 6});
        if (id >= 0) p->types[id] = DS_TOKEN_BYTE;
    }
    const int32_t id = json_is_string(unknown) ? ds_string_map_find(&p->ids, (struct ds_text){json_string_value(unknown), json_string_length(unknown)}) : -1;
    if (id >= 0) p->types[id] = DS_TOKEN_UNKNOWN;
    for (uint32_t i = 0; i < p->to->vocabulary; i++)
        p->scores[i] = p->types[i] == DS_TOKEN_UNUSED ? unused_score : p->types[i] == DS_TOKEN_USER_DEFINED || p->types[i] == DS_TOKEN_CONTROL ? added_score : 0.0f;
}

/* GGUF's one flag for a blank in front: of every stretch of text between added tokens. */
static ds_status add_prefix(struct pieces *p, const json_t *root, bool *prefix, struct ds_error *err) {
    struct ds_pieces style = {0};
    struct ds_pretokenizer pre = {0};
    const ds_status status = ds_json_pieces(root, &style, &pre, err);
    const bool splits = pre.count > 0;
    ds_pretokenizer_free(&pre);
    DS_TRY(status);
    *prefix = style.prefix != DS_PREFIX_NONE;
    if (style.prefix == DS_PREFIX_OTHER || style.prefix == DS_PREFIX_FIRST)
        ds_logf(p->to->log, DS_LOG_WARNING, "this tokenizer puts a blank in front of %s; GGUF can only say: of every stretch of text between added tokens",
                style.prefix == DS_PREFIX_FIRST ? "a text, and not behind added tokens" : "stretches that do not begin with one");
    if (splits)
        ds_logf(p->to->log, DS_LOG_WARNING, "this tokenizer cuts text in front of every blank, which GGUF cannot state: tokens with blanks inside may come out otherwise");
    return ds_gguf_add_bool(p->to->writer, "tokenizer.ggml.add_space_prefix", *prefix, err);
}

static ds_status write_all(struct pieces *p, const json_t *root, struct ds_error *err) {
    struct ds_gguf_writer *writer = p->to->writer;
    const uint32_t n = p->to->vocabulary;
    bool prefix;
    const json_t *merges = json_object_get(json_object_get(root, "model"), "merges");
    const bool scored = scores_suffice(p, merges);
    bool *merged = ds_arena_array(&p->arena, n, sizeof *merged);
    if (!merged) return ds_fail_memory(err, n, "tokens");
    mark_merged(p, merges, merged);
    const char *model = scored ? "llama" : "gemma4";
    DS_TRY(ds_gguf_add_string(writer, "tokenizer.ggml.model", model, strlen(model), err));
    if (scored) DS_TRY(ds_gguf_add_string(writer, "tokenizer.ggml.pre", "default", 7, err));
    DS_TRY(add_prefix(p, root, &prefix, err));
    DS_TRY(unescape_added(p, root, scored ? NULL : merged, prefix, err));
    if (!scored && prefix)
        ds_logf(p->to->log, DS_LOG_WARNING, "the merges of this tokenizer have no scores that say the same; with merges, other runtimes put no blank in front of a text");
    DS_TRY(ds_gguf_add_strings(writer, "tokenizer.ggml.tokens", p->texts, n, err));
    DS_TRY(ds_gguf_add_f32s(writer, "tokenizer.ggml.scores", p->scores, n, err));
    DS_TRY(ds_gguf_add_i32s(writer, "tokenizer.ggml.token_type", p->types, n, err));
    for (uint32_t id = 0; id < n; id++)
        if (p->types[id] == DS_TOKEN_UNKNOWN) DS_TRY(ds_gguf_add_u32(writer, "tokenizer.ggml.unknown_token_id", id, err));
    return scored ? DS_OK : ds_export_merges(p->to, root, err);
}

ds_status ds_export_pieces(const struct ds_tokenizer_export *to, const json_t *root, struct ds_text *texts, int32_t *types, struct ds_error *err) {
    const uint32_t n = to->vocabulary;
    struct pieces p = {.to = to, .texts = texts, .types = types};
    p.scores = ds_arena_array(&p.arena, n, sizeof *p.scores);
    p.merges = ds_arena_array(&p.arena, n, sizeof *p.merges);
    ds_status status = p.scores && p.merges ? DS_OK : ds_fail_memory(err, n * sizeof *p.scores, "scores");
    if (status == DS_OK) status = ds_string_map_init(&p.ids, n, &p.arena, err);
    for (uint32_t id = 0; id < n && status == DS_OK; id++)
        if (types[id] != DS_TOKEN_UNUSED) ds_string_map_add(&p.ids, texts[id], (int32_t)id);
    if (status == DS_OK) set_kinds(&p, root);
    if (status == DS_OK) status = write_all(&p, root, err);
    ds_arena_free(&p.arena);
    return status;
}
