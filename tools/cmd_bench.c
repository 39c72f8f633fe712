#include "bench.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* --- options --- */

struct bench_options {
    const char *target, *drafter, *device, *draft_device, *modules, *svg;
    uint32_t threads, draft_top_k, context, tokens, repeats;
    bool context_given, last_logits, json;
    int numerics; /* ds_numerics */
    struct ds_bench_widths widths;
    struct ds_cli_trust trust;
};

/* A number from 1 to 16 at *text, which moves behind it. */
static bool parse_width(const char **text, uint32_t *out) {
    char *end;
    if (**text < '0' || **text > '9') return false;
    const unsigned long value = strtoul(*text, &end, 10);
    if (value < 1 || value > DS_BENCH_MOST_ROWS) return false;
    *out = (uint32_t)value;
    *text = end;
    return true;
}

/* "1..16", "1,2,4", "1,4..8" */
static bool parse_widths(const char *text, void *target) {
    struct ds_bench_widths widths = {{[1] = true}};
    for (;; text++) {
        uint32_t first, last;
        if (!parse_width(&text, &first)) return false;
        last = first;
        if (strncmp(text, "..", 2) == 0) {
            text += 2;
            if (!parse_width(&text, &last) || last < first) return false;
        }
        for (uint32_t w = first; w <= last; w++) widths.wanted[w] = true;
        if (*text != ',') break;
    }
    if (*text) return false;
    *(struct ds_bench_widths *)target = widths;
    return true;
}

#define AT(member) .offset = offsetof(struct bench_options, member)
static const struct ds_cli_option model_options[] = {
    {.name = "model", .letter = 'm', .value = "PATH", .kind = DS_CLI_STRING, AT(target), .required = true,
     .help = "the target model: a GGUF file, or a folder with config.json, *.safetensors and tokenizer.json"},
    {.name = "drafter", .letter = 'd', .value = "PATH", .kind = DS_CLI_STRING, AT(drafter),
     .help = "the drafter that belongs to the model; without one, drafting and speculation are not measured"},
    {.name = "device", .value = "LIST", .kind = DS_CLI_STRING, AT(device), .help = ds_cli_device_help},
    {.name = "modules", .value = "DIR", .kind = DS_CLI_STRING, AT(modules),
     .help = "the one folder to take modules from: dspark_cuda.so, dspark_hip.so (default: beside the program, and where they were installed)"},
    {.name = "draft-device", .value = "NAME", .kind = DS_CLI_STRING, AT(draft_device), .help = "where the drafter runs (default: on the first of --device)"},
    {.name = "draft-top-k", .value = "N", .kind = DS_CLI_UINT, AT(draft_top_k), .max = INT32_MAX,
     .help = "a DSpark drafter's Markov head is applied to the N likeliest tokens of a slot alone; 0: to all (default: 0)"},
    {.name = "threads", .value = "N", .kind = DS_CLI_UINT, AT(threads), .min = 1, .max = 4096,
     .help = "CPU threads (default: one per processor)"},
    {.name = "numerics", .kind = DS_CLI_ENUM, AT(numerics), .choices = ds_cli_numerics_names,
     .help = "fast also takes an inexact device that is named, and variants that break the contract for speed where a device has them (default: exact)"},
    {0}};
static const struct ds_cli_option measure_options[] = {
    {.name = "ctx", .value = "N", .kind = DS_CLI_UINT, AT(context), .min = 1, .max = INT32_MAX,
     .given = offsetof(struct bench_options, context_given),
     .help = "positions in front of a measured pass, filled by a real prefill (default: 1024, or what the model's context leaves room for)"},
    {.name = "widths", .value = "LIST", .kind = DS_CLI_CUSTOM, AT(widths), .parse = parse_widths,
     .expected = "numbers and ranges from 1 to 16 such as 1..16 or 1,2,4..8",
     .help = "rows of the measured passes; 1 is always among them (default: 1..16)"},
    {.name = "last-logits", .kind = DS_CLI_FLAG, AT(last_logits),
     .help = "measured passes give logits of their last row only, as those of other programs do, and not of every row, as a verification's"},
    {.name = "repeat", .value = "N", .kind = DS_CLI_UINT, AT(repeats), .min = 1, .max = 10000,
     .help = "times that each pass is measured, in changing order; the median counts (default: 9)"},
    {.letter = 'n', .name = "max-tokens", .value = "N", .kind = DS_CLI_UINT, AT(tokens), .min = 2, .max = 65536,
     .help = "tokens generated at most for each of three built-in prompts (default: 64)"},
    {0}};
static const struct ds_cli_option output_options[] = {
    {.name = "json", .kind = DS_CLI_FLAG, AT(json), .help = "one JSON object instead of the tables"},
    {.name = "svg", .value = "FILE", .kind = DS_CLI_STRING, AT(svg), .help = "a drawing of t(w)/t(1) and of the least that this machine allows"},
    {0}};
#undef AT
static const struct ds_cli_group bench_groups[] = {
    {.title = "Model", .options = model_options},
    {.title = "Manifest", .options = ds_cli_trust_options, .base = offsetof(struct bench_options, trust)},
    {.title = "Measurement", .options = measure_options},
    {.title = "Result", .options = output_options},
    {0}};

/* --- the command --- */

/* Positions that a session needs besides those in front of a pass. */
enum { ROOM = DS_BENCH_MOST_ROWS + 1, PROMPT_ROOM = 256 };

static uint32_t larger(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

/* The default context holds nearly everything; asking for more than it has is the model's to allow. */
static uint32_t context_to_open(const struct bench_options *options) {
    const uint32_t usual = 4096, wanted = options->context_given ? options->context : DS_BENCH_CONTEXT;
    const uint32_t most = wanted > INT32_MAX - ROOM ? INT32_MAX : wanted + ROOM;
    const uint32_t needed = larger(most, options->tokens + PROMPT_ROOM);
    return needed > usual ? needed : 0;
}

/* Fits the plan to the model's context. */
static int make_plan(const struct bench_options *options, const ds_engine_info *info, struct ds_bench_plan *plan) {
    if (info->context <= ROOM)
        return ds_cli_failf("%s: a context of %" PRIu32 " positions is too small to measure in: expected more than %d", options->target,
                            info->context, ROOM);
    const uint32_t most = info->context - ROOM;
    if (options->context_given && options->context > most)
        return ds_cli_failf("--ctx %" PRIu32 ": the model has %" PRIu32 " positions; expected at most %" PRIu32
                            ", which leaves room for the measured rows", options->context, info->context, most);
    *plan = (struct ds_bench_plan){
        .context = options->context_given || options->context < most ? options->context : most,
        .prefill = info->context > DS_BENCH_PREFILL ? DS_BENCH_PREFILL : info->context - 1,
        .tokens = options->tokens,
        .repeats = options->repeats,
        .last_logits = options->last_logits,
        .widths = options->widths,
    };
    return DS_CLI_GO;
}

static int measure(const struct bench_options *options, ds_engine **engine, struct ds_svg_file *svg, struct ds_bench_result *result) {
    const struct ds_cli_engine open = {.target = options->target, .device = options->device, .modules = options->modules, .threads = options->threads,
                                       .context = context_to_open(options), .numerics = options->numerics, .log = DS_LOG_WARNING, .trust = options->trust};
    const struct ds_cli_draft draft = {.drafter = options->drafter, .device = options->draft_device, .top_k = options->draft_top_k};
    ds_engine_info info;
    struct ds_bench_plan plan;
    const double started = ds_cli_seconds();
    int code = ds_cli_open(&ds_command_bench, &open, &draft, engine, &info);
    if (code == DS_CLI_GO) code = make_plan(options, &info, &plan);
    const double opened = ds_cli_seconds();
    if (code == DS_CLI_GO) code = ds_cli_prepare(*engine, &result->placed_bytes);
    result->load = ds_cli_seconds() - started;
    result->placing = ds_cli_seconds() - opened;
    result->load_peak = ds_dev_peak_rss();
    if (code == DS_CLI_GO) code = ds_bench_measure(*engine, &info, &plan, result);
    if (code != DS_CLI_GO) return code;
    const struct ds_bench_report report = {.model = options->target, .info = &info, .plan = &plan, .result = result};
    if (options->json) ds_bench_print_json(&report);
    else ds_bench_print_table(&report);
    return ds_bench_svg_write(svg, &report);
}

static int bench_main(int argc, char **argv) {
    struct bench_options options = {.context = DS_BENCH_CONTEXT, .tokens = 64, .repeats = 9};
    for (uint32_t w = 1; w <= DS_BENCH_MOST_ROWS; w++) options.widths.wanted[w] = true;
    static struct ds_bench_result result; /* large for a stack */
    struct ds_svg_file svg = {0};
    ds_engine *engine = NULL;
    int code = ds_cli_parse(&ds_command_bench, argc, argv, &options, NULL);
    if (code == DS_CLI_GO) code = ds_svg_open(&svg, options.svg);
    if (code == DS_CLI_GO) code = measure(&options, &engine, &svg, &result);
    ds_svg_close(&svg);
    ds_engine_destroy(engine);
    return ds_cli_finish(code == DS_CLI_GO ? DS_CLI_DONE : code);
}

const struct ds_cli_command ds_command_bench = {
    .name = "bench",
    .summary = "what passes, drafts and decoding cost on this machine",
    .synopsis = "-m MODEL [-d DRAFTER] [options]",
    .details = "Measures the time of a pass over 1 to 16 rows (what a verification costs against one decode), of a draft, the tokens a second "
               "of prefill, of plain decoding and, with a drafter, of speculation at the length of its block; and in the same run what the "
               "machine could do at most: the rate at which it reads memory and makes products. efficiency is the least time by these two "
               "limits divided by the measured one; floor is t(w)/t(1) of the limits themselves.\n\n"
               "For numbers worth keeping let nothing else run. docs/performance.md tells more.",
    .examples = "dspark bench -m models/tiny/target -d models/tiny/dspark\n"
                "dspark bench -m model.gguf --widths 1,2,4,8 --ctx 256 --svg passes.svg\n"
                "dspark bench -m model.gguf --json",
    .groups = bench_groups,
    .main = bench_main,
};
