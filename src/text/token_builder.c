#include "base/quote.h"
#include "text/byte_alphabet.h"
#include "text/tokenizer_internal.h"
#include "text/utf8.h"

#include <string.h>

ds_status ds_token_builder_begin(struct ds_token_builder *builder, struct ds_tokenizer *tokenizer, uint32_t count, size_t texts,
                                 struct ds_error *err) {
    *builder = (struct ds_token_builder){.tokenizer = tokenizer};
    tokenizer->tokens = ds_arena_array(&tokenizer->arena, count, sizeof *tokenizer->tokens);
    if (!tokenizer->tokens) return ds_fail_memory(err, count * sizeof *tokenizer->tokens, "the vocabulary");
    tokenizer->count = count;
    tokenizer->bpe.characters = tokenizer->pieces.used;
    if (tokenizer->pieces.used) DS_TRY(ds_string_map_init(&tokenizer->bpe.singles, texts, &tokenizer->arena, err));
    return ds_string_map_init(&builder->ids, texts, &builder->scratch, err);
}

void ds_token_builder_end(struct ds_token_builder *builder) {
    ds_arena_free(&builder->scratch);
}

/* A token of one character is what pieces start as. */
static ds_status add_single(struct ds_tokenizer *tokenizer, struct ds_text text, int32_t id, struct ds_error *err) {
    if (text.length == 0 || ds_utf8_classify(text.data, text.length).length != text.length) return DS_OK;
    const char *own = ds_arena_copy(&tokenizer->arena, text.data, text.length); /* the map keeps it */
    if (!own) return ds_fail_memory(err, text.length, "the vocabulary");
    ds_string_map_add(&tokenizer->bpe.singles, (struct ds_text){own, text.length}, id);
    return DS_OK;
}

/* Sets what token `id` decodes to. */
static ds_status set_bytes(struct ds_tokenizer *tokenizer, struct ds_text text, int32_t id, bool in_model,
                           struct ds_error *err) {
    struct ds_token_entry *entry = &tokenizer->tokens[id];
    char *bytes = ds_arena_copy(&tokenizer->arena, text.data, text.length);
    if (!bytes) return ds_fail_memory(err, text.length, "the vocabulary");
    size_t length = text.length;
    if (tokenizer->pieces.used) {
        length = ds_pieces_decode(text.data, text.length, bytes);
        *entry = (struct ds_token_entry){.bytes = bytes, .length = (uint32_t)length, .is_word = in_model};
        return in_model ? add_single(tokenizer, text, id, err) : DS_OK;
    }
    /* Shorter or equal, and in place: a character of two bytes becomes one. */
    const bool in_alphabet = ds_byte_alphabet_decode(text.data, text.length, bytes, &length);
    if (!in_alphabet) {
        memcpy(bytes, text.data, text.length);
        length = text.length;
    }
    *entry = (struct ds_token_entry){.bytes = bytes, .length = (uint32_t)length, .is_word = in_model && in_alphabet};
    return DS_OK;
}

static ds_status check_id(const struct ds_tokenizer *tokenizer, struct ds_text text, int64_t id, struct ds_error *err) {
    if (text.length > INT32_MAX) return ds_fail(err, DS_ERROR_FORMAT, "a token of %zu bytes", text.length);
    if (id < 0 || id >= (int64_t)tokenizer->count)
        return ds_fail(err, DS_ERROR_FORMAT, "token '%s' has id %lld, expected 0..%u", ds_quote(text.data, text.length).text,
                       (long long)id, tokenizer->count - 1);
    return DS_OK;
}

ds_status ds_token_builder_add(struct ds_token_builder *builder, struct ds_text text, int64_t id, struct ds_error *err) {
    DS_TRY(check_id(builder->tokenizer, text, id, err));
    if (builder->tokenizer->tokens[id].bytes)
        return ds_fail(err, DS_ERROR_FORMAT, "token '%s' has id %lld, which another token has too",
                       ds_quote(text.data, text.length).text, (long long)id);
    const int32_t known = ds_string_map_add(&builder->ids, text, (int32_t)id);
    if (known != id)
        return ds_fail(err, DS_ERROR_FORMAT, "token '%s' occurs twice, with ids %d and %lld",
                       ds_quote(text.data, text.length).text, known, (long long)id);
    return set_bytes(builder->tokenizer, text, (int32_t)id, true, err);
}

/* Enters one added token into the vocabulary. */
static ds_status enter_special(struct ds_token_builder *builder, const struct ds_added_token *token, struct ds_error *err) {
    struct ds_token_entry *entry = &builder->tokenizer->tokens[token->id];
    const int32_t known = ds_string_map_find(&builder->ids, token->content);
    if (known >= 0 && known != token->id)
        return ds_fail(err, DS_ERROR_FORMAT, "added token '%s' has id %d, but the vocabulary gives it %d",
                       ds_quote(token->content.data, token->content.length).text, token->id, known);
    if (known < 0 && entry->bytes)
        return ds_fail(err, DS_ERROR_FORMAT, "added token '%s' has id %d, which another token has too",
                       ds_quote(token->content.data, token->content.length).text, token->id);
    if (known < 0) {
        ds_string_map_add(&builder->ids, token->content, token->id);
        DS_TRY(set_bytes(builder->tokenizer, token->content, token->id, false, err));
    }
    entry->special = entry->special || token->special;
    return DS_OK;
}

/* What is searched for: the content, normalised if the search is in normalised text. Copied. */
static ds_status searched_content(struct ds_tokenizer *tokenizer, const struct ds_token_spec *spec, struct ds_text *out,
                                  struct ds_error *err) {
    const struct ds_text content = spec->token.content;
    struct ds_buffer form = {0};
    ds_status status = DS_OK;
    const char *text = content.data;
    size_t length = content.length;
    if (spec->normalized && !ds_is_normalized(tokenizer->form, text, length)) {
        status = ds_normalize(tokenizer->form, text, length, &form, err);
        text = form.data;
        length = form.length;
    }
    if (spec->normalized && status == DS_OK && tokenizer->pieces.used) {
        status = ds_pieces_escape(&(struct ds_pieces){.used = true}, content.data, content.length, false, &form, err);
        text = form.data;
        length = form.length;
    }
    if (status == DS_OK) {
        *out = (struct ds_text){ds_arena_copy(&tokenizer->arena, text, length), length};
        if (!out->data) status = ds_fail_memory(err, length, "added tokens");
    }
    free(form.data);
    return status;
}

static ds_status check_special(const struct ds_tokenizer *tokenizer, const struct ds_added_token *token, struct ds_error *err) {
    DS_TRY(check_id(tokenizer, token->content, token->id, err));
    if (token->content.length > DS_ADDED_MAX_BYTES)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "added token %d ('%s') has %zu bytes, the limit is %d", token->id,
                       ds_quote(token->content.data, token->content.length).text, token->content.length,
                       (int)DS_ADDED_MAX_BYTES);
    return DS_OK;
}

ds_status ds_token_builder_add_special(struct ds_token_builder *builder, const struct ds_token_spec *specs, size_t count,
                                       struct ds_error *err) {
    struct ds_tokenizer *tokenizer = builder->tokenizer;
    struct ds_added_token *tokens = ds_arena_array(&builder->scratch, count, 2 * sizeof *tokens);
    if (!tokens) return ds_fail_memory(err, count * 2 * sizeof *tokens, "added tokens");
    /* From the front those searched in raw text, from the back those searched in normalised text. */
    uint32_t n_raw = 0, n_normalized = 0;
    for (size_t i = 0; i < count; i++) {
        struct ds_added_token token = specs[i].token;
        if (token.content.length == 0) continue; /* the reference ignores these */
        DS_TRY(check_special(tokenizer, &token, err));
        DS_TRY(enter_special(builder, &token, err));
        DS_TRY(searched_content(tokenizer, &specs[i], &token.content, err));
        if (specs[i].normalized)
            tokens[count + n_normalized++] = token;
        else
            tokens[n_raw++] = token;
    }
    DS_TRY(ds_added_init(&tokenizer->raw, tokens, n_raw, &tokenizer->arena, err));
    return ds_added_init(&tokenizer->normalized, tokens + count, n_normalized, &tokenizer->arena, err);
}

void ds_token_builder_find_bytes(struct ds_token_builder *builder) {
    struct ds_bpe *bpe = &builder->tokenizer->bpe;
    for (unsigned byte = 0; byte < 256 && bpe->characters; byte++) {
        char text[7];
        ds_pieces_byte_token((uint8_t)byte, text);
        bpe->byte_ids[byte] = ds_string_map_find(&builder->ids, (struct ds_text){text, 6});
    }
    if (bpe->characters) return;
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[2];
        const size_t length = ds_byte_alphabet_encode((uint8_t)byte, text);
        bpe->byte_ids[byte] = ds_string_map_find(&builder->ids, (struct ds_text){text, length});
    }
}

static ds_status find_part(const struct ds_token_builder *builder, uint32_t rank, struct ds_text text, int32_t *id,
                           struct ds_error *err) {
    *id = ds_string_map_find(&builder->ids, text);
    if (*id >= 0) return DS_OK;
    return ds_fail(err, DS_ERROR_FORMAT, "merge %u: '%s' is not in the vocabulary", rank,
                   ds_quote(text.data, text.length).text);
}

ds_status ds_token_builder_merge(struct ds_token_builder *builder, uint32_t rank, struct ds_text left, struct ds_text right,
                                 struct ds_error *err) {
    char joined[1024];
    int32_t left_id, right_id, id;
    DS_TRY(find_part(builder, rank, left, &left_id, err));
    DS_TRY(find_part(builder, rank, right, &right_id, err));
    if (left.length > sizeof joined || right.length > sizeof joined - left.length)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "merge %u: a token of more than %zu bytes", rank, sizeof joined);
    memcpy(joined, left.data, left.length);
    memcpy(joined + left.length, right.data, right.length);
    DS_TRY(find_part(builder, rank, (struct ds_text){joined, left.length + right.length}, &id, err));
    ds_bpe_add_merge(&builder->tokenizer->bpe, rank, left_id, right_id, id);
    return DS_OK;
}

ds_status ds_token_builder_merge_line(struct ds_token_builder *builder, uint32_t rank, struct ds_text line,
                                      struct ds_error *err) {
    const char *space = memchr(line.data, ' ', line.length);
    const size_t left = space ? (size_t)(space - line.data) : 0;
    if (!space || memchr(space + 1, ' ', line.length - left - 1))
        return ds_fail(err, DS_ERROR_FORMAT, "merge %u: expected two tokens with one space between them, found '%s'", rank,
                       ds_quote(line.data, line.length).text);
    return ds_token_builder_merge(builder, rank, (struct ds_text){line.data, left},
                                  (struct ds_text){space + 1, line.length - left - 1}, err);
}

ds_status ds_token_builder_index_words(struct ds_token_builder *builder, struct ds_error *err) {
    struct ds_tokenizer *tokenizer = builder->tokenizer;
    DS_TRY(ds_string_map_init(&tokenizer->bpe.words, tokenizer->count, &tokenizer->arena, err));
    for (uint32_t id = 0; id < tokenizer->count; id++) {
        const struct ds_token_entry *entry = &tokenizer->tokens[id];
        if (entry->is_word)
            ds_string_map_add(&tokenizer->bpe.words, (struct ds_text){entry->bytes, entry->length}, (int32_t)id);
    }
    return DS_OK;
}
