#include "calibrate_shortlist.h"
#include "cli.h"
#include "cli_engine.h"
#include "cli_json.h"
#include "dspark_dev.h"
#include "prompt_sets.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SETS = 32 };

struct calibrate_options {
    struct ds_cli_engine engine;
    struct ds_cli_draft draft;
    struct ds_cli_sampling sampling;
    uint32_t tokens, limit;
    bool json, dry;
    const char *svg, *shortlist;
};

#define AT(member) .offset = offsetof(struct calibrate_options, member)
static const struct ds_cli_option calibrate_options[] = {
    {.letter = 'n', .name = "max-tokens", .value = "N", .kind = DS_CLI_UINT, AT(tokens), .min = 8, .max = 65536,
     .help = "tokens an answer has at most (default: 128)"},
    {.name = "limit", .value = "N", .kind = DS_CLI_UINT, AT(limit), .min = 2, .max = 1000000,
     .help = "prompts taken from each file at most, spread over it (default: 40)"},
    {.name = "dry-run", .kind = DS_CLI_FLAG, AT(dry), .help = "fit and report, but write no calibration"},
    {.name = "json", .kind = DS_CLI_FLAG, AT(json), .help = "one JSON object instead of the table"},
    {.name = "svg", .value = "FILE", .kind = DS_CLI_STRING, AT(svg), .help = "a reliability diagram, before and after"},
    {.name = "shortlist", .value = "N", .kind = DS_CLI_STRING, AT(shortlist),
     .help = "also write a list of the N tokens said most often: only they are drafted; `auto`: as many as are fastest here"},
    {0}};
#undef AT
static const struct ds_cli_group calibrate_groups[] = {
    {.title = "Model", .options = ds_cli_engine_options, .base = offsetof(struct calibrate_options, engine)},
    {.title = "Drafter", .options = ds_cli_draft_options, .base = offsetof(struct calibrate_options, draft)},
    {.title = "Sampling", .options = ds_cli_sampling_options, .base = offsetof(struct calibrate_options, sampling)},
    {.title = "Calibration", .options = calibrate_options},
    {0}};

struct calibrate {
    struct calibrate_options options;
    const char *files[MOST_SETS];
    size_t n_files;
    ds_engine *engine;
    ds_engine_info info;
    ds_session *session;
    ds_dev_outcomes *fit, *held; /* of every other prompt: what is fitted to, and what it is judged by */
    float temperatures[DS_DEV_MOST_SLOTS];
    ds_dev_quality before, after;
    ds_dev_costs costs;
    struct ds_shortlist shortlist;
    uint32_t listed; /* tokens of the list that is written; 0: none */
    char *path, *list_path;
};

/* --- collecting --- */

static void count_round(void *user, const ds_round *round) {
    struct calibrate *const c = user;
    if (c->fit) ds_dev_outcomes_add(c->fit, round);
    ds_shortlist_count(&c->shortlist, round);
}

static void hold_round(void *user, const ds_round *round) {
    struct calibrate *const c = user;
    if (c->held) ds_dev_outcomes_add(c->held, round);
    ds_shortlist_hold(&c->shortlist, round);
}

static int collect_set(struct calibrate *c, const char *file, struct ds_cli_progress *progress, size_t index) {
    struct ds_prompt_set set;
    int code = ds_prompt_set_read(file, c->options.limit, &set);
    for (size_t i = 0; code == DS_CLI_GO && i < set.count; i++) {
        ds_cli_progress(progress, index * 1000 + i * 1000 / set.count, c->n_files * 1000);
        ds_session_set_trace(c->session, i % 2 ? hold_round : count_round, c);
        ds_cli_watch(c->session);
        code = ds_prompt_answer(c->engine, c->session, set.prompts[i], c->options.tokens);
        ds_cli_watch(NULL);
        if (ds_cli_interrupted()) code = DS_CLI_INTERRUPTED;
    }
    ds_prompt_set_free(&set);
    return code;
}

static int start(struct calibrate *c) {
    struct ds_error err;
    ds_session_params params;
    int code = ds_cli_session_params(&ds_command_calibrate, &c->options.draft, &c->options.sampling, &c->info, &params);
    if (code == DS_CLI_GO &&
        (ds_dev_outcomes_create(c->engine, &c->fit, &err) != DS_OK || ds_dev_outcomes_create(c->engine, &c->held, &err) != DS_OK) &&
        !(err.status == DS_ERROR_UNSUPPORTED && c->options.shortlist)) /* a list needs no confidences */
        return ds_cli_fail(&err);
    if (code == DS_CLI_GO && !ds_shortlist_start(&c->shortlist, c->info.vocabulary)) return ds_cli_failf("out of memory");
    if (code == DS_CLI_GO) code = ds_cli_prepare(c->engine, NULL);
    if (code != DS_CLI_GO) return code;
    params.spec = DS_SPEC_FIXED; /* whole blocks, so that every slot's fate is known */
    params.spec_length = c->info.block_size;
    return ds_session_create(c->engine, &params, &c->session, &err) == DS_OK ? DS_CLI_GO : ds_cli_fail(&err);
}

static int collect(struct calibrate *c) {
    struct ds_cli_progress progress = {.what = "answering"};
    int code = DS_CLI_GO;
    ds_cli_progress(&progress, 0, 0);
    for (size_t i = 0; code == DS_CLI_GO && i < c->n_files; i++) code = collect_set(c, c->files[i], &progress, i);
    ds_cli_progress_end(&progress);
    return code;
}

/* How many tokens the list has: what --shortlist says. */
static int read_size(struct calibrate *c) {
    const char *const text = c->options.shortlist;
    char *end;
    if (!text || strcmp(text, "auto") == 0) return DS_CLI_GO;
    const unsigned long size = strtoul(text, &end, 10);
    if (*end || end == text || size < 1 || size >= c->info.vocabulary)
        return ds_cli_usage(&ds_command_calibrate, "--shortlist: '%s' is neither `auto` nor a number from 1 to %" PRIu32, text, c->info.vocabulary - 1);
    c->listed = (uint32_t)size;
    return DS_CLI_GO;
}

/* Stop tokens end answers, so they are said once an answer at most: without them no draft could end one. */
static void keep_stops(struct calibrate *c) {
    struct ds_shortlist *const l = &c->shortlist;
    for (uint32_t t = 0; t < l->vocabulary; t++)
        if (ds_is_stop_token(c->engine, (ds_token)t)) l->said[t] += UINT32_MAX;
}

static int shorten(struct calibrate *c) {
    struct ds_error err;
    if (!c->options.shortlist) return DS_CLI_GO;
    if (ds_shortlist_measure(&c->shortlist, c->session, c->info.block_size, &err) != DS_OK) return ds_cli_fail(&err);
    keep_stops(c);
    ds_shortlist_rank(&c->shortlist);
    if (c->shortlist.out_of_memory) return ds_cli_failf("out of memory");
    if (!c->listed) c->listed = ds_shortlist_best(&c->shortlist);
    if (c->listed == c->info.vocabulary) c->listed = 0;
    if (!c->listed || c->options.dry) return DS_CLI_GO;
    return ds_dev_shortlist_save(c->engine, c->shortlist.order, c->listed, &c->list_path, &err) == DS_OK ? DS_CLI_GO : ds_cli_fail(&err);
}

static int fit(struct calibrate *c) {
    struct ds_error err;
    if (ds_dev_measure_costs(c->session, &c->costs, &err) != DS_OK && err.status != DS_ERROR_LIMIT) return ds_cli_fail(&err);
    if (!c->fit) return DS_CLI_GO;
    if (ds_dev_calibration_fit(c->fit, c->temperatures, &err) != DS_OK ||
        ds_dev_calibration_quality(c->held, NULL, &c->before, &err) != DS_OK ||
        ds_dev_calibration_quality(c->held, c->temperatures, &c->after, &err) != DS_OK)
        return ds_cli_fail(&err);
    if (c->options.dry) return DS_CLI_GO;
    const ds_status status = ds_dev_calibration_save(c->engine, c->temperatures, ds_dev_outcomes_count(c->fit), &c->path, &err);
    return status == DS_OK ? DS_CLI_GO : ds_cli_fail(&err);
}

/* --- reporting --- */

static void print_row(const char *name, const ds_dev_slot_quality *before, const ds_dev_slot_quality *after, double temperature) {
    if (isnan(temperature)) printf("%-5s%12s", name, "");
    else printf("%-5s%12.3f", name, temperature);
    printf("%10" PRIu64 "%10.3f%9.2f %%%9.2f %%%8.2f %%%9.3f%9.3f\n", after->samples, after->observed, 100 * before->ece, 100 * after->ece,
           100 * after->ece_chance, before->auc, after->auc);
}

/* What a round of l verified drafts costs and gives, by the acceptance seen on the prompts held out. */
static void print_costs(const struct calibrate *c) {
    const ds_dev_costs *const k = &c->costs;
    if (!k->rows) return;
    double tokens = 1, best = 1;
    uint32_t length = 0;
    printf("\nCosts behind %" PRIu32 " positions%s:\n\n%-8s%12s%12s%14s%12s\n", k->context, k->spread > 1.25 ? " (the machine was busy: measure again)" : "",
           "drafts", "verify ms", "draft ms", "tokens/round", "speed-up");
    printf("%-8d%12.3f%12s%14.2f%12.2f\n", 0, 1e3 * k->pass[1], "", 1.0, 1.0);
    for (uint32_t l = 1; l < k->rows; l++) {
        tokens += c->fit ? c->after.slot[l - 1].observed : NAN;
        const double speed = tokens / (k->pass[1 + l] + k->draft[l] + k->feed[1]) * k->pass[1];
        printf("%-8" PRIu32 "%12.3f%12.3f%14.2f%12.2f\n", l, 1e3 * k->pass[1 + l], 1e3 * k->draft[l], tokens, speed);
        if (!(speed > best)) continue;
        best = speed;
        length = l;
    }
    if (!c->fit) return;
    if (length) printf("\n`auto` will draft: %" PRIu32 " at a time would be %.2f times as fast as none, and it chooses anew each round.\n", length, best);
    else printf("\n`auto` will hardly draft: on the average no length pays here. It looks for stretches of text where one does.\n");
}

static void print_shortlist(const struct calibrate *c) {
    const struct ds_shortlist *const l = &c->shortlist;
    if (!c->options.shortlist) return;
    printf("\n%-12s%14s%12s%12s   (whole blocks, prompts held out; %.3f of %.3f ms grow with the vocabulary)\n", "tokens", "tokens/round", "draft ms", "speed",
           1e3 * l->grows, 1e3 * l->draft);
    for (uint32_t i = 0; i < l->n_sizes; i++)
        printf("%-12" PRIu32 "%14.2f%12.3f%12.3f\n", l->sizes[i].size, l->sizes[i].tau, 1e3 * l->sizes[i].draft, l->sizes[i].speed);
    if (!c->listed) printf("\nNo list gains one part in a hundred: none is written.\n");
    if (c->list_path) printf("\n%" PRIu32 " tokens written to %s\n", c->listed, c->list_path);
}

static void print_quality(const struct calibrate *c) {
    printf("%zu rounds fitted, %zu held out. Survival up to each slot, on the latter:\n\n", ds_dev_outcomes_count(c->fit), ds_dev_outcomes_count(c->held));
    printf("%-5s%12s%10s%10s%11s%11s%10s%9s%9s\n", "slot", "temperature", "samples", "accepted", "ECE before", "after", "(chance)", "AUC", "after");
    for (uint32_t k = 0; k < c->after.slots; k++) {
        char name[16];
        snprintf(name, sizeof name, "%" PRIu32, k + 1);
        print_row(name, &c->before.slot[k], &c->after.slot[k], (double)c->temperatures[k]);
    }
    print_row("all", &c->before.all, &c->after.all, NAN);
    puts("\n(chance): the error that a forecast without any would show with so few samples");
}

static void print_table(const struct calibrate *c) {
    if (c->fit) print_quality(c);
    print_costs(c);
    print_shortlist(c);
    if (c->path) printf("\nTemperatures written to %s\n", c->path);
}

static void json_quality(const char *name, const ds_dev_quality *q) {
    printf(", \"%s\": {\"ece\": ", name);
    ds_cli_json_double(stdout, q->all.ece);
    printf(", \"ece_chance\": ");
    ds_cli_json_double(stdout, q->all.ece_chance);
    printf(", \"auc\": ");
    ds_cli_json_double(stdout, q->all.auc);
    printf(", \"slots\": [");
    for (uint32_t k = 0; k < q->slots; k++) {
        printf("%s{\"samples\": %" PRIu64 ", \"forecast\": ", k ? ", " : "", q->slot[k].samples);
        ds_cli_json_double(stdout, q->slot[k].forecast);
        printf(", \"observed\": ");
        ds_cli_json_double(stdout, q->slot[k].observed);
        printf(", \"ece\": ");
        ds_cli_json_double(stdout, q->slot[k].ece);
        printf(", \"auc\": ");
        ds_cli_json_double(stdout, q->slot[k].auc);
        putchar('}');
    }
    printf("]}");
}

static void json_costs(const ds_dev_costs *k) {
    printf(", \"costs\": {\"context\": %" PRIu32 ", \"spread\": ", k->context);
    ds_cli_json_double(stdout, k->spread);
    printf(", \"parked\": %s, \"verify_ms\": [", k->parked ? "true" : "false");
    for (uint32_t r = 1; r <= k->rows; r++) {
        if (r > 1) printf(", ");
        ds_cli_json_double(stdout, 1e3 * k->pass[r]);
    }
    printf("], \"draft_ms\": [");
    for (uint32_t l = 1; l < k->rows; l++) {
        if (l > 1) printf(", ");
        ds_cli_json_double(stdout, 1e3 * k->draft[l]);
    }
    printf("]}");
}

static void json_shortlist(const struct calibrate *c) {
    const struct ds_shortlist *const l = &c->shortlist;
    printf(", \"shortlist\": {\"tokens\": %" PRIu32 ", \"sizes\": [", c->listed);
    for (uint32_t i = 0; i < l->n_sizes; i++) {
        printf("%s{\"tokens\": %" PRIu32 ", \"tau\": ", i ? ", " : "", l->sizes[i].size);
        ds_cli_json_double(stdout, l->sizes[i].tau);
        printf(", \"draft_ms\": ");
        ds_cli_json_double(stdout, 1e3 * l->sizes[i].draft);
        printf(", \"speed\": ");
        ds_cli_json_double(stdout, l->sizes[i].speed);
        putchar('}');
    }
    printf("], \"written\": ");
    ds_cli_json_text(stdout, c->list_path);
    putchar('}');
}

static void print_json(const struct calibrate *c) {
    printf("{\"rounds\": %zu, \"held_out\": %zu, \"temperatures\": [", c->fit ? ds_dev_outcomes_count(c->fit) : 0, c->fit ? ds_dev_outcomes_count(c->held) : 0);
    for (uint32_t k = 0; k < c->after.slots; k++) {
        if (k) printf(", ");
        ds_cli_json_float(stdout, c->temperatures[k]);
    }
    putchar(']');
    json_quality("before", &c->before);
    json_quality("after", &c->after);
    json_costs(&c->costs);
    if (c->options.shortlist) json_shortlist(c);
    printf(", \"written\": ");
    ds_cli_json_text(stdout, c->path);
    puts("}");
}

enum { SIZE = 360, MARGIN = 44 }; /* of the diagram, in pixels */

static double x_of(double share) { return MARGIN + share * (SIZE - 2 * MARGIN); }
static double y_of(double share) { return SIZE - MARGIN - share * (SIZE - 2 * MARGIN); }

static void put_curve(FILE *out, const ds_dev_quality *q, const char *colour) {
    fprintf(out, "<polyline fill=\"none\" stroke-width=\"2\" stroke=\"%s\" points=\"", colour);
    for (int b = 0; b < DS_DEV_BINS; b++)
        if (q->bin[b].samples) fprintf(out, "%.1f,%.1f ", x_of(q->bin[b].forecast), y_of(q->bin[b].observed));
    fputs("\"/>\n", out);
    for (int b = 0; b < DS_DEV_BINS; b++)
        if (q->bin[b].samples)
            fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"><title>%" PRIu64 " drafts: forecast %.3f, accepted %.3f</title></circle>\n",
                    x_of(q->bin[b].forecast), y_of(q->bin[b].observed), colour, q->bin[b].samples, q->bin[b].forecast, q->bin[b].observed);
}

static void put_diagram(FILE *out, const struct calibrate *c) {
    fprintf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n"
                 "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", SIZE, SIZE, SIZE, SIZE);
    for (int i = 0; i <= 4; i++)
        fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", x_of(i / 4.0),
                SIZE - MARGIN + 16, i / 4.0, MARGIN - 6, y_of(i / 4.0) + 4, i / 4.0);
    fprintf(out, "<path d=\"M%.1f,%.1f H%.1f V%.1f\" fill=\"none\" stroke=\"#999\"/><line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#ccc\"/>\n",
            x_of(0), y_of(0), x_of(1), y_of(1), x_of(0), y_of(0), x_of(1), y_of(1));
    fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">survival as forecast; upwards: as observed</text>\n", SIZE / 2, SIZE - 8);
    fprintf(out, "<text x=\"%d\" y=\"18\" fill=\"#c60\">before: ECE %.2f %%</text><text x=\"%d\" y=\"34\" fill=\"#06c\">after: ECE %.2f %%</text>\n", MARGIN,
            100 * c->before.all.ece, MARGIN, 100 * c->after.all.ece);
    put_curve(out, &c->before, "#c60");
    put_curve(out, &c->after, "#06c");
    fputs("</svg>\n", out);
}

static int write_svg(const struct calibrate *c) {
    if (!c->options.svg || !c->fit) return DS_CLI_GO;
    FILE *const file = fopen(c->options.svg, "w");
    if (!file) return ds_cli_failf("--svg: cannot write %s: %s", c->options.svg, strerror(errno));
    errno = 0;
    put_diagram(file, c);
    const bool written = !ferror(file);
    if (fclose(file) == 0 && written) return DS_CLI_GO;
    return ds_cli_failf("--svg: cannot write %s: %s", c->options.svg, strerror(errno));
}

/* --- the command --- */

static int calibrate(struct calibrate *c) {
    while (c->n_files < MOST_SETS && c->files[c->n_files]) c->n_files++;
    if (!c->options.draft.drafter) return ds_cli_usage(&ds_command_calibrate, "a drafter is missing: give one with --drafter PATH");
    ds_cli_catch_interrupt();
    int code = ds_cli_open(&ds_command_calibrate, &c->options.engine, &c->options.draft, &c->engine, &c->info);
    if (code == DS_CLI_GO) code = read_size(c);
    if (code == DS_CLI_GO) code = start(c);
    if (code == DS_CLI_GO) code = collect(c);
    if (code == DS_CLI_GO) code = fit(c);
    if (code == DS_CLI_GO) code = shorten(c);
    if (code == DS_CLI_GO) code = write_svg(c);
    if (code != DS_CLI_GO) return code;
    if (c->options.json) print_json(c);
    else print_table(c);
    return DS_CLI_DONE;
}

static int calibrate_main(int argc, char **argv) {
    static struct calibrate c; /* large, and there is one */
    c = (struct calibrate){.options = {.engine = DS_CLI_ENGINE_DEFAULTS, .tokens = 128, .limit = 40}};
    int code = ds_cli_parse(&ds_command_calibrate, argc, argv, &c.options, c.files);
    if (code == DS_CLI_GO) code = calibrate(&c);
    ds_free(c.path);
    ds_free(c.list_path);
    ds_shortlist_free(&c.shortlist);
    ds_session_destroy(c.session);
    ds_dev_outcomes_destroy(c.fit);
    ds_dev_outcomes_destroy(c.held);
    ds_engine_destroy(c.engine);
    return ds_cli_finish(code);
}

const struct ds_cli_command ds_command_calibrate = {
    .name = "calibrate",
    .summary = "fits a drafter's confidences to what is accepted, and says what drafting costs here",
    .synopsis = "-m MODEL -d DRAFTER [options] FILE...",
    .details = "Answers the prompts of the files (JSONL: one `{\"turns\": [\"..\"]}` a line), drafting and verifying whole blocks, and fits one "
               "temperature for each slot of the block by sequential temperature scaling. Every other prompt is held out, and the errors "
               "are those on them. Only confidences and outcomes are looked at. Also printed: what passes and drafts cost on this machine, "
               "and what `auto` makes of it.\n\n"
               "The result is written beside the drafter, as `calibration.json` in its folder or `FILE.gguf.calibration.json`, and is used "
               "from then on; a calibration of another drafter is not. --shortlist writes `shortlist.json` or `FILE.gguf.shortlist.json` in the same way; "
               "remove an earlier list first, since only what it has was drafted. Both change speed, never tokens.",
    .examples = "dspark calibrate -m models/tiny/target -d models/tiny/dspark --temp 1 --svg reliability.svg prompts.jsonl",
    .groups = calibrate_groups,
    .min_operands = 1,
    .max_operands = MOST_SETS,
    .operand = "FILE",
    .main = calibrate_main,
};
