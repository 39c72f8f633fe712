/* Opening an engine (files, checks, the memory plan) and preparing it (weights and caches in place). */
#include "engine/engine_internal.h"

#include "base/quote.h"

#include <stdlib.h>
#include <string.h>

enum { DEFAULT_CONTEXT = 4096, DEFAULT_CHUNK = 256, MOST_CHUNK = 256, MOST_SESSIONS = 4096, OUT_ROWS = 32, MOST_OUT_ROWS = 64, MOST_THREADS = 1024 };

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

/* A device whose tokens would differ is used only by those who said that they may. */
static ds_status require_exact(const ds_engine *engine, const struct ds_device_limits *limits, struct ds_error *err) {
    if (limits->exact) return DS_OK;
    if (engine->params.numerics != DS_NUMERICS_FAST)
        return ds_fail(err, DS_ERROR_DEVICE, "device '%s' fails the self-test of the numerics contract (%s): its tokens would differ; choose another device, "
                       "or fast numerics (--numerics fast) to use it nevertheless", limits->name, limits->note);
    ds_logf(&engine->log, DS_LOG_WARNING, "device %s fails the self-test of the numerics contract (%s): tokens may differ from those of other devices",
            limits->name, limits->note);
    return DS_OK;
}

static ds_status place(ds_engine *engine, const char *name, struct ds_placement *out, struct ds_error *err) {
    const struct ds_device_params device_params = {.threads = engine->threads, .modules = engine->params.modules,
                                                   .cache = engine->params.cache, .log = engine->log};
    engine->n_placements++;
    DS_TRY(ds_device_create(name, &device_params, &out->device, err));
    struct ds_device_limits limits;
    out->device->fns->limits(out->device, &limits);
    out->name = malloc(strlen(limits.name) + 1);
    if (!out->name) return ds_fail_memory(err, strlen(limits.name) + 1, "a device's name");
    strcpy(out->name, limits.name);
    DS_TRY(require_exact(engine, &limits, err));
    DS_TRY(out->device->fns->stream_create(out->device, &out->stream, err));
    return ds_loader_create(out->device, engine->params.weights == DS_WEIGHTS_F32, &out->loader, err);
}

static ds_status place_models(ds_engine *engine, struct ds_error *err) {
    const ds_engine_params *p = &engine->params;
    DS_TRY(place(engine, p->device, &engine->placements[0], err));
    if (!engine->draft_model || !p->draft_device || strcmp(p->draft_device, engine->placements[0].name) == 0) return DS_OK;
    return place(engine, p->draft_device, &engine->placements[1], err);
}

static struct ds_placement *draft_placement(ds_engine *engine) { return &engine->placements[engine->n_placements - 1]; }

/* How long sequences can be, and how many rows a pass has. */
static ds_status choose_sizes(ds_engine *engine, uint32_t *positions, uint32_t *rows, uint32_t *n_pages, uint32_t *n_kept,
                              struct ds_error *err) {
    ds_engine_params *p = &engine->params;
    const uint32_t trained = engine->model->config.context;
    if (p->context > trained)
        return ds_fail(err, DS_ERROR_ARGUMENT, "a context of %u positions was asked for; %s was made for at most %u", p->context, p->target, trained);
    if (!p->context) p->context = DS_MIN(trained, (uint32_t)DEFAULT_CONTEXT);
    const uint32_t block = engine->draft_model ? engine->draft_model->block_size : 0;
    /* The draft's rows reach past the last position a sequence may have. */
    *positions = p->context + (engine->draft_model ? engine->draft_model->block_rows : 0);
    *rows = DS_MAX(p->max_rows, block + 1);
    const uint64_t pages = (uint64_t)p->max_sessions * DS_ALIGN_UP((uint64_t)*positions, DS_PAGE) / DS_PAGE;
    const uint64_t kept = p->prefix_positions ? (p->prefix_positions - 1) / DS_PAGE + 1 : 0;
    const uint64_t shared = p->kv_positions ? (p->kv_positions - 1) / DS_PAGE + 1 : pages + DS_MIN(kept, (uint64_t)INT32_MAX);
    if (shared > INT32_MAX)
        return ds_fail(err, DS_ERROR_ARGUMENT, "a cache of %llu positions (kv_positions %llu, prefix_positions %llu) is more than can be addressed",
                       (unsigned long long)shared * DS_PAGE, (unsigned long long)p->kv_positions, (unsigned long long)p->prefix_positions);
    if (pages > INT32_MAX)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%u sessions of %u positions are more than the cache can address", p->max_sessions, p->context);
    *n_pages = p->kv_positions ? (uint32_t)DS_MIN(shared, pages + kept) : (uint32_t)shared;
    *n_kept = (uint32_t)DS_MIN(kept, (uint64_t)*n_pages);
    return DS_OK;
}

/* Logits take much memory: enough for one session, and more for several, up to a limit. */
static uint32_t out_rows_for(const ds_engine *engine, uint32_t rows) {
    const uint32_t block = engine->draft_model ? engine->draft_model->block_size + 1 : 1;
    const uint32_t all = DS_MIN(engine->params.max_sessions, (uint32_t)MOST_OUT_ROWS) * block;
    return DS_MIN(rows, DS_MAX((uint32_t)OUT_ROWS, DS_MIN(all, (uint32_t)MOST_OUT_ROWS)));
}

static ds_status plan_memory(ds_engine *engine, struct ds_error *err) {
    const ds_engine_params *p = &engine->params;
    struct ds_placement *home = &engine->placements[0], *draft = draft_placement(engine);
    uint32_t positions = 0, rows = 0, pages = 0, kept = 0;
    DS_TRY(choose_sizes(engine, &positions, &rows, &pages, &kept, err));
    DS_TRY(ds_pager_create(p->max_sessions, (positions + DS_PAGE - 1) / DS_PAGE, pages, &engine->pager, err));
    DS_TRY(ds_prefix_create(&engine->pager, kept, &engine->prefix, err));
    DS_TRY(ds_model_load(engine->model, home->loader, positions, err));
    struct ds_target_params target = {.device = home->device, .stream = home->stream, .pager = &engine->pager, .rows = rows,
                                      .out_rows = out_rows_for(engine, rows), .kv_f16 = p->kv == DS_KV_F16};
    if (engine->draft_model) {
        target.tap_layers = engine->draft_model->tap_layers;
        target.n_taps = engine->draft_model->n_taps;
        target.beside_bytes = ds_drafter_results_bytes(engine->draft_model, DS_MIN(p->max_sessions, (uint32_t)DS_MOST_DRAFTING));
        target.out_rows = DS_MAX(target.out_rows, engine->draft_model->block_size + 1);
        DS_TRY(ds_draft_load(engine->draft_model, engine->model, draft->loader, positions, err));
    }
    DS_TRY(ds_target_plan(&engine->target, engine->model, &target, err));
    home->scratch_bytes = engine->target.scratch_bytes;
    engine->kv_bytes = engine->target.cache.planned.bytes;
    engine->scratch_bytes = ds_target_own_bytes(&engine->target);
    if (engine->draft_model) {
        const struct ds_drafter_params params = {.device = draft->device, .stream = draft->stream, .kv_f16 = target.kv_f16,
                                                 .sequences = DS_MIN(p->max_sessions, (uint32_t)DS_MOST_DRAFTING)};
        const ds_status status = ds_drafter_plan(&engine->drafter, engine->draft_model, &engine->target, &params, err);
        if (status == DS_ERROR_UNSUPPORTED && engine->draft_model->markov_top) return ds_fail_context(err, "draft_top_k is %u", p->draft_top_k);
        DS_TRY(status);
        draft->scratch_bytes = DS_MAX(draft->scratch_bytes, engine->drafter.scratch_bytes);
        engine->kv_bytes += engine->drafter.cache.planned.bytes;
        engine->scratch_bytes += ds_drafter_own_bytes(&engine->drafter);
    }
    for (uint32_t i = 0; i < engine->n_placements; i++) {
        engine->weight_bytes += ds_loader_bytes(engine->placements[i].loader);
        engine->scratch_bytes += engine->placements[i].scratch_bytes;
    }
    return DS_OK;
}

static ds_status check_budget(ds_engine *engine, struct ds_error *err) {
    engine->budget_bytes = engine->params.memory_budget ? engine->params.memory_budget : ds_os_physical_memory();
    const uint64_t total = engine->weight_bytes + engine->kv_bytes + engine->scratch_bytes;
    const double mib = 1.0 / (1 << 20);
    ds_logf(&engine->log, DS_LOG_INFO, "memory: %.1f MiB weights, %.1f MiB cache for %u session(s) of %u positions, %.1f MiB scratch",
            (double)engine->weight_bytes * mib, (double)engine->kv_bytes * mib, engine->params.max_sessions, engine->params.context,
            (double)engine->scratch_bytes * mib);
    if (engine->budget_bytes && total > engine->budget_bytes)
        return ds_fail(err, DS_ERROR_MEMORY,
                       "%.1f MiB are needed (%.1f weights, %.1f cache, %.1f scratch), the budget is %.1f MiB; a shorter context, fewer sessions or a "
                       "smaller model fit better",
                       (double)total * mib, (double)engine->weight_bytes * mib, (double)engine->kv_bytes * mib,
                       (double)engine->scratch_bytes * mib, (double)engine->budget_bytes * mib);
    return DS_OK;
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
    DS_TRY(place_models(engine, err));
    DS_TRY(plan_memory(engine, err));
    engine->spec = (struct ds_spec){.target = &engine->target, .drafter = engine->draft_model ? &engine->drafter : NULL,
                                    .pager = &engine->pager, .lock = engine->lock, .context = engine->params.context,
                                    .chunk = engine->params.max_rows, .temperature = engine->scheduling.temperature,
                                    .prefix = &engine->prefix};
    return check_budget(engine, err);
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

/* --- preparing --- */

/* Weights are counted as they lie in the files, places as they lie on the device: sums never go back or beyond the total. */
struct progress {
    ds_progress_fn fn;
    void *user;
    uint64_t before, total; /* bytes of the placements already done, and of all */
    uint64_t shown;
};

static bool report(void *user, uint64_t done, uint64_t total) {
    (void)total;
    struct progress *progress = user;
    progress->shown = DS_MAX(progress->shown, DS_MIN(progress->before + done, progress->total));
    return !progress->fn || progress->fn(progress->user, progress->shown, progress->total);
}

static ds_status place_weights(ds_engine *engine, ds_progress_fn fn, void *user, struct ds_error *err) {
    struct progress progress = {.fn = fn, .user = user};
    for (uint32_t i = 0; i < engine->n_placements; i++) progress.total += ds_loader_bytes(engine->placements[i].loader);
    for (uint32_t i = 0; i < engine->n_placements; i++) {
        struct ds_placement *p = &engine->placements[i];
        DS_TRY(ds_loader_finish(p->loader, p->stream, report, &progress, err));
        progress.before += ds_loader_bytes(p->loader);
        if (!p->scratch)
            DS_TRY(p->device->fns->buffer_create(p->device, DS_MAX(p->scratch_bytes, (uint64_t)DS_ALIGN), &p->scratch, err));
    }
    if (!engine->target.outputs) DS_TRY(ds_target_allocate(&engine->target, engine->placements[0].scratch, err));
    if (engine->draft_model && !engine->drafter.outputs) DS_TRY(ds_drafter_allocate(&engine->drafter, draft_placement(engine)->scratch, err));
    if (fn) fn(user, progress.total, progress.total);
    return DS_OK;
}

/* Manifests are verified meanwhile: what is read for the one is in the page cache for the other. */
static ds_status prepare(ds_engine *engine, ds_progress_fn fn, void *user, struct ds_error *err) {
    ds_status status = DS_OK;
    for (size_t i = 0; status == DS_OK && i < DS_COUNT(engine->guards); i++) status = ds_guard_begin(engine->guards[i], engine->threads, err);
    if (status == DS_OK) status = place_weights(engine, fn, user, err);
    for (size_t i = 0; status == DS_OK && i < DS_COUNT(engine->guards); i++) status = ds_guard_finish(engine->guards[i], err);
    for (size_t i = 0; i < DS_COUNT(engine->guards); i++) ds_guard_cancel(engine->guards[i]);
    return status;
}

/* The progress callback runs without a lock, so a state keeps out other threads, and the callback itself. */
static ds_status begin_preparing(ds_engine *engine, bool *mine, struct ds_error *err) {
    ds_os_mutex_lock(engine->lock);
    const bool busy = engine->state == DS_ENGINE_PREPARING;
    *mine = engine->state == DS_ENGINE_OPEN;
    if (*mine) engine->state = DS_ENGINE_PREPARING;
    ds_os_mutex_unlock(engine->lock);
    return busy ? ds_fail(err, DS_ERROR_ARGUMENT, "the engine is being prepared by another call: wait until that returns") : DS_OK;
}

ds_status ds_engine_prepare(ds_engine *engine, ds_progress_fn progress, void *user, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    bool mine;
    DS_TRY(begin_preparing(engine, &mine, err));
    if (!mine) return DS_OK;
    const struct ds_float_state host = ds_os_float_begin();
    const double start = ds_os_seconds();
    const ds_status status = prepare(engine, progress, user, err);
    ds_os_float_restore(host);
    ds_os_mutex_lock(engine->lock);
    engine->state = status == DS_OK ? DS_ENGINE_PREPARED : DS_ENGINE_OPEN;
    ds_os_mutex_unlock(engine->lock);
    if (status == DS_OK) ds_logf(&engine->log, DS_LOG_INFO, "weights in place after %.2f s", ds_os_seconds() - start);
    return status;
}

void ds_engine_destroy(ds_engine *engine) {
    if (!engine) return;
    if (engine->scheduling.known && engine->scheduling.changed) ds_costs_store(engine);
    ds_drafter_free(&engine->drafter);
    ds_target_free(&engine->target);
    ds_prefix_free(&engine->prefix);
    ds_pager_free(&engine->pager);
    for (uint32_t i = 0; i < engine->n_placements; i++) {
        struct ds_placement *p = &engine->placements[i];
        ds_loader_destroy(p->loader);
        if (p->scratch) p->device->fns->buffer_destroy(p->scratch);
        if (p->stream) p->device->fns->stream_destroy(p->stream);
        ds_device_destroy(p->device);
        free(p->name);
    }
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

void ds_engine_get_info(const ds_engine *engine, ds_engine_info *info) {
    ds_engine *e = (ds_engine *)engine; /* draft_placement reads only */
    const ds_engine_info full = {
        .size = info->size,
        .architecture = engine->model->arch->name,
        .device = engine->placements[0].name,
        .draft_device = engine->draft_model ? draft_placement(e)->name : NULL,
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
        DS_TRY(ds_device_create(names[i], &(struct ds_device_params){.modules = modules}, &device, err));
        struct ds_device_limits limits;
        device->fns->limits(device, &limits);
        fn(user, &(ds_device_info){.name = limits.name, .description = limits.description, .memory_bytes = limits.memory_bytes,
                                   .exact = limits.exact, .note = limits.note});
        ds_device_destroy(device);
    }
    return DS_OK;
}
