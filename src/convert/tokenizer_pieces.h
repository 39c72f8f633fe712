/* The vocabulary of a SentencePiece-style tokenizer.json (BPE with byte fallback) as keys of a GGUF file. Sees src/text alone. */
#ifndef DSPARK_CONVERT_TOKENIZER_PIECES_H
#define DSPARK_CONVERT_TOKENIZER_PIECES_H

#include "convert/tokenizer_json.h"

/* tokenizer.ggml.token_type */
enum { DS_TOKEN_NORMAL = 1, DS_TOKEN_UNKNOWN, DS_TOKEN_CONTROL, DS_TOKEN_USER_DEFINED, DS_TOKEN_UNUSED, DS_TOKEN_BYTE };

/* Whether the document's tokenizer is of this kind. */
bool ds_export_is_pieces(const json_t *root);
/*
 * Adds tokenizer.ggml.{model,tokens,token_type,scores,unknown_token_id,add_space_prefix} and, where scores cannot say the order of the merges, merges. texts and
 * types: [to->vocabulary], filled; the types of bytes and of the unknown token are set here,
 * and blanks of added tokens become what a text has.
 */
ds_status ds_export_pieces(const struct ds_tokenizer_export *to, const json_t *root, struct ds_text *texts, int32_t *types, struct ds_error *err);
/* Adds tokenizer.ggml.merges. */
ds_status ds_export_merges(const struct ds_tokenizer_export *to, const json_t *root, struct ds_error *err);

#endif
