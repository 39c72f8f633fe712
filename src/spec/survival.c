#include "spec/survival.h"

#include "base/status.h"
#include "ops/numerics.h"

void ds_confidence(const float *logits, const float *temperature, uint32_t n, float *confidence) {
    for (uint32_t k = 0; k < n; k++) {
        const float x = temperature ? ds_div(logits[k], temperature[k]) : logits[k];
        confidence[k] = ds_is_nan(x) ? 0.0f : ds_sigmoid(x);
    }
}

void ds_reliability_start(struct ds_reliability *r, enum ds_confidence_source source) {
    static const double priors[] = {[DS_CONFIDENCE_CALIBRATED] = 4, [DS_CONFIDENCE_HEAD] = 1, [DS_CONFIDENCE_OWN] = 0.5};
    static const double memories[] = {[DS_CONFIDENCE_CALIBRATED] = 0.98, [DS_CONFIDENCE_HEAD] = 0.98, [DS_CONFIDENCE_OWN] = 0.99};
    *r = (struct ds_reliability){.prior = priors[source], .memory = memories[source], .slope = 1, .learns_slope = source == DS_CONFIDENCE_OWN};
}

/* Neither 0 nor 1: log-odds stay finite, and an outcome can always be a surprise. */
static float log_odds(float confidence) {
    const float c = DS_MAX(DS_MIN(confidence, 0.999f), 0.001f);
    return ds_log(ds_div(c, 1.0f - c));
}

static double believed(const struct ds_reliability *r, float odds, uint32_t k) { return (double)ds_sigmoid((float)(r->slope * (double)odds + r->shift[k])); }

void ds_reliability_survival(const struct ds_reliability *r, const float *confidence, uint32_t n, double *survival) {
    double product = 1;
    for (uint32_t k = 0; k < n; k++) survival[k] = product *= believed(r, log_odds(confidence[k]), k);
}

/* A Newton step of the logistic regression, the evidence being what the likelihood's second derivative has come to. */
static void learn(struct ds_reliability *r, float odds, uint32_t k, bool accepted) {
    static const double most = 14, keep_slope = 0.995, slope_prior = 10, steepest = 4; /* the slope's memory: 200 drafts of whatever slot */
    const double c = believed(r, odds, k), error = accepted - c, weight = c * (1 - c);
    r->evidence[k] = r->memory * r->evidence[k] + weight;
    r->shift[k] = DS_MAX(DS_MIN(r->shift[k] + error / (r->evidence[k] + r->prior), most), -most);
    if (!r->learns_slope) return;
    r->slope_evidence = keep_slope * r->slope_evidence + weight * (double)odds * (double)odds;
    r->slope = DS_MAX(DS_MIN(r->slope + error * (double)odds / (r->slope_evidence + slope_prior), steepest), 0);
}

void ds_reliability_observe(struct ds_reliability *r, const float *confidence, uint32_t known, uint32_t accepted) {
    static const double untried = 0.98;
    for (uint32_t k = 0; k < known && k <= accepted; k++) learn(r, log_odds(confidence[k]), k, k < accepted);
    /* A slot that is not tried is thought of more and more like the one in front of it: bad luck of long ago should not keep it out for ever. */
    for (uint32_t k = DS_MAX(known, 1); k < DS_MAX_BLOCK; k++) {
        r->evidence[k] *= untried;
        r->shift[k] += (1 - untried) * (r->shift[k - 1] - r->shift[k]);
    }
}
