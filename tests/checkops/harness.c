/* A case on two devices, and the rules that must hold. */
#include "check.h"

#include "ops/numerics.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 256, POISON = 0xA5 }; /* as an f32 a small number, as an index a wrong one */

/* --- ops --- */

const struct check_op *check_op_of(ds_op op) {
    static const struct check_op *const ops[] = {
#define DS_OP(name, text) [DS_OP_##name] = &check_##name,
#include "ops/ops.def"
#undef DS_OP
    };
    return ops[op];
}

struct ds_slice *check_count_of(ds_op op, union ds_op_params *params) {
    static const size_t offsets[] = {
#define DS_OP(name, text) [DS_OP_##name] = offsetof(struct ds_op_##name, count),
#include "ops/ops.def"
#undef DS_OP
    };
    return (struct ds_slice *)(void *)((char *)params + offsets[op]);
}

void check_must(ds_status status, const struct ds_error *err) {
    if (status == DS_OK) return;
    fprintf(stderr, "checkops: %s\n", err->message);
    exit(1);
}

/* --- building --- */

bool check_case(struct check *c, const char *format, ...) {
    c->index++;
    va_list args;
    va_start(args, format);
    vsnprintf(c->label, sizeof c->label, format, args);
    va_end(args);
    if (c->only_case >= 0 && (int64_t)c->index != c->only_case) return false;
    if (c->list) {
        printf("%s %u: %s\n", ds_op_name(c->op), c->index, c->label);
        return false;
    }
    memset(&c->params, 0, sizeof c->params);
    c->n_blocks = 0;
    c->random = 0;
    c->macs = 0;
    return true;
}

bool check_affordable(const struct check *c, uint64_t macs) {
    enum { QUICK_MACS = 1 << 22 };
    return !c->quick || macs <= QUICK_MACS;
}

struct ds_slice check_block(struct check *c, uint64_t bytes, void *data) {
    if (c->n_blocks == CHECK_MAX_BLOCKS) {
        fprintf(stderr, "checkops: a case has more than %d blocks\n", CHECK_MAX_BLOCKS);
        exit(1);
    }
    struct block *block = &c->blocks[c->n_blocks++];
    *block = (struct block){.base = {.bytes = bytes}, .data = malloc((size_t)bytes)};
    if (!block->data) {
        fprintf(stderr, "checkops: out of memory: %" PRIu64 " bytes\n", bytes);
        exit(1);
    }
    memset(block->data, POISON, (size_t)bytes);
    if (data) memcpy(data, &block->data, sizeof block->data); /* *data is a pointer of whatever type the caller has */
    return (struct ds_slice){.buffer = &block->base};
}

struct ds_slice check_words(struct check *c, const void *words, uint32_t n) {
    void *data;
    const struct ds_slice at = check_block(c, (uint64_t)n * 4, &data);
    memcpy(data, words, (size_t)n * 4);
    return at;
}

void *check_at(const struct ds_slice *slice) {
    return ((struct block *)slice->buffer)->data + slice->offset;
}

static void forget(struct check *c) {
    for (uint32_t b = 0; b < c->n_blocks; b++) free(c->blocks[b].data);
    c->n_blocks = 0;
}

/* --- slicing --- */

void slice_view(struct ds_view *view, uint32_t first, uint32_t n) {
    view->at.offset += first * ds_view_pitch(view);
    view->rows = n;
}

void slice_rows(struct ds_slice *slice, uint32_t first, uint32_t bytes_per_row) {
    slice->offset += (uint64_t)first * bytes_per_row;
}

/* --- placing --- */

static uint64_t placed_bytes(const struct block *block, const struct ds_device *device) {
    const struct ds_weight *w = block->weight;
    return w ? device->fns->weight_bytes(device, w->type, w->rows, w->cols) : block->base.bytes;
}

/* Poison everywhere, then the block's data. */
static void fill_placed(const struct check *c, struct placed *placed, uint32_t b) {
    struct ds_error err;
    const struct ds_device_fns *fns = placed->device->fns;
    const struct block *block = &c->blocks[b];
    struct ds_buffer *buffer = placed->buffers[b];
    uint8_t *image = malloc((size_t)buffer->bytes);
    if (!image) check_must(ds_fail_memory(&err, (size_t)buffer->bytes, "a block"), &err);
    memset(image, POISON, (size_t)buffer->bytes);
    if (!block->weight) memcpy(image + GUARD, block->data, (size_t)block->base.bytes);
    check_must(fns->write(placed->stream, (struct ds_slice){.buffer = buffer}, image, buffer->bytes, &err), &err);
    free(image);
    if (!block->weight) return;
    struct ds_weight weight = *block->weight;
    weight.at = (struct ds_slice){.buffer = buffer, .offset = GUARD};
    const uint64_t row_bytes = block->base.bytes / weight.rows;
    /* In two pieces, as loaders do. */
    const uint32_t first = weight.rows > 2 * DS_WEIGHT_ROWS ? DS_WEIGHT_ROWS : weight.rows;
    check_must(fns->weight_write(placed->stream, &weight, 0, first, block->data, &err), &err);
    if (first < weight.rows)
        check_must(
            fns->weight_write(placed->stream, &weight, first, weight.rows - first, block->data + first * row_bytes, &err),
            &err);
}

/* The problem's slices, now in the buffers of `placed`. */
static void relocate(const struct check *c, const union ds_op_params *from, struct placed *placed) {
    struct ds_operand operands[DS_MAX_OPERANDS];
    placed->params = *from;
    const uint32_t n = ds_op_operands(c->op, from, operands);
    for (uint32_t i = 0; i < n; i++) {
        struct ds_slice *slice = (struct ds_slice *)(void *)((char *)&placed->params + operands[i].offset);
        const ptrdiff_t b = (struct block *)slice->buffer - c->blocks;
        slice->buffer = placed->buffers[b];
        slice->offset += GUARD;
    }
}

void check_place(const struct check *c, struct ds_device *device, struct ds_stream *stream, struct placed *out) {
    struct ds_error err;
    *out = (struct placed){.device = device, .stream = stream};
    for (uint32_t b = 0; b < c->n_blocks; b++) {
        const uint64_t bytes = placed_bytes(&c->blocks[b], device) + 2 * GUARD;
        check_must(device->fns->buffer_create(device, bytes, &out->buffers[b], &err), &err);
        fill_placed(c, out, b);
    }
    relocate(c, &c->params, out);
}

void check_unplace(struct placed *placed) {
    for (uint32_t b = 0; b < CHECK_MAX_BLOCKS; b++) placed->device->fns->buffer_destroy(placed->buffers[b]);
}

/* What all buffers hold; freed by free_image. */
struct image {
    uint8_t *data[CHECK_MAX_BLOCKS];
};

static struct image read_image(const struct check *c, const struct placed *placed) {
    struct ds_error err;
    struct image image = {0};
    for (uint32_t b = 0; b < c->n_blocks; b++) {
        const uint64_t bytes = placed->buffers[b]->bytes;
        image.data[b] = malloc((size_t)bytes);
        if (!image.data[b]) check_must(ds_fail_memory(&err, (size_t)bytes, "a copy of a block"), &err);
        check_must(placed->device->fns->read(placed->stream, (struct ds_slice){.buffer = placed->buffers[b]}, image.data[b],
                                             bytes, &err),
                   &err);
    }
    return image;
}

static void free_image(struct image *image) {
    for (uint32_t b = 0; b < CHECK_MAX_BLOCKS; b++) free(image->data[b]);
}

/* --- rules --- */

static void fail(struct check *c, const char *rule, const char *format, ...) DS_PRINTF(3, 4);
static void fail(struct check *c, const char *rule, const char *format, ...) {
    c->failures++;
    if (c->quiet) return;
    printf("FAIL %s %u: %s\n  %s: ", ds_op_name(c->op), c->index, c->label, rule);
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n  again: checkops %s --op %s --case %u --seed %" PRIu64 "\n", c->repeat, ds_op_name(c->op), c->index, c->seed);
}

/* The operand that lies in block b. */
static const char *operand_name(const struct check *c, uint32_t b) {
    struct ds_operand operands[DS_MAX_OPERANDS];
    const uint32_t n = ds_op_operands(c->op, &c->params, operands);
    for (uint32_t i = 0; i < n; i++) {
        const struct ds_slice *slice = (const struct ds_slice *)(const void *)((const char *)&c->params + operands[i].offset);
        if (slice->buffer == &c->blocks[b].base) return operands[i].name;
    }
    return "?";
}

/* Words are shown from the block's start, so that an index is one of the tensor's elements (of 4 bytes). */
static bool same_block(struct check *c, const char *rule, uint32_t b, uint64_t bytes, const uint8_t *found,
                       const uint8_t *expected) {
    if (memcmp(found, expected, (size_t)bytes) == 0) return true;
    uint64_t at = 0, differing = 0;
    for (uint64_t i = bytes; i-- > 0;) {
        if (found[i] == expected[i]) continue;
        at = i;
        differing++;
    }
    const char *where = at < GUARD ? ", before the tensor" : at >= bytes - GUARD ? ", behind the tensor" : "";
    const uint64_t word = at & ~UINT64_C(3);
    uint32_t f, e;
    memcpy(&f, found + word, 4);
    memcpy(&e, expected + word, 4);
    fail(c, rule,
         "%s differs first at byte %" PRId64 " (32-bit word %" PRId64 ")%s, %" PRIu64
         " bytes in all: found 0x%08x (%.9g), expected 0x%08x (%.9g)",
         operand_name(c, b), (int64_t)at - GUARD, ((int64_t)word - GUARD) / 4, where, differing, f, (double)ds_float(f), e,
         (double)ds_float(e));
    return false;
}

static bool same(struct check *c, const char *rule, const struct placed *placed, const struct image *expected) {
    struct image found = read_image(c, placed);
    bool ok = true;
    for (uint32_t b = 0; b < c->n_blocks && ok; b++)
        if (!c->blocks[b].weight) ok = same_block(c, rule, b, placed->buffers[b]->bytes, found.data[b], expected->data[b]);
    free_image(&found);
    return ok;
}

static bool run_op(struct check *c, const char *rule, struct placed *placed) {
    struct ds_error err;
    ds_status status = ds_op_check(c->op, &placed->params, &err);
    if (status == DS_OK) status = placed->device->fns->op[c->op](placed->stream, &placed->params, &err);
    if (status == DS_OK) status = placed->device->fns->stream_sync(placed->stream, &err);
    if (status != DS_OK) fail(c, rule, "%s", err.message);
    return status == DS_OK;
}

static void reset(const struct check *c, struct placed *placed) {
    for (uint32_t b = 0; b < c->n_blocks; b++)
        if (!c->blocks[b].weight) fill_placed(c, placed, b);
}

/* The parts of a fused op, one after the other. */
static bool run_parts(struct check *c, struct placed *placed) {
    ds_op ops[DS_MOST_PARTS];
    union ds_op_params parts[DS_MOST_PARTS];
    struct ds_error err;
    const uint32_t n = ds_op_parts(c->op, &placed->params, ops, parts);
    ds_status status = DS_OK;
    for (uint32_t i = 0; i < n && status == DS_OK; i++) {
        status = ds_op_check(ops[i], &parts[i], &err);
        if (status == DS_OK) status = placed->device->fns->op[ops[i]](placed->stream, &parts[i], &err);
        if (status == DS_OK) status = placed->device->fns->stream_sync(placed->stream, &err);
    }
    if (status != DS_OK) fail(c, "parts", "%s", err.message);
    return status == DS_OK;
}

static bool is_fused(struct check *c) {
    ds_op ops[DS_MOST_PARTS];
    union ds_op_params parts[DS_MOST_PARTS];
    return ds_op_parts(c->op, &c->params, ops, parts) > 0;
}

static bool run_by_rows(struct check *c, const char *rule, struct placed *placed, uint32_t rows, uint32_t step) {
    for (uint32_t first = 0; first < rows; first += step) {
        union ds_op_params params = c->params;
        check_op_of(c->op)->slice(&params, first, DS_MIN(step, rows - first));
        relocate(c, &params, placed);
        if (!run_op(c, rule, placed)) return false;
    }
    relocate(c, &c->params, placed);
    return true;
}

/* The reference may write only inside what ds_op_operands declares written. */
static bool stays_inside(struct check *c, const struct placed *placed, const struct image *before, const struct image *after) {
    struct ds_operand operands[DS_MAX_OPERANDS];
    const uint32_t n = ds_op_operands(c->op, &placed->params, operands);
    for (uint32_t b = 0; b < c->n_blocks; b++) {
        const uint64_t bytes = placed->buffers[b]->bytes;
        uint64_t from = bytes, to = bytes; /* what may be written */
        for (uint32_t i = 0; i < n; i++) {
            const struct ds_slice *slice =
                (const struct ds_slice *)(const void *)((const char *)&placed->params + operands[i].offset);
            if (slice->buffer != placed->buffers[b] || !(operands[i].access & DS_WRITE)) continue;
            from = slice->offset;
            to = from + operands[i].bytes;
        }
        for (uint64_t i = 0; i < bytes; i++) {
            if ((i >= from && i < to) || before->data[b][i] == after->data[b][i]) continue;
            fail(c, "reference", "%s is written at byte %" PRId64 ", outside what ds_op_operands declares", operand_name(c, b),
                 (int64_t)i - GUARD);
            return false;
        }
    }
    return true;
}

/* The reference's result of the problem as it stands. */
static bool expect(struct check *c, struct image *expected) {
    struct placed placed;
    check_place(c, c->ref, c->ref_stream, &placed);
    struct image before = read_image(c, &placed);
    bool ok = run_op(c, "reference", &placed);
    *expected = read_image(c, &placed);
    ok = ok && stays_inside(c, &placed, &before, expected);
    free_image(&before);
    check_unplace(&placed);
    return ok;
}

/* Equal bits, again, by rows: on one placement, whose packed weights must come out as they went in. */
static void compare(struct check *c, const struct image *expected, uint32_t rows) {
    struct placed placed;
    check_place(c, c->device, c->stream, &placed);
    struct image before = read_image(c, &placed);
    bool ok = run_op(c, "equal bits", &placed) && same(c, "equal bits", &placed, expected);
    if (ok) {
        reset(c, &placed);
        ok = run_op(c, "again", &placed) && same(c, "again", &placed, expected);
    }
    if (ok && rows > 1) {
        reset(c, &placed);
        ok = run_by_rows(c, "by rows", &placed, rows, rows <= 17 ? 1 : 7) && same(c, "by rows", &placed, expected);
    }
    if (ok && is_fused(c)) {
        reset(c, &placed);
        ok = run_parts(c, &placed) && same(c, "parts", &placed, expected);
    }
    struct image after = read_image(c, &placed);
    for (uint32_t b = 0; b < c->n_blocks; b++)
        if (c->blocks[b].weight) same_block(c, "weights", b, placed.buffers[b]->bytes, after.data[b], before.data[b]);
    free_image(&before);
    free_image(&after);
    check_unplace(&placed);
}

/* The same problem with a count in device memory: as if only these rows had been asked for. */
static void compare_count(struct check *c, uint32_t rows, uint32_t active) {
    const uint32_t computed = DS_MIN(active, rows);
    const struct ds_slice count = check_words(c, &active, 1);
    struct placed placed;
    check_place(c, c->ref, c->ref_stream, &placed);
    bool ok = computed == 0 || run_by_rows(c, "reference", &placed, computed, computed);
    struct image expected = read_image(c, &placed);
    check_unplace(&placed);

    *check_count_of(c->op, &c->params) = count;
    if (ok) {
        check_place(c, c->device, c->stream, &placed);
        if (run_op(c, "count", &placed)) same(c, "count", &placed, &expected);
        check_unplace(&placed);
    }
    *check_count_of(c->op, &c->params) = (struct ds_slice){0};
    free_image(&expected);
    free(c->blocks[--c->n_blocks].data);
}

static bool device_can(struct check *c) {
    for (uint32_t b = 0; b < c->n_blocks; b++)
        if (placed_bytes(&c->blocks[b], c->device) == 0) return false;
    return c->device->fns->op[c->op] && c->device->fns->can_run(c->device, c->op, &c->params);
}

void check_run(struct check *c, uint32_t rows) {
    c->cases++;
    if (!device_can(c)) {
        c->skipped++;
    } else if (c->bench) {
        check_bench(c);
    } else {
        struct image expected = {0};
        if (expect(c, &expected)) compare(c, &expected, rows);
        free_image(&expected);
        compare_count(c, rows, c->index % 4 == 3 ? rows + 5 : rows / 2);
    }
    forget(c);
}

void check_all(struct check *c) {
    for (ds_op op = 0; op < DS_OP_COUNT; op++) {
        if (c->only_op && strcmp(c->only_op, ds_op_name(op)) != 0) continue;
        c->op = op;
        c->index = 0;
        check_op_of(op)->cases(c);
    }
}
