#include "check.h"

#include "ops/numerics.h"

#include <string.h>

enum { MAX_ROWS = 64, MAX_SEQUENCES = 4 };

struct shape {
    uint32_t heads, kv_heads, head_dim;
    uint32_t sequences, rows_each; /* the last rows of each sequence */
    uint32_t context;              /* positions of the first sequence; each next one is 37 shorter */
    bool f16;
    bool runs;  /* a sequence's rows lie side by side, as in a verification; else sequences take turns */
    bool block; /* every row sees its sequence's last position, as a block drafter's do; else its own and those before */
    uint32_t window;
    float softcap;
};

/* What the rows of a case see. */
struct sight {
    int32_t sequence[MAX_ROWS], position[MAX_ROWS], visible[MAX_ROWS];
    uint32_t rows, pages_each;
};

static struct sight look(const struct shape *s) {
    struct sight sight = {.rows = s->sequences * s->rows_each, .pages_each = s->context / DS_PAGE + 1};
    for (uint32_t r = 0; r < sight.rows; r++) {
        const uint32_t sequence = s->runs ? r / s->rows_each : r % s->sequences;
        const uint32_t back = s->rows_each - 1 - (s->runs ? r % s->rows_each : r / s->sequences);
        const uint32_t length = s->context > 37 * sequence + s->rows_each ? s->context - 37 * sequence : s->rows_each;
        sight.sequence[r] = (int32_t)sequence;
        sight.position[r] = (int32_t)(length - 1 - back);
        sight.visible[r] = s->block ? (int32_t)length : sight.position[r] + 1;
    }
    if (sight.rows > 3) sight.position[sight.rows - 2] = -1; /* padding */
    if (sight.rows > 4) sight.visible[0] = 0;                /* sees nothing */
    return sight;
}

static bool seen(const struct sight *sight, uint32_t window, uint32_t sequence, uint32_t position) {
    for (uint32_t r = 0; r < sight->rows; r++) {
        if (sight->sequence[r] != (int32_t)sequence || sight->position[r] < 0 || (int32_t)position >= sight->visible[r])
            continue;
        if (window == 0 || (int64_t)position > (int64_t)sight->position[r] - window) return true;
    }
    return false;
}

static void put(uint8_t *cache, bool f16, uint64_t index, float x) {
    const uint32_t bits = f16 ? ds_f32_to_f16(x) : ds_bits(x);
    memcpy(cache + index * (f16 ? 2 : 4), &bits, f16 ? 2 : 4);
}

/* Values where a row looks; elsewhere NaN, so that a key multiplied by zero instead of skipped shows. */
static struct ds_kv cache(struct check *c, const struct shape *s, const struct sight *sight, const struct ds_paging *paging,
                          enum fill fill) {
    const uint32_t pages = check_pages(s->sequences, sight->pages_each), size = s->f16 ? 2 : 4;
    const uint64_t bytes = (uint64_t)pages * s->kv_heads * s->head_dim * DS_PAGE * size;
    uint8_t *k, *v;
    struct ds_kv kv = {.f16 = s->f16, .pages = pages, .kv_heads = s->kv_heads, .head_dim = s->head_dim};
    kv.k = check_block(c, bytes, &k);
    kv.v = check_block(c, bytes, &v);
    memset(k, 0xff, bytes);
    memset(v, 0xff, bytes);
    for (uint32_t q = 0; q < s->sequences; q++) {
        for (uint32_t j = 0; j < sight->pages_each * DS_PAGE; j++) {
            if (!seen(sight, s->window, q, j)) continue;
            const uint32_t page = check_page_of(c, paging, q, j);
            for (uint32_t i = 0; i < s->kv_heads * s->head_dim; i++) {
                float pair[2];
                check_fill(c, fill, pair, 2);
                const uint32_t head = i / s->head_dim, dim = i % s->head_dim;
                put(k, s->f16, ds_kv_key_index(page, head, j % DS_PAGE, dim, s->kv_heads, s->head_dim), pair[0]);
                put(v, s->f16, ds_kv_value_index(page, head, j % DS_PAGE, dim, s->kv_heads, s->head_dim), pair[1]);
            }
        }
    }
    return kv;
}

static void attend(struct check *c, const struct shape *s, enum fill fill) {
    if (!check_case(c, "%s, %u heads on %u of %u, %u sequences of %u, %u rows each%s%s, window %u, softcap %g, %s",
                    s->f16 ? "f16" : "f32", s->heads, s->kv_heads, s->head_dim, s->sequences, s->context, s->rows_each,
                    s->runs ? ", side by side" : "", s->block ? ", block" : "", s->window, (double)s->softcap, fill_name(fill)))
        return;
    if (!check_affordable(c, (uint64_t)2 * s->sequences * s->rows_each * s->heads * s->head_dim * s->context)) return;
    const struct sight sight = look(s);
    struct ds_op_attention *p = &c->params.attention;
    *p = (struct ds_op_attention){
        .q = check_view(c, DS_ELEM_F32, sight.rows, s->heads * s->head_dim, fill),
        .out = check_view(c, DS_ELEM_F32, sight.rows, s->heads * s->head_dim, FILL_POISON),
        .heads = s->heads,
        .paging = check_paging(c, s->sequences, sight.pages_each, sight.rows, sight.sequence, sight.position),
        .visible = check_words(c, sight.visible, sight.rows),
        .window = s->window,
        .scale = fill == FILL_NORMAL ? 0.3f : 0.08838834764f,
        .softcap = s->softcap,
    };
    p->kv = cache(c, s, &sight, &p->paging, fill);
    c->macs = 2.0 * sight.rows * s->heads * s->head_dim * s->context;
    check_run(c, sight.rows);
}

static void cases(struct check *c) {
    /* Lengths around pages, lanes and chunks. */
    static const uint32_t contexts[] = {2, 1, 31, 32, 33, 63, 64, 65, 128, 255, 256, 257, 300, 512, 513, 1023, 1025};
    for (uint32_t i = 0; i < DS_COUNT(contexts); i++) {
        struct shape s = {.heads = 4,
                          .kv_heads = 2,
                          .head_dim = 64,
                          .sequences = 1,
                          .rows_each = DS_MIN(contexts[i], 2u),
                          .context = contexts[i]};
        for (int f16 = 0; f16 < 2; f16++) {
            s.f16 = f16;
            attend(c, &s, FILL_NORMAL);
        }
    }
    /* Heads and how they share. */
    static const struct {
        uint32_t heads, kv_heads, head_dim;
    } heads[] = {{1, 1, 2},  {4, 4, 64},   {4, 2, 80},   {8, 2, 128}, {8, 1, 256},
                 {6, 2, 96}, {16, 8, 128}, {32, 8, 128}, {5, 1, 66}};
    for (uint32_t i = 0; i < DS_COUNT(heads); i++) {
        struct shape s = {.heads = heads[i].heads,
                          .kv_heads = heads[i].kv_heads,
                          .head_dim = heads[i].head_dim,
                          .sequences = 1 + i % 3,
                          .rows_each = 3,
                          .context = 330,
                          .block = i % 2};
        for (int f16 = 0; f16 < 2; f16++) {
            s.f16 = f16;
            attend(c, &s, FILL_NORMAL);
        }
    }
    /* Windows, soft-caps, values, widths. */
    static const uint32_t windows[] = {1, 17, 64, 256, 300};
    for (uint32_t i = 0; i < DS_COUNT(windows); i++)
        attend(c,
               &(struct shape){.heads = 4,
                               .kv_heads = 1,
                               .head_dim = 64,
                               .sequences = 2,
                               .rows_each = 4,
                               .context = 600,
                               .f16 = i % 2,
                               .window = windows[i],
                               .softcap = i % 2 ? 0 : 30.0f,
                               .block = i == 2},
               FILL_NORMAL);
    for (enum fill fill = FILL_INTEGERS; fill < FILL_COUNT; fill++)
        for (int f16 = 0; f16 < 2; f16++)
            attend(c,
                   &(struct shape){
                       .heads = 2, .kv_heads = 1, .head_dim = 64, .sequences = 1, .rows_each = 5, .context = 290, .f16 = f16},
                   fill);
    for (uint32_t rows = 1; rows <= 17; rows += 4)
        attend(c,
               &(struct shape){
                   .heads = 2, .kv_heads = 1, .head_dim = 64, .sequences = 1, .rows_each = rows, .context = 70, .f16 = true},
               FILL_NORMAL);
    attend(c,
           &(struct shape){
               .heads = 2, .kv_heads = 1, .head_dim = 64, .sequences = 1, .rows_each = 64, .context = 300, .f16 = true},
           FILL_NORMAL);
    attend(c,
           &(struct shape){
               .heads = 16, .kv_heads = 8, .head_dim = 128, .sequences = 1, .rows_each = 8, .context = 1100, .f16 = true},
           FILL_NORMAL);
}

/* Rows of one sequence that lie side by side may share what is read: groups that are full and that are not, a row alone, heads in two groups. */
static void runs(struct check *c) {
    static const struct shape shapes[] = {
        {.heads = 8, .kv_heads = 2, .head_dim = 128, .sequences = 2, .rows_each = 5, .context = 600},
        {.heads = 6, .kv_heads = 1, .head_dim = 64, .sequences = 1, .rows_each = 9, .context = 530},
        {.heads = 4, .kv_heads = 2, .head_dim = 80, .sequences = 3, .rows_each = 3, .context = 700, .window = 100},
        {.heads = 2, .kv_heads = 1, .head_dim = 66, .sequences = 1, .rows_each = 4, .context = 300, .softcap = 20.0f},
        {.heads = 4, .kv_heads = 1, .head_dim = 64, .sequences = 2, .rows_each = 8, .context = 520, .block = true, .window = 300},
        {.heads = 4, .kv_heads = 1, .head_dim = 32, .sequences = 4, .rows_each = 1, .context = 400},
    };
    for (size_t i = 0; i < DS_COUNT(shapes); i++) {
        struct shape s = shapes[i];
        s.runs = s.f16 = true;
        attend(c, &s, FILL_NORMAL);
    }
    for (enum fill fill = FILL_INTEGERS; fill < FILL_COUNT; fill++)
        attend(c, &(struct shape){.heads = 4, .kv_heads = 1, .head_dim = 64, .sequences = 1, .rows_each = 6, .context = 290, .f16 = true, .runs = true}, fill);
}

static void all_cases(struct check *c) {
    cases(c);
    runs(c);
}

static void slice(union ds_op_params *params, uint32_t first, uint32_t n) {
    slice_view(&params->attention.q, first, n);
    slice_view(&params->attention.out, first, n);
    slice_rows(&params->attention.paging.row_sequence, first, 4);
    slice_rows(&params->attention.paging.positions, first, 4);
    slice_rows(&params->attention.visible, first, 4);
}

const struct check_op check_attention = {.cases = all_cases, .slice = slice};
