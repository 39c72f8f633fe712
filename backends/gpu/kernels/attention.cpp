/*
 * Meaning: cpu/ref/attention.c. A block takes one row and up to four query heads that read the same keys, chunk by chunk: first a
 * thread is a key (scores of the four heads, the chunk's maximum, weights), then a dimension of two heads (the weighted values).
 *
 * With few rows each chunk is a block of its own, so that a long context is read by the whole device: `attend`, or `attend_staged` where a
 * multiprocessor has the shared memory for it, or `attend_rows` for rows of one sequence (attention_rows.h), leaves every chunk's m, l and o in scratch
 * and `join` goes through them in ascending order. With many rows, or where the scratch would be too large, a block goes through the chunks of its row itself.
 */
#include "common.h"

namespace {

enum { THREADS = DS_CHUNK, HEADS = 4, MOST_DIM = 512, ITEMS = MOST_DIM * 2 / THREADS };
/* Elements that a thread reads before it uses the first: with few rows there are few threads, which must have much under way. */
enum { AHEAD_FEW = 32, AHEAD_MANY = 16 };
enum { SPLIT_ROWS = 16, SPLITS = 32, MOST_SCRATCH = 32 << 20 };

struct attention {
    struct matrix<const float> q;
    struct matrix<float> out;
    const void *k, *v;
    struct paging paging;
    const int32_t *visible;
    uint32_t heads, kv_heads, head_dim, window;
    float scale, softcap;
    float *partial;  /* [row][head][chunk][2 + head_dim]: m, l, o; or null */
    uint32_t chunks; /* of the longest sequence */

    GPU_FN_MEMBER float *part(uint32_t r, uint32_t head, uint32_t chunk) const {
        return partial + ((static_cast<size_t>(r) * heads + head) * chunks + chunk) * (2 + head_dim);
    }
    GPU_FN_MEMBER uint32_t first_key(uint32_t r) const {
        const int64_t oldest = window > 0 ? static_cast<int64_t>(paging.positions[r]) - window + 1 : 0;
        return oldest > 0 ? static_cast<uint32_t>(oldest) : 0;
    }
    GPU_FN_MEMBER uint32_t end_key(uint32_t r) const { return visible[r] > 0 ? static_cast<uint32_t>(visible[r]) : 0; }
};

struct shared {
    float q[HEADS][MOST_DIM];
    float weight[HEADS][DS_CHUNK];
    float part[HEADS][THREADS / GPU_TEAM];
    float m[HEADS], l[HEADS]; /* of the chunk */
    uint32_t page[DS_CHUNK / DS_PAGE];
};

template <class T> struct cache;
template <> struct cache<float> {
    GPU_FN_MEMBER static float get(float x) { return x; }
    GPU_FN_MEMBER static float round(float x) { return x; }
    GPU_FN_MEMBER static float add(float sum, float a, float b) {
        const float product = a * b;
        return sum + product;
    }
};
template <> struct cache<uint16_t> {
    GPU_FN_MEMBER static float get(uint16_t x) { return gpu_from_f16(x); }
    GPU_FN_MEMBER static float round(float x) { return gpu_from_f16(static_cast<uint16_t>(ds_f32_to_f16(x))); }
    GPU_FN_MEMBER static float add(float sum, float a, float b) { return gpu_fma(a, b, sum); } /* f16 times f16 is exact */
};

/* The block's row and heads. */
struct place {
    uint32_t row, kv_head, first_head, heads;
};

/* Adds dimensions d, d + 1, ... to the scores as long as there are COUNT of them, which are read before the first is used. */
template <class T, uint32_t COUNT>
GPU_FN void dots(const struct shared &s, const T *k, uint32_t dim, uint32_t *d, float out[HEADS]) {
    for (; *d + COUNT <= dim; *d += COUNT) {
        T x[COUNT];
        GPU_UNROLL for (uint32_t i = 0; i < COUNT; i++) x[i] = k[static_cast<size_t>(*d + i) * DS_PAGE];
        GPU_UNROLL for (uint32_t i = 0; i < COUNT; i++)
            GPU_UNROLL for (uint32_t h = 0; h < HEADS; h++) out[h] = cache<T>::add(out[h], s.q[h][*d + i], cache<T>::get(x[i]));
    }
}

/* Scores of one key for all heads. */
template <class T, uint32_t AHEAD>
GPU_FN void scores(const struct attention &p, const struct shared &s, const struct place &at, uint32_t key, float out[HEADS]) {
    const T *const k = static_cast<const T *>(p.k) + ds_kv_key_index(s.page[key / DS_PAGE], at.kv_head, key % DS_PAGE, 0, p.kv_heads, p.head_dim);
    GPU_UNROLL for (uint32_t h = 0; h < HEADS; h++) out[h] = 0;
    uint32_t d = 0;
    dots<T, AHEAD>(s, k, p.head_dim, &d, out);
    if (AHEAD > AHEAD_MANY) dots<T, AHEAD_MANY>(s, k, p.head_dim, &d, out);
    dots<T, 1>(s, k, p.head_dim, &d, out);
    for (uint32_t h = 0; h < HEADS; h++) {
        const float scaled = out[h] * p.scale;
        out[h] = p.softcap > 0 ? ds_softcap(scaled, p.softcap) : scaled;
    }
}

/* s.m: the chunk's maxima. All threads call this, and a barrier follows it. */
GPU_FN void maxima(struct shared &s, const float score[HEADS]) {
    GPU_UNROLL for (uint32_t h = 0; h < HEADS; h++) {
        float value = score[h];
        for (uint32_t mask = GPU_TEAM / 2; mask > 0; mask /= 2) value = ds_max(value, gpu_shuffle_xor_f(value, mask));
        if (gpu_lane() == 0) s.part[h][gpu_team()] = value;
    }
    gpu_barrier();
    if (gpu_thread() < HEADS) {
        float value = s.part[gpu_thread()][0];
        for (uint32_t i = 1; i < THREADS / GPU_TEAM; i++) value = ds_max(value, s.part[gpu_thread()][i]);
        s.m[gpu_thread()] = value;
    }
    gpu_barrier();
}

/* Weights of the keys [from, to) of a chunk into s.weight, zeros beside them; their sums by lanes into s.l. */
template <class T, uint32_t AHEAD> GPU_FN void weigh(const struct attention &p, struct shared &s, const struct place &at, uint32_t from, uint32_t to) {
    const uint32_t key = gpu_thread();
    const bool seen = key >= from && key < to;
    float score[HEADS];
    if (seen) scores<T, AHEAD>(p, s, at, key, score);
    else for (uint32_t h = 0; h < HEADS; h++) score[h] = ds_float(DS_NUM_NAN); /* a NaN loses a maximum */
    maxima(s, score);
    GPU_UNROLL for (uint32_t h = 0; h < HEADS; h++) s.weight[h][key] = seen ? cache<T>::round(ds_exp(score[h] - s.m[h])) : 0.0f;
    gpu_barrier();
    if (gpu_team() < HEADS) { /* a team a head; whole waves, since HEADS is even */
        float lane_sum = 0;
        for (uint32_t i = gpu_lane(); i < DS_CHUNK; i += DS_LANES) lane_sum = lane_sum + s.weight[gpu_team()][i];
        const float l = tree_sum(lane_sum);
        if (gpu_lane() == 0) s.l[gpu_team()] = l;
    }
    gpu_barrier();
}

/* Weighted values of dimension d for two heads, keys [from, to) of the chunk ascending. Groups of keys lie in one page and are read ahead. */
template <class T, uint32_t AHEAD>
GPU_FN void values(const struct attention &p, const struct shared &s, const struct place &at, uint32_t from, uint32_t to, uint32_t head, uint32_t d,
                   float o[2]) {
    o[0] = o[1] = 0;
    for (uint32_t group = from / AHEAD * AHEAD; group < to; group += AHEAD) {
        const T *const v = static_cast<const T *>(p.v) +
                           ds_kv_value_index(s.page[group / DS_PAGE], at.kv_head, group % DS_PAGE, d, p.kv_heads, p.head_dim);
        T x[AHEAD];
        GPU_UNROLL for (uint32_t i = 0; i < AHEAD; i++) x[i] = group + i >= from && group + i < to ? v[static_cast<size_t>(i) * p.head_dim] : T(0);
        GPU_UNROLL for (uint32_t i = 0; i < AHEAD; i++) {
            if (group + i < from || group + i >= to) continue; /* skipped, not multiplied by zero */
            GPU_UNROLL for (uint32_t n = 0; n < 2; n++) o[n] = cache<T>::add(o[n], s.weight[head + n][group + i], cache<T>::get(x[i]));
        }
    }
}

/* One chunk of the row: s.m, s.l, and the thread's part of o. A thread's items are dimensions of heads 0 and 1, then of 2 and 3. */
template <class T, uint32_t AHEAD>
GPU_FN void chunk_of(const struct attention &p, struct shared &s, const struct place &at, uint32_t chunk, uint32_t first, uint32_t end, float o[ITEMS][2]) {
    const uint32_t base = chunk * DS_CHUNK, from = first > base ? first - base : 0, to = least(end - base, DS_CHUNK);
    if (gpu_thread() < DS_CHUNK / DS_PAGE && gpu_thread() * DS_PAGE < to && (gpu_thread() + 1) * DS_PAGE > from)
        s.page[gpu_thread()] = p.paging.page(at.row, base + gpu_thread() * DS_PAGE);
    gpu_barrier();
    weigh<T, AHEAD>(p, s, at, from, to);
    GPU_UNROLL for (uint32_t i = 0; i < ITEMS; i++) {
        const uint32_t item = gpu_thread() + i * THREADS;
        if (item < 2 * p.head_dim) values<T, AHEAD>(p, s, at, from, to, item / p.head_dim * 2, item % p.head_dim, o[i]);
    }
}

/* The recurrence over chunks, for one value. */
struct joined {
    float m, l;
    GPU_FN_MEMBER void add(bool first, float chunk_m, float chunk_l, float *a, float *b) {
        if (first) {
            m = chunk_m, l = chunk_l, *a = 0, *b = 1;
            return;
        }
        const float most = ds_max(m, chunk_m);
        *a = ds_exp(m - most), *b = ds_exp(chunk_m - most);
        const float left = l * *a, right = chunk_l * *b;
        l = left + right;
        m = most;
    }
    GPU_FN_MEMBER static float mix(bool first, float all, float a, float o, float b) {
        const float left = all * a, right = o * b;
        return first ? o : left + right;
    }
};

template <class T, bool SPLIT> GPU_KERNEL(THREADS) attend(struct attention p, struct active active) {
    gpu_begin();
    GPU_SHARED(struct shared, s);
    const uint32_t queries = p.heads / p.kv_heads, groups = (queries + HEADS - 1) / HEADS, r = gpu_block_y(), thread = gpu_thread();
    const struct place at = {r, gpu_block_x() / groups, gpu_block_x() / groups * queries + gpu_block_x() % groups * HEADS,
                             least(queries - gpu_block_x() % groups * HEADS, HEADS)};
    if (r >= active.get() || p.paging.positions[r] < 0) return;
    const uint32_t first = p.first_key(r), end = p.end_key(r), dim = p.head_dim;
    float *const out = p.out.row(r) + static_cast<size_t>(at.first_head) * dim;
    if (first >= end) {
        for (uint32_t i = thread; !SPLIT && i < at.heads * dim; i += THREADS) out[i] = 0;
        return;
    }
    const float *const q = p.q.row(r) + static_cast<size_t>(at.first_head) * dim;
    for (uint32_t i = thread; i < HEADS * dim; i += THREADS) s.q[i / dim][i % dim] = i < at.heads * dim ? cache<T>::round(q[i]) : 0.0f;

    const uint32_t first_chunk = first / DS_CHUNK, end_chunk = (end + DS_CHUNK - 1) / DS_CHUNK;
    struct joined joined[HEADS] = {};
    float all[ITEMS][2] = {};
    for (uint32_t chunk = first_chunk + (SPLIT ? gpu_block_z() : 0); chunk < end_chunk; chunk += SPLIT ? gpu_blocks_z() : 1) {
        float o[ITEMS][2];
        chunk_of<T, SPLIT ? static_cast<uint32_t>(AHEAD_FEW) : static_cast<uint32_t>(AHEAD_MANY)>(p, s, at, chunk, first, end, o);
        const bool begin = chunk == first_chunk;
        float a[HEADS] = {}, b[HEADS] = {};
        GPU_UNROLL for (uint32_t h = 0; h < HEADS; h++) {
            if (!SPLIT) joined[h].add(begin, s.m[h], s.l[h], &a[h], &b[h]);
            else if (thread == 0 && h < at.heads) p.part(r, at.first_head + h, chunk)[0] = s.m[h], p.part(r, at.first_head + h, chunk)[1] = s.l[h];
        }
        GPU_UNROLL for (uint32_t i = 0; i < ITEMS; i++) {
            const uint32_t item = thread + i * THREADS, head = item / dim * 2, d = item % dim;
            if (item >= 2 * dim) continue;
            GPU_UNROLL for (uint32_t n = 0; n < 2; n++) {
                if (SPLIT) {
                    if (head + n < at.heads) p.part(r, at.first_head + head + n, chunk)[2 + d] = o[i][n];
                } else {
                    all[i][n] = joined::mix(begin, all[i][n], head ? a[2 + n] : a[n], o[i][n], head ? b[2 + n] : b[n]);
                }
            }
        }
        gpu_barrier(); /* weights and pages are written again */
    }
    GPU_UNROLL for (uint32_t i = 0; !SPLIT && i < ITEMS; i++) {
        const uint32_t item = thread + i * THREADS, head = item / dim * 2, d = item % dim;
        if (item >= 2 * dim) continue;
        GPU_UNROLL for (uint32_t n = 0; n < 2; n++)
            if (head + n < at.heads) out[(head + n) * dim + d] = all[i][n] * ds_div(1.0f, head ? joined[2 + n].l : joined[n].l);
    }
}

/* --- a chunk in shared memory --- */

/*
 * With an f16 cache and few rows a block first brings all keys and values of its chunk into shared memory, everything under way at once, and
 * then has short loops without a wait. A team of 32 lanes takes a page's keys for one head, two neighbours a lane; then a thread takes two
 * neighbouring dimensions of one head.
 */
enum { STAGED_THREADS = 512, STAGED_DIM = 128, PAGES = DS_CHUNK / DS_PAGE };

struct staged {
    float q[HEADS][STAGED_DIM];
    float weight[HEADS][DS_CHUNK];
    float part[HEADS][PAGES];
};

GPU_FN float low_half(uint32_t two) { return gpu_from_f16(static_cast<uint16_t>(two & 0xffffu)); }
GPU_FN float high_half(uint32_t two) { return gpu_from_f16(static_cast<uint16_t>(two >> 16)); }

/* What pages hold of one head, contiguous both for keys and for values, of all pages that have a visible key. */
GPU_FN void bring(const struct attention &p, const struct place &at, const void *cache, uint32_t base, uint32_t from, uint32_t to, unsigned char *shared) {
    const uint32_t bytes = DS_PAGE * p.head_dim * 2;
    for (uint32_t i = 0; i < PAGES; i++) {
        if (i * DS_PAGE >= to || (i + 1) * DS_PAGE <= from) continue;
        const uint32_t page = p.paging.page(at.row, base + i * DS_PAGE);
        const unsigned char *const source = static_cast<const unsigned char *>(cache) + (static_cast<uint64_t>(page) * p.kv_heads + at.kv_head) * bytes;
        for (uint32_t byte = gpu_thread() * 16; byte < bytes; byte += STAGED_THREADS * 16) gpu_copy_async16(shared + i * bytes + byte, source + byte);
    }
    gpu_copy_group();
}

/* Scores of keys 64 i + 2 lane and the one beside it, i the team's page. */
GPU_FN void two_scores(const struct attention &p, const float *q, const uint32_t *keys, float out[2]) {
    float first = 0, second = 0;
    GPU_UNROLL_BY(8) for (uint32_t d = 0; d < p.head_dim; d++) {
        const uint32_t two = keys[d * (DS_PAGE / 2)];
        first = cache<uint16_t>::add(first, q[d], low_half(two));
        second = cache<uint16_t>::add(second, q[d], high_half(two));
    }
    const float scaled[2] = {first * p.scale, second * p.scale};
    GPU_UNROLL for (uint32_t n = 0; n < 2; n++) out[n] = p.softcap > 0 ? ds_softcap(scaled[n], p.softcap) : scaled[n];
}

/* Weights of the chunk's keys [from, to), zeros beside them; a team leaves those of its page and head. */
GPU_FN void weigh_staged(const struct attention &p, struct staged &s, const uint32_t *keys, uint32_t from, uint32_t to) {
    const uint32_t head = gpu_team() / PAGES, page = gpu_team() % PAGES, key = page * DS_PAGE + 2 * gpu_lane();
    float score[2] = {ds_float(DS_NUM_NAN), ds_float(DS_NUM_NAN)}; /* a NaN loses a maximum */
    const bool seen[2] = {key >= from && key < to, key + 1 >= from && key + 1 < to};
    if (seen[0] || seen[1]) {
        float both[2];
        two_scores(p, s.q[head], keys + page * (DS_PAGE / 2) * p.head_dim + gpu_lane(), both);
        GPU_UNROLL for (uint32_t n = 0; n < 2; n++) score[n] = seen[n] ? both[n] : score[n];
    }
    float most = ds_max(score[0], score[1]);
    for (uint32_t mask = GPU_TEAM / 2; mask > 0; mask /= 2) most = ds_max(most, gpu_shuffle_xor_f(most, mask));
    if (gpu_lane() == 0) s.part[head][page] = most;
    gpu_barrier();
    most = s.part[head][0];
    for (uint32_t i = 1; i < PAGES; i++) most = ds_max(most, s.part[head][i]);
    GPU_UNROLL for (uint32_t n = 0; n < 2; n++) s.weight[head][key + n] = seen[n] ? cache<uint16_t>::round(ds_exp(score[n] - most)) : 0.0f;
}

/* m and l of the chunk, by the first team of each head; the others take part in the shuffles. */
GPU_FN void leave_sums(const struct attention &p, const struct staged &s, const struct place &at, uint32_t chunk) {
    const uint32_t head = gpu_team() / PAGES;
    float lane_sum = 0;
    for (uint32_t i = gpu_lane(); i < DS_CHUNK; i += DS_LANES) lane_sum = lane_sum + s.weight[head][i];
    const float l = tree_sum(lane_sum);
    if (gpu_team() % PAGES != 0 || gpu_lane() != 0 || head >= at.heads) return;
    float m = s.part[head][0];
    for (uint32_t i = 1; i < PAGES; i++) m = ds_max(m, s.part[head][i]);
    float *const part = p.part(at.row, at.first_head + head, chunk);
    part[0] = m, part[1] = l;
}

GPU_FN void leave_values(const struct attention &p, const struct staged &s, const struct place &at, uint32_t chunk, const uint32_t *values, uint32_t from,
                         uint32_t to) {
    const uint32_t pairs = p.head_dim / 2;
    for (uint32_t item = gpu_thread(); item < at.heads * pairs; item += STAGED_THREADS) {
        const uint32_t head = item / pairs, pair = item % pairs;
        float first = 0, second = 0;
        GPU_UNROLL_BY(8) for (uint32_t key = from; key < to; key++) {
            const uint32_t two = values[key * pairs + pair];
            const float weight = s.weight[head][key];
            first = cache<uint16_t>::add(first, weight, low_half(two));
            second = cache<uint16_t>::add(second, weight, high_half(two));
        }
        float *const o = p.part(at.row, at.first_head + head, chunk) + 2 + 2 * pair;
        o[0] = first, o[1] = second;
    }
}

/* All chunks of one row that are this block's. */
GPU_FN void staged_row(const struct attention &p, const struct place &at, unsigned char *memory) {
    const uint32_t dim = p.head_dim;
    unsigned char *const keys = memory, *const values = keys + DS_CHUNK * dim * 2;
    struct staged &s = *reinterpret_cast<struct staged *>(values + DS_CHUNK * dim * 2);
    const uint32_t first = p.first_key(at.row), end = p.end_key(at.row);
    const uint32_t end_chunk = first < end ? (end + DS_CHUNK - 1) / DS_CHUNK : 0;
    for (uint32_t chunk = first / DS_CHUNK + gpu_block_z(); chunk < end_chunk; chunk += gpu_blocks_z()) {
        const uint32_t base = chunk * DS_CHUNK, from = first > base ? first - base : 0, to = least(end - base, DS_CHUNK);
        bring(p, at, p.k, base, from, to, keys);
        bring(p, at, p.v, base, from, to, values);
        const float *const q = p.q.row(at.row) + static_cast<size_t>(at.first_head) * dim;
        for (uint32_t i = gpu_thread(); i < HEADS * dim; i += STAGED_THREADS) s.q[i / dim][i % dim] = i < at.heads * dim ? cache<uint16_t>::round(q[i]) : 0.0f;
        gpu_copy_wait_but_last();
        gpu_barrier();
        weigh_staged(p, s, reinterpret_cast<const uint32_t *>(keys), from, to);
        gpu_copy_wait();
        gpu_barrier();
        leave_sums(p, s, at, chunk);
        leave_values(p, s, at, chunk, reinterpret_cast<const uint32_t *>(values), from, to);
        gpu_barrier(); /* all of it is written again */
    }
}

/* The block's heads of row r. */
GPU_FN struct place place_of(const struct attention &p, uint32_t r) {
    const uint32_t queries = p.heads / p.kv_heads, groups = (queries + HEADS - 1) / HEADS, kv_head = gpu_block_x() / groups, group = gpu_block_x() % groups;
    return {r, kv_head, kv_head * queries + group * HEADS, least(queries - group * HEADS, HEADS)};
}

GPU_KERNEL(STAGED_THREADS) attend_staged(struct attention p, struct active active) {
    GPU_DYNAMIC_SHARED(memory);
    gpu_begin();
    const uint32_t r = gpu_block_y();
    if (r >= active.get() || p.paging.positions[r] < 0) return;
    staged_row(p, place_of(p, r), memory);
}

/* The chunks of one head of one row, ascending. */
enum { TOGETHER = 4 };
GPU_KERNEL(128) join(struct attention p, struct active active) {
    gpu_begin();
    const uint32_t r = gpu_block_y(), head = gpu_block_x();
    if (r >= active.get() || p.paging.positions[r] < 0) return;
    const uint32_t first = p.first_key(r), end = p.end_key(r);
    for (uint32_t d = gpu_thread(); d < p.head_dim; d += gpu_threads()) {
        struct joined joined = {};
        float all = 0;
        const uint32_t first_chunk = first / DS_CHUNK;
        const uint32_t end_chunk = first < end ? (end + DS_CHUNK - 1) / DS_CHUNK : first_chunk;
        for (uint32_t base = first_chunk; base < end_chunk; base += TOGETHER) {
            float m[TOGETHER], l[TOGETHER], o[TOGETHER]; /* read before the first is used */
            GPU_UNROLL for (uint32_t i = 0; i < TOGETHER; i++) {
                const float *const part = p.part(r, head, least(base + i, end_chunk - 1));
                m[i] = part[0], l[i] = part[1], o[i] = part[2 + d];
            }
            GPU_UNROLL for (uint32_t i = 0; i < TOGETHER; i++) {
                if (base + i >= end_chunk) continue;
                const bool begin = base + i == first_chunk;
                float a, b;
                joined.add(begin, m[i], l[i], &a, &b);
                all = joined::mix(begin, all, a, o[i], b);
            }
        }
        p.out.row(r)[static_cast<size_t>(head) * p.head_dim + d] = first < end ? all * ds_div(1.0f, joined.l) : 0.0f;
    }
}

#include "attention_rows.h"

#include "attention_fast.h"

uint32_t chunks_of(const struct ds_op_attention &p) { return ceil_div(static_cast<uint64_t>(p.paging.pages_per_sequence) * DS_PAGE, DS_CHUNK); }

} // namespace

bool GPU_OP_CAN(attention)(const union ds_op_params *params) { return params->attention.kv.head_dim <= MOST_DIM; }

/* 0: the row's blocks go through the chunks themselves. */
uint64_t GPU_OP_SCRATCH(attention)(const union ds_op_params *params, uint32_t processors) {
    (void)processors;
    const struct ds_op_attention &p = params->attention;
    const uint64_t bytes = sizeof(float) * p.q.rows * p.heads * chunks_of(p) * (2 + p.kv.head_dim);
    return p.q.rows <= SPLIT_ROWS && chunks_of(p) > 1 && bytes <= MOST_SCRATCH ? bytes : 0;
}

gpuError_t GPU_OP(attention)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_attention &p = params->attention;
    const bool split = GPU_OP_SCRATCH(attention)(params, launch->processors) != 0;
    const struct attention attention = {matrix_of<const float>(p.q), matrix_of<float>(p.out), at<const void>(p.kv.k), at<const void>(p.kv.v),
                                        paging_of(p.paging), at<const int32_t>(p.visible), p.heads, p.kv.kv_heads, p.kv.head_dim, p.window,
                                        p.scale, p.softcap, split ? reinterpret_cast<float *>(launch->scratch) : nullptr, chunks_of(p)};
    const struct active active = active_of(p.count, p.q.rows);
    const uint32_t blocks = p.kv.kv_heads * ceil_div(p.heads / p.kv.kv_heads, HEADS);
    const bool fast = launch->fast && fast_fits(p);
    if (!split && fast) return start_fast(launch, attention, p.q.rows, 1, active);
    if (!split)
        return gpu_launch(p.kv.f16 ? attend<uint16_t, false> : attend<float, false>, gpu_grid_of(blocks, p.q.rows), THREADS, 0, where_of(launch),
                          attention, active);
    const uint32_t most = SPLITS, splits = attention.chunks < most ? attention.chunks : most;
    const size_t room = static_cast<size_t>(2) * DS_CHUNK * p.kv.head_dim * 2 + sizeof(struct staged);
    gpuError_t error;
    if (fast) {
        error = start_fast(launch, attention, p.q.rows, splits, active);
    } else if (p.kv.f16 && p.kv.head_dim <= STAGED_DIM && room <= launch->shared_most) {
        const uint32_t together = rows_together(p.q.rows, p.kv.head_dim, static_cast<uint64_t>(blocks) * splits, launch);
        error = launch_staged(together, gpu_grid_of(blocks, p.q.rows, splits), room, launch, attention, active);
    } else {
        error = gpu_launch(p.kv.f16 ? attend<uint16_t, true> : attend<float, true>, gpu_grid_of(blocks, p.q.rows, splits), THREADS, 0, where_of(launch),
                           attention, active);
    }
    if (error != gpuSuccess) return error;
    return gpu_launch(join, gpu_grid_of(p.heads, p.q.rows), 128, 0, where_of(launch), attention, active);
}
