/* Preparing an engine: memory on the devices, weights in place. */
#include "engine/engine_internal.h"

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

/* *failed: the placement that the error is of. */
static ds_status allocate(ds_engine *engine, uint32_t *failed, struct ds_error *err) {
    const struct ds_sharing *sharing = &engine->sharing;
    for (uint32_t i = 0; i < engine->n_placements; i++) {
        struct ds_placement *p = &engine->placements[i];
        if (!ds_placement_is_used(engine, i)) continue;
        *failed = i;
        DS_TRY(ds_loader_allocate(p->loader, err));
        DS_TRY(p->device->fns->buffer_create(p->device, DS_MAX(p->scratch_bytes, (uint64_t)DS_ALIGN), &p->scratch, err));
    }
    struct ds_buffer *scratch[DS_MOST_STAGES];
    for (uint32_t s = 0; s < sharing->n_stages; s++) scratch[s] = engine->placements[sharing->places[s]].scratch;
    uint32_t stage = 0;
    const ds_status status = ds_target_allocate(&engine->target, scratch, &stage, err);
    *failed = sharing->places[stage];
    DS_TRY(status);
    *failed = engine->draft_place;
    return engine->draft_model ? ds_drafter_allocate(&engine->drafter, engine->placements[engine->draft_place].scratch, err) : DS_OK;
}

/* Back to what was planned. */
static void give_back(ds_engine *engine) {
    if (engine->draft_model) ds_drafter_release(&engine->drafter);
    ds_target_release(&engine->target);
    for (uint32_t i = 0; i < engine->n_placements; i++) {
        ds_loader_release(engine->placements[i].loader);
        ds_buffer_drop(&engine->placements[i].scratch);
    }
}

/*
 * A device has less memory than it says: others have some of it, or it is in pieces. A part of its layers goes to the next device, if there is one that
 * takes what is left. False: there is none.
 */
static bool move_layers(ds_engine *engine, uint32_t place, const struct ds_error *why) {
    enum { PART = 8 };
    const uint32_t layers = place < engine->sharing.n ? engine->sharing.layers[place] : 0;
    if (!ds_sharing_move(engine, place, layers / PART + 1)) return false;
    engine->sharing.moved = true;
    ds_logf(&engine->log, DS_LOG_WARNING, "device %s has no room for %u layers: %s", engine->placements[place].name, layers, why->message);
    return true;
}

static ds_status allocate_somewhere(ds_engine *engine, struct ds_error *err) {
    for (bool moved = false;; moved = true) {
        uint32_t failed = 0;
        const ds_status status = allocate(engine, &failed, err);
        if (status == DS_OK) {
            if (moved) ds_plan_tell(engine);
            return DS_OK;
        }
        give_back(engine);
        if (status != DS_ERROR_MEMORY || !move_layers(engine, failed, err)) return status;
        DS_TRY(ds_plan_memory(engine, err));
    }
}

static ds_status write_weights(ds_engine *engine, ds_progress_fn fn, void *user, struct ds_error *err) {
    struct progress progress = {.fn = fn, .user = user};
    for (uint32_t i = 0; i < engine->n_placements; i++) progress.total += ds_loader_bytes(engine->placements[i].loader);
    for (uint32_t i = 0; i < engine->n_placements; i++) {
        struct ds_placement *p = &engine->placements[i];
        if (!ds_placement_is_used(engine, i)) continue;
        DS_TRY(ds_loader_finish(p->loader, p->stream, report, &progress, err));
        progress.before += ds_loader_bytes(p->loader);
    }
    if (fn) fn(user, progress.total, progress.total);
    return DS_OK;
}

static ds_status place_weights(ds_engine *engine, ds_progress_fn fn, void *user, struct ds_error *err) {
    DS_TRY(allocate_somewhere(engine, err));
    const ds_status status = write_weights(engine, fn, user, err);
    if (status != DS_OK) give_back(engine);
    return status;
}

/* Manifests are verified meanwhile: what is read for the one is in the page cache for the other. */
static ds_status prepare(ds_engine *engine, ds_progress_fn fn, void *user, struct ds_error *err) {
    ds_status status = DS_OK;
    for (size_t i = 0; status == DS_OK && i < DS_COUNT(engine->guards); i++) status = ds_guard_begin(engine->guards[i], engine->threads, err);
    if (status == DS_OK) status = place_weights(engine, fn, user, err);
    const bool placed = status == DS_OK;
    for (size_t i = 0; status == DS_OK && i < DS_COUNT(engine->guards); i++) status = ds_guard_finish(engine->guards[i], err);
    for (size_t i = 0; i < DS_COUNT(engine->guards); i++) ds_guard_cancel(engine->guards[i]);
    if (status != DS_OK && placed) give_back(engine);
    for (uint32_t i = 0; status == DS_OK && i < engine->n_placements; i++)
        if (!ds_placement_is_used(engine, i)) ds_placement_close(&engine->placements[i]);
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

