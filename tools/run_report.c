#include "run_report.h"

#include "cli_json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *stop_name(ds_stop stop) {
    switch (stop) {
    case DS_STOP_EOS: return "eos";
    case DS_STOP_LENGTH: return "length";
    case DS_STOP_NONE:
    case DS_STOP_STRING:
    case DS_STOP_CALLBACK: break;
    }
    return "stop";
}

/* Mean tokens committed a round; 0 when there was none. */
static double tau(const ds_stats *stats) {
    return stats->rounds ? (double)stats->committed_in_rounds / (double)stats->rounds : 0.0;
}

/* --- the JSON object --- */

static void member(const char *name, bool first) {
    printf("%s\"%s\": ", first ? "" : ", ", name);
}

static void count_member(const char *name, uint64_t value) {
    member(name, false);
    printf("%" PRIu64, value);
}

static void text_member(const char *name, const char *text) {
    member(name, false);
    ds_cli_json_text(stdout, text);
}

static void number_member(const char *name, double value, bool first) {
    member(name, first);
    ds_cli_json_double(stdout, value);
}

void ds_run_logprobs_add(void *user, const ds_token_logprob *chosen, const ds_token_logprob *top, size_t n_top) {
    struct ds_run_logprobs *const all = user;
    if (all->count == all->capacity) {
        const size_t capacity = all->capacity * 2 + 64;
        struct ds_run_logprob *const grown = realloc(all->entries, capacity * sizeof *grown);
        if (!grown) all->out_of_memory = true;
        if (!grown) return;
        all->entries = grown;
        all->capacity = capacity;
    }
    struct ds_run_logprob *const entry = &all->entries[all->count++];
    entry->chosen = *chosen;
    all->n_top = n_top;
    for (size_t i = 0; i < n_top; i++) entry->top[i] = top[i];
}

static void logprob(const ds_token_logprob *p) {
    printf("{\"token\": %" PRId32 ", \"logprob\": ", p->token);
    ds_cli_json_float(stdout, p->logprob);
}

static void logprobs_member(const struct ds_run_logprobs *all) {
    member("logprobs", false);
    putchar('[');
    for (size_t i = 0; i < all->count; i++) {
        if (i) fputs(", ", stdout);
        logprob(&all->entries[i].chosen);
        fputs(", \"top\": [", stdout);
        for (size_t k = 0; k < all->n_top && all->entries[i].top[k].token >= 0; k++) {
            if (k) fputs(", ", stdout);
            logprob(&all->entries[i].top[k]);
            putchar('}');
        }
        fputs("]}", stdout);
    }
    putchar(']');
}

void ds_run_report_json(const struct ds_run_report *report) {
    const ds_stats *const stats = &report->stats;
    putchar('{');
    member("text", true);
    ds_cli_json_string(stdout, report->answer->text, report->answer->length);
    member("tokens", false);
    ds_cli_json_tokens(stdout, report->answer->tokens, report->answer->count);
    if (report->logprobs) logprobs_member(report->logprobs);
    count_member("prompt_tokens", report->prompt_tokens);
    text_member("stop", stop_name(report->stop));
    count_member("seed", report->seed);
    count_member("rounds", stats->rounds);
    count_member("drafted", stats->drafted);
    count_member("verified", stats->verified);
    count_member("accepted", stats->accepted);
    number_member("tau", tau(stats), false);
    member("seconds", false);
    putchar('{');
    number_member("load", report->load_seconds, true);
    number_member("prefill", stats->prefill_seconds, false);
    number_member("decode", stats->decode_seconds, false);
    number_member("draft", stats->draft_seconds, false);
    number_member("verify", stats->verify_seconds, false);
    putchar('}');
    text_member("device", report->info->device);
    text_member("draft_device", report->info->draft_device);
    puts("}");
}

/* --- for people --- */

static double per_second(uint64_t count, double seconds) {
    return seconds > 0 ? (double)count / seconds : 0.0;
}

static double mebibytes(uint64_t bytes) {
    return (double)bytes / (1024.0 * 1024.0);
}

void ds_run_report_stats(const struct ds_run_report *report) {
    const ds_stats *const stats = &report->stats;
    const ds_engine_info *const info = report->info;
    ds_cli_note("device       %s, %" PRIu32 " threads%s%s", info->device, info->threads, info->draft_device ? "; drafter on " : "",
                info->draft_device ? info->draft_device : "");
    ds_cli_note("memory       %.1f MiB weights, %.1f MiB cache, %.1f MiB scratch", mebibytes(info->weight_bytes),
                mebibytes(info->kv_bytes), mebibytes(info->scratch_bytes));
    ds_cli_note("loaded       in %.2f s", report->load_seconds);
    ds_cli_note("prompt       %" PRIu64 " tokens in %.3f s: %.1f tokens/s", stats->prompt_tokens, stats->prefill_seconds,
                per_second(stats->prompt_tokens, stats->prefill_seconds));
    ds_cli_note("answer       %zu tokens in %.3f s: %.1f tokens/s; ended by %s", report->answer->count, stats->decode_seconds,
                per_second(report->answer->count, stats->decode_seconds), stop_name(report->stop));
    if (!info->draft_device || !stats->rounds) return; /* nothing drafted is told, too: it is what auto decided */
    ds_cli_note("speculation  %.2f tokens a round: %" PRIu64 " rounds, %" PRIu64 " drafted, %" PRIu64 " verified, %" PRIu64 " accepted",
                tau(stats), stats->rounds, stats->drafted, stats->verified, stats->accepted);
    ds_cli_note("             %.3f s drafting, %.3f s verifying", stats->draft_seconds, stats->verify_seconds);
}

/* --- the log of rounds --- */

int ds_run_trace_open(struct ds_run_trace *trace, const char *path) {
    if (!path) return DS_CLI_GO;
    trace->path = path;
    trace->file = fopen(path, "w");
    if (!trace->file) return ds_cli_failf("--trace: cannot write %s: %s", path, strerror(errno));
    setvbuf(trace->file, NULL, _IOLBF, 0); /* a log: each round is there when it has happened */
    return DS_CLI_GO;
}

void ds_run_trace_round(void *user, const ds_round *round) {
    struct ds_run_trace *const trace = user;
    FILE *const out = trace->file;
    if (trace->error) return; /* ds_run_trace_close tells */
    errno = 0;
    fprintf(out, "{\"pos\": %zu, \"anchor\": %" PRId32 ", \"draft\": ", round->position, round->anchor);
    ds_cli_json_tokens(out, round->draft, round->n_draft);
    fputs(", \"confidence\": [", out);
    for (size_t i = 0; round->confidence && i < round->n_draft; i++) {
        if (i) fputc(',', out);
        ds_cli_json_float(out, round->confidence[i]);
    }
    fprintf(out, "], \"verified\": %zu, \"accepted\": %zu, \"next\": %" PRId32 "}\n", round->verified, round->accepted, round->next);
    if (ferror(out)) trace->error = errno ? errno : EIO;
}

bool ds_run_trace_close(struct ds_run_trace *trace) {
    if (!trace->file) return true;
    errno = 0;
    if (fclose(trace->file) != 0 && !trace->error) trace->error = errno ? errno : EIO;
    trace->file = NULL;
    if (!trace->error) return true;
    ds_cli_failf("--trace: %s is incomplete: %s", trace->path, strerror(trace->error));
    return false;
}
