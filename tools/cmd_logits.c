#include "ckpt/checkpoint.h"
#include "cli.h"
#include "cli_engine.h"
#include "dspark_dev.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

/* --- options --- */

enum rows { ROWS_ALL, ROWS_LAST };
static const char *const rows_names[] = {[ROWS_ALL] = "all", [ROWS_LAST] = "last", NULL};

struct logits_options {
    struct ds_cli_engine engine;
    struct ds_cli_tokens tokens;
    const char *output;
    int rows; /* enum rows */
    bool hidden;
};

#define AT(member) .offset = offsetof(struct logits_options, member)
static const struct ds_cli_option logits_options[] = {
    {.name = "tokens", .value = "IDS", .kind = DS_CLI_TOKENS, AT(tokens), .required = true, .help = "token ids divided by commas"},
    {.name = "output", .letter = 'o', .value = "FILE", .kind = DS_CLI_STRING, AT(output), .required = true,
     .help = "the safetensors file to write; it appears when it is complete"},
    {.name = "rows", .kind = DS_CLI_ENUM, AT(rows), .choices = rows_names, .help = "every token's row or the last one's (default: all)"},
    {.name = "hidden", .kind = DS_CLI_FLAG, AT(hidden), .help = "the hidden states, too"},
    {0}};
#undef AT
static const struct ds_cli_group logits_groups[] = {
    {.title = "Model", .options = ds_cli_engine_options, .base = offsetof(struct logits_options, engine)},
    {.title = "Manifest", .options = ds_cli_trust_options, .base = offsetof(struct logits_options, engine.trust)},
    {.title = "Result", .options = logits_options},
    {0}};

/* --- the result: `logits` and, if wanted, hidden.0 .. hidden.<layers>, in one block of memory --- */

struct result {
    float *data;                         /* owned */
    float **hidden;                      /* owned; [layers + 1] into data, NULL: not wanted */
    struct ds_safetensors_array *arrays; /* owned */
    char (*names)[32];                   /* owned */
    size_t n_arrays;
};

static void free_result(struct result *result) {
    free(result->data);
    free(result->hidden);
    free(result->arrays);
    free(result->names);
}

static struct ds_safetensors_array f32_matrix(const char *name, uint64_t rows, uint64_t cols, const float *data) {
    return (struct ds_safetensors_array){.name = name, .type = DS_TYPE_F32, .dims = 2, .shape = {rows, cols}, .data = data};
}

static int make_result(const struct ds_engine_info *info, uint64_t rows, bool hidden, struct result *out) {
    const uint64_t n_hidden = hidden ? (uint64_t)info->layers + 1 : 0;
    /* All factors are 32-bit: the sum of a row fits, and only the product with the rows needs a check. */
    const uint64_t row = info->vocabulary + n_hidden * info->hidden_size;
    uint64_t bytes;
    if (!ds_mul_u64(rows, row * sizeof(float), &bytes) || bytes > SIZE_MAX)
        return ds_cli_failf("the result of %" PRIu64 " rows is too large for this machine", rows);
    out->n_arrays = (size_t)n_hidden + 1;
    out->data = malloc((size_t)bytes);
    out->arrays = calloc(out->n_arrays, sizeof *out->arrays);
    out->names = calloc(out->n_arrays, sizeof *out->names);
    if (hidden) out->hidden = calloc((size_t)n_hidden, sizeof *out->hidden);
    if (!out->data || !out->arrays || !out->names || (hidden && !out->hidden))
        return ds_cli_failf("out of memory: the result of %" PRIu64 " rows takes %" PRIu64 " bytes", rows, bytes);

    out->arrays[0] = f32_matrix("logits", rows, info->vocabulary, out->data);
    float *next = out->data + rows * info->vocabulary;
    for (uint64_t layer = 0; layer < n_hidden; layer++, next += rows * info->hidden_size) {
        snprintf(out->names[layer], sizeof out->names[layer], "hidden.%" PRIu64, layer);
        out->hidden[layer] = next;
        out->arrays[layer + 1] = f32_matrix(out->names[layer], rows, info->hidden_size, next);
    }
    return DS_CLI_GO;
}

/* --- the command --- */

static int compute(const struct logits_options *options, ds_engine *engine, const ds_engine_info *info) {
    const size_t count = options->tokens.count;
    int code = ds_cli_check_tokens(&ds_command_logits, &options->tokens, info);
    if (code != DS_CLI_GO) return code;
    if (count > info->context)
        return ds_cli_failf("%zu tokens were given, the context holds %" PRIu32 ": give fewer or raise --ctx", count, info->context);
    code = ds_cli_prepare(engine, NULL);
    if (code != DS_CLI_GO) return code;

    const bool last = options->rows == ROWS_LAST;
    struct result result = {0};
    ds_session *session = NULL;
    struct ds_error err;
    const ds_session_params params = ds_session_defaults();
    code = make_result(info, last ? 1 : count, options->hidden, &result);
    if (code == DS_CLI_GO) {
        ds_status status = ds_session_create(engine, &params, &session, &err);
        if (status == DS_OK)
            status = ds_dev_forward(session, options->tokens.ids, count, last, result.data, result.hidden, &err);
        if (status == DS_OK) status = ds_safetensors_write(options->output, result.arrays, result.n_arrays, &err);
        code = status == DS_OK ? DS_CLI_DONE : ds_cli_fail(&err);
    }
    ds_session_destroy(session);
    free_result(&result);
    return code;
}

static int logits_main(int argc, char **argv) {
    struct logits_options options = {.engine = DS_CLI_ENGINE_DEFAULTS};
    ds_engine *engine = NULL;
    ds_engine_info info;
    int code = ds_cli_parse(&ds_command_logits, argc, argv, &options, NULL);
    if (code == DS_CLI_GO) code = ds_cli_open(&ds_command_logits, &options.engine, NULL, &engine, &info);
    if (code == DS_CLI_GO) code = compute(&options, engine, &info);
    ds_engine_destroy(engine);
    free(options.tokens.ids);
    return ds_cli_finish(code);
}

const struct ds_cli_command ds_command_logits = {
    .name = "logits",
    .summary = "logits and hidden states of given tokens, for people who port models",
    .synopsis = "-m MODEL --tokens IDS -o FILE [options]",
    .details = "Runs tokens through the target alone and writes `logits`, f32 [rows, vocabulary]. With --hidden also `hidden.<l>`, f32 "
               "[rows, hidden size], in the convention of Hugging Face's transformers: 0 is the embedding's output, l the output of "
               "layer l - 1, the last one what comes out of the final norm.",
    .examples = "dspark logits -m models/tiny/target --tokens 5,17,3 --weights f32 --kv f32 --hidden -o out.safetensors",
    .groups = logits_groups,
    .main = logits_main,
};
