/* What may be asked of the loader, and how much room it needs. */
#include "model/loader_internal.h"

#include <stdlib.h>
#include <string.h>

/* Weights are floating-point numbers or blocks of them; only those can be widened. */
static ds_status require_numbers(const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor, struct ds_error *err) {
    if (tensor->type != DS_TYPE_I32 && tensor->type != DS_TYPE_I64) return DS_OK;
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor '%s' holds integers (%s); expected weights", ds_ckpt_path(ckpt), tensor->name,
                   ds_type_get(tensor->type)->name);
}

/* Only whole matrices are used as device `cpu` packs them. */
static ds_status require_rows(const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor, const char *expected, struct ds_error *err) {
    if (!tensor->packed) return DS_OK;
    return ds_fail(err, DS_ERROR_FORMAT, "%s: tensor '%s': expected %s, found a packed matrix", ds_ckpt_path(ckpt), tensor->name, expected);
}

/* --- matrices --- */

/* Within a checkpoint only the very same tensor is shared: its tensors are not searched for twins. */
static bool same_content(const struct ds_request *r, const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor) {
    if (r->kind != DS_REQUEST_MATRIX || r->shared || r->imported) return false;
    if (r->ckpt == ckpt) return r->tensor == tensor;
    return r->tensor->type == tensor->type && r->tensor->packed == tensor->packed && r->tensor->bytes == tensor->bytes &&
           memcmp(r->tensor->shape, tensor->shape, sizeof tensor->shape) == 0 &&
           memcmp(r->tensor->data, tensor->data, tensor->bytes) == 0;
}

static const struct ds_request *find_twin(const struct ds_loader *loader, const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor) {
    for (size_t i = 0; i < loader->count; i++)
        if (same_content(&loader->requests[i], ckpt, tensor)) return &loader->requests[i];
    return NULL;
}

/* The checkpoint's packed weights are this device's, and `loader` takes them as they are. */
static ds_status require_layout(const struct ds_loader *loader, const struct ds_request *r, struct ds_error *err) {
    const struct ds_device_fns *fns = loader->device->fns;
    const char *path = ds_ckpt_path(r->ckpt);
    const struct ds_ckpt_layout *have = ds_ckpt_get_layout(r->ckpt);
    const struct ds_ckpt_tensor *tensor = r->tensor;
    if (loader->widen)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: packed weights cannot be widened; use the file that this one was made from", path);
    struct ds_device_limits limits;
    fns->limits(loader->device, &limits);
    if (!fns->weight_layout || strcmp(fns->weight_layout->name, have->name) != 0)
        return ds_fail(err, DS_ERROR_UNSUPPORTED,
                       "%s: weights are packed for device '%s', which device '%s' cannot read; use the file that this one was made from", path,
                       have->name, limits.name);
    if (fns->weight_layout->version != have->version)
        return ds_fail(err, DS_ERROR_UNSUPPORTED,
                       "%s: weights are packed in version %u of the layout of device '%s'; this program reads version %u: convert the original once more",
                       path, have->version, have->name, fns->weight_layout->version);
    if (tensor->bytes == r->bytes && (uintptr_t)tensor->data % DS_ALIGN == 0) return DS_OK;
    return ds_fail(err, DS_ERROR_FORMAT, "%s: tensor '%s' (%s [%u, %u], packed): expected %llu bytes at a multiple of %d in the file, found %llu at %llu",
                   path, tensor->name, ds_type_get(tensor->type)->name, r->rows, r->cols, (unsigned long long)r->bytes, DS_ALIGN,
                   (unsigned long long)tensor->bytes, (unsigned long long)tensor->offset);
}

/* A matrix that lies in the file as the device wants it: nothing is planned, read or copied. */
static ds_status import_matrix(struct ds_loader *loader, struct ds_request *r, struct ds_weight *out, struct ds_error *err) {
    const struct ds_ckpt_tensor *tensor = r->tensor;
    DS_TRY(require_layout(loader, r, err));
    DS_TRY(loader->device->fns->buffer_import(loader->device, tensor->data, tensor->bytes, &r->imported, err));
    *out = (struct ds_weight){.at = {.buffer = r->imported}, .type = r->type, .rows = r->rows, .cols = r->cols};
    struct ds_slice unused;
    r->bytes = 0;
    const ds_status status = ds_loader_add(loader, r, &unused, err);
    if (status == DS_OK) loader->imported += tensor->bytes;
    else loader->device->fns->buffer_destroy(r->imported);
    return status;
}

ds_status ds_loader_matrix(struct ds_loader *loader, const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor,
                           struct ds_weight *out, struct ds_error *err) {
    if (tensor->dims < 1 || tensor->dims > 2 || tensor->shape[0] > UINT32_MAX || tensor->shape[1] > UINT32_MAX)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor '%s' is not a matrix of at most 2^32 rows and columns",
                       ds_ckpt_path(ckpt), tensor->name);
    DS_TRY(require_numbers(ckpt, tensor, err));
    /* A matrix of one row may be stored as a vector (GGUF drops outer dimensions of 1). */
    const uint32_t rows = tensor->dims == 2 ? (uint32_t)tensor->shape[0] : 1, cols = (uint32_t)tensor->shape[tensor->dims - 1];
    struct ds_request r = {.kind = DS_REQUEST_MATRIX, .ckpt = ckpt, .tensor = tensor, .weight = out, .rows = rows, .cols = cols};
    r.type = loader->widen ? DS_TYPE_F32 : tensor->type;
    r.bytes = loader->device->fns->weight_bytes(loader->device, r.type, rows, cols);
    if (!r.bytes)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor '%s' (%s [%u, %u]) cannot be run on this device", ds_ckpt_path(ckpt),
                       tensor->name, ds_type_get(tensor->type)->name, rows, cols);
    if (tensor->packed) return import_matrix(loader, &r, out, err);
    const struct ds_request *twin = find_twin(loader, ckpt, tensor);
    if (twin) {
        r.shared = true;
        r.slab = twin->slab;
        r.offset = twin->offset;
    }
    *out = (struct ds_weight){.type = r.type, .rows = rows, .cols = cols};
    return ds_loader_add(loader, &r, &out->at, err);
}

ds_status ds_loader_rows(struct ds_loader *loader, const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor, const int32_t *list, uint32_t n,
                         struct ds_weight *out, struct ds_error *err) {
    DS_TRY(require_numbers(ckpt, tensor, err));
    if (tensor->packed || tensor->dims != 2 || tensor->shape[1] > UINT32_MAX)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor '%s': single rows are wanted, which %s does not have", ds_ckpt_path(ckpt), tensor->name,
                       tensor->packed ? "a packed matrix" : "what is no matrix");
    struct ds_request r = {.kind = DS_REQUEST_ROWS, .ckpt = ckpt, .tensor = tensor, .weight = out, .rows = n, .cols = (uint32_t)tensor->shape[1]};
    r.type = loader->widen ? DS_TYPE_F32 : tensor->type;
    r.bytes = loader->device->fns->weight_bytes(loader->device, r.type, n, r.cols);
    if (!r.bytes)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: %u rows of tensor '%s' (%s, %u columns) cannot be run on this device", ds_ckpt_path(ckpt), n, tensor->name,
                       ds_type_get(tensor->type)->name, r.cols);
    r.list = malloc(n * sizeof *r.list);
    if (!r.list) return ds_fail_memory(err, n * sizeof *r.list, "a list of rows");
    memcpy(r.list, list, n * sizeof *r.list);
    *out = (struct ds_weight){.type = r.type, .rows = n, .cols = r.cols};
    const ds_status status = ds_loader_add(loader, &r, &out->at, err);
    if (status != DS_OK) free(r.list);
    return status;
}

static ds_status require_alike(const struct ds_ckpt *ckpt, const struct ds_loader_piece *pieces, uint32_t experts, struct ds_error *err) {
    const struct ds_ckpt_tensor *first = pieces[0].tensor;
    for (uint32_t e = 0; e < experts; e++) {
        const struct ds_ckpt_tensor *tensor = pieces[e].tensor;
        DS_TRY(require_rows(ckpt, tensor, "rows of experts", err));
        DS_TRY(require_numbers(ckpt, tensor, err));
        if (tensor->type != first->type)
            return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor '%s' is %s, '%s' %s; the experts of a layer must have one type",
                           ds_ckpt_path(ckpt), first->name, ds_type_get(first->type)->name, tensor->name, ds_type_get(tensor->type)->name);
    }
    return DS_OK;
}

ds_status ds_loader_experts(struct ds_loader *loader, const struct ds_ckpt *ckpt, const struct ds_loader_piece *pieces, uint32_t experts,
                            uint32_t outputs, uint32_t cols, struct ds_weight *out, struct ds_error *err) {
    const ds_type stored = pieces[0].tensor->type;
    DS_TRY(require_alike(ckpt, pieces, experts, err));
    const uint64_t rows = (uint64_t)experts * ds_expert_rows(outputs);
    struct ds_request r = {.kind = DS_REQUEST_EXPERTS, .ckpt = ckpt, .weight = out, .rows = (uint32_t)rows, .cols = cols, .experts = experts, .outputs = outputs};
    r.type = loader->widen ? DS_TYPE_F32 : stored;
    r.bytes = rows <= UINT32_MAX ? loader->device->fns->weight_bytes(loader->device, r.type, r.rows, cols) : 0;
    if (!r.bytes)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor '%s' and its like (%u experts, %s [%u, %u]) cannot be run on this device",
                       ds_ckpt_path(ckpt), pieces[0].tensor->name, experts, ds_type_get(stored)->name, outputs, cols);
    r.pieces = malloc(experts * sizeof *r.pieces);
    if (!r.pieces) return ds_fail_memory(err, experts * sizeof *r.pieces, "the list of experts");
    memcpy(r.pieces, pieces, experts * sizeof *r.pieces);
    *out = (struct ds_weight){.type = r.type, .rows = r.rows, .cols = cols};
    const ds_status status = ds_loader_add(loader, &r, &out->at, err);
    if (status != DS_OK) free(r.pieces);
    return status;
}

/* --- the rest --- */

ds_status ds_loader_scalar(struct ds_loader *loader, const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor, float *out,
                           struct ds_error *err) {
    DS_TRY(require_rows(ckpt, tensor, "one float", err));
    DS_TRY(require_numbers(ckpt, tensor, err));
    if (ds_type_get(tensor->type)->block != 1)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor '%s' is %s; expected one float", ds_ckpt_path(ckpt), tensor->name, ds_type_get(tensor->type)->name);
    ds_dequantize_row(tensor->type, tensor->data, 1, out);
    struct ds_slice place;
    return ds_loader_add(loader, &(struct ds_request){.kind = DS_REQUEST_SCALAR, .ckpt = ckpt, .tensor = tensor, .shared = true}, &place, err);
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
    const struct ds_request r = {.kind = DS_REQUEST_VECTOR, .ckpt = ckpt, .tensor = tensor, .count = count, .bytes = 4 * count, .scale = scale, .shift = offset,
                              .slice = out};
    return ds_loader_add(loader, &r, out, err);
}

ds_status ds_loader_constant(struct ds_loader *loader, const float *values, uint64_t count, struct ds_slice *out, struct ds_error *err) {
    struct ds_request r = {.kind = DS_REQUEST_CONSTANT, .count = count, .bytes = 4 * count, .slice = out};
    r.values = malloc((size_t)DS_MAX(r.bytes, 1));
    if (!r.values) return ds_fail_memory(err, (size_t)r.bytes, "a table");
    memcpy(r.values, values, (size_t)r.bytes);
    const ds_status status = ds_loader_add(loader, &r, out, err);
    if (status != DS_OK) free(r.values);
    return status;
}
