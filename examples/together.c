/*
 * Several answers at once: each line of standard input is a prompt, continued in one batch with all the others.
 *
 *     together TARGET [DRAFTER] < prompts.txt
 */
#include <dspark.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LINES = 16, MOST_BYTES = 1024, MOST_TOKENS = 48 };

static void print_answer(void *user, ds_session *session, ds_stop stop, ds_status status, const struct ds_error *err) {
    const ds_engine *const engine = user;
    char *text;
    size_t length;
    (void)stop;
    if (status != DS_OK) fprintf(stderr, "%s: %s\n", ds_status_name(status), err->message); /* of this session: the others go on */
    else if (ds_detokenize(engine, ds_session_tokens(session), ds_session_length(session), false, &text, &length, NULL) == DS_OK) {
        printf("%s\n---\n", text);
        ds_free(text);
    }
    ds_session_destroy(session); /* it has left the batch */
}

/* A session for one prompt, waiting in the batch. */
static ds_status add(ds_batch *batch, ds_engine *engine, const char *line, struct ds_error *err) {
    const ds_session_params params = ds_session_defaults();
    const ds_batch_request request = {.size = sizeof request, .max_tokens = MOST_TOKENS, .done = print_answer, .user = engine};
    ds_session *session = NULL;
    ds_token *tokens = NULL;
    size_t count;
    ds_status status = ds_tokenize(engine, line, strlen(line), DS_TOKENIZE_BOS, &tokens, &count, err);
    if (status == DS_OK) status = ds_session_create(engine, &params, &session, err);
    if (status == DS_OK) status = ds_session_append(session, tokens, count, err);
    if (status == DS_OK) status = ds_batch_add(batch, session, &request, err);
    if (status != DS_OK) ds_session_destroy(session);
    ds_free(tokens);
    return status;
}

static ds_status answer_all(ds_engine *engine, struct ds_error *err) {
    const ds_batch_params params = ds_batch_defaults();
    ds_batch *batch;
    char line[MOST_BYTES];
    ds_status status = ds_batch_create(engine, &params, &batch, err);
    for (int i = 0; status == DS_OK && i < MOST_LINES && fgets(line, sizeof line, stdin); i++) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0]) status = add(batch, engine, line, err);
    }
    for (size_t left = batch != NULL; left;) { /* a failure of one step ends the sessions that had a part in it; more may be added meanwhile */
        const ds_status stepped = ds_batch_step(batch, &left, err);
        if (status == DS_OK) status = stepped;
    }
    ds_batch_destroy(batch);
    return status;
}

int main(int argc, char **argv) {
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "Usage: %s TARGET [DRAFTER] < prompts.txt\n", argv[0]);
        return 2;
    }
    ds_engine_params params = ds_engine_defaults();
    params.target = argv[1];
    params.drafter = argc > 2 ? argv[2] : NULL;
    params.max_sessions = MOST_LINES;
    params.context = 1024;
    params.kv_positions = 4096;     /* sessions share them, and wait when they are in use */
    params.prefix_positions = 1024; /* lines that begin alike do so once */
    ds_engine *engine;
    struct ds_error err;
    ds_status status = ds_engine_open(&params, &engine, &err);
    if (status == DS_OK) status = ds_engine_prepare(engine, NULL, NULL, &err);
    if (status == DS_OK) status = answer_all(engine, &err);
    if (status != DS_OK) fprintf(stderr, "%s: %s\n", ds_status_name(status), err.message);
    ds_engine_destroy(engine);
    return status == DS_OK ? 0 : 1;
}
