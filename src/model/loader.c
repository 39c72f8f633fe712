#include "model/loader.h"

#include <stdlib.h>
#include <string.h>

struct request {
    enum { MATRIX, ROWS, EXPERTS, VECTOR, CONSTANT, SCALAR /* read already */ } kind;
    const struct ds_ckpt *ckpt;
    const struct ds_ckpt_tensor *tensor;
    float *values; /* CONSTANT: owned */
    uint64_t count;
    ds_type type; /* MATRIX: on the device */
    uint32_t rows, cols; /* MATRIX, ROWS, EXPERTS */
    int32_t *list;       /* ROWS: owned */
    float scale, shift;  /* VECTOR */
    struct ds_loader_piece *pieces; /* EXPERTS: owned */
    uint32_t experts, outputs;
    struct slab *slab;
    uint64_t offset, bytes;
    bool shared; /* another request fills this place */
    struct ds_buffer *imported; /* MATRIX: packed, used where it lies in the file; owned */
    struct ds_weight *weight;
    struct ds_slice *slice;
};

/* Weights lie in as few buffers as the device's limit on one allows. */
struct slab {
    struct slab *next;
    struct ds_buffer planned; /* stands in for the buffer until it exists */
    struct ds_buffer *buffer;
};

struct ds_loader {
    struct ds_device *device;
    bool widen;
    struct request *requests;
    size_t count, capacity;
    uint64_t imported; /* bytes of packed weights */
    struct slab *slabs; /* the last one first */
    uint64_t most_bytes; /* of a buffer */
    uint64_t planned;    /* bytes of all slabs */
    bool placed;
};

/* Rows are written in pieces of about this many bytes: small enough for memory, large enough for every thread to repack. */
enum { STAGING_BYTES = 8 << 20 };

ds_status ds_loader_create(struct ds_device *device, bool widen, struct ds_loader **out, struct ds_error *err) {
    *out = calloc(1, sizeof **out);
    if (!*out) return ds_fail_memory(err, sizeof **out, "the weight loader");
    (*out)->device = device;
    (*out)->widen = widen;
    struct ds_device_limits limits;
    device->fns->limits(device, &limits);
    (*out)->most_bytes = limits.max_buffer_bytes ? limits.max_buffer_bytes : UINT64_MAX;
    return DS_OK;
}

void ds_loader_destroy(struct ds_loader *loader) {
    if (!loader) return;
    for (size_t i = 0; i < loader->count; i++) {
        free(loader->requests[i].values);
        free(loader->requests[i].pieces);
        free(loader->requests[i].list);
        loader->device->fns->buffer_destroy(loader->requests[i].imported);
    }
    free(loader->requests);
    for (struct slab *slab = loader->slabs; slab;) {
        struct slab *const next = slab->next;
        ds_buffer_drop(&slab->buffer);
        free(slab);
        slab = next;
    }
    free(loader);
}

uint64_t ds_loader_bytes(const struct ds_loader *loader) { return loader->planned + loader->imported; }

/* Where the next weight goes; a new slab where the last one would grow beyond what a buffer may have. */
static ds_status plan_place(struct ds_loader *loader, struct request *r, struct ds_error *err) {
    const uint64_t bytes = DS_ALIGN_UP(r->bytes, (uint64_t)DS_ALIGN);
    struct slab *slab = loader->slabs;
    if (!slab || (slab->planned.bytes && bytes > loader->most_bytes - DS_MIN(slab->planned.bytes, loader->most_bytes))) {
        slab = calloc(1, sizeof *slab);
        if (!slab) return ds_fail_memory(err, sizeof *slab, "the plan of weights");
        slab->next = loader->slabs;
        loader->slabs = slab;
    }
    r->slab = slab;
    r->offset = slab->planned.bytes;
    slab->planned.bytes += bytes;
    loader->planned += bytes;
    return DS_OK;
}

static ds_status add_request(struct ds_loader *loader, const struct request *request, struct ds_slice *place, struct ds_error *err) {
    if (loader->count == loader->capacity) {
        const size_t capacity = loader->capacity ? 2 * loader->capacity : 64;
        struct request *grown = realloc(loader->requests, capacity * sizeof *grown);
        if (!grown) return ds_fail_memory(err, capacity * sizeof *grown, "the list of weights");
        loader->requests = grown;
        loader->capacity = capacity;
    }
    struct request *r = &loader->requests[loader->count];
    *r = *request;
    if (!r->shared) DS_TRY(plan_place(loader, r, err));
    *place = (struct ds_slice){r->slab ? &r->slab->planned : NULL, r->offset};
    loader->count++;
    return DS_OK;
}

/* Within a checkpoint only the very same tensor is shared: its tensors are not searched for twins. */
static bool same_content(const struct request *r, const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor) {
    if (r->kind != MATRIX || r->shared || r->imported) return false;
    if (r->ckpt == ckpt) return r->tensor == tensor;
    return r->tensor->type == tensor->type && r->tensor->packed == tensor->packed && r->tensor->bytes == tensor->bytes &&
           memcmp(r->tensor->shape, tensor->shape, sizeof tensor->shape) == 0 &&
           memcmp(r->tensor->data, tensor->data, tensor->bytes) == 0;
}

static const struct request *find_twin(const struct ds_loader *loader, const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor) {
    for (size_t i = 0; i < loader->count; i++)
        if (same_content(&loader->requests[i], ckpt, tensor)) return &loader->requests[i];
    return NULL;
}

/* Weights are floating-point numbers or blocks of them; only those can be widened. */
static ds_status require_numbers(const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor, struct ds_error *err) {
    if (tensor->type != DS_TYPE_I32 && tensor->type != DS_TYPE_I64) return DS_OK;
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor '%s' holds integers (%s); expected weights", ds_ckpt_path(ckpt), tensor->name,
                   ds_type_get(tensor->type)->name);
}

/* A matrix that lies in the file as the device wants it: nothing is planned, read or copied. */
static ds_status import_matrix(struct ds_loader *loader, struct request *r, struct ds_error *err) {
    const struct ds_device_fns *fns = loader->device->fns;
    const struct ds_ckpt_layout *have = ds_ckpt_get_layout(r->ckpt);
    const struct ds_ckpt_tensor *tensor = r->tensor;
    if (loader->widen)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: packed weights cannot be widened; use the file that this one was made from", ds_ckpt_path(r->ckpt));
    struct ds_device_limits limits;
    loader->device->fns->limits(loader->device, &limits);
    if (!fns->weight_layout || strcmp(fns->weight_layout->name, have->name) != 0)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: weights are packed for device '%s', which device '%s' cannot read; use the file that this one was made from",
                       ds_ckpt_path(r->ckpt), have->name, limits.name);
    if (fns->weight_layout->version != have->version)
        return ds_fail(err, DS_ERROR_UNSUPPORTED,
                       "%s: weights are packed in version %u of the layout of device '%s'; this program reads version %u: convert the original once more",
                       ds_ckpt_path(r->ckpt), have->version, have->name, fns->weight_layout->version);
    if (tensor->bytes != r->bytes || (uintptr_t)tensor->data % DS_ALIGN != 0)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: tensor '%s' (%s [%u, %u], packed): expected %llu bytes at a multiple of %d in the file, found %llu at %llu",
                       ds_ckpt_path(r->ckpt), tensor->name, ds_type_get(tensor->type)->name, r->rows, r->cols, (unsigned long long)r->bytes, DS_ALIGN,
                       (unsigned long long)tensor->bytes, (unsigned long long)tensor->offset);
    return fns->buffer_import(loader->device, tensor->data, tensor->bytes, &r->imported, err);
}

ds_status ds_loader_matrix(struct ds_loader *loader, const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor,
                           struct ds_weight *out, struct ds_error *err) {
    if (tensor->dims < 1 || tensor->dims > 2 || tensor->shape[0] > UINT32_MAX || tensor->shape[1] > UINT32_MAX)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor '%s' is not a matrix of at most 2^32 rows and columns",
                       ds_ckpt_path(ckpt), tensor->name);
    DS_TRY(require_numbers(ckpt, tensor, err));
    /* A matrix of one row may be stored as a vector (GGUF drops outer dimensions of 1). */
    const uint32_t rows = tensor->dims == 2 ? (uint32_t)tensor->shape[0] : 1, cols = (uint32_t)tensor->shape[tensor->dims - 1];
    struct request r = {.kind = MATRIX, .ckpt = ckpt, .tensor = tensor, .weight = out, .rows = rows, .cols = cols};
    r.type = loader->widen ? DS_TYPE_F32 : tensor->type;
    r.bytes = loader->device->fns->weight_bytes(loader->device, r.type, rows, cols);
    if (!r.bytes)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor '%s' (%s [%u, %u]) cannot be run on this device", ds_ckpt_path(ckpt),
                       tensor->name, ds_type_get(tensor->type)->name, rows, cols);
    if (tensor->packed) {
        DS_TRY(import_matrix(loader, &r, err));
        *out = (struct ds_weight){.at = {.buffer = r.imported}, .type = r.type, .rows = rows, .cols = cols};
        struct ds_slice unused;
        r.bytes = 0;
        const ds_status status = add_request(loader, &r, &unused, err);
        if (status == DS_OK) loader->imported += tensor->bytes;
        else loader->device->fns->buffer_destroy(r.imported);
        return status;
    }
    const struct request *twin = find_twin(loader, ckpt, tensor);
    if (twin) {
        r.shared = true;
        r.slab = twin->slab;
        r.offset = twin->offset;
    }
    *out = (struct ds_weight){.type = r.type, .rows = rows, .cols = cols};
    return add_request(loader, &r, &out->at, err);
}

ds_status ds_loader_rows(struct ds_loader *loader, const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor, const int32_t *list, uint32_t n,
                         struct ds_weight *out, struct ds_error *err) {
    DS_TRY(require_numbers(ckpt, tensor, err));
    if (tensor->packed || tensor->dims != 2 || tensor->shape[1] > UINT32_MAX)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor '%s': single rows are wanted, which %s does not have", ds_ckpt_path(ckpt), tensor->name,
                       tensor->packed ? "a packed matrix" : "what is no matrix");
    struct request r = {.kind = ROWS, .ckpt = ckpt, .tensor = tensor, .weight = out, .rows = n, .cols = (uint32_t)tensor->shape[1]};
    r.type = loader->widen ? DS_TYPE_F32 : tensor->type;
    r.bytes = loader->device->fns->weight_bytes(loader->device, r.type, n, r.cols);
    if (!r.bytes)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: %u rows of tensor '%s' (%s, %u columns) cannot be run on this device", ds_ckpt_path(ckpt), n, tensor->name,
                       ds_type_get(tensor->type)->name, r.cols);
    r.list = malloc(n * sizeof *r.list);
    if (!r.list) return ds_fail_memory(err, n * sizeof *r.list, "a list of rows");
    memcpy(r.list, list, n * sizeof *r.list);
    *out = (struct ds_weight){.type = r.type, .rows = n, .cols = r.cols};
    const ds_status status = add_request(loader, &r, &out->at, err);
    if (status != DS_OK) free(r.list);
    return status;
}

/* Only whole matrices are used as device `cpu` packs them. */
static ds_status require_rows(const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor, const char *expected, struct ds_error *err) {
    if (!tensor->packed) return DS_OK;
    return ds_fail(err, DS_ERROR_FORMAT, "%s: tensor '%s': expected %s, found a packed matrix", ds_ckpt_path(ckpt), tensor->name, expected);
}

ds_status ds_loader_experts(struct ds_loader *loader, const struct ds_ckpt *ckpt, const struct ds_loader_piece *pieces, uint32_t experts,
                            uint32_t outputs, uint32_t cols, struct ds_weight *out, struct ds_error *err) {
    const ds_type stored = pieces[0].tensor->type;
    for (uint32_t e = 0; e < experts; e++) {
        DS_TRY(require_rows(ckpt, pieces[e].tensor, "rows of experts", err));
        DS_TRY(require_numbers(ckpt, pieces[e].tensor, err));
        if (pieces[e].tensor->type != stored)
            return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor '%s' is %s, '%s' %s; the experts of a layer must have one type", ds_ckpt_path(ckpt),
                           pieces[0].tensor->name, ds_type_get(stored)->name, pieces[e].tensor->name, ds_type_get(pieces[e].tensor->type)->name);
    }
    const uint64_t rows = (uint64_t)experts * ds_expert_rows(outputs);
    struct request r = {.kind = EXPERTS, .ckpt = ckpt, .weight = out, .rows = (uint32_t)rows, .cols = cols, .experts = experts, .outputs = outputs};
    r.type = loader->widen ? DS_TYPE_F32 : stored;
    r.bytes = rows <= UINT32_MAX ? loader->device->fns->weight_bytes(loader->device, r.type, r.rows, cols) : 0;
    if (!r.bytes)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor '%s' and its like (%u experts, %s [%u, %u]) cannot be run on this device",
                       ds_ckpt_path(ckpt), pieces[0].tensor->name, experts, ds_type_get(stored)->name, outputs, cols);
    r.pieces = malloc(experts * sizeof *r.pieces);
    if (!r.pieces) return ds_fail_memory(err, experts * sizeof *r.pieces, "the list of experts");
    memcpy(r.pieces, pieces, experts * sizeof *r.pieces);
    *out = (struct ds_weight){.type = r.type, .rows = r.rows, .cols = cols};
    const ds_status status = add_request(loader, &r, &out->at, err);
    if (status != DS_OK) free(r.pieces);
    return status;
}

ds_status ds_loader_scalar(struct ds_loader *loader, const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor, float *out,
                           struct ds_error *err) {
    DS_TRY(require_rows(ckpt, tensor, "one float", err));
    DS_TRY(require_numbers(ckpt, tensor, err));
    if (ds_type_get(tensor->type)->block != 1)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor '%s' is %s; expected one float", ds_ckpt_path(ckpt), tensor->name, ds_type_get(tensor->type)->name);
    ds_dequantize_row(tensor->type, tensor->data, 1, out);
    struct ds_slice place;
    return add_request(loader, &(struct request){.kind = SCALAR, .ckpt = ckpt, .tensor = tensor, .shared = true}, &place, err);
}

ds_status ds_loader_vector(struct ds_loader *loader, const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor,
                           struct ds_slice *out, struct ds_error *err) {
    return ds_loader_vector_affine(loader, ckpt, tensor, 1.0f, 0.0f, out, err);
}

ds_status ds_loader_vector_affine(struct ds_loader *loader, const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor, float scale,
                                  float offset, struct ds_slice *out, struct ds_error *err) {
    DS_TRY(require_rows(ckpt, tensor, "a vector", err));
    DS_TRY(require_numbers(ckpt, tensor, err));
    uint64_t count = 1;
    for (uint32_t i = 0; i < tensor->dims; i++) count *= tensor->shape[i]; /* cannot overflow: the tensor lies in a file */
    const struct request r = {.kind = VECTOR, .ckpt = ckpt, .tensor = tensor, .count = count, .bytes = 4 * count, .scale = scale, .shift = offset,
                              .slice = out};
    return add_request(loader, &r, out, err);
}

ds_status ds_loader_constant(struct ds_loader *loader, const float *values, uint64_t count, struct ds_slice *out, struct ds_error *err) {
    struct request r = {.kind = CONSTANT, .count = count, .bytes = 4 * count, .slice = out};
    r.values = malloc((size_t)DS_MAX(r.bytes, 1));
    if (!r.values) return ds_fail_memory(err, (size_t)r.bytes, "a table");
    memcpy(r.values, values, (size_t)r.bytes);
    const ds_status status = add_request(loader, &r, out, err);
    if (status != DS_OK) free(r.values);
    return status;
}

static void mark_used(const struct request *r, const struct ds_ckpt_tensor *first, bool *used) {
    if (r->kind != EXPERTS) used[r->tensor - first] = true;
    else for (uint32_t e = 0; e < r->experts; e++) used[r->pieces[e].tensor - first] = true;
}

ds_status ds_loader_find_unused(struct ds_loader *const *loaders, uint32_t n, const struct ds_ckpt *ckpt, ds_loader_spare_fn spare,
                                const struct ds_ckpt_tensor **out, struct ds_error *err) {
    *out = NULL;
    const size_t count = ds_ckpt_tensor_count(ckpt);
    if (count == 0) return DS_OK;
    const struct ds_ckpt_tensor *const first = ds_ckpt_tensor_at(ckpt, 0);
    bool *used = calloc(count, sizeof *used);
    if (!used) return ds_fail_memory(err, count, "the list of tensors");
    for (uint32_t l = 0; l < n; l++)
        for (size_t i = 0; i < loaders[l]->count; i++)
            if (loaders[l]->requests[i].ckpt == ckpt) mark_used(&loaders[l]->requests[i], first, used);
    for (size_t i = 0; i < count && !*out; i++)
        if (!used[i] && !spare(first[i].name)) *out = &first[i];
    free(used);
    return DS_OK;
}

struct progress {
    ds_progress_fn fn;
    void *user;
    uint64_t done, total;
};

static ds_status report(struct progress *progress, uint64_t bytes, struct ds_error *err) {
    progress->done += bytes;
    if (progress->fn && !progress->fn(progress->user, progress->done, progress->total))
        return ds_fail(err, DS_ERROR_CANCELLED, "loading was cancelled");
    return DS_OK;
}

static ds_status write_matrix(struct ds_loader *loader, const struct request *r, struct ds_stream *stream, void *staging,
                              struct progress *progress, struct ds_error *err) {
    const struct ds_ckpt_tensor *t = r->tensor;
    const uint64_t rows = r->rows, cols = r->cols, row_bytes = rows ? t->bytes / rows : 0;
    const uint64_t staged_row = r->type == t->type ? row_bytes : 4 * cols;
    uint64_t step = staged_row ? STAGING_BYTES / staged_row / DS_WEIGHT_ROWS * DS_WEIGHT_ROWS : rows;
    step = DS_MAX(step, (uint64_t)DS_WEIGHT_ROWS);
    ds_ckpt_prefetch_part(r->ckpt, t, 0, step * row_bytes);
    for (uint64_t first = 0; first < rows; first += step) {
        const uint64_t n = DS_MIN(step, rows - first);
        ds_ckpt_prefetch_part(r->ckpt, t, (first + n) * row_bytes, step * row_bytes); /* read by the system while this piece is repacked */
        const uint8_t *from = t->data + first * row_bytes;
        const void *source = from;
        if (r->type != t->type) {
            for (uint64_t i = 0; i < n; i++)
                ds_dequantize_row(t->type, from + i * row_bytes, cols, (float *)staging + i * cols);
            source = staging;
        }
        DS_TRY(loader->device->fns->weight_write(stream, r->weight, (uint32_t)first, (uint32_t)n, source, err));
        ds_ckpt_release_part(r->ckpt, t, first * row_bytes, n * row_bytes); /* file and device together never hold a piece twice for long */
        DS_TRY(report(progress, n * row_bytes, err));
    }
    return DS_OK;
}

/* Rows of a tensor in the form that weight_write takes. */
static void stage_rows(const struct request *r, ds_type stored, const uint8_t *from, uint64_t row_bytes, uint64_t n, void *staging) {
    if (r->type != stored) {
        for (uint64_t i = 0; i < n; i++) ds_dequantize_row(stored, from + i * row_bytes, r->cols, (float *)staging + i * r->cols);
        return;
    }
    memcpy(staging, from, (size_t)(n * row_bytes));
}

/* One expert's rows, padded with zeros to whole groups. */
static ds_status write_expert(struct ds_loader *loader, const struct request *r, uint32_t expert, struct ds_stream *stream, uint8_t *staging,
                              uint64_t staging_bytes, struct progress *progress, struct ds_error *err) {
    const struct ds_loader_piece *piece = &r->pieces[expert];
    uint64_t row_bytes = 0;
    (void)ds_type_size(piece->tensor->type, 1, r->cols, &row_bytes);
    const uint64_t staged_row = r->type == piece->tensor->type ? row_bytes : 4 * (uint64_t)r->cols, padded = ds_expert_rows(r->outputs);
    const uint64_t step = DS_MAX(staging_bytes / staged_row / DS_WEIGHT_ROWS * DS_WEIGHT_ROWS, (uint64_t)DS_WEIGHT_ROWS);
    for (uint64_t first = 0; first < padded; first += step) {
        const uint64_t n = DS_MIN(step, padded - first), stored = first < r->outputs ? DS_MIN(n, r->outputs - first) : 0;
        stage_rows(r, piece->tensor->type, piece->tensor->data + (piece->first_row + first) * row_bytes, row_bytes, stored, staging);
        memset(staging + stored * staged_row, 0, (size_t)((n - stored) * staged_row));
        DS_TRY(loader->device->fns->weight_write(stream, r->weight, (uint32_t)(expert * padded + first), (uint32_t)n, staging, err));
        DS_TRY(report(progress, stored * row_bytes, err));
    }
    return DS_OK;
}

static ds_status write_experts(struct ds_loader *loader, const struct request *r, struct ds_stream *stream, void *staging,
                               uint64_t staging_bytes, struct progress *progress, struct ds_error *err) {
    for (uint32_t e = 0; e < r->experts; e++) {
        DS_TRY(write_expert(loader, r, e, stream, staging, staging_bytes, progress, err));
        if (e + 1 == r->experts || r->pieces[e].tensor != r->pieces[e + 1].tensor) ds_ckpt_release(r->ckpt, r->pieces[e].tensor);
    }
    return DS_OK;
}

static ds_status write_rows(struct ds_loader *loader, const struct request *r, struct ds_stream *stream, uint8_t *staging, uint64_t staging_bytes,
                            struct progress *progress, struct ds_error *err) {
    uint64_t row_bytes = 0;
    (void)ds_type_size(r->tensor->type, 1, r->cols, &row_bytes);
    const uint64_t staged_row = r->type == r->tensor->type ? row_bytes : 4 * (uint64_t)r->cols;
    const uint64_t step = DS_MAX(staging_bytes / staged_row / DS_WEIGHT_ROWS * DS_WEIGHT_ROWS, (uint64_t)DS_WEIGHT_ROWS);
    for (uint64_t first = 0; first < r->rows; first += step) {
        const uint64_t n = DS_MIN(step, r->rows - first);
        for (uint64_t i = 0; i < n; i++)
            stage_rows(r, r->tensor->type, r->tensor->data + (uint64_t)r->list[first + i] * row_bytes, row_bytes, 1, staging + i * staged_row);
        DS_TRY(loader->device->fns->weight_write(stream, r->weight, (uint32_t)first, (uint32_t)n, staging, err));
        DS_TRY(report(progress, n * row_bytes, err));
    }
    return DS_OK;
}

static ds_status write_vector(struct ds_loader *loader, const struct request *r, struct ds_stream *stream, struct ds_error *err) {
    if (r->kind == CONSTANT) return loader->device->fns->write(stream, *r->slice, r->values, r->bytes, err);
    float *values = malloc((size_t)DS_MAX(r->bytes, 1));
    if (!values) return ds_fail_memory(err, (size_t)r->bytes, r->tensor->name);
    ds_dequantize_row(r->tensor->type, r->tensor->data, r->count, values);
    if (r->scale != 1.0f || r->shift != 0.0f)
        for (uint64_t i = 0; i < r->count; i++) values[i] = values[i] * r->scale + r->shift;
    const ds_status status = loader->device->fns->write(stream, *r->slice, values, r->bytes, err);
    free(values);
    return status;
}

/* The largest piece that is staged: experts, and what is widened. All else goes to the device from where it lies in the file. */
static uint64_t staging_size(const struct ds_loader *loader) {
    uint64_t largest = 0;
    for (size_t i = 0; i < loader->count; i++) {
        const struct request *r = &loader->requests[i];
        const bool staged = r->kind == EXPERTS || r->kind == ROWS || (r->kind == MATRIX && !r->imported && r->type != r->tensor->type);
        if (staged) largest = DS_MAX(largest, DS_MAX((uint64_t)STAGING_BYTES, 4 * (uint64_t)r->cols * DS_WEIGHT_ROWS));
    }
    return largest;
}

/* Places are those in the buffers, or where there are none those in the plan. */
static void point_at_slabs(struct ds_loader *loader) {
    for (size_t i = 0; i < loader->count; i++) {
        struct request *r = &loader->requests[i];
        if (r->imported || r->kind == SCALAR) continue;
        struct ds_buffer *const buffer = r->slab->buffer ? r->slab->buffer : &r->slab->planned;
        if (r->kind == MATRIX || r->kind == ROWS || r->kind == EXPERTS) r->weight->at.buffer = buffer;
        else r->slice->buffer = buffer;
    }
}

/* Of a request's matrices in the file: what progress counts. */
static uint64_t stored_bytes(const struct request *r) {
    uint64_t row_bytes = 0;
    if (r->kind == MATRIX) return r->tensor->bytes;
    if (r->kind == ROWS) return (uint64_t)r->rows * (r->tensor->bytes / r->tensor->shape[0]);
    if (r->kind == EXPERTS) (void)ds_type_size(r->pieces[0].tensor->type, 1, r->cols, &row_bytes);
    return row_bytes * r->outputs * r->experts;
}

static void drop_slabs(struct ds_loader *loader) {
    for (struct slab *slab = loader->slabs; slab; slab = slab->next) ds_buffer_drop(&slab->buffer);
    point_at_slabs(loader);
}

ds_status ds_loader_allocate(struct ds_loader *loader, struct ds_error *err) {
    ds_status status = DS_OK;
    for (struct slab *slab = loader->slabs; slab && status == DS_OK; slab = slab->next)
        if (slab->planned.bytes && !slab->buffer) status = loader->device->fns->buffer_create(loader->device, slab->planned.bytes, &slab->buffer, err);
    if (status == DS_OK) point_at_slabs(loader);
    else drop_slabs(loader);
    return status;
}

void ds_loader_release(struct ds_loader *loader) {
    if (!loader) return;
    drop_slabs(loader);
    loader->placed = false;
}

ds_status ds_loader_finish(struct ds_loader *loader, struct ds_stream *stream, ds_progress_fn progress_fn, void *user,
                           struct ds_error *err) {
    if (loader->placed || !loader->planned) return DS_OK;
    struct progress progress = {.fn = progress_fn, .user = user};
    for (size_t i = 0; i < loader->count; i++)
        if (!loader->requests[i].shared && !loader->requests[i].imported) progress.total += stored_bytes(&loader->requests[i]);

    const uint64_t staging_bytes = staging_size(loader);
    void *staging = staging_bytes ? malloc((size_t)staging_bytes) : NULL;
    if (staging_bytes && !staging) return ds_fail_memory(err, (size_t)staging_bytes, "staging weights");
    ds_status status = ds_loader_allocate(loader, err);
    for (size_t i = 0; status == DS_OK && i < loader->count; i++) {
        const struct request *r = &loader->requests[i];
        if (r->kind == SCALAR || r->imported) continue;
        if (r->kind == ROWS) status = write_rows(loader, r, stream, staging, staging_bytes, &progress, err);
        else if (r->kind == EXPERTS) status = write_experts(loader, r, stream, staging, staging_bytes, &progress, err);
        else if (r->kind != MATRIX) status = write_vector(loader, r, stream, err);
        else if (!r->shared) status = write_matrix(loader, r, stream, staging, &progress, err);
        if (r->tensor) ds_ckpt_release(r->ckpt, r->tensor);
    }
    if (status == DS_OK) status = loader->device->fns->stream_sync(stream, err);
    free(staging);
    loader->placed = status == DS_OK;
    if (status != DS_OK) drop_slabs(loader);
    return status;
}
