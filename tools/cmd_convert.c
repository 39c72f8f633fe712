#include "cli.h"
#include "cli_engine.h"
#include "dspark_dev.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

/* --- options --- */

static const char *const type_names[] = {"f32", "bf16", "f16", "q8_0", "q4_0", "q4_k", "q5_k", "q6_k", "q4_k_m", NULL};

static const char *const layout_names[] = {"gguf", "packed", "deepspec", "speculators", NULL};

struct convert_options {
    int type, layout; /* indices into the lists of names */
    const char *target, *pre;
    bool no_embeddings;
    uint32_t threads;
    struct ds_cli_trust trust;
};

#define AT(member) .offset = offsetof(struct convert_options, member)
static const struct ds_cli_option convert_options[] = {
    {.name = "type", .letter = 't', .kind = DS_CLI_ENUM, AT(type), .choices = type_names, .required = true,
     .help = "how matrices are stored; `q4_k_m` gives the most sensitive ones more bits"},
    {.name = "target", .value = "PATH", .kind = DS_CLI_STRING, AT(target),
     .help = "of a drafter: the model it drafts for; its tokenizer comes along, and tables that are the target's are left out"},
    {.name = "no-embeddings", .kind = DS_CLI_FLAG, AT(no_embeddings),
     .help = "of a drafter: leave its embedding and head out, so that it uses its target's"},
    {.name = "layout", .kind = DS_CLI_ENUM, AT(layout), .choices = layout_names,
     .help = "`packed`: a GGUF file with matrices as device `cpu` keeps them: mapped, ready at once and shared by all processes that use it, but no "
             "other program and no other device reads it; of a drafter also a folder with config.json and model.safetensors as DeepSpec or speculators "
             "lay it out (default: gguf)"},
    {.name = "pre", .value = "NAME", .kind = DS_CLI_STRING, AT(pre),
     .help = "GGUF's name for how the tokenizer splits text into words (default: recognised)"},
    {.name = "threads", .value = "N", .kind = DS_CLI_UINT, .max = 256, AT(threads), .help = "CPU threads (default: one per processor)"},
    {0}};
#undef AT
static const struct ds_cli_group convert_groups[] = {
    {.options = convert_options}, {.title = "Manifest of IN", .options = ds_cli_trust_options, .base = offsetof(struct convert_options, trust)}, {0}};

/* --- the command --- */

static bool on_progress(void *user, uint64_t done, uint64_t total) {
    return ds_cli_progress(user, done, total) && !ds_cli_interrupted();
}

static void tell(const char *output, const ds_convert_stats *stats, double seconds) {
    ds_cli_note("%s: %" PRIu64 " tensors, %.1f MiB, %.2f bits a weight, %.1f s", output, stats->tensors, (double)stats->bytes / (1 << 20),
                8.0 * (double)stats->bytes / (double)stats->elements, seconds);
}

static int convert_main(int argc, char **argv) {
    struct convert_options options = {0};
    const char *operands[2];
    const int code = ds_cli_parse(&ds_command_convert, argc, argv, &options, operands);
    if (code != DS_CLI_GO) return code;

    ds_convert_params params = ds_convert_defaults();
    params.input = operands[0];
    params.output = operands[1];
    params.type = type_names[options.type];
    params.target = options.target;
    params.layout = layout_names[options.layout];
    params.drop_embeddings = options.no_embeddings;
    params.pre = options.pre;
    params.threads = options.threads;
    params.require_manifest = options.trust.require_manifest;
    params.trust = options.trust.key;
    params.log = ds_cli_log;
    params.log_level = DS_LOG_INFO;
    struct ds_cli_progress progress = {.what = "converting"};
    ds_convert_stats stats = {.size = sizeof stats};
    struct ds_error err;
    const double started = ds_cli_seconds();
    ds_cli_catch_interrupt();
    const ds_status status = ds_convert(&params, on_progress, &progress, &stats, &err);
    ds_cli_progress_end(&progress);
    ds_cli_release_interrupt();
    if (status == DS_ERROR_CANCELLED) return ds_cli_finish(DS_CLI_INTERRUPTED);
    if (status != DS_OK) return ds_cli_fail(&err);
    tell(params.output, &stats, ds_cli_seconds() - started);
    return ds_cli_finish(DS_CLI_DONE);
}

const struct ds_cli_command ds_command_convert = {
    .name = "convert",
    .summary = "a model or drafter to a GGUF file, quantised if wanted; a drafter also to a folder",
    .synopsis = "IN OUT --type TYPE [options]",
    .details = "IN is a folder with `config.json` and `*.safetensors`, or a GGUF file; OUT is a GGUF file that other runtimes read, too. Every target "
               "and every drafter that dspark runs can be converted; a drafter also to the folder OUT that DeepSpec or speculators read (`--layout`).\n\n"
               "The file appears when it is complete; Ctrl-C leaves nothing behind. Its bytes depend on IN and the options alone. Memory stays "
               "small whatever the model's size.",
    .examples = "dspark convert models/tiny/target target.gguf --type q4_k_m\n"
                "dspark convert models/tiny/dspark drafter.gguf --type q8_0 --target models/tiny/target",
    .groups = convert_groups,
    .min_operands = 2,
    .max_operands = 2,
    .operand = "IN OUT",
    .main = convert_main};
