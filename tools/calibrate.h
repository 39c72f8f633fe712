/* The parts of `dspark calibrate`: what is collected and fitted (cmd_calibrate.c), and how it is told (calibrate_report.c). */
#ifndef DSPARK_TOOLS_CALIBRATE_H
#define DSPARK_TOOLS_CALIBRATE_H

#include "calibrate_shortlist.h"
#include "cli_engine.h"
#include "dspark_dev.h"
#include "svg_file.h"

enum { DS_CALIBRATE_MOST_SETS = 32 };

struct ds_calibrate_options {
    struct ds_cli_engine engine;
    struct ds_cli_draft draft;
    struct ds_cli_sampling sampling;
    uint32_t tokens, limit;
    bool json, dry;
    const char *svg, *shortlist, *recorded;
};

struct ds_calibrate {
    struct ds_calibrate_options options;
    const char *files[DS_CALIBRATE_MOST_SETS];
    size_t n_files;
    ds_engine *engine;
    ds_engine_info info;
    ds_session *session;
    ds_dev_outcomes *fit, *held; /* of every other prompt: what is fitted to, and what it is judged by */
    float temperatures[DS_DEV_MOST_SLOTS];
    ds_dev_quality before, after;
    ds_dev_costs costs;
    struct ds_svg_file svg;
    struct ds_shortlist shortlist;
    uint32_t listed; /* tokens of the list that is written; 0: none */
    char *path, *list_path;
};

void ds_calibrate_print_table(const struct ds_calibrate *calibrate);
void ds_calibrate_print_json(const struct ds_calibrate *calibrate);
/* Reliability before and after. */
void ds_calibrate_put_diagram(FILE *out, const struct ds_calibrate *calibrate);

#endif
