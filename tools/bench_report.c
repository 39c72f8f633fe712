#include "bench.h"

#include "cli_json.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Of passes that leave out most of the head's work the limits say nothing. */
static double efficiency(const struct ds_bench_report *report, uint32_t w) {
    return report->plan->last_logits ? NAN : ds_bench_least(report->result, w) / report->result->pass[w];
}

/* --- the JSON object --- */

static void name(const char *text, bool first) {
    printf("%s\"%s\": ", first ? "" : ", ", text);
}

static void text_member(const char *key, const char *text, bool first) {
    name(key, first);
    ds_cli_json_text(stdout, text);
}

static void count_member(const char *key, uint64_t value) {
    name(key, false);
    printf("%" PRIu64, value);
}

static void number_member(const char *key, double value) {
    name(key, false);
    ds_cli_json_double(stdout, value);
}

static void print_rows(const struct ds_bench_report *report) {
    const struct ds_bench_result *const result = report->result;
    name("rows", false);
    putchar('[');
    for (uint32_t w = 1; w <= DS_BENCH_MOST_ROWS; w++) {
        if (isnan(result->pass[w])) continue;
        printf("%s{\"w\": %" PRIu32, w > 1 ? ", " : "", w);
        number_member("ms", result->pass[w] * 1e3);
        number_member("ratio", result->pass[w] / result->pass[1]);
        number_member("efficiency", efficiency(report, w));
        putchar('}');
    }
    putchar(']');
}

/* Least time of an op by the limits; 0 of what is no linear. */
static double least_of(const ds_dev_roofline *limits, const ds_dev_op_time *op) {
    const double reading = (double)op->weight_bytes / limits->read, products = (double)op->macs / limits->peak;
    return reading > products ? reading : products;
}

/* Linears, or what is none. */
static void print_ops(const struct ds_bench_result *result, const char *key, bool linears) {
    bool first = true;
    name(key, false);
    putchar('[');
    for (int i = 0; i < 2; i++) {
        const ds_dev_profile *const profile = &result->profiles[i];
        for (size_t j = 0; j < profile->count; j++) {
            const ds_dev_op_time *const op = &profile->ops[j];
            if (linears != (op->type != NULL)) continue;
            printf("%s{\"w\": %" PRIu32, first ? "" : ", ", result->profiled_rows[i]);
            text_member("name", op->name, false);
            if (linears) text_member("type", op->type, false);
            else count_member("calls", op->calls);
            number_member("ms", op->seconds * 1e3);
            number_member("share", op->seconds / ds_bench_seconds(profile));
            if (linears) number_member("efficiency", result->limits.isa ? least_of(&result->limits, op) / op->seconds : NAN);
            putchar('}');
            first = false;
        }
    }
    putchar(']');
}

/* Bytes of the files' matrices a second; NAN where none were moved. */
static double load_rate(const struct ds_bench_result *result) {
    return result->placed_bytes > 0 && result->placing > 0 ? (double)result->placed_bytes / result->placing : NAN;
}

void ds_bench_print_json(const struct ds_bench_report *report) {
    const struct ds_bench_result *const r = report->result;
    const ds_dev_roofline *const limits = &r->limits;
    putchar('{');
    text_member("model", report->model, true);
    text_member("type", limits->type, false);
    text_member("device", report->info->device, false);
    text_member("numerics", report->info->fast[0] ? "fast" : "exact", false);
    text_member("fast", report->info->fast, false);
    count_member("threads", report->info->threads);
    text_member("isa", limits->isa, false);
    count_member("context", report->plan->context);
    text_member("logits", report->plan->last_logits ? "last" : "all", false);
    number_member("read_gbs", limits->isa ? limits->read * 1e-9 : NAN);
    number_member("peak_gmacs", limits->isa ? limits->peak * 1e-9 : NAN);
    print_rows(report);
    number_member("draft_ms", r->draft * 1e3);
    number_member("prefill_tps", r->prefill_rate);
    number_member("decode_tps", r->decode_rate);
    number_member("spec_tps", r->spec_rate);
    number_member("tau", r->tau);
    number_member("load_s", r->load);
    number_member("load_gbs", load_rate(r) * 1e-9);
    count_member("load_peak_rss", r->load_peak);
    count_member("peak_rss", r->peak_rss);
    print_ops(r, "linears", true);
    print_ops(r, "others", false);
    puts("}");
}

/* --- for people --- */

static void print_profile(const struct ds_bench_result *result, int i) {
    const ds_dev_profile *const profile = &result->profiles[i];
    const double total = ds_bench_seconds(profile);
    if (!profile->count) return;
    printf("\nA pass of %" PRIu32 " row%s, op by op\n    %-10s %-8s %5s %10s %6s %10s\n", result->profiled_rows[i],
           result->profiled_rows[i] == 1 ? "" : "s", "op", "type", "calls", "ms", "share", "efficiency");
    for (size_t j = 0; j < profile->count; j++) {
        const ds_dev_op_time *const op = &profile->ops[j];
        printf("    %-10s %-8s %5" PRIu32 " %10.3f %4.0f %%", op->name, op->type ? op->type : "", op->calls, op->seconds * 1e3,
               100 * op->seconds / total);
        if (op->type && result->limits.isa) printf(" %10.2f", least_of(&result->limits, op) / op->seconds);
        putchar('\n');
    }
}

static void print_rates(const struct ds_bench_report *report) {
    const struct ds_bench_result *const r = report->result;
    printf("\nprefill    %8.1f tokens/s, %" PRIu32 " rows\n", r->prefill_rate, report->plan->prefill);
    if (!isnan(r->decode_rate)) printf("decode     %8.1f tokens/s\n", r->decode_rate);
    if (!isnan(r->spec_rate))
        printf("speculate  %8.1f tokens/s, %.2f tokens a round, %.2f times the speed; a draft takes %.2f ms\n", r->spec_rate, r->tau,
               r->spec_rate / r->decode_rate, r->draft * 1e3);
}

void ds_bench_print_table(const struct ds_bench_report *report) {
    const struct ds_bench_result *const r = report->result;
    const ds_dev_roofline *const limits = &r->limits;
    ds_cli_print_escaped(report->model, strlen(report->model));
    printf(": %s%s%s, device %s, %" PRIu32 " thread%s\n", report->info->architecture, limits->type ? " " : "",
           limits->type ? limits->type : "", report->info->device, report->info->threads, report->info->threads == 1 ? "" : "s");
    if (report->info->fast[0]) {
        fputs("fast numerics: ", stdout);
        ds_cli_print_escaped(report->info->fast, strlen(report->info->fast));
        putchar('\n');
    }
    printf("loaded in %.2f s", r->load);
    if (r->placed_bytes)
        printf(", %.1f MB of matrices at %.2f GB/s; peak memory then %.1f MiB, %.2f of them", (double)r->placed_bytes * 1e-6, load_rate(r) * 1e-9,
               (double)r->load_peak / (1 << 20), (double)r->load_peak / (double)r->placed_bytes);
    printf("; in the end %.1f MiB\n", (double)r->peak_rss / (1 << 20));
    if (limits->isa)
        printf("limits: %.1f GB/s, %.1f GMAC/s (%s); the linears have %.1f MB, and %.3f GMAC a row\n", limits->read * 1e-9,
               limits->peak * 1e-9, limits->isa, (double)limits->weight_bytes * 1e-6, (double)limits->macs * 1e-9);

    printf("\nA pass of w rows behind %" PRIu32 " positions%s\n%4s %10s %10s %8s %11s\n", report->plan->context,
           report->plan->last_logits ? ", logits of the last row only" : "", "w", "ms", "t(w)/t(1)", "floor",
           "efficiency");
    for (uint32_t w = 1; w <= DS_BENCH_MOST_ROWS; w++) {
        if (isnan(r->pass[w])) continue;
        printf("%4" PRIu32 " %10.3f %10.2f", w, r->pass[w] * 1e3, r->pass[w] / r->pass[1]);
        if (limits->isa && !report->plan->last_logits) printf(" %8.2f %11.2f", ds_bench_least(r, w) / ds_bench_least(r, 1), efficiency(report, w));
        putchar('\n');
    }
    print_rates(report);
    for (int i = 0; i < 2; i++) print_profile(r, i);
}
