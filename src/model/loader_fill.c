/* Weights from their files into the slabs, piece by piece: as they are stored, or widened; the device repacks them. */
#include "model/loader_internal.h"

#include <stdlib.h>
#include <string.h>

/* Pieces have about this many bytes: small enough for memory, large enough for every thread to repack. */
enum { STAGING_BYTES = 8 << 20 };

struct filling {
    const struct ds_device_fns *fns;
    struct ds_stream *stream;
    uint8_t *staging; /* [staging_size] bytes; NULL: nothing is staged */
    ds_progress_fn progress;
    void *user;
    uint64_t done, total; /* bytes of matrices in their files */
};

static ds_status report(struct filling *f, uint64_t bytes, struct ds_error *err) {
    f->done += bytes;
    if (f->progress && !f->progress(f->user, f->done, f->total)) return ds_fail(err, DS_ERROR_CANCELLED, "loading was cancelled");
    return DS_OK;
}

static uint64_t row_bytes_of(const struct ds_ckpt_tensor *tensor, uint32_t cols) {
    uint64_t bytes = 0;
    (void)ds_type_size(tensor->type, 1, cols, &bytes);
    return bytes;
}

/* Of a row in the form that weight_write takes. */
static uint64_t staged_row_bytes(const struct ds_request *r, ds_type stored, uint64_t row_bytes) {
    return r->type == stored ? row_bytes : 4 * (uint64_t)r->cols;
}

/* How many rows are written at once: whole groups, since the device interleaves those. */
static uint64_t rows_at_once(uint64_t staged_row) {
    const uint64_t rows = staged_row ? STAGING_BYTES / staged_row / DS_WEIGHT_ROWS * DS_WEIGHT_ROWS : 0;
    return DS_MAX(rows, (uint64_t)DS_WEIGHT_ROWS);
}

/*
 * Room for one piece of whatever is staged: experts, single rows, and what is widened. All else goes to the device from where
 * it lies.
 */
static uint64_t staging_size(const struct ds_loader *loader) {
    uint64_t largest = 0;
    for (size_t i = 0; i < loader->count; i++) {
        const struct ds_request *r = &loader->requests[i];
        const bool widened = r->kind == DS_REQUEST_MATRIX && !r->imported && r->type != r->tensor->type;
        if (r->kind != DS_REQUEST_EXPERTS && r->kind != DS_REQUEST_ROWS && !widened) continue;
        largest = DS_MAX(largest, DS_MAX((uint64_t)STAGING_BYTES, 4 * (uint64_t)r->cols * DS_WEIGHT_ROWS));
    }
    return largest;
}

static void stage_rows(const struct ds_request *r, ds_type stored, const uint8_t *from, uint64_t row_bytes, uint64_t n, uint8_t *staging) {
    if (r->type == stored) {
        memcpy(staging, from, (size_t)(n * row_bytes));
        return;
    }
    for (uint64_t i = 0; i < n; i++) ds_dequantize_row(stored, from + i * row_bytes, r->cols, (float *)(void *)staging + i * r->cols);
}

/* --- one request --- */

/* File and device together never hold a piece twice for long. */
static ds_status fill_matrix(struct filling *f, const struct ds_request *r, struct ds_error *err) {
    const struct ds_ckpt_tensor *t = r->tensor;
    const uint64_t rows = r->rows, row_bytes = rows ? t->bytes / rows : 0;
    const uint64_t step = rows_at_once(staged_row_bytes(r, t->type, row_bytes));
    ds_ckpt_prefetch_part(r->ckpt, t, 0, step * row_bytes);
    for (uint64_t first = 0; first < rows; first += step) {
        const uint64_t n = DS_MIN(step, rows - first);
        ds_ckpt_prefetch_part(r->ckpt, t, (first + n) * row_bytes, step * row_bytes); /* read by the system while this piece is repacked */
        const uint8_t *source = t->data + first * row_bytes;
        if (r->type != t->type) {
            stage_rows(r, t->type, source, row_bytes, n, f->staging);
            source = f->staging;
        }
        DS_TRY(f->fns->weight_write(f->stream, r->weight, (uint32_t)first, (uint32_t)n, source, err));
        ds_ckpt_release_part(r->ckpt, t, first * row_bytes, n * row_bytes);
        DS_TRY(report(f, n * row_bytes, err));
    }
    return DS_OK;
}

/* One expert's rows, padded with zeros to whole groups. */
static ds_status fill_expert(struct filling *f, const struct ds_request *r, uint32_t expert, struct ds_error *err) {
    const struct ds_loader_piece *piece = &r->pieces[expert];
    const ds_type type = piece->tensor->type;
    const uint64_t row_bytes = row_bytes_of(piece->tensor, r->cols), staged_row = staged_row_bytes(r, type, row_bytes);
    const uint64_t padded = ds_expert_rows(r->outputs), step = rows_at_once(staged_row);
    for (uint64_t first = 0; first < padded; first += step) {
        const uint64_t n = DS_MIN(step, padded - first), stored = first < r->outputs ? DS_MIN(n, r->outputs - first) : 0;
        stage_rows(r, type, piece->tensor->data + (piece->first_row + first) * row_bytes, row_bytes, stored, f->staging);
        memset(f->staging + stored * staged_row, 0, (size_t)((n - stored) * staged_row));
        DS_TRY(f->fns->weight_write(f->stream, r->weight, (uint32_t)(expert * padded + first), (uint32_t)n, f->staging, err));
        DS_TRY(report(f, stored * row_bytes, err));
    }
    return DS_OK;
}

static ds_status fill_experts(struct filling *f, const struct ds_request *r, struct ds_error *err) {
    for (uint32_t e = 0; e < r->experts; e++) {
        DS_TRY(fill_expert(f, r, e, err));
        const bool last = e + 1 == r->experts || r->pieces[e].tensor != r->pieces[e + 1].tensor; /* of its tensor */
        if (last) ds_ckpt_release(r->ckpt, r->pieces[e].tensor);
    }
    return DS_OK;
}

static ds_status fill_rows(struct filling *f, const struct ds_request *r, struct ds_error *err) {
    const ds_type type = r->tensor->type;
    const uint64_t row_bytes = row_bytes_of(r->tensor, r->cols), staged_row = staged_row_bytes(r, type, row_bytes);
    const uint64_t step = rows_at_once(staged_row);
    for (uint64_t first = 0; first < r->rows; first += step) {
        const uint64_t n = DS_MIN(step, r->rows - first);
        for (uint64_t i = 0; i < n; i++)
            stage_rows(r, type, r->tensor->data + (uint64_t)r->list[first + i] * row_bytes, row_bytes, 1, f->staging + i * staged_row);
        DS_TRY(f->fns->weight_write(f->stream, r->weight, (uint32_t)first, (uint32_t)n, f->staging, err));
        DS_TRY(report(f, n * row_bytes, err));
    }
    return DS_OK;
}

static ds_status fill_vector(struct filling *f, const struct ds_request *r, struct ds_error *err) {
    float *values = malloc((size_t)DS_MAX(r->bytes, 1));
    if (!values) return ds_fail_memory(err, (size_t)r->bytes, r->tensor->name);
    ds_dequantize_row(r->tensor->type, r->tensor->data, r->count, values);
    if (r->scale != 1.0f || r->shift != 0.0f)
        for (uint64_t i = 0; i < r->count; i++) values[i] = values[i] * r->scale + r->shift;
    const ds_status status = f->fns->write(f->stream, *r->slice, values, r->bytes, err);
    free(values);
    return status;
}

static ds_status fill(struct filling *f, const struct ds_request *r, struct ds_error *err) {
    switch (r->kind) {
    case DS_REQUEST_MATRIX:
        return r->shared ? DS_OK : fill_matrix(f, r, err);
    case DS_REQUEST_ROWS:
        return fill_rows(f, r, err);
    case DS_REQUEST_EXPERTS:
        return fill_experts(f, r, err);
    case DS_REQUEST_VECTOR:
        return fill_vector(f, r, err);
    case DS_REQUEST_CONSTANT:
        return f->fns->write(f->stream, *r->slice, r->values, r->bytes, err);
    case DS_REQUEST_SCALAR:
        break;
    }
    return DS_OK;
}

/* --- all of them --- */

/* Of a request's matrices in the file: what progress counts. */
static uint64_t stored_bytes(const struct ds_request *r) {
    if (r->shared || r->imported) return 0;
    if (r->kind == DS_REQUEST_MATRIX) return r->tensor->bytes;
    if (r->kind == DS_REQUEST_ROWS) return (uint64_t)r->rows * (r->tensor->bytes / r->tensor->shape[0]);
    if (r->kind == DS_REQUEST_EXPERTS) return row_bytes_of(r->pieces[0].tensor, r->cols) * r->outputs * r->experts;
    return 0;
}

static ds_status fill_all(const struct ds_loader *loader, struct filling *f, struct ds_error *err) {
    for (size_t i = 0; i < loader->count; i++) f->total += stored_bytes(&loader->requests[i]);
    for (size_t i = 0; i < loader->count; i++) {
        const struct ds_request *r = &loader->requests[i];
        if (r->imported) continue;
        DS_TRY(fill(f, r, err));
        if (r->tensor && r->kind != DS_REQUEST_SCALAR) ds_ckpt_release(r->ckpt, r->tensor);
    }
    return f->fns->stream_sync(f->stream, err);
}

ds_status ds_loader_finish(struct ds_loader *loader, struct ds_stream *stream, ds_progress_fn progress, void *user, struct ds_error *err) {
    if (loader->placed || !loader->planned) return DS_OK;
    struct filling f = {.fns = loader->device->fns, .stream = stream, .progress = progress, .user = user};
    const uint64_t staging_bytes = staging_size(loader);
    f.staging = staging_bytes ? malloc((size_t)staging_bytes) : NULL;
    if (staging_bytes && !f.staging) return ds_fail_memory(err, (size_t)staging_bytes, "staging weights");
    ds_status status = ds_loader_allocate(loader, err);
    if (status == DS_OK) status = fill_all(loader, &f, err);
    free(f.staging);
    loader->placed = status == DS_OK;
    if (status != DS_OK) ds_loader_release(loader);
    return status;
}
