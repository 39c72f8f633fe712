#include "eval.h"

#include "cli_json.h"
#include "record.h"
#include "svg_file.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* --- figures --- */

static double ratio(double a, double b) { return b > 0 ? a / b : NAN; }
static double tau(const struct ds_eval_set *s) { return ratio((double)s->spec.committed_in_rounds, (double)s->spec.rounds); }
static double speed(const ds_stats *s) { return ratio((double)s->generated, s->decode_seconds); }
/* Draft k's acceptance where all before it were accepted. */
static double rate(const struct ds_eval_set *s, uint32_t k) { return ratio((double)s->accepted[k], (double)s->reached[k]); }

static void put(double value, int width, int digits) {
    if (isnan(value)) printf("%*s", width, "-");
    else printf("%*.*f", width, digits, value);
}

void ds_eval_print_table(const struct ds_eval_result *e) {
    printf("%-18s%8s%8s%8s%10s%10s%9s%8s%8s   accepted, by position in the block\n", "set", "prompts", "tokens", "tau", "tokens/s", "plain", "speed-up",
           "ECE", "AUC");
    for (size_t i = 0; i < e->n_sets; i++) {
        const struct ds_eval_set *const s = &e->sets[i];
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
    printf("\nECE, AUC: of confidences as they come from %s\n", ds_record_source(e->sets[0].outcomes));
}

/* --- the reference implementation's table --- */

/* The last part of a path. */
static void put_base(char *out, size_t size, const char *path) {
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/') begin--;
    snprintf(out, size, "%.*s", (int)(end - begin), path + begin);
}

enum { MOST_COLUMNS = 10 + DS_DEV_MOST_SLOTS, CELL = 64 };

static void fill_row(const struct ds_eval_result *e, const struct ds_eval_set *s, char cells[][CELL]) {
    const double rounds = (double)s->spec.rounds, committed = (double)s->spec.committed_in_rounds, proposed = (double)s->proposed;
    char(*c)[CELL] = cells;
    snprintf(*c++, CELL, "%s", s->name);
    put_base(*c++, CELL, e->target);
    put_base(*c++, CELL, e->drafter);
    snprintf(*c++, CELL, "%.2f+1", rounds > 0 ? proposed / rounds : 0);
    snprintf(*c++, CELL, "%.2f", rounds > 0 ? committed / rounds : 0);
    snprintf(*c++, CELL, "%.4f", rounds > 0 ? committed / (proposed + rounds) : 0);
    snprintf(*c++, CELL, "%zu", s->prompts - s->left_out);
    snprintf(*c++, CELL, "%" PRIu64, s->spec.generated);
    const double seconds = s->spec.prefill_seconds + s->spec.decode_seconds;
    snprintf(*c++, CELL, "%.2f", seconds > 0 ? (double)s->spec.generated / seconds : 0);
    snprintf(*c++, CELL, "%.2f", seconds > 0 ? rounds / seconds : 0);
    for (uint32_t k = 0; k < e->info.block_size; k++) {
        if (s->proposed_at[k]) snprintf(*c++, CELL, "%.4f", ratio((double)s->kept_at[k], (double)s->proposed_at[k]));
        else snprintf(*c++, CELL, "-");
    }
}

static void put_rule(const size_t *widths, size_t n) {
    for (size_t i = 0; i < n; i++) {
        putchar('+');
        for (size_t k = 0; k < widths[i] + 2; k++) putchar('-');
    }
    puts("+");
}

static void put_cells(char cells[][CELL], const size_t *widths, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const size_t space = widths[i] - strlen(cells[i]);
        printf("| %*s%s%*s ", (int)(space / 2), "", cells[i], (int)(space - space / 2), "");
    }
    puts("|");
}

void ds_eval_print_deepspec(const struct ds_eval_result *e) {
    static const char *const names[] = {"dataset", "target_model", "draft_model", "#propose", "accept_len", "verify_rate", "samples", "out_tokens", "tok/s", "verify/s"};
    enum { NAMES = sizeof names / sizeof *names };
    static char cells[DS_EVAL_MOST_SETS + 1][MOST_COLUMNS][CELL];
    size_t widths[MOST_COLUMNS] = {0};
    const size_t n = NAMES + e->info.block_size;
    for (size_t i = 0; i < n; i++) {
        if (i < NAMES) snprintf(cells[0][i], CELL, "%s", names[i]);
        else snprintf(cells[0][i], CELL, "accept_rate@%zu", i - NAMES);
    }
    for (size_t s = 0; s < e->n_sets; s++) fill_row(e, &e->sets[s], cells[1 + s]);
    for (size_t s = 0; s <= e->n_sets; s++)
        for (size_t i = 0; i < n; i++)
            if (strlen(cells[s][i]) > widths[i]) widths[i] = strlen(cells[s][i]);
    put_rule(widths, n);
    put_cells(cells[0], widths, n);
    put_rule(widths, n);
    for (size_t s = 0; s < e->n_sets; s++) put_cells(cells[1 + s], widths, n);
    put_rule(widths, n);
}

/* --- JSON --- */

static void member(const char *name, double value) {
    printf(", \"%s\": ", name);
    ds_cli_json_double(stdout, value);
}

void ds_eval_print_json(const struct ds_eval_result *e) {
    printf("{\"drafter\": ");
    ds_cli_json_text(stdout, e->info.drafter);
    printf(", \"block_size\": %" PRIu32 ", \"temperature\": ", e->info.block_size);
    ds_cli_json_float(stdout, e->temperature);
    printf(", \"confidences\": \"%s\"", ds_dev_outcomes_from_head(e->sets[0].outcomes) ? "head" : "probability");
    printf(", \"sets\": [");
    for (size_t i = 0; i < e->n_sets; i++) {
        const struct ds_eval_set *const s = &e->sets[i];
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

static double x_of(const struct ds_eval_result *e, uint32_t k) { return LEFT + (double)(WIDTH - LEFT - RIGHT) * k / e->info.block_size; }
static double y_of(double share) { return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM); }

static void put_set(FILE *out, const struct ds_eval_result *e, size_t i) {
    static const char *const colours[] = {"#06c", "#c60", "#393", "#939", "#099", "#c33", "#666", "#960"};
    const char *const colour = colours[i % (sizeof colours / sizeof *colours)];
    const struct ds_eval_set *const s = &e->sets[i];
    fprintf(out, "<polyline fill=\"none\" stroke-width=\"2\" stroke=\"%s\" points=\"%.1f,%.1f ", colour, x_of(e, 0), y_of(1));
    for (uint32_t k = 0; k < e->info.block_size; k++)
        if (s->spec.rounds) fprintf(out, "%.1f,%.1f ", x_of(e, k + 1), y_of((double)s->accepted[k] / (double)s->spec.rounds));
    fprintf(out, "\"/>\n<text x=\"%d\" y=\"%d\" fill=\"%s\">", WIDTH - RIGHT + 12, TOP + 16 * (int)i + 8, colour);
    ds_svg_put_text(out, s->name);
    fprintf(out, " (%.2f)</text>\n", tau(s));
}

void ds_eval_put_drawing(FILE *out, const struct ds_eval_result *e) {
    fprintf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n"
                 "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", WIDTH, HEIGHT, WIDTH, HEIGHT);
    for (int i = 0; i <= 4; i++)
        fprintf(out, "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", LEFT,
                WIDTH - RIGHT, y_of(i / 4.0), y_of(i / 4.0), LEFT - 6, y_of(i / 4.0) + 4, i / 4.0);
    for (uint32_t k = 0; k <= e->info.block_size; k++)
        fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%" PRIu32 "</text>\n", x_of(e, k), HEIGHT - BOTTOM + 16, k);
    fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">share of rounds that accept so many drafts or more</text>\n", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8);
    for (size_t i = 0; i < e->n_sets; i++) put_set(out, e, i);
    fputs("</svg>\n", out);
}
