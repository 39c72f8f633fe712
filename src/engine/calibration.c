/*
 * The drafter's calibration: temperatures of its confidences, as JSON beside it (FOLDER/calibration.json, FILE.gguf.calibration.json)
 * with the drafter's fingerprint; and collecting the outcomes they are fitted to.
 */
#include "engine/engine_internal.h"

#include "base/json.h"
#include "dspark_dev.h"
#include "spec/sts.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 1 << 16 };
static const char FORMAT[] = "dspark-sts-1";

char *ds_path_beside(const struct ds_ckpt *ckpt, const char *name) {
    const char *path = ds_ckpt_path(ckpt);
    if (ds_os_path_kind(path) == DS_PATH_FOLDER) return ds_os_join(path, name);
    char *text = malloc(strlen(path) + strlen(name) + 2);
    if (text) strcat(strcat(strcpy(text, path), "."), name);
    return text;
}

static void print_of(const ds_engine *engine, char text[17]) { snprintf(text, 17, "%016" PRIx64, ds_fingerprint(engine->draft_ckpt)); }

/* --- reading --- */

static const char *text_of(const json_t *root, const char *name) {
    const char *text = json_string_value(json_object_get(root, name));
    return text ? text : "";
}

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

static ds_status read_calibration(const ds_engine *engine, const json_t *root, float *out, struct ds_error *err) {
    char mine[17];
    print_of(engine, mine);
    if (strcmp(text_of(root, "format"), FORMAT) != 0) return ds_fail(err, DS_ERROR_FORMAT, "expected a calibration with format \"%s\"", FORMAT);
    if (strcmp(text_of(root, "drafter"), mine) != 0)
        return ds_fail(err, DS_ERROR_MISMATCH, "it was made for another drafter than %s (whose fingerprint is %s)", ds_ckpt_path(engine->draft_ckpt), mine);
    return read_temperatures(root, engine->draft_model, out, err);
}

static ds_status load(const ds_engine *engine, const char *path, float *out, struct ds_error *err) {
    json_t *root;
    DS_TRY(ds_json_read_file(path, MOST_BYTES, &root, err));
    const ds_status status = read_calibration(engine, root, out, err);
    json_decref(root);
    return status == DS_OK ? DS_OK : ds_fail_context(err, "%s", path);
}

ds_status ds_calibration_open(ds_engine *engine, struct ds_error *err) {
    if (!engine->draft_model || !engine->draft_model->has_confidence) return DS_OK;
    char *path = ds_path_beside(engine->draft_ckpt, "calibration.json");
    float *temperature = malloc(engine->draft_model->block_size * sizeof *temperature);
    ds_status status = path && temperature ? DS_OK : ds_fail_memory(err, MOST_BYTES, "a calibration");
    struct ds_error why;
    if (status == DS_OK && ds_os_path_kind(path) != DS_PATH_MISSING) {
        if (load(engine, path, temperature, &why) == DS_OK) {
            engine->scheduling.temperature = temperature;
            temperature = NULL;
        } else if (why.status == DS_ERROR_MEMORY) {
            *err = why;
            status = why.status;
        } else {
            ds_logf(&engine->log, DS_LOG_WARNING, "the calibration is not used: %s; make another with `dspark calibrate`, or remove it", why.message);
        }
    }
    free(temperature);
    free(path);
    return status;
}

/* --- collecting and fitting --- */

struct ds_dev_outcomes {
    uint32_t slots;
    struct ds_outcome *list;
    size_t count, capacity;
    bool out_of_memory;
};

ds_status ds_dev_outcomes_create(const ds_engine *engine, ds_dev_outcomes **out, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    *out = NULL;
    if (!engine->draft_model || !engine->draft_model->has_confidence)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: there is nothing to calibrate; `auto` learns from outcomes alone",
                       engine->draft_model ? "the drafter has no confidence head" : "there is no drafter");
    ds_dev_outcomes *outcomes = calloc(1, sizeof *outcomes);
    if (!outcomes) return ds_fail_memory(err, sizeof *outcomes, "outcomes");
    outcomes->slots = engine->draft_model->block_size;
    *out = outcomes;
    return DS_OK;
}

void ds_dev_outcomes_destroy(ds_dev_outcomes *outcomes) {
    if (!outcomes) return;
    free(outcomes->list);
    free(outcomes);
}

size_t ds_dev_outcomes_count(const ds_dev_outcomes *outcomes) { return outcomes->count; }

void ds_dev_outcomes_add(void *user, const ds_round *round) {
    ds_dev_outcomes *o = user;
    if (!round->confidence_logits || !round->verified || o->out_of_memory) return;
    if (o->count == o->capacity) {
        const size_t capacity = o->capacity * 2 + 256;
        struct ds_outcome *grown = realloc(o->list, capacity * sizeof *grown);
        o->out_of_memory = !grown;
        if (!grown) return;
        o->list = grown;
        o->capacity = capacity;
    }
    struct ds_outcome *next = &o->list[o->count++];
    *next = (struct ds_outcome){.slots = (uint32_t)round->n_draft, .known = (uint32_t)round->verified, .accepted = (uint32_t)round->accepted};
    memcpy(next->logits, round->confidence_logits, round->n_draft * sizeof *next->logits);
}

static ds_status require_outcomes(const ds_dev_outcomes *o, struct ds_error *err) {
    if (o->out_of_memory) return ds_fail_memory(err, o->capacity * 2 * sizeof *o->list, "outcomes");
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

static json_t *make_json(const ds_engine *engine, const float *temperatures, uint64_t rounds) {
    char mine[17];
    print_of(engine, mine);
    json_t *list = json_array();
    for (uint32_t k = 0; list && k < engine->draft_model->block_size; k++) json_array_append_new(list, json_real((double)temperatures[k]));
    return json_pack("{sssssosI}", "format", FORMAT, "drafter", mine, "temperatures", list, "rounds", (json_int_t)rounds);
}

ds_status ds_dev_calibration_save(const ds_engine *engine, const float *temperatures, uint64_t rounds, char **path, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    *path = NULL;
    if (!engine->draft_model || !engine->draft_model->has_confidence) return ds_fail(err, DS_ERROR_UNSUPPORTED, "there is no drafter with a confidence head");
    char *name = ds_path_beside(engine->draft_ckpt, "calibration.json");
    json_t *root = make_json(engine, temperatures, rounds);
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    const ds_status status = name && text ? ds_write_text_file(name, text, err) : ds_fail_memory(err, MOST_BYTES, "a calibration");
    free(text);
    json_decref(root);
    if (status == DS_OK) *path = name;
    else free(name);
    return status;
}
