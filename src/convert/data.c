/*
 * The tensors' data: chunks of rows, each converted by all threads, then written; the source's pages are given back behind them.
 * Memory is one chunk and a row of floats a thread, whatever the model. What a row becomes does not depend on its thread.
 */
#include "base/os.h"
#include "base/quote.h"
#include "ckpt/quantize.h"
#include "convert/convert_internal.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 32 << 20, GRAIN_ELEMENTS = 1 << 15, MOST_THREADS = 256 };

struct chunk {
    const struct ds_plan_item *item;
    uint64_t cols, source_row, row; /* columns; bytes of a row in the source and in the output */
    uint64_t first, count;          /* rows */
    uint64_t grain;                 /* rows a thread takes at once */
    uint8_t *out;
    _Atomic uint64_t next;          /* row of the chunk not yet taken */
    _Atomic uint64_t bad;           /* lowest row of the tensor that cannot be stored; UINT64_MAX: none */
};

struct worker {
    struct chunk *chunk;
    float *values; /* one row */
    struct ds_os_thread *thread;
};

static void note_bad(struct chunk *chunk, uint64_t row) {
    uint64_t known = atomic_load(&chunk->bad);
    while (row < known && !atomic_compare_exchange_weak(&chunk->bad, &known, row)) continue;
}

/* Where row `row` of the output lies in its head before the heads' rows change places. */
static uint64_t reordered(const struct ds_plan_item *item, uint64_t row) {
    if (item->order == DS_ROWS_KEPT) return row;
    const uint64_t n = item->head_rows, half = n / 2, within = row % n;
    return row - within + (item->order == DS_ROWS_PAIRED ? within % 2 * half + within / 2 : within % half * 2 + within / half);
}

/* Where row `row` of the output comes from. */
static const uint8_t *source_row_of(const struct chunk *chunk, uint64_t row) {
    const struct ds_plan_item *item = chunk->item;
    row = reordered(item, row);
    if (!item->pieces) return item->source->data + row * chunk->source_row;
    const struct ds_loader_piece *piece = &item->pieces[row / item->piece_rows];
    return piece->tensor->data + (piece->first_row + row % item->piece_rows) * chunk->source_row;
}

static void widen(const struct chunk *chunk, uint64_t row, float *values) {
    const struct ds_plan_item *item = chunk->item;
    ds_dequantize_row(item->source->type, source_row_of(chunk, row), chunk->cols, values);
    for (uint64_t i = 0; item->shift != 0 && i < chunk->cols; i++) values[i] += item->shift;
}

static void convert_row(struct chunk *chunk, uint64_t row, float *values) {
    const struct ds_plan_item *item = chunk->item;
    uint8_t *to = chunk->out + row * chunk->row;
    if (item->source->type == item->type && item->shift == 0) {
        memcpy(to, source_row_of(chunk, chunk->first + row), (size_t)chunk->row);
        return;
    }
    uint64_t bad;
    widen(chunk, chunk->first + row, values);
    if (ds_row_fits(item->type, values, chunk->cols, &bad)) ds_quantize_row(item->type, values, chunk->cols, to);
    else note_bad(chunk, chunk->first + row);
}

static void work(void *user) {
    struct worker *worker = user;
    struct chunk *chunk = worker->chunk;
    const struct ds_float_state host = ds_os_float_begin();
    for (;;) {
        const uint64_t begin = atomic_fetch_add(&chunk->next, chunk->grain);
        if (begin >= chunk->count) break;
        const uint64_t end = DS_MIN(begin + chunk->grain, chunk->count);
        for (uint64_t row = begin; row < end; row++) convert_row(chunk, row, worker->values);
    }
    ds_os_float_restore(host);
}

/* --- one chunk --- */

struct crew {
    struct worker workers[MOST_THREADS];
    unsigned count;
    float *values; /* [count][widest row], owned */
    uint8_t *out;  /* owned */
};

/* A thread that cannot be had is done without. */
static void convert_chunk(struct crew *crew, struct chunk *chunk) {
    struct ds_error ignored;
    const uint64_t shares = (chunk->count + chunk->grain - 1) / chunk->grain;
    const unsigned count = (unsigned)DS_MIN((uint64_t)crew->count, shares);
    for (unsigned i = 0; i < count; i++) crew->workers[i].chunk = chunk;
    for (unsigned i = 1; i < count; i++)
        if (ds_os_thread_create(work, &crew->workers[i], "convert", &crew->workers[i].thread, &ignored) != DS_OK) crew->workers[i].thread = NULL;
    work(&crew->workers[0]);
    for (unsigned i = 1; i < count; i++)
        if (crew->workers[i].thread) ds_os_thread_join(crew->workers[i].thread);
}

static ds_status explain_bad(const struct ds_conversion *c, const struct chunk *chunk, float *values, struct ds_error *err) {
    const struct ds_plan_item *item = chunk->item;
    const struct ds_ckpt_tensor *source = item->source;
    const uint64_t row = atomic_load(&chunk->bad);
    if (item->pieces) source = item->pieces[row / item->piece_rows].tensor;
    uint64_t col = 0;
    widen(chunk, row, values);
    (void)ds_row_fits(item->type, values, chunk->cols, &col);
    return ds_fail(err, DS_ERROR_FORMAT, "%s: tensor '%s': element %llu of row %llu is %g, which %s cannot hold%s", ds_ckpt_path(c->source),
                   ds_quote_name(source->name).text, (unsigned long long)col, (unsigned long long)(item->pieces ? row % item->piece_rows : row),
                   (double)values[col], ds_type_get(item->type)->name, item->type == DS_TYPE_F16 ? ": choose another type" : "");
}

struct step {
    ds_progress_fn progress;
    void *user;
    uint64_t done, total; /* bytes of the source */
};

/* A vector whose elements change places is a matrix of one column. */
static uint64_t cols_of(const struct ds_plan_item *item) {
    return item->dims == 0 || (item->dims == 1 && item->order != DS_ROWS_KEPT) ? 1 : item->shape[item->dims - 1];
}

static uint64_t rows_of(const struct ds_plan_item *item) {
    uint64_t elements = 1;
    for (uint32_t i = 0; i < item->dims; i++) elements *= item->shape[i];
    return elements / cols_of(item);
}

uint64_t ds_convert_source_bytes(const struct ds_plan_item *item) {
    uint64_t bytes = 0;
    (void)ds_type_size(item->values ? item->type : item->source->type, rows_of(item), cols_of(item), &bytes);
    return bytes;
}

/* Gives back pages of `count` rows from `first` on of one tensor. */
static void release_rows(const struct ds_plan_item *item, const struct ds_ckpt_tensor *tensor, uint64_t first, uint64_t count, uint64_t row_bytes) {
    ds_ckpt_release_part(item->from, tensor, first * row_bytes, count * row_bytes);
}

/* Of all that a chunk has read; rows that change places stay within their head, which is read again at worst. */
static void release_chunk(const struct chunk *chunk) {
    const struct ds_plan_item *item = chunk->item;
    if (!item->pieces) {
        release_rows(item, item->source, chunk->first, chunk->count, chunk->source_row);
        return;
    }
    for (uint64_t row = chunk->first, n; row < chunk->first + chunk->count; row += n) {
        const uint64_t within = row % item->piece_rows;
        const struct ds_loader_piece *piece = &item->pieces[row / item->piece_rows];
        n = DS_MIN(item->piece_rows - within, chunk->first + chunk->count - row);
        release_rows(item, piece->tensor, piece->first_row + within, n, chunk->source_row);
    }
}

static ds_status emit(struct ds_conversion *c, const void *data, size_t bytes, struct ds_error *err) {
    return c->layout == DS_LAYOUT_GGUF ? ds_gguf_write(c->writer, data, bytes, err) : ds_os_write(&c->file, data, bytes, err);
}

/* The rows of a chunk: into the file, or into the packer's matrix. */
static ds_status put_chunk(struct ds_conversion *c, const struct chunk *chunk, const struct ds_weight *packed, struct ds_error *err) {
    if (!packed->at.buffer) return emit(c, chunk->out, (size_t)(chunk->count * chunk->row), err);
    return c->packer->fns->weight_write(c->stream, packed, (uint32_t)chunk->first, (uint32_t)chunk->count, chunk->out, err);
}

static ds_status convert_rows(struct ds_conversion *c, const struct ds_plan_item *item, struct crew *crew, struct step *step,
                              const struct ds_weight *packed, struct ds_error *err) {
    if (item->values) return emit(c, item->values, (size_t)ds_convert_source_bytes(item), err);
    const uint64_t rows = rows_of(item);
    struct chunk chunk = {.item = item, .cols = cols_of(item), .out = crew->out, .bad = UINT64_MAX};
    (void)ds_type_size(item->source->type, 1, chunk.cols, &chunk.source_row); /* both checked: by the reader and by the writer */
    (void)ds_type_size(item->type, 1, chunk.cols, &chunk.row);
    chunk.grain = DS_MAX(GRAIN_ELEMENTS / chunk.cols, 1);
    uint64_t most = DS_MAX(CHUNK_BYTES / chunk.row, 1);
    if (item->packed) most = DS_MAX(most / DS_WEIGHT_ROWS, 1) * DS_WEIGHT_ROWS;
    for (chunk.first = 0; chunk.first < rows; chunk.first += chunk.count) {
        chunk.count = DS_MIN(most, rows - chunk.first);
        atomic_store(&chunk.next, 0);
        convert_chunk(crew, &chunk);
        if (atomic_load(&chunk.bad) != UINT64_MAX) return explain_bad(c, &chunk, crew->values, err);
        DS_TRY(put_chunk(c, &chunk, packed, err));
        release_chunk(&chunk);
        step->done += chunk.count * chunk.source_row;
        if (step->progress && !step->progress(step->user, step->done, step->total)) return ds_fail(err, DS_ERROR_CANCELLED, "interrupted; nothing was written");
    }
    return DS_OK;
}

/* A packed matrix is made whole in memory, then written. */
static ds_status convert_item(struct ds_conversion *c, const struct ds_plan_item *item, struct crew *crew, struct step *step, struct ds_error *err) {
    struct ds_weight packed = {.type = item->type, .rows = (uint32_t)item->shape[0], .cols = (uint32_t)item->shape[1]};
    if (!item->packed) return convert_rows(c, item, crew, step, &packed, err);
    const struct ds_device_fns *fns = c->packer->fns;
    DS_TRY(fns->buffer_create(c->packer, item->packed, &packed.at.buffer, err));
    ds_status status = convert_rows(c, item, crew, step, &packed, err);
    if (status == DS_OK) status = emit(c, fns->host(packed.at.buffer), (size_t)item->packed, err);
    ds_buffer_drop(&packed.at.buffer);
    return status;
}

ds_status ds_convert_data(struct ds_conversion *c, ds_progress_fn progress, void *user, struct ds_error *err) {
    struct crew crew = {.count = c->params->threads ? c->params->threads : ds_os_cpu_count()};
    struct step step = {.progress = progress, .user = user};
    crew.count = DS_MIN(crew.count, MOST_THREADS);
    uint64_t widest = 1, largest_row = 1;
    for (size_t i = 0; i < c->n_items; i++) {
        const struct ds_plan_item *item = &c->items[i];
        if (item->values) continue;
        const uint64_t cols = cols_of(item);
        uint64_t row = 0;
        (void)ds_type_size(item->type, 1, cols, &row);
        widest = DS_MAX(widest, cols);
        largest_row = DS_MAX(largest_row, row);
        step.total += ds_convert_source_bytes(item);
    }
    const uint64_t out_bytes = DS_MAX(largest_row * (c->packer ? DS_WEIGHT_ROWS : 1), CHUNK_BYTES);
    uint64_t value_bytes;
    if (!ds_mul_u64(widest * sizeof *crew.values, crew.count, &value_bytes)) return ds_fail_memory(err, SIZE_MAX, "rows");
    crew.values = malloc((size_t)value_bytes);
    crew.out = malloc((size_t)out_bytes);
    ds_status status = crew.values && crew.out ? DS_OK : ds_fail_memory(err, (size_t)(value_bytes + out_bytes), "a chunk of rows");
    for (unsigned i = 0; status == DS_OK && i < crew.count; i++) crew.workers[i].values = crew.values + i * widest;
    for (size_t i = 0; status == DS_OK && i < c->n_items; i++) status = convert_item(c, &c->items[i], &crew, &step, err);
    free(crew.values);
    free(crew.out);
    return status;
}
