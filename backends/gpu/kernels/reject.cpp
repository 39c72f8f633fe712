/*
 * Meaning: cpu/ref/reject.c. A block draws one row's token. Sums are of integers, so that threads add up stretches of the vocabulary in
 * any order; the stretch in which a running sum passes what was drawn is then walked through by the thread that owns it.
 */
#include "filters.h"

#include "base/philox.h"
#include "ops/wide.h"

namespace {

struct reject {
    struct matrix<const float> logits, drafted;
    const struct ds_sample_row *rows;
    const float *bias; /* or null */
    int32_t *tokens;
    uint32_t *flags; /* or null */
};

struct drawing {
    struct ds_wide sum[THREADS]; /* of the threads' stretches */
    struct ds_wide wanted, total;
    uint32_t stretch, token;
};

/* All that a block shares. */
struct both {
    struct shared s;
    struct drawing d;
};

GPU_FN struct ds_wide narrow(uint64_t x) {
    struct ds_wide wide;
    wide.high = 0;
    wide.low = x;
    return wide;
}

GPU_FN void raise(struct shared &s, const struct row &row) {
    if (gpu_thread() == 0) s.raised = 0;
    gpu_barrier();
    for (uint32_t i = gpu_thread(); i < row.n; i += THREADS)
        if (!ds_is_finite(row.logits[i])) gpu_atomic_or(&s.raised, DS_FLAG_LOGIT);
    gpu_barrier();
}

/* The largest logit of the row, which becomes its top. */
GPU_FN struct champion find_top(struct row *row, struct shared &s) {
    struct champion mine = {0, 0xffffffffu};
    for (uint32_t i = gpu_thread(); i < row->n; i += THREADS)
        if (!forbidden(*row, i)) challenge(&mine, biased(*row, i), i);
    const struct champion top = best_of_block(mine, s);
    row->top = top.value;
    return top;
}

GPU_FN uint64_t kept_mass(const struct row &row, uint32_t i) {
    return kept(row, i) ? static_cast<uint64_t>(ds_float(mass_key(row, i))) : 0;
}

GPU_FN uint64_t total_mass(const struct row &row, struct shared &s) {
    uint64_t mine = 0;
    for (uint32_t i = gpu_thread(); i < row.n; i += THREADS) mine += kept_mass(row, i);
    return sum_of_block(mine, s);
}

/* Token i's weight in a draw: its mass, or its residual where there is a draft's row. */
struct weights {
    const struct row *row, *draft; /* draft: or null */
    uint64_t total, draft_total;
    GPU_FN_MEMBER struct ds_wide of(uint32_t i) const {
        const uint64_t mass = kept_mass(*row, i);
        if (!draft || !mass) return narrow(mass);
        return ds_residual(mass, total, kept_mass(*draft, i), draft_total);
    }
};

/* The first token at which the sum of weights exceeds the share `random` of their total; UINT32_MAX where that is 0. */
GPU_FN uint32_t draw(const struct weights &weights, uint64_t random, struct drawing &d) {
    const uint32_t n = weights.row->n, each = (n + THREADS - 1) / THREADS, me = gpu_thread();
    const uint32_t first = least(me * each, n), end = least(first + each, n);
    struct ds_wide mine = narrow(0);
    for (uint32_t i = first; i < end; i++) mine = ds_wide_add(mine, weights.of(i));
    d.sum[me] = mine;
    gpu_barrier();
    if (me == 0) {
        struct ds_wide all = narrow(0);
        for (uint32_t t = 0; t < THREADS; t++) all = ds_wide_add(all, d.sum[t]);
        d.wanted = ds_wide_share(random, all);
        d.stretch = d.token = 0xffffffffu;
        struct ds_wide sum = narrow(0);
        for (uint32_t t = 0; t < THREADS && d.stretch == 0xffffffffu; t++) {
            const struct ds_wide next = ds_wide_add(sum, d.sum[t]);
            if (ds_wide_less(d.wanted, next)) d.stretch = t;
            else sum = next;
        }
        d.total = sum; /* in front of the stretch */
    }
    gpu_barrier();
    if (me == d.stretch) {
        struct ds_wide sum = d.total;
        uint32_t i = first;
        for (; i < end; i++) {
            sum = ds_wide_add(sum, weights.of(i));
            if (ds_wide_less(d.wanted, sum)) break;
        }
        d.token = i;
    }
    gpu_barrier();
    const uint32_t token = d.token;
    gpu_barrier();
    return token;
}

GPU_FN uint64_t seed_of(const struct ds_sample_row &how) { return how.seed_low | static_cast<uint64_t>(how.seed_high) << 32; }

GPU_FN uint64_t random_64(const struct ds_sample_row &how, uint32_t purpose) {
    const uint32_t counter[4] = {0, how.position, purpose, how.stream};
    uint32_t words[4];
    ds_philox(seed_of(how), counter, words);
    return words[0] | static_cast<uint64_t>(words[1]) << 32;
}

/* What a row of the method DS_DRAW_REJECTION becomes. */
GPU_FN uint32_t decide(const struct reject &p, const struct row &row, uint64_t total, struct shared &s, struct drawing &d) {
    const struct ds_sample_row &how = row.how;
    const uint64_t random = random_64(how, DS_PHILOX_RESIDUAL);
    const struct weights plain = {&row, nullptr, total, 0};
    struct row draft = {p.drafted.row(how.draft_row), nullptr, how, row.n, 0, {0, 0}, {0, 0}, 0};
    raise(s, draft);
    if (s.raised) return draw(plain, random, d);
    find_top(&draft, s);
    filter(&draft, s);
    const uint64_t draft_total = total_mass(draft, s);
    const uint32_t y = static_cast<uint32_t>(how.draft), word = ds_philox_word(seed_of(how), 0, how.position, DS_PHILOX_ACCEPTANCE, how.stream);
    if (ds_accepts(word, kept_mass(row, y), total, kept_mass(draft, y), draft_total)) return y;
    const struct weights residual = {&row, &draft, total, draft_total};
    const uint32_t token = draw(residual, random, d);
    return token != 0xffffffffu ? token : draw(plain, random, d);
}

GPU_KERNEL(THREADS) reject_rows(struct reject p, struct active active) {
    gpu_begin();
    GPU_SHARED(struct both, b);
    struct shared &s = b.s;
    const uint32_t r = gpu_block_x();
    if (r >= active.get() || p.rows[r].method == DS_DRAW_GUMBEL) return;
    struct row row = {p.logits.row(r), nullptr, p.rows[r], p.logits.cols, 0, {0, 0}, {0, 0}, 0};
    if (p.bias && row.how.bias_row >= 0) row.bias = p.bias + static_cast<size_t>(row.how.bias_row) * row.n;
    raise(s, row);
    const struct champion top = find_top(&row, s);
    const uint32_t raised = s.raised ? s.raised : top.id == 0xffffffffu ? DS_FLAG_MASKED : 0;
    uint32_t token = raised ? 0xffffffffu : top.id;
    gpu_barrier();
    if (!raised && row.how.inverse_temperature > 0) {
        filter(&row, s);
        const uint64_t total = total_mass(row, s);
        const struct weights plain = {&row, nullptr, total, 0};
        token = row.how.method == DS_DRAW_REJECTION ? decide(p, row, total, s, b.d) : draw(plain, random_64(row.how, row.how.purpose), b.d);
    }
    if (gpu_thread() != 0) return;
    p.tokens[r] = static_cast<int32_t>(token);
    if (p.flags && raised) p.flags[r] |= raised;
}

} // namespace

gpuError_t GPU_OP(reject)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_reject &p = params->reject;
    const struct reject reject = {matrix_of<const float>(p.logits), matrix_of<const float>(p.drafted), at<const struct ds_sample_row>(p.rows),
                                  at<const float>(p.bias), at<int32_t>(p.tokens), at<uint32_t>(p.flags)};
    return gpu_launch(reject_rows, gpu_grid_of(p.logits.rows), THREADS, 0, where_of(launch), reject, active_of(p.count, p.logits.rows));
}
