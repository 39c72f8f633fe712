/*
 * Tokens a second of 1, 2, 4, .. sequences that generate together: plain decoding, `auto`, and fixed lengths, in turns.
 *
 *     bench_together TARGET DRAFTER [TURNS [TOKENS [TEMPERATURE]]]
 *
 * Sequences have the same prompts in every way. Printed are medians over turns, and `auto` over plain decoding; decoding alone is timed, from the
 * step in which the last prompt is through. The engine keeps what it learns from one turn to the next, as in a server.
 */
#include "dspark.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_TOGETHER = 8, WAYS = 5, MOST_TURNS = 100 };

static struct ds_error err;
static void must(ds_status status) {
    if (status == DS_OK) return;
    fprintf(stderr, "bench_together: %s\n", err.message);
    exit(2);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static const struct way {
    const char *name;
    ds_spec_mode spec;
    uint32_t length;
} ways[WAYS] = {{"plain", DS_SPEC_OFF, 0}, {"auto", DS_SPEC_AUTO, 0}, {"fixed:1", DS_SPEC_FIXED, 1}, {"fixed:3", DS_SPEC_FIXED, 3}, {"fixed:7", DS_SPEC_FIXED, 7}};

static const char *const questions[] = {"A farmer has 12 cows and 5 times as many hens. How many animals are there?",
                                        "Write a Python function that returns the mean of each column.",
                                        "Tell a short story about a lighthouse keeper.", "Tom has 5 apples and buys 7 more. How many does he have?"};

struct count {
    size_t tokens, *all;
};
static bool note(void *user, ds_token token) {
    struct count *c = user;
    (void)token;
    c->tokens++;
    ++*c->all;
    return true;
}

static ds_session *start(ds_engine *engine, const struct way *way, uint32_t index, size_t tokens, float temperature, ds_batch *batch, struct count *count) {
    ds_session_params params = ds_session_defaults();
    params.spec = way->spec;
    params.spec_length = way->length;
    params.ignore_stop = true;
    params.sampling = (ds_sampling){.temperature = temperature, .seed = index};
    const char *question = questions[index % 4];
    const ds_message message = {.role = "user", .content = question, .length = strlen(question)};
    const ds_batch_request request = {.size = sizeof request, .max_tokens = tokens, .token = note, .user = count};
    ds_session *session;
    ds_token *prompt;
    size_t n;
    must(ds_chat_tokenize(engine, &message, 1, &prompt, &n, &err));
    must(ds_session_create(engine, &params, &session, &err));
    must(ds_session_append(session, prompt, n, &err));
    must(ds_batch_add(batch, session, &request, &err));
    ds_free(prompt);
    return session;
}

/* Tokens a second behind the prompts, while all are there. */
static double measure(ds_engine *engine, const struct way *way, uint32_t concurrent, size_t tokens, float temperature) {
    ds_batch *batch;
    ds_session *sessions[MOST_TOGETHER];
    struct count counts[MOST_TOGETHER];
    size_t all = 0;
    const ds_batch_params params = ds_batch_defaults();
    must(ds_batch_create(engine, &params, &batch, &err));
    for (uint32_t i = 0; i < concurrent; i++) {
        counts[i] = (struct count){0, &all};
        sessions[i] = start(engine, way, i, tokens, temperature, batch, &counts[i]);
    }
    size_t left = concurrent, before = 0;
    double begin = 0, end = 0;
    while (left == concurrent) { /* one that has come to its end would leave the others in smaller company */
        must(ds_batch_step(batch, &left, &err));
        bool answering = true;
        for (uint32_t i = 0; i < concurrent; i++) answering &= counts[i].tokens > 0;
        if (answering && begin <= 0) {
            begin = now();
            before = all;
        }
    }
    end = now();
    const size_t made = all - before;
    ds_batch_destroy(batch);
    for (uint32_t i = 0; i < concurrent; i++) ds_session_destroy(sessions[i]);
    return (double)made / (end - begin);
}

int main(int argc, char **argv) {
    if (argc < 3 || argc > 6) {
        fprintf(stderr, "Usage: bench_together TARGET DRAFTER [TURNS [TOKENS [TEMPERATURE]]]\n");
        return 2;
    }
    const int turns = argc > 3 ? atoi(argv[3]) : 7;
    const size_t tokens = argc > 4 ? (size_t)atoi(argv[4]) : 96;
    const float temperature = argc > 5 ? (float)atof(argv[5]) : 0;
    if (turns < 1 || turns > MOST_TURNS || tokens < 8) return 2;
    ds_engine_params params = ds_engine_defaults();
    params.target = argv[1];
    params.drafter = argv[2];
    params.max_sessions = MOST_TOGETHER;
    params.context = (uint32_t)tokens + 256;
    ds_engine *engine;
    must(ds_engine_open(&params, &engine, &err));
    must(ds_engine_prepare(engine, NULL, NULL, &err));
    printf("| at once |");
    for (int w = 0; w < WAYS; w++) printf(" %s |", ways[w].name);
    printf(" auto / plain | auto / best |\n|---|---|---|---|---|---|---|---|\n");
    for (uint32_t concurrent = 1; concurrent <= MOST_TOGETHER; concurrent *= 2) {
        static double speeds[WAYS][MOST_TURNS];
        double median[WAYS], best = 0;
        for (int w = 0; w < WAYS; w++) (void)measure(engine, &ways[w], concurrent, 8, temperature); /* costs are measured, caches warm */
        for (int t = 0; t < turns; t++)
            for (int w = 0; w < WAYS; w++) speeds[(w + t) % WAYS][t] = measure(engine, &ways[(w + t) % WAYS], concurrent, tokens, temperature);
        printf("| %u |", concurrent);
        for (int w = 0; w < WAYS; w++) {
            qsort(speeds[w], (size_t)turns, sizeof(double), by_value);
            median[w] = speeds[w][turns / 2];
            if (ways[w].spec != DS_SPEC_AUTO && median[w] > best) best = median[w];
            printf(" %.1f |", median[w]);
        }
        printf(" %.3f | %.3f |\n", median[1] / median[0], median[1] / best);
    }
    ds_engine_destroy(engine);
    return 0;
}
