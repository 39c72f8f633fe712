/*
 * Collecting outcomes of rounds, and the file that a user may have them kept in: JSON Lines, one for each answer or conversation,
 *
 *     {"format": "dspark-outcomes-1", "drafter": FINGERPRINT, "rounds": [[verified, accepted, logit, ...], ...]}
 *
 * with the logit of each draft's confidence. No token, and nothing that one could be told from.
 */
#include "engine/outcomes.h"
#include "engine/engine_internal.h"

#include "base/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT "dspark-outcomes-1"
enum { MOST_FILE_BYTES = 1 << 28, DIGITS = 9 }; /* so many digits give a float back */

/* --- collecting --- */

ds_status ds_dev_outcomes_create(const ds_engine *engine, ds_dev_outcomes **out, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    *out = NULL;
    if (!engine->draft_model) return ds_fail(err, DS_ERROR_UNSUPPORTED, "there is no drafter: there is nothing to calibrate");
    ds_dev_outcomes *outcomes = calloc(1, sizeof *outcomes);
    if (!outcomes) return ds_fail_memory(err, sizeof *outcomes, "outcomes");
    outcomes->drafter = ds_fingerprint(engine->draft_ckpt);
    outcomes->from_head = engine->draft_model->has_confidence;
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
bool ds_dev_outcomes_from_head(const ds_dev_outcomes *outcomes) { return outcomes->from_head; }

static size_t next_capacity(const ds_dev_outcomes *o) { return o->capacity * 2 + 256; }

/* Room for one more; NULL: memory is out, which is remembered. */
static struct ds_outcome *next_outcome(ds_dev_outcomes *o) {
    if (o->out_of_memory) return NULL;
    if (o->count == o->capacity) {
        const size_t capacity = next_capacity(o);
        struct ds_outcome *grown = realloc(o->list, capacity * sizeof *grown);
        o->out_of_memory = !grown;
        if (!grown) return NULL;
        o->list = grown;
        o->capacity = capacity;
    }
    return &o->list[o->count++];
}

void ds_dev_outcomes_add(void *user, const ds_round *round) {
    if (!round->confidence_logits || !round->verified) return;
    for (size_t k = 0; k < round->n_draft; k++)
        if (!isfinite(round->confidence_logits[k])) return; /* it says nothing, and files have no word for it */
    struct ds_outcome *next = next_outcome(user);
    if (!next) return;
    *next = (struct ds_outcome){.slots = (uint32_t)round->n_draft, .known = (uint32_t)round->verified, .accepted = (uint32_t)round->accepted};
    memcpy(next->logits, round->confidence_logits, round->n_draft * sizeof *next->logits);
}

ds_status ds_outcomes_complete(const ds_dev_outcomes *o, struct ds_error *err) {
    return o->out_of_memory ? ds_fail_memory(err, next_capacity(o) * sizeof *o->list, "outcomes") : DS_OK;
}

/* --- writing --- */

static json_t *round_json(const struct ds_outcome *o) {
    json_t *round = json_pack("[ii]", (int)o->known, (int)o->accepted);
    for (uint32_t k = 0; round && k < o->slots; k++) json_array_append_new(round, json_real((double)o->logits[k]));
    return round;
}

/* malloc'ed; NULL: memory is out. */
static char *line_of(const ds_dev_outcomes *o) {
    char drafter[DS_FINGERPRINT_TEXT];
    ds_fingerprint_text(o->drafter, drafter);
    json_t *rounds = json_array();
    for (size_t i = 0; rounds && i < o->count; i++) json_array_append_new(rounds, round_json(&o->list[i]));
    json_t *root = json_pack("{ssssso}", "format", FORMAT, "drafter", drafter, "rounds", rounds);
    char *line = root ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(DIGITS)) : NULL;
    json_decref(root);
    return line;
}

static ds_status append_line(const char *path, const char *line, struct ds_error *err) {
    FILE *file = fopen(path, "ab");
    if (!file) return ds_fail(err, DS_ERROR_IO, "cannot write '%s': %s", path, strerror(errno));
    errno = 0;
    bool good = fputs(line, file) >= 0 && fputc('\n', file) != EOF;
    good = fclose(file) == 0 && good;
    return good ? DS_OK : ds_fail(err, DS_ERROR_IO, "cannot write all of '%s': %s", path, strerror(errno ? errno : EIO));
}

ds_status ds_dev_outcomes_save(const ds_dev_outcomes *o, const char *path, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    DS_TRY(ds_outcomes_complete(o, err));
    if (o->count == 0) return DS_OK;
    char *line = line_of(o);
    const ds_status status = line ? append_line(path, line, err) : ds_fail_memory(err, o->count * sizeof *o->list, "outcomes");
    free(line);
    return status;
}

/* --- reading --- */

static bool read_count(const json_t *value, uint32_t most, uint32_t *out) {
    const json_int_t n = json_integer_value(value);
    *out = (uint32_t)n;
    return json_is_integer(value) && n >= 0 && n <= (json_int_t)most;
}

static ds_status read_round(const json_t *round, ds_dev_outcomes *to, struct ds_error *err) {
    struct ds_outcome o = {.slots = 0};
    const size_t n = json_array_size(round);
    bool good = n >= 3 && n <= 2 + (size_t)to->slots;
    if (good) o.slots = (uint32_t)n - 2;
    good = good && read_count(json_array_get(round, 0), o.slots, &o.known) && o.known >= 1 && read_count(json_array_get(round, 1), o.known, &o.accepted);
    for (uint32_t k = 0; good && k < o.slots; k++) {
        const json_t *logit = json_array_get(round, 2 + k);
        o.logits[k] = (float)json_number_value(logit);
        good = json_is_number(logit) && isfinite(o.logits[k]);
    }
    if (!good)
        return ds_fail(err, DS_ERROR_FORMAT, "expected how many drafts were verified, how many of these accepted, and 1 to %u numbers, one for each draft", to->slots);
    struct ds_outcome *next = next_outcome(to);
    if (!next) return ds_outcomes_complete(to, err);
    *next = o;
    return DS_OK;
}

static ds_status read_line(const json_t *line, ds_dev_outcomes *to, struct ds_error *err) {
    char mine[DS_FINGERPRINT_TEXT];
    ds_fingerprint_text(to->drafter, mine);
    const char *format = json_string_value(json_object_get(line, "format")), *drafter = json_string_value(json_object_get(line, "drafter"));
    const json_t *rounds = json_object_get(line, "rounds");
    if (!format || strcmp(format, FORMAT) != 0 || !drafter || !json_is_array(rounds))
        return ds_fail(err, DS_ERROR_FORMAT, "expected an object with format \"" FORMAT "\", a drafter and rounds");
    if (strcmp(drafter, mine) != 0) return ds_fail(err, DS_ERROR_MISMATCH, "recorded with another drafter than this one, whose fingerprint is %s", mine);
    for (size_t i = 0; i < json_array_size(rounds); i++) {
        const ds_status status = read_round(json_array_get(rounds, i), to, err);
        if (status != DS_OK) return status == DS_ERROR_MEMORY ? status : ds_fail_context(err, "round %zu", i + 1);
    }
    return DS_OK;
}

static ds_status read_lines(const char *text, ds_dev_outcomes *fit, ds_dev_outcomes *held, struct ds_error *err) {
    size_t number = 0, answers = 0;
    for (const char *at = text, *end; *at; at = *end ? end + 1 : end) {
        end = at + strcspn(at, "\n");
        number++;
        if (end == at) continue;
        json_t *line;
        ds_status status = ds_json_parse(at, (size_t)(end - at), &line, err);
        if (status == DS_OK) status = read_line(line, answers++ % 2 ? held : fit, err);
        json_decref(line);
        if (status != DS_OK) return status == DS_ERROR_MEMORY ? status : ds_fail_context(err, "line %zu", number);
    }
    return DS_OK;
}

ds_status ds_dev_outcomes_load(ds_dev_outcomes *fit, ds_dev_outcomes *held, const char *path, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    const size_t fit_count = fit->count, held_count = held->count;
    char *text;
    size_t size;
    DS_TRY(ds_os_read_file(path, MOST_FILE_BYTES, &text, &size, err));
    ds_status status = strlen(text) == size ? read_lines(text, fit, held, err) : ds_fail(err, DS_ERROR_FORMAT, "a byte 0 is in it");
    free(text);
    if (status == DS_OK) return DS_OK;
    fit->count = fit_count;
    held->count = held_count;
    return ds_fail_context(err, "%s", path);
}
