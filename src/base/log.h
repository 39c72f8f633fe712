/* Messages for people who watch a run. A library never prints by itself: without a user's function nothing is shown. */
#ifndef DSPARK_BASE_LOG_H
#define DSPARK_BASE_LOG_H

#include "base/status.h"

/* Value type; copied into whatever logs. Thread-safe as far as the user's function is (dspark.h asks for it). */
struct ds_log {
    ds_log_fn fn; /* NULL: silent */
    void *user;
    ds_log_level level; /* messages less important than this are not formatted */
};

void ds_logf(const struct ds_log *log, ds_log_level level, const char *format, ...) DS_PRINTF(3, 4);

#endif
