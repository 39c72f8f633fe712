/* An answer as it is generated: its tokens and text are collected, and the text printed if wanted. */
#ifndef DSPARK_TOOLS_CLI_ANSWER_H
#define DSPARK_TOOLS_CLI_ANSWER_H

#include "cli_engine.h"

struct ds_cli_answer {
    const ds_engine *engine;
    ds_text_stream *stream; /* NULL: the checkpoint has no tokenizer, the text stays empty */
    bool print;
    bool out_of_memory;
    ds_token *tokens;
    size_t count, capacity;
    char *text; /* special and stop tokens left out; NULL while empty */
    size_t length, text_capacity;
};

/* The text ends in front of a stop string. Returns DS_CLI_GO or an exit code. ds_cli_answer_free accepts the struct in either case, and a zeroed one. */
int ds_cli_answer_begin(struct ds_cli_answer *answer, const ds_engine *engine, const struct ds_cli_stops *stops, bool print);
/* The ds_token_fn of an answer: stops when memory is out or standard output takes no more. */
bool ds_cli_answer_token(void *user, ds_token token);
/* Adds what an incomplete character at the end becomes. False when memory is out or standard output takes no more. */
bool ds_cli_answer_end(struct ds_cli_answer *answer);
void ds_cli_answer_free(struct ds_cli_answer *answer);

#endif
