/* What a tokenizer is made of, and how a loader builds one. For src/text and its tests. */
#ifndef DSPARK_TEXT_TOKENIZER_INTERNAL_H
#define DSPARK_TEXT_TOKENIZER_INTERNAL_H

#include "text/added.h"
#include "text/bpe.h"
#include "text/normalize.h"
#include "text/pieces.h"
#include "text/pretokenize.h"
#include "text/tokenizer.h"

struct ds_token_entry {
    const char *bytes; /* what it decodes to; NULL: no such token */
    uint32_t length;
    bool is_word; /* of the model's vocabulary; where that is byte-level, written in the byte alphabet */
    bool special;
};

struct ds_tokenizer {
    struct ds_arena arena; /* owns all below but the patterns */
    struct ds_token_entry *tokens;
    uint32_t count;
    struct ds_added_set raw;        /* found in the text as it came */
    struct ds_added_set normalized; /* found in normalised text */
    ds_normal_form form;
    struct ds_pretokenizer pre;
    struct ds_pieces pieces;
    struct ds_bpe bpe;
    int32_t bos, eos;
    bool adds_bos;
    const char *chat_template;
};

/* As ds_tokenizer_encode; the filter says which added tokens are plain text. */
ds_status ds_tokenizer_encode_filtered(const struct ds_tokenizer *tokenizer, const char *text, size_t length,
                                       struct ds_added_filter filter, struct ds_ids *out, struct ds_error *err);

/*
 * --- building ---
 * Set tokenizer->pieces before. Order of calls: begin, tokens, added tokens, byte tokens, merges, then the rest of the struct directly. The texts handed in
 * are borrowed until the builder is gone. On failure close the tokenizer.
 */
struct ds_token_spec { /* an added token, as files describe it */
    struct ds_added_token token;
    bool normalized;
};

struct ds_token_builder {
    struct ds_tokenizer *tokenizer;
    struct ds_string_map ids; /* by content as written in the file, added tokens included */
    struct ds_arena scratch;  /* what only building needs */
};

/* Ids are below `count`, which the caller has bounded by the file's size; at most `texts` different texts follow. */
ds_status ds_token_builder_begin(struct ds_token_builder *builder, struct ds_tokenizer *tokenizer, uint32_t count, size_t texts,
                                 struct ds_error *err);
void ds_token_builder_end(struct ds_token_builder *builder);

/* A token of the model's vocabulary. DS_ERROR_FORMAT when its id or its text is taken. */
ds_status ds_token_builder_add(struct ds_token_builder *builder, struct ds_text text, int64_t id, struct ds_error *err);
/* All added tokens, each either new or equal in id and text to one of the vocabulary. Set tokenizer->form before. */
ds_status ds_token_builder_add_special(struct ds_token_builder *builder, const struct ds_token_spec *specs, size_t count,
                                       struct ds_error *err);
/* Finds the tokens of the 256 bytes. */
void ds_token_builder_find_bytes(struct ds_token_builder *builder);
/* Merge number `rank`; ds_bpe_init comes before. DS_ERROR_FORMAT when a part or the whole is no token. */
ds_status ds_token_builder_merge(struct ds_token_builder *builder, uint32_t rank, struct ds_text left, struct ds_text right,
                                 struct ds_error *err);
/* The same for "left right" in one text. */
ds_status ds_token_builder_merge_line(struct ds_token_builder *builder, uint32_t rank, struct ds_text line,
                                      struct ds_error *err);
/* Fills bpe.words for bpe.whole_words. */
ds_status ds_token_builder_index_words(struct ds_token_builder *builder, struct ds_error *err);

#endif
