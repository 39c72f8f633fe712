/*
 * Chat templates we know, each written in C: recognised from the checkpoint's own template, never from a file name. The
 * content of a message is tokenised as plain text, so that a user cannot write a control token.
 */
#ifndef DSPARK_TEXT_CHAT_H
#define DSPARK_TEXT_CHAT_H

#include "text/tokenizer.h"

struct ds_chat_template; /* static data */

/* NULL when the tokenizer has no template or one we do not know. */
const struct ds_chat_template *ds_chat_recognise(const struct ds_tokenizer *tokenizer);
const struct ds_chat_template *ds_chat_by_name(const char *name); /* "chatml"; NULL: unknown */
const char *ds_chat_name(const struct ds_chat_template *chat);
void ds_chat_list(char *out, size_t size); /* all names, for messages */

/*
 * Appends the ids of a conversation, ending where the assistant's answer begins. DS_ERROR_ARGUMENT for a role the template
 * does not have, DS_ERROR_FORMAT when the vocabulary lacks one of its control tokens.
 */
ds_status ds_chat_encode(const struct ds_chat_template *chat, const struct ds_tokenizer *tokenizer, const ds_message *messages,
                         size_t count, struct ds_ids *out, struct ds_error *err);

#endif
