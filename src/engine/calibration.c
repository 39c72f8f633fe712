/*
 * The drafter's calibration: temperatures of its confidences, as JSON beside it (FOLDER/calibration.json, FILE.gguf.calibration.json)
 * with the drafter's fingerprint; and fitting them to outcomes (outcomes.c).
 */
#include "engine/engine_internal.h"
#include "engine/outcomes.h"

#include "base/json.h"

#include <stdlib.h>

/* --- reading --- */

static ds_status read_temperatures(const json_t *root, const struct ds_draft_model *draft, float *out, struct ds_error *err) {
    static const double least = 0.05, most = 20;
    const json_t *list = json_object_get(root, "temperatures");
    if (json_array_size(list) != draft->block_size)
        return ds_fail(err, DS_ERROR_FORMAT, "temperatures has %zu numbers, the drafter's block %u slots", json_array_size(list), draft->block_size);
    for (uint32_t k = 0; k < draft->block_size; k++) {
        const double t = json_number_value(json_array_get(list, k));
        if (!(t >= least && t <= most))
            return ds_fail(err, DS_ERROR_FORMAT, "temperatures: number %u is %g; expected %g to %g", k + 1, t, least, most);
        out[k] = (float)t;
    }
    return DS_OK;
}

static ds_status use(ds_engine *engine, const json_t *root, struct ds_error *err) {
    float *temperature = malloc(engine->draft_model->block_size * sizeof *temperature);
    if (!temperature) return ds_fail_memory(err, engine->draft_model->block_size * sizeof *temperature, "a calibration");
    const ds_status status = read_temperatures(root, engine->draft_model, temperature, err);
    if (status == DS_OK) engine->scheduling.temperature = temperature;
    else free(temperature);
    return status;
}

static const struct ds_beside calibration = {.what = "calibration", .name = "calibration.json", .format = "dspark-sts-1", .most_bytes = 1 << 16, .use = use};

ds_status ds_calibration_open(ds_engine *engine, struct ds_error *err) {
    return engine->draft_model && engine->draft_model->has_confidence ? ds_beside_open(engine, &calibration, err) : DS_OK;
}

/* --- fitting --- */

static ds_status require_outcomes(const ds_dev_outcomes *o, struct ds_error *err) {
    DS_TRY(ds_outcomes_complete(o, err));
    return o->count ? DS_OK : ds_fail(err, DS_ERROR_ARGUMENT, "no drafted block was verified: there are no outcomes to learn from");
}

ds_status ds_dev_calibration_fit(const ds_dev_outcomes *o, float *temperatures, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    DS_TRY(require_outcomes(o, err));
    return ds_sts_fit(o->list, o->count, o->slots, temperatures, err);
}

static ds_dev_slot_quality public_slot(const struct ds_slot_quality *q) {
    return (ds_dev_slot_quality){.samples = q->samples, .forecast = q->forecast, .observed = q->observed, .ece = q->ece, .ece_chance = q->ece_chance, .auc = q->auc};
}

ds_status ds_dev_calibration_quality(const ds_dev_outcomes *o, const float *temperatures, ds_dev_quality *out, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    *out = (ds_dev_quality){.slots = o->slots};
    struct ds_quality q;
    DS_TRY(require_outcomes(o, err));
    DS_TRY(ds_sts_quality(o->list, o->count, o->slots, temperatures, &q, err));
    for (uint32_t k = 0; k < o->slots; k++) out->slot[k] = public_slot(&q.slot[k]);
    out->all = public_slot(&q.all);
    for (int b = 0; b < DS_RELIABILITY_BINS; b++) {
        out->bin[b].samples = q.bins[b].samples;
        out->bin[b].forecast = q.bins[b].forecast;
        out->bin[b].observed = q.bins[b].observed;
    }
    return DS_OK;
}

/* --- writing --- */

ds_status ds_dev_calibration_save(const ds_engine *engine, const float *temperatures, uint64_t rounds, char **path, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    *path = NULL;
    if (!engine->draft_model || !engine->draft_model->has_confidence) return ds_fail(err, DS_ERROR_UNSUPPORTED, "there is no drafter with a confidence head");
    json_t *list = json_array();
    for (uint32_t k = 0; list && k < engine->draft_model->block_size; k++) json_array_append_new(list, json_real((double)temperatures[k]));
    json_t *members = json_pack("{sosI}", "temperatures", list, "rounds", (json_int_t)rounds);
    return ds_beside_save(engine, &calibration, members, JSON_INDENT(1), path, err);
}
