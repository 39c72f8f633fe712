#include "text/tokenizer_internal.h"
#include "text/utf8.h"

#include <string.h>

void ds_tokenizer_close(struct ds_tokenizer *tokenizer) {
    if (!tokenizer) return;
    ds_pretokenizer_free(&tokenizer->pre);
    ds_arena_free(&tokenizer->arena);
    free(tokenizer);
}

/* --- encoding --- */

struct encoder {
    const struct ds_tokenizer *tokenizer;
    struct ds_added_filter filter;
    struct ds_ids *out;
    struct ds_pretokenizer_work pre;
    struct ds_bpe_work bpe;
    struct ds_buffer normal;
    bool started; /* something of the text has been encoded */
};

static ds_status encode_word(void *user, const char *word, size_t length, struct ds_error *err) {
    struct encoder *encoder = user;
    return ds_bpe_encode(&encoder->tokenizer->bpe, &encoder->bpe, word, length, encoder->out, err);
}

/* Text without added tokens, as far as they are found before it is normalised. */
static ds_status encode_plain(struct encoder *encoder, const char *text, size_t length, struct ds_error *err) {
    const struct ds_tokenizer *tokenizer = encoder->tokenizer;
    const bool first = !encoder->started;
    encoder->started = true;
    if (!ds_is_normalized(tokenizer->form, text, length)) {
        DS_TRY(ds_normalize(tokenizer->form, text, length, &encoder->normal, err));
        text = encoder->normal.data;
        length = encoder->normal.length;
    }
    if (tokenizer->pieces.used) {
        DS_TRY(ds_pieces_escape(&tokenizer->pieces, text, length, first, &encoder->normal, err));
        text = encoder->normal.data;
        length = encoder->normal.length;
    }
    struct ds_added_scan scan = {.set = &tokenizer->normalized, .text = text, .length = length, .filter = encoder->filter};
    for (struct ds_segment segment; ds_added_next(&scan, &segment);) {
        if (segment.id >= 0)
            DS_TRY(ds_ids_push(encoder->out, segment.id, err));
        else
            DS_TRY(ds_pretokenize(&tokenizer->pre, &encoder->pre, text + segment.start, segment.length, encode_word, encoder,
                                  err));
    }
    return DS_OK;
}

static ds_status encode_valid(struct encoder *encoder, const char *text, size_t length, struct ds_error *err) {
    struct ds_added_scan scan = {.set = &encoder->tokenizer->raw, .text = text, .length = length, .filter = encoder->filter};
    for (struct ds_segment segment; ds_added_next(&scan, &segment);) {
        if (segment.id >= 0) encoder->started = true;
        if (segment.id >= 0)
            DS_TRY(ds_ids_push(encoder->out, segment.id, err));
        else
            DS_TRY(encode_plain(encoder, text + segment.start, segment.length, err));
    }
    return DS_OK;
}

/* Stretches of valid UTF-8 are texts of their own; a byte between them becomes its token. */
static ds_status encode_bytes(struct encoder *encoder, const char *text, size_t length, struct ds_error *err) {
    for (size_t i = 0; i < length;) {
        const size_t valid = ds_utf8_valid_prefix(text + i, length - i);
        if (valid) DS_TRY(encode_valid(encoder, text + i, valid, err));
        i += valid;
        if (i < length) DS_TRY(encode_word(encoder, text + i++, 1, err));
    }
    return DS_OK;
}

ds_status ds_tokenizer_encode_filtered(const struct ds_tokenizer *tokenizer, const char *text, size_t length,
                                       struct ds_added_filter filter, struct ds_ids *out, struct ds_error *err) {
    const size_t before = out->count;
    struct encoder encoder = {.tokenizer = tokenizer, .filter = filter, .out = out};
    const ds_status status = encode_bytes(&encoder, text, length, err);
    if (status != DS_OK) out->count = before;
    ds_pretokenizer_work_free(&encoder.pre);
    ds_bpe_work_free(&encoder.bpe);
    free(encoder.normal.data);
    return status;
}

ds_status ds_tokenizer_encode(const struct ds_tokenizer *tokenizer, const char *text, size_t length, bool special,
                              struct ds_ids *out, struct ds_error *err) {
    return ds_tokenizer_encode_filtered(tokenizer, text, length, (struct ds_added_filter){.special = special}, out, err);
}

/* --- single tokens --- */

static const struct ds_token_entry *entry_of(const struct ds_tokenizer *tokenizer, int32_t id) {
    static const struct ds_token_entry none = {.bytes = ""};
    if (id < 0 || (uint32_t)id >= tokenizer->count || !tokenizer->tokens[id].bytes) return &none;
    return &tokenizer->tokens[id];
}

struct ds_text ds_tokenizer_bytes(const struct ds_tokenizer *tokenizer, int32_t id) {
    const struct ds_token_entry *entry = entry_of(tokenizer, id);
    return (struct ds_text){entry->bytes, entry->length};
}

bool ds_tokenizer_is_special(const struct ds_tokenizer *tokenizer, int32_t id) {
    return entry_of(tokenizer, id)->special;
}

uint32_t ds_tokenizer_count(const struct ds_tokenizer *tokenizer) {
    return tokenizer->count;
}

static int32_t find_in(const struct ds_added_set *set, const char *content, size_t length) {
    for (uint32_t i = 0; i < set->count; i++) {
        const struct ds_text *text = &set->tokens[i].content;
        if (text->length == length && memcmp(text->data, content, length) == 0) return set->tokens[i].id;
    }
    return -1;
}

int32_t ds_tokenizer_find(const struct ds_tokenizer *tokenizer, const char *content) {
    const size_t length = strlen(content);
    const int32_t id = find_in(&tokenizer->raw, content, length);
    return id >= 0 ? id : find_in(&tokenizer->normalized, content, length);
}

int32_t ds_tokenizer_bos(const struct ds_tokenizer *tokenizer) {
    return tokenizer->bos;
}
int32_t ds_tokenizer_eos(const struct ds_tokenizer *tokenizer) {
    return tokenizer->eos;
}
bool ds_tokenizer_adds_bos(const struct ds_tokenizer *tokenizer) {
    return tokenizer->adds_bos;
}
const char *ds_tokenizer_chat_template(const struct ds_tokenizer *tokenizer) {
    return tokenizer->chat_template;
}

/* --- decoding --- */

ds_status ds_tokenizer_decode(const struct ds_tokenizer *tokenizer, const int32_t *ids, size_t count, bool skip_special,
                              char **text, size_t *length, struct ds_error *err) {
    *text = NULL;
    *length = 0;
    struct ds_buffer out = {0};
    struct ds_utf8_stream stream = {0};
    ds_status status = DS_OK;
    bool strips = tokenizer->pieces.strips_first;
    for (size_t i = 0; i < count && status == DS_OK; i++) {
        const struct ds_token_entry *entry = entry_of(tokenizer, ids[i]);
        if (skip_special && entry->special) continue;
        const size_t skipped = strips && entry->length && entry->bytes[0] == ' ';
        strips = false;
        status = ds_buffer_reserve(&out, 3 * ((size_t)entry->length + 4), err);
        if (status == DS_OK) out.length += ds_utf8_push(&stream, entry->bytes + skipped, entry->length - skipped, out.data + out.length);
    }
    if (status == DS_OK) status = ds_buffer_reserve(&out, 12 + 1, err);
    if (status != DS_OK) {
        free(out.data);
        return status;
    }
    out.length += ds_utf8_finish(&stream, out.data + out.length);
    out.data[out.length] = '\0';
    *text = out.data;
    *length = out.length;
    return DS_OK;
}
