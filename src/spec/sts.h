/*
 * Sequential temperature scaling: the DSpark paper's calibration of confidences (docs/speculation.md, section 5), and what is said about
 * its quality. From rounds (their confidences' logits, how many drafts were accepted) to one temperature a slot. Only confidences and outcomes
 * are looked at, never tokens.
 */
#ifndef DSPARK_SPEC_STS_H
#define DSPARK_SPEC_STS_H

#include "base/status.h"
#include "spec/survival.h"

/* One drafted block and what became of it. */
struct ds_outcome {
    uint32_t slots;    /* drafts with a confidence */
    uint32_t known;    /* of these were verified */
    uint32_t accepted; /* of these were accepted */
    float logits[DS_MAX_BLOCK];
};

/* Quality of the survival up to one slot, as a forecast of "this draft and all before it are accepted". */
struct ds_slot_quality {
    uint32_t samples;
    double forecast, observed; /* means */
    double ece;                /* expected calibration error: 15 bins of equal width, weighted by their samples */
    double ece_chance;         /* what a forecast without any error would show with so many samples, if they were independent */
    double auc;                /* chance that an accepted one was forecast higher than a rejected one; NaN where there is only one kind */
};

enum { DS_RELIABILITY_BINS = 15 };
/* A bin of the reliability diagram, over all slots. */
struct ds_reliability_bin {
    uint32_t samples;
    double forecast, observed; /* means; 0 without samples */
};

struct ds_quality {
    uint32_t slots;
    struct ds_slot_quality slot[DS_MAX_BLOCK], all; /* all: every slot's forecasts together */
    struct ds_reliability_bin bins[DS_RELIABILITY_BINS];
};

/*
 * For k = 1..slots in order the temperature T_k of sigmoid(logit_k / T_k) that minimises the expected calibration error of the
 * product up to k, the earlier ones being fixed: a search over a grid from 1/8 to 8, each step 4 %, of equals the one nearest to 1. A slot
 * without outcomes keeps 1. DS_ERROR_MEMORY.
 */
ds_status ds_sts_fit(const struct ds_outcome *outcomes, size_t n, uint32_t slots, float *temperature, struct ds_error *err);

/* `temperature` NULL: all 1. DS_ERROR_MEMORY. */
ds_status ds_sts_quality(const struct ds_outcome *outcomes, size_t n, uint32_t slots, const float *temperature, struct ds_quality *out,
                         struct ds_error *err);

#endif
