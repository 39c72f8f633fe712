/*
 * Rejection sampling (Leviathan et al. 2023, Chen et al. 2023) in integers. Rows of the method DS_DRAW_GUMBEL are left alone. With x_i,
 * flags, temperature 0 and filters as in sample.c, w_i the masses of a row that its filters keep, 0 for others, and W their sum:
 *
 *   DS_DRAW_MASS       the token is drawn from w / W: the first, ascending, at which the sum of masses exceeds floor(U W / 2^64). U is 64
 *                      random bits: words 0 and 1 of block 0 at (position, the row's purpose, stream), word 0 being its low half.
 *   DS_DRAW_REJECTION  y = draft was drawn from row draft_row of `drafted`, whose masses d, with sum D, the same temperature and
 *                      filters give: p_d = d / D, p_t = w / W. With the coin u = (2c + 1) 2^-24, c = word 0 of the purpose
 *                      DS_PHILOX_ACCEPTANCE >> 9, y is accepted where
 *                          u < p_t(y) / p_d(y)   <=>   (2c + 1) d_y W < 2^24 w_y D
 *                      and otherwise a token drawn from
 *                          max(0, p_t - p_d)  ~  r_i = max(0, w_i D - d_i W),   R = sum of r_i
 *                      by floor(U R / 2^64), U of the purpose DS_PHILOX_RESIDUAL.
 *
 * Nothing overflows: masses are at most 2^32, sums below 2^63, 2c + 1 below 2^24; so products stay below 2^119, R <= W D below 2^126. y is
 * accepted with probability min(1, p_t(y) / p_d(y)) to within 2^-24, and the draws are exact to within 2^-64. A draft that was drawn
 * from d and is rejected has d_y W > w_y D; both distributions sum to 1, so r is positive elsewhere and R is not 0. A token that its
 * row could not give can meet R = 0: then w / W is drawn from, and so it is where the row of `drafted` holds a number that is not finite.
 */
#include "ref/candidates.h"

#include "base/philox.h"
#include "ops/numerics.h"
#include "ops/wide.h"

#include <stdlib.h>
#include <string.h>

static uint64_t seed_of(const struct ds_sample_row *how) { return how->seed_low | (uint64_t)how->seed_high << 32; }

static uint64_t random_64(const struct ds_sample_row *how, uint32_t purpose) {
    const uint32_t counter[4] = {0, how->position, purpose, how->stream};
    uint32_t words[4];
    ds_philox(seed_of(how), counter, words);
    return words[0] | (uint64_t)words[1] << 32;
}

/* Masses by id and their sum; 0: there is no token to draw. *greedy: the largest logit. */
static uint64_t masses(const float *logits, uint32_t n, const float *bias, const struct ds_sample_row *how, struct ds_candidate *list,
                       uint64_t *mass, int32_t *greedy, uint32_t *flags) {
    uint32_t candidates = ds_ref_candidates(logits, n, bias, list, flags);
    if (candidates == 0) return 0;
    *greedy = (int32_t)ds_ref_largest(list, candidates)->id;
    candidates = ds_ref_filter(list, candidates, how);
    memset(mass, 0, n * sizeof *mass);
    uint64_t total = 0;
    for (uint32_t i = 0; i < candidates; i++) total += mass[list[i].id] = list[i].w;
    return total;
}

static int32_t draw(const uint64_t *mass, uint32_t n, uint64_t total, uint64_t random) {
    const uint64_t wanted = ds_wide_mul(random, total).high;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        if ((sum += mass[i]) > wanted) return (int32_t)i;
    return -1;
}

/* -1: no residual. */
static int32_t draw_residual(const uint64_t *mass, uint64_t total, const uint64_t *draft, uint64_t draft_total, uint32_t n, uint64_t random) {
    struct ds_wide all = {0, 0}, sum = {0, 0};
    for (uint32_t i = 0; i < n; i++) all = ds_wide_add(all, ds_residual(mass[i], total, draft[i], draft_total));
    const struct ds_wide wanted = ds_wide_share(random, all);
    for (uint32_t i = 0; i < n; i++) {
        sum = ds_wide_add(sum, ds_residual(mass[i], total, draft[i], draft_total));
        if (ds_wide_less(wanted, sum)) return (int32_t)i;
    }
    return -1;
}

struct scratch {
    struct ds_candidate *list;
    uint64_t *mass, *draft;
};

static int32_t reject(const struct ds_op_reject *p, uint32_t r, const float *bias, const struct ds_sample_row *how, const struct scratch *s,
                      uint32_t *flags) {
    const uint32_t n = p->logits.cols;
    int32_t greedy, ignored;
    uint32_t unused = 0;
    const uint64_t total = masses(ds_host_row(&p->logits, r), n, bias, how, s->list, s->mass, &greedy, flags);
    if (total == 0) return -1;
    if (!(how->inverse_temperature > 0)) return greedy;
    if (how->method != DS_DRAW_REJECTION) return draw(s->mass, n, total, random_64(how, how->purpose));
    const uint64_t random = random_64(how, DS_PHILOX_RESIDUAL);
    const uint64_t draft_total = masses(ds_host_row(&p->drafted, how->draft_row), n, NULL, how, s->list, s->draft, &ignored, &unused);
    if (draft_total == 0) return draw(s->mass, n, total, random);
    const uint32_t word = ds_philox_word(seed_of(how), 0, how->position, DS_PHILOX_ACCEPTANCE, how->stream);
    if (ds_accepts(word, s->mass[how->draft], total, s->draft[how->draft], draft_total)) return how->draft;
    const int32_t token = draw_residual(s->mass, total, s->draft, draft_total, n, random);
    return token >= 0 ? token : draw(s->mass, n, total, random);
}

ds_status ds_ref_reject(const struct ds_op_reject *p, struct ds_error *err) {
    const uint32_t vocabulary = p->logits.cols, rows = ds_host_rows(&p->count, p->logits.rows);
    const struct ds_sample_row *how = ds_host_at(&p->rows);
    const float *bias = ds_host_at(&p->bias);
    int32_t *tokens = ds_host_at(&p->tokens);
    uint32_t *flags = ds_host_at(&p->flags);
    const size_t bytes = vocabulary * (sizeof(struct ds_candidate) + 2 * sizeof(uint64_t));
    struct ds_candidate *list = malloc(bytes);
    if (!list) return ds_fail_memory(err, bytes, "the candidates of a row");
    uint64_t *mass = (uint64_t *)(void *)(list + vocabulary);
    const struct scratch scratch = {list, mass, mass + vocabulary};
    for (uint32_t r = 0; r < rows; r++) {
        if (how[r].method == DS_DRAW_GUMBEL) continue;
        const float *row_bias = bias && how[r].bias_row >= 0 ? bias + (size_t)how[r].bias_row * vocabulary : NULL;
        uint32_t raised = 0;
        tokens[r] = reject(p, r, row_bias, &how[r], &scratch, &raised);
        if (flags) flags[r] |= raised;
    }
    free(list);
    return DS_OK;
}
