/*
 * What scheduling has learned, kept beside the table of costs, so that a new process need not find out once more whether a drafter
 * pays: rates, corrections of times, how far the drafter can be believed. Nothing of it can change a token.
 */
#include "engine/engine_internal.h"

#include "base/json.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* What confidences were when they were believed or not: another calibration makes another scale of them. */
static void write_scale(const ds_engine *engine, char text[DS_FINGERPRINT_TEXT]) {
    const float *temperature = engine->scheduling.temperature;
    const uint64_t hash = temperature ? ds_hash_mix(DS_HASH_START, temperature, engine->draft_model->block_size * sizeof *temperature) : 0;
    ds_fingerprint_text(hash, text);
}

/* --- writing --- */

static json_t *list_of(const double *values, uint32_t n) {
    json_t *list = json_array();
    for (uint32_t i = 0; list && i < n; i++) json_array_append_new(list, json_real(values[i]));
    return list;
}

json_t *ds_learned_to_json(const ds_engine *engine) {
    const struct ds_pace_learned *l = &engine->scheduling.learned;
    const struct ds_cost_tuning *t = &l->costs.tuning;
    const uint32_t block = engine->draft_model->block_size, widths = l->costs.table.n_widths;
    char scale[DS_FINGERPRINT_TEXT];
    write_scale(engine, scale);
    return json_pack("{sssfsfsIsfsbsfsIsIsososososososososo}", "confidences", scale, "tokens", l->tokens, "passes", l->passes, "seen", (json_int_t)l->seen,
                     "committed", l->committed, "parked", (int)l->parked, "credit", l->credit, "wait", (json_int_t)l->wait, "since", (json_int_t)l->since, "shift",
                     list_of(l->reliability.shift, block), "evidence", list_of(l->reliability.evidence, block), "slope",
                     list_of((const double[]){l->reliability.slope, l->reliability.slope_evidence}, 2), "use", list_of(l->use, block), "reached", list_of(l->reached, block), "company",
                     list_of((const double[]){l->met.rows, l->met.decoding, l->met.drafting}, 3), "pass",
                     list_of(t->pass, widths), "pass_seen", list_of(t->seen_pass, widths), "draft", list_of((const double[]){t->draft, t->seen_draft}, 2));
}

/* --- reading --- */

struct reader {
    const json_t *root;
    bool good;
};

static double number(struct reader *r, const char *name, double least, double most) {
    const json_t *value = json_object_get(r->root, name);
    const double x = json_is_number(value) ? json_number_value(value) : NAN;
    r->good &= x >= least && x <= most;
    return x >= least && x <= most ? x : least;
}

static void numbers(struct reader *r, const char *name, double least, double most, double *out, uint32_t n) {
    const json_t *list = json_object_get(r->root, name);
    r->good &= json_array_size(list) == n;
    for (uint32_t i = 0; r->good && i < n; i++) {
        const json_t *value = json_array_get(list, i);
        out[i] = json_is_number(value) ? json_number_value(value) : NAN;
        r->good &= out[i] >= least && out[i] <= most;
    }
}

bool ds_learned_from_json(const ds_engine *engine, const json_t *root, struct ds_pace_learned *learned) {
    static const double many = 1e15, odds = 20;
    const uint32_t block = engine->draft_model->block_size, widths = learned->costs.table.n_widths;
    struct ds_pace_learned l = *learned;
    struct ds_cost_tuning *t = &l.costs.tuning;
    struct reader r = {root, json_is_object(root)};
    double draft[2] = {1, 0}, slope[2] = {1, 0}, company[3] = {0};
    l.tokens = number(&r, "tokens", 0, DS_MAX_BLOCK + 1);
    l.passes = number(&r, "passes", 0, 1e6);
    l.seen = (uint32_t)number(&r, "seen", 0, UINT32_MAX);
    l.committed = number(&r, "committed", 0, many);
    l.credit = number(&r, "credit", -1, DS_MAX_BLOCK);
    l.wait = (uint32_t)number(&r, "wait", 1, 1 << 20);
    l.since = (uint32_t)number(&r, "since", 0, UINT32_MAX);
    l.parked = json_is_true(json_object_get(root, "parked"));
    numbers(&r, "use", 0, 1, l.use, block);
    numbers(&r, "reached", 0, 1, l.reached, block);
    numbers(&r, "company", 0, INT32_MAX, company, 3);
    l.met = (struct ds_pace_company){(uint32_t)company[0], (uint32_t)company[1], (uint32_t)company[2]};
    numbers(&r, "pass", 0.25, 4, t->pass, widths);
    numbers(&r, "pass_seen", 0, many, t->seen_pass, widths);
    numbers(&r, "draft", 0, many, draft, 2);
    t->draft = DS_MAX(DS_MIN(draft[0], 4), 0.25);
    t->seen_draft = draft[1];
    char scale[DS_FINGERPRINT_TEXT];
    write_scale(engine, scale);
    const char *found = json_string_value(json_object_get(root, "confidences"));
    if (found && strcmp(found, scale) == 0) {
        numbers(&r, "shift", -odds, odds, l.reliability.shift, block);
        numbers(&r, "evidence", 0, many, l.reliability.evidence, block);
        numbers(&r, "slope", 0, many, slope, 2);
        l.reliability.slope = DS_MIN(slope[0], 4);
        l.reliability.slope_evidence = slope[1];
    }
    r.good &= l.seen == 0 || l.passes > 0;
    if (r.good) *learned = l;
    return r.good;
}
