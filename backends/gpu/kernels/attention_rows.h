/*
 * Rows of one sequence that look at the same keys: those of a verification. A block brings the keys and values of its chunk into shared memory once, as
 * attend_staged does, and serves up to ROWS rows, four heads each. A team has a page's keys for some of the rows, two neighbouring keys a
 * lane; then a thread has two neighbouring dimensions of one row. A key or value is read from shared memory and widened once for four heads.
 *
 * Every sum is the one of attend_staged: ascending over the dimensions, by lanes and a tree, ascending over the keys; only which thread does it differs.
 *
 * Which rows go together is data: a block whose row is not the first of its group ends at once. A row alone takes the path of attend_staged.
 *
 * Part of attention.cpp.
 */
enum { ROW_SLOTS = STAGED_THREADS / GPU_TEAM / PAGES, FEWEST_TOGETHER = 4, MOST_TOGETHER = 8 };

struct alignas(16) four_heads {
    float h[HEADS];
};

template <uint32_t ROWS> struct grouped {
    struct four_heads q[ROWS][STAGED_DIM];
    struct four_heads weight[ROWS][DS_CHUNK];
    struct four_heads part[ROWS][PAGES]; /* maxima of pages */
    uint32_t first[ROWS], end[ROWS];     /* the positions a row sees; both 0: none */
};

/* What a row sees of a chunk, as keys in it. */
struct keys_seen {
    uint32_t from, to;
};
GPU_FN struct keys_seen seen_of(uint32_t first, uint32_t end, uint32_t base) {
    const uint32_t from = first > base ? first - base : 0, to = end > base ? least(end - base, DS_CHUNK) : 0;
    return from < to ? keys_seen{from, to} : keys_seen{0, 0};
}

/* Rows from r on that are its group's; 0: r is within another's. `sequences` [active rows] lies in shared memory. */
GPU_FN uint32_t group_at(const uint32_t *sequences, uint32_t r, uint32_t rows, uint32_t most) {
    uint32_t before = 0, n = 1;
    while (before < r && sequences[r - before - 1] == sequences[r]) before++;
    if (before % most != 0) return 0;
    while (n < most && r + n < rows && sequences[r + n] == sequences[r]) n++;
    return n;
}

/* Weights of all rows, as weigh_staged has them. */
template <uint32_t ROWS> GPU_FN void weigh_rows(const struct attention &p, struct grouped<ROWS> &s, const uint32_t *keys, uint32_t base) {
    enum { EACH = ROWS / ROW_SLOTS };
    const uint32_t page = gpu_team() % PAGES, slot = gpu_team() / PAGES, key = page * DS_PAGE + 2 * gpu_lane();
    const uint32_t *const mine = keys + page * (DS_PAGE / 2) * p.head_dim + gpu_lane();
    float score[EACH][2][HEADS] = {};
    GPU_UNROLL_BY(4) for (uint32_t d = 0; d < p.head_dim; d++) {
        const uint32_t two = mine[d * (DS_PAGE / 2)];
        const float k[2] = {low_half(two), high_half(two)};
        GPU_UNROLL for (uint32_t e = 0; e < EACH; e++) {
            const struct four_heads q = s.q[slot * EACH + e][d];
            GPU_UNROLL for (uint32_t n = 0; n < 2; n++)
                GPU_UNROLL for (uint32_t h = 0; h < HEADS; h++) score[e][n][h] = cache<uint16_t>::add(score[e][n][h], q.h[h], k[n]);
        }
    }
    GPU_UNROLL for (uint32_t e = 0; e < EACH; e++) {
        const uint32_t row = slot * EACH + e;
        const struct keys_seen see = seen_of(s.first[row], s.end[row], base);
        GPU_UNROLL for (uint32_t h = 0; h < HEADS; h++) {
            GPU_UNROLL for (uint32_t n = 0; n < 2; n++) {
                const float scaled = score[e][n][h] * p.scale;
                const float capped = p.softcap > 0 ? ds_softcap(scaled, p.softcap) : scaled;
                score[e][n][h] = key + n >= see.from && key + n < see.to ? capped : ds_float(DS_NUM_NAN); /* a NaN loses a maximum */
            }
            float most = ds_max(score[e][0][h], score[e][1][h]);
            for (uint32_t mask = GPU_TEAM / 2; mask > 0; mask /= 2) most = ds_max(most, gpu_shuffle_xor_f(most, mask));
            if (gpu_lane() == 0) s.part[row][page].h[h] = most;
        }
    }
    gpu_barrier();
    GPU_UNROLL for (uint32_t e = 0; e < EACH; e++) {
        const uint32_t row = slot * EACH + e;
        const struct keys_seen see = seen_of(s.first[row], s.end[row], base);
        GPU_UNROLL for (uint32_t h = 0; h < HEADS; h++) {
            float most = s.part[row][0].h[h];
            for (uint32_t i = 1; i < PAGES; i++) most = ds_max(most, s.part[row][i].h[h]);
            GPU_UNROLL for (uint32_t n = 0; n < 2; n++)
                s.weight[row][key + n].h[h] = key + n >= see.from && key + n < see.to ? cache<uint16_t>::round(ds_exp(score[e][n][h] - most)) : 0.0f;
        }
    }
}

/* m and l of the chunk, a team a row and head. */
template <uint32_t ROWS> GPU_FN void leave_sums_of_rows(const struct attention &p, const struct grouped<ROWS> &s, const struct place &at, uint32_t chunk) {
    for (uint32_t i = gpu_team(); i < ROWS * HEADS; i += STAGED_THREADS / GPU_TEAM) { /* as often in every team */
        const uint32_t row = i / HEADS, head = i % HEADS;
        const struct keys_seen see = seen_of(s.first[row], s.end[row], chunk * DS_CHUNK);
        float lane_sum = 0;
        for (uint32_t key = gpu_lane(); key < DS_CHUNK; key += DS_LANES) lane_sum = lane_sum + s.weight[row][key].h[head];
        const float l = tree_sum(lane_sum);
        if (gpu_lane() != 0 || head >= at.heads || see.from == see.to) continue;
        float m = s.part[row][0].h[head];
        for (uint32_t page = 1; page < PAGES; page++) m = ds_max(m, s.part[row][page].h[head]);
        float *const part = p.part(at.row + row, at.first_head + head, chunk);
        part[0] = m, part[1] = l;
    }
}

template <uint32_t ROWS>
GPU_FN void leave_values_of_rows(const struct attention &p, const struct grouped<ROWS> &s, const struct place &at, uint32_t chunk, const uint32_t *values) {
    const uint32_t pairs = p.head_dim / 2;
    for (uint32_t item = gpu_thread(); item < ROWS * pairs; item += STAGED_THREADS) {
        const uint32_t row = item / pairs, pair = item % pairs;
        const struct keys_seen see = seen_of(s.first[row], s.end[row], chunk * DS_CHUNK);
        if (see.from == see.to) continue;
        float o[2][HEADS] = {};
        GPU_UNROLL_BY(4) for (uint32_t key = see.from; key < see.to; key++) {
            const uint32_t two = values[key * pairs + pair];
            const float v[2] = {low_half(two), high_half(two)};
            const struct four_heads weight = s.weight[row][key];
            GPU_UNROLL for (uint32_t n = 0; n < 2; n++)
                GPU_UNROLL for (uint32_t h = 0; h < HEADS; h++) o[n][h] = cache<uint16_t>::add(o[n][h], weight.h[h], v[n]);
        }
        GPU_UNROLL for (uint32_t h = 0; h < HEADS; h++) {
            if (h >= at.heads) continue;
            float *const out = p.part(at.row + row, at.first_head + h, chunk) + 2 + 2 * pair;
            out[0] = o[0][h], out[1] = o[1][h];
        }
    }
}

/* The rows' queries, rounded, and what each sees. */
template <uint32_t ROWS>
GPU_FN void bring_queries(const struct attention &p, const struct place &at, uint32_t n, struct grouped<ROWS> &s) {
    const uint32_t dim = p.head_dim, all = HEADS * dim;
    for (uint32_t i = gpu_thread(); i < n * all; i += STAGED_THREADS) {
        const uint32_t row = i / all, head = i % all / dim, d = i % dim;
        const float *const q = p.q.row(at.row + row) + static_cast<size_t>(at.first_head) * dim;
        s.q[row][d].h[head] = head < at.heads ? cache<uint16_t>::round(q[head * dim + d]) : 0.0f;
    }
    if (gpu_thread() >= ROWS) return;
    const uint32_t row = gpu_thread(), r = at.row + row;
    const bool looks = row < n && p.paging.positions[r] >= 0 && p.first_key(r) < p.end_key(r);
    s.first[row] = looks ? p.first_key(r) : 0;
    s.end[row] = looks ? p.end_key(r) : 0;
}

template <uint32_t ROWS> GPU_FN void rows_of_group(const struct attention &p, const struct place &at, uint32_t n, unsigned char *memory) {
    const uint32_t dim = p.head_dim;
    unsigned char *const keys = memory, *const values = keys + DS_CHUNK * dim * 2;
    struct grouped<ROWS> &s = *reinterpret_cast<struct grouped<ROWS> *>(values + DS_CHUNK * dim * 2);
    bring_queries<ROWS>(p, at, n, s);
    gpu_barrier();
    uint32_t first = 0xffffffffu, end = 0;
    for (uint32_t row = 0; row < n; row++) {
        if (s.end[row] == 0) continue;
        first = least(first, s.first[row]);
        end = s.end[row] > end ? s.end[row] : end;
    }
    const uint32_t end_chunk = (end + DS_CHUNK - 1) / DS_CHUNK;
    for (uint32_t chunk = first / DS_CHUNK + gpu_block_z(); chunk < end_chunk; chunk += gpu_blocks_z()) {
        const uint32_t base = chunk * DS_CHUNK;
        const struct keys_seen see = seen_of(first, end, base);
        bring(p, at, p.k, base, see.from, see.to, keys);
        bring(p, at, p.v, base, see.from, see.to, values);
        gpu_copy_wait_but_last();
        gpu_barrier();
        weigh_rows<ROWS>(p, s, reinterpret_cast<const uint32_t *>(keys), base);
        gpu_copy_wait();
        gpu_barrier();
        leave_sums_of_rows<ROWS>(p, s, at, chunk);
        leave_values_of_rows<ROWS>(p, s, at, chunk, reinterpret_cast<const uint32_t *>(values));
        gpu_barrier(); /* all of it is written again */
    }
}

template <uint32_t ROWS> GPU_KERNEL(STAGED_THREADS) attend_rows(struct attention p, struct active active) {
    GPU_DYNAMIC_SHARED(memory);
    gpu_begin();
    const uint32_t rows = active.get(), r = gpu_block_y();
    if (r >= rows) return;
    uint32_t *const sequences = reinterpret_cast<uint32_t *>(memory); /* before anything else lies there */
    if (gpu_thread() < rows) sequences[gpu_thread()] = static_cast<uint32_t>(p.paging.sequence[gpu_thread()]);
    gpu_barrier();
    const uint32_t n = group_at(sequences, r, rows, ROWS);
    gpu_barrier();
    if (n == 0 || (n == 1 && p.paging.positions[r] < 0)) return;
    if (n == 1) staged_row(p, place_of(p, r), memory);
    else rows_of_group<ROWS>(p, place_of(p, r), n, memory);
}

GPU_HOST_FN size_t grouped_room(uint32_t rows, uint32_t dim) {
    return static_cast<size_t>(2) * DS_CHUNK * dim * 2 + (rows == MOST_TOGETHER ? sizeof(struct grouped<MOST_TOGETHER>) : sizeof(struct grouped<FEWEST_TOGETHER>));
}

/*
 * How many rows a block should serve: one where every row's blocks run at once anyway, else as few as make them all run at once, else as many as
 * there is shared memory for. Not measured on a device yet.
 */
GPU_HOST_FN uint32_t rows_together(uint32_t rows, uint32_t dim, uint64_t blocks_of_row, const struct ds_gpu_launch *launch) {
    uint32_t most = 1;
    if (launch->together) {
        for (uint32_t n = FEWEST_TOGETHER; n <= launch->together && n <= MOST_TOGETHER && grouped_room(n, dim) <= launch->shared_most; n *= 2) most = n;
        return most;
    }
    if (rows < 3 || blocks_of_row * rows <= launch->processors) return 1;
    for (uint32_t n = FEWEST_TOGETHER; n <= MOST_TOGETHER; n *= 2) {
        if (grouped_room(n, dim) > launch->shared_most) break;
        most = n;
        if (n >= rows || blocks_of_row * ceil_div(rows, n) <= launch->processors) break;
    }
    return most;
}

template <class Kernel>
static gpuError_t launch_with(Kernel kernel, struct gpu_grid grid, size_t room, const struct ds_gpu_launch *launch, struct attention p, struct active active) {
    const gpuError_t error = gpu_allow_shared(kernel, room);
    return error == gpuSuccess ? gpu_launch(kernel, grid, STAGED_THREADS, room, where_of(launch), p, active) : error;
}

static gpuError_t launch_staged(uint32_t together, struct gpu_grid grid, size_t room, const struct ds_gpu_launch *launch, struct attention p,
                                struct active active) {
    if (together == MOST_TOGETHER) return launch_with(attend_rows<MOST_TOGETHER>, grid, grouped_room(together, p.head_dim), launch, p, active);
    if (together == FEWEST_TOGETHER) return launch_with(attend_rows<FEWEST_TOGETHER>, grid, grouped_room(together, p.head_dim), launch, p, active);
    return launch_with(attend_staged, grid, room, launch, p, active);
}
