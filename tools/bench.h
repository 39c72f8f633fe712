/* The parts of `dspark bench`: what is measured (bench_measure.c), and how it is told (bench_report.c, bench_svg.c). */
#ifndef DSPARK_TOOLS_BENCH_H
#define DSPARK_TOOLS_BENCH_H

#include "cli_engine.h"
#include "dspark_dev.h"
#include "svg_file.h"

enum { DS_BENCH_MOST_ROWS = 16, DS_BENCH_PREFILL = 512, DS_BENCH_CONTEXT = 1024 };

/* A set of row counts: 1 is always measured, because t(w) is told against it. */
struct ds_bench_widths {
    bool wanted[DS_BENCH_MOST_ROWS + 1];
};

struct ds_bench_plan {
    uint32_t context;  /* positions in front of a measured pass */
    uint32_t prefill;  /* rows of the measured prefill */
    uint32_t tokens;   /* generated for each prompt at most */
    uint32_t repeats;  /* of each pass; the median counts */
    bool last_logits;  /* passes compute logits of their last row only */
    struct ds_bench_widths widths;
};

/* Times in seconds, rates a second; NAN: not measured. */
struct ds_bench_result {
    ds_dev_roofline limits; /* isa NULL: this device has none */
    double pass[DS_BENCH_MOST_ROWS + 1]; /* [w], NAN for those not wanted */
    double draft;
    double prefill_rate, decode_rate, spec_rate, tau;
    double load, placing; /* all of it, and of that the weights' way to where they are used */
    uint64_t placed_bytes; /* in the files; 0: they are used where they lie */
    uint64_t load_peak;    /* bytes, as peak_rss, when the weights were in place */
    uint64_t peak_rss; /* bytes, of loading and working, the measurement of the limits apart; 0: unknown */
    uint32_t profiled_rows[2]; /* 1 and the most rows; 0: none */
    ds_dev_profile profiles[2];
};

/* Least time of a pass of w rows by the limits of the machine; NAN where there are none. */
double ds_bench_least(const struct ds_bench_result *result, uint32_t w);

/* All ops of a pass together. */
double ds_bench_seconds(const ds_dev_profile *profile);

/* Measures all but how the model was loaded, which the caller knows. Explains a failure and returns an exit code, or DS_CLI_GO. */
int ds_bench_measure(ds_engine *engine, const ds_engine_info *info, const struct ds_bench_plan *plan, struct ds_bench_result *out);

struct ds_bench_report {
    const char *model; /* as given */
    const ds_engine_info *info;
    const struct ds_bench_plan *plan;
    const struct ds_bench_result *result;
};
void ds_bench_print_json(const struct ds_bench_report *report);
void ds_bench_print_table(const struct ds_bench_report *report);

/* The drawing of t(w) / t(1) and of the least by the limits, into a file that was opened; nothing where none is wanted. DS_CLI_GO, or an exit code. */
int ds_bench_svg_write(struct ds_svg_file *svg, const struct ds_bench_report *report);

#endif
