#include "cli_answer.h"

#include <stdlib.h>
#include <string.h>

int ds_cli_answer_begin(struct ds_cli_answer *answer, const ds_engine *engine, const struct ds_cli_stops *stops, bool print) {
    *answer = (struct ds_cli_answer){.engine = engine, .print = print};
    struct ds_error err;
    const ds_status status = ds_text_stream_create_until(engine, false, stops->list, stops->count, &answer->stream, &err);
    return status == DS_OK || (status == DS_ERROR_UNSUPPORTED && stops->count == 0) ? DS_CLI_GO : ds_cli_fail(&err);
}

/* Makes room for `more` elements; doubles, so that n tokens cost O(n). */
static bool reserve(void **data, size_t *capacity, size_t count, size_t more, size_t size) {
    if (*capacity - count >= more) return true;
    const size_t wanted = (count + more) * 2 + 256;
    void *const grown = wanted <= SIZE_MAX / size ? realloc(*data, wanted * size) : NULL;
    if (!grown) return false;
    *data = grown;
    *capacity = wanted;
    return true;
}

static bool add_text(struct ds_cli_answer *answer, const char *piece, size_t length) {
    if (length == 0) return true;
    void *text = answer->text;
    if (!reserve(&text, &answer->text_capacity, answer->length, length, 1)) {
        answer->out_of_memory = true;
        return false;
    }
    answer->text = text;
    memcpy(answer->text + answer->length, piece, length);
    answer->length += length;
    return !answer->print || ds_cli_write_text(piece, length);
}

bool ds_cli_answer_token(void *user, ds_token token) {
    struct ds_cli_answer *const answer = user;
    void *tokens = answer->tokens;
    if (!reserve(&tokens, &answer->capacity, answer->count, 1, sizeof *answer->tokens)) {
        answer->out_of_memory = true;
        return false;
    }
    answer->tokens = tokens;
    answer->tokens[answer->count++] = token;
    if (!answer->stream || ds_is_stop_token(answer->engine, token)) return true;
    size_t length;
    const char *const piece = ds_text_stream_push(answer->stream, token, &length);
    return add_text(answer, piece, length);
}

bool ds_cli_answer_end(struct ds_cli_answer *answer) {
    if (!answer->stream) return true;
    size_t length;
    const char *const piece = ds_text_stream_finish(answer->stream, &length);
    return add_text(answer, piece, length);
}

void ds_cli_answer_free(struct ds_cli_answer *answer) {
    ds_text_stream_destroy(answer->stream);
    free(answer->tokens);
    free(answer->text);
    *answer = (struct ds_cli_answer){0};
}
