#include "check.h"

#include "ops/numerics.h"

/* Penalties of a row: none, usual ones, and such as make infinities. */
static const float penalties[][3] = {
    {1, 0, 0}, {1.1f, 0, 0}, {1, 0.5f, 0.25f}, {0.5f, -1.5f, 0}, {1.3f, 0.1f, 2}, {100, 0, 0}, {1e-3f, 3e38f, -3e38f}, {1, 0, 1e38f},
};

static struct ds_slice rows_of(struct check *c, uint32_t rows, uint32_t sequences, uint32_t positions, uint32_t drafted, uint32_t biases) {
    struct ds_adjust_row *how;
    const struct ds_slice at = check_block(c, rows * sizeof *how, &how);
    for (uint32_t r = 0; r < rows; r++) {
        const float *penalty = penalties[(r + check_below(c, 2)) % DS_COUNT(penalties)];
        how[r] = (struct ds_adjust_row){.sequence = r % 5 == 4 ? -1 : (int32_t)check_below(c, sequences), .repetition = penalty[0],
                                        .presence = penalty[1], .frequency = penalty[2], .biases = check_below(c, biases + 1)};
        how[r].drafted_from = check_below(c, positions + 1);
        how[r].drafted_stride = drafted ? 1 + check_below(c, 3) : 0;
        how[r].drafted_at = drafted ? check_below(c, 3) : 0;
        const uint32_t last = drafted ? (drafted - 1 - how[r].drafted_at) / how[r].drafted_stride : 0;
        how[r].end = how[r].drafted_from + (drafted ? check_below(c, last + 2) : 0);
        how[r].first = r % 3 ? check_below(c, how[r].end + 1) : 0;
    }
    return at;
}

/* Few different tokens, so that many are there often, and some that no vocabulary has. */
static void fill_tokens(struct check *c, int32_t *tokens, uint32_t n, uint32_t vocabulary) {
    for (uint32_t i = 0; i < n; i++) {
        tokens[i] = (int32_t)check_below(c, check_below(c, 2) ? DS_MIN(vocabulary, 7) : vocabulary);
        if (check_below(c, 20) == 0) tokens[i] = check_below(c, 2) ? -1 : (int32_t)(vocabulary + check_below(c, 3));
    }
}

static struct ds_view words(struct check *c, ds_elem elem, uint32_t rows, uint32_t cols) {
    struct ds_view view = check_view(c, DS_ELEM_F32, rows, cols, FILL_NORMAL);
    view.elem = elem;
    return view;
}

static void adjust(struct check *c, uint32_t rows, uint32_t vocabulary, uint32_t positions, uint32_t biases, enum fill fill) {
    if (!check_case(c, "%u rows of %u, histories of %u, %u biases, %s", rows, vocabulary, positions, biases, fill_name(fill))) return;
    if (!check_affordable(c, (uint64_t)rows * (vocabulary + positions) * 4)) return;
    enum { SEQUENCES = 3, DRAFTED = 12 };
    struct ds_op_adjust *p = &c->params.adjust;
    const uint32_t drafted = positions % 2 ? DRAFTED : 0;
    p->x = check_view(c, DS_ELEM_F32, rows, vocabulary, fill);
    float *x = check_at(&p->x.at);
    if (rows > 2) x[(uint64_t)2 * p->x.stride + vocabulary / 2] = ds_float(DS_NUM_INF);
    if (rows > 1) x[(uint64_t)p->x.stride] = ds_float(DS_NUM_NAN);
    p->out = fill == FILL_WILD ? p->x : check_view(c, DS_ELEM_F32, rows, vocabulary, FILL_POISON);
    p->rows = rows_of(c, rows, SEQUENCES, positions, drafted, DS_MIN(biases, vocabulary));
    p->history = words(c, DS_ELEM_I32, SEQUENCES, positions);
    for (uint32_t s = 0; s < SEQUENCES; s++)
        fill_tokens(c, (int32_t *)check_at(&p->history.at) + (uint64_t)s * p->history.stride, positions, vocabulary);
    if (drafted) {
        int32_t *tokens;
        p->drafted = check_block(c, DRAFTED * sizeof *tokens, &tokens);
        fill_tokens(c, tokens, DRAFTED, vocabulary);
        p->n_drafted = DRAFTED;
    }
    p->bias_ids = words(c, DS_ELEM_I32, SEQUENCES, biases);
    p->bias_values = words(c, DS_ELEM_F32, SEQUENCES, biases);
    for (uint32_t s = 0; s < SEQUENCES; s++) {
        int32_t *ids = (int32_t *)check_at(&p->bias_ids.at) + (uint64_t)s * p->bias_ids.stride;
        float *values = (float *)check_at(&p->bias_values.at) + (uint64_t)s * p->bias_values.stride;
        const uint32_t start = check_below(c, vocabulary);
        for (uint32_t i = 0; i < biases; i++) {
            ids[i] = (int32_t)((start + i) % DS_MAX(vocabulary, biases)); /* beyond the vocabulary where there are more than it has */
            if (i % 5 == 0) values[i] = i % 2 ? ds_float(DS_NUM_INF | DS_NUM_SIGN) : 3e38f;
        }
    }
    check_run(c, rows);
}

static void cases(struct check *c) {
    static const uint32_t vocabularies[] = {1, 31, 33, 257, 2047, 2049, 5000};
    for (uint32_t i = 0; i < DS_COUNT(vocabularies); i++)
        for (enum fill fill = FILL_NORMAL; fill < FILL_COUNT; fill++) adjust(c, 9, vocabularies[i], 1 + (i * 61 + fill * 17) % 300, 1 + i * 3, fill);
    adjust(c, 8, 151936, 2048, 300, FILL_NORMAL);
    adjust(c, 1, 151936, 4097, 1, FILL_WILD);
}

static void slice(union ds_op_params *params, uint32_t first, uint32_t n) {
    slice_view(&params->adjust.x, first, n);
    slice_view(&params->adjust.out, first, n);
    slice_rows(&params->adjust.rows, first, sizeof(struct ds_adjust_row));
}

const struct check_op check_adjust = {.cases = cases, .slice = slice};
