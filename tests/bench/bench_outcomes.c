/*
 * How well is each draft's fate foreseen while running? Recorded rounds (docs/formats.md, Outcomes) are gone through in order by estimators that see
 * a round's confidences, say what they expect, and are then told what became of it, as a session's are:
 *
 *     rates    a shift for each slot and no confidences: what drafters without a head had before their own probabilities were known
 *     shift    the confidences, with a shift for each slot
 *     slope    with a slope, too
 *
 * Printed is the mean log loss of drafts whose predecessors were accepted, in nats, each file beginning anew.
 *
 *     bench_outcomes TARGET DRAFTER FILE.jsonl...
 */
#include "dspark_dev.h"

#include "engine/outcomes.h"
#include "spec/survival.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static struct ds_error err;
static void must(ds_status status) {
    if (status == DS_OK) return;
    fprintf(stderr, "bench_outcomes: %s\n", err.message);
    exit(1);
}

enum way { RATES, SHIFT, SLOPE, WAYS };

/* Once the estimator has survival of k drafts, it believes that of k given k - 1. */
static double loss_of(struct ds_reliability *r, const struct ds_outcome *o, bool confidences, double *drafts) {
    float confidence[DS_MAX_BLOCK];
    double survival[DS_MAX_BLOCK], loss = 0;
    ds_confidence(o->logits, NULL, o->slots, confidence);
    for (uint32_t k = 0; k < o->slots && !confidences; k++) confidence[k] = 0.6f;
    ds_reliability_survival(r, confidence, o->slots, survival);
    for (uint32_t k = 0; k < o->known && k <= o->accepted; k++) {
        const double p = fmin(fmax(survival[k] / (k ? survival[k - 1] : 1), 1e-3), 1 - 1e-3);
        loss -= log(k < o->accepted ? p : 1 - p);
        *drafts += 1;
    }
    ds_reliability_observe(r, confidence, o->known, o->accepted);
    return loss;
}

static void judge(const ds_engine *engine, const char *path) {
    ds_dev_outcomes *all;
    must(ds_dev_outcomes_create(engine, &all, &err));
    must(ds_dev_outcomes_load(all, all, path, &err));
    double loss[WAYS] = {0}, drafts = 0;
    for (int way = RATES; way < WAYS; way++) {
        struct ds_reliability r;
        ds_reliability_start(&r, DS_CONFIDENCE_OWN);
        r.learns_slope = way == SLOPE;
        drafts = 0;
        for (size_t i = 0; i < all->count; i++) loss[way] += loss_of(&r, &all->list[i], way != RATES, &drafts);
    }
    printf("| %s | %.0f | %.3f | %.3f | %.3f |\n", path, drafts, loss[RATES] / drafts, loss[SHIFT] / drafts, loss[SLOPE] / drafts);
    ds_dev_outcomes_destroy(all);
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "Usage: bench_outcomes TARGET DRAFTER FILE.jsonl...\n");
        return 2;
    }
    ds_engine_params params = ds_engine_defaults();
    params.target = argv[1];
    params.drafter = argv[2];
    params.device = "cpu";
    ds_engine *engine;
    must(ds_engine_open(&params, &engine, &err));
    printf("| file | drafts | rates | shift | shift and slope |\n|---|---|---|---|---|\n");
    for (int i = 3; i < argc; i++) judge(engine, argv[i]);
    ds_engine_destroy(engine);
    return 0;
}
