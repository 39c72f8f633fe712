/*
 * One chunk of 256 keys against a unit: a few rows of one sequence, and all query heads of one kv head. Every key and value is
 * read from memory once for all of them. Lanes are keys for the scores and dimensions for the sums of values; registers hold
 * a block of (row, query head) pairs times sixteen lanes. Meaning: ref/attention.c.
 */
#ifndef DSPARK_CPU_ATTENTION_CHUNK_H
#define DSPARK_CPU_ATTENTION_CHUNK_H

#include "kernels.h"
#include "kernels/attention.h"
#include "kernels/vec.h"

/* Pairs in a block: as many accumulators of 16 lanes as registers hold beside a key and a query. */
#if DS_PART == 64
enum { BLOCK = 8 };
#elif DS_PART == 32 || defined(__aarch64__)
enum { BLOCK = 6 };
#else
enum { BLOCK = 2 };
#endif

/* Pair i = row * queries + head within the kv head's. */
struct unit {
    const struct ds_op_attention *p;
    uint32_t first_row, rows, kv_head;
    uint32_t queries;                                         /* of each row: heads / kv_heads */
    uint32_t n;                                               /* rows * queries */
    uint32_t first[DS_ATTENTION_ROWS], last[DS_ATTENTION_ROWS]; /* keys that a row sees, [first, last); equal: none */
    uint32_t begin, end;                                      /* chunks in which any row sees a key */
    float *q;                                                 /* [n][head_dim], rounded as the cache is */
    float *s;                                                 /* [n][DS_CHUNK]: scores, then weights of a chunk's keys */
    float *o, *m, *l;                                         /* [n][head_dim], [n], [n]: the chunks so far */
    float *chunk_o, *chunk_m, *chunk_l;                       /* likewise: this chunk */
    float *tile;                                              /* keys or values, widened for many blocks */
};

/* What each row sees of a chunk: [from, to) within it; equal: nothing. */
struct sight {
    uint32_t chunk;
    uint32_t from[DS_ATTENTION_ROWS], to[DS_ATTENTION_ROWS];
};

/* Keys and values as they lie: f16 or f32 in the cache, or f16 widened into `tile`. */
enum form { F16, F32, WIDENED };

DS_INLINE vf load16(const void *from, const enum form form, size_t element) {
    return form == F16 ? vf_load_f16((const uint16_t *)from + element) : vf_load((const float *)from + element);
}
DS_INLINE vf add_product(const enum form form, vf a, vf b, vf c) {
    return form == F32 ? vf_add(c, vf_mul(a, b)) : vf_add_exact_product(a, b, c);
}

/* Calls FN(form, n, ...) with both as constants. */
#define WITH_COUNT(FN, form, n, ...)                                                                                            \
    switch (n) {                                                                                                                \
    case 1: FN(form, 1, __VA_ARGS__); break;                                                                                    \
    case 2: FN(form, 2, __VA_ARGS__); break;                                                                                    \
    case 3: if (BLOCK >= 3) FN(form, DS_MIN(BLOCK, 3), __VA_ARGS__); break;                                                     \
    case 4: if (BLOCK >= 4) FN(form, DS_MIN(BLOCK, 4), __VA_ARGS__); break;                                                     \
    case 5: if (BLOCK >= 5) FN(form, DS_MIN(BLOCK, 5), __VA_ARGS__); break;                                                     \
    case 6: if (BLOCK >= 6) FN(form, DS_MIN(BLOCK, 6), __VA_ARGS__); break;                                                     \
    case 7: if (BLOCK >= 7) FN(form, DS_MIN(BLOCK, 7), __VA_ARGS__); break;                                                     \
    default: if (BLOCK >= 8) FN(form, DS_MIN(BLOCK, 8), __VA_ARGS__); break;                                                    \
    }

static inline uint32_t blocks_of(const struct unit *unit) { return (unit->n + BLOCK - 1) / BLOCK; }

/* Blocks are even: 8 pairs are 4 and 4, not 6 and 2. */
static inline uint32_t block_start(const struct unit *unit, uint32_t block) { return block * unit->n / blocks_of(unit); }

static inline enum form form_of(const struct unit *unit) {
    if (!unit->p->kv.f16) return F32;
    return blocks_of(unit) > 1 ? WIDENED : F16;
}

/* --- scores --- */

/*
 * s[i][0..15] = q_i . k of the 16 keys at `keys`, of which those of a dimension are `stride` elements behind those of the last. What
 * lies as far behind `ahead` is wanted next: too far for the hardware to foresee.
 */
DS_INLINE void scores_of_block(const enum form form, const int n, const void *keys, const void *ahead, size_t stride, const float *q, uint32_t dim,
                               float *s) {
    vf sum[BLOCK];
    DS_UNROLL for (int i = 0; i < n; i++) sum[i] = vf_zero();
    for (uint32_t d = 0; d < dim; d++) {
        const vf key = load16(keys, form, d * stride);
        if (form != WIDENED) __builtin_prefetch((const char *)ahead + d * stride * (form == F16 ? 2 : 4));
        DS_UNROLL for (int i = 0; i < n; i++) sum[i] = add_product(form, vf_set1(q[(size_t)i * dim + d]), key, sum[i]);
    }
    DS_UNROLL for (int i = 0; i < n; i++) vf_store(s + (size_t)i * DS_CHUNK, sum[i]);
}

static void scores_f16(int n, const void *keys, const void *ahead, size_t stride, const float *q, uint32_t dim, float *s) {
    WITH_COUNT(scores_of_block, F16, n, keys, ahead, stride, q, dim, s)
}
static void scores_f32(int n, const void *keys, const void *ahead, size_t stride, const float *q, uint32_t dim, float *s) {
    WITH_COUNT(scores_of_block, F32, n, keys, ahead, stride, q, dim, s)
}
static void scores_widened(int n, const void *keys, size_t stride, const float *q, uint32_t dim, float *s) {
    WITH_COUNT(scores_of_block, WIDENED, n, keys, NULL, stride, q, dim, s)
}

/* Whether a row of the pairs [i, end) sees a key of [from, to). */
static inline bool seen(const struct unit *unit, const struct sight *sight, uint32_t i, uint32_t end, uint32_t from, uint32_t to) {
    for (uint32_t r = i / unit->queries; r <= (end - 1) / unit->queries; r++)
        if (sight->from[r] < to && from < sight->to[r]) return true;
    return false;
}

/* Sixteen keys and where they lie. */
struct key_tile {
    const void *keys, *ahead;
    enum form form;
    size_t stride;
    uint32_t at; /* the first one's place in the chunk */
};

/* For all pairs that see one of them; what lies in the other slots is computed and never looked at. */
static void scores_of_tile(const struct unit *unit, const struct sight *sight, const struct key_tile *tile) {
    const uint32_t dim = unit->p->kv.head_dim;
    for (uint32_t block = 0; block < blocks_of(unit); block++) {
        const uint32_t i = block_start(unit, block), end = block_start(unit, block + 1);
        if (!seen(unit, sight, i, end, tile->at, tile->at + DS_WIDTH)) continue;
        const float *q = unit->q + (size_t)i * dim;
        float *s = unit->s + (size_t)i * DS_CHUNK + tile->at;
        if (tile->form == F16) scores_f16((int)(end - i), tile->keys, tile->ahead, tile->stride, q, dim, s);
        else if (tile->form == F32) scores_f32((int)(end - i), tile->keys, tile->ahead, tile->stride, q, dim, s);
        else scores_widened((int)(end - i), tile->keys, tile->stride, q, dim, s);
    }
}

/* The unit's keys from slot `at` of a chunk on, which some row sees. */
static const uint8_t *keys_at(const struct unit *unit, const struct sight *sight, uint32_t at) {
    const struct ds_kv *kv = &unit->p->kv;
    const uint32_t page = ds_host_page(&unit->p->paging, unit->first_row, sight->chunk * DS_CHUNK + at);
    const uint64_t index = ds_kv_key_index(page, unit->kv_head, at % DS_PAGE, 0, kv->kv_heads, kv->head_dim);
    return (const uint8_t *)ds_host_at(&kv->k) + index * (kv->f16 ? 2 : 4);
}

static void scores(const struct unit *unit, const struct sight *sight) {
    const enum form form = form_of(unit);
    const uint32_t dim = unit->p->kv.head_dim;
    for (uint32_t at = 0; at < DS_CHUNK; at += DS_ATTENTION_TILE) {
        if (!seen(unit, sight, 0, unit->n, at, at + DS_ATTENTION_TILE)) continue;
        const uint8_t *keys = keys_at(unit, sight, at), *ahead = keys;
        const uint32_t next = at + DS_ATTENTION_TILE;
        if (next < DS_CHUNK && seen(unit, sight, 0, unit->n, next, next + 1)) ahead = keys_at(unit, sight, next);
        struct key_tile tile = {.form = form, .stride = form == WIDENED ? DS_ATTENTION_TILE : DS_PAGE};
        if (form == WIDENED) {
            for (uint32_t d = 0; d < dim; d++) {
                vf_store(unit->tile + (size_t)d * DS_ATTENTION_TILE, load16(keys, F16, (size_t)d * DS_PAGE));
                vf_store(unit->tile + (size_t)d * DS_ATTENTION_TILE + DS_WIDTH, load16(keys, F16, (size_t)d * DS_PAGE + DS_WIDTH));
            }
            keys = (const uint8_t *)unit->tile;
        }
        for (uint32_t half = 0; half < DS_ATTENTION_TILE; half += DS_WIDTH) {
            const uint32_t bytes = half * (form == F16 ? 2u : 4u);
            tile.at = at + half;
            tile.keys = keys + bytes;
            tile.ahead = ahead + bytes;
            scores_of_tile(unit, sight, &tile);
        }
    }
}

/* --- softmax within a chunk --- */

/*
 * ds_exp of x <= 0, to be rounded to f16. Below -80 f16 has nothing but 0, as from -80 itself, so that what ds_exp does for results
 * that are not normal numbers can be left out: 2^n is added to the exponent.
 */
DS_INLINE vf exp_for_f16(vf x) {
    const vf round = vf_set1(DS_NUM_ROUND), one = vf_set1(1.0f);
    const vf c = vf_max(vf_set1(-80.0f), x); /* a NaN stays one */
    const vf t = vf_add(vf_mul(c, vf_set1(1.44269502f)), round), n = vf_sub(t, round);
    const vf a = vf_sub(c, vf_mul(n, vf_set1(DS_NUM_LN2_HI))), b = vf_mul(n, vf_set1(DS_NUM_LN2_LO));
    const vf r = vf_sub(a, b), r_low = vf_sub(vf_sub(a, r), b);
    vf q = vf_add(vf_mul(vf_set1(0.00138143182f), r), vf_set1(0.00836885069f));
    q = vf_add(vf_mul(q, r), vf_set1(0.0416684002f));
    q = vf_add(vf_mul(q, r), vf_set1(0.166665196f));
    q = vf_add(vf_mul(q, r), vf_set1(0.49999994f));
    const vf h = vf_add(one, r), h_low = vf_sub(r, vf_sub(h, one));
    const vf p = vf_add(h, vf_add(vf_mul(vf_mul(r, r), q), vf_add(h_low, r_low)));
    return vf_add_exponent(p, t);
}

/* The scores of [first, end), of which [from, to) are visible: scaled and capped, -infinity elsewhere. Returns the largest. */
static float finish_scores(const struct ds_op_attention *p, uint32_t first, uint32_t end, uint32_t from, uint32_t to, float *s) {
    const float masked = ds_float(DS_NUM_INF | DS_NUM_SIGN);
    const vf scale = vf_set1(p->scale);
    for (uint32_t j = first; j < end; j += DS_WIDTH) vf_store(s + j, vf_mul(vf_load(s + j), scale));
    if (p->softcap > 0)
        for (uint32_t j = first; j < end; j++) s[j] = ds_softcap(s[j], p->softcap);
    for (uint32_t j = first; j < from; j++) s[j] = masked;
    for (uint32_t j = to; j < end; j++) s[j] = masked;
    vf largest = vf_set1(masked);
    for (uint32_t j = first; j < end; j += DS_WIDTH) largest = vf_max(vf_load(s + j), largest);
    return vf_largest(largest); /* of equal zeros either: s - largest is a zero then */
}

/* Weights that are +0 where nothing is visible change no sum. The lanes of l: keys j, j + 32, .. */
static void softmax(const struct ds_op_attention *p, uint32_t from, uint32_t to, float *s, float *m, float *l) {
    const uint32_t first = from / DS_LANES * DS_LANES, end = (to + DS_LANES - 1) / DS_LANES * DS_LANES;
    const float largest = finish_scores(p, first, end, from, to, s);
    const vf shift = vf_set1(largest);
    vf low = vf_zero(), high = vf_zero();
    if (!p->kv.f16)
        for (uint32_t j = first; j < end; j++) s[j] = ds_exp(s[j] - largest);
    for (uint32_t j = first; j < end; j += DS_LANES) {
        vf a = vf_load(s + j), b = vf_load(s + j + DS_WIDTH);
        if (p->kv.f16) {
            a = vf_round_f16(exp_for_f16(vf_sub(a, shift)));
            b = vf_round_f16(exp_for_f16(vf_sub(b, shift)));
            vf_store(s + j, a);
            vf_store(s + j + DS_WIDTH, b);
        }
        low = vf_add(low, a);
        high = vf_add(high, b);
    }
    *m = largest;
    *l = vf_tree(low, high);
}

/* --- values --- */

/*
 * o[i][0..15] += weight * v over the keys [from, to): values of a key lie `stride` elements behind those of the last. `ahead` as for
 * the scores.
 */
DS_INLINE void values_of_block(const enum form form, const int n, const void *values, const void *ahead, size_t stride, const float *weights,
                               uint32_t from, uint32_t to, uint32_t dim, float *o) {
    vf sum[BLOCK];
    DS_UNROLL for (int i = 0; i < n; i++) sum[i] = vf_load(o + (size_t)i * dim);
    for (uint32_t j = from; j < to; j++) {
        const vf value = load16(values, form, j * stride);
        if (form != WIDENED) __builtin_prefetch((const char *)ahead + j * stride * (form == F16 ? 2 : 4));
        DS_UNROLL for (int i = 0; i < n; i++) sum[i] = add_product(form, vf_set1(weights[(size_t)i * DS_CHUNK + j]), value, sum[i]);
    }
    DS_UNROLL for (int i = 0; i < n; i++) vf_store(o + (size_t)i * dim, sum[i]);
}

static void values_f16(int n, const void *values, const void *ahead, size_t stride, const float *weights, uint32_t from, uint32_t to, uint32_t dim,
                       float *o) {
    WITH_COUNT(values_of_block, F16, n, values, ahead, stride, weights, from, to, dim, o)
}
static void values_f32(int n, const void *values, const void *ahead, size_t stride, const float *weights, uint32_t from, uint32_t to, uint32_t dim,
                       float *o) {
    WITH_COUNT(values_of_block, F32, n, values, ahead, stride, weights, from, to, dim, o)
}
static void values_widened(int n, const void *values, size_t stride, const float *weights, uint32_t from, uint32_t to, uint32_t dim, float *o) {
    WITH_COUNT(values_of_block, WIDENED, n, values, NULL, stride, weights, from, to, dim, o)
}

/* Sixteen dimensions of a page's values, from dimension `d` of slot 0 on. */
struct value_tile {
    const void *values, *ahead;
    enum form form;
    size_t stride;
    uint32_t at; /* the page's first key within the chunk */
    uint32_t d;
};

/* The pairs [i, end), of rows that all see the keys [from, to) of the page. */
static void add_values(const struct unit *unit, const struct value_tile *tile, uint32_t i, uint32_t end, uint32_t from, uint32_t to, float *o) {
    const uint32_t dim = unit->p->kv.head_dim;
    const float *weights = unit->s + (size_t)i * DS_CHUNK + tile->at;
    const int n = (int)(end - i);
    if (from >= to) return;
    o += (size_t)i * dim + tile->d;
    if (tile->form == F16) values_f16(n, tile->values, tile->ahead, tile->stride, weights, from, to, dim, o);
    else if (tile->form == F32) values_f32(n, tile->values, tile->ahead, tile->stride, weights, from, to, dim, o);
    else values_widened(n, tile->values, tile->stride, weights, from, to, dim, o);
}

static inline uint32_t within_page(uint32_t key, uint32_t at) { return key <= at ? 0 : DS_MIN(key - at, (uint32_t)DS_PAGE); }

/*
 * A block's rows together where all of them see a key, each on its own before and behind: a key that a row does not see is skipped, so
 * that a value which is not finite stays where it belongs. Keys stay in their order.
 */
static void values_of_pairs(const struct unit *unit, const struct sight *sight, const struct value_tile *tile, uint32_t i, uint32_t end, float *o) {
    const uint32_t first = i / unit->queries, last = (end - 1) / unit->queries;
    uint32_t from = 0, to = DS_PAGE;
    for (uint32_t r = first; r <= last; r++) {
        from = DS_MAX(from, within_page(sight->from[r], tile->at));
        to = DS_MIN(to, within_page(sight->to[r], tile->at));
    }
    to = DS_MAX(from, to); /* no key in common: all of them are before `from` or behind it */
    for (uint32_t r = first; r <= last; r++) {
        const uint32_t begin = DS_MAX(i, r * unit->queries), stop = DS_MIN(end, (r + 1) * unit->queries);
        add_values(unit, tile, begin, stop, within_page(sight->from[r], tile->at), DS_MIN(from, within_page(sight->to[r], tile->at)), o);
    }
    add_values(unit, tile, i, end, from, to, o);
    for (uint32_t r = first; r <= last; r++) {
        const uint32_t begin = DS_MAX(i, r * unit->queries), stop = DS_MIN(end, (r + 1) * unit->queries);
        add_values(unit, tile, begin, stop, DS_MAX(to, within_page(sight->from[r], tile->at)), within_page(sight->to[r], tile->at), o);
    }
}

/* The dimensions beyond the last multiple of 16. */
static void last_values(const struct unit *unit, const struct sight *sight, const void *values, uint32_t at, float *o) {
    const uint32_t dim = unit->p->kv.head_dim;
    for (uint32_t i = 0; i < unit->n; i++) {
        const uint32_t r = i / unit->queries;
        for (uint32_t j = within_page(sight->from[r], at); j < within_page(sight->to[r], at); j++) {
            const float weight = unit->s[(size_t)i * DS_CHUNK + at + j];
            for (uint32_t d = dim / DS_WIDTH * DS_WIDTH; d < dim; d++) {
                const size_t index = (size_t)j * dim + d;
                const float value = unit->p->kv.f16 ? ds_f16_to_f32(((const uint16_t *)values)[index]) : ((const float *)values)[index];
                o[(size_t)i * dim + d] += weight * value;
            }
        }
    }
}

/* A page's values and those of the page behind it, both from slot 0 on. */
static void values_of_page(const struct unit *unit, const struct sight *sight, const uint8_t *values, const uint8_t *next_page, uint32_t at, float *o) {
    const uint32_t dim = unit->p->kv.head_dim, whole = dim / DS_WIDTH * DS_WIDTH, wide = DS_ATTENTION_TILE;
    struct value_tile tile = {.form = form_of(unit), .at = at};
    const uint32_t bytes = tile.form == F32 ? 4 : 2;
    tile.stride = tile.form == WIDENED ? wide : dim;
    for (uint32_t d = 0; d < whole; d += wide) {
        const uint32_t lanes = DS_MIN(wide, whole - d);
        const uint8_t *from = values + d * bytes, *ahead = d + wide < whole ? from + wide * bytes : next_page;
        if (tile.form == WIDENED) {
            for (uint32_t j = 0; j < DS_PAGE; j++)
                for (uint32_t lane = 0; lane < lanes; lane += DS_WIDTH)
                    vf_store(unit->tile + (size_t)j * wide + lane, load16(from, F16, (size_t)j * dim + lane));
            from = (const uint8_t *)unit->tile;
        }
        for (uint32_t lane = 0; lane < lanes; lane += DS_WIDTH) {
            tile.d = d + lane;
            tile.values = from + lane * (tile.form == F16 ? 2u : 4u);
            tile.ahead = ahead + lane * bytes;
            for (uint32_t block = 0; block < blocks_of(unit); block++)
                values_of_pairs(unit, sight, &tile, block_start(unit, block), block_start(unit, block + 1), o);
        }
    }
    if (dim % DS_WIDTH) last_values(unit, sight, values, at, o);
}

static const uint8_t *values_at(const struct unit *unit, const struct sight *sight, uint32_t at) {
    const struct ds_kv *kv = &unit->p->kv;
    const uint32_t page = ds_host_page(&unit->p->paging, unit->first_row, sight->chunk * DS_CHUNK + at);
    const uint64_t index = ds_kv_value_index(page, unit->kv_head, 0, 0, kv->kv_heads, kv->head_dim);
    return (const uint8_t *)ds_host_at(&kv->v) + index * (kv->f16 ? 2 : 4);
}

static void weighted_values(const struct unit *unit, const struct sight *sight, float *o) {
    memset(o, 0, (size_t)unit->n * unit->p->kv.head_dim * sizeof(float));
    for (uint32_t at = 0, next; at < DS_CHUNK; at = next) {
        next = at + DS_PAGE;
        if (!seen(unit, sight, 0, unit->n, at, next)) continue;
        const uint8_t *values = values_at(unit, sight, at);
        const bool more = next < DS_CHUNK && seen(unit, sight, 0, unit->n, next, next + 1);
        values_of_page(unit, sight, values, more ? values_at(unit, sight, next) : values, at, o);
    }
}

/* --- a chunk --- */

static struct sight sight_of(const struct unit *unit, uint32_t chunk) {
    struct sight sight = {.chunk = chunk};
    for (uint32_t r = 0; r < unit->rows; r++) {
        const uint32_t from = DS_MAX(unit->first[r], chunk * DS_CHUNK), to = DS_MIN(unit->last[r], (chunk + 1) * DS_CHUNK);
        if (from >= to) continue;
        sight.from[r] = from - chunk * DS_CHUNK;
        sight.to[r] = to - chunk * DS_CHUNK;
    }
    return sight;
}

/* m, l, o of each pair whose row sees a key of the chunk. */
static void attend_chunk(const struct unit *unit, const struct sight *sight, float *m, float *l, float *o) {
    scores(unit, sight);
    for (uint32_t i = 0; i < unit->n; i++) {
        const uint32_t r = i / unit->queries;
        if (sight->from[r] < sight->to[r]) softmax(unit->p, sight->from[r], sight->to[r], unit->s + (size_t)i * DS_CHUNK, &m[i], &l[i]);
    }
    weighted_values(unit, sight, o);
}

#endif
