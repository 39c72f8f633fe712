/* The program: finds the command and hands over. */
#include "cli.h"

#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const struct ds_cli_command *const commands[] = {
    &ds_command_run,     &ds_command_chat,   &ds_command_bench,   &ds_command_tokenize,
    &ds_command_inspect, &ds_command_check, &ds_command_convert, &ds_command_hash,   &ds_command_sign,
    &ds_command_verify,  &ds_command_calibrate, &ds_command_eval, &ds_command_logits, &ds_command_devices,
};
enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static const struct ds_cli_command *find_command(const char *name) {
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    return NULL;
}

static int unknown_command(const char *name) {
    const char *names[COMMAND_COUNT + 2] = {"help"};
    for (size_t i = 0; i < COMMAND_COUNT; i++) names[i + 1] = commands[i]->name;
    const char *const nearest = ds_cli_nearest(name, names);
    fprintf(stderr, "dspark: unknown command '%s'", name);
    if (nearest) fprintf(stderr, "; did you mean '%s'?", nearest);
    fputs("\nTry 'dspark --help'.\n", stderr);
    return DS_CLI_USAGE;
}

static void list_commands(const char *format) {
    for (size_t i = 0; i < COMMAND_COUNT; i++) printf(format, commands[i]->name, commands[i]->summary);
}

static void print_overview(void) {
    puts("Usage: dspark COMMAND [options]\n\n"
         "Speculative decoding: a small drafter proposes tokens, the model verifies them,\n"
         "and the answer is the one the model alone would have given.\n\n"
         "Commands:");
    list_commands("  %-10s%s\n");
    puts("  help      this, or 'dspark help COMMAND'\n\n"
         "Each command has --help. Results go to standard output, all else to standard\n"
         "error. Exit status: 0 done, 1 failed, 2 wrong usage.");
}

/* docs/cli.md; a test compares it with the committed file. */
static void print_markdown(void) {
    puts("<!-- Made by `dspark help --markdown`. Edit the tables in tools/ instead. -->\n"
         "# The program\n\n"
         "`dspark COMMAND [options]`. Options follow POSIX and GNU: `--opt value`, `--opt=value`,\n"
         "`-n 5`, `-n5`; `--` ends them; the last of several wins. Each command has `--help`.\n\n"
         "Results go to standard output, everything else to standard error. Colours and\n"
         "progress bars appear on a terminal only, and no colours with `NO_COLOR` set.\n\n"
         "| exit status | |\n|---|---|\n| 0 | done |\n| 1 | failed: a file, the memory, a device, the model |\n"
         "| 2 | wrong usage |\n| 130 | ended by Ctrl-C; what was generated until then was printed |\n\n"
         "| command | |\n|---|---|");
    list_commands("| `%s` | %s |\n");
    putchar('\n');
    for (size_t i = 0; i < COMMAND_COUNT; i++) ds_cli_print_markdown(commands[i]);
}

static int help(int argc, char **argv) {
    if (argc < 2) {
        print_overview();
    } else if (strcmp(argv[1], "--markdown") == 0) {
        print_markdown();
    } else {
        const struct ds_cli_command *const command = find_command(argv[1]);
        if (!command) return unknown_command(argv[1]);
        ds_cli_print_help(command);
    }
    return ds_cli_finish(DS_CLI_DONE);
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is a failed write, told by the exit status */
    if (argc < 2) {
        fputs("dspark: a command is missing\nTry 'dspark --help'.\n", stderr);
        return DS_CLI_USAGE;
    }
    const char *const name = argv[1];
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) return help(argc - 1, argv + 1);
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        printf("dspark %s\n", ds_version());
        return ds_cli_finish(DS_CLI_DONE);
    }
    const struct ds_cli_command *const command = find_command(name);
    return command ? command->main(argc - 1, argv + 1) : unknown_command(name);
}
