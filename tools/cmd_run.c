#include "cli.h"
#include "cli_answer.h"
#include "cli_engine.h"
#include "record.h"
#include "run_report.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* --- options --- */

struct run_options {
    struct ds_cli_engine engine;
    struct ds_cli_draft draft;
    struct ds_cli_sampling sampling;
    struct ds_cli_stops stops;
    uint32_t logprobs;
    bool logprobs_given;
    const char *prompt, *file;
    struct ds_cli_tokens tokens;
    bool chat;
    uint64_t n;
    bool ignore_eos, stats, json;
    const char *trace, *record;
};

#define AT(member) .offset = offsetof(struct run_options, member)
static const struct ds_cli_option prompt_options[] = {
    {.name = "prompt", .letter = 'p', .value = "TEXT", .kind = DS_CLI_STRING, AT(prompt), .help = "the text to continue"},
    {.name = "file", .letter = 'f', .value = "FILE", .kind = DS_CLI_STRING, AT(file),
     .help = "the text to continue, read from a file as it is; - is standard input"},
    {.name = "tokens", .value = "IDS", .kind = DS_CLI_TOKENS, AT(tokens),
     .help = "the prompt as token ids divided by commas; needs no tokenizer"},
    {.name = "chat", .kind = DS_CLI_FLAG, AT(chat),
     .help = "the text is one user turn, put into the model's chat template; special tokens in it are plain text"},
    {0}};
static const struct ds_cli_option output_options[] = {
    {.letter = 'n', .name = "max-tokens", .value = "N", .kind = DS_CLI_U64, AT(n),
     .help = "tokens to generate at most, the stop token included (default: until the model stops or the context is full)"},
    {.name = "logprobs", .value = "N", .kind = DS_CLI_UINT, AT(logprobs), .given = offsetof(struct run_options, logprobs_given), .max = 20,
     .help = "with --json: natural logarithms of the probabilities that the model itself gives each token of the answer and, beside it, the N likeliest"},
    {.name = "ignore-eos", .kind = DS_CLI_FLAG, AT(ignore_eos), .help = "generate past stop tokens"},
    {.name = "json", .kind = DS_CLI_FLAG, AT(json), .help = "one JSON object with text, tokens, counts and times instead of the text"},
    {.name = "trace", .value = "FILE", .kind = DS_CLI_STRING, AT(trace),
     .help = "a log with one JSON line a speculative round: pos, anchor, draft, confidence, verified, accepted, next"},
    {.name = "record", .value = "FILE", .kind = DS_CLI_STRING, AT(record), .help = DS_RECORD_HELP},
    {.name = "stats", .kind = DS_CLI_FLAG, AT(stats), .help = "counts and times on standard error when done"},
    {0}};
#undef AT
static const struct ds_cli_group run_groups[] = {
    {.title = "Model", .options = ds_cli_engine_options, .base = offsetof(struct run_options, engine)},
    {.title = "Speculation", .options = ds_cli_draft_options, .base = offsetof(struct run_options, draft)},
    {.title = "Prompt (one of -p, -f, --tokens)", .options = prompt_options},
    {.title = "Conversation's form", .options = ds_cli_template_options, .base = offsetof(struct run_options, engine)},
    {.title = "Manifest", .options = ds_cli_trust_options, .base = offsetof(struct run_options, engine.trust)},
    {.title = "Sampling", .options = ds_cli_sampling_options, .base = offsetof(struct run_options, sampling)},
    {.title = "Answer", .options = output_options},
    {.title = "Stop strings", .options = ds_cli_stop_options, .base = offsetof(struct run_options, stops)},
    {0}};

/* --- the prompt --- */

struct prompt {
    ds_token *tokens; /* malloc'ed or from the engine: freed with ds_free */
    size_t count;
};

/* Reads a whole file, "-" being stdin. *text is malloc'ed. */
static int read_text(const char *path, char **text, size_t *length) {
    FILE *const file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    if (!file) return ds_cli_failf("%s: %s", path, strerror(errno));
    size_t capacity = 0;
    int code = DS_CLI_GO;
    do {
        if (*length == capacity) {
            capacity = capacity * 2 + 65536;
            char *const grown = realloc(*text, capacity);
            if (!grown) {
                code = ds_cli_failf("%s: out of memory after %zu bytes", path, *length);
                break;
            }
            *text = grown;
        }
        *length += fread(*text + *length, 1, capacity - *length, file);
    } while (!feof(file) && !ferror(file));
    if (ferror(file)) code = ds_cli_failf("%s: %s", path, strerror(errno));
    if (file != stdin) fclose(file);
    return code;
}

static int tokenize_prompt(const ds_engine *engine, const char *text, size_t length, bool chat, struct prompt *out) {
    struct ds_error err;
    ds_status status;
    if (chat) {
        const ds_message message = {.role = "user", .content = text, .length = length};
        status = ds_chat_tokenize(engine, &message, 1, &out->tokens, &out->count, &err);
    } else {
        status = ds_tokenize(engine, text, length, DS_TOKENIZE_SPECIAL | DS_TOKENIZE_BOS, &out->tokens, &out->count, &err);
    }
    return status == DS_OK ? DS_CLI_GO : ds_cli_fail(&err);
}

static int make_prompt(struct run_options *options, const ds_engine *engine, const ds_engine_info *info, struct prompt *out) {
    int code;
    if (options->tokens.ids) {
        code = ds_cli_check_tokens(&ds_command_run, &options->tokens, info);
        *out = (struct prompt){.tokens = options->tokens.ids, .count = options->tokens.count};
        options->tokens = (struct ds_cli_tokens){0}; /* moved */
    } else {
        char *text = NULL;
        size_t length = options->prompt ? strlen(options->prompt) : 0;
        code = options->file ? read_text(options->file, &text, &length) : DS_CLI_GO;
        if (code == DS_CLI_GO) code = tokenize_prompt(engine, text ? text : options->prompt, length, options->chat, out);
        free(text);
    }
    if (code != DS_CLI_GO) return code;
    if (out->count == 0) return ds_cli_usage(&ds_command_run, "the prompt is empty: expected at least one token to continue");
    if (out->count > info->context)
        return ds_cli_failf("the prompt has %zu tokens, the context holds %" PRIu32 ": shorten the prompt or raise --ctx", out->count,
                            info->context);
    return DS_CLI_GO;
}

/* --- the run --- */

struct run {
    struct run_options options;
    ds_engine *engine;
    ds_engine_info info;
    struct prompt prompt;
    ds_session *session;
    struct ds_cli_answer answer;
    struct ds_run_trace trace;
    struct ds_record record;
    struct ds_run_logprobs logprobs;
    struct ds_run_report report;
};

static int check_options(const struct run_options *options) {
    const int sources = (options->prompt != NULL) + (options->file != NULL) + (options->tokens.ids != NULL);
    if (sources == 0) return ds_cli_usage(&ds_command_run, "a prompt is missing: give one of --prompt, --file, --tokens");
    if (sources > 1) return ds_cli_usage(&ds_command_run, "expected one of --prompt, --file, --tokens, found several");
    if (options->logprobs_given && !options->json) return ds_cli_usage(&ds_command_run, "--logprobs needs --json");
    if (options->chat && options->tokens.ids) return ds_cli_usage(&ds_command_run, "--chat needs a text, not --tokens");
    return DS_CLI_GO;
}

/* All that can be refused early is refused before the weights are read. */
static int open_all(struct run *run) {
    const struct run_options *const options = &run->options;
    int code = check_options(options);
    if (code == DS_CLI_GO) code = ds_run_trace_open(&run->trace, options->trace);
    if (code == DS_CLI_GO) code = ds_record_open(&run->record, options->record);
    if (code == DS_CLI_GO) code = ds_cli_open(&ds_command_run, &options->engine, &options->draft, &run->engine, &run->info);
    if (code == DS_CLI_GO) code = ds_record_begin(&run->record, run->engine);
    if (code == DS_CLI_GO) code = make_prompt(&run->options, run->engine, &run->info, &run->prompt);
    return code;
}

static void see_round(void *user, const ds_round *round) {
    struct run *const run = user;
    if (run->options.trace) ds_run_trace_round(&run->trace, round);
    ds_record_round(&run->record, round);
}

static int start_session(struct run *run) {
    const struct run_options *const options = &run->options;
    ds_session_params params;
    int code = ds_cli_session_params(&ds_command_run, &options->draft, &options->sampling, &run->info, &params);
    if (code == DS_CLI_GO) code = ds_cli_prepare(run->engine, NULL);
    if (code != DS_CLI_GO) return code;
    params.ignore_stop = options->ignore_eos;
    params.stops = options->stops.list;
    params.n_stops = options->stops.count;
    if (options->logprobs_given) {
        params.logprobs = options->logprobs;
        params.logprobs_fn = ds_run_logprobs_add;
        params.logprobs_user = &run->logprobs;
        run->report.logprobs = &run->logprobs;
    }
    run->report.seed = params.sampling.seed;
    run->report.seed_drawn = !options->sampling.seed_given && options->sampling.temperature > 0;
    struct ds_error err;
    if (ds_session_create(run->engine, &params, &run->session, &err) != DS_OK ||
        ds_session_append(run->session, run->prompt.tokens, run->prompt.count, &err) != DS_OK)
        return ds_cli_fail(&err);
    if (options->trace || options->record) ds_session_set_trace(run->session, see_round, run);
    return ds_cli_answer_begin(&run->answer, run->engine, &options->stops, !options->json);
}

static int generate(struct run *run) {
    struct ds_error err;
    const uint64_t n = run->options.n;
    ds_cli_watch(run->session);
    const ds_status status = ds_session_generate(run->session, n > SIZE_MAX ? SIZE_MAX : (size_t)n, ds_cli_answer_token, &run->answer,
                                                 &run->report.stop, &err);
    ds_cli_watch(NULL);
    ds_cli_answer_end(&run->answer);
    if (status == DS_ERROR_CANCELLED && ds_cli_interrupted()) {
        run->report.stop = DS_STOP_CALLBACK;
        return DS_CLI_INTERRUPTED;
    }
    if (status != DS_OK) return ds_cli_fail(&err);
    if (run->answer.out_of_memory || run->logprobs.out_of_memory) return ds_cli_failf("out of memory for the answer after %zu tokens", run->answer.count);
    return DS_CLI_DONE;
}

/* The answer is complete, or was interrupted: tells what there is to tell. */
static void report(struct run *run) {
    ds_session_get_stats(run->session, &run->report.stats);
    run->report.info = &run->info;
    run->report.answer = &run->answer;
    run->report.prompt_tokens = run->prompt.count;
    if (run->options.json) ds_run_report_json(&run->report);
    else if (ds_cli_is_terminal(1) && run->answer.length && run->answer.text[run->answer.length - 1] != '\n') ds_cli_write("\n", 1);
    if (run->options.stats) ds_run_report_stats(&run->report);
    if (run->report.seed_drawn && !run->options.json) ds_cli_note("seed: %" PRIu64, run->report.seed);
}

static int run_all(struct run *run) {
    const double started = ds_cli_seconds();
    ds_cli_catch_interrupt();
    int code = open_all(run);
    if (code == DS_CLI_GO) code = start_session(run);
    run->report.load_seconds = ds_cli_seconds() - started;
    if (code != DS_CLI_GO) return code;
    code = generate(run);
    if (code != DS_CLI_FAILED) report(run);
    return code;
}

static int run_main(int argc, char **argv) {
    struct run run = {
        .options = {.engine = DS_CLI_ENGINE_DEFAULTS, .n = UINT64_MAX},
        .report = {.stats.size = sizeof(ds_stats)},
    };
    int code = ds_cli_parse(&ds_command_run, argc, argv, &run.options, NULL);
    if (code == DS_CLI_GO) code = run_all(&run);
    if (!ds_run_trace_close(&run.trace) && code == DS_CLI_DONE) code = DS_CLI_FAILED;
    if (!ds_record_close(&run.record) && code == DS_CLI_DONE) code = DS_CLI_FAILED;
    ds_cli_answer_free(&run.answer);
    free(run.logprobs.entries);
    ds_session_destroy(run.session);
    ds_free(run.prompt.tokens);
    free(run.options.tokens.ids);
    ds_engine_destroy(run.engine);
    return ds_cli_finish(code);
}

const struct ds_cli_command ds_command_run = {
    .name = "run",
    .summary = "one completion of a prompt",
    .synopsis = "-m MODEL [-d DRAFTER] (-p TEXT | -f FILE | --tokens IDS) [options]",
    .details = "Continues a prompt and prints the text as it is generated. With a drafter the same tokens come faster: speculation never "
               "changes what the model says, and neither do the device, the number of threads or the chunk.\n\n"
               "With -p and -f, special tokens written in the text become those tokens, and the begin token is put in front if the "
               "tokenizer says so. Ctrl-C ends the answer, keeps what there is, and exits with 130; a second one ends the program at once.",
    .examples = "dspark run -m models/tiny/target -d models/tiny/dspark --chat -p \"How many legs do three cats have?\"\n"
                "dspark run -m models/tiny/target --tokens 5,17,3 -n 16 --json\n"
                "dspark run -m models/tiny/target -f story.txt --temp 0.8 --top-p 0.95 --seed 7 --stats",
    .groups = run_groups,
    .main = run_main,
};
