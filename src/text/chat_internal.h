/* What a chat template is here: data, from which chat.c writes conversations and chat_templates.c recognises Jinja texts. */
#ifndef DSPARK_TEXT_CHAT_INTERNAL_H
#define DSPARK_TEXT_CHAT_INTERNAL_H

#include "text/chat.h"

enum { DS_CHAT_MARKS = 5, DS_CHAT_FOREIGN = 9, DS_CHAT_ROLES = 3 };

/* Where a system message goes that is none of its own. */
typedef enum ds_chat_system { DS_CHAT_SYSTEM_OWN, DS_CHAT_SYSTEM_FIRST_USER, DS_CHAT_SYSTEM_LAST_USER, DS_CHAT_SYSTEM_NONE } ds_chat_system;

/*
 * What stands before and behind a message's content. Texts between '{' and '}' are control tokens, {bos} and {eos} those of the
 * tokenizer; all else is plain text, joined with the content before it is tokenised, as the reference does it: the line end before a
 * content may become one token with those the content begins with.
 */
struct ds_chat_role {
    const char *name; /* NULL: no such role */
    const char *before, *behind;
    bool trim; /* white space around the content is left out */
};

struct ds_chat_template {
    const char *name;
    const char *marks[DS_CHAT_MARKS];     /* all of these stand in the Jinja text ... none: it is never recognised, only named */
    const char *foreign[DS_CHAT_FOREIGN]; /* ... and none of these, which change what is written */
    const char *system_literal;           /* what follows "<|im_start|>system\n" in the Jinja text; NULL: no text of its own */
    const char *start;                    /* in front of everything */
    struct ds_chat_role roles[DS_CHAT_ROLES];
    ds_chat_system system;
    const char *answer;
    const char *default_system; /* content of a system message where the conversation begins without one; NULL: none is added */
    const char *thinking_end;   /* answers before the last question lose their text up to this mark; NULL: they keep it */
    bool alternate;             /* user and assistant take turns, beginning with the user; anything else is refused */
};

#endif
