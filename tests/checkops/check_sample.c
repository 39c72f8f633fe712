#include "check.h"

#include "ops/numerics.h"

/* How each row of a case draws; a case has as many rows as it likes and goes around. */
static const struct ds_sample_row ways[] = {
    {.inverse_temperature = 1.0f},
    {.inverse_temperature = 0.0f},
    {.inverse_temperature = 1.25f, .top_k = 20, .top_p = 0.95f},
    {.inverse_temperature = 0.5f, .top_k = 1},
    {.inverse_temperature = 2.0f, .top_p = 0.5f},
    {.inverse_temperature = 1.0f, .min_p = 0.05f},
    {.inverse_temperature = 1.0f, .top_k = 50, .top_p = 0.8f, .min_p = 0.1f, .purpose = 1},
    {.inverse_temperature = 1.0f, .top_p = 1e-9f},
    {.inverse_temperature = 1.0f, .top_k = UINT32_MAX, .top_p = 1.0f, .min_p = 1.0f},
    {.inverse_temperature = 0.01f, .top_p = 0.99999994f},
    {.inverse_temperature = 100.0f, .top_k = 300},
    {.inverse_temperature = 0.3f, .min_p = 1e-9f},
    {.inverse_temperature = 3.0f, .min_p = 1e-12f},
};

enum trouble { NONE, TIES, BIAS, FORBIDDEN, NOT_FINITE, TROUBLE_COUNT };

static struct ds_slice rows_of(struct check *c, uint32_t rows, uint32_t first, uint32_t bias_rows) {
    struct ds_sample_row *how;
    const struct ds_slice at = check_block(c, rows * sizeof *how, &how);
    for (uint32_t r = 0; r < rows; r++) how[r] = check_draw(c, &ways[(first + r) % DS_COUNT(ways)], r, bias_rows);
    return at;
}

static void trouble_logits(struct check *c, const struct ds_view *logits, enum trouble trouble) {
    float *x = check_at(&logits->at);
    for (uint32_t r = 0; r < logits->rows; r++) {
        float *row = x + (uint64_t)r * logits->stride;
        for (uint32_t i = 0; i < logits->cols && trouble != TIES; i++) row[i] *= 5.0f;
        if (trouble == NOT_FINITE && r % 2)
            row[check_below(c, logits->cols)] = ds_float(r % 4 == 1 ? DS_NUM_NAN : DS_NUM_INF | (r & 4) << 29);
    }
}

static void sample(struct check *c, uint32_t rows, uint32_t vocabulary, uint32_t first, enum trouble trouble) {
    static const char *const troubles[TROUBLE_COUNT] = {"", ", ties", ", bias", ", a row forbidden", ", not all finite"};
    if (!check_case(c, "%u rows of %u, settings from %u%s", rows, vocabulary, first, troubles[trouble])) return;
    if (!check_affordable(c, trouble == NONE ? 0 : (uint64_t)rows * vocabulary * 16)) return; /* several passes over each */
    struct ds_op_sample *p = &c->params.sample;
    p->bias_rows = trouble == BIAS || trouble == FORBIDDEN ? 2 : 0;
    p->logits = check_view(c, DS_ELEM_F32, rows, vocabulary, trouble == TIES ? FILL_INTEGERS : FILL_NORMAL);
    trouble_logits(c, &p->logits, trouble);
    p->rows = rows_of(c, rows, first, p->bias_rows);
    if (p->bias_rows) p->bias = check_biases(c, p->bias_rows, vocabulary, trouble == FORBIDDEN);
    p->tokens = check_block(c, (uint64_t)rows * 4, NULL);
    if (first % 2 == 0) p->flags = check_indices(c, rows, 8);
    check_run(c, rows);
}

static void cases(struct check *c) {
    static const uint32_t vocabularies[] = {33, 1, 2, 31, 32, 255, 256, 257, 4096};
    for (uint32_t i = 0; i < DS_COUNT(vocabularies); i++)
        for (int trouble = NONE; trouble < TROUBLE_COUNT; trouble++)
            sample(c, i == 2 ? 16 : 11, vocabularies[i], i * 3 + (uint32_t)trouble, (enum trouble)trouble);
    for (uint32_t rows = 1; rows <= 17; rows += 8) sample(c, rows, 1000, rows, NONE);
    for (int trouble = NONE; trouble < TROUBLE_COUNT; trouble++)
        sample(c, 4, 151936, (uint32_t)trouble * 2, (enum trouble)trouble);
}

static void slice(union ds_op_params *params, uint32_t first, uint32_t n) {
    slice_view(&params->sample.logits, first, n);
    slice_rows(&params->sample.rows, first, sizeof(struct ds_sample_row));
    slice_rows(&params->sample.tokens, first, 4);
    slice_rows(&params->sample.flags, first, 4);
}

const struct check_op check_sample = {.cases = cases, .slice = slice};
