#include "spec/sts.h"

#include <math.h>
#include <stdlib.h>

struct forecast {
    double probability;
    bool accepted;
};

/* Draft k's fate is known where it was verified, and where one before it was rejected. */
static bool fate_is_known(const struct ds_outcome *o, uint32_t k) { return k < o->slots && (k < o->known || o->accepted < o->known); }

static double confidence(const struct ds_outcome *o, uint32_t k, const float *temperature) {
    float c;
    ds_confidence(&o->logits[k], temperature ? &temperature[k] : NULL, 1, &c);
    return (double)c;
}

/* --- expected calibration error --- */

struct bins {
    double forecast[DS_RELIABILITY_BINS], accepted[DS_RELIABILITY_BINS];
    uint32_t samples[DS_RELIABILITY_BINS];
};

static void add(struct bins *bins, double probability, bool accepted) {
    const uint32_t b = DS_MIN((uint32_t)(probability * DS_RELIABILITY_BINS), (uint32_t)DS_RELIABILITY_BINS - 1);
    bins->forecast[b] += probability;
    bins->accepted[b] += accepted;
    bins->samples[b]++;
}

static double ece(const struct bins *bins) {
    double sum = 0;
    uint32_t samples = 0;
    for (int b = 0; b < DS_RELIABILITY_BINS; b++) {
        sum += fabs(bins->forecast[b] - bins->accepted[b]);
        samples += bins->samples[b];
    }
    return samples ? sum / samples : 0;
}

/* The mean absolute deviation of each bin's share of accepted drafts from its chance (normal approximation). */
static double ece_by_chance(const struct bins *bins) {
    double sum = 0;
    uint32_t samples = 0;
    for (int b = 0; b < DS_RELIABILITY_BINS; b++) {
        const double n = bins->samples[b], p = n > 0 ? bins->forecast[b] / n : 0;
        sum += sqrt(2 / 3.14159265358979 * n * p * (1 - p));
        samples += bins->samples[b];
    }
    return samples ? sum / samples : 0;
}

/* --- fitting --- */

static double error_at(const struct ds_outcome *outcomes, size_t n, uint32_t k, float temperature, const double *before) {
    struct bins bins = {.samples = {0}};
    for (size_t i = 0; i < n; i++) {
        float c;
        if (!fate_is_known(&outcomes[i], k)) continue;
        ds_confidence(&outcomes[i].logits[k], &temperature, 1, &c);
        add(&bins, before[i] * (double)c, outcomes[i].accepted > k);
    }
    return ece(&bins);
}

/* Steps from 1 outwards, so that of equals the nearest to 1 is kept. */
static float best_temperature(const struct ds_outcome *outcomes, size_t n, uint32_t k, const double *before) {
    static const float step = 1.04f;
    float best = 1, up = 1;
    double least = error_at(outcomes, n, k, 1, before);
    for (up = step; up < 8; up *= step) {
        const float pair[] = {up, 1 / up};
        for (int i = 0; i < 2; i++) {
            const double error = error_at(outcomes, n, k, pair[i], before);
            if (!(error < least - 1e-12)) continue;
            least = error;
            best = pair[i];
        }
    }
    return best;
}

ds_status ds_sts_fit(const struct ds_outcome *outcomes, size_t n, uint32_t slots, float *temperature, struct ds_error *err) {
    double *before = malloc(DS_MAX(n, 1) * sizeof *before); /* products up to the slot in front */
    if (!before) return ds_fail_memory(err, n * sizeof *before, "the survival of drafts");
    for (size_t i = 0; i < n; i++) before[i] = 1;
    for (uint32_t k = 0; k < slots; k++) {
        temperature[k] = best_temperature(outcomes, n, k, before);
        for (size_t i = 0; i < n; i++)
            if (k < outcomes[i].slots) before[i] *= confidence(&outcomes[i], k, temperature);
    }
    free(before);
    return DS_OK;
}

/* --- quality --- */

static int by_probability(const void *a, const void *b) {
    const double x = ((const struct forecast *)a)->probability, y = ((const struct forecast *)b)->probability;
    return (x > y) - (x < y);
}

/* The rank sum; ties count half. */
static double auc(struct forecast *list, size_t n) {
    double ranks = 0, accepted = 0;
    qsort(list, n, sizeof *list, by_probability);
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n && list[end].probability == list[i].probability) end++;
        for (size_t j = i; j < end; j++) {
            if (!list[j].accepted) continue;
            ranks += (double)(i + end + 1) / 2;
            accepted++;
        }
        i = end;
    }
    const double pairs = accepted * ((double)n - accepted);
    return pairs > 0 ? (ranks - accepted * (accepted + 1) / 2) / pairs : NAN;
}

static struct ds_slot_quality quality_of(struct forecast *list, size_t n, struct bins *bins) {
    struct ds_slot_quality q = {.samples = (uint32_t)n};
    *bins = (struct bins){.samples = {0}};
    for (size_t i = 0; i < n; i++) {
        add(bins, list[i].probability, list[i].accepted);
        q.forecast += list[i].probability / (double)n;
        q.observed += list[i].accepted / (double)n;
    }
    q.ece = ece(bins);
    q.ece_chance = ece_by_chance(bins);
    q.auc = auc(list, n);
    return q;
}

ds_status ds_sts_quality(const struct ds_outcome *outcomes, size_t n, uint32_t slots, const float *temperature, struct ds_quality *out,
                         struct ds_error *err) {
    const size_t most = DS_MAX(n * slots, 1);
    *out = (struct ds_quality){.slots = slots};
    struct forecast *list = malloc(most * sizeof *list), *all = malloc(most * sizeof *all);
    size_t n_all = 0;
    struct bins bins;
    for (uint32_t k = 0; list && all && k < slots; k++) {
        size_t count = 0;
        for (size_t i = 0; i < n; i++) {
            if (!fate_is_known(&outcomes[i], k)) continue;
            double product = 1;
            for (uint32_t j = 0; j <= k; j++) product *= confidence(&outcomes[i], j, temperature);
            list[count++] = all[n_all++] = (struct forecast){product, outcomes[i].accepted > k};
        }
        out->slot[k] = quality_of(list, count, &bins);
    }
    if (list && all) out->all = quality_of(all, n_all, &bins);
    for (int b = 0; list && all && b < DS_RELIABILITY_BINS; b++) {
        if (!bins.samples[b]) continue;
        out->bins[b] = (struct ds_reliability_bin){bins.samples[b], bins.forecast[b] / bins.samples[b], bins.accepted[b] / bins.samples[b]};
    }
    const bool memory = list && all;
    free(all);
    free(list);
    return memory ? DS_OK : ds_fail_memory(err, most * sizeof *list, "the survival of drafts");
}
