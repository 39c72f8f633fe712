/* The vocabulary of a tokenizer.json as keys of a GGUF file. Apart from the rest of src/convert because it sees src/text alone. */
#ifndef DSPARK_CONVERT_TOKENIZER_JSON_H
#define DSPARK_CONVERT_TOKENIZER_JSON_H

#include "base/json.h"
#include "base/log.h"
#include "ckpt/gguf_writer.h"

struct ds_tokenizer_export {
    struct ds_gguf_writer *writer;
    const struct ds_log *log;
    const char *pre;     /* NULL: to be recognised */
    uint32_t vocabulary; /* rows of the embedding; tokens are padded up to it */
};

/*
 * Adds tokenizer.ggml.{model,pre,tokens,token_type,merges}. `root` is a document that ds_tokenizer_open_json accepts.
 * DS_ERROR_UNSUPPORTED when the pre-tokenizer is not recognised, DS_ERROR_MISMATCH when an id is beyond the vocabulary.
 */
ds_status ds_export_tokenizer_json(const struct ds_tokenizer_export *to, const json_t *root, struct ds_error *err);

#endif
