/*
 * The command line of dspark. A command describes itself in data: its options in groups, each option with a kind, a range and the place
 * its value goes to. From these tables come parsing, `--help`, docs/cli.md and the messages for wrong usage.
 *
 * A command's file, in full:
 *
 *     struct peek_options { const char *model; uint32_t rows; bool json; };
 *     static const struct ds_cli_option peek_options[] = {
 *         {.name = "model", .letter = 'm', .value = "PATH", .kind = DS_CLI_STRING, .offset = offsetof(struct peek_options, model),
 *          .required = true, .help = "the checkpoint"},
 *         {.name = "rows", .value = "N", .kind = DS_CLI_UINT, .min = 1, .max = 64, .offset = ..., .help = "rows to show (default: 8)"},
 *         {.name = "json", .kind = DS_CLI_FLAG, .offset = ..., .help = "one JSON object on standard output"},
 *         {0}};
 *     static const struct ds_cli_group peek_groups[] = {{.options = peek_options}, {0}};
 *     static int peek(int argc, char **argv) {
 *         struct peek_options options = {.rows = 8};
 *         const int code = ds_cli_parse(&ds_command_peek, argc, argv, &options, NULL);
 *         if (code != DS_CLI_GO) return code;
 *         ...
 *         return ds_cli_finish(0);
 *     }
 *     const struct ds_cli_command ds_command_peek = {.name = "peek", .summary = "...", .groups = peek_groups, .main = peek, ...};
 *
 * and one line in the table of tools/dspark.c. Everything is used from the main thread, unless it says otherwise.
 */
#ifndef DSPARK_TOOLS_CLI_H
#define DSPARK_TOOLS_CLI_H

#include "dspark.h"

#if defined(__GNUC__)
#define DS_CLI_PRINTF(format_index, first_arg) __attribute__((format(printf, format_index, first_arg)))
#else
#define DS_CLI_PRINTF(format_index, first_arg)
#endif

/* Exit codes of the program; DS_CLI_GO is none: parsing went well and the command goes on. */
enum { DS_CLI_GO = -1, DS_CLI_DONE = 0, DS_CLI_FAILED = 1, DS_CLI_USAGE = 2, DS_CLI_INTERRUPTED = 130 };

/* What an option's value is, and the type of the member at its offset. */
typedef enum ds_cli_kind {
    DS_CLI_FLAG,   /* bool: set to true; the option takes no value */
    DS_CLI_STRING, /* const char *: points into argv */
    DS_CLI_UINT,   /* uint32_t in [min, max]; max 0: UINT32_MAX */
    DS_CLI_U64,    /* uint64_t in [min, max]; max 0: UINT64_MAX */
    DS_CLI_SIZE,   /* uint64_t bytes in [min, max]; the text may end in K, M, G or T (1024-fold each) */
    DS_CLI_FLOAT,  /* float in [low, high], finite */
    DS_CLI_ENUM,   /* int: index into `choices` */
    DS_CLI_TOKENS, /* struct ds_cli_tokens; `ids` is malloc'ed and owned by the caller, who frees it with free() */
    DS_CLI_CUSTOM  /* whatever `parse` writes */
} ds_cli_kind;

struct ds_cli_tokens {
    ds_token *ids; /* NULL: not given */
    size_t count;
};

struct ds_cli_option {
    const char *name;  /* long name without the dashes; NULL ends a table */
    char letter;       /* 0: none */
    bool required;
    ds_cli_kind kind;
    const char *value; /* name of the value in the help: "PATH"; NULL for a flag. An enum without one lists its choices. */
    size_t offset;     /* of the target in the group's struct */
    size_t given;      /* offset of a bool set to true when the option was given; 0: not wanted */
    uint64_t min, max;
    double low, high;
    const char *const *choices;                      /* DS_CLI_ENUM: names, ended by NULL */
    bool (*parse)(const char *text, void *target);   /* DS_CLI_CUSTOM: false when the text is not `expected` */
    const char *expected;                            /* DS_CLI_CUSTOM: completes "expected ..." */
    const char *help;  /* a phrase without a full stop; wrapped when printed. State the default: "(default: 8)" */
};

/* Options printed under one heading. Commands may share a table: `base` is where its struct lies in the command's. */
struct ds_cli_group {
    const char *title; /* NULL: "Options" */
    const struct ds_cli_option *options; /* NULL ends the list */
    size_t base;
};

struct ds_cli_command {
    const char *name;
    const char *summary;  /* one line, lower case, no full stop: for the list of commands */
    const char *synopsis; /* what follows the name: "-m MODEL [options]" */
    const char *details;  /* paragraphs divided by "\n\n"; wrapped when printed. Markdown code spans are fine. May be NULL. */
    const char *examples; /* command lines, one a line. May be NULL. */
    const struct ds_cli_group *groups;
    uint32_t min_operands, max_operands; /* arguments that are not options */
    const char *operand;                 /* their name: "FILE"; NULL when there are none */
    int (*main)(int argc, char **argv);  /* argv[0] is the command's name; returns the exit code */
};

/* The commands; tools/dspark.c has their table. */
extern const struct ds_cli_command ds_command_run, ds_command_chat, ds_command_logits, ds_command_tokenize, ds_command_inspect,
    ds_command_devices, ds_command_bench, ds_command_check, ds_command_convert, ds_command_hash, ds_command_sign, ds_command_verify,
    ds_command_calibrate, ds_command_eval;

/* --- parsing --- */

/*
 * Fills `values` (the command's options struct, defaults set by the caller) from argv[1..]. `--opt value`, `--opt=value`, `-n 5`,
 * `-n5`, `-ab` for flags; `--` ends the options; the last of several wins. `operands` receives the other arguments in order (pointing
 * into argv; it has room for max_operands) and may be NULL when the command has none. Returns DS_CLI_GO, or an exit code: 0 after --help was
 * printed, 2 after wrong usage was explained on stderr.
 */
int ds_cli_parse(const struct ds_cli_command *command, int argc, char **argv, void *values, const char **operands);

/* Explains wrong usage on stderr ("dspark NAME: ..." and where help is). Returns DS_CLI_USAGE. */
int ds_cli_usage(const struct ds_cli_command *command, const char *format, ...) DS_CLI_PRINTF(2, 3);

/* The nearest of `names` to a mistyped one, or NULL when none is near. `names` ends with NULL. */
const char *ds_cli_nearest(const char *typed, const char *const *names);

/* --- help --- */

void ds_cli_print_help(const struct ds_cli_command *command);
/* The command's section of docs/cli.md. */
void ds_cli_print_markdown(const struct ds_cli_command *command);

/* --- results and messages --- */

/* Explains a failure on stderr ("dspark: MESSAGE"). Returns DS_CLI_FAILED. */
int ds_cli_fail(const struct ds_error *err);
int ds_cli_failf(const char *format, ...) DS_CLI_PRINTF(1, 2);

/* A line of information on stderr, in dim text on a terminal. */
void ds_cli_note(const char *format, ...) DS_CLI_PRINTF(1, 2);

/* Writes bytes to stdout and flushes. False when stdout takes no more (a closed pipe, a full disk): stop, and let ds_cli_finish tell. */
bool ds_cli_write(const char *data, size_t length);

/* The same for text a model wrote: on a terminal, control characters but newlines and tabs are left out. */
bool ds_cli_write_text(const char *text, size_t length);

/*
 * The last call of a command: flushes stdout and returns `code`, or DS_CLI_FAILED when anything written there was lost. A full disk
 * is explained on stderr once, a closed pipe is not.
 */
int ds_cli_finish(int code);

/* True when the stream (1: stdout, 2: stderr) is a terminal. */
bool ds_cli_is_terminal(int stream);
/* True when text on the stream may be coloured: a terminal, NO_COLOR unset or empty, TERM not "dumb". */
bool ds_cli_coloured(int stream);

/* A ds_log_fn that prints to stderr. Any thread. */
void ds_cli_log(void *user, ds_log_level level, const char *message);

double ds_cli_seconds(void); /* monotonic */

/* A ds_progress_fn that draws a bar on a terminal's stderr, once it takes longer than 0.3 s. Zero the struct to start. */
struct ds_cli_progress {
    const char *what; /* "loading" */
    double started, drawn; /* seconds */
    bool visible;
};
bool ds_cli_progress(void *user, uint64_t done, uint64_t total);
/* Removes the bar. */
void ds_cli_progress_end(struct ds_cli_progress *progress);

/* Prints untrusted text (a name from a file) to stdout with control characters and invalid UTF-8 escaped. */
void ds_cli_print_escaped(const char *text, size_t length);

#endif
