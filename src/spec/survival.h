/*
 * From what a drafter says about itself to the probability that a draft is accepted.
 *
 *   calibration   one temperature a slot, fitted offline (STS; docs/speculation.md, section 5): c_k = sigmoid(logit_k / T_k)
 *   reliability   what the outcomes of this engine's own rounds add: a shift b_k of the log-odds of each slot, followed by
 *                 Newton steps of a logistic regression with a normal prior around 0 and slowly forgotten evidence. A drafter
 *                 without a confidence head starts from one constant, and the shift is its whole estimate.
 *
 * Pure; no libm: sigmoid and log are numerics.h's.
 */
#ifndef DSPARK_SPEC_SURVIVAL_H
#define DSPARK_SPEC_SURVIVAL_H

#include <stdbool.h>
#include <stdint.h>

enum { DS_MAX_BLOCK = 64 };

/* c_k of all slots from the head's outputs. `temperature` NULL: all 1. A NaN gives 0. */
void ds_confidence(const float *logits, const float *temperature, uint32_t n, float *confidence);

/* Log-odds shifts and the evidence behind each; a zeroed struct with `prior` set is the beginning. */
struct ds_reliability {
    double prior; /* evidence that the confidences are right as they are: 1 / variance of the shift */
    double shift[DS_MAX_BLOCK], evidence[DS_MAX_BLOCK];
};

/* How sure the beginning is: a calibrated head, a head alone, no head. */
enum ds_confidence_source { DS_CONFIDENCE_CALIBRATED, DS_CONFIDENCE_HEAD, DS_CONFIDENCE_NONE };
void ds_reliability_start(struct ds_reliability *reliability, enum ds_confidence_source source);
/* What a drafter without a head says of each draft, to begin with. */
#define DS_CONFIDENCE_UNKNOWN 0.6f

/* survival[j] = product of the shifted confidences up to j. */
void ds_reliability_survival(const struct ds_reliability *reliability, const float *confidence, uint32_t n, double *survival);

/*
 * Learns from one block: drafts 1..known were compared with the target's tokens, the first `accepted` of them equal. Slots behind
 * the first rejection were drafted behind a wrong token and teach nothing. Slots beyond `known` become like the one in front of them.
 */
void ds_reliability_observe(struct ds_reliability *reliability, const float *confidence, uint32_t known, uint32_t accepted);

#endif
