/* Opening an engine: parameters, files, checks. Where models lie and what they need is place.c and plan.c; that comes true in prepare.c. */
#include "engine/engine_internal.h"

#include "base/quote.h"

#include <stdlib.h>
#include <string.h>

enum { DEFAULT_CHUNK = 256, MOST_CHUNK = 256, MOST_SESSIONS = 4096, MOST_THREADS = 1024 };

#define TEXT_OF(x) #x
#define VERSION_TEXT(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

const char *ds_version(void) { return VERSION_TEXT(DS_VERSION_MAJOR, DS_VERSION_MINOR, DS_VERSION_PATCH); }

ds_engine_params ds_engine_defaults(void) { return (ds_engine_params){.size = sizeof(ds_engine_params), .log_level = DS_LOG_INFO}; }

const struct ds_tokenizer *ds_engine_tokenizer(const ds_engine *engine) { return engine->tokenizer; }
const struct ds_chat_template *ds_engine_chat(const ds_engine *engine) { return engine->chat; }

/* A caller compiled against an older header has a shorter struct: what it lacks is 0. */
static ds_status read_params(const ds_engine_params *params, ds_engine_params *out, struct ds_error *err) {
    *out = (ds_engine_params){0};
    if (!params || params->size == 0 || params->size > sizeof *out)
        return ds_fail(err, DS_ERROR_ARGUMENT, "ds_engine_params.size is %zu; expected sizeof(ds_engine_params), at most %zu",
                       params ? params->size : 0, sizeof *out);
    memcpy(out, params, params->size);
    if (!out->target) return ds_fail(err, DS_ERROR_ARGUMENT, "no target model was given");
    if (out->kv != DS_KV_F16 && out->kv != DS_KV_F32) return ds_fail(err, DS_ERROR_ARGUMENT, "kv type %d is unknown", (int)out->kv);
    if (out->weights != DS_WEIGHTS_FILE && out->weights != DS_WEIGHTS_F32)
        return ds_fail(err, DS_ERROR_ARGUMENT, "weights mode %d is unknown", (int)out->weights);
    if (out->threads > MOST_THREADS)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%u threads asked for; expected at most %d", out->threads, MOST_THREADS);
    if (out->max_sessions > MOST_SESSIONS)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%u sessions asked for; expected at most %d", out->max_sessions, MOST_SESSIONS);
    if (out->max_rows > MOST_CHUNK)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%u rows a pass asked for; expected at most %d", out->max_rows, MOST_CHUNK);
    if (!out->max_sessions) out->max_sessions = 1;
    if (!out->max_rows) out->max_rows = DEFAULT_CHUNK;
    return DS_OK;
}

/* --- opening --- */

static ds_status choose_template(ds_engine *engine, struct ds_error *err) {
    const char *name = engine->params.chat_template;
    if (!name) {
        engine->chat = engine->tokenizer ? ds_chat_recognise(engine->tokenizer) : NULL;
        return DS_OK;
    }
    char list[512];
    ds_chat_list(list, sizeof list);
    engine->chat = ds_chat_by_name(name);
    return engine->chat ? DS_OK : ds_fail(err, DS_ERROR_ARGUMENT, "chat template '%s' is not known; expected one of %s", ds_quote_name(name).text, list);
}

static ds_status open_models(ds_engine *engine, struct ds_error *err) {
    const ds_engine_params *p = &engine->params;
    const struct ds_manifest_trust trust = {.required = p->require_manifest, .trust = p->trust};
    DS_TRY(ds_ckpt_open(p->target, &engine->target_ckpt, err));
    DS_TRY(ds_guard_open(engine->target_ckpt, &trust, &engine->log, &engine->guards[0], err));
    DS_TRY(ds_model_open(engine->target_ckpt, &engine->model, err));
    DS_TRY(ds_tokenizer_open(engine->target_ckpt, &engine->tokenizer, err));
    DS_TRY(choose_template(engine, err));
    if (engine->tokenizer && ds_tokenizer_count(engine->tokenizer) > engine->model->config.vocabulary)
        return ds_fail(err, DS_ERROR_MISMATCH, "%s: the tokenizer has ids up to %u, the embedding only %u rows", p->target,
                       ds_tokenizer_count(engine->tokenizer) - 1, engine->model->config.vocabulary);
    if (!p->drafter) return DS_OK;
    DS_TRY(ds_ckpt_open(p->drafter, &engine->draft_ckpt, err));
    DS_TRY(ds_guard_open(engine->draft_ckpt, &trust, &engine->log, &engine->guards[1], err));
    DS_TRY(ds_draft_open(engine->draft_ckpt, engine->model, &engine->draft_model, err));
    DS_TRY(ds_shortlist_open(engine, err));
    DS_TRY(ds_draft_restrict(engine->draft_model, p->draft_top_k, err));
    return ds_calibration_open(engine, err);
}

static ds_status open_engine(ds_engine *engine, const ds_engine_params *params, struct ds_error *err) {
    DS_TRY(read_params(params, &engine->params, err));
    engine->log = (struct ds_log){engine->params.log, engine->params.log_user, engine->params.log_level};
    if (engine->params.cache) {
        const size_t bytes = strlen(engine->params.cache) + 1;
        engine->scheduling.cache = malloc(bytes);
        if (!engine->scheduling.cache) return ds_fail_memory(err, bytes, "the cache's path");
        memcpy(engine->scheduling.cache, engine->params.cache, bytes);
    }
    engine->threads = engine->params.threads ? engine->params.threads : ds_os_cpu_count();
    engine->lock = ds_os_mutex_create();
    if (!engine->lock) return ds_fail_memory(err, 0, "a lock");
    DS_TRY(open_models(engine, err));
    DS_TRY(ds_place_models(engine, err));
    DS_TRY(ds_plan_engine(engine, err));
    engine->spec = (struct ds_spec){.target = &engine->target, .drafter = engine->draft_model ? &engine->drafter : NULL,
                                    .pager = &engine->pager, .lock = engine->lock, .context = engine->params.context,
                                    .chunk = engine->params.max_rows, .temperature = engine->scheduling.temperature,
                                    .prefix = &engine->prefix};
    return DS_OK;
}

ds_status ds_engine_open(const ds_engine_params *params, ds_engine **out, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    *out = NULL;
    ds_engine *engine = calloc(1, sizeof *engine);
    if (!engine) return ds_fail_memory(err, sizeof *engine, "the engine");
    const struct ds_float_state host = ds_os_float_begin();
    const ds_status status = open_engine(engine, params, err);
    ds_os_float_restore(host);
    /* The caller's strings are his own again. */
    engine->params.target = engine->params.drafter = engine->params.device = engine->params.draft_device =
        engine->params.modules = engine->params.cache = NULL;
    engine->params.trust = engine->params.chat_template = NULL;
    if (status != DS_OK) {
        ds_engine_destroy(engine);
        return status;
    }
    *out = engine;
    return DS_OK;
}

void ds_engine_destroy(ds_engine *engine) {
    if (!engine) return;
    if (engine->scheduling.known && engine->scheduling.changed) ds_costs_store(engine);
    ds_drafter_free(&engine->drafter);
    ds_target_free(&engine->target);
    ds_prefix_free(&engine->prefix);
    ds_pager_free(&engine->pager);
    for (uint32_t i = 0; i < engine->n_placements; i++) ds_placement_close(&engine->placements[i]);
    ds_draft_close(engine->draft_model);
    ds_model_close(engine->model);
    ds_tokenizer_close(engine->tokenizer);
    for (size_t i = 0; i < DS_COUNT(engine->guards); i++) ds_guard_close(engine->guards[i]);
    ds_ckpt_close(engine->draft_ckpt);
    ds_ckpt_close(engine->target_ckpt);
    if (engine->lock) ds_os_mutex_destroy(engine->lock);
    free(engine->scheduling.cache);
    free(engine->scheduling.temperature);
    free(engine);
}

/* --- facts --- */

/* What breaks the numerics contract on the first device where something does; strings are the device's. */
static const char *what_is_fast(const ds_engine *engine) {
    for (uint32_t i = 0; i < engine->n_placements; i++) {
        struct ds_device_limits limits;
        if (!engine->placements[i].device) continue; /* let go: all layers fit before it */
        engine->placements[i].device->fns->limits(engine->placements[i].device, &limits);
        if (limits.fast || !limits.exact) return limits.fast ? limits.fast : limits.note;
    }
    return "";
}

void ds_engine_get_info(const ds_engine *engine, ds_engine_info *info) {
    const ds_engine_info full = {
        .size = info->size,
        .fast = what_is_fast(engine),
        .architecture = engine->model->arch->name,
        .device = engine->sharing.text,
        .draft_device = engine->draft_model ? engine->placements[engine->draft_place].name : NULL,
        .drafter = engine->draft_model ? engine->draft_model->arch->name : NULL,
        .vocabulary = engine->model->config.vocabulary,
        .context = engine->params.context,
        .block_size = engine->draft_model ? engine->draft_model->block_size : 0,
        .hidden_size = engine->model->config.hidden,
        .layers = engine->model->config.layers,
        .threads = engine->threads,
        .has_tokenizer = engine->tokenizer != NULL,
        .has_chat_template = engine->chat != NULL,
        .weight_bytes = engine->weight_bytes,
        .kv_bytes = engine->kv_bytes,
        .scratch_bytes = engine->scratch_bytes,
        .budget_bytes = engine->budget_bytes,
    };
    memcpy(info, &full, DS_MIN(info->size, sizeof full));
}

bool ds_is_stop_token(const ds_engine *engine, ds_token token) { return ds_model_stops_at(engine->model, token); }

ds_status ds_devices(const char *modules, void (*fn)(void *user, const ds_device_info *info), void *user, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    enum { MOST_DEVICES = 64 };
    const char *names[MOST_DEVICES];
    const uint32_t count = DS_MIN(ds_device_names(modules, names, MOST_DEVICES), (uint32_t)MOST_DEVICES);
    for (uint32_t i = 0; i < count; i++) {
        struct ds_device *device;
        DS_TRY(ds_device_create(names[i], &(struct ds_device_params){.modules = modules, .fast = true}, &device, err));
        struct ds_device_limits limits;
        device->fns->limits(device, &limits);
        fn(user, &(ds_device_info){.name = limits.name, .description = limits.description, .memory_bytes = limits.memory_bytes,
                                   .exact = limits.exact, .note = limits.note, .fast = limits.fast ? limits.fast : ""});
        ds_device_destroy(device);
    }
    return DS_OK;
}
