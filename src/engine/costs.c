/* Measuring what the scheduler reckons with: passes of the target by rows and context, drafts, context. */
#include "engine/engine_internal.h"

#include <stdlib.h>
#include <string.h>

/*
 * Everything is run in the order in which it will be: plain passes one after the other, wider ones behind a draft, whose weights have
 * taken the target's place in the caches. A sweep runs all of it, then comes the next, so that a slow moment of the machine hits all
 * alike. Of each the second fastest of several runs counts: others disturbed it hardly. Some sweeps at least, if they fit into a few
 * seconds; quick ones are repeated.
 */
enum { MOST_SWEEPS = 16, WANTED_SWEEPS = 4, PLAIN_RUNS = 3, MOST_RUNS = MOST_SWEEPS * PLAIN_RUNS, MOST_WIDTH = 64, MOST_WIDTH_TOGETHER = 32, FAR_CONTEXT = 1024, LEAST_SPAN = 256 };
static const double ENOUGH_SECONDS = 0.5, MOST_SECONDS = 8;

struct runs {
    uint32_t n;
    double seconds[MOST_RUNS];
};

struct measuring {
    ds_engine *engine;
    const struct ds_sequence *sequence;
    uint32_t near, far; /* contexts; far 0: there is no room for one */
    uint32_t n_widths, widths[DS_COST_MOST_WIDTHS];
    struct runs pass[DS_COST_MOST_WIDTHS], far_pass[DS_COST_MOST_WIDTHS], draft_one, draft, far_draft, draft_many, feed_one, feed_many;
    uint32_t block_width; /* index of the width of one sequence's widest round */
};

/* NULL: not of interest. */
static void note(struct runs *runs, double start) {
    if (runs && runs->n < MOST_RUNS) runs->seconds[runs->n++] = ds_os_seconds() - start;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* 0: it was not run. */
static double time_of(struct runs *runs) {
    qsort(runs->seconds, runs->n, sizeof *runs->seconds, by_value);
    return runs->n ? runs->seconds[runs->n > 3] : 0;
}

/* How much longer than that the middle one took: 1 on a machine that does nothing else. */
static double spread_of(struct runs *runs) {
    const double time = time_of(runs);
    return time > 0 ? runs->seconds[runs->n / 2] / time : 1;
}

/* --- single runs --- */

/* Different tokens: rows of a mixture of experts should not all want the same ones. */
static ds_token some_token(const ds_engine *engine, uint32_t i) {
    return (ds_token)((i + 1) * UINT64_C(2654435761) % engine->model->config.vocabulary);
}

static ds_status time_pass(struct measuring *m, uint32_t rows, uint32_t context, struct runs *runs, struct ds_error *err) {
    struct ds_target *target = &m->engine->target;
    struct ds_rows_buffer *b = &target->rows;
    for (uint32_t j = 0; j < rows; j++) {
        b->in_ids[j] = some_token(m->engine, j);
        b->in_positions[j] = (int32_t)(context + j);
        b->in_sequences[j] = m->sequence->slot;
        b->in_visible[j] = (int32_t)(context + j + 1);
        b->in_out_index[j] = (int32_t)j;
        b->in_sample[j] = ds_sample_row_of(&m->sequence->sampling, context + j + 1);
    }
    const double start = ds_os_seconds();
    DS_TRY(ds_target_run(target, rows, rows, false, err));
    note(runs, start);
    return DS_OK;
}

static ds_status time_draft(struct measuring *m, uint32_t slots, uint32_t context, struct runs *runs, struct ds_error *err) {
    struct ds_drafter *drafter = &m->engine->drafter;
    struct ds_sample_row sample[DS_MAX_BLOCK];
    for (uint32_t k = 0; k < slots; k++) sample[k] = ds_sample_row_of(&m->sequence->sampling, context + 1 + k);
    const double start = ds_os_seconds();
    DS_TRY(ds_drafter_block(drafter, m->sequence->slot, context, some_token(m->engine, 0), sample, slots, err));
    note(runs, start);
    return DS_OK;
}

/* Blocks for as many sequences as may draft in one pass; here they are all the same one. */
static ds_status time_drafts_together(struct measuring *m, struct ds_error *err) {
    struct ds_drafter *drafter = &m->engine->drafter;
    const uint32_t g = drafter->model->block_size, n = drafter->most_sequences;
    if (n < 2) return DS_OK;
    ds_drafter_begin(drafter, n, g);
    for (uint32_t s = 0; s < n; s++) {
        ds_drafter_set(drafter, s, m->sequence->slot, m->near, some_token(m->engine, s));
        for (uint32_t k = 0; k < g; k++) *ds_drafter_sample(drafter, s, k) = ds_sample_row_of(&m->sequence->sampling, m->near + 1 + k);
    }
    const double start = ds_os_seconds();
    DS_TRY(ds_drafter_run(drafter, err));
    note(&m->draft_many, start);
    return DS_OK;
}

static ds_status time_feed(struct measuring *m, uint32_t rows, struct runs *runs, struct ds_error *err) {
    ds_token *const following = m->engine->drafter.following;
    for (uint32_t i = 0; i < rows; i++) following[i] = some_token(m->engine, i);
    const double start = ds_os_seconds();
    DS_TRY(ds_drafter_context(&m->engine->drafter, m->sequence->slot, m->near, rows, following, err));
    DS_TRY(m->engine->drafter.params.device->fns->stream_sync(m->engine->drafter.params.stream, err));
    note(runs, start);
    return DS_OK;
}

/* --- all of them --- */

static void choose_widths(struct measuring *m) {
    static const uint32_t widths[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, MOST_WIDTH};
    const struct ds_target_params *p = &m->engine->target.params;
    const uint32_t most = DS_MIN(DS_MIN(p->rows, p->out_rows), m->engine->draft_model->block_size + 1);
    for (size_t i = 0; i < DS_COUNT(widths) && widths[i] < most; i++) m->widths[m->n_widths++] = widths[i];
    m->block_width = m->n_widths;
    m->widths[m->n_widths++] = most;
    /* Several sequences together: a few more widths, for beyond the last what lies in proportion is believed. */
    const uint32_t together = DS_MIN(DS_MIN(p->rows, p->out_rows), m->engine->params.max_sessions * (m->engine->draft_model->block_size + 1));
    for (uint32_t rows = 16; rows <= MOST_WIDTH_TOGETHER && rows <= DS_MIN(together, m->engine->params.context - m->near); rows *= 2)
        if (rows > m->widths[m->n_widths - 1] && m->n_widths < DS_COST_MOST_WIDTHS) m->widths[m->n_widths++] = rows;
}

/* Positions behind a context that a pass or a draft may use. */
static uint32_t tail_of(const ds_engine *engine) { return DS_MAX(engine->draft_model->block_size + 1, engine->draft_model->block_rows); }

/* Positions that a parked sequence takes in at once. */
static uint32_t batch_of(const struct measuring *m) {
    return DS_MIN(DS_MIN((uint32_t)DS_STORED_TAPS, m->engine->target.params.rows), m->engine->params.context - m->near);
}

/* Contexts with room for the widest pass and a block behind them. False: the sequence is so full that nothing can be measured. */
static bool choose_contexts(struct measuring *m) {
    const uint32_t capacity = m->engine->params.context, tail = tail_of(m->engine);
    m->near = DS_MAX(m->sequence->computed, 1);
    if (m->near + tail > capacity) return false;
    const uint32_t far = DS_MIN(DS_MAX((uint32_t)FAR_CONTEXT, 2 * m->near), capacity - tail);
    m->far = far >= m->near + LEAST_SPAN ? far : 0;
    return true;
}

/* Memory that was never written may be one page of zeros in the processor's cache: a context is made to lie in memory. */
static ds_status fill_pages(struct measuring *m, struct ds_cache_memory *cache, struct ds_stream *stream, struct ds_error *err) {
    const struct ds_pager *pager = &m->engine->pager;
    const int32_t *pages = pager->table + (size_t)m->sequence->slot * pager->pages_per_sequence;
    uint64_t most = 0;
    for (uint32_t l = 0; l < cache->n; l++) most = DS_MAX(most, ds_cache_page_bytes(&cache->layers[l]));
    if (!most) return DS_OK;
    void *zeros = calloc(1, (size_t)most);
    if (!zeros) return ds_fail_memory(err, (size_t)most, "a page of the cache");
    ds_status status = DS_OK;
    for (uint32_t p = (m->near + DS_PAGE - 1) / DS_PAGE; status == DS_OK && p < pager->lengths[m->sequence->slot]; p++) {
        for (uint32_t l = 0; status == DS_OK && l < cache->n; l++) {
            const struct ds_kv *kv = &cache->layers[l];
            const uint64_t bytes = ds_cache_page_bytes(kv);
            if (!bytes || cache->sources[l] != l) continue;
            status = cache->device->fns->write(stream, ds_slice_add(kv->k, (uint64_t)pages[p] * bytes), zeros, bytes, err);
            if (status == DS_OK) status = cache->device->fns->write(stream, ds_slice_add(kv->v, (uint64_t)pages[p] * bytes), zeros, bytes, err);
        }
    }
    free(zeros);
    return status;
}

/* The first of them finds the caches as others left them. */
static ds_status time_plain(struct measuring *m, uint32_t context, struct runs *runs, struct ds_error *err) {
    for (uint32_t i = 0; i <= PLAIN_RUNS; i++) DS_TRY(time_pass(m, 1, context, i ? runs : NULL, err));
    return DS_OK;
}

static ds_status sweep(struct measuring *m, struct ds_error *err) {
    const uint32_t last = m->block_width, g = m->engine->draft_model->block_size;
    DS_TRY(time_plain(m, m->near, &m->pass[0], err));
    for (uint32_t i = 1; i <= last; i++) {
        const bool whole = i > 1 || last == 1;
        DS_TRY(time_draft(m, whole ? g : 1, m->near, whole ? &m->draft : &m->draft_one, err));
        DS_TRY(time_pass(m, m->widths[i], m->near, &m->pass[i], err));
        if (whole) DS_TRY(time_feed(m, i == last ? batch_of(m) : 1, i == last ? &m->feed_many : &m->feed_one, err));
    }
    for (uint32_t i = last + 1; i < m->n_widths; i++) DS_TRY(time_pass(m, m->widths[i], m->near, &m->pass[i], err));
    DS_TRY(time_drafts_together(m, err));
    if (!last) { /* passes have one row: drafts cannot pay, but what they cost is told */
        DS_TRY(time_draft(m, g, m->near, &m->draft, err));
        DS_TRY(time_feed(m, 1, &m->feed_one, err));
    }
    if (!m->far) return DS_OK;
    if (last) {
        DS_TRY(time_draft(m, g, m->far, &m->far_draft, err));
        DS_TRY(time_pass(m, m->widths[last], m->far, &m->far_pass[last], err));
    }
    return time_plain(m, m->far, &m->far_pass[0], err);
}

static ds_status run_sweeps(struct measuring *m, struct ds_error *err) {
    ds_engine *e = m->engine;
    const uint32_t positions = DS_MAX(DS_MAX(m->near, m->far) + tail_of(e), m->near + batch_of(m));
    DS_TRY(ds_sequence_reserve(&e->spec, m->sequence, positions, err));
    for (uint32_t s = 0; s < e->target.n_stages; s++) DS_TRY(fill_pages(m, &e->target.stages[s].cache, e->target.stages[s].stream, err));
    DS_TRY(fill_pages(m, &e->drafter.cache, e->drafter.params.stream, err));
    DS_TRY(time_pass(m, 1, m->near, NULL, err)); /* the first run of anything is slow */
    DS_TRY(time_draft(m, e->draft_model->block_size, m->near, NULL, err));
    const double start = ds_os_seconds();
    for (uint32_t done = 0; done < MOST_SWEEPS; done++) {
        const double spent = ds_os_seconds() - start, next = done ? spent * (done + 1) / done : 0;
        if (done >= WANTED_SWEEPS && next > ENOUGH_SECONDS) break;
        if (next > MOST_SECONDS) break;
        DS_TRY(sweep(m, err));
    }
    return DS_OK;
}

static void fit(struct measuring *m, struct ds_cost_table *out) {
    struct ds_cost_samples s = {.n = m->n_widths, .near_context = m->near, .far_context = m->far, .block = m->engine->draft_model->block_size,
                                .draft_sequences = m->draft_many.n ? m->engine->drafter.most_sequences : 0, .draft_many = time_of(&m->draft_many),
                                .feed_rows = batch_of(m), .feed_one = time_of(&m->feed_one), .feed_many = time_of(&m->feed_many)};
    double least = 0, middle = 0;
    if (!m->feed_one.n) s.feed_one = s.feed_many / s.feed_rows;
    for (uint32_t i = 0; i < m->n_widths; i++) {
        s.pass[i] = (struct ds_cost_sample){m->widths[i], time_of(&m->pass[i]), time_of(&m->far_pass[i])};
        least += s.pass[i].near;
        middle += s.pass[i].near * spread_of(&m->pass[i]);
    }
    s.draft_whole = time_of(&m->draft);
    s.draft_one = m->draft_one.n ? DS_MIN(time_of(&m->draft_one), s.draft_whole) : s.draft_whole;
    s.draft_whole_far = time_of(&m->far_draft);
    ds_cost_fit(&s, out);
    out->spread = middle / least;
    out->measured = 1;
}

/* False in *done: the sequence is too full to measure behind it. The lock is held. */
static ds_status measure(struct measuring *m, struct ds_cost_table *out, bool *done, struct ds_error *err) {
    *done = choose_contexts(m);
    if (!*done) return DS_OK;
    choose_widths(m);
    const ds_status status = run_sweeps(m, err);
    ds_pager_truncate(&m->engine->pager, m->sequence->slot, m->sequence->computed);
    *done = status != DS_ERROR_LIMIT; /* too few pages are free to measure in */
    if (!*done) return DS_OK;
    if (status != DS_OK) return ds_fail_context(err, "measuring the costs of passes");
    fit(m, out);
    return DS_OK;
}

enum ds_confidence_source ds_confidence_source_of(const ds_engine *engine) {
    if (!engine->draft_model->has_confidence) return DS_CONFIDENCE_OWN;
    return engine->spec.temperature ? DS_CONFIDENCE_CALIBRATED : DS_CONFIDENCE_HEAD;
}

static void know(ds_engine *engine, const struct ds_cost_table *table) {
    ds_pace_learned_start(&engine->scheduling.learned, table, ds_confidence_source_of(engine));
    engine->scheduling.known = true;
}

/* Another thread may have been first: its table serves as well. *mine: measured here. */
static ds_status measure_once(ds_engine *engine, const struct ds_sequence *sequence, struct ds_cost_table *table, bool *mine, struct ds_error *err) {
    struct measuring m = {.engine = engine, .sequence = sequence};
    ds_status status = DS_OK;
    *mine = false;
    ds_os_mutex_lock(engine->lock);
    if (!engine->scheduling.known) {
        status = measure(&m, table, mine, err);
        if (status == DS_OK && *mine) know(engine, table);
    }
    ds_os_mutex_unlock(engine->lock);
    return status;
}

/* After so many tries a busy machine is how the machine is. */
enum { MOST_MEASURED = 3 };

/* Measured while the machine was busy, it is worth another try; the calmer of the two is kept. */
static bool take_from_cache(ds_engine *engine, struct ds_pace_learned *found) {
    if (!ds_costs_load(engine, found)) return false;
    ds_os_mutex_lock(engine->lock);
    const bool good = found->costs.table.spread <= DS_COST_DISTURBED || found->costs.table.measured >= MOST_MEASURED || engine->scheduling.remeasured;
    if (good && !engine->scheduling.known) {
        engine->scheduling.learned = *found;
        engine->scheduling.known = true;
    }
    ds_os_mutex_unlock(engine->lock);
    return good;
}

static void report(const ds_engine *engine, const struct ds_cost_table *table, uint32_t near, double seconds) {
    struct ds_costs costs = {.table = *table};
    ds_cost_tuning_start(&costs.tuning);
    const uint32_t most = table->widths[table->n_widths - 1];
    ds_logf(&engine->log, DS_LOG_INFO, "costs measured in %.2f s: a pass of 1 row takes %.3f ms, one of %u rows %.3f ms, a draft %.3f ms", seconds,
            1e3 * ds_cost_pass(&costs, 1, near), most, 1e3 * ds_cost_pass(&costs, most, near), 1e3 * ds_cost_draft(&costs, table->block, near));
    if (table->spread > DS_COST_DISTURBED)
        ds_logf(&engine->log, DS_LOG_INFO,
                "the machine was busy while costs were measured: passes took up to %.1f times as long; they are corrected while running, and measured "
                "again next time", table->spread);
}

ds_status ds_engine_know_costs(ds_engine *engine, const struct ds_sequence *sequence, struct ds_error *err) {
    ds_os_mutex_lock(engine->lock);
    const bool known = engine->scheduling.known;
    ds_os_mutex_unlock(engine->lock);
    if (known) return DS_OK;
    struct ds_pace_learned found = {.seen = 0};
    if (take_from_cache(engine, &found)) return DS_OK;
    struct ds_cost_table table;
    bool mine;
    const double start = ds_os_seconds();
    DS_TRY(measure_once(engine, sequence, &table, &mine, err));
    if (!mine) return DS_OK;
    report(engine, &table, DS_MAX(sequence->computed, 1), ds_os_seconds() - start);
    ds_os_mutex_lock(engine->lock);
    if (found.costs.table.n_widths) { /* what was learned stays true; times only if they were no worse */
        const uint32_t measured = found.costs.table.measured + 1;
        if (table.spread < found.costs.table.spread) found.costs.table = table;
        found.costs.table.measured = measured;
        engine->scheduling.learned = found;
    }
    ds_os_mutex_unlock(engine->lock);
    ds_costs_store(engine);
    return DS_OK;
}
