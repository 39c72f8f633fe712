/*
 * Attention on tensor cores (--numerics fast), on the emulated device, lies within the bound that backends/gpu/kernels/attention_fast.h derives, and the bound
 * notices what is wrong. And how many rows of a sequence share a block changes no bit of the exact one.
 */
#include "fast_rig.h"

struct look {
    uint32_t rows, heads, kv_heads, dim, context, window, sequences, active;
    float softcap;
};

enum { MOST_PAGES = 16 };

static float half_of(float x) { return ds_f16_to_f32((uint16_t)ds_f32_to_f16(x)); }

struct scene {
    float *q;
    uint16_t *k, *v; /* [pages][kv_heads][dim][64], [pages][kv_heads][64][dim] */
    int32_t sequence[256], positions[256], visible[256], table[4 * MOST_PAGES];
    uint32_t pages;
};

/* Rows at the end of their sequences, one behind the other; what nobody may look at is NaN. */
static struct scene make_scene(const struct look *k) {
    struct scene c = {.pages = (k->context + k->rows + DS_PAGE - 1) / DS_PAGE};
    const uint64_t cache = (uint64_t)c.pages * k->sequences * k->kv_heads * k->dim * DS_PAGE;
    assert_true(c.pages <= MOST_PAGES && k->sequences <= 4 && k->rows <= 256);
    c.q = values((uint64_t)k->rows * k->heads * k->dim, DS_TYPE_F32, 5);
    c.k = malloc(cache * 2);
    c.v = malloc(cache * 2);
    memset(c.k, 0xff, cache * 2);
    memset(c.v, 0xff, cache * 2);
    uint32_t seed = 6;
    for (uint32_t i = 0; i < k->sequences * c.pages; i++) c.table[i] = (int32_t)(k->sequences * c.pages - 1 - i);
    const uint32_t each = (k->rows + k->sequences - 1) / k->sequences;
    for (uint32_t r = 0; r < k->rows; r++) {
        c.sequence[r] = (int32_t)(r / each);
        c.positions[r] = r % 11 == 10 ? -1 : (int32_t)(k->context + r % each);
        c.visible[r] = r % 7 == 6 ? 0 : c.positions[r] + 1;
    }
    for (uint32_t s = 0; s < k->sequences; s++) {
        for (uint32_t at = 0; at < k->context + each; at++) {
            const uint64_t page = (uint64_t)c.table[s * c.pages + at / DS_PAGE];
            for (uint32_t h = 0; h < k->kv_heads; h++)
                for (uint32_t d = 0; d < k->dim; d++) {
                    c.k[ds_kv_key_index((uint32_t)page, h, at % DS_PAGE, d, k->kv_heads, k->dim)] = (uint16_t)ds_f32_to_f16(2 * noise(&seed));
                    c.v[ds_kv_value_index((uint32_t)page, h, at % DS_PAGE, d, k->kv_heads, k->dim)] = (uint16_t)ds_f32_to_f16(2 * noise(&seed));
                }
        }
    }
    return c;
}

static void free_scene(struct scene *c) { free(c->q), free(c->k), free(c->v); }

static float scale_of(const struct look *k) { return 1 / sqrtf((float)k->dim); }

static float *seen_by(const char *device, bool fast, const struct look *k, const struct scene *c) {
    struct rig r;
    struct ds_error err;
    const uint64_t cache = (uint64_t)c->pages * k->sequences * k->kv_heads * k->dim * DS_PAGE * 2, bytes = (uint64_t)k->rows * k->heads * k->dim * 4;
    float *const out = malloc(bytes);
    check_ok(open_rig(&r, device, fast, &err), &err);
    memset(out, 0xA5, bytes);
    struct ds_op_attention p = {.q = ds_view_of(put(&r, c->q, bytes), DS_ELEM_F32, k->rows, k->heads * k->dim),
                                .out = ds_view_of(put(&r, out, bytes), DS_ELEM_F32, k->rows, k->heads * k->dim), .heads = k->heads, .scale = scale_of(k),
                                .softcap = k->softcap, .window = k->window};
    p.kv = (struct ds_kv){.k = put(&r, c->k, cache), .v = put(&r, c->v, cache), .f16 = true, .pages = c->pages * k->sequences, .kv_heads = k->kv_heads, .head_dim = k->dim};
    p.paging = (struct ds_paging){.page_table = put(&r, c->table, (uint64_t)k->sequences * c->pages * 4), .sequences = k->sequences, .pages_per_sequence = c->pages,
                                  .row_sequence = put(&r, c->sequence, k->rows * 4), .positions = put(&r, c->positions, k->rows * 4)};
    p.visible = put(&r, c->visible, k->rows * 4);
    if (k->active < k->rows) p.count = put(&r, &k->active, 4);
    const union ds_op_params params = {.attention = p};
    check_ok(ds_op_check(DS_OP_attention, &params, &err), &err);
    check_ok(r.device->fns->op[DS_OP_attention](r.stream, &params, &err), &err);
    check_ok(r.device->fns->read(r.stream, p.out.at, out, bytes, &err), &err);
    close_rig(&r);
    return out;
}

/* The bound of attention_fast.h for one row and head. */
static double bound_of(const struct look *k, const struct scene *c, uint32_t r, uint32_t head) {
    const double u = 0x1p-24;
    const uint32_t kv = head / (k->heads / k->kv_heads);
    const int32_t first = k->window && c->positions[r] - (int32_t)k->window + 1 > 0 ? c->positions[r] - (int32_t)k->window + 1 : 0;
    double most_score = 0, most_value = 0;
    for (int32_t at = first; at < c->visible[r]; at++) {
        const uint32_t page = (uint32_t)c->table[(uint32_t)c->sequence[r] * c->pages + (uint32_t)at / DS_PAGE], slot = (uint32_t)at % DS_PAGE;
        double sum = 0;
        for (uint32_t d = 0; d < k->dim; d++) {
            sum += fabs((double)half_of(c->q[((size_t)r * k->heads + head) * k->dim + d]) * ds_f16_to_f32(c->k[ds_kv_key_index(page, kv, slot, d, k->kv_heads, k->dim)]));
            most_value = fmax(most_value, fabs((double)ds_f16_to_f32(c->v[ds_kv_value_index(page, kv, slot, d, k->kv_heads, k->dim)])));
        }
        most_score = fmax(most_score, sum * scale_of(k));
    }
    const double n = c->visible[r] - first, e = (5 * k->dim + 4) * u * most_score, eta = 2 * (exp(2 * e) - 1) + 0x1p-10 + 0x1p-18;
    return most_value * (2 * eta / (1 - eta) + n * 0x1p-23 + 5 * n * u);
}

static double worst_look(const struct look *k, const struct scene *c, const float *exact, const float *fast, uint32_t *others) {
    double worst = 0;
    *others = 0;
    for (uint32_t r = 0; r < k->active; r++) {
        for (uint32_t h = 0; h < k->heads; h++) {
            const double bound = c->positions[r] >= 0 && c->visible[r] > 0 ? bound_of(k, c, r, h) : 0;
            for (uint32_t d = 0; d < k->dim; d++) {
                const size_t at = ((size_t)r * k->heads + h) * k->dim + d;
                const double off = fabs((double)exact[at] - fast[at]);
                if (bound > 0) worst = fmax(worst, off / bound);
                else if (!(off == 0)) worst = INFINITY;
                if (isnan(off)) worst = INFINITY;
                *others += exact[at] != fast[at];
            }
        }
    }
    return worst;
}

static const struct look looks[] = {
    {.rows = 16, .heads = 4, .kv_heads = 2, .dim = 16, .context = 40, .sequences = 1, .active = 16},
    {.rows = 8, .heads = 8, .kv_heads = 2, .dim = 128, .context = 600, .sequences = 1, .active = 8},                                  /* chunks apart */
    {.rows = 40, .heads = 6, .kv_heads = 2, .dim = 48, .context = 300, .sequences = 3, .active = 37, .softcap = 20, .window = 100},  /* several sequences in a block */
    {.rows = 12, .heads = 8, .kv_heads = 2, .dim = 80, .context = 500, .sequences = 2, .active = 12, .window = 300},
};

static void attention_on_tensor_cores_is_within_its_bound(void **state) {
    (void)state;
    for (size_t i = 0; i < DS_COUNT(looks); i++) {
        const struct look *const k = &looks[i];
        struct scene c = make_scene(k);
        for (int d = 0; d < 2; d++) {
            const char *const device = d ? "emu:1" : "emu:0";
            float *const exact = seen_by(device, false, k, &c), *const fast = seen_by(device, true, k, &c);
            uint32_t others;
            const double worst = worst_look(k, &c, exact, fast, &others);
            print_message("# %s: attention %d: %.3f of the bound, %u values differ\n", device, (int)i, worst, others);
            assert_true(worst <= 1);
            assert_true(others > 0);
            const size_t counted = (size_t)k->active * k->heads * k->dim, all = (size_t)k->rows * k->heads * k->dim;
            assert_memory_equal(exact + counted, fast + counted, (all - counted) * sizeof *fast);
            free(exact), free(fast);
        }
        free_scene(&c);
    }
}

static void the_bound_notices_a_key_that_was_left_out(void **state) {
    (void)state;
    for (size_t i = 0; i < DS_COUNT(looks); i++) {
        const struct look *const k = &looks[i];
        struct scene c = make_scene(k);
        uint32_t others;
        float *const exact = seen_by("emu:0", false, k, &c);
        struct scene wrong = c;
        for (uint32_t r = 0; r < k->rows; r++) wrong.visible[r] -= wrong.visible[r] > 1;
        float *const fast = seen_by("emu:0", true, k, &wrong);
        assert_true(worst_look(k, &c, exact, fast, &others) > 1);
        free(exact), free(fast);
        free_scene(&c);
    }
}

static void how_many_rows_share_a_block_changes_no_bit(void **state) {
    (void)state;
    static const char *const sizes[] = {"1", "4", "8", "9", "x", ""};
    static const struct look look = {.rows = 12, .heads = 8, .kv_heads = 2, .dim = 32, .context = 500, .sequences = 2, .active = 11};
    struct scene c = make_scene(&look);
    const size_t bytes = (size_t)look.rows * look.heads * look.dim * sizeof(float);
    float *const by_shape = seen_by("emu:0", false, &look, &c);
    for (size_t i = 0; i < DS_COUNT(sizes); i++) {
        setenv("DSPARK_GPU_ROWS_TOGETHER", sizes[i], 1);
        float *const found = seen_by("emu:0", false, &look, &c);
        assert_memory_equal(found, by_shape, bytes);
        free(found);
    }
    unsetenv("DSPARK_GPU_ROWS_TOGETHER");
    free(by_shape);
    free_scene(&c);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        TEST(attention_on_tensor_cores_is_within_its_bound),
        TEST(the_bound_notices_a_key_that_was_left_out),
        TEST(how_many_rows_share_a_block_changes_no_bit),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]); /* a name, with * and ? */
    return cmocka_run_group_tests(tests, begin, remove_models);
}
