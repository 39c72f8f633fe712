#include "cli_engine.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- options --- */

const char ds_cli_device_help[] =
    "where the model runs; `dspark devices` lists the names (default: the best one, and the processor for layers it has no room for). cuda:0=24,cpu "
    "has the first 24 layers, embedding and head on cuda:0 and the other layers on cpu; without a number, or with a size such as cuda:0=6G, a device "
    "takes as many as fit";

static const char *const kv_names[] = {[DS_KV_F16] = "f16", [DS_KV_F32] = "f32", NULL};
static const char *const weights_names[] = {[DS_WEIGHTS_FILE] = "file", [DS_WEIGHTS_F32] = "f32", NULL};
const char *const ds_cli_numerics_names[] = {[DS_NUMERICS_EXACT] = "exact", [DS_NUMERICS_FAST] = "fast", NULL};
static const char *const log_names[] = {"error", "warning", "info", "debug", "trace", NULL};
static const char *const sampling_names[] = {[DS_COUPLED] = "coupled", [DS_REJECTION] = "rejection", NULL};

#define AT(member) .offset = offsetof(struct ds_cli_engine, member)
const struct ds_cli_option ds_cli_engine_options[] = {
    {.name = "model", .letter = 'm', .value = "PATH", .kind = DS_CLI_STRING, AT(target), .required = true,
     .help = "the target model: a GGUF file, or a folder with config.json, *.safetensors and tokenizer.json"},
    {.name = "device", .value = "LIST", .kind = DS_CLI_STRING, AT(device), .help = ds_cli_device_help},
    {.name = "modules", .value = "DIR", .kind = DS_CLI_STRING, AT(modules),
     .help = "the one folder to take modules from: dspark_cuda.so, dspark_hip.so (default: beside the program, and where they were installed)"},
    {.name = "threads", .value = "N", .kind = DS_CLI_UINT, AT(threads), .min = 1, .max = 4096,
     .help = "CPU threads; changes the speed, never the tokens (default: one per processor)"},
    {.name = "ctx", .value = "N", .kind = DS_CLI_UINT, AT(context), .min = 1, .max = INT32_MAX,
     .help = "positions of context, prompt and answer together (default: the model's own, at most 4096)"},
    {.name = "chunk", .value = "N", .kind = DS_CLI_UINT, AT(chunk), .min = 1, .max = 65536,
     .help = "rows in one pass while the prompt is read; changes speed and memory, never the tokens (default: 256)"},
    {.name = "kv", .kind = DS_CLI_ENUM, AT(kv), .choices = kv_names,
     .help = "type of the cache; f32 is for comparisons with references (default: f16)"},
    {.name = "weights", .kind = DS_CLI_ENUM, AT(weights), .choices = weights_names,
     .help = "weights as stored in the file, or widened to f32 when loaded, for comparisons with references (default: file)"},
    {.name = "numerics", .kind = DS_CLI_ENUM, AT(numerics), .choices = ds_cli_numerics_names,
     .help = "fast also takes a device that is named and fails its self-test, and variants that break the contract for speed where a device has them (`dspark "
             "devices` tells of both): tokens may be other ones, and change with the number of rows in a pass (default: exact)"},
    {.name = "memory", .value = "SIZE", .kind = DS_CLI_SIZE, AT(memory), .min = 1,
     .help = "budget for weights, cache and scratch, such as 512M or 2G; what does not fit is refused before anything is "
             "allocated (default: what the machine has)"},
    {.name = "log", .kind = DS_CLI_ENUM, AT(log), .choices = log_names, .help = "messages on standard error (default: warning)"},
    {0}};
#undef AT

const struct ds_cli_option ds_cli_template_options[] = {
    {.name = "template", .value = "NAME", .kind = DS_CLI_STRING, .offset = offsetof(struct ds_cli_engine, chat_template),
     .help = "the chat template: chatml, qwen2, qwen2.5, qwen3, qwen3-nothink, llama3, llama3.1, mistral-v3, mistral-nemo, mistral-v7, gemma2, gemma3, gemma4, "
             "gemma4-small, gemma4-think (default: recognised from the model's own)"},
    {0}};

#define AT(member) .offset = offsetof(struct ds_cli_trust, member)
const struct ds_cli_option ds_cli_trust_options[] = {
    {.name = "require-manifest", .kind = DS_CLI_FLAG, AT(require_manifest),
     .help = "refuse files without a manifest (`dspark hash`); one that is there is verified anyway"},
    {.name = "trust", .value = "KEY", .kind = DS_CLI_STRING, AT(key),
     .help = "refuse files whose manifest is not signed by this public key: its file, or 64 hexadecimal digits"},
    {0}};
#undef AT

/* "auto", "off" or "fixed:K". */
static bool parse_spec(const char *text, void *target) {
    struct ds_cli_spec *const spec = target;
    static const char fixed[] = "fixed:";
    unsigned length = 0;
    if (strcmp(text, "auto") == 0) {
        spec->mode = DS_SPEC_AUTO;
    } else if (strcmp(text, "off") == 0) {
        spec->mode = DS_SPEC_OFF;
    } else if (strncmp(text, fixed, sizeof fixed - 1) == 0) {
        const char *const digits = text + sizeof fixed - 1;
        if (digits[0] == '\0' || strlen(digits) > 4 || digits[strspn(digits, "0123456789")] != '\0') return false;
        length = (unsigned)atoi(digits);
        if (length == 0) return false;
        spec->mode = DS_SPEC_FIXED;
    } else {
        return false;
    }
    spec->given = true;
    spec->length = length;
    return true;
}

/* Adds to a list; the library says what is wrong with an id. */
static bool parse_bias(const char *text, void *target) {
    struct ds_cli_biases *const biases = target;
    char *end;
    errno = 0;
    if (text[0] < '0' || text[0] > '9') return false;
    const long id = strtol(text, &end, 10);
    if (errno || *end != ':' || id > INT32_MAX || biases->count == DS_CLI_MOST_BIASES) return false;
    const char *const value = end + 1;
    float bias = -INFINITY;
    if (strcmp(value, "-inf") != 0) {
        bias = strtof(value, &end);
        if (end == value || *end || !(bias >= -1000 && bias <= 1000)) return false;
    }
    biases->list[biases->count++] = (ds_logit_bias){(ds_token)id, bias};
    return true;
}

#define AT(member) .offset = offsetof(struct ds_cli_draft, member)
const struct ds_cli_option ds_cli_draft_options[] = {
    {.name = "drafter", .letter = 'd', .value = "PATH", .kind = DS_CLI_STRING, AT(drafter),
     .help = "the drafter that belongs to the model, in the same forms; changes the speed, never the tokens"},
    {.name = "draft-device", .value = "NAME", .kind = DS_CLI_STRING, AT(device), .help = "where the drafter runs (default: on the first of --device)"},
    {.name = "draft-top-k", .value = "N", .kind = DS_CLI_UINT, AT(top_k), .max = INT32_MAX,
     .help = "a DSpark drafter's Markov head is applied to the N likeliest tokens of a slot alone, which makes drafts cheaper and a little worse; "
             "0: to all (default: 0)"},
    {.name = "spec", .value = "auto|off|fixed:K", .kind = DS_CLI_CUSTOM, AT(spec), .parse = parse_spec,
     .expected = "auto, off, or fixed:K with K of at least 1",
     .help = "drafts verified a round: as many as pay, none, or at most K of the block (default: auto with a drafter)"},
    {0}};
#undef AT

#define AT(member) .offset = offsetof(struct ds_cli_sampling, member)
const struct ds_cli_option ds_cli_sampling_options[] = {
    {.name = "temp", .value = "T", .kind = DS_CLI_FLOAT, AT(temperature), .low = 0, .high = 100,
     .help = "temperature; 0 always takes the likeliest token (default: 0)"},
    {.name = "top-k", .value = "K", .kind = DS_CLI_UINT, AT(top_k), .help = "only the K likeliest tokens; 0 is off (default: 0)"},
    {.name = "top-p", .value = "P", .kind = DS_CLI_FLOAT, AT(top_p), .low = 0, .high = 1,
     .help = "only the likeliest tokens that together have probability P; 0 and 1 are off (default: 1)"},
    {.name = "min-p", .value = "P", .kind = DS_CLI_FLOAT, AT(min_p), .low = 0, .high = 1,
     .help = "only tokens at least P times as likely as the likeliest; 0 is off (default: 0)"},
    {.name = "seed", .value = "N", .kind = DS_CLI_U64, AT(seed), .given = offsetof(struct ds_cli_sampling, seed_given),
     .help = "the same seed gives the same tokens, everywhere (default: a random one, which is printed)"},
    {.name = "sampling", .kind = DS_CLI_ENUM, AT(method), .choices = sampling_names,
     .help = "how drafts are accepted above temperature 0: coupled gives the very tokens that come without a drafter; rejection accepts more, "
             "and gives tokens of the same distribution (default: coupled)"},
    {.name = "repeat-penalty", .value = "R", .kind = DS_CLI_FLOAT, AT(penalties.repetition), .low = 0, .high = 100,
     .help = "divides the logits of tokens that were there by R where they are above 0, and multiplies the others; 0 and 1 are off (default: 1)"},
    {.name = "presence-penalty", .value = "X", .kind = DS_CLI_FLOAT, AT(penalties.presence), .low = -100, .high = 100,
     .help = "lowers the logits of tokens that were there by X (default: 0)"},
    {.name = "frequency-penalty", .value = "X", .kind = DS_CLI_FLOAT, AT(penalties.frequency), .low = -100, .high = 100,
     .help = "lowers the logits of tokens that were there by X for each time (default: 0)"},
    {.name = "penalty-window", .value = "N", .kind = DS_CLI_UINT, AT(penalties.window),
     .help = "penalties count the last N tokens, prompt included; 0 is all (default: 0)"},
    {.name = "logit-bias", .value = "ID:VALUE", .kind = DS_CLI_CUSTOM, AT(biases), .parse = parse_bias,
     .expected = "ID:VALUE with a token's id and -1000 to 1000 or -inf, at most 1024 times",
     .help = "adds VALUE to the logit of a token; -inf forbids it. May be given several times"},
    {0}};
#undef AT

static bool parse_stop(const char *text, void *target) {
    struct ds_cli_stops *const stops = target;
    if (text[0] == '\0' || stops->count == DS_CLI_MOST_STOPS) return false;
    stops->list[stops->count++] = text;
    return true;
}

const struct ds_cli_option ds_cli_stop_options[] = {
    {.name = "stop", .value = "TEXT", .kind = DS_CLI_CUSTOM, .parse = parse_stop, .expected = "a text that is not empty, at most 64 times",
     .help = "ends the answer where the text holds TEXT, which is cut off with all behind it. May be given several times"},
    {0}};

/* --- Ctrl-C --- */

static volatile sig_atomic_t interrupted;
static _Atomic(ds_session *) watched; /* lock-free, hence fit for a signal handler */

static void on_interrupt(int number) {
    (void)number;
    interrupted = 1;
    ds_session *const session = atomic_load(&watched);
    if (session) ds_cancel(session);
}

void ds_cli_catch_interrupt(void) {
    interrupted = 0;
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND | SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

void ds_cli_watch(ds_session *session) {
    atomic_store(&watched, session);
    if (session && interrupted) ds_cancel(session); /* Ctrl-C came between the two calls */
}

bool ds_cli_interrupted(void) {
    return interrupted != 0;
}

void ds_cli_release_interrupt(void) {
    atomic_store(&watched, NULL);
    signal(SIGINT, SIG_DFL);
}

/* --- running --- */

/* Where measurements are kept: $XDG_CACHE_HOME/dspark, else $HOME/.cache/dspark; NULL when neither is set, or is no absolute path. */
static const char *cache_folder(char *path, size_t capacity) {
    const char *const cache = getenv("XDG_CACHE_HOME"), *const home = getenv("HOME");
    int length = -1;
    if (cache && cache[0] == '/') length = snprintf(path, capacity, "%s/dspark", cache);
    else if (home && home[0] == '/') length = snprintf(path, capacity, "%s/.cache/dspark", home);
    return length > 0 && (size_t)length < capacity ? path : NULL;
}

int ds_cli_open(const struct ds_cli_command *command, const struct ds_cli_engine *options, const struct ds_cli_draft *draft,
                ds_engine **out, ds_engine_info *info) {
    if (draft && !draft->drafter && draft->spec.mode != DS_SPEC_OFF)
        return ds_cli_usage(command, "--spec other than off needs a drafter: give one with --drafter PATH");
    if (draft && !draft->drafter && draft->device)
        return ds_cli_usage(command, "--draft-device needs a drafter: give one with --drafter PATH");
    if (draft && !draft->drafter && draft->top_k)
        return ds_cli_usage(command, "--draft-top-k needs a drafter: give one with --drafter PATH");
    ds_engine_params params = ds_engine_defaults();
    params.target = options->target;
    params.drafter = draft ? draft->drafter : NULL;
    params.device = options->device;
    params.draft_device = draft ? draft->device : NULL;
    params.draft_top_k = draft ? draft->top_k : 0;
    params.modules = options->modules;
    params.threads = options->threads;
    params.context = options->context;
    params.max_rows = options->chunk;
    params.kv = (ds_kv_type)options->kv;
    params.weights = (ds_weights)options->weights;
    params.numerics = (ds_numerics)options->numerics;
    params.memory_budget = options->memory;
    params.require_manifest = options->trust.require_manifest;
    params.trust = options->trust.key;
    params.chat_template = options->chat_template;
    char cache[4096];
    params.cache = cache_folder(cache, sizeof cache);
    params.log = ds_cli_log;
    params.log_level = (ds_log_level)options->log;

    struct ds_error err;
    if (ds_engine_open(&params, out, &err) != DS_OK) return ds_cli_fail(&err);
    *info = (ds_engine_info){.size = sizeof *info};
    ds_engine_get_info(*out, info);
    return DS_CLI_GO;
}

struct loading {
    struct ds_cli_progress shown;
    uint64_t bytes;
};

static bool show_progress(void *user, uint64_t done, uint64_t total) {
    struct loading *const loading = user;
    loading->bytes = total;
    return ds_cli_progress(&loading->shown, done, total) && !ds_cli_interrupted();
}

int ds_cli_prepare(ds_engine *engine, uint64_t *bytes) {
    struct loading loading = {.shown = {.what = "loading"}};
    struct ds_error err;
    ds_cli_progress(&loading.shown, 0, 0); /* the clock starts */
    const ds_status status = ds_engine_prepare(engine, show_progress, &loading, &err);
    ds_cli_progress_end(&loading.shown);
    if (bytes) *bytes = loading.bytes;
    if (status == DS_OK) return DS_CLI_GO;
    return ds_cli_interrupted() ? DS_CLI_INTERRUPTED : ds_cli_fail(&err);
}

/* A seed small enough to survive JSON readers that keep numbers as doubles. */
static bool draw_seed(uint64_t *out) {
    FILE *const file = fopen("/dev/urandom", "rb");
    const bool drawn = file && fread(out, sizeof *out, 1, file) == 1;
    if (file) fclose(file);
    *out >>= 64 - 53;
    return drawn;
}

int ds_cli_session_params(const struct ds_cli_command *command, const struct ds_cli_draft *draft,
                          const struct ds_cli_sampling *sampling, const ds_engine_info *info, ds_session_params *out) {
    *out = ds_session_defaults();
    out->sampling.temperature = sampling->temperature;
    out->sampling.top_k = sampling->top_k;
    out->sampling.top_p = sampling->top_p;
    out->sampling.min_p = sampling->min_p;
    out->sampling.seed = sampling->seed;
    out->acceptance = (ds_acceptance)sampling->method;
    out->penalties = sampling->penalties;
    out->logit_bias = sampling->biases.list;
    out->n_logit_bias = sampling->biases.count;
    if (!sampling->seed_given && sampling->temperature > 0 && !draw_seed(&out->sampling.seed))
        return ds_cli_failf("no random seed could be drawn from /dev/urandom; give one with --seed");
    if (draft->drafter) out->spec = draft->spec.given ? draft->spec.mode : DS_SPEC_AUTO;
    if (out->spec == DS_SPEC_FIXED) {
        out->spec_length = draft->spec.length;
        if (draft->spec.length > info->block_size)
            return ds_cli_usage(command, "--spec fixed:%" PRIu32 ": the drafter proposes blocks of %" PRIu32
                                         " tokens; expected K from 1 to %" PRIu32, draft->spec.length, info->block_size, info->block_size);
    }
    return DS_CLI_GO;
}

int ds_cli_check_tokens(const struct ds_cli_command *command, const struct ds_cli_tokens *tokens, const ds_engine_info *info) {
    for (size_t i = 0; i < tokens->count; i++)
        if ((uint32_t)tokens->ids[i] >= info->vocabulary)
            return ds_cli_usage(command, "--tokens: expected ids below the vocabulary's size %" PRIu32 ", found %" PRId32
                                         " (number %zu in the list)", info->vocabulary, tokens->ids[i], i + 1);
    return DS_CLI_GO;
}
