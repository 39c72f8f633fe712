/*
 * Units of (a few rows of one sequence, one kv head) walk their chunks once (attention_chunk.h). Where there are units enough for
 * all threads, they are shared out whole. Where there are not, as in a decode, threads take (unit, chunk) pairs, put what each
 * amounts to into shared memory, meet, and join them in ascending order, so that the bits are the same. Which of the two, and
 * who does what, follows from positions and the number of threads alone. Meaning: ref/attention.c.
 */
#include "kernels/attention_chunk.h"

/* --- units --- */

static void place_in_scratch(struct unit *unit, uint8_t *scratch) {
    const size_t n = unit->n, dim = unit->p->kv.head_dim;
    unit->s = (float *)(void *)scratch;
    unit->tile = unit->s + n * DS_CHUNK;
    unit->q = unit->tile + DS_ATTENTION_TILE * DS_MAX(dim, (size_t)DS_PAGE);
    unit->o = unit->q + n * dim;
    unit->chunk_o = unit->o + n * dim;
    unit->m = unit->chunk_o + n * dim;
    unit->l = unit->m + n;
    unit->chunk_m = unit->l + n;
    unit->chunk_l = unit->chunk_m + n;
}

/* The keys that a row sees: [*first, *last), both 0 for none. */
static void visible_keys(const struct ds_op_attention *p, uint32_t row, uint32_t *first, uint32_t *last) {
    const int32_t position = ((const int32_t *)ds_host_at(&p->paging.positions))[row];
    const int32_t visible = ((const int32_t *)ds_host_at(&p->visible))[row];
    const int64_t oldest = p->window > 0 ? DS_MAX((int64_t)position - p->window + 1, (int64_t)0) : 0;
    const bool none = position < 0 || visible <= oldest;
    *first = none ? 0 : (uint32_t)oldest;
    *last = none ? 0 : (uint32_t)visible;
}

/* All units of an op in their order: groups of rows, and in each the kv heads. */
struct units {
    const struct ds_op_attention *p;
    uint32_t rows; /* that are computed */
    struct unit unit;
};

static struct units units_of(const struct ds_op_attention *p) {
    return (struct units){.p = p, .rows = ds_host_rows(&p->count, p->q.rows),
                          .unit = {.p = p, .queries = p->heads / p->kv.kv_heads, .kv_head = p->kv.kv_heads - 1}};
}

static void begin_group(struct units *all) {
    const int32_t *sequence = ds_host_at(&all->p->paging.row_sequence);
    struct unit *unit = &all->unit;
    const uint32_t first = unit->first_row + unit->rows, most = ds_attention_rows(unit->queries);
    uint32_t end = first + 1;
    while (end < all->rows && end - first < most && sequence[end] == sequence[first]) end++;
    unit->first_row = first;
    unit->rows = end - first;
    unit->n = unit->rows * unit->queries;
    unit->begin = UINT32_MAX;
    unit->end = 0;
    for (uint32_t r = 0; r < unit->rows; r++) {
        visible_keys(all->p, first + r, &unit->first[r], &unit->last[r]);
        if (unit->first[r] >= unit->last[r]) continue;
        unit->begin = DS_MIN(unit->begin, unit->first[r] / DS_CHUNK);
        unit->end = DS_MAX(unit->end, (unit->last[r] + DS_CHUNK - 1) / DS_CHUNK);
    }
    if (unit->begin > unit->end) unit->begin = unit->end;
}

/* False behind the last one. */
static bool next_unit(struct units *all) {
    if (++all->unit.kv_head < all->p->kv.kv_heads) return true;
    if (all->unit.first_row + all->unit.rows >= all->rows) return false;
    begin_group(all);
    all->unit.kv_head = 0;
    return true;
}

/* What a unit costs, in chunks of a row; 1 at least, for its results. */
static uint64_t cost_of(const struct unit *unit) { return (uint64_t)unit->rows * (unit->end - unit->begin) + 1; }

static void load_queries(const struct unit *unit) {
    const uint32_t per_row = unit->queries * unit->p->kv.head_dim;
    for (uint32_t r = 0; r < unit->rows; r++) {
        const float *from = (const float *)ds_host_row(&unit->p->q, unit->first_row + r) + (size_t)unit->kv_head * per_row;
        float *to = unit->q + (size_t)r * per_row;
        uint32_t i = 0;
        if (unit->p->kv.f16) {
            for (; i + DS_WIDTH <= per_row; i += DS_WIDTH) vf_store(to + i, vf_round_f16(vf_load(from + i)));
            for (; i < per_row; i++) to[i] = ds_f16_to_f32(ds_f32_to_f16(from[i]));
        } else {
            memcpy(to, from, per_row * sizeof(float));
        }
    }
}

/* --- joining chunks --- */

/* What one or more chunks amount to for one row and query head. */
struct state {
    float *m, *l, *o;
};

/* all = all and then `chunk`. */
static void join(struct state all, struct state chunk, uint32_t dim) {
    const float joint = ds_max(*all.m, *chunk.m), scale[2] = {ds_exp(*all.m - joint), ds_exp(*chunk.m - joint)};
    *all.m = joint;
    *all.l = *all.l * scale[0] + *chunk.l * scale[1];
    float *restrict o = all.o;
    const float *restrict more = chunk.o;
    for (uint32_t d = 0; d < dim; d++) o[d] = o[d] * scale[0] + more[d] * scale[1];
}

static void copy_state(struct state to, struct state from, uint32_t dim) {
    *to.m = *from.m;
    *to.l = *from.l;
    memcpy(to.o, from.o, dim * sizeof(float));
}

/* --- whole units --- */

static void join_unit(const struct unit *unit, const struct sight *sight) {
    const uint32_t dim = unit->p->kv.head_dim;
    for (uint32_t i = 0; i < unit->n; i++) {
        const uint32_t r = i / unit->queries;
        if (sight->from[r] >= sight->to[r]) continue;
        const struct state all = {unit->m + i, unit->l + i, unit->o + (size_t)i * dim};
        const struct state chunk = {unit->chunk_m + i, unit->chunk_l + i, unit->chunk_o + (size_t)i * dim};
        if (sight->chunk == unit->first[r] / DS_CHUNK) copy_state(all, chunk, dim);
        else join(all, chunk, dim);
    }
}

static void write_unit(const struct unit *unit) {
    const int32_t *positions = ds_host_at(&unit->p->paging.positions);
    const uint32_t dim = unit->p->kv.head_dim;
    for (uint32_t i = 0; i < unit->n; i++) {
        const uint32_t r = i / unit->queries, row = unit->first_row + r;
        if (positions[row] < 0) continue;
        float *out = (float *)ds_host_row(&unit->p->out, row) + ((size_t)unit->kv_head * unit->queries + i % unit->queries) * dim;
        if (unit->first[r] >= unit->last[r]) {
            memset(out, 0, dim * sizeof(float));
            continue;
        }
        const float inverse = ds_div(1.0f, unit->l[i]);
        for (uint32_t d = 0; d < dim; d++) out[d] = unit->o[(size_t)i * dim + d] * inverse;
    }
}

static void run_unit(const struct unit *unit) {
    load_queries(unit);
    for (uint32_t chunk = unit->begin; chunk < unit->end; chunk++) {
        const struct sight sight = sight_of(unit, chunk);
        attend_chunk(unit, &sight, unit->chunk_m, unit->chunk_l, unit->chunk_o);
        join_unit(unit, &sight);
    }
    write_unit(unit);
}

/* A unit belongs to the thread in whose part of the whole cost its middle lies. */
static bool owns(const struct ds_cpu_work *work, uint64_t before, uint64_t cost, uint64_t total) { return ds_cpu_owns(work, 2 * before + cost, 2 * total); }

static void run_whole(const struct ds_cpu_work *work, const struct ds_op_attention *p, uint64_t total) {
    uint64_t before = 0;
    for (struct units all = units_of(p); next_unit(&all);) {
        const uint64_t cost = cost_of(&all.unit);
        if (owns(work, before, cost, total)) {
            place_in_scratch(&all.unit, work->scratch);
            run_unit(&all.unit);
        }
        before += cost;
    }
}

/* --- split units --- */

/* A wave of chunks, [begin, begin + chunks), and where results lie. */
struct wave {
    const struct ds_op_attention *p;
    uint32_t begin, chunks;
    float *partials; /* a unit's: [chunk][n pairs' o, then their m, then their l] */
    float *m, *l;    /* [row][head]: of the waves so far; O is in the output */
};

/* Of a unit whose first pair is number `pair` among all of the op. */
static float *partial_at(const struct wave *wave, const struct unit *unit, uint32_t chunk) {
    const uint64_t pair = (uint64_t)unit->first_row * wave->p->heads + (uint64_t)unit->kv_head * unit->n, each = wave->p->kv.head_dim + 2;
    return wave->partials + (pair * wave->chunks + (uint64_t)(chunk - wave->begin) * unit->n) * each;
}

static void compute_wave(const struct ds_cpu_work *work, const struct wave *wave, uint64_t total) {
    uint64_t before = 0;
    for (struct units all = units_of(wave->p); next_unit(&all);) {
        struct unit *unit = &all.unit;
        const uint32_t end = DS_MIN(unit->end, wave->begin + wave->chunks);
        bool loaded = false;
        place_in_scratch(unit, work->scratch);
        for (uint32_t chunk = DS_MAX(unit->begin, wave->begin); chunk < end; chunk++, before += unit->rows) {
            if (!owns(work, before, unit->rows, total)) continue;
            if (!loaded) load_queries(unit);
            loaded = true;
            const struct sight sight = sight_of(unit, chunk);
            float *o = partial_at(wave, unit, chunk), *m = o + (size_t)unit->n * wave->p->kv.head_dim;
            attend_chunk(unit, &sight, m, m + unit->n, o);
        }
    }
}

/* One row and query head: pair i of the unit. */
static void join_wave(const struct wave *wave, const struct unit *unit, uint32_t i) {
    const struct ds_op_attention *p = wave->p;
    const uint32_t dim = p->kv.head_dim, r = i / unit->queries, row = unit->first_row + r, head = unit->kv_head * unit->queries + i % unit->queries;
    if (((const int32_t *)ds_host_at(&p->paging.positions))[row] < 0) return;
    const size_t pair = (size_t)row * p->heads + head;
    const struct state all = {wave->m + pair, wave->l + pair, (float *)ds_host_row(&p->out, row) + (size_t)head * dim};
    if (unit->first[r] >= unit->last[r]) {
        memset(all.o, 0, dim * sizeof(float));
        return;
    }
    const uint32_t first = unit->first[r] / DS_CHUNK, last = (unit->last[r] + DS_CHUNK - 1) / DS_CHUNK, end = DS_MIN(last, wave->begin + wave->chunks);
    for (uint32_t chunk = DS_MAX(first, wave->begin); chunk < end; chunk++) {
        float *o = partial_at(wave, unit, chunk), *m = o + (size_t)unit->n * dim;
        const struct state partial = {m + i, m + unit->n + i, o + (size_t)i * dim};
        if (chunk == first) copy_state(all, partial, dim);
        else join(all, partial, dim);
        if (chunk + 1 < last) continue;
        const float inverse = ds_div(1.0f, *all.l);
        for (uint32_t d = 0; d < dim; d++) all.o[d] *= inverse;
    }
}

static void finish_wave(const struct ds_cpu_work *work, const struct wave *wave) {
    uint64_t before = 0, first, end;
    struct units all = units_of(wave->p);
    ds_cpu_share(work, (uint64_t)all.rows * wave->p->heads, &first, &end);
    for (; next_unit(&all); before += all.unit.n)
        for (uint64_t i = DS_MAX(before, first); i < DS_MIN(before + all.unit.n, end); i++) join_wave(wave, &all.unit, (uint32_t)(i - before));
}

/* Chunks in all units, each once for every row. */
static uint64_t cost_of_wave(const struct wave *wave) {
    uint64_t total = 0;
    for (struct units all = units_of(wave->p); next_unit(&all);) {
        const uint32_t begin = DS_MAX(all.unit.begin, wave->begin), end = DS_MIN(all.unit.end, wave->begin + wave->chunks);
        if (begin < end) total += (uint64_t)all.unit.rows * (end - begin);
    }
    return total;
}

static void run_split(const struct ds_cpu_work *work, const struct ds_op_attention *p, uint32_t begin, uint32_t end) {
    const uint64_t places = (uint64_t)p->q.rows * p->heads;
    float *shared = (float *)(void *)work->shared;
    struct wave wave = {.p = p, .begin = begin, .chunks = ds_attention_wave(p), .m = shared, .l = shared + places, .partials = shared + 2 * places};
    do {
        const uint64_t total = cost_of_wave(&wave);
        if (total > 0) compute_wave(work, &wave, total);
        ds_cpu_meet(work);
        finish_wave(work, &wave);
        wave.begin += wave.chunks;
        if (wave.begin < end) ds_cpu_meet(work);
    } while (wave.begin < end);
}

/* --- the op --- */

/* What all units cost, what the busiest thread would have of it, and the chunks that there are. */
struct plan {
    uint64_t total, busiest;
    uint32_t begin, end;
};

static struct plan make_plan(const struct ds_op_attention *p, unsigned members) {
    struct plan plan = {.begin = UINT32_MAX};
    for (struct units all = units_of(p); next_unit(&all);) {
        plan.total += cost_of(&all.unit);
        plan.begin = DS_MIN(plan.begin, all.unit.begin);
        plan.end = DS_MAX(plan.end, all.unit.end);
    }
    uint64_t before = 0, load = 0;
    uint64_t owner = 0;
    for (struct units all = units_of(p); next_unit(&all);) { /* as threads that are alike would share them */
        const uint64_t cost = cost_of(&all.unit), its = (2 * before + cost) * members / (2 * plan.total);
        load = its == owner ? load + cost : cost;
        owner = its;
        plan.busiest = DS_MAX(plan.busiest, load);
        before += cost;
    }
    return plan;
}

/* Splitting costs two meetings and a copy of the results; it pays where whole units leave threads without work. */
static bool worth_splitting(const struct ds_op_attention *p, const struct plan *plan, unsigned members) {
    const bool uneven = 8 * plan->busiest * members > 9 * plan->total;
    return members > 1 && p->q.rows <= DS_ATTENTION_SPLIT_ROWS && plan->end - plan->begin > 1 && uneven;
}

void DS_CPU_NAME(attention)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    const struct ds_op_attention *p = &params->attention;
    const struct plan plan = make_plan(p, work->members);
    if (plan.total == 0) return; /* no rows */
    if (worth_splitting(p, &plan, work->members)) run_split(work, p, plan.begin, plan.end);
    else run_whole(work, p, plan.total);
}
