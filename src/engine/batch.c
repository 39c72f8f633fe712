/* Many sessions that generate together: who waits, who runs, how a step's rows are shared. */
#include "engine/engine_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_PREFILL_ROWS = 64 };

/* A session in the batch. */
struct member {
    struct ds_generation generation;
    ds_done_fn done;
    bool runs;    /* has begun; else it waits */
    bool removed; /* by a callback, in the step under way */
    bool destroyed;
    ds_status status; /* why it ends early */
    struct ds_error error;
};

struct ds_batch {
    ds_engine *engine;
    ds_batch_params params;
    struct member *members; /* [max_sessions], in the order they were added */
    uint32_t count;
    struct ds_turn *turns;       /* [max_running], of the step under way, .. */
    struct member **with_a_part; /* .. and whose they are */
    struct ds_generation **generations;
    uint32_t rotation; /* who among the prompts gets a row first when there are too few */
    bool stepping;
    ds_batch_stats stats;
};

/* --- making one --- */

ds_batch_params ds_batch_defaults(void) { return (ds_batch_params){.size = sizeof(ds_batch_params)}; }

static ds_status read_params(const ds_engine *engine, const ds_batch_params *params, ds_batch_params *out, struct ds_error *err) {
    const struct ds_target_params *pass = &engine->target.params;
    const uint32_t most = DS_MIN(DS_MIN(pass->rows, pass->out_rows), (uint32_t)DS_MOST_TURNS);
    *out = (ds_batch_params){0};
    if (!params || params->size == 0 || params->size > sizeof *out)
        return ds_fail(err, DS_ERROR_ARGUMENT, "ds_batch_params.size is %zu; expected sizeof(ds_batch_params), at most %zu", params ? params->size : 0,
                       sizeof *out);
    memcpy(out, params, params->size);
    if (!out->max_sessions) out->max_sessions = engine->params.max_sessions;
    if (out->max_sessions > engine->params.max_sessions)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%u sessions in a batch asked for; the engine was opened for %u", out->max_sessions,
                       engine->params.max_sessions);
    if (out->max_running > most)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%u sessions in a step asked for; a pass of this engine can serve %u", out->max_running, most);
    if (!out->max_running) out->max_running = most;
    out->max_running = DS_MIN(out->max_running, out->max_sessions);
    if (!out->prefill_rows) out->prefill_rows = DEFAULT_PREFILL_ROWS;
    return DS_OK;
}

static ds_status create(ds_engine *engine, const ds_batch_params *params, ds_batch *batch, struct ds_error *err) {
    batch->engine = engine;
    DS_TRY(read_params(engine, params, &batch->params, err));
    batch->members = calloc(batch->params.max_sessions, sizeof *batch->members);
    batch->turns = calloc(batch->params.max_running, sizeof *batch->turns);
    batch->with_a_part = calloc(batch->params.max_running, sizeof *batch->with_a_part);
    batch->generations = calloc(batch->params.max_running, sizeof *batch->generations);
    if (batch->members && batch->turns && batch->with_a_part && batch->generations) return DS_OK;
    return ds_fail_memory(err, batch->params.max_sessions * sizeof *batch->members, "a batch");
}

ds_status ds_batch_create(ds_engine *engine, const ds_batch_params *params, ds_batch **out, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    *out = NULL;
    ds_os_mutex_lock(engine->lock);
    const bool prepared = engine->state == DS_ENGINE_PREPARED;
    ds_os_mutex_unlock(engine->lock);
    if (!prepared) return ds_fail(err, DS_ERROR_ARGUMENT, "the engine is not prepared: call ds_engine_prepare first");
    ds_batch *batch = calloc(1, sizeof *batch);
    if (!batch) return ds_fail_memory(err, sizeof *batch, "a batch");
    const ds_status status = create(engine, params, batch, err);
    if (status != DS_OK) {
        ds_batch_destroy(batch);
        return status;
    }
    *out = batch;
    return DS_OK;
}

/* --- leaving --- */

static bool promise(const ds_batch *batch, const ds_session *session, uint32_t positions) {
    ds_os_mutex_lock(batch->engine->lock);
    const bool kept = ds_pager_promise(&batch->engine->pager, session->sequence.slot, positions);
    ds_os_mutex_unlock(batch->engine->lock);
    return kept;
}

/* The session is its owner's again. */
static struct member take_out(ds_batch *batch, struct member *m) {
    const struct member left = *m;
    ds_session *session = left.generation.session;
    if (m->runs) ds_generation_end(&m->generation);
    (void)promise(batch, session, 0);
    if (left.status == DS_ERROR_CANCELLED) atomic_store(&session->cancelled, false);
    session->batch = NULL;
    session->running = false;
    const size_t behind = (size_t)(batch->members + batch->count - (m + 1));
    memmove(m, m + 1, behind * sizeof *m);
    batch->count--;
    return left;
}

static bool is_over(const struct member *m) { return m->removed || m->status != DS_OK || m->generation.stop != DS_STOP_NONE; }

/* Callbacks may add, remove and destroy sessions: after each, the search begins anew. */
static void take_out_all_that_are_over(ds_batch *batch) {
    for (uint32_t i = 0; i < batch->count;) {
        if (!is_over(&batch->members[i])) {
            i++;
            continue;
        }
        const struct member m = take_out(batch, &batch->members[i]);
        if (m.destroyed) ds_session_destroy(m.generation.session);
        else if (!m.removed && m.done) m.done(m.generation.user, m.generation.session, m.generation.stop, m.status, &m.error);
        i = 0;
    }
}

static struct member *find(ds_batch *batch, const ds_session *session) {
    for (uint32_t i = 0; i < batch->count; i++)
        if (batch->members[i].generation.session == session && !batch->members[i].removed) return &batch->members[i];
    return NULL;
}

ds_status ds_batch_remove(ds_batch *batch, ds_session *session, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    struct member *m = find(batch, session);
    if (!m) return ds_fail(err, DS_ERROR_ARGUMENT, "the session is not in this batch");
    if (batch->stepping) m->removed = true;
    else (void)take_out(batch, m);
    return DS_OK;
}

bool ds_batch_forget(ds_batch *batch, ds_session *session) {
    for (uint32_t i = 0; i < batch->count; i++) {
        struct member *m = &batch->members[i];
        if (m->generation.session != session) continue;
        if (!batch->stepping) {
            (void)take_out(batch, m);
            return false;
        }
        m->removed = m->destroyed = true;
        return true;
    }
    return false;
}

void ds_batch_destroy(ds_batch *batch) {
    if (!batch) return;
    while (batch->count) (void)take_out(batch, &batch->members[batch->count - 1]);
    free(batch->generations);
    free(batch->with_a_part);
    free(batch->turns);
    free(batch->members);
    free(batch);
}

/* --- entering --- */

ds_status ds_batch_add(ds_batch *batch, ds_session *session, const ds_batch_request *request, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    ds_batch_request r = {0};
    if (!request || request->size == 0 || request->size > sizeof r)
        return ds_fail(err, DS_ERROR_ARGUMENT, "ds_batch_request.size is %zu; expected sizeof(ds_batch_request), at most %zu",
                       request ? request->size : 0, sizeof r);
    memcpy(&r, request, request->size);
    if (session->engine != batch->engine) return ds_fail(err, DS_ERROR_ARGUMENT, "the session belongs to another engine than the batch");
    DS_TRY(ds_session_require_idle(session, err));
    if (session->sequence.length == 0) return ds_fail(err, DS_ERROR_ARGUMENT, "the sequence is empty: append a prompt first");
    if (batch->count == batch->params.max_sessions)
        return ds_fail(err, DS_ERROR_LIMIT, "the batch was made for %u session(s) and all are in it", batch->params.max_sessions);
    batch->members[batch->count++] = (struct member){
        .generation = {.session = session, .left = r.max_tokens, .fn = r.token, .user = r.user}, .done = r.done};
    session->batch = batch;
    session->running = true;
    return DS_OK;
}

/* Positions that an answer may come to use, a last block of drafts included. */
static uint32_t positions_of(const struct member *m) {
    const ds_session *session = m->generation.session;
    const ds_engine *engine = session->engine;
    const struct ds_sequence *s = &session->sequence;
    const uint32_t answer = (uint32_t)DS_MIN(m->generation.left, (size_t)(s->capacity - s->length));
    return s->length + answer + (ds_session_speculates(session) ? engine->draft_model->block_rows : 0);
}

static uint32_t running(const ds_batch *batch) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < batch->count; i++) n += batch->members[i].runs && !is_over(&batch->members[i]);
    return n;
}

static void begin(struct member *m) {
    m->runs = true;
    m->status = ds_generation_begin(&m->generation, &m->error);
}

/* In the order they came: nobody overtakes, so nobody waits for ever. */
static void admit(ds_batch *batch) {
    uint32_t n = running(batch);
    for (uint32_t i = 0; i < batch->count && n < batch->params.max_running; i++) {
        struct member *m = &batch->members[i];
        if (m->runs || is_over(m)) continue;
        if (!promise(batch, m->generation.session, positions_of(m))) {
            if (n) return; /* pages will be free when those that run have ended */
            m->status = ds_fail(&m->error, DS_ERROR_LIMIT, "an answer of up to %zu tokens behind %u needs %u pages of the cache; of its %u pages (%d positions "
                                "each) too many are held by sessions that do not run", m->generation.left, m->generation.session->sequence.length,
                                (positions_of(m) + DS_PAGE - 1) / DS_PAGE, batch->engine->pager.pages, DS_PAGE);
            continue;
        }
        begin(m);
        n += !is_over(m);
    }
}

/* --- a step --- */

static uint32_t known_rows(const struct ds_generation *g) { return g->session->sequence.length - g->session->sequence.computed; }

/* Prompts share the rows that are left, so that a short one is not kept waiting by a long one; each gets one at least, as long as there are any. */
static void share_rows(ds_batch *batch, uint32_t n, uint32_t rows) {
    uint32_t prompts = 0;
    for (uint32_t i = 0; i < n; i++) prompts += !ds_generation_decodes(batch->generations[i]);
    for (uint32_t i = 0; i < n; i++) batch->generations[i]->rows = 0;
    for (uint32_t given = 1; given && rows;) { /* what one does not need is shared among the others */
        const uint32_t share = prompts ? DS_MAX(rows / prompts, 1) : 0;
        given = 0;
        for (uint32_t k = 0; k < n && rows; k++) {
            struct ds_generation *g = batch->generations[(batch->rotation + k) % n];
            if (ds_generation_decodes(g)) continue;
            const uint32_t more = DS_MIN(DS_MIN(share, rows), known_rows(g) - g->rows);
            g->rows += more;
            rows -= more;
            given += more;
        }
    }
    batch->rotation++;
}

/* Prompts that got no row sit this step out. */
static uint32_t choose_parts(ds_batch *batch) {
    const uint32_t most = batch->engine->target.params.rows;
    uint32_t n = 0, decoding = 0;
    for (uint32_t i = 0; i < batch->count; i++) {
        struct member *m = &batch->members[i];
        if (!m->runs || is_over(m)) continue;
        batch->with_a_part[n] = m;
        batch->generations[n++] = &m->generation;
        decoding += ds_generation_decodes(&m->generation);
    }
    if (!n) return 0;
    const uint32_t chunk = decoding ? batch->params.prefill_rows : batch->engine->spec.chunk;
    share_rows(batch, n, DS_MIN(most - decoding, chunk));
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!ds_generation_decodes(batch->generations[i]) && !batch->generations[i]->rows) continue;
        batch->with_a_part[kept] = batch->with_a_part[i];
        batch->generations[kept++] = batch->generations[i];
    }
    return kept;
}

static void count_rows(ds_batch *batch, uint32_t n) {
    batch->stats.steps++;
    for (uint32_t i = 0; i < n; i++) {
        if (batch->turns[i].status != DS_OK) continue;
        batch->stats.rows += batch->turns[i].rows;
        batch->stats.prompt_rows += batch->turns[i].round ? 0 : batch->turns[i].rows;
    }
}

static ds_status run_parts(ds_batch *batch, uint32_t n, struct ds_error *err) {
    const ds_status status = ds_generations_step(batch->engine, batch->generations, batch->turns, n, err);
    if (status == DS_OK) count_rows(batch, n);
    for (uint32_t i = 0; i < n; i++) {
        struct member *m = batch->with_a_part[i];
        m->status = status == DS_OK ? batch->turns[i].status : status;
        m->error = status == DS_OK ? batch->turns[i].error : *err;
    }
    return status;
}

static void end_cancelled(ds_batch *batch) {
    for (uint32_t i = 0; i < batch->count; i++) {
        struct member *m = &batch->members[i];
        if (!is_over(m) && atomic_load(&m->generation.session->cancelled)) m->status = ds_fail(&m->error, DS_ERROR_CANCELLED, "cancelled");
    }
}

ds_status ds_batch_step(ds_batch *batch, size_t *left, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    if (left) *left = batch->count;
    if (batch->stepping) return ds_fail(err, DS_ERROR_ARGUMENT, "the batch is in the middle of a step: a callback cannot make another");
    const struct ds_float_state host = ds_os_float_begin();
    batch->stepping = true;
    end_cancelled(batch);
    admit(batch);
    const uint32_t n = choose_parts(batch);
    const ds_status status = n ? run_parts(batch, n, err) : DS_OK;
    take_out_all_that_are_over(batch);
    batch->stepping = false;
    ds_os_float_restore(host);
    if (left) *left = batch->count;
    return status;
}

void ds_batch_get_stats(const ds_batch *batch, ds_batch_stats *stats) {
    const size_t size = stats->size;
    ds_batch_stats full = batch->stats;
    full.size = size;
    full.running = running(batch);
    full.waiting = batch->count - full.running;
    memcpy(stats, &full, DS_MIN(size, sizeof full));
}
