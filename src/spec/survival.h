/*
 * From what a drafter says about itself to the probability that a draft is accepted.
 *
 *   calibration   one temperature a slot, fitted offline (STS; docs/speculation.md, section 5): c_k = sigmoid(logit_k / T_k)
 *   reliability   what the outcomes of this engine's own rounds add: z_k = slope * log-odds(c_k) + shift_k, followed by Newton steps of a
 *                 logistic regression with a normal prior around 1 and 0, and slowly forgotten evidence. A confidence head was trained to be
 *                 believed, and its slope stays 1. A drafter without one speaks by its own greatest probability (DS_OP_max_prob), which was
 *                 trained to something else: at temperature 0 it is right more often than it says, at 1 its word is worth less than half as
 *                 much. Where nothing can be learned from it the slope goes to 0, and the shifts are the slots' rates.
 *
 * Pure; no libm: sigmoid and log are numerics.h's.
 */
#ifndef DSPARK_SPEC_SURVIVAL_H
#define DSPARK_SPEC_SURVIVAL_H

#include <stdbool.h>
#include <stdint.h>

enum { DS_MAX_BLOCK = 64 };

/* c_k of all slots from what the drafter says of them: a head's outputs, or log-odds of its own. `temperature` NULL: all 1. A NaN gives 0. */
void ds_confidence(const float *logits, const float *temperature, uint32_t n, float *confidence);

/* ds_reliability_start makes the beginning. */
struct ds_reliability {
    double prior;  /* evidence that the confidences are right as they are: 1 / variance of a shift */
    double memory; /* what a round leaves of the evidence before it: 0.98, about 50 rounds */
    double slope, slope_evidence;
    bool learns_slope;
    double shift[DS_MAX_BLOCK], evidence[DS_MAX_BLOCK]; /* log-odds */
};

/* How sure the beginning is: a calibrated head, a head alone, a drafter's own probability. */
enum ds_confidence_source { DS_CONFIDENCE_CALIBRATED, DS_CONFIDENCE_HEAD, DS_CONFIDENCE_OWN };
void ds_reliability_start(struct ds_reliability *reliability, enum ds_confidence_source source);

/* survival[j] = product of sigmoid(z_k) up to j. */
void ds_reliability_survival(const struct ds_reliability *reliability, const float *confidence, uint32_t n, double *survival);

/*
 * Learns from one block: drafts 1..known were compared with the target's tokens, the first `accepted` of them equal. Slots behind
 * the first rejection were drafted behind a wrong token and teach nothing. Slots beyond `known` become like the one in front of them.
 */
void ds_reliability_observe(struct ds_reliability *reliability, const float *confidence, uint32_t known, uint32_t accepted);

#endif
