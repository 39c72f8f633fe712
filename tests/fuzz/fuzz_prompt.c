/*
 * Any bytes as a prompt and as a chat message, with a fixed tokenizer. What must hold: tokens joined are the text (as far as it
 * is in normal form), decoding in pieces equals decoding at once, and a message never makes a control token.
 */
#include "../unit/tiny_tokenizer.h"
#include "text/chat.h"
#include "text/normalize.h"
#include "text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds) {
    if (!holds) abort();
}

static const struct ds_tokenizer *tokenizer(void) {
    static struct ds_tokenizer *opened;
    struct ds_error err;
    if (opened) return opened;
    json_t *document = tiny_document();
    /* No step and no token that drops text: every byte must come back. */
    json_array_clear(json_object_get(document, "added_tokens"));
    tiny_add(document, "<|im_start|>", TINY_START, "special");
    tiny_add(document, "<|im_end|>", TINY_END, "special");
    tiny_add(document, "<think>", TINY_THINK, NULL);
    tiny_add(document, "word", TINY_WORD, "single_word");
    require(tiny_open(document, NULL, &opened, &err) == DS_OK);
    json_decref(document);
    return opened;
}

/* What the tokens must spell: NFC of each stretch of valid UTF-8. Added tokens part a text before it is normalised: none here.
 */
static bool is_stable(const char *text, size_t length) {
    return ds_is_normalized(DS_NORMAL_NFC, text, length);
}

static void check_spelling(const struct ds_ids *ids, const char *text, size_t length) {
    size_t at = 0;
    for (size_t i = 0; i < ids->count; i++) {
        const struct ds_text bytes = ds_tokenizer_bytes(tokenizer(), ids->ids[i]);
        require(bytes.length <= length - at && memcmp(text + at, bytes.data, bytes.length) == 0);
        at += bytes.length;
    }
    require(at == length);
}

/* Token by token, as a program prints an answer while it comes. */
static void check_stream(const struct ds_ids *ids) {
    struct ds_utf8_stream stream = {0};
    struct ds_error err;
    char *whole, piece[256];
    size_t length, at = 0;
    require(ds_tokenizer_decode(tokenizer(), ids->ids, ids->count, false, &whole, &length, &err) == DS_OK);
    require(ds_utf8_valid_prefix(whole, length) == length);
    for (size_t i = 0; i <= ids->count; i++) {
        const struct ds_text bytes = i < ids->count ? ds_tokenizer_bytes(tokenizer(), ids->ids[i]) : (struct ds_text){0};
        const size_t n =
            i < ids->count ? ds_utf8_push(&stream, bytes.data, bytes.length, piece) : ds_utf8_finish(&stream, piece);
        require(ds_utf8_valid_prefix(piece, n) == n);
        require(n <= length - at && memcmp(whole + at, piece, n) == 0);
        at += n;
    }
    require(at == length);
    free(whole);
}

static void check_chat(const char *text, size_t length) {
    struct ds_ids ids = {0};
    struct ds_error err;
    const ds_message messages[] = {{.role = "assistant", .content = text, .length = length},
                                   {.role = "user", .content = text, .length = length}};
    const char *const names[] = {"chatml", "qwen3", "qwen2"};
    for (size_t k = 0; k < DS_COUNT(names); k++) {
        size_t controls = 0;
        ids.count = 0;
        require(ds_chat_encode(ds_chat_by_name(names[k]), tokenizer(), messages, 2, &ids, &err) == DS_OK);
        for (size_t i = 0; i < ids.count; i++) controls += ids.ids[i] == TINY_START || ids.ids[i] == TINY_END;
        require(controls == (strcmp(names[k], "qwen2") == 0 ? 7 : 5));
    }
    free(ids.ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = size ? (const char *)data : "";
    struct ds_error err;
    for (int special = 0; special < 2; special++) {
        struct ds_ids ids = {0};
        require(ds_tokenizer_encode(tokenizer(), text, size, special, &ids, &err) == DS_OK);
        if (is_stable(text, size)) check_spelling(&ids, text, size);
        check_stream(&ids);
        free(ids.ids);
    }
    check_chat(text, size);
    return 0;
}
