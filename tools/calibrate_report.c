#include "calibrate.h"

#include "cli_json.h"
#include "record.h"

#include <inttypes.h>
#include <math.h>

static void print_row(const char *name, const ds_dev_slot_quality *before, const ds_dev_slot_quality *after, double temperature) {
    if (isnan(temperature)) printf("%-5s%12s", name, "");
    else printf("%-5s%12.3f", name, temperature);
    printf("%10" PRIu64 "%10.3f%9.2f %%%9.2f %%%8.2f %%%9.3f%9.3f\n", after->samples, after->observed, 100 * before->ece, 100 * after->ece,
           100 * after->ece_chance, before->auc, after->auc);
}

/* How often the k-th draft and all before it were accepted in what was held out. What is recorded says it of drafts that were verified alone. */
static double accepted(const struct ds_calibrate *c, uint32_t k) { return c->before.slot[k].observed; }

/* What a round of l verified drafts costs and gives, by the acceptance seen in what was held out. */
static void print_costs(const struct ds_calibrate *c) {
    const ds_dev_costs *const k = &c->costs;
    if (!k->rows) return;
    double tokens = 1, best = 1;
    uint32_t length = 0;
    printf("\nCosts behind %" PRIu32 " positions%s:\n\n%-8s%12s%12s%14s%12s\n", k->context, k->spread > 1.25 ? " (the machine was busy: measure again)" : "",
           "drafts", "verify ms", "draft ms", "tokens/round", "speed-up");
    printf("%-8d%12.3f%12s%14.2f%12.2f\n", 0, 1e3 * k->pass[1], "", 1.0, 1.0);
    for (uint32_t l = 1; l < k->rows; l++) {
        tokens += accepted(c, l - 1);
        const double speed = tokens / (k->pass[1 + l] + k->draft[l] + k->feed[1]) * k->pass[1];
        printf("%-8" PRIu32 "%12.3f%12.3f%14.2f%12.2f\n", l, 1e3 * k->pass[1 + l], 1e3 * k->draft[l], tokens, speed);
        if (!(speed > best)) continue;
        best = speed;
        length = l;
    }
    if (length) printf("\n`auto` will draft: %" PRIu32 " at a time would be %.2f times as fast as none, and it chooses anew each round.\n", length, best);
    else printf("\n`auto` will hardly draft: on the average no length pays here. It looks for stretches of text where one does.\n");
}

static void print_shortlist(const struct ds_calibrate *c) {
    const struct ds_shortlist *const l = &c->shortlist;
    if (!c->options.shortlist) return;
    printf("\n%-12s%14s%12s%12s   (whole blocks, prompts held out; %.3f of %.3f ms grow with the vocabulary)\n", "tokens", "tokens/round", "draft ms", "speed",
           1e3 * l->grows, 1e3 * l->draft);
    for (uint32_t i = 0; i < l->n_sizes; i++)
        printf("%-12" PRIu32 "%14.2f%12.3f%12.3f\n", l->sizes[i].size, l->sizes[i].tau, 1e3 * l->sizes[i].draft, l->sizes[i].speed);
    if (!c->listed) printf("\nNo list gains one part in a hundred: none is written.\n");
    if (c->list_path) printf("\n%" PRIu32 " tokens written to %s\n", c->listed, c->list_path);
}

static void print_quality(const struct ds_calibrate *c) {
    printf("%zu rounds fitted, %zu held out. Confidences come from %s. Survival up to each slot, on what was held out:\n\n", ds_dev_outcomes_count(c->fit),
           ds_dev_outcomes_count(c->held), ds_record_source(c->held));
    printf("%-5s%12s%10s%10s%11s%11s%10s%9s%9s\n", "slot", "temperature", "samples", "accepted", "ECE before", "after", "(chance)", "AUC", "after");
    for (uint32_t k = 0; k < c->after.slots; k++) {
        char name[16];
        snprintf(name, sizeof name, "%" PRIu32, k + 1);
        print_row(name, &c->before.slot[k], &c->after.slot[k], (double)c->temperatures[k]);
    }
    print_row("all", &c->before.all, &c->after.all, NAN);
    puts("\n(chance): the error that a forecast without any would show with so few samples");
}

void ds_calibrate_print_table(const struct ds_calibrate *c) {
    print_quality(c);
    print_costs(c);
    print_shortlist(c);
    if (c->path) printf("\nTemperatures written to %s\n", c->path);
    if (!ds_dev_outcomes_from_head(c->fit))
        printf("\nNo temperatures are written: `auto` learns from outcomes how far this drafter's own probability can be believed, and shifts it, which they cannot.\n");
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

static void json_shortlist(const struct ds_calibrate *c) {
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

void ds_calibrate_print_json(const struct ds_calibrate *c) {
    printf("{\"rounds\": %zu, \"held_out\": %zu, \"confidences\": \"%s\", \"temperatures\": [", ds_dev_outcomes_count(c->fit), ds_dev_outcomes_count(c->held),
           ds_dev_outcomes_from_head(c->held) ? "head" : "probability");
    for (uint32_t k = 0; k < c->after.slots; k++) {
        if (k) printf(", ");
        ds_cli_json_float(stdout, c->temperatures[k]);
    }
    putchar(']');
    json_quality("before", &c->before);
    json_quality("after", &c->after);
    printf(", \"accepted\": [");
    for (uint32_t k = 0; k < c->info.block_size; k++) {
        if (k) printf(", ");
        ds_cli_json_double(stdout, accepted(c, k));
    }
    putchar(']');
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

void ds_calibrate_put_diagram(FILE *out, const struct ds_calibrate *c) {
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
