/* Unicode normalisation forms, in linear time whatever the text. */
#ifndef DSPARK_TEXT_NORMALIZE_H
#define DSPARK_TEXT_NORMALIZE_H

#include "text/buffer.h"

typedef enum ds_normal_form { DS_NORMAL_NONE, DS_NORMAL_NFC, DS_NORMAL_NFD, DS_NORMAL_NFKC, DS_NORMAL_NFKD } ds_normal_form;

/* True when the text surely is in the form already; cheap. */
bool ds_is_normalized(ds_normal_form form, const char *text, size_t length);

/* Replaces `out` by the form of `text`, which is valid UTF-8. */
ds_status ds_normalize(ds_normal_form form, const char *text, size_t length, struct ds_buffer *out, struct ds_error *err);

#endif
