#include "base/json.h"
#include "base/os.h"
#include "base/quote.h"
#include "cli.h"
#include "text/buffer.h"
#include "text/ids.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- options --- */

struct tokenize_options {
    const char *model;
    bool no_special, bos, decode, skip_special;
};

#define AT(member) .offset = offsetof(struct tokenize_options, member)
static const struct ds_cli_option tokenize_options[] = {
    {.name = "model",
     .letter = 'm',
     .value = "PATH",
     .kind = DS_CLI_STRING,
     AT(model),
     .required = true,
     .help = "a GGUF file, a folder with tokenizer.json, or a tokenizer.json alone"},
    {.name = "no-special", .kind = DS_CLI_FLAG, AT(no_special), .help = "special tokens in the text are plain text"},
    {.name = "bos",
     .kind = DS_CLI_FLAG,
     AT(bos),
     .help = "put the begin token in front where the tokenizer asks for it, as `run -p` does"},
    {.name = "decode", .kind = DS_CLI_FLAG, AT(decode), .help = "the other way: arrays of ids in, strings out"},
    {.name = "skip-special", .kind = DS_CLI_FLAG, AT(skip_special), .help = "with `--decode`: leave special tokens out"},
    {0}};
#undef AT
static const struct ds_cli_group tokenize_groups[] = {{.options = tokenize_options}, {0}};

/* --- the tokenizer --- */

static bool ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static ds_status open_in_checkpoint(const char *path, struct ds_tokenizer **out, struct ds_error *err) {
    struct ds_ckpt *ckpt;
    DS_TRY(ds_ckpt_open(path, &ckpt, err));
    const ds_status status = ds_tokenizer_open(ckpt, out, err);
    ds_ckpt_close(ckpt);
    if (status == DS_OK && !*out) return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s has no tokenizer", path);
    return status;
}

/* A folder needs no weights here: its tokenizer.json is enough. */
static ds_status open_tokenizer(const char *path, struct ds_tokenizer **out, struct ds_error *err) {
    *out = NULL;
    if (ends_with(path, ".json")) return ds_tokenizer_open_json(path, out, err);
    if (ds_os_path_kind(path) != DS_PATH_FOLDER) return open_in_checkpoint(path, out, err);
    char *inside = ds_os_join(path, "tokenizer.json");
    if (!inside) return ds_fail_memory(err, strlen(path), "a path");
    const ds_status status = ds_tokenizer_open_json(inside, out, err);
    free(inside);
    return status;
}

/* --- lines --- */

struct work {
    const struct tokenize_options *options;
    const struct ds_tokenizer *tokenizer;
    struct ds_ids ids;    /* of one line; reused */
    struct ds_buffer out; /* one line; reused */
};

static ds_status append_id(struct ds_buffer *out, const char *before, int32_t id, struct ds_error *err) {
    char text[16];
    const int n = snprintf(text, sizeof text, "%s%" PRId32, before, id);
    return ds_buffer_append(out, text, (size_t)n, err);
}

static ds_status encode_line(struct work *work, const json_t *line, struct ds_error *err) {
    const struct ds_tokenizer *tokenizer = work->tokenizer;
    if (!json_is_string(line)) return ds_fail(err, DS_ERROR_ARGUMENT, "expected a JSON string, found %s", ds_json_kind(line));
    work->ids.count = 0;
    if (work->options->bos && ds_tokenizer_adds_bos(tokenizer))
        DS_TRY(ds_ids_push(&work->ids, ds_tokenizer_bos(tokenizer), err));
    DS_TRY(ds_tokenizer_encode(tokenizer, json_string_value(line), json_string_length(line), !work->options->no_special,
                               &work->ids, err));
    DS_TRY(ds_buffer_append(&work->out, "[", 1, err));
    for (size_t i = 0; i < work->ids.count; i++) DS_TRY(append_id(&work->out, i ? "," : "", work->ids.ids[i], err));
    return ds_buffer_append(&work->out, "]", 1, err);
}

/* In ASCII: a line is then a line for every reader (U+2028), and a terminal shows what is there. */
static ds_status append_string(struct ds_buffer *out, const char *text, size_t length, struct ds_error *err) {
    json_t *string = json_stringn(text, length);
    char *dumped = string ? json_dumps(string, JSON_ENCODE_ANY | JSON_ENSURE_ASCII) : NULL;
    json_decref(string);
    if (!dumped) return ds_fail_memory(err, length, "a line");
    const ds_status status = ds_buffer_append(out, dumped, strlen(dumped), err);
    free(dumped);
    return status;
}

static ds_status decode_line(struct work *work, const json_t *line, struct ds_error *err) {
    if (!json_is_array(line))
        return ds_fail(err, DS_ERROR_ARGUMENT, "expected a JSON array of token ids, found %s", ds_json_kind(line));
    work->ids.count = 0;
    for (size_t i = 0; i < json_array_size(line); i++) {
        const json_t *value = json_array_get(line, i);
        const json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id > INT32_MAX)
            return ds_fail(err, DS_ERROR_ARGUMENT, "element %zu: expected a token id, found %s", i,
                           json_is_integer(value) ? "a number outside 0..2147483647" : ds_json_kind(value));
        DS_TRY(ds_ids_push(&work->ids, (int32_t)id, err));
    }
    char *text;
    size_t length;
    DS_TRY(
        ds_tokenizer_decode(work->tokenizer, work->ids.ids, work->ids.count, work->options->skip_special, &text, &length, err));
    const ds_status status = append_string(&work->out, text, length, err);
    free(text);
    return status;
}

static ds_status translate_line(struct work *work, const char *text, size_t length, struct ds_error *err) {
    json_error_t error;
    json_t *line = json_loadb(text, length, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (!line)
        return ds_fail(err, DS_ERROR_ARGUMENT, "not valid JSON: column %d: %s", error.column, ds_quote_name(error.text).text);
    work->out.length = 0;
    ds_status status = work->options->decode ? decode_line(work, line, err) : encode_line(work, line, err);
    json_decref(line);
    return status == DS_OK ? ds_buffer_append(&work->out, "\n", 1, err) : status;
}

/* Each line is answered as it comes, so that the command can sit in a pipe. */
static int translate_lines(struct work *work) {
    char *text = NULL;
    size_t capacity = 0;
    int code = DS_CLI_DONE;
    struct ds_error err;
    errno = 0;
    for (unsigned long long line = 1; code == DS_CLI_DONE; line++) {
        const ssize_t n = getline(&text, &capacity, stdin);
        if (n < 0) break;
        if (translate_line(work, text, (size_t)n, &err) != DS_OK) {
            ds_fail_context(&err, "standard input, line %llu", line);
            code = ds_cli_fail(&err);
        } else if (!ds_cli_write(work->out.data, work->out.length)) {
            break; /* ds_cli_finish tells */
        }
    }
    if (code == DS_CLI_DONE && ferror(stdin)) code = ds_cli_failf("standard input: %s", strerror(errno));
    free(text);
    return code;
}

static int tokenize(int argc, char **argv) {
    struct tokenize_options options = {0};
    const int code = ds_cli_parse(&ds_command_tokenize, argc, argv, &options, NULL);
    if (code != DS_CLI_GO) return code;
    if (options.skip_special && !options.decode) return ds_cli_usage(&ds_command_tokenize, "--skip-special goes with --decode");
    if (options.decode && (options.no_special || options.bos))
        return ds_cli_usage(&ds_command_tokenize, "--%s does not go with --decode", options.bos ? "bos" : "no-special");

    struct ds_tokenizer *tokenizer;
    struct ds_error err;
    if (open_tokenizer(options.model, &tokenizer, &err) != DS_OK) return ds_cli_fail(&err);
    struct work work = {.options = &options, .tokenizer = tokenizer};
    const int result = translate_lines(&work);
    free(work.ids.ids);
    free(work.out.data);
    ds_tokenizer_close(tokenizer);
    return ds_cli_finish(result);
}

const struct ds_cli_command ds_command_tokenize = {
    .name = "tokenize",
    .summary = "text to token ids and back, line by line",
    .synopsis = "-m MODEL [options] < LINES",
    .details = "Reads one JSON string a line from standard input and writes one JSON array of token ids a line; with "
               "`--decode` the other "
               "way. Neither begin nor end tokens are added without `--bos`.\n\n"
               "A line that is not what is expected ends the command with exit code 1; the lines before it have been answered.",
    .examples = "echo '\"Hello, world\"' | dspark tokenize -m models/tiny/target\n"
                "echo '[4091, 83]' | dspark tokenize -m models/tiny/target/tokenizer.json --decode",
    .groups = tokenize_groups,
    .main = tokenize};
