#include "cli.h"
#include "cli_text.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { HELP_WIDTH = 80, HELP_COLUMN = 26 };

/* Appends to a text of bounded size; what does not fit is cut. */
static void append(char *out, size_t size, const char *format, ...) DS_CLI_PRINTF(3, 4);
static void append(char *out, size_t size, const char *format, ...) {
    const size_t used = strlen(out);
    va_list args;
    va_start(args, format);
    vsnprintf(out + used, size - used, format, args);
    va_end(args);
}

void ds_cli_label(const struct ds_cli_option *option, char out[CLI_LABEL_SIZE]) {
    out[0] = '\0';
    if (option->letter) append(out, CLI_LABEL_SIZE, "-%c, ", option->letter);
    append(out, CLI_LABEL_SIZE, "--%s", option->name);
    if (option->value) {
        append(out, CLI_LABEL_SIZE, " %s", option->value);
    } else if (option->choices) {
        for (const char *const *choice = option->choices; *choice; choice++)
            append(out, CLI_LABEL_SIZE, "%c%s", choice == option->choices ? ' ' : '|', *choice);
    }
}

static const char *group_title(const struct ds_cli_group *group) {
    return group->title ? group->title : "Options";
}

/* Prints words from column `column` on, continued lines indented to `indent`; "\n\n" in the text starts a paragraph. */
static void print_wrapped(const char *text, int column, int indent) {
    while (*text) {
        if (text[0] == '\n' && text[1] == '\n') {
            printf("\n\n%*s", indent, "");
            column = indent;
            text += 2;
            continue;
        }
        const int length = (int)strcspn(text, " \n");
        if (column > indent && column + 1 + length > HELP_WIDTH) {
            printf("\n%*s", indent, "");
            column = indent;
        }
        column += printf("%s%.*s", column > indent ? " " : "", length, text);
        text += length;
        if (*text == ' ' || (*text == '\n' && text[1] != '\n')) text++;
    }
    putchar('\n');
}

static void print_option(const struct ds_cli_option *option) {
    char label[CLI_LABEL_SIZE];
    ds_cli_label(option, label);
    /* long names stand in one column, whether or not they have a letter */
    const int column = printf("  %s%s", option->letter ? "" : "    ", label);
    if (column + 2 > HELP_COLUMN) printf("\n%*s", HELP_COLUMN, "");
    else printf("%*s", HELP_COLUMN - column, "");
    print_wrapped(option->help, HELP_COLUMN, HELP_COLUMN);
}

void ds_cli_print_help(const struct ds_cli_command *command) {
    const bool coloured = ds_cli_coloured(1);
    const char *const bold = coloured ? "\033[1m" : "", *const plain = coloured ? "\033[0m" : "";
    printf("%sUsage:%s dspark %s %s\n\n", bold, plain, command->name, command->synopsis);
    if (command->details) {
        print_wrapped(command->details, 0, 0);
        putchar('\n');
    }
    for (const struct ds_cli_group *group = command->groups; group->options; group++) {
        printf("%s%s:%s\n", bold, group_title(group), plain);
        for (const struct ds_cli_option *option = group->options; option->name; option++) print_option(option);
        putchar('\n');
    }
    if (command->examples) {
        printf("%sExamples:%s\n", bold, plain);
        for (const char *line = command->examples; *line;) {
            const int length = (int)strcspn(line, "\n");
            printf("  %.*s\n", length, line);
            line += length + (line[length] == '\n');
        }
        putchar('\n');
    }
    printf("Exit status: 0 done, 1 failed, 2 wrong usage.\n");
}

void ds_cli_print_markdown(const struct ds_cli_command *command) {
    printf("## dspark %s\n\n", command->name);
    printf("```\ndspark %s %s\n```\n\n", command->name, command->synopsis);
    if (command->details) {
        print_wrapped(command->details, 0, 0);
        putchar('\n');
    }
    for (const struct ds_cli_group *group = command->groups; group->options; group++) {
        printf("**%s**\n\n", group_title(group));
        for (const struct ds_cli_option *option = group->options; option->name; option++) {
            char label[CLI_LABEL_SIZE];
            ds_cli_label(option, label);
            const int column = printf("- `%s`:", label);
            print_wrapped(option->help, column, 2);
        }
        putchar('\n');
    }
    if (command->examples) printf("**Examples**\n\n```\n%s\n```\n\n", command->examples);
}
