/* What `dspark run` tells beside the text: the JSON object, the statistics for people, the log of rounds. */
#ifndef DSPARK_TOOLS_RUN_REPORT_H
#define DSPARK_TOOLS_RUN_REPORT_H

#include "cli_answer.h"

#include <stdio.h>

/* Log-probabilities of the answer's tokens. Zero the struct to start; `entries` is freed with free(). */
struct ds_run_logprobs {
    struct ds_run_logprob {
        ds_token_logprob chosen, top[20];
    } *entries;
    size_t count, capacity, n_top;
    bool out_of_memory;
};
void ds_run_logprobs_add(void *user, const ds_token_logprob *chosen, const ds_token_logprob *top, size_t n_top); /* a ds_logprobs_fn */

struct ds_run_report {
    const ds_engine_info *info;
    const struct ds_cli_answer *answer;
    size_t prompt_tokens;
    ds_stop stop;
    uint64_t seed;
    bool seed_drawn; /* nobody gave it: the user must be told */
    double load_seconds;
    ds_stats stats;
    const struct ds_run_logprobs *logprobs; /* NULL: nobody asked for them */
};
void ds_run_report_json(const struct ds_run_report *report);  /* one object on stdout */
void ds_run_report_stats(const struct ds_run_report *report); /* lines on stderr */

/* The log of rounds. A zeroed struct is "none". */
struct ds_run_trace {
    const char *path;
    FILE *file;
    int error; /* errno of the first write that failed; 0: none */
};
/* `path` NULL: none. Explains a failure and returns DS_CLI_GO or an exit code. */
int ds_run_trace_open(struct ds_run_trace *trace, const char *path);
/* A ds_round_fn. */
void ds_run_trace_round(void *user, const ds_round *round);
/* False, explained, when something could not be written. */
bool ds_run_trace_close(struct ds_run_trace *trace);

#endif
