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

struct eval_options {
    struct ds_cli_engine engine;
    struct ds_cli_draft draft;
    struct ds_cli_sampling sampling;
    uint32_t tokens, limit;
    bool json, no_speed;
    const char *svg;
};

#define AT(member) .offset = offsetof(struct eval_options, member)
static const struct ds_cli_option eval_options[] = {
    {.letter = 'n', .name = "max-tokens", .value = "N", .kind = DS_CLI_UINT, AT(tokens), .min = 1, .max = 65536,
     .help = "tokens an answer has at most (default: 128)"},
    {.name = "limit", .value = "N", .kind = DS_CLI_UINT, AT(limit), .min = 1, .max = 1000000,
     .help = "prompts taken from each file at most, spread over it (default: 20)"},
    {.name = "no-speed", .kind = DS_CLI_FLAG, AT(no_speed), .help = "do not answer again without the drafter, so that no speed-up is known"},
    {.name = "json", .kind = DS_CLI_FLAG, AT(json), .help = "one JSON object instead of the table"},
    {.name = "svg", .value = "FILE", .kind = DS_CLI_STRING, AT(svg), .help = "a drawing: the share of rounds that accept so many drafts, by set"},
    {0}};
#undef AT
static const struct ds_cli_group eval_groups[] = {
    {.title = "Model", .options = ds_cli_engine_options, .base = offsetof(struct eval_options, engine)},
    {.title = "Speculation", .options = ds_cli_draft_options, .base = offsetof(struct eval_options, draft)},
    {.title = "Sampling", .options = ds_cli_sampling_options, .base = offsetof(struct eval_options, sampling)},
    {.title = "Evaluation", .options = eval_options},
    {0}};

/* What became of one set. */
struct set_result {
    char *name;
    size_t prompts;
    ds_stats spec, plain;
    uint64_t reached[DS_DEV_MOST_SLOTS], accepted[DS_DEV_MOST_SLOTS]; /* rounds that verified draft k behind accepted ones; that accepted it */
    ds_dev_outcomes *outcomes; /* NULL: the drafter has no confidence head */
    bool has_quality;
    double ece, auc;
};

struct eval {
    struct eval_options options;
    const char *files[MOST_SETS];
    size_t n_files;
    ds_engine *engine;
    ds_engine_info info;
    ds_session_params params;
    ds_session *session;
    struct set_result sets[MOST_SETS];
};

/* --- measuring --- */

static void count_round(void *user, const ds_round *round) {
    struct set_result *const set = user;
    for (size_t k = 0; k < round->verified && k <= round->accepted; k++) set->reached[k]++;
    for (size_t k = 0; k < round->accepted; k++) set->accepted[k]++;
    if (set->outcomes) ds_dev_outcomes_add(set->outcomes, round);
}

static int answer_all(struct eval *e, const struct ds_prompt_set *prompts, ds_spec_mode spec, struct set_result *set, struct ds_cli_progress *progress) {
    ds_session_params params = e->params;
    struct ds_error err;
    if (spec == DS_SPEC_OFF) params.spec = DS_SPEC_OFF;
    if (ds_session_configure(e->session, &params, &err) != DS_OK) return ds_cli_fail(&err);
    ds_session_reset_stats(e->session);
    ds_session_set_trace(e->session, spec == DS_SPEC_OFF ? NULL : count_round, set);
    int code = DS_CLI_GO;
    for (size_t i = 0; code == DS_CLI_GO && i < prompts->count; i++) {
        ds_cli_progress(progress, i, prompts->count);
        ds_cli_watch(e->session);
        code = ds_prompt_answer(e->engine, e->session, prompts->prompts[i], e->options.tokens);
        ds_cli_watch(NULL);
        if (ds_cli_interrupted()) code = DS_CLI_INTERRUPTED;
    }
    ds_stats *const stats = spec == DS_SPEC_OFF ? &set->plain : &set->spec;
    stats->size = sizeof *stats;
    ds_session_get_stats(e->session, stats);
    return code;
}

/* The confidences as they are used, a calibration beside the drafter included, are not known here: the head's own are judged. */
static void judge(struct set_result *set) {
    static ds_dev_quality quality;
    if (!set->outcomes || ds_dev_calibration_quality(set->outcomes, NULL, &quality, NULL) != DS_OK) return;
    set->has_quality = true;
    set->ece = quality.all.ece;
    set->auc = quality.all.auc;
}

static int run_set(struct eval *e, size_t index) {
    struct set_result *const set = &e->sets[index];
    struct ds_prompt_set prompts;
    int code = ds_prompt_set_read(e->files[index], e->options.limit, &prompts);
    struct ds_cli_progress progress = {.what = prompts.name};
    if (code == DS_CLI_GO) {
        (void)ds_dev_outcomes_create(e->engine, &set->outcomes, NULL); /* none for a drafter without a head */
        ds_cli_progress(&progress, 0, 0);
        code = answer_all(e, &prompts, e->params.spec, set, &progress);
        if (code == DS_CLI_GO && !e->options.no_speed) code = answer_all(e, &prompts, DS_SPEC_OFF, set, &progress);
        ds_cli_progress_end(&progress);
        judge(set);
    }
    set->prompts = prompts.count;
    set->name = prompts.name;
    prompts.name = NULL;
    ds_prompt_set_free(&prompts);
    return code;
}

/* --- figures --- */

static double ratio(double a, double b) { return b > 0 ? a / b : NAN; }
static double tau(const struct set_result *s) { return ratio((double)s->spec.committed_in_rounds, (double)s->spec.rounds); }
static double speed(const ds_stats *s) { return ratio((double)s->generated, s->decode_seconds); }
/* Draft k's acceptance where all before it were accepted. */
static double rate(const struct set_result *s, uint32_t k) { return ratio((double)s->accepted[k], (double)s->reached[k]); }

static void put(double value, int width, int digits) {
    if (isnan(value)) printf("%*s", width, "-");
    else printf("%*.*f", width, digits, value);
}

static void print_table(const struct eval *e) {
    printf("%-18s%8s%8s%8s%10s%10s%9s%8s%8s   accepted, by position in the block\n", "set", "prompts", "tokens", "tau", "tokens/s", "plain", "speed-up",
           "ECE", "AUC");
    for (size_t i = 0; i < e->n_files; i++) {
        const struct set_result *const s = &e->sets[i];
        printf("%-18.18s%8zu%8" PRIu64, s->name, s->prompts, s->spec.generated);
        put(tau(s), 8, 2);
        put(speed(&s->spec), 10, 1);
        put(speed(&s->plain), 10, 1);
        put(speed(&s->spec) / speed(&s->plain), 9, 2);
        put(s->has_quality ? s->ece : NAN, 8, 3);
        put(s->has_quality ? s->auc : NAN, 8, 3);
        printf("   ");
        for (uint32_t k = 0; k < e->info.block_size; k++) put(rate(s, k), 5, 2);
        putchar('\n');
    }
}

static void member(const char *name, double value) {
    printf(", \"%s\": ", name);
    ds_cli_json_double(stdout, value);
}

static void print_json(const struct eval *e) {
    printf("{\"drafter\": ");
    ds_cli_json_text(stdout, e->info.drafter);
    printf(", \"block_size\": %" PRIu32 ", \"temperature\": ", e->info.block_size);
    ds_cli_json_float(stdout, e->params.sampling.temperature);
    printf(", \"sets\": [");
    for (size_t i = 0; i < e->n_files; i++) {
        const struct set_result *const s = &e->sets[i];
        printf("%s{\"name\": ", i ? ", " : "");
        ds_cli_json_text(stdout, s->name);
        printf(", \"prompts\": %zu, \"tokens\": %" PRIu64 ", \"rounds\": %" PRIu64 ", \"drafted\": %" PRIu64 ", \"verified\": %" PRIu64 ", \"accepted\": %" PRIu64,
               s->prompts, s->spec.generated, s->spec.rounds, s->spec.drafted, s->spec.verified, s->spec.accepted);
        member("tau", tau(s));
        member("tokens_per_second", speed(&s->spec));
        member("plain_tokens_per_second", speed(&s->plain));
        member("speedup", speed(&s->spec) / speed(&s->plain));
        member("ece", s->has_quality ? s->ece : NAN);
        member("auc", s->has_quality ? s->auc : NAN);
        printf(", \"acceptance\": [");
        for (uint32_t k = 0; k < e->info.block_size; k++) {
            if (k) printf(", ");
            ds_cli_json_double(stdout, rate(s, k));
        }
        printf("]}");
    }
    puts("]}");
}

/* --- the drawing --- */

enum { WIDTH = 560, HEIGHT = 340, LEFT = 48, RIGHT = 140, TOP = 24, BOTTOM = 44 };

static double x_of(const struct eval *e, uint32_t k) { return LEFT + (double)(WIDTH - LEFT - RIGHT) * k / e->info.block_size; }
static double y_of(double share) { return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM); }

static void put_set(FILE *out, const struct eval *e, size_t i) {
    static const char *const colours[] = {"#06c", "#c60", "#393", "#939", "#099", "#c33", "#666", "#960"};
    const char *const colour = colours[i % (sizeof colours / sizeof *colours)];
    const struct set_result *const s = &e->sets[i];
    fprintf(out, "<polyline fill=\"none\" stroke-width=\"2\" stroke=\"%s\" points=\"%.1f,%.1f ", colour, x_of(e, 0), y_of(1));
    for (uint32_t k = 0; k < e->info.block_size; k++)
        if (s->spec.rounds) fprintf(out, "%.1f,%.1f ", x_of(e, k + 1), y_of((double)s->accepted[k] / (double)s->spec.rounds));
    fprintf(out, "\"/>\n<text x=\"%d\" y=\"%d\" fill=\"%s\">", WIDTH - RIGHT + 12, TOP + 16 * (int)i + 8, colour);
    for (const char *c = s->name; *c; c++) {
        if (*c == '<') fputs("&lt;", out);
        else if (*c == '&') fputs("&amp;", out);
        else fputc((unsigned char)*c < 0x20 ? '?' : *c, out);
    }
    fprintf(out, " (%.2f)</text>\n", tau(s));
}

static void put_drawing(FILE *out, const struct eval *e) {
    fprintf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n"
                 "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", WIDTH, HEIGHT, WIDTH, HEIGHT);
    for (int i = 0; i <= 4; i++)
        fprintf(out, "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", LEFT,
                WIDTH - RIGHT, y_of(i / 4.0), y_of(i / 4.0), LEFT - 6, y_of(i / 4.0) + 4, i / 4.0);
    for (uint32_t k = 0; k <= e->info.block_size; k++)
        fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%" PRIu32 "</text>\n", x_of(e, k), HEIGHT - BOTTOM + 16, k);
    fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">share of rounds that accept so many drafts or more</text>\n", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8);
    for (size_t i = 0; i < e->n_files; i++) put_set(out, e, i);
    fputs("</svg>\n", out);
}

static int write_svg(const struct eval *e) {
    if (!e->options.svg) return DS_CLI_GO;
    FILE *const file = fopen(e->options.svg, "w");
    if (!file) return ds_cli_failf("--svg: cannot write %s: %s", e->options.svg, strerror(errno));
    errno = 0;
    put_drawing(file, e);
    const bool written = !ferror(file);
    if (fclose(file) == 0 && written) return DS_CLI_GO;
    return ds_cli_failf("--svg: cannot write %s: %s", e->options.svg, strerror(errno));
}

/* --- the command --- */

static int start(struct eval *e) {
    struct ds_error err;
    int code = ds_cli_session_params(&ds_command_eval, &e->options.draft, &e->options.sampling, &e->info, &e->params);
    if (code == DS_CLI_GO && e->params.spec == DS_SPEC_OFF) code = ds_cli_usage(&ds_command_eval, "--spec off leaves nothing to evaluate");
    if (code == DS_CLI_GO && !e->options.draft.spec.given) {
        e->params.spec = DS_SPEC_FIXED; /* tau is comparable with others' where blocks are verified whole */
        e->params.spec_length = e->info.block_size;
    }
    if (code == DS_CLI_GO) code = ds_cli_prepare(e->engine, NULL);
    if (code != DS_CLI_GO) return code;
    return ds_session_create(e->engine, &e->params, &e->session, &err) == DS_OK ? DS_CLI_GO : ds_cli_fail(&err);
}

static int eval(struct eval *e) {
    while (e->n_files < MOST_SETS && e->files[e->n_files]) e->n_files++;
    if (!e->options.draft.drafter) return ds_cli_usage(&ds_command_eval, "a drafter is missing: give one with --drafter PATH");
    ds_cli_catch_interrupt();
    int code = ds_cli_open(&ds_command_eval, &e->options.engine, &e->options.draft, &e->engine, &e->info);
    if (code == DS_CLI_GO) code = start(e);
    for (size_t i = 0; code == DS_CLI_GO && i < e->n_files; i++) code = run_set(e, i);
    if (code == DS_CLI_GO) code = write_svg(e);
    if (code != DS_CLI_GO) return code;
    if (e->options.json) print_json(e);
    else print_table(e);
    return DS_CLI_DONE;
}

static int eval_main(int argc, char **argv) {
    static struct eval e; /* large, and there is one */
    e = (struct eval){.options = {.engine = DS_CLI_ENGINE_DEFAULTS, .tokens = 128, .limit = 20}};
    int code = ds_cli_parse(&ds_command_eval, argc, argv, &e.options, e.files);
    if (code == DS_CLI_GO) code = eval(&e);
    for (size_t i = 0; i < MOST_SETS; i++) {
        free(e.sets[i].name);
        ds_dev_outcomes_destroy(e.sets[i].outcomes);
    }
    ds_session_destroy(e.session);
    ds_engine_destroy(e.engine);
    return ds_cli_finish(code);
}

const struct ds_cli_command ds_command_eval = {
    .name = "eval",
    .summary = "accepted length and speed-up over sets of prompts",
    .synopsis = "-m MODEL -d DRAFTER [options] FILE...",
    .details = "Answers the prompts of each file (JSONL: one `{\"turns\": [\"..\"]}` a line) with the drafter and once more without it, and prints, "
               "by set, the mean number of tokens a round commits (`tau`, the target's own token counted), tokens a second both ways, the "
               "calibration error and AUC of the drafter's confidences as they come from its head, and the rate at which drafts of each position "
               "are accepted, those before them having been. Blocks are verified whole unless --spec says otherwise.",
    .examples = "dspark eval -m models/tiny/target -d models/tiny/dspark --limit 10 maths.jsonl code.jsonl\n"
                "dspark eval -m models/tiny/target -d models/tiny/dspark --spec auto --temp 1 --seed 1 --json chat.jsonl",
    .groups = eval_groups,
    .min_operands = 1,
    .max_operands = MOST_SETS,
    .operand = "FILE",
    .main = eval_main,
};
