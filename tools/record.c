#include "record.h"

#include "cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int ds_record_open(struct ds_record *record, const char *path) {
    if (!path) return DS_CLI_GO;
    FILE *const file = fopen(path, "ab");
    if (!file) return ds_cli_failf("--record: cannot write %s: %s", path, strerror(errno));
    fclose(file);
    record->path = path;
    return DS_CLI_GO;
}

int ds_record_begin(struct ds_record *record, const ds_engine *engine) {
    struct ds_error err;
    if (!record->path || ds_dev_outcomes_create(engine, &record->outcomes, &err) == DS_OK) return DS_CLI_GO;
    return err.status == DS_ERROR_UNSUPPORTED ? ds_cli_failf("--record: %s", err.message) : ds_cli_fail(&err);
}

void ds_record_round(void *user, const ds_round *round) {
    struct ds_record *const record = user;
    if (record->outcomes) ds_dev_outcomes_add(record->outcomes, round);
}

const char *ds_record_source(const ds_dev_outcomes *outcomes) {
    return ds_dev_outcomes_from_head(outcomes) ? "the drafter's confidence head" : "the probability that the drafter gives its own drafts";
}

bool ds_record_close(struct ds_record *record) {
    struct ds_error err;
    const bool good = !record->outcomes || ds_dev_outcomes_save(record->outcomes, record->path, &err) == DS_OK;
    ds_dev_outcomes_destroy(record->outcomes);
    *record = (struct ds_record){0};
    if (!good) ds_cli_fail(&err);
    return good;
}
