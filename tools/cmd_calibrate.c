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
    const char *svg;
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
    char *path;
};

/* --- collecting --- */

static int collect_set(struct calibrate *c, const char *file, struct ds_cli_progress *progress, size_t index) {
    struct ds_prompt_set set;
    int code = ds_prompt_set_read(file, c->options.limit, &set);
    for (size_t i = 0; code == DS_CLI_GO && i < set.count; i++) {
        ds_cli_progress(progress, index * 1000 + i * 1000 / set.count, c->n_files * 1000);
        ds_session_set_trace(c->session, ds_dev_outcomes_add, i % 2 ? c->held : c->fit);
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
        (ds_dev_outcomes_create(c->engine, &c->fit, &err) != DS_OK || ds_dev_outcomes_create(c->engine, &c->held, &err) != DS_OK))
        return ds_cli_fail(&err);
    if (code == DS_CLI_GO) code = ds_cli_prepare(c->engine);
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

static int fit(struct calibrate *c) {
    struct ds_error err;
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
    printf("%10" PRIu64 "%10.3f%9.2f %%%9.2f %%%9.3f%9.3f\n", after->samples, after->observed, 100 * before->ece, 100 * after->ece, before->auc,
           after->auc);
}

static void print_table(const struct calibrate *c) {
    printf("%zu rounds fitted, %zu held out. Survival up to each slot, on the latter:\n\n", ds_dev_outcomes_count(c->fit), ds_dev_outcomes_count(c->held));
    printf("%-5s%12s%10s%10s%11s%11s%9s%9s\n", "slot", "temperature", "samples", "accepted", "ECE before", "after", "AUC", "after");
    for (uint32_t k = 0; k < c->after.slots; k++) {
        char name[16];
        snprintf(name, sizeof name, "%" PRIu32, k + 1);
        print_row(name, &c->before.slot[k], &c->after.slot[k], (double)c->temperatures[k]);
    }
    print_row("all", &c->before.all, &c->after.all, NAN);
    if (c->path) printf("\nWritten to %s\n", c->path);
}

static void json_quality(const char *name, const ds_dev_quality *q) {
    printf(", \"%s\": {\"ece\": ", name);
    ds_cli_json_double(stdout, q->all.ece);
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

static void print_json(const struct calibrate *c) {
    printf("{\"rounds\": %zu, \"held_out\": %zu, \"temperatures\": [", ds_dev_outcomes_count(c->fit), ds_dev_outcomes_count(c->held));
    for (uint32_t k = 0; k < c->after.slots; k++) {
        if (k) printf(", ");
        ds_cli_json_float(stdout, c->temperatures[k]);
    }
    putchar(']');
    json_quality("before", &c->before);
    json_quality("after", &c->after);
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
    if (!c->options.svg) return DS_CLI_GO;
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
    if (code == DS_CLI_GO) code = start(c);
    if (code == DS_CLI_GO) code = collect(c);
    if (code == DS_CLI_GO) code = fit(c);
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
    ds_session_destroy(c.session);
    ds_dev_outcomes_destroy(c.fit);
    ds_dev_outcomes_destroy(c.held);
    ds_engine_destroy(c.engine);
    return ds_cli_finish(code);
}

const struct ds_cli_command ds_command_calibrate = {
    .name = "calibrate",
    .summary = "fits the confidences of a drafter to what the target really accepts",
    .synopsis = "-m MODEL -d DRAFTER [options] FILE...",
    .details = "Answers the prompts of the files (JSONL: one `{\"turns\": [\"..\"]}` a line), drafting and verifying whole blocks, and fits one "
               "temperature for each slot of the block by sequential temperature scaling. Every other prompt is held out, and the errors "
               "are those on them. Only confidences and outcomes are looked at.\n\n"
               "The result is written beside the drafter, as `calibration.json` in its folder or `FILE.gguf.calibration.json`, and is used "
               "from then on; a calibration of another drafter is not. It changes speed, never tokens.",
    .examples = "dspark calibrate -m models/tiny/target -d models/tiny/dspark --temp 1 --svg reliability.svg prompts.jsonl",
    .groups = calibrate_groups,
    .min_operands = 1,
    .max_operands = MOST_SETS,
    .operand = "FILE",
    .main = calibrate_main,
};
