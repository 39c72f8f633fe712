#include "prompt_sets.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- reading --- */

static char *copy_text(const char *text, size_t length) {
    char *const copy = malloc(length + 1);
    if (!copy) return NULL;
    if (length) memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

static char *name_of(const char *path) {
    static const char suffix[] = ".jsonl";
    const char *const slash = strrchr(path, '/'), *const base = slash ? slash + 1 : path;
    size_t length = strlen(base);
    if (length > sizeof suffix - 1 && strcmp(base + length - (sizeof suffix - 1), suffix) == 0) length -= sizeof suffix - 1;
    return copy_text(base, length);
}

static void free_turns(char **turns) {
    for (char **turn = turns; turn && *turn; turn++) free(*turn);
    free(turns);
}

/* NULL: the line is no prompt, or memory is out. */
static char **parse_turns(const char *line, size_t length) {
    json_t *const root = json_loadb(line, length, 0, NULL);
    const json_t *const list = json_object_get(root, "turns");
    const size_t count = json_array_size(list);
    char **turns = count ? calloc(count + 1, sizeof *turns) : NULL;
    for (size_t i = 0; turns && i < count; i++) {
        const json_t *const turn = json_array_get(list, i);
        turns[i] = json_is_string(turn) ? copy_text(json_string_value(turn), json_string_length(turn)) : NULL;
        if (turns[i]) continue;
        free_turns(turns);
        turns = NULL;
    }
    json_decref(root);
    return turns;
}

static int add_prompt(struct ds_prompt_set *set, const char *path, size_t number, const char *line, size_t length) {
    char **const turns = parse_turns(line, length);
    if (!turns) return ds_cli_failf("%s: line %zu: expected an object whose \"turns\" is a list of texts", path, number);
    char ***const grown = realloc(set->prompts, (set->count + 1) * sizeof *grown);
    if (!grown) {
        free_turns(turns);
        return ds_cli_failf("out of memory for the prompts of %s", path);
    }
    set->prompts = grown;
    set->prompts[set->count++] = turns;
    return DS_CLI_GO;
}

static int read_lines(FILE *file, const char *path, struct ds_prompt_set *out) {
    char *line = NULL;
    size_t capacity = 0;
    int code = DS_CLI_GO;
    ssize_t length;
    for (size_t number = 1; code == DS_CLI_GO && (length = getline(&line, &capacity, file)) >= 0; number++) {
        if (strspn(line, " \t\r\n") == (size_t)length) continue;
        code = add_prompt(out, path, number, line, (size_t)length);
    }
    if (code == DS_CLI_GO && ferror(file)) code = ds_cli_failf("%s: %s", path, strerror(errno));
    free(line);
    return code;
}

/* Keeps every n-th prompt: files are often sorted. */
static void thin_out(struct ds_prompt_set *set, size_t limit) {
    if (!limit || set->count <= limit) return;
    for (size_t i = 0; i < limit; i++) {
        char **const kept = set->prompts[i * set->count / limit];
        set->prompts[i * set->count / limit] = set->prompts[i];
        set->prompts[i] = kept;
    }
    while (set->count > limit) free_turns(set->prompts[--set->count]);
}

int ds_prompt_set_read(const char *path, size_t limit, struct ds_prompt_set *out) {
    *out = (struct ds_prompt_set){.name = name_of(path)};
    if (!out->name) return ds_cli_failf("out of memory");
    FILE *const file = fopen(path, "r");
    if (!file) return ds_cli_failf("%s: %s", path, strerror(errno));
    int code = read_lines(file, path, out);
    fclose(file);
    if (code == DS_CLI_GO && !out->count) code = ds_cli_failf("%s: no prompts: expected one {\"turns\": [\"..\"]} a line", path);
    thin_out(out, limit);
    return code;
}

void ds_prompt_set_free(struct ds_prompt_set *set) {
    for (size_t i = 0; i < set->count; i++) free_turns(set->prompts[i]);
    free(set->prompts);
    free(set->name);
    *set = (struct ds_prompt_set){0};
}

/* --- answering --- */

enum { MOST_MESSAGES = 64 };

struct talk {
    ds_engine *engine;
    ds_session *session;
    bool chat;
    ds_message messages[MOST_MESSAGES];
    char *answers[MOST_MESSAGES];
    size_t count, n_answers;
};

/* The conversation so far becomes the session's sequence. DS_ERROR_LIMIT: it does not fit. */
static ds_status put_turn(struct talk *t, const char *text, struct ds_error *err) {
    ds_token *tokens;
    size_t count;
    ds_status status;
    if (t->chat) {
        t->messages[t->count++] = (ds_message){.role = "user", .content = text, .length = strlen(text)};
        status = ds_chat_tokenize(t->engine, t->messages, t->count, &tokens, &count, err);
        if (status == DS_OK) status = ds_session_rewind(t->session, 0, err);
    } else {
        status = ds_tokenize(t->engine, text, strlen(text), t->count++ ? 0 : DS_TOKENIZE_BOS, &tokens, &count, err);
    }
    if (status == DS_OK) status = ds_session_append(t->session, tokens, count, err);
    ds_free(tokens);
    return status;
}

static ds_status keep_answer(struct talk *t, size_t from, struct ds_error *err) {
    char *text;
    size_t length;
    const ds_status status = ds_detokenize(t->engine, ds_session_tokens(t->session) + from, ds_session_length(t->session) - from, false, &text,
                                           &length, err);
    if (status != DS_OK) return status;
    t->answers[t->n_answers++] = text;
    t->messages[t->count++] = (ds_message){.role = "assistant", .content = text, .length = length};
    return DS_OK;
}

static ds_status answer(struct talk *t, char *const *turns, size_t tokens, size_t *left_out, struct ds_error *err) {
    ds_status status = ds_session_rewind(t->session, 0, err);
    for (; status == DS_OK && *turns && t->count + 2 <= MOST_MESSAGES; turns++) {
        status = put_turn(t, *turns, err);
        if (status == DS_ERROR_LIMIT) {
            ++*left_out;
            return DS_OK;
        }
        const size_t from = ds_session_length(t->session);
        if (status == DS_OK) status = ds_session_generate(t->session, tokens, NULL, NULL, NULL, err);
        if (status == DS_OK && t->chat) status = keep_answer(t, from, err);
    }
    return status;
}

int ds_prompt_answer(ds_engine *engine, ds_session *session, char *const *turns, size_t tokens, size_t *left_out) {
    ds_engine_info info = {.size = sizeof info};
    ds_engine_get_info(engine, &info);
    struct talk talk = {.engine = engine, .session = session, .chat = info.has_chat_template};
    struct ds_error err;
    const ds_status status = answer(&talk, turns, tokens, left_out, &err);
    for (size_t i = 0; i < talk.n_answers; i++) ds_free(talk.answers[i]);
    return status == DS_OK ? DS_CLI_GO : ds_cli_fail(&err);
}

void ds_prompts_left_out(const char *file, size_t count, uint32_t context) {
    ds_cli_note("%s: %zu conversation(s) do not fit into the context of %u positions and end before a turn that has no room; --ctx changes it", file, count,
                (unsigned)context);
}
