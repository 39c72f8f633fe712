/* The steps of a tokenizer.json around its model. Each function takes the member's value, which may be absent (NULL). */
#ifndef DSPARK_TEXT_JSON_STEPS_H
#define DSPARK_TEXT_JSON_STEPS_H

#include "base/json.h"
#include "text/tokenizer_internal.h"

/* NFC, NFD, NFKC, NFKD or none, also within a Sequence. DS_ERROR_UNSUPPORTED names another type. */
ds_status ds_json_normalizer(const json_t *value, ds_normal_form *form, struct ds_error *err);
/* Split, Digits, Punctuation, WhitespaceSplit, in Sequences too; ByteLevel must be there, and last. */
ds_status ds_json_pre_tokenizer(const json_t *value, struct ds_pretokenizer *pre, struct ds_error *err);
/* Must decode bytes. */
ds_status ds_json_decoder(const json_t *value, struct ds_error *err);
/* The token that the post-processor puts in front of a text; data NULL: none. */
ds_status ds_json_first_token(const json_t *value, struct ds_text *out, struct ds_error *err);

#endif
