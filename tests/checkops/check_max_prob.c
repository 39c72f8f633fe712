#include "check.h"

#include "ops/numerics.h"

enum trouble { NONE, SURE, FLAT, TIES, FAR, NOT_FINITE, TROUBLE_COUNT };

/* Logits as models have them, and what sums of masses come to at their ends: one token alone, all alike, shares of exactly a half. */
static void shape(struct check *c, const struct ds_view *logits, enum trouble trouble) {
    float *x = check_at(&logits->at);
    for (uint32_t r = 0; r < logits->rows; r++) {
        float *row = x + (uint64_t)r * logits->stride;
        const uint32_t best = check_below(c, logits->cols);
        for (uint32_t i = 0; i < logits->cols; i++) row[i] = trouble == FLAT ? -3.5f : trouble == FAR ? -1e30f : row[i] * 5.0f;
        if (trouble == SURE) row[best] = 500.0f;
        if (trouble == FAR) row[best] = r % 2 ? 3e38f : 0.0f;
        if (trouble == TIES) row[best] = row[check_below(c, logits->cols)] = 40.0f;
        if (trouble == NOT_FINITE && r % 3 != 2) row[best] = ds_float(r % 3 ? DS_NUM_NAN : DS_NUM_INF | (r & 1) << 31);
    }
}

static void max_prob(struct check *c, uint32_t rows, uint32_t vocabulary, enum trouble trouble) {
    static const char *const troubles[TROUBLE_COUNT] = {"", ", sure", ", flat", ", ties", ", far apart", ", not all finite"};
    if (!check_case(c, "%u rows of %u%s", rows, vocabulary, troubles[trouble])) return;
    if (!check_affordable(c, trouble == NONE ? 0 : (uint64_t)rows * vocabulary * 16)) return;
    struct ds_op_max_prob *p = &c->params.max_prob;
    p->logits = check_view(c, DS_ELEM_F32, rows, vocabulary, FILL_NORMAL);
    shape(c, &p->logits, trouble);
    p->log_odds = check_view(c, DS_ELEM_F32, rows, 1, FILL_POISON);
    check_run(c, rows);
}

static void cases(struct check *c) {
    static const uint32_t vocabularies[] = {33, 1, 2, 3, 31, 32, 255, 257, 512, 513, 4096, 32001};
    for (uint32_t i = 0; i < DS_COUNT(vocabularies); i++)
        for (int trouble = NONE; trouble < TROUBLE_COUNT; trouble++) max_prob(c, i == 2 ? 17 : 6, vocabularies[i], (enum trouble)trouble);
    for (int trouble = NONE; trouble < TROUBLE_COUNT; trouble++) max_prob(c, 2, 151936, (enum trouble)trouble);
    max_prob(c, 7, 151936, NONE);
}

static void slice(union ds_op_params *params, uint32_t first, uint32_t n) {
    slice_view(&params->max_prob.logits, first, n);
    slice_view(&params->max_prob.log_odds, first, n);
}

const struct check_op check_max_prob = {.cases = cases, .slice = slice};
