/*
 * A thread takes whole rows: masses of the row and of its draft's, as floats that hold integers, then exact sums and comparisons. Meaning:
 * ref/reject.c.
 */
#include "kernels.h"
#include "kernels/filters.h"

#include "base/philox.h"
#include "ops/wide.h"

enum { NONE = -1 };

static uint64_t random_64(const struct ds_sample_row *how, uint32_t purpose) {
    const uint32_t counter[4] = {0, how->position, purpose, how->stream};
    uint32_t words[4];
    ds_philox(how->seed_low | (uint64_t)how->seed_high << 32, counter, words);
    return words[0] | (uint64_t)words[1] << 32;
}

/* What the filters keep, the others weighing 0, and the sum. `x` is scratch that holds the biased logits. */
static uint64_t kept_masses(float *x, uint32_t n, float largest, const struct ds_sample_row *how, float *mass) {
    if (how->top_k > 0) keep_top_k(x, n, how->top_k, (uint32_t *)(void *)mass);
    masses(x, n, largest, how->inverse_temperature, mass);
    const struct ds_selection kept = keep_top_p(mass, n, how->top_p);
    const float least_mass = how->min_p > 0 ? (float)fixed_point(how->min_p) : 0.0f;
    uint64_t total = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (mass[i] < least_mass || !ds_selected(&kept, ds_bits(mass[i]), i)) mass[i] = 0;
        total += (uint64_t)mass[i];
    }
    return total;
}

static int32_t draw(const float *mass, uint32_t n, uint64_t total, uint64_t random) {
    const uint64_t wanted = ds_wide_mul(random, total).high;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        if ((sum += (uint64_t)mass[i]) > wanted) return (int32_t)i;
    return NONE;
}

/* Two distributions over n tokens. */
struct pair {
    const float *mass, *draft;
    uint64_t total, draft_total;
    uint32_t n;
};

static struct ds_wide residual(const struct pair *p, uint32_t i) {
    return ds_residual((uint64_t)p->mass[i], p->total, (uint64_t)p->draft[i], p->draft_total);
}

static int32_t draw_residual(const struct pair *p, uint64_t random) {
    struct ds_wide all = {0, 0}, sum = {0, 0};
    for (uint32_t i = 0; i < p->n; i++)
        if (p->mass[i] > 0) all = ds_wide_add(all, residual(p, i));
    const struct ds_wide wanted = ds_wide_share(random, all);
    for (uint32_t i = 0; i < p->n; i++) {
        if (!(p->mass[i] > 0)) continue;
        sum = ds_wide_add(sum, residual(p, i));
        if (ds_wide_less(wanted, sum)) return (int32_t)i;
    }
    return draw(p->mass, p->n, p->total, random);
}

static int32_t decide(const struct ds_op_reject *p, const struct ds_sample_row *how, float *x, const float *mass, uint64_t total, float *draft_mass) {
    const struct row drafted = {.logits = ds_host_row(&p->drafted, how->draft_row), .n = p->logits.cols};
    const uint64_t random = random_64(how, DS_PHILOX_RESIDUAL);
    if (!all_finite(drafted.logits, drafted.n)) return draw(mass, drafted.n, total, random);
    biased_logits(&drafted, 0, drafted.n, x);
    const uint64_t draft_total = kept_masses(x, drafted.n, ds_largest(x, drafted.n), how, draft_mass);
    const uint32_t word = ds_philox_word(how->seed_low | (uint64_t)how->seed_high << 32, 0, how->position, DS_PHILOX_ACCEPTANCE, how->stream);
    if (ds_accepts(word, (uint64_t)mass[how->draft], total, (uint64_t)draft_mass[how->draft], draft_total)) return how->draft;
    return draw_residual(&(struct pair){mass, draft_mass, total, draft_total, drafted.n}, random);
}

static int32_t reject_row(const struct ds_op_reject *p, uint32_t r, const struct ds_sample_row *how, uint8_t *scratch, uint32_t *raised) {
    const float *bias = ds_host_at(&p->bias);
    const struct row row = {.logits = ds_host_row(&p->logits, r), .n = p->logits.cols,
                            .bias = bias && how->bias_row >= 0 ? bias + (size_t)how->bias_row * p->logits.cols : NULL};
    float *x = (float *)(void *)scratch, *mass = x + row.n, *draft_mass = mass + row.n;
    *raised = DS_FLAG_LOGIT;
    if (!all_finite(row.logits, row.n)) return NONE;
    biased_logits(&row, 0, row.n, x);
    uint32_t first = 0;
    while (first < row.n && ds_is_nan(x[first])) first++; /* forbidden */
    *raised = first == row.n ? DS_FLAG_MASKED : 0;
    if (*raised) return NONE;
    const float largest = ds_largest(x, row.n);
    if (!(how->inverse_temperature > 0)) {
        while (x[first] != largest) first++;
        return (int32_t)first;
    }
    const uint64_t total = kept_masses(x, row.n, largest, how, mass);
    if (how->method != DS_DRAW_REJECTION) return draw(mass, row.n, total, random_64(how, how->purpose));
    return decide(p, how, x, mass, total, draft_mass);
}

void DS_CPU_NAME(reject)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    const struct ds_op_reject *p = &params->reject;
    const uint32_t rows = ds_host_rows(&p->count, p->logits.rows);
    const struct ds_sample_row *how = ds_host_at(&p->rows);
    int32_t *tokens = ds_host_at(&p->tokens);
    uint32_t *flags = ds_host_at(&p->flags);
    for (uint32_t r = work->member; r < rows; r += work->members) {
        if (how[r].method == DS_DRAW_GUMBEL) continue;
        uint32_t raised;
        tokens[r] = reject_row(p, r, &how[r], work->scratch, &raised);
        if (flags) flags[r] |= raised;
    }
}
