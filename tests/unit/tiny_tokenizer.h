/* A small tokenizer.json for tests and fuzzing: the 256 bytes (byte b is id b), a few merges, added tokens of all kinds. */
#ifndef DSPARK_TESTS_TINY_TOKENIZER_H
#define DSPARK_TESTS_TINY_TOKENIZER_H

#include "base/json.h"
#include "text/byte_alphabet.h"
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

enum {
    TINY_TH = 256,
    TINY_THE,
    TINY_SPACE_THE,
    TINY_AA,
    TINY_AAAA,
    TINY_NEWLINES,
    TINY_START = 300,
    TINY_END,
    TINY_THINK,
    TINY_GREEDY,
    TINY_WORD,
    TINY_ACCENT
};

static inline void tiny_add(json_t *root, const char *content, int id, const char *flag) {
    json_t *token = json_pack("{s:s, s:i}", "content", content, "id", id);
    if (flag) json_object_set_new(token, flag, json_true());
    if (flag && strcmp(flag, "strip") == 0) {
        json_object_set_new(token, "lstrip", json_true());
        json_object_set_new(token, "rstrip", json_true());
    }
    if (!flag || strcmp(flag, "normalized") != 0) json_object_set_new(token, "normalized", json_false());
    json_array_append_new(json_object_get(root, "added_tokens"), token);
}

/* The document, to be changed by a test; the caller decrefs it. */
static inline json_t *tiny_document(void) {
    json_t *vocab = json_object();
    for (int byte = 0; byte < 256; byte++) {
        char text[3] = {0};
        ds_byte_alphabet_encode((uint8_t)byte, text);
        json_object_set_new(vocab, text, json_integer(byte));
    }
    static const char *const joined[] = {"th", "the", "\xC4\xA0the", "aa", "aaaa", "\xC4\x8A\xC4\x8A"};
    for (int i = 0; i < 6; i++) json_object_set_new(vocab, joined[i], json_integer(256 + i));
    json_t *root =
        json_pack("{s:[], s:{s:s}, s:{s:s, s:b, s:b}, s:{s:s, s:o, s:[s, s, [s, s], s, s, s]}}", "added_tokens", "normalizer",
                  "type", "NFC", "pre_tokenizer", "type", "ByteLevel", "add_prefix_space", 0, "use_regex", 1, "model", "type",
                  "BPE", "vocab", vocab, "merges", "t h", "th e", "\xC4\xA0", "the", "a a", "aa aa", "\xC4\x8A \xC4\x8A");
    tiny_add(root, "<|im_start|>", TINY_START, "special");
    tiny_add(root, "<|im_end|>", TINY_END, "special");
    tiny_add(root, "<think>", TINY_THINK, NULL);
    tiny_add(root, "<greedy>", TINY_GREEDY, "strip");
    tiny_add(root, "word", TINY_WORD, "single_word");
    tiny_add(root, "e\xCC\x81\xCC\x81", TINY_ACCENT, "normalized");
    return root;
}

static inline ds_status tiny_open(const json_t *document, const char *config, struct ds_tokenizer **out, struct ds_error *err) {
    char *text = json_dumps(document, 0);
    const ds_status status = ds_tokenizer_parse_json("tiny", text, strlen(text), config, config ? strlen(config) : 0, out, err);
    free(text);
    return status;
}

#endif
