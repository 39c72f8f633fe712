/*
 * Does `auto` ever lose? For each cell of {text} x {temperature} x {context} x {sequences at once}: plain decoding by an engine without a
 * drafter, `auto`, and fixed lengths, in turns and in an order shuffled anew each turn, so that a slow moment of the machine hits all alike.
 * Printed are ratios of medians with their 95 % intervals (bootstrap over turns) as a table in Markdown. A cell fails where the whole interval
 * lies below its bound: 0.98 of plain decoding, 0.97 of the best fixed length.
 *
 * A fixed length of 0 is the drafter's engine with speculation off: where it differs from plain decoding, it is not `auto` that differs.
 *
 * What is timed is decoding, of all sequences together, from the step in which the last one has its first token to that in which the first one
 * is through. The drafter's engine keeps what it learns from one answer to the next, as in a server. Both engines are in memory at once.
 */
#include "dspark.h"

#include "intervals.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_LIST = 8, MOST_WAYS = 2 + MOST_LIST, LEAST_TURNS = 4, MOST_TOGETHER = 16 };

static _Noreturn void quit(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "bench_auto: ");
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(2);
}
static struct ds_error err;
static void must(ds_status status) {
    if (status != DS_OK) quit("%s", err.message);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- options --- */

struct list {
    uint32_t n;
    double value[MOST_LIST];
};

static struct {
    const char *target, *drafter, *device, *cache;
    uint32_t threads, tokens;
    bool shared;
    double seconds;
    struct list temperatures, contexts, fixed, at_once;
    bool text[3];
} options = {.tokens = 96, .seconds = 480, .temperatures = {3, {0, 0.6, 1}}, .contexts = {2, {128, 2048}}, .at_once = {4, {1, 2, 4, 8}}, .text = {true, true, true}};

static struct list read_list(const char *name, const char *text) {
    struct list list = {.n = 0};
    char *end;
    for (const char *at = text; list.n < MOST_LIST; at = end + 1) {
        list.value[list.n++] = strtod(at, &end);
        if (end == at || (*end && *end != ',')) quit("%s: '%s' is no list of numbers", name, text);
        if (!*end) return list;
    }
    quit("%s: more than %d numbers", name, MOST_LIST);
}

/* --- texts --- */

static const struct {
    const char *name, *question;
} texts[3] = {
    {"maths", "A farmer has 12 cows and 5 times as many hens. She sells a third of the hens. How many animals are left? Explain each step."},
    {"code", "Write a Python function that reads a CSV file and returns the mean of each column, and explain how it works."},
    {"chat", "Tell a short story about a lighthouse keeper who finds a letter in a bottle."},
};
static const char filler[] = "The harbour lies an hour north of the town. In winter the road is closed and everything comes by boat. ";

/* The question, another one for each sequence, behind so much text that its answer starts at about `context` positions. */
static ds_token *make_prompt(ds_engine *engine, const char *question, uint32_t which, uint32_t context, size_t *count) {
    enum { MOST_NUMBER = 32 };
    char *text = calloc(1, strlen(question) + (size_t)context * sizeof filler + MOST_NUMBER);
    ds_token *tokens = NULL;
    if (!text) quit("memory is out");
    sprintf(text, which ? "%s This is question %u." : "%s", question, which);
    for (size_t last = 0;;) {
        const ds_message message = {.role = "user", .content = text, .length = strlen(text)};
        must(ds_chat_tokenize(engine, &message, 1, &tokens, count, &err));
        if (*count >= context || *count == last) break;
        last = *count;
        ds_free(tokens);
        memmove(text + sizeof filler - 1, text, strlen(text) + 1);
        memcpy(text, filler, sizeof filler - 1);
    }
    free(text);
    return tokens;
}

/* --- ways to decode --- */

struct way {
    ds_engine *engine;
    ds_session *sessions[MOST_TOGETHER];
    size_t prompt[MOST_TOGETHER]; /* tokens of each one's */
    uint32_t n_sessions;
    char name[16];
    size_t n;
    double ms[MOST_TURNS]; /* a token */
    double tau;            /* of the last answers: tokens a round */
};

static ds_engine *open_engine(const char *drafter, uint32_t sessions) {
    ds_engine *engine;
    ds_engine_params params = ds_engine_defaults();
    params.target = options.target;
    params.drafter = drafter;
    params.device = options.device;
    params.threads = options.threads;
    params.cache = drafter ? options.cache : NULL;
    params.max_sessions = sessions;
    params.context = 0;
    for (uint32_t i = 0; i < options.contexts.n; i++) {
        const uint32_t need = (uint32_t)options.contexts.value[i] + 2 * options.tokens + 64;
        if (need > params.context) params.context = need;
    }
    if (options.shared) params.prefix_positions = 2 * (uint64_t)params.context;
    must(ds_engine_open(&params, &engine, &err));
    must(ds_engine_prepare(engine, NULL, NULL, &err));
    return engine;
}

static bool count_token(void *user, ds_token token) {
    (void)token;
    ++*(size_t *)user;
    return true;
}

/* One step more; how many tokens there are, and whether each sequence has one. */
static bool step(ds_batch *batch, const size_t *counts, uint32_t n, size_t *left, size_t *all) {
    bool answering = true;
    must(ds_batch_step(batch, left, &err));
    *all = 0;
    for (uint32_t i = 0; i < n; i++) {
        *all += counts[i];
        answering &= counts[i] > 0;
    }
    return answering;
}

/* When the first sequence is through the others would be in smaller company: they are taken out. */
static void answer(struct way *way, bool counts) {
    size_t made[MOST_TOGETHER] = {0}, left = way->n_sessions, before = 0, all = 0;
    ds_batch *batch;
    const ds_batch_params params = ds_batch_defaults();
    must(ds_batch_create(way->engine, &params, &batch, &err));
    for (uint32_t i = 0; i < way->n_sessions; i++) {
        const ds_batch_request request = {.size = sizeof request, .max_tokens = options.tokens, .token = count_token, .user = &made[i]};
        must(ds_session_rewind(way->sessions[i], way->prompt[i], &err));
        ds_session_reset_stats(way->sessions[i]);
        must(ds_batch_add(batch, way->sessions[i], &request, &err));
    }
    double begin = 0;
    while (left == way->n_sessions) {
        if (!step(batch, made, way->n_sessions, &left, &all) || begin > 0) continue;
        begin = now();
        before = all;
    }
    const double seconds = now() - begin;
    ds_batch_destroy(batch);
    double tokens = 0, rounds = 0;
    for (uint32_t i = 0; i < way->n_sessions; i++) {
        ds_stats stats = {.size = sizeof stats};
        ds_session_get_stats(way->sessions[i], &stats);
        tokens += (double)stats.committed_in_rounds;
        rounds += (double)stats.rounds;
    }
    way->tau = rounds > 0 ? tokens / rounds : 0;
    if (counts && way->n < MOST_TURNS) way->ms[way->n++] = 1e3 * seconds / (double)(all - before);
}

struct cell {
    size_t text;
    double temperature;
    uint32_t context, at_once;
};

static void start(struct way *way, ds_engine *engine, ds_spec_mode spec, uint32_t length, const struct cell *cell) {
    ds_session_params params = ds_session_defaults();
    params.spec = spec;
    params.spec_length = length;
    params.ignore_stop = true;
    way->engine = engine;
    way->n = 0;
    way->n_sessions = cell->at_once;
    snprintf(way->name, sizeof way->name, "%u", length);
    for (uint32_t i = 0; i < cell->at_once; i++) {
        params.sampling = (ds_sampling){.temperature = (float)cell->temperature, .seed = 1 + i};
        ds_token *prompt = make_prompt(engine, texts[cell->text].question, i, cell->context, &way->prompt[i]);
        must(ds_session_create(engine, &params, &way->sessions[i], &err));
        must(ds_session_append(way->sessions[i], prompt, way->prompt[i], &err));
        ds_free(prompt);
    }
}

static void finish(struct way *way) {
    for (uint32_t i = 0; i < way->n_sessions; i++) ds_session_destroy(way->sessions[i]);
}

/* --- a cell --- */

static void take_turns(struct way *ways, size_t n, double seconds) {
    for (size_t i = 0; i < n; i++) answer(&ways[i], false); /* prompts are taken in, and costs are known */
    const double end = now() + seconds;
    for (size_t turn = 0; turn < MOST_TURNS && (turn < LEAST_TURNS || now() < end); turn++) {
        size_t order[MOST_WAYS];
        shuffle(order, n);
        for (size_t i = 0; i < n; i++) answer(&ways[order[i]], true);
    }
}

/* The fixed length with the least median. */
static const struct way *best_fixed(const struct way *ways, size_t n) {
    size_t best = 2;
    for (size_t i = 3; i < n; i++)
        if (median(ways[i].ms, ways[i].n) < median(ways[best].ms, ways[best].n)) best = i;
    return &ways[best];
}

static bool print_cell(const struct cell *cell, const struct way *ways, size_t n) {
    const struct way *const plain = &ways[0], *const automatic = &ways[1], *const best = best_fixed(ways, n);
    const struct ratio over_plain = ratio_of(plain->ms, automatic->ms, plain->n), over_fixed = ratio_of(best->ms, automatic->ms, plain->n);
    const bool good = over_plain.high >= 0.98 && over_fixed.high >= 0.97;
    printf("| %s | %g | %zu | %u | %.1f | %.1f | %.3f (%.3f to %.3f) | %s: %.2f (%.2f to %.2f) | %.2f | %zu | %s |\n", texts[cell->text].name,
           cell->temperature, plain->prompt[0], cell->at_once, 1e3 / median(plain->ms, plain->n), 1e3 / median(automatic->ms, automatic->n), over_plain.value,
           over_plain.low, over_plain.high, best->name, over_fixed.value, over_fixed.low, over_fixed.high, automatic->tau, plain->n, good ? "" : "below");
    fflush(stdout);
    return good;
}

static bool run_cell(ds_engine *plain, ds_engine *spec, const struct cell *cell, double seconds) {
    static struct way ways[MOST_WAYS];
    size_t n = 2;
    start(&ways[0], plain, DS_SPEC_OFF, 0, cell);
    start(&ways[1], spec, DS_SPEC_AUTO, 0, cell);
    for (uint32_t i = 0; i < options.fixed.n; i++, n++) start(&ways[n], spec, options.fixed.value[i] > 0 ? DS_SPEC_FIXED : DS_SPEC_OFF, (uint32_t)options.fixed.value[i], cell);
    take_turns(ways, n, seconds);
    const bool good = print_cell(cell, ways, n);
    for (size_t i = 0; i < n; i++) finish(&ways[i]);
    return good;
}

/* --- all cells --- */

static uint32_t list_cells(struct cell *cells) {
    uint32_t n = 0;
    for (uint32_t c = 0; c < options.contexts.n; c++)
        for (uint32_t s = 0; s < options.at_once.n; s++)
            for (size_t t = 0; t < 3; t++)
                for (uint32_t k = 0; options.text[t] && k < options.temperatures.n; k++)
                    cells[n++] = (struct cell){t, options.temperatures.value[k], (uint32_t)options.contexts.value[c], (uint32_t)options.at_once.value[s]};
    return n;
}

static uint32_t most_at_once(void) {
    uint32_t most = 1;
    for (uint32_t i = 0; i < options.at_once.n; i++) {
        const double n = options.at_once.value[i];
        if (!(n >= 1 && n <= MOST_TOGETHER)) quit("--at-once: %g sequences; expected 1 to %d", n, MOST_TOGETHER);
        if ((uint32_t)n > most) most = (uint32_t)n;
    }
    return most;
}

static int run(void) {
    static struct cell cells[3 * MOST_LIST * MOST_LIST * MOST_LIST];
    const uint32_t together = most_at_once(), n = list_cells(cells), n_fixed = options.fixed.n ? options.fixed.n : 3;
    ds_engine *const plain = open_engine(NULL, together), *const spec = open_engine(options.drafter, together * (1 + n_fixed));
    ds_engine_info info = {.size = sizeof info};
    ds_engine_get_info(spec, &info);
    if (!options.fixed.n) options.fixed = (struct list){3, {1, (info.block_size + 1) / 2, info.block_size}};
    printf("%s, %s, %u threads; answers of %u tokens; ratios of medians with 95 %% intervals\n\n", info.device, info.drafter, info.threads, options.tokens);
    printf("| text | T | context | at once | plain tokens/s | auto | auto / plain | auto / best fixed K | tokens a round | turns | |\n"
           "|---|---|---|---|---|---|---|---|---|---|---|\n");
    const double end = now() + options.seconds;
    uint32_t bad = 0;
    for (uint32_t i = 0; i < n; i++) bad += !run_cell(plain, spec, &cells[i], (end - now()) / (n - i));
    printf("\n%u of %u cells below their bound\n", bad, n);
    ds_engine_destroy(spec);
    ds_engine_destroy(plain);
    return bad ? 1 : 0;
}

static const char usage[] =
    "usage: bench_auto -m TARGET -d DRAFTER [--device D] [--threads N] [--cache FOLDER] [--seconds S] [-n TOKENS]\n"
    "                  [--texts maths,code,chat] [--temps 0,0.6,1] [--contexts 128,2048] [--at-once 1,2,4,8] [--fixed K,K,..]\n"
    "                  [--shared yes]: what prompts begin with alike is run once; for a large pair behind long contexts\n";

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i += 2) {
        const char *const name = argv[i], *const value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!value) quit("%s needs a value\n%s", name, usage);
        if (!strcmp(name, "-m")) options.target = value;
        else if (!strcmp(name, "-d")) options.drafter = value;
        else if (!strcmp(name, "--device")) options.device = value;
        else if (!strcmp(name, "--cache")) options.cache = value;
        else if (!strcmp(name, "--threads")) options.threads = (uint32_t)strtoul(value, NULL, 10);
        else if (!strcmp(name, "--shared")) options.shared = !strcmp(value, "yes");
        else if (!strcmp(name, "-n")) options.tokens = (uint32_t)strtoul(value, NULL, 10);
        else if (!strcmp(name, "--seconds")) options.seconds = strtod(value, NULL);
        else if (!strcmp(name, "--temps")) options.temperatures = read_list(name, value);
        else if (!strcmp(name, "--contexts")) options.contexts = read_list(name, value);
        else if (!strcmp(name, "--at-once")) options.at_once = read_list(name, value);
        else if (!strcmp(name, "--fixed")) options.fixed = read_list(name, value);
        else if (!strcmp(name, "--texts"))
            for (size_t t = 0; t < 3; t++) options.text[t] = strstr(value, texts[t].name) != NULL;
        else quit("%s is unknown\n%s", name, usage);
    }
    if (!options.target || !options.drafter || options.tokens < 2) quit("a target, a drafter and at least 2 tokens are needed\n%s", usage);
    return run();
}
