#include "cli.h"
#include "cli_json.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct devices_options {
    const char *modules;
    bool json;
};
static const struct ds_cli_option devices_options[] = {
    {.name = "modules", .value = "DIR", .kind = DS_CLI_STRING, .offset = offsetof(struct devices_options, modules),
     .help = "the one folder to take modules from (default: beside the program, and where they were installed)"},
    {.name = "json", .kind = DS_CLI_FLAG, .offset = offsetof(struct devices_options, json), .help = "a JSON array of objects"},
    {0}};
static const struct ds_cli_group devices_groups[] = {{.options = devices_options}, {0}};

static void print_row(void *user, const ds_device_info *info) {
    size_t *const count = user;
    if ((*count)++ == 0) printf("%-8s  %-5s  %10s  %s\n", "device", "exact", "memory", "description");
    char memory[32] = "-";
    if (info->memory_bytes)
        snprintf(memory, sizeof memory, "%.1f GiB", (double)info->memory_bytes / (1024.0 * 1024.0 * 1024.0));
    printf("%-8s  %-5s  %10s  ", info->name, info->exact ? "yes" : "no", memory);
    ds_cli_print_escaped(info->description, strlen(info->description));
    if (info->note[0]) {
        fputs("; ", stdout);
        ds_cli_print_escaped(info->note, strlen(info->note));
    }
    if (info->fast[0]) {
        fputs("; with --numerics fast: ", stdout);
        ds_cli_print_escaped(info->fast, strlen(info->fast));
    }
    putchar('\n');
}

static void print_object(void *user, const ds_device_info *info) {
    size_t *const count = user;
    printf("%s{\"name\": ", (*count)++ ? ", " : "");
    ds_cli_json_text(stdout, info->name);
    fputs(", \"description\": ", stdout);
    ds_cli_json_text(stdout, info->description);
    printf(", \"memory_bytes\": %" PRIu64 ", \"exact\": %s, \"note\": ", info->memory_bytes, info->exact ? "true" : "false");
    ds_cli_json_text(stdout, info->note);
    fputs(", \"fast\": ", stdout);
    ds_cli_json_text(stdout, info->fast);
    putchar('}');
}

static int devices_main(int argc, char **argv) {
    struct devices_options options = {.json = false};
    const int code = ds_cli_parse(&ds_command_devices, argc, argv, &options, NULL);
    if (code != DS_CLI_GO) return code;
    size_t count = 0;
    struct ds_error err;
    if (options.json) putchar('[');
    const ds_status status = ds_devices(options.modules, options.json ? print_object : print_row, &count, &err);
    if (options.json) puts("]");
    return ds_cli_finish(status == DS_OK ? DS_CLI_DONE : ds_cli_fail(&err));
}

const struct ds_cli_command ds_command_devices = {
    .name = "devices",
    .summary = "the devices of this machine and whether they are exact",
    .synopsis = "[--modules DIR] [--json]",
    .details = "Lists what --device takes. A device is exact when it passed the self-test: then it gives the same tokens as every other "
               "exact one, bit for bit. What --numerics fast would use on it that breaks this for speed is told behind it (\"fast\").",
    .groups = devices_groups,
    .main = devices_main,
};
