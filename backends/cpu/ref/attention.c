/*
 * out = softmax(q K^T * scale) V over the visible positions j of the row's sequence:
 *     j < visible[r], and where window > 0 also j > positions[r] - window.
 *
 * In chunks of 256 absolute positions, of those that hold a visible key:
 *     s_j = (q . k_j, over the head's dimensions ascending from +0) * scale;  with a soft-cap c:  s_j = c * tanh(s_j / c)
 *     m = max s_j,  p_j = exp(s_j - m)
 *     l = sum of p_j: lane (j mod 32) adds its keys ascending from +0, then the halving tree
 *     o = sum of p_j * v_j over keys ascending from +0
 * The first chunk gives M, L, O = m, l, o; each further one, ascending:
 *     M' = max(M, m),  a = exp(M - M'),  b = exp(m - M'),  L = L * a + l * b,  O = O * a + o * b
 * and out = O * (1 / L). A row that sees nothing gives zeros; rows of position -1 are skipped.
 *
 * With an f16 cache q is rounded to f16 first, and so is p_j before l and o use it; products q * k and p * v are then exact.
 * Keys that are not visible are skipped, never multiplied by zero: what lies in their slots may be anything.
 *
 * Fast kernels: heads, rows and chunks in any order and in parallel; only the recurrence over chunks is ordered. Since keys
 * add to a lane and to o at +0, a masked key may be given p = +0 instead if its value is replaced by 0 too.
 */
#include "ref/ref.h"

#include "ops/numerics.h"

#include <stdlib.h>
#include <string.h>

/* One query head of one row, against the kv head that it reads. */
struct query {
    const struct ds_op_attention *p;
    uint32_t row, kv_head;
    const float *q;       /* [head_dim], rounded already */
    uint32_t first, last; /* visible: first <= j < last */
};

/* What a chunk or a sequence of chunks amounts to; o[head_dim] is not yet divided by l. */
struct partial {
    float m, l;
    float *o;
};

static float round_f16(float x) {
    return ds_f16_to_f32(ds_f32_to_f16(x));
}

static float get(const struct ds_kv *kv, const struct ds_slice *cache, uint64_t index) {
    return kv->f16 ? ds_f16_to_f32(((const uint16_t *)ds_host_at(cache))[index]) : ((const float *)ds_host_at(cache))[index];
}

static float score(const struct query *query, uint32_t j) {
    const struct ds_op_attention *p = query->p;
    const struct ds_kv *kv = &p->kv;
    const uint32_t page = ds_host_page(&p->paging, query->row, j);
    float sum = 0;
    for (uint32_t d = 0; d < kv->head_dim; d++) {
        const uint64_t index = ds_kv_key_index(page, query->kv_head, j % DS_PAGE, d, kv->kv_heads, kv->head_dim);
        sum = sum + query->q[d] * get(kv, &kv->k, index);
    }
    const float s = sum * p->scale;
    return p->softcap > 0 ? ds_softcap(s, p->softcap) : s;
}

/* o += p_j * v_j */
static void add_value(const struct query *query, uint32_t j, float weight, float *o) {
    const struct ds_kv *kv = &query->p->kv;
    const uint32_t page = ds_host_page(&query->p->paging, query->row, j);
    for (uint32_t d = 0; d < kv->head_dim; d++) {
        const uint64_t index = ds_kv_value_index(page, query->kv_head, j % DS_PAGE, d, kv->kv_heads, kv->head_dim);
        o[d] = o[d] + weight * get(kv, &kv->v, index);
    }
}

/* The visible keys `from` <= j < `to` of one chunk; there is at least one. */
static void attend_chunk(const struct query *query, uint32_t from, uint32_t to, struct partial *out) {
    float s[DS_CHUNK], lanes[DS_LANES] = {0};
    for (uint32_t j = from; j < to; j++) s[j - from] = score(query, j);
    out->m = s[0];
    for (uint32_t j = from + 1; j < to; j++) out->m = ds_max(out->m, s[j - from]);
    memset(out->o, 0, query->p->kv.head_dim * sizeof(float));
    for (uint32_t j = from; j < to; j++) {
        float weight = ds_exp(s[j - from] - out->m);
        if (query->p->kv.f16) weight = round_f16(weight);
        lanes[j % DS_LANES] = lanes[j % DS_LANES] + weight;
        add_value(query, j, weight, out->o);
    }
    out->l = ds_ref_tree(lanes);
}

static void join(struct partial *all, const struct partial *chunk, uint32_t head_dim) {
    const float m = ds_max(all->m, chunk->m);
    const float a = ds_exp(all->m - m), b = ds_exp(chunk->m - m);
    all->m = m;
    all->l = all->l * a + chunk->l * b;
    for (uint32_t d = 0; d < head_dim; d++) all->o[d] = all->o[d] * a + chunk->o[d] * b;
}

/* `o`: two head_dims of scratch. */
static void attend(const struct query *query, float *o, float *out) {
    const uint32_t head_dim = query->p->kv.head_dim;
    memset(out, 0, head_dim * sizeof(float));
    if (query->first >= query->last) return;
    struct partial all = {.o = o}, chunk = {.o = o + head_dim};
    for (uint32_t from = query->first; from < query->last;) {
        const uint32_t to = DS_MIN(query->last, (from / DS_CHUNK + 1) * DS_CHUNK);
        if (from == query->first) {
            attend_chunk(query, from, to, &all);
        } else {
            attend_chunk(query, from, to, &chunk);
            join(&all, &chunk, head_dim);
        }
        from = to;
    }
    const float inverse = ds_div(1.0f, all.l);
    for (uint32_t d = 0; d < head_dim; d++) out[d] = all.o[d] * inverse;
}

ds_status ds_ref_attention(const struct ds_op_attention *p, struct ds_error *err) {
    const uint32_t head_dim = p->kv.head_dim, rows = ds_host_rows(&p->count, p->q.rows);
    const int32_t *positions = ds_host_at(&p->paging.positions), *visible = ds_host_at(&p->visible);
    float *scratch = malloc(3 * (size_t)head_dim * sizeof(float));
    if (!scratch) return ds_fail_memory(err, 3 * (size_t)head_dim * sizeof(float), "an attention head");
    float *q = scratch, *o = scratch + head_dim;

    for (uint32_t r = 0; r < rows; r++) {
        if (positions[r] < 0) continue;
        const int64_t oldest = p->window > 0 ? (int64_t)positions[r] - p->window + 1 : 0;
        for (uint32_t h = 0; h < p->heads; h++) {
            const float *given = (const float *)ds_host_row(&p->q, r) + (size_t)h * head_dim;
            for (uint32_t d = 0; d < head_dim; d++) q[d] = p->kv.f16 ? round_f16(given[d]) : given[d];
            const struct query query = {.p = p,
                                        .row = r,
                                        .kv_head = h / (p->heads / p->kv.kv_heads),
                                        .q = q,
                                        .first = (uint32_t)DS_MAX(oldest, 0),
                                        .last = (uint32_t)DS_MAX(visible[r], 0)};
            attend(&query, o, (float *)ds_host_row(&p->out, r) + (size_t)h * head_dim);
        }
    }
    free(scratch);
    return DS_OK;
}
