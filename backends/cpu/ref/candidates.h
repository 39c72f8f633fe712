/* The tokens of a row that may be drawn, and their masses: what `sample` and `reject` start from (sample.c says what it means). */
#ifndef DSPARK_CPU_REF_CANDIDATES_H
#define DSPARK_CPU_REF_CANDIDATES_H

#include "ref/ref.h"

struct ds_candidate {
    uint32_t id;
    float x, t; /* logit with bias; (x - max x) * inverse_temperature */
    uint64_t w;
};

/* Every token that the bias (NULL: none) does not forbid, x alone. 0 with a flag raised: there is none, or a logit is not finite. */
uint32_t ds_ref_candidates(const float *logits, uint32_t n, const float *bias, struct ds_candidate *list, uint32_t *flags);
/* Fills in t and w and keeps what the filters keep, in any order. */
uint32_t ds_ref_filter(struct ds_candidate *list, uint32_t n, const struct ds_sample_row *how);
const struct ds_candidate *ds_ref_largest(const struct ds_candidate *list, uint32_t n);

#endif
