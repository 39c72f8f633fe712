#include "check.h"

#include "ops/numerics.h"

struct shape {
    uint32_t rows, experts, slots;
    bool normalise, scaled;
};

/* Equal logits at both ends: the lowest id wins. A NaN, if wanted, loses. */
static void spoil(const struct ds_view *logits, bool nan) {
    for (uint32_t r = 0; r < logits->rows; r++) {
        float *row = (float *)check_at(&logits->at) + (uint64_t)r * logits->stride;
        if (logits->cols < 4) continue;
        row[logits->cols - 1] = row[0] = row[2] = 2.5f;
        if (nan && r % 2) row[1] = ds_float(DS_NUM_NAN);
    }
}

static void route(struct check *c, const struct shape *s, bool ties, enum fill fill) {
    if (!check_case(c, "%u rows, %u of %u experts%s%s%s, %s", s->rows, s->slots, s->experts, s->normalise ? ", normalised" : "",
                    s->scaled ? ", scaled" : "", ties ? ", ties" : "", fill_name(fill)))
        return;
    struct ds_op_route *p = &c->params.route;
    *p = (struct ds_op_route){.logits = check_view(c, DS_ELEM_F32, s->rows, s->experts, fill), .normalise = s->normalise,
                              .ids = check_view(c, DS_ELEM_I32, s->rows, s->slots, FILL_POISON),
                              .weights = check_view(c, DS_ELEM_F32, s->rows, s->slots, FILL_POISON)};
    if (s->scaled) p->scale = check_floats(c, s->experts, FILL_NORMAL);
    /* Only where no weight becomes a NaN: their payloads differ between devices (docs/numerics.md). */
    if (ties) spoil(&p->logits, s->normalise && s->slots < s->experts);
    check_run(c, s->rows);
}

static void cases(struct check *c) {
    static const uint32_t experts[] = {1, 2, 7, 8, 31, 32, 33, 64, 128, 256, 257, 1024}, slots[] = {1, 2, 3, 8, 64}, rows[] = {3, 1, 16, 17, 5};
    for (uint32_t i = 0; i < DS_COUNT(experts); i++) {
        for (uint32_t k = 0; k < 5; k++) {
            const struct shape s = {.rows = rows[(i + k) % 5], .experts = experts[i], .slots = DS_MIN(slots[k], experts[i]),
                                    .normalise = (i + k) % 2, .scaled = k > 2};
            route(c, &s, k % 2, (enum fill)(1 + (i + k) % (FILL_COUNT - 1)));
        }
    }
}

static void slice(union ds_op_params *params, uint32_t first, uint32_t n) {
    slice_view(&params->route.logits, first, n);
    slice_view(&params->route.ids, first, n);
    slice_view(&params->route.weights, first, n);
}

const struct check_op check_route = {.cases = cases, .slice = slice};
