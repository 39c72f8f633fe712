/* The memory plan: how large everything is, on which device it lies, and whether that has room for it. */
#include "engine/engine_internal.h"

#include <stdio.h>

enum { DEFAULT_CONTEXT = 4096, OUT_ROWS = 32, MOST_OUT_ROWS = 64 };

/* How long sequences can be, and how many rows a pass has. */
static ds_status choose_sizes(ds_engine *engine, uint32_t *n_pages, uint32_t *n_kept, struct ds_error *err) {
    ds_engine_params *p = &engine->params;
    const uint32_t trained = engine->model->config.context;
    if (p->context > trained)
        return ds_fail(err, DS_ERROR_ARGUMENT, "a context of %u positions was asked for; %s was made for at most %u", p->context, p->target, trained);
    if (!p->context) p->context = DS_MIN(trained, (uint32_t)DEFAULT_CONTEXT);
    const uint32_t block = engine->draft_model ? engine->draft_model->block_size : 0;
    /* The draft's rows reach past the last position a sequence may have. */
    engine->positions = p->context + (engine->draft_model ? engine->draft_model->block_rows : 0);
    engine->rows = DS_MAX(p->max_rows, block + 1);
    const uint64_t pages = (uint64_t)p->max_sessions * DS_ALIGN_UP((uint64_t)engine->positions, DS_PAGE) / DS_PAGE;
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

/* --- what everything needs --- */

static ds_status ask_for_weights(ds_engine *engine, struct ds_error *err) {
    struct ds_sharing *sharing = &engine->sharing;
    struct ds_model_cut cut = {.n = sharing->n_stages};
    for (uint32_t i = 0; i < engine->n_placements; i++) {
        struct ds_placement *p = &engine->placements[i];
        ds_loader_destroy(p->loader);
        p->loader = NULL;
        DS_TRY(ds_loader_create(p->device, engine->params.weights == DS_WEIGHTS_F32, &p->loader, err));
    }
    for (uint32_t s = 0; s < cut.n; s++) {
        cut.loaders[s] = engine->placements[sharing->places[s]].loader;
        cut.ends[s] = (s ? cut.ends[s - 1] : 0) + sharing->layers[sharing->places[s]];
    }
    DS_TRY(ds_model_load_cut(engine->model, &cut, engine->positions, err));
    return engine->draft_model
               ? ds_draft_load(engine->draft_model, engine->model, engine->placements[engine->draft_place].loader, engine->positions, err) : DS_OK;
}

static ds_status plan_target(ds_engine *engine, struct ds_error *err) {
    const ds_engine_params *p = &engine->params;
    const struct ds_sharing *sharing = &engine->sharing;
    const struct ds_placement *home = &engine->placements[0];
    struct ds_target_params target = {.device = home->device, .stream = home->stream, .pager = &engine->pager, .rows = engine->rows,
                                      .out_rows = out_rows_for(engine, engine->rows), .kv_f16 = p->kv == DS_KV_F16};
    for (uint32_t s = 1; s < sharing->n_stages; s++) {
        target.others[s - 1].device = engine->placements[sharing->places[s]].device;
        target.others[s - 1].stream = engine->placements[sharing->places[s]].stream;
    }
    if (engine->draft_model) {
        target.tap_layers = engine->draft_model->tap_layers;
        target.n_taps = engine->draft_model->n_taps;
        target.beside_bytes = ds_drafter_results_bytes(engine->draft_model, DS_MIN(p->max_sessions, (uint32_t)DS_MOST_DRAFTING));
        target.out_rows = DS_MAX(target.out_rows, engine->draft_model->block_size + 1);
    }
    return ds_target_plan(&engine->target, engine->model, &target, err);
}

static ds_status plan_drafter(ds_engine *engine, struct ds_error *err) {
    const ds_engine_params *p = &engine->params;
    const struct ds_placement *place = &engine->placements[engine->draft_place];
    const struct ds_drafter_params params = {.device = place->device, .stream = place->stream, .kv_f16 = p->kv == DS_KV_F16,
                                             .sequences = DS_MIN(p->max_sessions, (uint32_t)DS_MOST_DRAFTING)};
    const ds_status status = ds_drafter_plan(&engine->drafter, engine->draft_model, &engine->target, &params, err);
    if (status == DS_ERROR_UNSUPPORTED && engine->draft_model->markov_top) return ds_fail_context(err, "draft_top_k is %u", p->draft_top_k);
    return status;
}

/* Of each device, and in all. */
static void add_up(ds_engine *engine) {
    engine->weight_bytes = engine->kv_bytes = engine->scratch_bytes = 0;
    for (uint32_t i = 0; i < engine->n_placements; i++) {
        struct ds_placement *p = &engine->placements[i];
        p->scratch_bytes = 0;
        p->planned_bytes = ds_loader_bytes(p->loader);
        engine->weight_bytes += p->planned_bytes;
    }
    for (uint32_t s = 0; s < engine->target.n_stages; s++) {
        const struct ds_stage *stage = &engine->target.stages[s];
        struct ds_placement *p = &engine->placements[engine->sharing.places[s]];
        const uint64_t own = ds_target_own_bytes(&engine->target, s);
        p->scratch_bytes = stage->scratch_bytes;
        p->planned_bytes += stage->cache.planned.bytes + own;
        engine->kv_bytes += stage->cache.planned.bytes;
        engine->scratch_bytes += own;
    }
    if (engine->draft_model) {
        struct ds_placement *p = &engine->placements[engine->draft_place];
        const uint64_t own = ds_drafter_own_bytes(&engine->drafter);
        p->scratch_bytes = DS_MAX(p->scratch_bytes, engine->drafter.scratch_bytes);
        p->planned_bytes += engine->drafter.cache.planned.bytes + own;
        engine->kv_bytes += engine->drafter.cache.planned.bytes;
        engine->scratch_bytes += own;
    }
    for (uint32_t i = 0; i < engine->n_placements; i++) {
        engine->placements[i].planned_bytes += engine->placements[i].scratch_bytes;
        engine->scratch_bytes += engine->placements[i].scratch_bytes;
    }
}

ds_status ds_plan_memory(ds_engine *engine, struct ds_error *err) {
    ds_drafter_free(&engine->drafter);
    ds_target_free(&engine->target);
    for (uint32_t i = 0; i < engine->n_placements; i++) ds_buffer_drop(&engine->placements[i].scratch);
    DS_TRY(ds_sharing_settle(engine, err));
    DS_TRY(ask_for_weights(engine, err));
    DS_TRY(plan_target(engine, err));
    if (engine->draft_model) DS_TRY(plan_drafter(engine, err));
    add_up(engine);
    return DS_OK;
}

/* --- whether there is room for it --- */

static double mib(uint64_t bytes) { return (double)bytes / (1 << 20); }

/* Layers that must go at least: as many as are certainly too many, for the next plan tells whether that was enough. */
static uint32_t too_many(const ds_engine *engine, uint32_t place) {
    const struct ds_placement *p = &engine->placements[place];
    const uint32_t layers = engine->sharing.layers[place];
    if (!layers) return 1;
    const uint64_t layer = DS_MAX(p->planned_bytes / layers, 1); /* more than one takes: ends and scratch are in it */
    return (uint32_t)DS_MAX((p->planned_bytes - p->most_bytes) / layer, 1);
}

static ds_status no_room(const ds_engine *engine, uint32_t place, struct ds_error *err) {
    const struct ds_placement *p = &engine->placements[place];
    const bool drafts = place >= engine->sharing.n, alone = engine->sharing.n == 1;
    const char *way = drafts ? "the drafter on another device" : alone ? "a second device named behind it, for the layers that do not" : "fewer layers there";
    return ds_fail(err, DS_ERROR_MEMORY, "device '%s': %.1f MiB are needed there and it has %.1f MiB; %s, a shorter context, fewer sessions or a smaller model "
                   "fit better", p->name, mib(p->planned_bytes), mib(p->most_bytes), way);
}

static bool is_full(const struct ds_placement *p) { return p->most_bytes && p->planned_bytes > p->most_bytes; }

static ds_status make_fit(ds_engine *engine, struct ds_error *err) {
    for (uint32_t i = 0; i < engine->n_placements;) {
        if (!is_full(&engine->placements[i])) {
            i++;
        } else if (ds_sharing_move(engine, i, too_many(engine, i))) {
            engine->sharing.moved = true;
            DS_TRY(ds_plan_memory(engine, err));
            i = 0;
        } else {
            return no_room(engine, i, err);
        }
    }
    return DS_OK;
}

/* Of all devices; host memory counts once. */
static uint64_t all_memory(const ds_engine *engine) {
    uint64_t bytes = ds_os_physical_memory();
    for (uint32_t i = 0; bytes && i < engine->n_placements; i++) {
        const struct ds_placement *p = &engine->placements[i];
        struct ds_device_limits limits;
        p->device->fns->limits(p->device, &limits);
        if (!limits.host_memory && ds_placement_is_used(engine, i)) bytes += limits.memory_bytes;
    }
    return bytes;
}

static ds_status check_budget(ds_engine *engine, struct ds_error *err) {
    engine->budget_bytes = engine->params.memory_budget ? engine->params.memory_budget : all_memory(engine);
    const uint64_t total = engine->weight_bytes + engine->kv_bytes + engine->scratch_bytes;
    ds_logf(&engine->log, DS_LOG_INFO, "memory: %.1f MiB weights, %.1f MiB cache for %u session(s) of %u positions, %.1f MiB scratch",
            mib(engine->weight_bytes), mib(engine->kv_bytes), engine->params.max_sessions, engine->params.context, mib(engine->scratch_bytes));
    if (!engine->budget_bytes || total <= engine->budget_bytes) return DS_OK;
    return ds_fail(err, DS_ERROR_MEMORY,
                   "%.1f MiB are needed (%.1f weights, %.1f cache, %.1f scratch), the budget is %.1f MiB; a shorter context, fewer sessions or a "
                   "smaller model fit better",
                   mib(total), mib(engine->weight_bytes), mib(engine->kv_bytes), mib(engine->scratch_bytes), mib(engine->budget_bytes));
}

void ds_plan_tell(const ds_engine *engine) {
    const struct ds_sharing *s = &engine->sharing;
    char text[1024] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < s->n && used < sizeof text; i++) {
        const struct ds_placement *p = &engine->placements[i];
        if (s->n_stages > 1 || s->n > 1) {
            const int n = snprintf(text + used, sizeof text - used, "%s%u on %s%s (%.1f MiB)", i ? ", " : "", s->layers[i], p->name,
                                   i ? "" : " with embedding and head", mib(p->planned_bytes));
            used += n > 0 ? (size_t)n : 0;
        }
    }
    if (!used) return;
    ds_logf(&engine->log, s->moved ? DS_LOG_WARNING : DS_LOG_INFO, "layers: %s%s", text,
            s->moved ? "; the devices in front have no room for more, and a pass is as slow as the slower ones" : "");
}

ds_status ds_plan_engine(ds_engine *engine, struct ds_error *err) {
    const ds_engine_params *p = &engine->params;
    uint32_t pages = 0, kept = 0;
    DS_TRY(choose_sizes(engine, &pages, &kept, err));
    DS_TRY(ds_pager_create(p->max_sessions, (engine->positions + DS_PAGE - 1) / DS_PAGE, pages, &engine->pager, err));
    DS_TRY(ds_prefix_create(&engine->pager, kept, &engine->prefix, err));
    DS_TRY(ds_plan_memory(engine, err));
    DS_TRY(make_fit(engine, err));
    DS_TRY(check_budget(engine, err));
    ds_plan_tell(engine);
    return DS_OK;
}
