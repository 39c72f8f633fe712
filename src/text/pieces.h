/*
 * SentencePiece-style BPE (Gemma, Llama 2, Mistral): a vocabulary of plain text in which U+2581 stands for a blank, merges over the
 * characters of a whole text, and tokens "<0x00>".."<0xFF>" for the bytes of characters that it lacks.
 */
#ifndef DSPARK_TEXT_PIECES_H
#define DSPARK_TEXT_PIECES_H

#include "text/buffer.h"
#include "text/ids.h"
#include "text/pretokenize.h"

#include <jansson.h>

typedef enum ds_piece_prefix {
    DS_PREFIX_NONE,
    DS_PREFIX_EVERY, /* a blank in front of every stretch between added tokens ("Prepend") */
    DS_PREFIX_OTHER, /* the same where it does not begin with one ("Metaspace", always) */
    DS_PREFIX_FIRST  /* only at the start of the text, likewise ("Metaspace", first) */
} ds_piece_prefix;

/* Zero: the tokenizer is byte-level BPE instead. */
struct ds_pieces {
    bool used;
    ds_piece_prefix prefix;
    bool strips_first; /* decoding drops the blank that was put in front */
};

/* Whether the document's model is of this kind, and its normaliser, pre-tokenizer and decoder; another step is refused by name. */
ds_status ds_json_pieces(const json_t *root, struct ds_pieces *pieces, struct ds_pretokenizer *pre, struct ds_error *err);

/* Replaces `out` by the text with blanks escaped and the prefix; `first`: it starts the input. */
ds_status ds_pieces_escape(const struct ds_pieces *pieces, const char *text, size_t length, bool first, struct ds_buffer *out,
                           struct ds_error *err);
/* What a token's text decodes to, in place or shorter; returns the length. */
size_t ds_pieces_decode(const char *text, size_t length, char *out);
/* The text of a byte's token. */
void ds_pieces_byte_token(uint8_t byte, char out[7]);

/* Merges of a vocabulary that has scores instead: the best-scored token is joined first. */
struct ds_token_builder;
ds_status ds_pieces_merges_of_scores(struct ds_token_builder *builder, const struct ds_text *texts, const double *scores, size_t count,
                                     struct ds_error *err);

#endif
