/*
 * Attention on tensor cores, for --numerics fast alone: gpu_mma_f16 multiplies what the contract rounds to f16 anyway, q and k, p and v. A block takes
 * 64 items, an item being a row and one of the query heads that read the same keys, and goes through pages of 64 keys; a team has 16 items. The
 * maximum is that of the pages so far (the contract: of a chunk of 256), and what was summed is scaled when it grows.
 *
 * How far it may be from the contract's result, with u = 2^-24, D the head dimension, n visible keys, S the largest sum over d of |q_d k_d| * scale
 * (|tanh'| <= 1, so a soft-cap adds only its own rounding), V the largest |v|:
 *   - products of halves are exact in f32. A tensor core adds them in groups, cut to no less than 23 bits below the largest of a group [Fasi, Higham, Mikaitis,
 *     Pranesh, "Numerical behavior of NVIDIA tensor cores", 2021], so that each addition errs by 4u of the sum of magnitudes at most, where the contract's errs by u:
 *     a score by D * 5u * S and the rounding of the scale, together e_s <= (5 D + 4) u S.
 *   - a weight exp(s - m) over its sum: each of two scores (s and m) is off by e_s, both ways round p to f16 (2^-11 of it, 2^-25 where it is subnormal), and the
 *     pages' recurrences add 8u each: a relative error of eta <= 2 (exp(2 e_s) - 1) + 2^-10 + 2^-18, and 2^-24 a key in absolute terms beside a largest weight of 1.
 *   - the sum over keys errs by 5u n V.
 *   |fast - exact| <= V (2 eta / (1 - eta) + n 2^-23 + 5 n u)   for eta < 1
 * (2 eta: in the numerator and in the sum of weights that divides it). tests/gpu/test_fast.c holds it against this.
 *
 * Part of attention.cpp.
 */
#if defined(DS_GPU_FAST)

enum { FAST_TEAMS = 4, FAST_THREADS = FAST_TEAMS * GPU_TEAM, FAST_ITEMS = 16 * FAST_TEAMS, FAST_LEAST_ITEMS = 16, BESIDE = 8 };

/* Rows begin 16 bytes apart modulo 128, so that gpu_load_columns meets no bank twice. */
template <uint32_t DIM> struct alignas(16) fast_shared {
    uint16_t k[DIM][DS_PAGE + BESIDE];
    uint16_t v[DS_PAGE][DIM + BESIDE];
};

/* A lane's items g and g + 8 of its team's. */
template <uint32_t DIM> struct fast_items {
    uint32_t row[2], head[2];
    bool there[2];
    uint32_t first[2], end[2]; /* positions that each sees; both 0: none, or not now */
    uint32_t q[DIM / 16][4];
    float m[2], l[2]; /* l: this lane's keys alone */
    float o[DIM / 8][4];
    GPU_FN_MEMBER void reset() {
        GPU_UNROLL for (uint32_t i = 0; i < 2; i++) m[i] = -ds_float(0x7f800000u), l[i] = 0;
        GPU_UNROLL for (uint32_t n = 0; n < DIM / 8; n++)
            GPU_UNROLL for (uint32_t i = 0; i < 4; i++) o[n][i] = 0;
    }
};

GPU_FN uint32_t two_halves(float low, float high) { return static_cast<uint32_t>(ds_f32_to_f16(low)) | static_cast<uint32_t>(ds_f32_to_f16(high)) << 16; }

template <uint32_t DIM> GPU_FN void take_items(const struct attention &p, uint32_t rows, struct fast_items<DIM> &it) {
    const uint32_t queries = p.heads / p.kv_heads, t = gpu_lane() % 4;
    GPU_UNROLL for (uint32_t i = 0; i < 2; i++) {
        const uint32_t item = gpu_block_y() * FAST_ITEMS + gpu_team() * 16 + gpu_lane() / 4 + 8 * i;
        it.row[i] = least(item / queries, rows - 1);
        it.head[i] = gpu_block_x() * queries + item % queries;
        it.there[i] = item / queries < rows && p.paging.positions[it.row[i]] >= 0;
        const float *const q = p.q.row(it.row[i]) + static_cast<size_t>(it.head[i]) * p.head_dim;
        GPU_UNROLL for (uint32_t k = 0; k < DIM / 16; k++)
            GPU_UNROLL for (uint32_t half = 0; half < 2; half++) {
                const uint32_t d = 16 * k + 8 * half + 2 * t;
                it.q[k][i + 2 * half] = it.there[i] && d < p.head_dim ? two_halves(q[d], q[d + 1]) : 0;
            }
    }
}

/* Keys [dim][64] of a page. */
template <uint32_t DIM> GPU_FN void bring_keys(const struct attention &p, struct fast_shared<DIM> &s, uint32_t row, uint32_t page) {
    const uint16_t *const from = static_cast<const uint16_t *>(p.k) + ds_kv_key_index(p.paging.page(row, page * DS_PAGE), gpu_block_x(), 0, 0, p.kv_heads, p.head_dim);
    for (uint32_t i = gpu_thread(); i < p.head_dim * (DS_PAGE / 8); i += FAST_THREADS) gpu_copy_async16(&s.k[i / (DS_PAGE / 8)][i % (DS_PAGE / 8) * 8], from + i * 8);
    gpu_copy_group();
}

/* Values [64][dim]; those that no row sees are zeros, since what lies there may be anything and a weight of zero would not hide a NaN. */
template <uint32_t DIM> GPU_FN void bring_values(const struct attention &p, struct fast_shared<DIM> &s, uint32_t row, uint32_t page, uint32_t first, uint32_t end) {
    const uint16_t *const from = static_cast<const uint16_t *>(p.v) + ds_kv_value_index(p.paging.page(row, page * DS_PAGE), gpu_block_x(), 0, 0, p.kv_heads, p.head_dim);
    const uint32_t pieces = p.head_dim / 8;
    for (uint32_t i = gpu_thread(); i < DS_PAGE * pieces; i += FAST_THREADS) {
        const uint32_t key = i / pieces, position = page * DS_PAGE + key;
        uint16_t *const to = &s.v[key][i % pieces * 8];
        if (position >= first && position < end) gpu_copy_async16(to, from + i * 8);
        else GPU_UNROLL for (uint32_t k = 0; k < 8; k++) to[k] = 0;
    }
    gpu_copy_group();
}

/* Scores of the page, then weights in place of them; m, l and o are brought to the new maxima. */
template <uint32_t DIM> GPU_FN void fast_weigh(const struct attention &p, const struct fast_shared<DIM> &s, uint32_t page, struct fast_items<DIM> &it, float score[8][4]) {
    GPU_UNROLL for (uint32_t n = 0; n < 8; n++) {
        GPU_UNROLL for (uint32_t i = 0; i < 4; i++) score[n][i] = 0;
        GPU_UNROLL for (uint32_t k = 0; k < DIM / 16; k++) {
            if (16 * k >= p.head_dim) continue;
            uint32_t b[2];
            gpu_load_columns(b, &s.k[16 * k + gpu_lane() % 16][8 * n]);
            gpu_mma_f16(score[n], it.q[k], b);
        }
    }
    float most[2] = {it.m[0], it.m[1]};
    GPU_UNROLL for (uint32_t n = 0; n < 8; n++)
        GPU_UNROLL for (uint32_t i = 0; i < 4; i++) {
            const uint32_t key = page * DS_PAGE + 8 * n + 2 * (gpu_lane() % 4) + i % 2;
            const float scaled = score[n][i] * p.scale, capped = p.softcap > 0 ? ds_softcap(scaled, p.softcap) : scaled;
            score[n][i] = key >= it.first[i / 2] && key < it.end[i / 2] ? capped : ds_float(DS_NUM_NAN); /* a NaN loses a maximum */
            most[i / 2] = ds_max(most[i / 2], score[n][i]);
        }
    GPU_UNROLL for (uint32_t i = 0; i < 2; i++) {
        GPU_UNROLL for (uint32_t mask = 1; mask < 4; mask *= 2) most[i] = ds_max(most[i], gpu_shuffle_xor_f(most[i], mask));
        const float scale = it.m[i] == most[i] ? 1.0f : ds_exp(it.m[i] - most[i]);
        it.m[i] = most[i];
        it.l[i] = it.l[i] * scale;
        GPU_UNROLL for (uint32_t n = 0; n < DIM / 8; n++) it.o[n][2 * i] = it.o[n][2 * i] * scale, it.o[n][2 * i + 1] = it.o[n][2 * i + 1] * scale;
    }
    GPU_UNROLL for (uint32_t n = 0; n < 8; n++)
        GPU_UNROLL for (uint32_t i = 0; i < 4; i++) {
            const uint32_t key = page * DS_PAGE + 8 * n + 2 * (gpu_lane() % 4) + i % 2;
            const bool seen = key >= it.first[i / 2] && key < it.end[i / 2];
            score[n][i] = seen ? cache<uint16_t>::round(ds_exp(score[n][i] - it.m[i / 2])) : 0.0f;
            it.l[i / 2] = it.l[i / 2] + score[n][i];
        }
}

template <uint32_t DIM> GPU_FN void fast_values(const struct attention &p, const struct fast_shared<DIM> &s, const float weight[8][4], struct fast_items<DIM> &it) {
    GPU_UNROLL for (uint32_t j = 0; j < DS_PAGE / 16; j++) {
        const float *const low = weight[2 * j], *const high = weight[2 * j + 1];
        const uint32_t a[4] = {two_halves(low[0], low[1]), two_halves(low[2], low[3]), two_halves(high[0], high[1]), two_halves(high[2], high[3])};
        GPU_UNROLL for (uint32_t n = 0; n < DIM / 8; n++) {
            if (8 * n >= p.head_dim) continue;
            uint32_t b[2];
            gpu_load_columns(b, &s.v[16 * j + gpu_lane() % 16][8 * n]);
            gpu_mma_f16(it.o[n], a, b);
        }
    }
}

/* Pages [page, end_page) of row's sequence. The next page's keys are on their way while this one's values are used, and the other way round. */
template <uint32_t DIM>
GPU_FN void fast_pages(const struct attention &p, struct fast_shared<DIM> &s, uint32_t row, uint32_t page, uint32_t end_page, uint32_t first, uint32_t end,
                       struct fast_items<DIM> &it) {
    bring_keys<DIM>(p, s, row, page);
    bring_values<DIM>(p, s, row, page, first, end);
    for (; page < end_page; page++) {
        const bool more = page + 1 < end_page;
        float weight[8][4];
        gpu_copy_wait_but_last();
        gpu_barrier();
        fast_weigh<DIM>(p, s, page, it, weight);
        gpu_barrier();
        if (more) bring_keys<DIM>(p, s, row, page + 1);
        else gpu_copy_group(); /* so that the values are in the last group but one */
        gpu_copy_wait_but_last();
        gpu_barrier();
        fast_values<DIM>(p, s, weight, it);
        gpu_barrier();
        if (more) bring_values<DIM>(p, s, row, page + 1, first, end);
    }
}

/* What the items saw of a chunk into the scratch, for `join`; or, with all of it seen, the result. */
template <uint32_t DIM, bool SPLIT> GPU_FN void fast_leave(const struct attention &p, uint32_t chunk, const struct fast_items<DIM> &it) {
    const uint32_t t = gpu_lane() % 4;
    GPU_UNROLL for (uint32_t i = 0; i < 2; i++) {
        float l = it.l[i];
        GPU_UNROLL for (uint32_t mask = 1; mask < 4; mask *= 2) l = l + gpu_shuffle_xor_f(l, mask);
        const bool saw = it.m[i] > -ds_float(0x7f800000u);
        if (!it.there[i] || (SPLIT && !saw)) continue;
        float *const part = SPLIT ? p.part(it.row[i], it.head[i], chunk) : nullptr;
        float *const out = SPLIT ? part + 2 : p.out.row(it.row[i]) + static_cast<size_t>(it.head[i]) * p.head_dim;
        const float factor = SPLIT ? 1.0f : saw ? ds_div(1.0f, l) : 0.0f;
        if (SPLIT && t == 0) part[0] = it.m[i], part[1] = l;
        GPU_UNROLL for (uint32_t n = 0; n < DIM / 8; n++) {
            if (8 * n >= p.head_dim) continue;
            out[8 * n + 2 * t] = it.o[n][2 * i] * factor;
            out[8 * n + 2 * t + 1] = it.o[n][2 * i + 1] * factor;
        }
    }
}

/* A block's rows, cut where the sequence changes: each stretch goes through its own pages, the other rows' items seeing nothing meanwhile. */
template <uint32_t DIM, bool SPLIT> GPU_KERNEL(FAST_THREADS) attend_fast(struct attention p, struct active active) {
    gpu_begin();
    GPU_SHARED(struct fast_shared<DIM>, s);
    const uint32_t queries = p.heads / p.kv_heads, rows = active.get(), begin = gpu_block_y() * FAST_ITEMS / queries;
    if (begin >= rows) return;
    const uint32_t stop = least(rows, ((gpu_block_y() + 1) * FAST_ITEMS - 1) / queries + 1);
    struct fast_items<DIM> it;
    take_items<DIM>(p, rows, it);
    it.reset();
    for (uint32_t from = begin, to; from < stop; from = to) {
        uint32_t first = 0xffffffffu, end = 0;
        for (to = from; to < stop && p.paging.sequence[to] == p.paging.sequence[from]; to++) {
            if (p.paging.positions[to] < 0 || p.first_key(to) >= p.end_key(to)) continue;
            first = least(first, p.first_key(to));
            end = p.end_key(to) > end ? p.end_key(to) : end;
        }
        if (end == 0) continue;
        GPU_UNROLL for (uint32_t i = 0; i < 2; i++) {
            const bool looks = it.there[i] && it.row[i] >= from && it.row[i] < to;
            it.first[i] = looks ? p.first_key(it.row[i]) : 0;
            it.end[i] = looks ? p.end_key(it.row[i]) : 0;
        }
        const uint32_t first_page = first / DS_PAGE, end_page = (end + DS_PAGE - 1) / DS_PAGE;
        if (!SPLIT) {
            fast_pages<DIM>(p, s, from, first_page, end_page, first, end, it);
            continue;
        }
        const uint32_t in_chunk = DS_CHUNK / DS_PAGE;
        for (uint32_t chunk = first_page / in_chunk + gpu_block_z(); chunk * in_chunk < end_page; chunk += gpu_blocks_z()) {
            it.reset();
            fast_pages<DIM>(p, s, from, chunk * in_chunk > first_page ? chunk * in_chunk : first_page, least(end_page, (chunk + 1) * in_chunk), first, end, it);
            fast_leave<DIM, true>(p, chunk, it);
        }
    }
    if (!SPLIT) fast_leave<DIM, false>(p, 0, it);
}

bool fast_fits(const struct ds_op_attention &p) {
    return p.kv.f16 && p.kv.head_dim % 16 == 0 && p.kv.head_dim <= STAGED_DIM && p.q.rows > 1 && p.q.rows * (p.heads / p.kv.kv_heads) >= FAST_LEAST_ITEMS;
}

template <uint32_t DIM> gpuError_t start_fast(const struct ds_gpu_launch *launch, const struct attention &p, uint32_t rows, uint32_t splits, struct active active) {
    const struct gpu_grid grid = gpu_grid_of(p.kv_heads, ceil_div(static_cast<uint64_t>(rows) * (p.heads / p.kv_heads), FAST_ITEMS), splits);
    return gpu_launch(p.partial ? attend_fast<DIM, true> : attend_fast<DIM, false>, grid, FAST_THREADS, 0, where_of(launch), p, active);
}

gpuError_t start_fast(const struct ds_gpu_launch *launch, const struct attention &p, uint32_t rows, uint32_t splits, struct active active) {
    return p.head_dim <= 64 ? start_fast<64>(launch, p, rows, splits, active) : start_fast<128>(launch, p, rows, splits, active);
}

#else

bool fast_fits(const struct ds_op_attention &) { return false; }
gpuError_t start_fast(const struct ds_gpu_launch *, const struct attention &, uint32_t, uint32_t, struct active) { return gpuErrorNoKernelImage; }

#endif
