/* The parts of `dspark eval`: what is measured (cmd_eval.c), and how it is told (eval_report.c). */
#ifndef DSPARK_TOOLS_EVAL_H
#define DSPARK_TOOLS_EVAL_H

#include "cli_engine.h"
#include "dspark_dev.h"

#include <stdio.h>

enum { DS_EVAL_MOST_SETS = 32 };

/* What became of one set. */
struct ds_eval_set {
    char *name;
    size_t prompts, left_out; /* of them, conversations that the context had no room for */
    ds_stats spec, plain;
    uint64_t reached[DS_DEV_MOST_SLOTS], accepted[DS_DEV_MOST_SLOTS]; /* rounds that verified draft k behind accepted ones; that accepted it */
    /* As the reference implementation counts: drafts up to an accepted stop token; rounds with more than k of them; that accepted more than k. */
    uint64_t proposed, proposed_at[DS_DEV_MOST_SLOTS], kept_at[DS_DEV_MOST_SLOTS];
    ds_dev_outcomes *outcomes;
    bool has_quality; /* false: no draft was verified */
    double ece, auc;
};

struct ds_eval_result {
    const char *target, *drafter; /* as given */
    ds_engine_info info;
    float temperature;
    size_t n_sets;
    struct ds_eval_set sets[DS_EVAL_MOST_SETS];
};

void ds_eval_print_table(const struct ds_eval_result *result);
/* The columns of DeepSpec's evaluator: seconds are of prompts and answers, acceptance at a position is of all rounds that proposed so many. */
void ds_eval_print_deepspec(const struct ds_eval_result *result);
void ds_eval_print_json(const struct ds_eval_result *result);
void ds_eval_put_drawing(FILE *out, const struct ds_eval_result *result);

#endif
