/*
 * The reference ops mean what they should: cases small enough to compute by hand, and formulas written independently, in
 * double precision, with a tolerance. That fast kernels equal the reference is checkops' business. Here: attention.
 */
#include "ref_tensors.h"

enum { HEADS = 4, KV_HEADS = 2, HEAD_DIM = 6, CONTEXT = 600, PAGES = CONTEXT / DS_PAGE + 1 };

/* Keys and values of two sequences, stored through kv_store into pages that run backwards. */
struct cache {
    float k[2][CONTEXT][KV_HEADS * HEAD_DIM], v[2][CONTEXT][KV_HEADS * HEAD_DIM];
    struct ds_kv kv;
    struct ds_slice page_table;
};

static struct cache *make_cache(bool f16) {
    struct cache *c = malloc(sizeof *c);
    assert_non_null(c);
    const size_t bytes = (size_t)2 * PAGES * KV_HEADS * HEAD_DIM * DS_PAGE * (f16 ? 2 : 4);
    c->kv = (struct ds_kv){.k = put(NULL, bytes),
                           .v = put(NULL, bytes),
                           .f16 = f16,
                           .pages = 2 * PAGES,
                           .kv_heads = KV_HEADS,
                           .head_dim = HEAD_DIM};
    memset(at(c->kv.k), 0xff, bytes);
    memset(at(c->kv.v), 0xff, bytes);
    int32_t table[2 * PAGES], sequence[CONTEXT], positions[CONTEXT];
    for (int i = 0; i < 2 * PAGES; i++) table[i] = 2 * PAGES - 1 - i;
    c->page_table = put(table, sizeof table);
    for (int s = 0; s < 2; s++) {
        for (int j = 0; j < CONTEXT; j++) {
            sequence[j] = s;
            positions[j] = j;
            for (int i = 0; i < KV_HEADS * HEAD_DIM; i++) {
                c->k[s][j][i] = random_float() * 2;
                c->v[s][j][i] = random_float();
            }
        }
        const union ds_op_params p = {.kv_store = {.k = floats(&c->k[s][0][0], CONTEXT, KV_HEADS * HEAD_DIM),
                                                   .v = floats(&c->v[s][0][0], CONTEXT, KV_HEADS * HEAD_DIM),
                                                   .kv = c->kv,
                                                   .paging = {.page_table = c->page_table,
                                                              .sequences = 2,
                                                              .pages_per_sequence = PAGES,
                                                              .row_sequence = put(sequence, sizeof sequence),
                                                              .positions = put(positions, sizeof positions)}}};
        run(DS_OP_kv_store, &p);
    }
    return c;
}

/* Softmax attention of one head, as textbooks have it. */
static double attend(const struct cache *c, const struct ds_op_attention *p, int s, int from, int to, const float *q, int head,
                     int dim) {
    const int kv = head / (HEADS / KV_HEADS) * HEAD_DIM;
    double total = 0, out = 0;
    for (int j = from; j < to; j++) {
        double score = 0;
        for (int d = 0; d < HEAD_DIM; d++) score += (double)q[head * HEAD_DIM + d] * c->k[s][j][kv + d];
        score *= p->scale;
        if (p->softcap > 0) score = p->softcap * tanh(score / p->softcap);
        total += exp(score);
        out += exp(score) * c->v[s][j][kv + dim];
    }
    return to > from ? out / total : 0;
}

static void check_attention(bool f16, uint32_t window, float softcap) {
    enum { ROWS = 6 };
    static const int32_t sequence[ROWS] = {0, 1, 0, 1, 0, 1}, positions[ROWS] = {0, 63, 300, 598, 10, -1};
    static const int32_t visible[ROWS] = {1, 64, 301, 600, 0, 5};
    struct cache *c = make_cache(f16);
    float q[ROWS * HEADS * HEAD_DIM], untouched[HEADS * HEAD_DIM];
    for (size_t i = 0; i < DS_COUNT(q); i++) q[i] = random_float() * 3;
    const union ds_op_params params = {.attention = {.q = floats(q, ROWS, HEADS * HEAD_DIM),
                                                     .out = floats(q, ROWS, HEADS * HEAD_DIM),
                                                     .heads = HEADS,
                                                     .kv = c->kv,
                                                     .paging = {.page_table = c->page_table,
                                                                .sequences = 2,
                                                                .pages_per_sequence = PAGES,
                                                                .row_sequence = put(sequence, sizeof sequence),
                                                                .positions = put(positions, sizeof positions)},
                                                     .visible = put(visible, sizeof visible),
                                                     .window = window,
                                                     .scale = 0.7f,
                                                     .softcap = softcap}};
    run(DS_OP_attention, &params);
    const float *out = at(params.attention.out.at);
    for (int r = 0; r < ROWS - 1; r++) {
        const int from = window > 0 && positions[r] >= (int)window ? positions[r] - (int)window + 1 : 0;
        for (int i = 0; i < HEADS * HEAD_DIM; i++) {
            const double expected = attend(c, &params.attention, sequence[r], from, visible[r], q + r * HEADS * HEAD_DIM,
                                           i / HEAD_DIM, i % HEAD_DIM);
            near(out[r * HEADS * HEAD_DIM + i], expected, f16 ? 3e-3 : 3e-6);
        }
    }
    memcpy(untouched, q + (ROWS - 1) * HEADS * HEAD_DIM, sizeof untouched);
    assert_memory_equal(out + (ROWS - 1) * HEADS * HEAD_DIM, untouched, sizeof untouched);
    free(c);
    free_buffers(NULL);
}

static void attention_is_softmax_over_the_visible_positions(void **state) {
    (void)state;
    check_attention(false, 0, 0);
    check_attention(true, 0, 0);
    check_attention(false, 0, 5);
    check_attention(false, 64, 0);
    check_attention(true, 300, 2);
    check_attention(false, 1, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(attention_is_softmax_over_the_visible_positions),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
