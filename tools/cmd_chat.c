#include "cli.h"
#include "cli_answer.h"
#include "cli_engine.h"
#include "record.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- options --- */

struct chat_options {
    struct ds_cli_engine engine;
    struct ds_cli_draft draft;
    struct ds_cli_sampling sampling;
    struct ds_cli_stops stops;
    const char *system, *record;
    uint64_t n;
};

#define AT(member) .offset = offsetof(struct chat_options, member)
static const struct ds_cli_option chat_options[] = {
    {.name = "system", .value = "TEXT", .kind = DS_CLI_STRING, AT(system), .help = "the system message at the start of the conversation"},
    {.name = "max-tokens", .letter = 'n', .value = "N", .kind = DS_CLI_U64, AT(n), .min = 1,
     .help = "tokens an answer has at most (default: until the model stops or the context is full)"},
    {.name = "record", .value = "FILE", .kind = DS_CLI_STRING, AT(record), .help = DS_RECORD_HELP},
    {0}};
#undef AT
static const struct ds_cli_group chat_groups[] = {
    {.title = "Model", .options = ds_cli_engine_options, .base = offsetof(struct chat_options, engine)},
    {.title = "Speculation", .options = ds_cli_draft_options, .base = offsetof(struct chat_options, draft)},
    {.title = "Conversation's form", .options = ds_cli_template_options, .base = offsetof(struct chat_options, engine)},
    {.title = "Manifest", .options = ds_cli_trust_options, .base = offsetof(struct chat_options, engine.trust)},
    {.title = "Sampling", .options = ds_cli_sampling_options, .base = offsetof(struct chat_options, sampling)},
    {.title = "Conversation", .options = chat_options},
    {.title = "Stop strings", .options = ds_cli_stop_options, .base = offsetof(struct chat_options, stops)},
    {0}};

/* --- the conversation --- */

struct conversation {
    ds_message *messages; /* contents are malloc'ed */
    size_t count, capacity;
};

/* Copies the content. False when memory is out. */
static bool add_message(struct conversation *talk, const char *role, const char *content, size_t length) {
    if (talk->count == talk->capacity) {
        const size_t capacity = talk->capacity * 2 + 8;
        ds_message *const grown = realloc(talk->messages, capacity * sizeof *grown);
        if (!grown) return false;
        talk->messages = grown;
        talk->capacity = capacity;
    }
    char *const copy = malloc(length + 1);
    if (!copy) return false;
    if (length) memcpy(copy, content, length);
    talk->messages[talk->count++] = (ds_message){.role = role, .content = copy, .length = length};
    return true;
}

static void cut_messages(struct conversation *talk, size_t count) {
    while (talk->count > count) free((void *)(uintptr_t)talk->messages[--talk->count].content);
}

struct chat {
    struct chat_options options;
    ds_engine *engine;
    ds_engine_info info;
    ds_session *session;
    struct conversation talk;
    size_t n_system; /* messages that /clear keeps */
    struct ds_record record;
};

/* --- one turn --- */

/* Makes the session's sequence `tokens`, keeping the common beginning and its cache. */
static ds_status set_sequence(ds_session *session, const ds_token *tokens, size_t count, struct ds_error *err) {
    const ds_token *const old = ds_session_tokens(session);
    const size_t n_old = ds_session_length(session);
    size_t common = 0;
    while (common < n_old && common < count && old[common] == tokens[common]) common++;
    const ds_status status = ds_session_rewind(session, common, err);
    return status == DS_OK ? ds_session_append(session, tokens + common, count - common, err) : status;
}

static ds_status append_turn(struct chat *chat, struct ds_error *err) {
    ds_token *tokens;
    size_t count;
    ds_status status = ds_chat_tokenize(chat->engine, chat->talk.messages, chat->talk.count, &tokens, &count, err);
    if (status == DS_OK) status = set_sequence(chat->session, tokens, count, err);
    ds_free(tokens);
    return status;
}

static void note_turn(const struct chat *chat) {
    ds_stats stats = {.size = sizeof stats};
    ds_session_get_stats(chat->session, &stats);
    if (!chat->options.draft.drafter || !stats.drafted || !ds_cli_is_terminal(2)) return;
    ds_cli_note("[%.2f tokens a round, %.1f tokens/s]", (double)stats.committed_in_rounds / (double)stats.rounds,
                stats.decode_seconds > 0 ? (double)stats.generated / stats.decode_seconds : 0.0);
}

/* Answers the last message. Returns DS_CLI_GO, or an exit code when the conversation cannot go on. */
static int answer_turn(struct chat *chat) {
    struct ds_error err;
    if (append_turn(chat, &err) != DS_OK) {
        ds_cli_fail(&err);
        if (err.status != DS_ERROR_LIMIT) return DS_CLI_FAILED;
        ds_cli_note("the conversation no longer fits into %" PRIu32 " positions; /clear starts a new one", chat->info.context);
        cut_messages(&chat->talk, chat->talk.count - 1);
        return DS_CLI_GO;
    }
    struct ds_cli_answer answer;
    int code = ds_cli_answer_begin(&answer, chat->engine, &chat->options.stops, true);
    if (code == DS_CLI_GO) {
        ds_stop stop;
        const size_t n = chat->options.n > SIZE_MAX ? SIZE_MAX : (size_t)chat->options.n;
        ds_session_reset_stats(chat->session);
        ds_cli_catch_interrupt();
        ds_cli_watch(chat->session);
        const ds_status status = ds_session_generate(chat->session, n, ds_cli_answer_token, &answer, &stop, &err);
        ds_cli_release_interrupt();
        const bool printed = ds_cli_answer_end(&answer) && ds_cli_write("\n", 1);
        if (status != DS_OK && status != DS_ERROR_CANCELLED) code = ds_cli_fail(&err);
        else if (answer.out_of_memory || (printed && !add_message(&chat->talk, "assistant", answer.text, answer.length)))
            code = ds_cli_failf("out of memory for the conversation");
        else if (!printed) code = DS_CLI_FAILED; /* ds_cli_finish tells why */
        else note_turn(chat);
    }
    ds_cli_answer_free(&answer);
    return code;
}

/* --- the terminal --- */

static void show_help(void) {
    ds_cli_note("/clear  starts a new conversation\n/exit   leaves, as Ctrl-D does\n/help   shows this\n"
                "Ctrl-C  stops an answer; what was said stays");
}

/* A line the user typed, without its newline. Returns DS_CLI_GO to go on. */
static int take_line(struct chat *chat, const char *line, size_t length, bool *leave) {
    if (length == 0) return DS_CLI_GO;
    if (strcmp(line, "/exit") == 0) {
        *leave = true;
    } else if (strcmp(line, "/clear") == 0) {
        cut_messages(&chat->talk, chat->n_system);
    } else if (strcmp(line, "/help") == 0) {
        show_help();
    } else if (line[0] == '/' && strcspn(line, " ") == length) {
        ds_cli_note("unknown command %s; /help lists them", line);
    } else {
        if (!add_message(&chat->talk, "user", line, length)) return ds_cli_failf("out of memory for the conversation");
        return answer_turn(chat);
    }
    return DS_CLI_GO;
}

static int converse(struct chat *chat) {
    const bool prompted = ds_cli_is_terminal(0) && ds_cli_is_terminal(2);
    if (prompted) ds_cli_note("/help lists the commands; Ctrl-D leaves");
    char *line = NULL;
    size_t capacity = 0;
    int code = DS_CLI_GO;
    for (bool leave = false; code == DS_CLI_GO && !leave;) {
        if (prompted) fputs("> ", stderr);
        errno = 0;
        ssize_t length = getline(&line, &capacity, stdin);
        if (length < 0) {
            if (prompted) fputc('\n', stderr);
            if (!feof(stdin)) code = ds_cli_failf("cannot read standard input: %s", strerror(errno));
            break;
        }
        while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r')) line[--length] = '\0';
        code = take_line(chat, line, (size_t)length, &leave);
    }
    free(line);
    return code;
}

static int start_chat(struct chat *chat) {
    const struct chat_options *const options = &chat->options;
    int code = ds_record_open(&chat->record, options->record);
    if (code == DS_CLI_GO) code = ds_cli_open(&ds_command_chat, &options->engine, &options->draft, &chat->engine, &chat->info);
    if (code == DS_CLI_GO) code = ds_record_begin(&chat->record, chat->engine);
    if (code != DS_CLI_GO) return code;
    if (!chat->info.has_chat_template)
        return ds_cli_failf("%s has no chat template that this version knows; name one with --template NAME; 'dspark run' continues plain text", options->engine.target);
    ds_session_params params;
    code = ds_cli_session_params(&ds_command_chat, &options->draft, &options->sampling, &chat->info, &params);
    params.stops = options->stops.list;
    params.n_stops = options->stops.count;
    if (code != DS_CLI_GO) return code;
    ds_cli_catch_interrupt();
    code = ds_cli_prepare(chat->engine, NULL);
    ds_cli_release_interrupt();
    if (code != DS_CLI_GO) return code;
    if (!options->sampling.seed_given && options->sampling.temperature > 0) ds_cli_note("seed: %" PRIu64, params.sampling.seed);
    struct ds_error err;
    if (ds_session_create(chat->engine, &params, &chat->session, &err) != DS_OK) return ds_cli_fail(&err);
    if (options->record) ds_session_set_trace(chat->session, ds_record_round, &chat->record);
    if (options->system && !add_message(&chat->talk, "system", options->system, strlen(options->system)))
        return ds_cli_failf("out of memory for the system message");
    chat->n_system = chat->talk.count;
    return DS_CLI_GO;
}

static int chat_main(int argc, char **argv) {
    struct chat chat = {.options = {.engine = DS_CLI_ENGINE_DEFAULTS, .n = UINT64_MAX}};
    int code = ds_cli_parse(&ds_command_chat, argc, argv, &chat.options, NULL);
    const bool parsed = code == DS_CLI_GO;
    if (parsed) code = start_chat(&chat);
    if (code == DS_CLI_GO) code = converse(&chat);
    if (!ds_record_close(&chat.record) && code == DS_CLI_GO) code = DS_CLI_FAILED;
    cut_messages(&chat.talk, 0);
    free(chat.talk.messages);
    ds_session_destroy(chat.session);
    ds_engine_destroy(chat.engine);
    return ds_cli_finish(code == DS_CLI_GO ? DS_CLI_DONE : code);
}

const struct ds_cli_command ds_command_chat = {
    .name = "chat",
    .summary = "a conversation on the terminal",
    .synopsis = "-m MODEL [-d DRAFTER] [options]",
    .details = "Reads one message a line from standard input, prints the answers, and keeps the conversation: only what is new is computed. "
               "Ctrl-C stops an answer, Ctrl-D or /exit leaves, /clear starts anew, /help lists the commands. Works with pipes, too: "
               "then nothing but answers is printed.",
    .examples = "dspark chat -m models/tiny/target -d models/tiny/dspark\n"
                "printf 'Hello\\nAnd again\\n' | dspark chat -m models/tiny/target -n 32",
    .groups = chat_groups,
    .main = chat_main,
};
