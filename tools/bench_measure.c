#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Prompts of three kinds: drafters accept much of the first, little of the last. Also the text that fills a context. */
static const char *const prompts[] = {
    "A farmer has 12 cows and 5 times as many hens. She sells a third of the hens. How many animals are left? Explain each step.",
    "Write a C function that reverses a singly linked list, and explain how it works.",
    "Tell a short story about a lighthouse keeper who finds a letter in a bottle.",
};
enum { PROMPT_COUNT = sizeof prompts / sizeof prompts[0] };

/* What all measurements share. */
struct bench {
    ds_engine *engine;
    const ds_engine_info *info;
    const struct ds_bench_plan *plan;
    struct ds_bench_result *out;
    struct ds_error err;
};

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts `values`. */
static double median(double *values, size_t count) {
    qsort(values, count, sizeof *values, by_value);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static double larger(double a, double b) {
    return a > b ? a : b;
}

static double rate(double count, double seconds) {
    return count > 0 && seconds > 0 ? count / seconds : NAN;
}

/* --- tokens --- */

/* The built-in text over and over; without a tokenizer, ids that differ. `tokens` has room for `count`. */
static ds_status fill_text(struct bench *b, ds_token *tokens, size_t count) {
    if (!b->info->has_tokenizer) {
        for (size_t i = 0; i < count; i++) tokens[i] = (ds_token)((i + 1) * UINT64_C(2654435761) % b->info->vocabulary);
        return DS_OK;
    }
    for (size_t have = 0, i = 0; have < count; i = (i + 1) % PROMPT_COUNT) {
        ds_token *piece;
        size_t length;
        const ds_status status = ds_tokenize(b->engine, prompts[i], strlen(prompts[i]), 0, &piece, &length, &b->err);
        if (status != DS_OK) return status;
        if (length > count - have) length = count - have;
        memcpy(tokens + have, piece, length * sizeof *tokens);
        have += length;
        ds_free(piece);
    }
    return DS_OK;
}

/* A prompt as a user would give it. *tokens is freed with ds_free. */
static ds_status make_prompt(struct bench *b, const char *text, ds_token **tokens, size_t *count) {
    if (!b->info->has_chat_template) return ds_tokenize(b->engine, text, strlen(text), DS_TOKENIZE_BOS, tokens, count, &b->err);
    const ds_message message = {.role = "user", .content = text, .length = strlen(text)};
    return ds_chat_tokenize(b->engine, &message, 1, tokens, count, &b->err);
}

/* A session with these tokens, at temperature 0; it verifies whole blocks if `speculate`. */
static ds_status start(struct bench *b, bool speculate, const ds_token *tokens, size_t count, ds_session **out) {
    ds_session_params params = ds_session_defaults();
    params.spec = speculate ? DS_SPEC_FIXED : DS_SPEC_OFF;
    params.spec_length = speculate ? b->info->block_size : 0;
    ds_status status = ds_session_create(b->engine, &params, out, &b->err);
    if (status == DS_OK) status = ds_session_append(*out, tokens, count, &b->err);
    return status;
}

/* --- prefill and decoding --- */

/* The median of three, or fewer on a machine so slow that one takes seconds. */
static ds_status measure_prefill(struct bench *b) {
    enum { TRIES = 3 };
    const double enough = 4; /* seconds */
    double seconds[TRIES], spent = 0;
    size_t tries = 0;
    ds_token *tokens = malloc(b->plan->prefill * sizeof *tokens);
    if (!tokens) return DS_ERROR_MEMORY;
    ds_status status = fill_text(b, tokens, b->plan->prefill);
    while (status == DS_OK && tries < TRIES && spent < enough) {
        ds_session *session;
        ds_stats stats = {.size = sizeof stats};
        status = start(b, false, tokens, b->plan->prefill, &session);
        if (status == DS_OK) status = ds_session_generate(session, 1, NULL, NULL, NULL, &b->err);
        if (status == DS_OK) {
            ds_session_get_stats(session, &stats);
            seconds[tries++] = stats.prefill_seconds;
            spent += stats.prefill_seconds;
        }
        ds_session_destroy(session);
    }
    free(tokens);
    if (status == DS_OK) b->out->prefill_rate = rate(b->plan->prefill, median(seconds, tries));
    return status;
}

/* Sums over prompts of what one way of decoding did. */
struct decoding {
    double tokens, seconds, rounds, committed;
};

static ds_status decode(struct bench *b, const ds_token *tokens, size_t count, bool speculate, struct decoding *sum) {
    ds_session *session;
    ds_stats stats = {.size = sizeof stats};
    ds_status status = start(b, speculate, tokens, count, &session);
    if (status == DS_OK) status = ds_session_generate(session, b->plan->tokens, NULL, NULL, NULL, &b->err);
    if (status == DS_OK) {
        ds_session_get_stats(session, &stats);
        sum->tokens += (double)stats.generated - 1; /* the first one is the prefill's */
        sum->seconds += stats.decode_seconds;
        sum->rounds += (double)stats.rounds;
        sum->committed += (double)stats.committed_in_rounds;
    }
    ds_session_destroy(session);
    return status;
}

/* Each prompt both ways, one behind the other, so that a slow minute of the machine hits both alike. */
static ds_status measure_decoding(struct bench *b) {
    struct decoding plain = {0}, spec = {0};
    ds_status status = DS_OK;
    for (size_t i = 0; i < PROMPT_COUNT && status == DS_OK; i++) {
        ds_token *tokens = NULL;
        size_t count = 0;
        ds_token unspoken[32];
        if (b->info->has_tokenizer) {
            status = make_prompt(b, prompts[i], &tokens, &count);
        } else {
            count = sizeof unspoken / sizeof unspoken[0];
            status = fill_text(b, unspoken, count);
        }
        const ds_token *prompt = tokens ? tokens : unspoken;
        if (status == DS_OK) status = decode(b, prompt, count, false, &plain);
        if (status == DS_OK && b->info->block_size) status = decode(b, prompt, count, true, &spec);
        ds_free(tokens);
    }
    b->out->decode_rate = rate(plain.tokens, plain.seconds);
    b->out->spec_rate = rate(spec.tokens, spec.seconds);
    b->out->tau = rate(spec.committed, spec.rounds);
    return status;
}

/* --- passes --- */

/* The better of what was and what is measured; a device without limits is no failure. */
static ds_status measure_limits(struct bench *b) {
    ds_dev_roofline now;
    const ds_status status = ds_dev_measure_roofline(b->engine, &now, &b->err);
    if (status == DS_ERROR_UNSUPPORTED) return DS_OK;
    if (status != DS_OK) return status;
    const ds_dev_roofline before = b->out->limits;
    b->out->limits = now;
    b->out->limits.read = larger(before.read, now.read);
    b->out->limits.peak = larger(before.peak, now.peak);
    return DS_OK;
}

/* An order that differs from repeat to repeat and is the same in every run: what grows with time does not grow with w. */
static void shuffle(uint32_t *items, uint32_t count, uint32_t repeat) {
    uint32_t state = (repeat + 1) * UINT32_C(2654435761);
    for (uint32_t i = count; i > 1; i--) {
        state = state * UINT32_C(1664525) + UINT32_C(1013904223);
        const uint32_t j = (state >> 8) % i, kept = items[i - 1];
        items[i - 1] = items[j];
        items[j] = kept;
    }
}

/* Item 0 is the draft, item w a pass of w rows. samples: [item][repeat] */
static ds_status time_item(struct bench *b, ds_session *session, uint32_t item, double *seconds) {
    if (item == 0) return ds_dev_time_draft(session, seconds, &b->err);
    return ds_dev_time_pass(session, item, b->plan->last_logits ? 1 : item, seconds, &b->err);
}

static ds_status time_passes(struct bench *b, ds_session *session, double *samples) {
    const uint32_t repeats = b->plan->repeats;
    uint32_t items[DS_BENCH_MOST_ROWS + 1], count = 0;
    if (b->info->block_size) items[count++] = 0;
    for (uint32_t w = 1; w <= DS_BENCH_MOST_ROWS; w++)
        if (b->plan->widths.wanted[w]) items[count++] = w;
    for (uint32_t i = 0; i < count; i++) { /* once without a clock: caches, and threads out of their sleep */
        double unused;
        const ds_status status = time_item(b, session, items[i], &unused);
        if (status != DS_OK) return status;
    }
    for (uint32_t r = 0; r < repeats; r++) {
        shuffle(items, count, r);
        for (uint32_t i = 0; i < count; i++) {
            const ds_status status = time_item(b, session, items[i], &samples[items[i] * repeats + r]);
            if (status != DS_OK) return status;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        const double middle = median(samples + items[i] * repeats, repeats);
        if (items[i]) b->out->pass[items[i]] = middle;
        else b->out->draft = middle;
    }
    return DS_OK;
}

double ds_bench_seconds(const ds_dev_profile *profile) {
    double sum = 0;
    for (size_t i = 0; i < profile->count; i++) sum += profile->ops[i].seconds;
    return sum;
}

/* The fastest of a few passes: shares are told, so they must be of one undisturbed pass. */
static ds_status profile_pass(struct bench *b, ds_session *session, uint32_t rows, ds_dev_profile *out) {
    const uint32_t tries = b->plan->repeats < 5 ? b->plan->repeats : 5;
    for (uint32_t i = 0; i < tries; i++) {
        ds_dev_profile one;
        const ds_status status = ds_dev_profile_pass(session, rows, &one, &b->err);
        if (status != DS_OK) return status;
        if (i == 0 || ds_bench_seconds(&one) < ds_bench_seconds(out)) *out = one;
    }
    return DS_OK;
}

static ds_status profile_passes(struct bench *b, ds_session *session) {
    uint32_t most = 1;
    for (uint32_t w = 1; w <= DS_BENCH_MOST_ROWS; w++)
        if (b->plan->widths.wanted[w]) most = w;
    ds_status status = DS_OK;
    for (int i = 0; i < (most > 1 ? 2 : 1) && status == DS_OK; i++) {
        b->out->profiled_rows[i] = i ? most : 1;
        status = profile_pass(b, session, b->out->profiled_rows[i], &b->out->profiles[i]);
    }
    return status;
}

/* In a session whose cache really holds that many positions. */
static ds_status measure_passes(struct bench *b) {
    const uint32_t context = b->plan->context;
    ds_session *session = NULL;
    ds_token *tokens = malloc(context * sizeof *tokens);
    double *samples = malloc((size_t)(DS_BENCH_MOST_ROWS + 1) * b->plan->repeats * sizeof *samples);
    ds_status status = tokens && samples ? fill_text(b, tokens, context) : DS_ERROR_MEMORY;
    if (status == DS_OK) status = start(b, b->info->block_size > 0, tokens, context, &session);
    if (status == DS_OK) status = ds_session_generate(session, 1, NULL, NULL, NULL, &b->err);
    b->out->peak_rss = ds_dev_peak_rss(); /* the measurement of the limits takes memory of its own */
    if (status == DS_OK) status = measure_limits(b);
    if (status == DS_OK) status = time_passes(b, session, samples);
    if (status == DS_OK) status = measure_limits(b);
    if (status == DS_OK) status = profile_passes(b, session);
    ds_session_destroy(session);
    free(samples);
    free(tokens);
    return status;
}

/* --- all --- */

double ds_bench_least(const struct ds_bench_result *result, uint32_t w) {
    const ds_dev_roofline *limits = &result->limits;
    return limits->isa ? larger((double)limits->weight_bytes / limits->read, w * (double)limits->macs / limits->peak) : NAN;
}

int ds_bench_measure(ds_engine *engine, const ds_engine_info *info, const struct ds_bench_plan *plan, struct ds_bench_result *out) {
    struct bench b = {.engine = engine, .info = info, .plan = plan, .out = out,
                      .err = {.status = DS_ERROR_MEMORY, .message = "out of memory"}};
    static ds_status (*const steps[])(struct bench *) = {measure_prefill, measure_decoding, measure_passes};
    enum { STEPS = sizeof steps / sizeof steps[0] };
    struct ds_cli_progress progress = {.what = "measuring"};
    for (uint32_t w = 0; w <= DS_BENCH_MOST_ROWS; w++) out->pass[w] = NAN;
    out->draft = NAN;
    ds_status status = DS_OK;
    for (int i = 0; i < STEPS && status == DS_OK; i++) {
        ds_cli_progress(&progress, (uint64_t)i, STEPS);
        status = steps[i](&b);
    }
    ds_cli_progress_end(&progress);
    return status == DS_OK ? DS_CLI_GO : ds_cli_fail(&b.err);
}
