#include "cli.h"

#include "cli_text.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- nearest name --- */

enum { NEAREST_MAX = 40 }; /* longer names are never mistyped ones of ours */

static size_t min3(size_t a, size_t b, size_t c) {
    const size_t ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* Levenshtein's distance with swaps of neighbours counting once. Both lengths are at most NEAREST_MAX. */
static size_t edit_distance(const char *a, size_t n_a, const char *b, size_t n_b) {
    size_t rows[3][NEAREST_MAX + 1];
    for (size_t j = 0; j <= n_b; j++) rows[0][j] = j;
    for (size_t i = 1; i <= n_a; i++) {
        size_t *const row = rows[i % 3];
        const size_t *const above = rows[(i + 2) % 3], *const above2 = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
            const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped && above2[j - 2] + 1 < row[j]) row[j] = above2[j - 2] + 1;
        }
    }
    return rows[n_a % 3][n_b];
}

const char *ds_cli_nearest(const char *typed, const char *const *names) {
    const size_t n = strlen(typed);
    if (n < 2 || n > NEAREST_MAX) return NULL;
    const char *best = NULL;
    size_t best_distance = n / 3 + 2; /* what is farther than n / 3 + 1 edits is another word */
    for (; *names; names++) {
        const size_t length = strlen(*names);
        if (length > NEAREST_MAX) continue;
        const bool prefix = n >= 3 && strncmp(*names, typed, n) == 0; /* abbreviations are not taken, but understood */
        const size_t distance = prefix ? 1 : edit_distance(typed, n, *names, length);
        if (distance < best_distance && distance < length) {
            best = *names;
            best_distance = distance;
        }
    }
    return best;
}

/* --- wrong usage --- */

int ds_cli_usage(const struct ds_cli_command *command, const char *format, ...) {
    fflush(stdout);
    fprintf(stderr, "dspark %s: ", command->name);
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\nTry 'dspark %s --help'.\n", command->name);
    return DS_CLI_USAGE;
}

/* --- values --- */

static bool parse_u64(const char *text, size_t length, uint64_t *out) {
    uint64_t value = 0;
    if (length == 0) return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        const uint64_t digit = (uint64_t)(text[i] - '0');
        if (value > (UINT64_MAX - digit) / 10) return false;
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

static bool parse_size(const char *text, uint64_t *out) {
    const size_t length = strlen(text);
    if (length == 0) return false;
    static const char units[] = "KMGT";
    const char last = text[length - 1];
    const char *const unit = strchr(units, last >= 'a' && last <= 'z' ? last - 'a' + 'A' : last);
    uint64_t value;
    if (!parse_u64(text, length - (unit != NULL), &value)) return false;
    const unsigned shift = unit ? 10 * ((unsigned)(unit - units) + 1) : 0;
    if (value > UINT64_MAX >> shift) return false;
    *out = value << shift;
    return true;
}

static bool parse_float(const char *text, float *out) {
    /* strtof takes spaces, "inf", "nan" and hexadecimal; a person who writes these has made a mistake */
    if (text[0] == '\0' || text[strspn(text, "0123456789+-.eE")] != '\0') return false;
    char *end;
    *out = strtof(text, &end);
    return *end == '\0' && isfinite(*out);
}

static bool parse_tokens(const char *text, struct ds_cli_tokens *out) {
    size_t capacity = 1;
    for (const char *c = text; *c; c++) capacity += *c == ',';
    ds_token *const ids = malloc(capacity * sizeof *ids);
    if (!ids) return false;
    size_t count = 0;
    for (const char *item = text;;) {
        item += strspn(item, " ");
        const size_t length = strcspn(item, ", ");
        const char *const next = item + length + strspn(item + length, " ");
        uint64_t id;
        if (!parse_u64(item, length, &id) || id > INT32_MAX || (*next != ',' && *next != '\0')) {
            free(ids);
            return false;
        }
        ids[count++] = (ds_token)id;
        if (*next == '\0') break;
        item = next + 1;
    }
    free(out->ids); /* of an earlier one of the same option */
    *out = (struct ds_cli_tokens){.ids = ids, .count = count};
    return true;
}

static bool parse_choice(const char *text, const char *const *choices, int *out) {
    for (int i = 0; choices[i]; i++) {
        if (strcmp(text, choices[i]) != 0) continue;
        *out = i;
        return true;
    }
    return false;
}

static uint64_t highest(const struct ds_cli_option *option) {
    if (option->max) return option->max;
    return option->kind == DS_CLI_UINT ? UINT32_MAX : UINT64_MAX;
}

/* What the option wants, for "expected ...". */
static void describe_expected(const struct ds_cli_option *option, char *out, size_t size) {
    switch (option->kind) {
    case DS_CLI_UINT:
    case DS_CLI_U64:
        if (!option->max && !option->min) snprintf(out, size, "a whole number");
        else if (!option->max) snprintf(out, size, "a whole number of at least %llu", (unsigned long long)option->min);
        else
            snprintf(out, size, "a whole number from %llu to %llu", (unsigned long long)option->min, (unsigned long long)option->max);
        break;
    case DS_CLI_SIZE: snprintf(out, size, "a size in bytes such as 512M or 2G"); break;
    case DS_CLI_FLOAT: snprintf(out, size, "a number from %g to %g", option->low, option->high); break;
    case DS_CLI_ENUM: {
        size_t used = (size_t)snprintf(out, size, "one of");
        for (const char *const *choice = option->choices; *choice && used < size; choice++)
            used += (size_t)snprintf(out + used, size - used, "%s %s", choice == option->choices ? "" : ",", *choice);
        break;
    }
    case DS_CLI_TOKENS: snprintf(out, size, "token ids divided by commas, such as 5,17,3"); break;
    case DS_CLI_CUSTOM: snprintf(out, size, "%s", option->expected); break;
    case DS_CLI_STRING: snprintf(out, size, "%s", option->value); break;
    case DS_CLI_FLAG: assert(!"a flag has no value"); break;
    }
}

/* Writes the value to its target; false when the text is not what the option wants. */
static bool store(const struct ds_cli_option *option, const char *text, void *target) {
    uint64_t number;
    switch (option->kind) {
    case DS_CLI_FLAG: *(bool *)target = true; return true;
    case DS_CLI_STRING: *(const char **)target = text; return true;
    case DS_CLI_UINT:
    case DS_CLI_U64:
    case DS_CLI_SIZE:
        if (option->kind == DS_CLI_SIZE ? !parse_size(text, &number) : !parse_u64(text, strlen(text), &number)) return false;
        if (number < option->min || number > highest(option)) return false;
        if (option->kind == DS_CLI_UINT) *(uint32_t *)target = (uint32_t)number;
        else *(uint64_t *)target = number;
        return true;
    case DS_CLI_FLOAT: {
        float value;
        if (!parse_float(text, &value) || value < option->low || value > option->high) return false;
        *(float *)target = value;
        return true;
    }
    case DS_CLI_ENUM: return parse_choice(text, option->choices, target);
    case DS_CLI_TOKENS: return parse_tokens(text, target);
    case DS_CLI_CUSTOM: return option->parse(text, target);
    }
    return false;
}

/* --- the options of a command, found by name --- */

struct found {
    const struct ds_cli_option *option; /* NULL: none */
    size_t base;
    unsigned index; /* over all groups */
};

/* The option with this letter, or with the `length` bytes of `name` when the letter is 0. */
static struct found find_option(const struct ds_cli_command *command, char letter, const char *name, size_t length) {
    unsigned index = 0;
    for (const struct ds_cli_group *group = command->groups; group->options; group++)
        for (const struct ds_cli_option *option = group->options; option->name; option++, index++) {
            const bool same = letter ? option->letter == letter
                                     : strncmp(option->name, name, length) == 0 && option->name[length] == '\0';
            if (same) return (struct found){.option = option, .base = group->base, .index = index};
        }
    return (struct found){0};
}

static int unknown_option(const struct ds_cli_command *command, const char *argument, const char *name, size_t length) {
    const char *names[66] = {"help"};
    size_t n = 1;
    for (const struct ds_cli_group *group = command->groups; group->options; group++)
        for (const struct ds_cli_option *option = group->options; option->name && n < 65; option++) names[n++] = option->name;
    char typed[NEAREST_MAX + 1] = "";
    if (length <= NEAREST_MAX) memcpy(typed, name, length);
    const char *const nearest = ds_cli_nearest(typed, names);
    if (nearest) return ds_cli_usage(command, "unknown option '%s'; did you mean '--%s'?", argument, nearest);
    return ds_cli_usage(command, "unknown option '%s'", argument);
}

/* --- parsing --- */

struct parser {
    const struct ds_cli_command *command;
    int argc, next; /* argv[next] is the next argument */
    char **argv;
    void *values;
    uint64_t seen; /* bit i: option i was given */
};

/* `value` is NULL when it was not attached to the option: then the next argument is the value. */
static int take_option(struct parser *parser, struct found found, const char *value) {
    const struct ds_cli_option *const option = found.option;
    if (option->kind == DS_CLI_FLAG && value)
        return ds_cli_usage(parser->command, "option '--%s' takes no value, found '%s'", option->name, value);
    if (option->kind != DS_CLI_FLAG && !value) {
        if (parser->next == parser->argc) {
            char expected[256];
            describe_expected(option, expected, sizeof expected);
            return ds_cli_usage(parser->command, "option '--%s' needs a value: expected %s", option->name, expected);
        }
        value = parser->argv[parser->next++];
    }
    char *const target = (char *)parser->values + found.base;
    if (!store(option, value, target + option->offset)) {
        char expected[256];
        describe_expected(option, expected, sizeof expected);
        return ds_cli_usage(parser->command, "option '--%s': expected %s, found '%s'", option->name, expected, value);
    }
    if (option->given) *(bool *)(target + option->given) = true;
    assert(found.index < 64);
    parser->seen |= UINT64_C(1) << found.index;
    return DS_CLI_GO;
}

static int take_long(struct parser *parser, const char *argument) {
    const char *const name = argument + 2;
    const size_t length = strcspn(name, "=");
    if (strcmp(name, "help") == 0) {
        ds_cli_print_help(parser->command);
        return ds_cli_finish(DS_CLI_DONE);
    }
    const struct found found = find_option(parser->command, 0, name, length);
    if (!found.option) return unknown_option(parser->command, argument, name, length);
    return take_option(parser, found, name[length] == '=' ? name + length + 1 : NULL);
}

/* "-n5", "-n 5", and clusters of flags "-ab" whose last may have a value. */
static int take_short(struct parser *parser, const char *argument) {
    for (const char *c = argument + 1; *c; c++) {
        if (*c == 'h') {
            ds_cli_print_help(parser->command);
            return ds_cli_finish(DS_CLI_DONE);
        }
        const struct found found = find_option(parser->command, *c, NULL, 0);
        /* "-model" is a mistyped "--model" rather than letters */
        if (!found.option) return unknown_option(parser->command, argument, argument + 1, strcspn(argument + 1, "="));
        if (found.option->kind != DS_CLI_FLAG) return take_option(parser, found, c[1] ? c + 1 : NULL);
        const int code = take_option(parser, found, NULL);
        if (code != DS_CLI_GO) return code;
    }
    return DS_CLI_GO;
}

static int check_complete(const struct parser *parser, uint32_t operands) {
    const struct ds_cli_command *const command = parser->command;
    unsigned index = 0;
    for (const struct ds_cli_group *group = command->groups; group->options; group++)
        for (const struct ds_cli_option *option = group->options; option->name; option++, index++) {
            if (!option->required || (parser->seen >> index & 1)) continue;
            char label[CLI_LABEL_SIZE];
            ds_cli_label(option, label);
            return ds_cli_usage(command, "option '%s' is missing: %s", label, option->help);
        }
    if (operands < command->min_operands) return ds_cli_usage(command, "%s is missing", command->operand);
    return DS_CLI_GO;
}

int ds_cli_parse(const struct ds_cli_command *command, int argc, char **argv, void *values, const char **operands) {
    struct parser parser = {.command = command, .argc = argc, .next = 1, .argv = argv, .values = values};
    uint32_t n_operands = 0;
    bool options_ended = false;
    while (parser.next < argc) {
        const char *const argument = argv[parser.next++];
        int code = DS_CLI_GO;
        if (options_ended || argument[0] != '-' || argument[1] == '\0') {
            if (n_operands == command->max_operands) return ds_cli_usage(command, "unexpected argument '%s'", argument);
            operands[n_operands++] = argument;
        } else if (strcmp(argument, "--") == 0) {
            options_ended = true;
        } else {
            code = argument[1] == '-' ? take_long(&parser, argument) : take_short(&parser, argument);
        }
        if (code != DS_CLI_GO) return code;
    }
    return check_complete(&parser, n_operands);
}
