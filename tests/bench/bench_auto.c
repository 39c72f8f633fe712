/*
 * Does `auto` ever lose? For each cell of {text} x {temperature} x {context}: plain decoding by an engine without a drafter, `auto`, and
 * fixed lengths, in turns and in an order shuffled anew each turn, so that a slow moment of the machine hits all alike. Printed are
 * ratios of medians with their 95 % intervals (bootstrap over turns) as a table in Markdown. A cell fails where the whole
 * interval lies below its bound: 0.98 of plain decoding, 0.97 of the best fixed length.
 *
 * What is timed is decoding, the prefill's token not counted. The drafter's engine keeps what it learns from one answer to the next,
 * as in a server. Both engines are in memory at once.
 */
#include "dspark.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_LIST = 8, MOST_WAYS = 2 + MOST_LIST, MOST_TURNS = 1000, LEAST_TURNS = 4, RESAMPLES = 2000 };

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

/* The same sequence every run. */
static uint64_t state = 1;
static uint32_t draw(uint32_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(((state >> 33) * below) >> 31);
}

/* --- options --- */

struct list {
    uint32_t n;
    double value[MOST_LIST];
};

static struct {
    const char *target, *drafter, *device, *cache;
    uint32_t threads, tokens;
    double seconds;
    struct list temperatures, contexts, fixed;
    bool text[3];
} options = {.tokens = 96, .seconds = 480, .temperatures = {3, {0, 0.6, 1}}, .contexts = {2, {128, 2048}}, .text = {true, true, true}};

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

/* The question behind so much text that its answer starts at about `context` positions. */
static ds_token *make_prompt(ds_engine *engine, const char *question, uint32_t context, size_t *count) {
    char *text = calloc(1, strlen(question) + (size_t)context * sizeof filler + 1);
    ds_token *tokens = NULL;
    if (!text) quit("memory is out");
    strcpy(text, question);
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
    ds_session *session;
    char name[16];
    size_t n;
    double ms[MOST_TURNS]; /* a token */
    double tau, drafted;   /* sums, of the last answer alone: tokens a round, drafts verified a round */
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
    must(ds_engine_open(&params, &engine, &err));
    must(ds_engine_prepare(engine, NULL, NULL, &err));
    return engine;
}

static void answer(struct way *way, size_t prompt, bool counts) {
    ds_stats stats = {.size = sizeof stats};
    must(ds_session_rewind(way->session, prompt, &err));
    ds_session_reset_stats(way->session);
    must(ds_session_generate(way->session, options.tokens, NULL, NULL, NULL, &err));
    ds_session_get_stats(way->session, &stats);
    way->tau = (double)stats.committed_in_rounds / (double)(stats.rounds ? stats.rounds : 1);
    way->drafted = (double)stats.verified / (double)(stats.rounds ? stats.rounds : 1);
    if (counts && way->n < MOST_TURNS) way->ms[way->n++] = 1e3 * stats.decode_seconds / (double)(stats.generated - 1);
}

static void start(struct way *way, ds_engine *engine, ds_spec_mode spec, uint32_t length, double temperature, const ds_token *prompt, size_t count) {
    ds_session_params params = ds_session_defaults();
    params.spec = spec;
    params.spec_length = length;
    params.ignore_stop = true;
    params.sampling = (ds_sampling){.temperature = (float)temperature, .seed = 1};
    way->n = 0;
    must(ds_session_create(engine, &params, &way->session, &err));
    must(ds_session_append(way->session, prompt, count, &err));
}

/* --- statistics --- */

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static double median(const double *values, size_t n) {
    double sorted[MOST_TURNS];
    memcpy(sorted, values, n * sizeof *values);
    qsort(sorted, n, sizeof *sorted, by_value);
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

struct ratio {
    double value, low, high;
};
/* Speed of b over that of a: the ratio of medians, and its interval over turns drawn anew, pairs kept. */
static struct ratio speed_over(const struct way *b, const struct way *a) {
    static double ratios[RESAMPLES], x[MOST_TURNS], y[MOST_TURNS];
    const size_t n = a->n < b->n ? a->n : b->n;
    for (size_t i = 0; i < RESAMPLES; i++) {
        for (size_t j = 0; j < n; j++) {
            const uint32_t k = draw((uint32_t)n);
            x[j] = a->ms[k];
            y[j] = b->ms[k];
        }
        ratios[i] = median(x, n) / median(y, n);
    }
    qsort(ratios, RESAMPLES, sizeof *ratios, by_value);
    return (struct ratio){median(a->ms, n) / median(b->ms, n), ratios[RESAMPLES / 40], ratios[RESAMPLES - RESAMPLES / 40 - 1]};
}

/* --- a cell --- */

static void take_turns(struct way *ways, size_t n, size_t prompt, double seconds) {
    for (size_t i = 0; i < n; i++) answer(&ways[i], prompt, false); /* the prompt is taken in, and costs are known */
    const double end = now() + seconds;
    for (size_t turn = 0; turn < MOST_TURNS && (turn < LEAST_TURNS || now() < end); turn++) {
        size_t order[MOST_WAYS];
        for (size_t i = 0; i < n; i++) order[i] = i;
        for (size_t i = n; i > 1; i--) {
            const size_t j = draw((uint32_t)i), other = order[j];
            order[j] = order[i - 1];
            order[i - 1] = other;
        }
        for (size_t i = 0; i < n; i++) answer(&ways[order[i]], prompt, true);
    }
}

/* The fixed length with the least median. */
static size_t best_fixed(const struct way *ways, size_t n) {
    size_t best = 2;
    for (size_t i = 3; i < n; i++)
        if (median(ways[i].ms, ways[i].n) < median(ways[best].ms, ways[best].n)) best = i;
    return best;
}

static bool run_cell(ds_engine *plain, ds_engine *spec, size_t text, double temperature, uint32_t context, double seconds) {
    static struct way ways[MOST_WAYS];
    size_t n = 2, count;
    ds_token *prompt = make_prompt(plain, texts[text].question, context, &count);
    start(&ways[0], plain, DS_SPEC_OFF, 0, temperature, prompt, count);
    start(&ways[1], spec, DS_SPEC_AUTO, 0, temperature, prompt, count);
    for (uint32_t i = 0; i < options.fixed.n; i++, n++) {
        snprintf(ways[n].name, sizeof ways[n].name, "%u", (unsigned)options.fixed.value[i]);
        start(&ways[n], spec, DS_SPEC_FIXED, (uint32_t)options.fixed.value[i], temperature, prompt, count);
    }
    take_turns(ways, n, count, seconds);
    const size_t best = best_fixed(ways, n);
    const struct ratio over_plain = speed_over(&ways[1], &ways[0]), over_fixed = speed_over(&ways[1], &ways[best]);
    const bool good = over_plain.high >= 0.98 && over_fixed.high >= 0.97;
    printf("| %s | %g | %zu | %.1f | %.1f | %.2f (%.2f to %.2f) | %s: %.2f (%.2f to %.2f) | %.2f | %zu | %s |\n", texts[text].name, temperature, count,
           1e3 / median(ways[0].ms, ways[0].n), 1e3 / median(ways[1].ms, ways[1].n), over_plain.value, over_plain.low, over_plain.high, ways[best].name,
           over_fixed.value, over_fixed.low, over_fixed.high, ways[1].tau, ways[1].n, good ? "" : "below");
    fflush(stdout);
    for (size_t i = 0; i < n; i++) ds_session_destroy(ways[i].session);
    ds_free(prompt);
    return good;
}

static int run(void) {
    ds_engine *const plain = open_engine(NULL, 1), *const spec = open_engine(options.drafter, 2 + MOST_LIST);
    ds_engine_info info = {.size = sizeof info};
    ds_engine_get_info(spec, &info);
    if (!options.fixed.n) options.fixed = (struct list){3, {1, (info.block_size + 1) / 2, info.block_size}};
    uint32_t n_texts = 0, bad = 0, cells;
    for (size_t t = 0; t < 3; t++) n_texts += options.text[t];
    cells = n_texts * options.temperatures.n * options.contexts.n;
    printf("%s, %s, %u threads; answers of %u tokens; ratios of medians with 95 %% intervals\n\n", info.device, info.drafter, info.threads, options.tokens);
    printf("| text | T | context | plain tokens/s | auto | auto / plain | auto / best fixed K | tokens a round | turns | |\n|---|---|---|---|---|---|---|---|---|---|\n");
    const double end = now() + options.seconds;
    for (uint32_t c = 0; c < options.contexts.n; c++)
        for (size_t t = 0; t < 3; t++)
            for (uint32_t k = 0; options.text[t] && k < options.temperatures.n; k++, cells--)
                bad += !run_cell(plain, spec, t, options.temperatures.value[k], (uint32_t)options.contexts.value[c], (end - now()) / cells);
    printf("\n%u cells below their bound\n", bad);
    ds_engine_destroy(spec);
    ds_engine_destroy(plain);
    return bad ? 1 : 0;
}

static const char usage[] =
    "usage: bench_auto -m TARGET -d DRAFTER [--device D] [--threads N] [--cache FOLDER] [--seconds S] [-n TOKENS]\n"
    "                  [--texts maths,code,chat] [--temps 0,0.6,1] [--contexts 128,2048] [--fixed K,K,..]\n";

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i += 2) {
        const char *const name = argv[i], *const value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!value) quit("%s needs a value\n%s", name, usage);
        if (!strcmp(name, "-m")) options.target = value;
        else if (!strcmp(name, "-d")) options.drafter = value;
        else if (!strcmp(name, "--device")) options.device = value;
        else if (!strcmp(name, "--cache")) options.cache = value;
        else if (!strcmp(name, "--threads")) options.threads = (uint32_t)strtoul(value, NULL, 10);
        else if (!strcmp(name, "-n")) options.tokens = (uint32_t)strtoul(value, NULL, 10);
        else if (!strcmp(name, "--seconds")) options.seconds = strtod(value, NULL);
        else if (!strcmp(name, "--temps")) options.temperatures = read_list(name, value);
        else if (!strcmp(name, "--contexts")) options.contexts = read_list(name, value);
        else if (!strcmp(name, "--fixed")) options.fixed = read_list(name, value);
        else if (!strcmp(name, "--texts"))
            for (size_t t = 0; t < 3; t++) options.text[t] = strstr(value, texts[t].name) != NULL;
        else quit("%s is unknown\n%s", name, usage);
    }
    if (!options.target || !options.drafter || options.tokens < 2) quit("a target, a drafter and at least 2 tokens are needed\n%s", usage);
    return run();
}
