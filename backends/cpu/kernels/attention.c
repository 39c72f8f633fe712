/*
 * Units of (a few rows of one sequence, one kv head) are shared out among threads; a unit walks its chunks once, so that each
 * key and value leaves memory once for all its rows and query heads. Lanes are keys for the scores and dimensions for the sum of
 * values. Meaning: ref/attention.c.
 */
#include "kernels.h"
#include "kernels/attention.h"
#include "kernels/vec.h"

enum { QUERIES = DS_ROW_BLOCK / 2 }; /* query heads at a time: two vectors of accumulators each */

/* A unit, and where its state lies in the thread's scratch; query i = row * queries + head within the kv head's. */
struct unit {
    const struct ds_op_attention *p;
    uint32_t first_row, rows, kv_head;
    uint32_t queries; /* of each row: heads / kv_heads */
    float *q, *o;     /* [rows * queries][head_dim]: rounded queries, sums so far */
    float *m, *l;     /* [rows * queries] */
    float *chunk_o;   /* [queries][head_dim] */
    float *s;         /* [queries][DS_CHUNK]: scores, then weights of a chunk's keys */
};

/* A row's visible keys of a chunk: 0 <= from < to <= DS_CHUNK within it. */
struct span {
    uint32_t row, chunk, from, to;
};

static void place_in_scratch(struct unit *unit, uint8_t *scratch) {
    const size_t all = (size_t)unit->rows * unit->queries, dim = unit->p->kv.head_dim;
    unit->s = (float *)(void *)scratch;
    unit->q = unit->s + (size_t)unit->queries * DS_CHUNK;
    unit->o = unit->q + all * dim;
    unit->chunk_o = unit->o + all * dim;
    unit->m = unit->chunk_o + unit->queries * dim;
    unit->l = unit->m + all;
}

static void load_queries(const struct unit *unit) {
    const uint32_t per_row = unit->queries * unit->p->kv.head_dim;
    for (uint32_t r = 0; r < unit->rows; r++) {
        const float *from = (const float *)ds_host_row(&unit->p->q, unit->first_row + r) + (size_t)unit->kv_head * per_row;
        float *to = unit->q + (size_t)r * per_row;
        if (unit->p->kv.f16) {
            for (uint32_t i = 0; i < per_row; i++) to[i] = ds_f16_to_f32(ds_f32_to_f16(from[i]));
        } else {
            memcpy(to, from, per_row * sizeof(float));
        }
    }
}

/* --- scores --- */

DS_INLINE vf load16(const void *from, const bool f16, size_t element) {
    return f16 ? vf_load_f16((const uint16_t *)from + element) : vf_load((const float *)from + element);
}
DS_INLINE vf add_product(const bool f16, vf a, vf b, vf c) { return f16 ? vf_add_exact_product(a, b, c) : vf_add(c, vf_mul(a, b)); }

/* s[i][0..31] = q_i . k for 32 keys whose slots begin at `keys`, for n queries; n and f16 are constants. */
DS_INLINE void scores_of_32(const void *keys, const bool f16, const float *q, const int n, uint32_t dim, float *s) {
    vf low[QUERIES], high[QUERIES];
    DS_UNROLL for (int i = 0; i < n; i++) low[i] = high[i] = vf_zero();
    for (uint32_t d = 0; d < dim; d++) {
        const vf a = load16(keys, f16, (size_t)d * DS_PAGE), b = load16(keys, f16, (size_t)d * DS_PAGE + DS_WIDTH);
        DS_UNROLL for (int i = 0; i < n; i++) {
            const vf x = vf_set1(q[(size_t)i * dim + d]);
            low[i] = add_product(f16, x, a, low[i]);
            high[i] = add_product(f16, x, b, high[i]);
        }
    }
    DS_UNROLL for (int i = 0; i < n; i++) {
        vf_store(s + i * DS_CHUNK, low[i]);
        vf_store(s + i * DS_CHUNK + DS_WIDTH, high[i]);
    }
}

/* All slots of the pages that hold visible keys; what lies in the others is computed and never looked at. */
DS_INLINE void scores(const struct unit *unit, const struct span *span, const bool f16) {
    const struct ds_kv *kv = &unit->p->kv;
    const uint32_t dim = kv->head_dim;
    const float *q = unit->q + (size_t)(span->row - unit->first_row) * unit->queries * dim;
    for (uint32_t at = span->from / 32 * 32; at < span->to; at += 32) {
        const uint32_t page = ds_host_page(&unit->p->paging, span->row, span->chunk * DS_CHUNK + at);
        const uint64_t index = ds_kv_key_index(page, unit->kv_head, at % DS_PAGE, 0, kv->kv_heads, dim);
        const void *keys = (const uint8_t *)ds_host_at(&kv->k) + index * (f16 ? 2 : 4);
        uint32_t i = 0;
        for (; unit->queries - i >= QUERIES; i += QUERIES) scores_of_32(keys, f16, q + (size_t)i * dim, QUERIES, dim, unit->s + i * DS_CHUNK + at);
        for (; i < unit->queries; i++) scores_of_32(keys, f16, q + (size_t)i * dim, 1, dim, unit->s + i * DS_CHUNK + at);
    }
}

/* --- softmax within a chunk --- */

/* Keys j, j + 32, .. are one lane's. */
static float sum_by_lanes(const float *weights) {
    vf low = vf_zero(), high = vf_zero();
    for (int j = 0; j < DS_CHUNK; j += DS_LANES) {
        low = vf_add(low, vf_load(weights + j));
        high = vf_add(high, vf_load(weights + j + DS_WIDTH));
    }
    return vf_tree(low, high);
}

/* Scores to weights, +0 where nothing is visible (which changes no sum). */
static void softmax(const struct ds_op_attention *p, const struct span *span, float *s, float *m, float *l) {
    const uint32_t from = span->from, to = span->to;
    for (uint32_t j = from; j < to; j++) s[j] = s[j] * p->scale;
    if (p->softcap > 0)
        for (uint32_t j = from; j < to; j++) s[j] = ds_softcap(s[j], p->softcap);
    const float largest = ds_largest(s + from, to - from); /* of equal zeros either: s - largest is a zero then */
    for (uint32_t j = from; j < to; j++) s[j] = ds_exp(s[j] - largest);
    if (p->kv.f16)
        for (uint32_t j = from; j < to; j++) s[j] = ds_f16_to_f32(ds_f32_to_f16(s[j]));
    memset(s, 0, from * sizeof(float));
    memset(s + to, 0, (DS_CHUNK - to) * sizeof(float));
    *m = largest;
    *l = sum_by_lanes(s);
}

/* --- values --- */

/* Values of the keys [from, to) of one page, slot 0 of it at `values`, for `vectors` * 16 dimensions from `d` on: o += weight * v. */
DS_INLINE void values_of_page(const void *values, const bool f16, const float *weights, uint32_t from, uint32_t to, uint32_t dim,
                              uint32_t d, const int n, const int vectors, float *o) {
    vf sum[QUERIES][2];
    DS_UNROLL for (int i = 0; i < n; i++)
        DS_UNROLL for (int v = 0; v < vectors; v++) sum[i][v] = vf_load(o + (size_t)i * dim + d + v * DS_WIDTH);
    for (uint32_t j = from; j < to; j++) {
        DS_UNROLL for (int v = 0; v < vectors; v++) {
            const vf value = load16(values, f16, (size_t)j * dim + d + (size_t)v * DS_WIDTH);
            DS_UNROLL for (int i = 0; i < n; i++) sum[i][v] = add_product(f16, vf_set1(weights[i * DS_CHUNK + j]), value, sum[i][v]);
        }
    }
    DS_UNROLL for (int i = 0; i < n; i++)
        DS_UNROLL for (int v = 0; v < vectors; v++) vf_store(o + (size_t)i * dim + d + v * DS_WIDTH, sum[i][v]);
}

/* The dimensions beyond the last multiple of 16. */
static void last_values(const void *values, bool f16, const float *weights, uint32_t from, uint32_t to, uint32_t dim, float *o) {
    for (uint32_t j = from; j < to; j++) {
        for (uint32_t d = dim / DS_WIDTH * DS_WIDTH; d < dim; d++) {
            const size_t at = (size_t)j * dim + d;
            const float value = f16 ? ds_f16_to_f32(((const uint16_t *)values)[at]) : ((const float *)values)[at];
            o[d] = o[d] + weights[j] * value;
        }
    }
}

DS_INLINE void values_of_queries(const void *values, const bool f16, const float *weights, uint32_t from, uint32_t to, uint32_t dim,
                                 const int n, float *o) {
    uint32_t d = 0;
    for (; d + 2 * DS_WIDTH <= dim; d += 2 * DS_WIDTH) values_of_page(values, f16, weights, from, to, dim, d, n, 2, o);
    if (d + DS_WIDTH <= dim) values_of_page(values, f16, weights, from, to, dim, d, n, 1, o);
    if (dim % DS_WIDTH)
        for (int i = 0; i < n; i++) last_values(values, f16, weights + i * DS_CHUNK, from, to, dim, o + (size_t)i * dim);
}

/* o of every query of the row: only visible keys are read. */
DS_INLINE void weighted_values(const struct unit *unit, const struct span *span, const bool f16, float *o) {
    const struct ds_kv *kv = &unit->p->kv;
    const uint32_t dim = kv->head_dim;
    memset(o, 0, (size_t)unit->queries * dim * sizeof(float));
    for (uint32_t at = span->from / DS_PAGE * DS_PAGE; at < span->to; at += DS_PAGE) {
        const uint32_t page = ds_host_page(&unit->p->paging, span->row, span->chunk * DS_CHUNK + at);
        const uint64_t index = ds_kv_value_index(page, unit->kv_head, 0, 0, kv->kv_heads, dim);
        const void *values = (const uint8_t *)ds_host_at(&kv->v) + index * (f16 ? 2 : 4);
        const uint32_t from = DS_MAX(span->from, at) - at, to = DS_MIN(span->to, at + DS_PAGE) - at;
        uint32_t i = 0;
        for (; unit->queries - i >= QUERIES; i += QUERIES)
            values_of_queries(values, f16, unit->s + i * DS_CHUNK + at, from, to, dim, QUERIES, o + (size_t)i * dim);
        for (; i < unit->queries; i++) values_of_queries(values, f16, unit->s + i * DS_CHUNK + at, from, to, dim, 1, o + (size_t)i * dim);
    }
}

/* --- chunks --- */

/* O = O * a + o * b and so on; `at` is a query's place among the unit's. */
static void join(const struct unit *unit, size_t at, float m, float l, const float *o) {
    const uint32_t dim = unit->p->kv.head_dim;
    const float joint = ds_max(unit->m[at], m), a = ds_exp(unit->m[at] - joint), b = ds_exp(m - joint);
    float *all = unit->o + at * dim;
    unit->m[at] = joint;
    unit->l[at] = unit->l[at] * a + l * b;
    for (uint32_t d = 0; d < dim; d++) all[d] = all[d] * a + o[d] * b;
}

static void attend(const struct unit *unit, const struct span *span, bool first) {
    const uint32_t dim = unit->p->kv.head_dim;
    const size_t query = (size_t)(span->row - unit->first_row) * unit->queries;
    float *o = first ? unit->o + query * dim : unit->chunk_o;
    float m[DS_ATTENTION_QUERIES], l[DS_ATTENTION_QUERIES];

    if (unit->p->kv.f16) scores(unit, span, true);
    else scores(unit, span, false);
    for (uint32_t i = 0; i < unit->queries; i++) softmax(unit->p, span, unit->s + i * DS_CHUNK, &m[i], &l[i]);
    if (unit->p->kv.f16) weighted_values(unit, span, true, o);
    else weighted_values(unit, span, false, o);

    for (uint32_t i = 0; i < unit->queries; i++) {
        if (first) {
            unit->m[query + i] = m[i];
            unit->l[query + i] = l[i];
        } else {
            join(unit, query + i, m[i], l[i], o + (size_t)i * dim);
        }
    }
}

/* The keys that a row sees: [first, last). */
static void visible_keys(const struct ds_op_attention *p, uint32_t row, uint32_t *first, uint32_t *last) {
    const int32_t position = ((const int32_t *)ds_host_at(&p->paging.positions))[row];
    const int32_t visible = ((const int32_t *)ds_host_at(&p->visible))[row];
    const int64_t oldest = p->window > 0 ? (int64_t)position - p->window + 1 : 0;
    *first = (uint32_t)DS_MAX(oldest, 0);
    *last = (uint32_t)DS_MAX(visible, 0);
}

static void write_out(const struct unit *unit, uint32_t row) {
    const uint32_t dim = unit->p->kv.head_dim;
    uint32_t first, last;
    visible_keys(unit->p, row, &first, &last);
    for (uint32_t i = 0; i < unit->queries; i++) {
        const size_t at = (size_t)(row - unit->first_row) * unit->queries + i;
        float *out = (float *)ds_host_row(&unit->p->out, row) + ((size_t)unit->kv_head * unit->queries + i) * dim;
        if (first >= last) {
            memset(out, 0, dim * sizeof(float));
            continue;
        }
        const float inverse = ds_div(1.0f, unit->l[at]);
        for (uint32_t d = 0; d < dim; d++) out[d] = unit->o[at * dim + d] * inverse;
    }
}

static void run_unit(const struct unit *unit) {
    const int32_t *positions = ds_host_at(&unit->p->paging.positions);
    uint32_t first_chunk = UINT32_MAX, end_chunk = 0;
    for (uint32_t r = unit->first_row; r < unit->first_row + unit->rows; r++) {
        uint32_t first, last;
        visible_keys(unit->p, r, &first, &last);
        if (positions[r] < 0 || first >= last) continue;
        first_chunk = DS_MIN(first_chunk, first / DS_CHUNK);
        end_chunk = DS_MAX(end_chunk, (last + DS_CHUNK - 1) / DS_CHUNK);
    }
    load_queries(unit);
    for (uint32_t chunk = first_chunk; chunk < end_chunk; chunk++) {
        for (uint32_t r = unit->first_row; r < unit->first_row + unit->rows; r++) {
            uint32_t first, last;
            visible_keys(unit->p, r, &first, &last);
            const uint32_t from = DS_MAX(first, chunk * DS_CHUNK), to = DS_MIN(last, (chunk + 1) * DS_CHUNK);
            if (positions[r] < 0 || from >= to) continue;
            const struct span span = {.row = r, .chunk = chunk, .from = from - chunk * DS_CHUNK, .to = to - chunk * DS_CHUNK};
            attend(unit, &span, chunk == first / DS_CHUNK);
        }
    }
    for (uint32_t r = unit->first_row; r < unit->first_row + unit->rows; r++)
        if (positions[r] >= 0) write_out(unit, r);
}

void DS_CPU_NAME(attention)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    const struct ds_op_attention *p = &params->attention;
    const uint32_t rows = ds_host_rows(&p->count, p->q.rows);
    const int32_t *sequence = ds_host_at(&p->paging.row_sequence);
    uint64_t number = 0;
    for (uint32_t first = 0, end; first < rows; first = end) {
        for (end = first + 1; end < rows && end - first < DS_ATTENTION_ROWS && sequence[end] == sequence[first]; end++) {}
        for (uint32_t head = 0; head < p->kv.kv_heads; head++) {
            if (number++ % work->members != work->member) continue;
            struct unit unit = {.p = p, .first_row = first, .rows = end - first, .kv_head = head, .queries = p->heads / p->kv.kv_heads};
            place_in_scratch(&unit, work->scratch);
            run_unit(&unit);
        }
    }
}
