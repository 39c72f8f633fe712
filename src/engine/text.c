/* The text half of the public API: a thin layer over the engine's tokenizer and chat template. */
#include "engine/engine_internal.h"
#include "text/chat.h"
#include "text/stops.h"
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

static ds_status require_tokenizer(const ds_engine *engine, const struct ds_tokenizer **out, struct ds_error *err) {
    *out = ds_engine_tokenizer(engine);
    if (*out) return DS_OK;
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "the checkpoint has no tokenizer: expected tokenizer.json in its folder or a "
                                              "tokenizer in the GGUF file; without one only token ids can be used");
}

/* Hands the list to the caller, or frees it after a failure. An empty list may be NULL. */
static ds_status give_ids(ds_status status, struct ds_ids *ids, ds_token **tokens, size_t *count) {
    if (status != DS_OK) {
        free(ids->ids);
        *ids = (struct ds_ids){0};
    }
    *tokens = ids->ids;
    *count = ids->count;
    return status;
}

static ds_status begin_ids(const struct ds_tokenizer *tokenizer, struct ds_ids *ids, struct ds_error *err) {
    const int32_t bos = ds_tokenizer_bos(tokenizer);
    if (bos < 0 || !ds_tokenizer_adds_bos(tokenizer)) return DS_OK;
    enum { FIRST_CAPACITY = 64 };
    ids->ids = malloc(FIRST_CAPACITY * sizeof *ids->ids);
    if (!ids->ids) return ds_fail_memory(err, FIRST_CAPACITY * sizeof *ids->ids, "token ids");
    ids->capacity = FIRST_CAPACITY;
    ids->ids[ids->count++] = bos;
    return DS_OK;
}

ds_status ds_tokenize(const ds_engine *engine, const char *text, size_t length, unsigned flags, ds_token **tokens,
                      size_t *count, struct ds_error *err) {
    struct ds_error unused;
    if (!err) err = &unused;
    *tokens = NULL;
    *count = 0;
    const struct ds_tokenizer *tokenizer;
    DS_TRY(require_tokenizer(engine, &tokenizer, err));
    struct ds_ids ids = {0};
    ds_status status = flags & DS_TOKENIZE_BOS ? begin_ids(tokenizer, &ids, err) : DS_OK;
    if (status == DS_OK) status = ds_tokenizer_encode(tokenizer, text, length, flags & DS_TOKENIZE_SPECIAL, &ids, err);
    return give_ids(status, &ids, tokens, count);
}

ds_status ds_detokenize(const ds_engine *engine, const ds_token *tokens, size_t count, bool special, char **text,
                        size_t *length, struct ds_error *err) {
    struct ds_error unused;
    if (!err) err = &unused;
    *text = NULL;
    *length = 0;
    const struct ds_tokenizer *tokenizer;
    DS_TRY(require_tokenizer(engine, &tokenizer, err));
    return ds_tokenizer_decode(tokenizer, tokens, count, !special, text, length, err);
}

ds_status ds_chat_tokenize(const ds_engine *engine, const ds_message *messages, size_t count, ds_token **tokens,
                           size_t *n_tokens, struct ds_error *err) {
    struct ds_error unused;
    if (!err) err = &unused;
    *tokens = NULL;
    *n_tokens = 0;
    const struct ds_tokenizer *tokenizer;
    DS_TRY(require_tokenizer(engine, &tokenizer, err));
    const struct ds_chat_template *const chat = ds_engine_chat(engine);
    if (!chat)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "the checkpoint has %s; name one with --template NAME (ds_engine_params.chat_template), or write the "
                                                  "conversation as the model expects it and give it as plain text",
                       ds_tokenizer_chat_template(tokenizer) ? "a chat template that this version does not know" : "no chat template");
    struct ds_ids ids = {0};
    const ds_status status = ds_chat_encode(chat, tokenizer, messages, count, &ids, err);
    return give_ids(status, &ids, tokens, n_tokens);
}

void ds_free(void *data) {
    free(data);
}

/* --- streams --- */

struct ds_text_stream {
    const struct ds_tokenizer *tokenizer;
    bool special;
    struct ds_utf8_stream utf8;
    struct ds_stops *stops; /* NULL: none */
    char *through;          /* with stop strings: room for what they let through */
    char text[];            /* room for what the longest token can complete */
};

static ds_status add_stops(ds_text_stream *stream, const char *const *stops, size_t n, size_t most_piece, struct ds_error *err) {
    if (n == 0) return DS_OK;
    DS_TRY(ds_stops_create(stops, n, most_piece, &stream->stops, err));
    const size_t bytes = ds_stops_most(stream->stops) + 1;
    stream->through = malloc(bytes);
    return stream->through ? DS_OK : ds_fail_memory(err, bytes, "a text stream");
}

ds_status ds_text_stream_create(const ds_engine *engine, bool special, ds_text_stream **out, struct ds_error *err) {
    return ds_text_stream_create_until(engine, special, NULL, 0, out, err);
}

ds_status ds_text_stream_create_until(const ds_engine *engine, bool special, const char *const *stops, size_t n_stops, ds_text_stream **out,
                                      struct ds_error *err) {
    struct ds_error unused;
    if (!err) err = &unused;
    *out = NULL;
    const struct ds_tokenizer *tokenizer;
    DS_TRY(require_tokenizer(engine, &tokenizer, err));
    size_t longest = 0;
    for (uint32_t id = 0; id < ds_tokenizer_count(tokenizer); id++) {
        const size_t length = ds_tokenizer_bytes(tokenizer, (int32_t)id).length;
        longest = DS_MAX(longest, length);
    }
    const size_t piece = 3 * (longest + 4), bytes = sizeof(ds_text_stream) + piece + 1; /* ds_utf8_push's bound; 1: a NUL */
    ds_text_stream *const stream = calloc(1, bytes);
    if (!stream) return ds_fail_memory(err, bytes, "a text stream");
    stream->tokenizer = tokenizer;
    stream->special = special;
    const ds_status status = add_stops(stream, stops, n_stops, piece, err);
    if (status != DS_OK) ds_text_stream_destroy(stream);
    else *out = stream;
    return status;
}

/* The piece of *length bytes in stream->text, or what stop strings let through of it. */
static const char *let_through(ds_text_stream *stream, size_t *length) {
    char *text = stream->text;
    if (stream->stops) {
        text = stream->through;
        *length = ds_stops_push(stream->stops, stream->text, *length, text);
    }
    text[*length] = '\0';
    return text;
}

const char *ds_text_stream_push(ds_text_stream *stream, ds_token token, size_t *length) {
    *length = 0;
    if (stream->special || !ds_tokenizer_is_special(stream->tokenizer, token)) {
        const struct ds_text bytes = ds_tokenizer_bytes(stream->tokenizer, token);
        *length = ds_utf8_push(&stream->utf8, bytes.data, bytes.length, stream->text);
    }
    return let_through(stream, length);
}

const char *ds_text_stream_finish(ds_text_stream *stream, size_t *length) {
    *length = ds_utf8_finish(&stream->utf8, stream->text);
    stream->utf8 = (struct ds_utf8_stream){0};
    const char *const text = let_through(stream, length);
    if (!stream->stops) return text;
    *length += ds_stops_finish(stream->stops, stream->through + *length);
    stream->through[*length] = '\0';
    ds_stops_begin(stream->stops);
    return text;
}

int ds_text_stream_stopped(const ds_text_stream *stream) { return stream->stops ? stream->stops->met : -1; }

void ds_text_stream_destroy(ds_text_stream *stream) {
    if (!stream) return;
    ds_stops_destroy(stream->stops);
    free(stream->through);
    free(stream);
}
