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
    static const double priors[] = {[DS_CONFIDENCE_CALIBRATED] = 4, [DS_CONFIDENCE_HEAD] = 1, [DS_CONFIDENCE_NONE] = 0.5};
    *r = (struct ds_reliability){.prior = priors[source]};
}

/* Neither 0 nor 1: log-odds stay finite, and an outcome can always be a surprise. */
static float open_interval(float c) { return DS_MAX(DS_MIN(c, 0.999f), 0.001f); }

static double shifted(const struct ds_reliability *r, float confidence, uint32_t k) {
    const float c = open_interval(confidence);
    const float odds = ds_log(ds_div(c, 1.0f - c));
    return (double)ds_sigmoid(odds + (float)r->shift[k]);
}

void ds_reliability_survival(const struct ds_reliability *r, const float *confidence, uint32_t n, double *survival) {
    double product = 1;
    for (uint32_t k = 0; k < n; k++) survival[k] = product *= shifted(r, confidence[k], k);
}

void ds_reliability_observe(struct ds_reliability *r, const float *confidence, uint32_t known, uint32_t accepted) {
    static const double keep = 0.98, most = 14; /* evidence of about 50 rounds; log-odds */
    for (uint32_t k = 0; k < known && k <= accepted; k++) {
        const double c = shifted(r, confidence[k], k), outcome = k < accepted;
        r->evidence[k] = keep * r->evidence[k] + c * (1 - c);
        r->shift[k] += (outcome - c) / (r->evidence[k] + r->prior);
        r->shift[k] = DS_MAX(DS_MIN(r->shift[k], most), -most);
    }
    /* A slot that is not tried is thought of more and more like the one in front of it: bad luck of long ago should not keep it out for ever. */
    for (uint32_t k = DS_MAX(known, 1); k < DS_MAX_BLOCK; k++) {
        r->evidence[k] *= keep;
        r->shift[k] += (1 - keep) * (r->shift[k - 1] - r->shift[k]);
    }
}
