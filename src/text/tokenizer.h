/*
 * Tokenizers: byte-level and SentencePiece-style BPE from a Hugging Face tokenizer.json or from GGUF metadata.
 *
 * Text in, ids out, and back, exactly as the reference implementation (the `tokenizers` library) does, special and added
 * tokens, normaliser and pre-tokenizer included. Merging a piece of n bytes costs O(n log n).
 *
 * A tokenizer is immutable after it was opened and may be used from any thread. Input is arbitrary bytes: invalid UTF-8
 * is tokenised byte by byte, never rejected.
 */
#ifndef DSPARK_TEXT_TOKENIZER_H
#define DSPARK_TEXT_TOKENIZER_H

#include "ckpt/checkpoint.h"

struct ds_tokenizer; /* opaque */

/* `path`: a tokenizer.json. tokenizer_config.json beside it, if any, gives bos/eos, add_bos_token and the chat template. */
ds_status ds_tokenizer_open_json(const char *path, struct ds_tokenizer **out, struct ds_error *err);
/* From the bytes of a tokenizer.json; `config` (tokenizer_config.json) may be NULL. `name` is for messages. For tests and
 * fuzzing. */
ds_status ds_tokenizer_parse_json(const char *name, const char *json, size_t size, const char *config, size_t config_size,
                                  struct ds_tokenizer **out, struct ds_error *err);
/* From `tokenizer.ggml.*` of a GGUF checkpoint, which may be closed afterwards. DS_ERROR_UNSUPPORTED names a model or
 * pre-tokenizer we lack. */
ds_status ds_tokenizer_open_gguf(const struct ds_ckpt *ckpt, struct ds_tokenizer **out, struct ds_error *err);
/* Whichever of the two belongs to an open checkpoint; *out is NULL with DS_OK when it has none. */
ds_status ds_tokenizer_open(const struct ds_ckpt *ckpt, struct ds_tokenizer **out, struct ds_error *err);
void ds_tokenizer_close(struct ds_tokenizer *tokenizer); /* accepts NULL */

/* A growing list of ids, owned by the caller: zero it, hand it in, free `ids` with free(). */
struct ds_ids {
    int32_t *ids;
    size_t count, capacity;
};

/* Appends the ids of `text`. `special`: special tokens in the text are recognised. Adds neither BOS nor EOS. */
ds_status ds_tokenizer_encode(const struct ds_tokenizer *tokenizer, const char *text, size_t length, bool special,
                              struct ds_ids *out, struct ds_error *err);

/* The bytes of one token (not always whole UTF-8 characters); empty for an unknown id. Valid as long as the tokenizer. */
struct ds_text ds_tokenizer_bytes(const struct ds_tokenizer *tokenizer, int32_t id);
bool ds_tokenizer_is_special(const struct ds_tokenizer *tokenizer, int32_t id);

uint32_t ds_tokenizer_count(const struct ds_tokenizer *tokenizer); /* highest id + 1 */
int32_t ds_tokenizer_find(const struct ds_tokenizer *tokenizer,
                          const char *content);                 /* id of an added token by its text, -1: none */
int32_t ds_tokenizer_bos(const struct ds_tokenizer *tokenizer); /* -1: none */
int32_t ds_tokenizer_eos(const struct ds_tokenizer *tokenizer); /* -1: none */
bool ds_tokenizer_adds_bos(const struct ds_tokenizer *tokenizer);
/* The Jinja text of the chat template, or NULL. */
const char *ds_tokenizer_chat_template(const struct ds_tokenizer *tokenizer);

/*
 * Decoding as a stream: bytes of tokens go in, whole valid UTF-8 comes out as early as possible. A character that straddles
 * tokens is held back until it is complete; what can no longer become valid turns into U+FFFD, one for each maximal
 * invalid part, so that the pieces joined equal the text decoded at once. Zero the struct to start.
 */
struct ds_utf8_stream {
    uint8_t held[4];
    uint32_t n_held;
};
/* Writes at most 3 * (n + 4) bytes to out; returns how many. */
size_t ds_utf8_push(struct ds_utf8_stream *stream, const char *bytes, size_t n, char *out);
/* The end: what is still held becomes U+FFFD. Writes at most 12 bytes. */
size_t ds_utf8_finish(struct ds_utf8_stream *stream, char *out);

/* Decodes ids at once; malloc'ed, NUL behind *length bytes. Unknown ids give nothing. */
ds_status ds_tokenizer_decode(const struct ds_tokenizer *tokenizer, const int32_t *ids, size_t count, bool skip_special,
                              char **text, size_t *length, struct ds_error *err);

#endif
