#include "check.h"

#include "ops/numerics.h"

static const struct ds_sample_row ways[] = {
    {.inverse_temperature = 1.0f, .method = DS_DRAW_REJECTION},
    {.inverse_temperature = 1.0f, .method = DS_DRAW_MASS, .purpose = 1},
    {.inverse_temperature = 0.0f, .method = DS_DRAW_REJECTION},
    {.inverse_temperature = 1.25f, .top_k = 20, .top_p = 0.95f, .method = DS_DRAW_REJECTION},
    {.inverse_temperature = 1.0f},
    {.inverse_temperature = 0.5f, .top_k = 1, .method = DS_DRAW_MASS},
    {.inverse_temperature = 2.0f, .top_p = 0.5f, .method = DS_DRAW_REJECTION},
    {.inverse_temperature = 1.0f, .min_p = 0.05f, .method = DS_DRAW_REJECTION},
    {.inverse_temperature = 1.0f, .top_k = 50, .top_p = 0.8f, .min_p = 0.1f, .method = DS_DRAW_REJECTION},
    {.inverse_temperature = 0.01f, .method = DS_DRAW_REJECTION},
    {.inverse_temperature = 0.01f, .top_p = 0.99999994f, .method = DS_DRAW_MASS, .purpose = 3},
    {.inverse_temperature = 100.0f, .top_k = 300, .method = DS_DRAW_REJECTION},
};

/* SAME: drafts from the target's own logits. UNLIKELY: drafts that their rows hardly give, so that no residual may be left. */
enum trouble { NONE, SAME, UNLIKELY, TIES, BIAS, NOT_FINITE, TROUBLE_COUNT };

static struct ds_slice rows_of(struct check *c, uint32_t rows, uint32_t vocabulary, uint32_t first, uint32_t bias_rows, enum trouble trouble) {
    struct ds_sample_row *how;
    const struct ds_slice at = check_block(c, rows * sizeof *how, &how);
    const float *drafted = check_at(&c->params.reject.drafted.at);
    for (uint32_t r = 0; r < rows; r++) {
        how[r] = check_draw(c, &ways[(first + r) % DS_COUNT(ways)], r, bias_rows);
        how[r].draft_row = trouble == SAME ? r : check_below(c, rows);
        how[r].draft = (int32_t)check_below(c, vocabulary);
        const float *row = drafted + (uint64_t)how[r].draft_row * c->params.reject.drafted.stride;
        for (uint32_t i = 0; i < vocabulary && trouble != UNLIKELY && r % 2; i++)
            if (row[i] > row[how[r].draft]) how[r].draft = (int32_t)i; /* as a drafter mostly would */
    }
    return at;
}

static void scale(const struct ds_view *logits, float by) {
    float *x = check_at(&logits->at);
    for (uint32_t r = 0; r < logits->rows; r++)
        for (uint32_t i = 0; i < logits->cols; i++) x[(uint64_t)r * logits->stride + i] *= by;
}

static void spoil(struct check *c, const struct ds_view *logits, uint32_t every) {
    float *x = check_at(&logits->at);
    for (uint32_t r = 0; r < logits->rows; r += every)
        x[(uint64_t)r * logits->stride + check_below(c, logits->cols)] = ds_float(r % 4 == 1 ? DS_NUM_NAN : DS_NUM_INF | (r & 4) << 29);
}

static void reject(struct check *c, uint32_t rows, uint32_t vocabulary, uint32_t first, enum trouble trouble) {
    static const char *const troubles[TROUBLE_COUNT] = {"", ", drafts of the same", ", unlikely drafts", ", ties", ", bias", ", not all finite"};
    if (!check_case(c, "%u rows of %u, settings from %u%s", rows, vocabulary, first, troubles[trouble])) return;
    if (!check_affordable(c, trouble == NONE ? 0 : (uint64_t)rows * vocabulary * 32)) return;
    struct ds_op_reject *p = &c->params.reject;
    p->bias_rows = trouble == BIAS ? 2 : 0;
    const enum fill fill = trouble == TIES ? FILL_INTEGERS : FILL_NORMAL;
    p->logits = check_view(c, DS_ELEM_F32, rows, vocabulary, fill);
    if (trouble != TIES) scale(&p->logits, 5.0f);
    if (trouble == NOT_FINITE) spoil(c, &p->logits, 3);
    p->drafted = p->logits;
    if (trouble != SAME) {
        p->drafted = check_view(c, DS_ELEM_F32, rows, vocabulary, fill);
        if (trouble == NOT_FINITE) spoil(c, &p->drafted, 2);
    }
    p->rows = rows_of(c, rows, vocabulary, first, p->bias_rows, trouble);
    if (p->bias_rows) p->bias = check_biases(c, p->bias_rows, vocabulary, true);
    p->tokens = check_indices(c, rows, vocabulary);
    if (first % 2 == 0) p->flags = check_indices(c, rows, 8);
    check_run(c, rows);
}

static void cases(struct check *c) {
    static const uint32_t vocabularies[] = {33, 1, 2, 31, 32, 255, 257, 513, 4096};
    for (uint32_t i = 0; i < DS_COUNT(vocabularies); i++)
        for (int trouble = NONE; trouble < TROUBLE_COUNT; trouble++)
            reject(c, i == 2 ? 17 : 12, vocabularies[i], i * 3 + (uint32_t)trouble, (enum trouble)trouble);
    for (int trouble = NONE; trouble < TROUBLE_COUNT; trouble++) reject(c, 4, 151936, (uint32_t)trouble * 2, (enum trouble)trouble);
}

static void slice(union ds_op_params *params, uint32_t first, uint32_t n) {
    slice_view(&params->reject.logits, first, n);
    slice_rows(&params->reject.rows, first, sizeof(struct ds_sample_row));
    slice_rows(&params->reject.tokens, first, 4);
    slice_rows(&params->reject.flags, first, 4);
}

const struct check_op check_reject = {.cases = cases, .slice = slice};
