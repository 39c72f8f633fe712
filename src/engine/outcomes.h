/* What rounds said of their drafts and what became of these: collected, kept in files, and what calibration.c fits to. */
#ifndef DSPARK_ENGINE_OUTCOMES_H
#define DSPARK_ENGINE_OUTCOMES_H

#include "dspark_dev.h"
#include "spec/sts.h"

struct ds_dev_outcomes {
    uint64_t drafter; /* its fingerprint: of its tensors, so of a head among them, too */
    bool from_head;   /* the logits are a head's output; else of the probability of the drafter's own drafts */
    uint32_t slots;
    struct ds_outcome *list;
    size_t count, capacity;
    bool out_of_memory;
};

/* DS_ERROR_MEMORY when some could not be kept. */
ds_status ds_outcomes_complete(const ds_dev_outcomes *outcomes, struct ds_error *err);

#endif
