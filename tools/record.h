/*
 * --record: confidences of the drafts of an answer or a conversation and what became of them, kept for `dspark calibrate --recorded`.
 * A zeroed struct is "nothing is recorded".
 */
#ifndef DSPARK_TOOLS_RECORD_H
#define DSPARK_TOOLS_RECORD_H

#include "dspark_dev.h"

struct ds_record {
    const char *path;
    ds_dev_outcomes *outcomes;
};

#define DS_RECORD_HELP "appends to FILE how sure the drafter was of its drafts and which were accepted, for `dspark calibrate --recorded`; no text, no tokens"

/* `path` NULL: none. Before anything is computed: can it be written? These explain a failure and return DS_CLI_GO or an exit code. */
int ds_record_open(struct ds_record *record, const char *path);
/* The engine has its drafter. */
int ds_record_begin(struct ds_record *record, const ds_engine *engine);
/* A ds_round_fn. */
void ds_record_round(void *user, const ds_round *round);
/* Writes what was recorded; false, explained, when that failed. Nothing when there is nothing. */
bool ds_record_close(struct ds_record *record);

/* Where their confidences come from, in words. */
const char *ds_record_source(const ds_dev_outcomes *outcomes);

#endif
