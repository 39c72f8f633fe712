/*
 * The whole API in one page: continue a text, with a drafter if there is one.
 *
 *     complete TARGET [DRAFTER] < prompt.txt
 */
#include <dspark.h>

#include <stdio.h>

struct output {
    const ds_engine *engine;
    ds_text_stream *stream; /* turns tokens into whole characters */
};

static bool print_token(void *user, ds_token token) {
    const struct output *const output = user;
    if (ds_is_stop_token(output->engine, token)) return true; /* the generation ends here by itself */
    size_t length;
    const char *const piece = ds_text_stream_push(output->stream, token, &length);
    return fwrite(piece, 1, length, stdout) == length && fflush(stdout) == 0; /* false stops */
}

/* Continues `text` and prints what comes. */
static ds_status complete(ds_engine *engine, const char *text, size_t length, struct ds_error *err) {
    struct output output = {.engine = engine};
    ds_session *session = NULL;
    ds_token *tokens = NULL;
    size_t count;
    ds_session_params params = ds_session_defaults();
    params.sampling = (ds_sampling){.temperature = 0.8f, .top_p = 0.95f, .seed = 42};
    params.spec = DS_SPEC_AUTO; /* as many drafts as pay; ignored without a drafter */

    ds_status status = ds_text_stream_create(engine, false, &output.stream, err);
    if (status == DS_OK) status = ds_tokenize(engine, text, length, DS_TOKENIZE_BOS, &tokens, &count, err);
    if (status == DS_OK) status = ds_session_create(engine, &params, &session, err);
    if (status == DS_OK) status = ds_session_append(session, tokens, count, err);
    ds_stop stop;
    if (status == DS_OK) status = ds_session_generate(session, 64, print_token, &output, &stop, err);

    ds_session_destroy(session); /* all destroys and ds_free accept NULL */
    ds_text_stream_destroy(output.stream);
    ds_free(tokens);
    return status;
}

int main(int argc, char **argv) {
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "Usage: %s TARGET [DRAFTER] < prompt.txt\n", argv[0]);
        return 2;
    }
    char prompt[4096];
    const size_t length = fread(prompt, 1, sizeof prompt, stdin);

    ds_engine_params params = ds_engine_defaults();
    params.target = argv[1];
    params.drafter = argc > 2 ? argv[2] : NULL;
    ds_engine *engine;
    struct ds_error err;
    ds_status status = ds_engine_open(&params, &engine, &err);            /* the files */
    if (status == DS_OK) status = ds_engine_prepare(engine, NULL, NULL, &err); /* the weights, the caches: the long step */
    if (status == DS_OK) status = complete(engine, prompt, length, &err);
    if (status != DS_OK) fprintf(stderr, "%s: %s\n", ds_status_name(status), err.message);
    ds_engine_destroy(engine);
    return status == DS_OK ? 0 : 1;
}
