/* Random tensors. Every case has its own stream of random words: it is the same whichever other cases run. */
#include "check.h"

#include "base/philox.h"
#include "ops/numerics.h"

#include <string.h>

uint32_t check_random(struct check *c) {
    const uint64_t n = c->random++;
    if (n % 4 == 0)
        ds_philox(c->seed, (const uint32_t[4]){(uint32_t)(n / 4), (uint32_t)(n >> 34), (uint32_t)c->op, c->index}, c->words);
    return c->words[n % 4];
}

uint32_t check_below(struct check *c, uint32_t limit) {
    return (uint32_t)((uint64_t)check_random(c) * limit >> 32);
}

const char *fill_name(enum fill fill) {
    static const char *const names[FILL_COUNT] = {"poison", "normal", "integers", "denormals", "outliers", "zeros", "wild"};
    return names[fill];
}

/* A sum of four uniform bytes: close enough to a normal distribution, and cheap. */
static float normal(uint32_t word) {
    const int sum = (int)(word & 255) + (int)(word >> 8 & 255) + (int)(word >> 16 & 255) + (int)(word >> 24);
    return ((float)(sum - 510) + (float)(word * 2654435761u >> 20) * 0.000244140625f) * 0.0068f;
}

static float value(struct check *c, enum fill fill) {
    const uint32_t word = check_random(c);
    const uint32_t sign = word & DS_NUM_SIGN;
    switch (fill) {
    case FILL_INTEGERS:
        return (float)((int)(word % 7) - 3);
    case FILL_DENORMALS:
        return ds_float(sign | (word & 0x00ffffffu));
    case FILL_OUTLIERS:
        return word % 61 == 0 ? normal(word) * 5000.0f : normal(word);
    case FILL_ZEROS:
        return ds_float(sign);
    case FILL_WILD:
        return ds_float(sign | (87 + word % 81) << 23 | (word >> 8 & 0x007fffffu));
    default:
        return normal(word);
    }
}

void check_fill(struct check *c, enum fill fill, float *out, uint64_t n) {
    for (uint64_t i = 0; i < n && fill != FILL_POISON; i++) out[i] = value(c, fill);
}

struct ds_view check_view(struct check *c, ds_elem elem, uint32_t rows, uint32_t cols, enum fill fill) {
    static const uint32_t gaps[] = {0, 0, 3, 16}, starts[] = {0, 0, 1, 16};
    if (ds_elem_is_q8(elem)) {
        struct ds_view view = {.elem = elem, .rows = rows, .cols = cols};
        view.at = check_block(c, rows * ds_view_pitch(&view), NULL);
        return view;
    }
    const uint32_t stride = cols + gaps[check_below(c, 4)], start = starts[check_below(c, 4)],
                   size = elem == DS_ELEM_BF16 ? 2 : 4;
    struct ds_slice at = check_block(c, ((uint64_t)rows * stride + start) * size, NULL);
    at.offset = start * size;
    if (size == 4)
        for (uint32_t r = 0; r < rows; r++) check_fill(c, fill, (float *)check_at(&at) + (uint64_t)r * stride, cols);
    return (struct ds_view){.at = at, .elem = elem, .rows = rows, .cols = cols, .stride = stride};
}

struct ds_slice check_floats(struct check *c, uint32_t n, enum fill fill) {
    float *data;
    const struct ds_slice at = check_block(c, (uint64_t)n * 4, &data);
    check_fill(c, fill, data, n);
    return at;
}

struct ds_slice check_indices(struct check *c, uint32_t n, uint32_t limit) {
    int32_t *data;
    const struct ds_slice at = check_block(c, (uint64_t)n * 4, &data);
    for (uint32_t i = 0; i < n; i++) data[i] = (int32_t)check_below(c, limit);
    return at;
}

struct ds_slice check_order(struct check *c, uint32_t n, uint32_t limit) {
    int32_t *data;
    const struct ds_slice at = check_block(c, (uint64_t)n * 4, &data);
    /* One random place of each of n equal stretches, then shuffled. */
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t begin = (uint64_t)limit * i / n, end = (uint64_t)limit * (i + 1) / n;
        data[i] = (int32_t)(begin + check_below(c, (uint32_t)(end - begin)));
    }
    for (uint32_t i = n; i > 1; i--) {
        const uint32_t k = check_below(c, i);
        const int32_t kept = data[i - 1];
        data[i - 1] = data[k];
        data[k] = kept;
    }
    return at;
}

/* The block of a problem's view becomes the quantised form of its values, as the reference makes it. */
struct ds_view check_activations(struct check *c, ds_elem elem, uint32_t rows, uint32_t cols, enum fill fill) {
    struct ds_view view = check_view(c, elem, rows, cols, fill);
    if (elem == DS_ELEM_F32) return view;
    struct ds_error err;
    struct ds_device *ref = c->ref;
    const uint64_t x_bytes = (uint64_t)rows * cols * 4, out_bytes = view.at.buffer->bytes;
    struct ds_slice x = {0}, out = {0};
    check_must(ref->fns->buffer_create(ref, x_bytes, &x.buffer, &err), &err);
    check_must(ref->fns->buffer_create(ref, out_bytes, &out.buffer, &err), &err);
    check_fill(c, fill, ref->fns->host(x.buffer), (uint64_t)rows * cols);
    union ds_op_params params = {
        .quantize = {.x = {.at = x, .elem = DS_ELEM_F32, .rows = rows, .cols = cols, .stride = cols}, .out = view}};
    params.quantize.out.at.buffer = out.buffer;
    check_must(ref->fns->op[DS_OP_quantize](c->ref_stream, &params, &err), &err);
    uint8_t *to = (uint8_t *)check_at(&view.at) - view.at.offset;
    memcpy(to, ref->fns->host(out.buffer), out_bytes);
    ref->fns->buffer_destroy(x.buffer);
    ref->fns->buffer_destroy(out.buffer);
    return view;
}

/* --- weights --- */

/* Where a block keeps its f16 scales; all other bytes are integers, for which any value is one. */
static uint32_t scale_offsets(ds_type type, uint32_t offsets[2]) {
    switch (type) {
    case DS_TYPE_Q4_1:
    case DS_TYPE_Q5_1:
    case DS_TYPE_Q4_K:
    case DS_TYPE_Q5_K:
        offsets[0] = 0;
        offsets[1] = 2;
        return 2;
    case DS_TYPE_Q2_K:
        offsets[0] = 80;
        offsets[1] = 82;
        return 2;
    case DS_TYPE_Q3_K:
        offsets[0] = 108;
        return 1;
    case DS_TYPE_Q6_K:
        offsets[0] = 208;
        return 1;
    case DS_TYPE_MXFP4:
        return 0;
    default:
        offsets[0] = 0;
        return 1;
    }
}

static void fill_block(struct check *c, ds_type type, enum fill fill, uint8_t *block) {
    uint32_t offsets[2];
    const uint32_t bytes = ds_type_get(type)->bytes, n = scale_offsets(type, offsets);
    for (uint32_t i = 0; i < bytes; i++) block[i] = (uint8_t)(check_random(c) >> 11);
    if (type == DS_TYPE_MXFP4) block[0] = (uint8_t)(fill == FILL_DENORMALS ? check_below(c, 4) : 118 + check_below(c, 8));
    for (uint32_t i = 0; i < n; i++) {
        const float scale = fill == FILL_INTEGERS ? 1.0f : value(c, fill) * 0.02f;
        const uint16_t half = (uint16_t)ds_f32_to_f16(scale);
        memcpy(block + offsets[i], &half, 2);
    }
}

/* Block types get random blocks: the cost of a Philox word a byte would be felt for large ones, so a few are repeated. */
static void fill_blocks(struct check *c, ds_type type, enum fill fill, uint8_t *data, uint64_t blocks) {
    enum { DISTINCT = 509 };
    const uint32_t bytes = ds_type_get(type)->bytes;
    for (uint64_t b = 0; b < blocks && b < DISTINCT; b++) fill_block(c, type, fill, data + b * bytes);
    for (uint64_t b = DISTINCT; b < blocks; b++) memcpy(data + b * bytes, data + (b - DISTINCT) * bytes, bytes);
}

struct ds_weight check_weight(struct check *c, ds_type type, uint32_t rows, uint32_t cols, enum fill fill) {
    const struct ds_type_info *info = ds_type_get(type);
    const uint64_t blocks = (uint64_t)rows * cols / info->block;
    uint8_t *data;
    const struct ds_slice at = check_block(c, blocks * info->bytes, &data);
    c->weight = (struct ds_weight){.at = at, .type = type, .rows = rows, .cols = cols};
    ((struct block *)at.buffer)->weight = &c->weight;
    if (info->block > 1) {
        fill_blocks(c, type, fill, data, blocks);
        return c->weight;
    }
    for (uint64_t i = 0; i < blocks; i++) {
        const float x = value(c, fill);
        const uint32_t stored = type == DS_TYPE_F32 ? ds_bits(x) : type == DS_TYPE_F16 ? ds_f32_to_f16(x) : ds_f32_to_bf16(x);
        memcpy(data + i * info->bytes, &stored, info->bytes); /* the low bytes: hosts are little-endian */
    }
    return c->weight;
}

/* --- paging --- */

enum { SPARE_PAGES = 2 };

uint32_t check_pages(uint32_t sequences, uint32_t pages_each) {
    return sequences * pages_each + SPARE_PAGES;
}

struct ds_paging check_paging(struct check *c, uint32_t sequences, uint32_t pages_each, uint32_t rows,
                              const int32_t *row_sequence, const int32_t *positions) {
    const uint32_t pages = check_pages(sequences, pages_each);
    int32_t *table;
    struct ds_paging paging = {.sequences = sequences, .pages_per_sequence = pages_each};
    /* All pages are shuffled in the block, of which the table proper is the beginning. */
    paging.page_table = check_block(c, (uint64_t)pages * 4, &table);
    for (uint32_t i = 0; i < pages; i++) {
        const uint32_t k = check_below(c, i + 1);
        table[i] = table[k];
        table[k] = (int32_t)i;
    }
    paging.row_sequence = check_words(c, row_sequence, rows);
    paging.positions = check_words(c, positions, rows);
    return paging;
}

struct ds_paging check_paging_round(struct check *c, uint32_t sequences, uint32_t from, uint32_t rows, uint32_t *pages) {
    int32_t sequence[64], positions[64];
    for (uint32_t r = 0; r < rows; r++) {
        sequence[r] = (int32_t)(r % sequences);
        positions[r] = (int32_t)(from + r / sequences);
        if (r == 3) positions[r] = -1;
    }
    const uint32_t pages_each = (from + rows) / DS_PAGE + 1;
    *pages = check_pages(sequences, pages_each);
    return check_paging(c, sequences, pages_each, rows, sequence, positions);
}

uint32_t check_page_of(const struct check *c, const struct ds_paging *paging, uint32_t sequence, uint32_t position) {
    (void)c;
    const int32_t *table = check_at(&paging->page_table);
    return (uint32_t)table[(uint64_t)sequence * paging->pages_per_sequence + position / DS_PAGE];
}

struct ds_sample_row check_draw(struct check *c, const struct ds_sample_row *way, uint32_t r, uint32_t bias_rows) {
    struct ds_sample_row how = *way;
    how.seed_low = check_random(c);
    how.seed_high = check_random(c);
    how.position = check_below(c, 100000);
    how.stream = r;
    how.bias_row = bias_rows > 0 && r % 3 != 2 ? (int32_t)(r % bias_rows) : -1;
    return how;
}

struct ds_slice check_biases(struct check *c, uint32_t bias_rows, uint32_t vocabulary, bool first) {
    const struct ds_slice at = check_floats(c, bias_rows * vocabulary, FILL_NORMAL);
    float *bias = check_at(&at);
    for (uint32_t i = 0; i < bias_rows * vocabulary; i++)
        if ((first && i < vocabulary) || check_below(c, 3) == 0) bias[i] = ds_float(DS_NUM_INF | DS_NUM_SIGN);
    return at;
}
