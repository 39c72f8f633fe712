/*
 * Measured costs, kept in a folder of the user's: costs-<hash>.json, one for each pair, device and number of threads. What the
 * hash is of stands in the file and is compared. A file that is damaged, or of something else, is measured anew and replaced. What
 * scheduling has learned since (learned.c) is in the same file.
 */
#include "engine/engine_internal.h"

#include "base/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 1 << 16, KEY_BYTES = 4096 };
enum { FORMAT = 6 }; /* of the file; raised when its members or their meaning change, so that an older file is passed by in silence */

/* All that the times depend on, as far as it can be known. */
static void write_key(const ds_engine *engine, char key[KEY_BYTES]) {
    const struct ds_placement *first = &engine->placements[0], *last = &engine->placements[engine->draft_place];
    struct ds_device_limits a, b;
    first->device->fns->limits(first->device, &a);
    last->device->fns->limits(last->device, &b);
    snprintf(key, KEY_BYTES, "dspark %s; costs %d; target %016" PRIx64 " on %s (%s); drafter %016" PRIx64 " on %s (%s), shortlist %016" PRIx64 ", top %" PRIu32 "; %" PRIu32 " threads; %s cache; %s weights%s%s%s",
             ds_version(), FORMAT, ds_fingerprint(engine->target_ckpt), a.name, a.description, ds_fingerprint(engine->draft_ckpt), b.name, b.description,
             engine->scheduling.shortlist, engine->draft_model->markov_top, engine->threads, engine->params.kv == DS_KV_F32 ? "f32" : "f16", engine->params.weights == DS_WEIGHTS_F32 ? "f32" : "stored",
             a.fast || b.fast ? "; fast: " : "", a.fast ? a.fast : "", b.fast && b.fast != a.fast ? b.fast : "");
    /* Layers elsewhere. */
    for (uint32_t i = 1; i < engine->sharing.n_stages; i++) {
        const struct ds_placement *place = &engine->placements[engine->sharing.places[i]];
        const size_t n = strlen(key);
        place->device->fns->limits(place->device, &a);
        snprintf(key + n, KEY_BYTES - n, "; layers from %" PRIu32 " on %s (%s)%s%s", engine->model->stages[i].first, a.name, a.description,
                 a.fast ? ", fast: " : "", a.fast ? a.fast : "");
    }
}

/* malloc'ed; NULL: memory is out. */
static char *path_of(const ds_engine *engine, const char *key) {
    char name[64];
    snprintf(name, sizeof name, "costs-%016" PRIx64 ".json", ds_hash_mix(DS_HASH_START, key, strlen(key)));
    return ds_os_join(engine->scheduling.cache, name);
}

/* --- reading --- */

static double number(const json_t *object, const char *name) {
    const json_t *value = json_object_get(object, name);
    return json_is_number(value) ? json_number_value(value) : -1; /* no table holds it */
}

static bool read_table(const json_t *root, struct ds_cost_table *t) {
    const json_t *passes = json_object_get(root, "passes");
    *t = (struct ds_cost_table){.n_widths = (uint32_t)json_array_size(passes)};
    if (t->n_widths < 1 || t->n_widths > DS_COST_MOST_WIDTHS) return false;
    for (uint32_t i = 0; i < t->n_widths; i++) {
        const json_t *pass = json_array_get(passes, i);
        const double rows = number(pass, "rows");
        if (!(rows >= 1 && rows <= 4096)) return false;
        t->widths[i] = (uint32_t)rows;
        t->pass[i] = (struct ds_cost_line){number(pass, "seconds"), number(pass, "per_position")};
    }
    const json_t *draft = json_object_get(root, "draft"), *context = json_object_get(root, "context");
    const double block = number(draft, "slots");
    if (!(block >= 1 && block <= DS_MAX_BLOCK)) return false;
    t->block = (uint32_t)block;
    t->draft = (struct ds_cost_line){number(draft, "seconds"), number(draft, "per_position")};
    t->draft_slot = number(draft, "per_slot");
    t->draft_sequence = number(draft, "per_sequence");
    t->feed = number(context, "seconds");
    t->feed_row = number(context, "per_row");
    t->spread = DS_MAX(number(root, "spread"), 0);
    t->measured = (uint32_t)DS_MAX(DS_MIN(number(root, "measured"), 1000), 0);
    return ds_cost_valid(t);
}

static bool load(const ds_engine *engine, const char *path, const char *key, struct ds_pace_learned *out) {
    struct ds_cost_table table;
    if (ds_os_path_kind(path) == DS_PATH_MISSING) return false;
    json_t *root;
    struct ds_error err;
    if (ds_json_read_file(path, MOST_BYTES, &root, &err) != DS_OK) {
        ds_logf(&engine->log, DS_LOG_WARNING, "%s; costs are measured anew", err.message);
        return false;
    }
    const char *found = json_string_value(json_object_get(root, "key"));
    const bool mine = found && strcmp(found, key) == 0;
    const bool good = mine && read_table(root, &table) && table.block == engine->draft_model->block_size;
    const json_t *learned = json_object_get(root, "learned");
    if (good) {
        ds_pace_learned_start(out, &table, ds_confidence_source_of(engine));
        if (learned && !ds_learned_from_json(engine, learned, out))
            ds_logf(&engine->log, DS_LOG_WARNING, "%s: what was learned about the drafter makes no sense; it is learned anew", path);
    }
    json_decref(root);
    if (!good)
        ds_logf(&engine->log, DS_LOG_WARNING, "%s: %s; costs are measured anew", path, mine ? "the times in it make no table of costs" : "not of this pair and machine");
    return good;
}

bool ds_costs_load(const ds_engine *engine, struct ds_pace_learned *out) {
    if (!engine->scheduling.cache) return false;
    char key[KEY_BYTES];
    write_key(engine, key);
    char *path = path_of(engine, key);
    const bool loaded = path && load(engine, path, key, out);
    free(path);
    return loaded;
}

/* --- writing --- */

static json_t *make_json(const ds_engine *engine, const char *key) {
    const struct ds_cost_table *t = &engine->scheduling.learned.costs.table;
    json_t *passes = json_array();
    for (uint32_t i = 0; passes && i < t->n_widths; i++)
        json_array_append_new(passes, json_pack("{sisfsf}", "rows", (int)t->widths[i], "seconds", t->pass[i].base, "per_position", t->pass[i].per_position));
    return json_pack("{sssos{sisfsfsfsf}s{sfsf}sfsiso}", "key", key, "passes", passes, "draft", "slots", (int)t->block, "seconds", t->draft.base,
                     "per_position", t->draft.per_position, "per_slot", t->draft_slot, "per_sequence", t->draft_sequence, "context", "seconds", t->feed, "per_row", t->feed_row, "spread", t->spread, "measured", (int)t->measured, "learned",
                     ds_learned_to_json(engine));
}

ds_status ds_write_text_file(const char *path, const char *text, struct ds_error *err) {
    struct ds_os_writer writer = {0};
    ds_status status = ds_os_write_begin(path, &writer, err);
    if (status == DS_OK) status = ds_os_write(&writer, text, strlen(text), err);
    if (status == DS_OK) status = ds_os_write(&writer, "\n", 1, err);
    if (status == DS_OK) status = ds_os_write_commit(&writer, err);
    if (status != DS_OK) ds_os_write_abort(&writer);
    return status;
}

static ds_status store(const ds_engine *engine, struct ds_error *err) {
    char key[KEY_BYTES];
    write_key(engine, key);
    DS_TRY(ds_os_make_folders(engine->scheduling.cache, err));
    char *path = path_of(engine, key);
    json_t *root = make_json(engine, key);
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    const ds_status status = path && text ? ds_write_text_file(path, text, err) : ds_fail_memory(err, MOST_BYTES, "a table of costs");
    free(text);
    json_decref(root);
    free(path);
    return status;
}

void ds_costs_store(const ds_engine *engine) {
    struct ds_error err;
    if (engine->scheduling.cache && store(engine, &err) != DS_OK)
        ds_logf(&engine->log, DS_LOG_WARNING, "measured costs are not kept: %s", err.message);
}

void ds_costs_forget(const ds_engine *engine) {
    if (!engine->scheduling.cache) return;
    char key[KEY_BYTES];
    write_key(engine, key);
    char *path = path_of(engine, key);
    if (path) remove(path);
    free(path);
}
