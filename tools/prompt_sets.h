/* Prompt sets (JSONL, one {"turns": ["..", ..]} a line) and answering them: what `eval` and `calibrate` share. */
#ifndef DSPARK_TOOLS_PROMPT_SETS_H
#define DSPARK_TOOLS_PROMPT_SETS_H

#include "cli.h"

/* Files share one list; the names are those of the files without folder and ".jsonl". */
struct ds_prompt_set {
    char *name;
    char ***prompts; /* [count]: turns, ended by NULL */
    size_t count;
};
/* At most `limit` prompts, spread evenly over the file. Returns DS_CLI_GO or an exit code; ds_prompt_set_free in either case. */
int ds_prompt_set_read(const char *path, size_t limit, struct ds_prompt_set *out);
void ds_prompt_set_free(struct ds_prompt_set *set); /* accepts a zeroed struct */

/*
 * Answers all turns of one prompt in an emptied session, at most `tokens` tokens each; a conversation if the model has a template, else the
 * turns one after another. What does not fit into the context ends the conversation, and adds one to *left_out. Returns DS_CLI_GO or an exit code.
 */
int ds_prompt_answer(ds_engine *engine, ds_session *session, char *const *turns, size_t tokens, size_t *left_out);
/* Says so. */
void ds_prompts_left_out(const char *file, size_t count, uint32_t context);

#endif
