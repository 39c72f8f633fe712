#include "bench.h"

#include <math.h>
#include <stdio.h>

/* The drawing, in pixels; the area between the axes is inside the margins. */
enum { WIDTH = 640, HEIGHT = 400, LEFT = 56, RIGHT = 16, TOP = 44, BOTTOM = 48 };

struct axes {
    double most; /* upper end of the vertical axis, which starts at 0 */
};

static double x_of(uint32_t w) {
    return LEFT + (double)(WIDTH - LEFT - RIGHT) * (w - 1) / (DS_BENCH_MOST_ROWS - 1);
}

static double y_of(const struct axes *axes, double ratio) {
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * ratio / axes->most;
}

static double measured(const struct ds_bench_result *result, uint32_t w) {
    return result->pass[w] / result->pass[1];
}

static double lowest(const struct ds_bench_result *result, uint32_t w) {
    return ds_bench_least(result, w) / ds_bench_least(result, 1);
}

/* The axis ends at a whole number. NAN needs no room. */
static void make_room(struct axes *axes, double ratio) {
    while (ratio > axes->most && axes->most < 1000) axes->most += 1;
}

static void put_axes(FILE *out, const struct axes *axes) {
    const double step = axes->most > 40 ? 10 : axes->most > 10 ? 2 : 1;
    for (double ratio = 0; ratio <= axes->most; ratio += step)
        fprintf(out,
                "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>"
                "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n",
                LEFT, WIDTH - RIGHT, y_of(axes, ratio), y_of(axes, ratio), LEFT - 8, y_of(axes, ratio) + 4, ratio);
    for (uint32_t w = 1; w <= DS_BENCH_MOST_ROWS; w++)
        fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%u</text>\n", x_of(w), HEIGHT - BOTTOM + 18, w);
    fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">rows in a pass</text>\n", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10);
}

static void put_curve(FILE *out, const struct axes *axes, const struct ds_bench_result *result, const char *style,
                      double (*value)(const struct ds_bench_result *result, uint32_t w)) {
    fprintf(out, "<polyline class=\"%s\" points=\"", style);
    for (uint32_t w = 1; w <= DS_BENCH_MOST_ROWS; w++)
        if (!isnan(value(result, w))) fprintf(out, "%.1f,%.1f ", x_of(w), y_of(axes, value(result, w)));
    fputs("\"/>\n", out);
}

static void put_drawing(FILE *out, const struct ds_bench_report *report) {
    const struct ds_bench_result *const r = report->result;
    struct axes axes = {.most = 2};
    for (uint32_t w = 1; w <= DS_BENCH_MOST_ROWS; w++) {
        make_room(&axes, measured(r, w));
        make_room(&axes, lowest(r, w));
    }
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n"
            "<style>.grid{stroke:#ddd}.measured,.floor{fill:none;stroke-width:2}.measured{stroke:#06c}"
            ".floor{stroke:#c60;stroke-dasharray:5 4}</style>\n"
            "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n<text x=\"%d\" y=\"18\">",
            WIDTH, HEIGHT, WIDTH, HEIGHT, LEFT);
    ds_svg_put_text(out, report->model);
    fprintf(out, ", %s, %u threads, behind %u positions</text>\n", report->info->device, report->info->threads, report->plan->context);
    fprintf(out, "<text x=\"%d\" y=\"34\" fill=\"#06c\">time of a pass / time of one row</text>\n", LEFT);
    if (r->limits.isa)
        fprintf(out, "<text x=\"%d\" y=\"34\" fill=\"#c60\">the same by the limits of this machine</text>\n", LEFT + 240);
    put_axes(out, &axes);
    if (r->limits.isa) put_curve(out, &axes, r, "floor", lowest);
    put_curve(out, &axes, r, "measured", measured);
    for (uint32_t w = 1; w <= DS_BENCH_MOST_ROWS; w++)
        if (!isnan(r->pass[w]))
            fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"#06c\"><title>%u rows: %.3f ms, %.2f</title></circle>\n", x_of(w),
                    y_of(&axes, measured(r, w)), w, r->pass[w] * 1e3, measured(r, w));
    fputs("</svg>\n", out);
}

int ds_bench_svg_write(struct ds_svg_file *svg, const struct ds_bench_report *report) {
    if (svg->out) put_drawing(svg->out, report);
    return ds_svg_commit(svg);
}
