/* The loader's requests, and the slabs that they lie in. */
#include "model/loader_internal.h"

#include <stdlib.h>

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
    for (struct ds_slab *slab = loader->slabs; slab;) {
        struct ds_slab *const next = slab->next;
        ds_buffer_drop(&slab->buffer);
        free(slab);
        slab = next;
    }
    free(loader);
}

uint64_t ds_loader_bytes(const struct ds_loader *loader) { return loader->planned + loader->imported; }

/* --- requests --- */

/* Where the next weight goes; a new slab where the last one would grow beyond what a buffer may have. */
static ds_status plan_place(struct ds_loader *loader, struct ds_request *r, struct ds_error *err) {
    const uint64_t bytes = DS_ALIGN_UP(r->bytes, (uint64_t)DS_ALIGN);
    struct ds_slab *slab = loader->slabs;
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

ds_status ds_loader_add(struct ds_loader *loader, const struct ds_request *request, struct ds_slice *place, struct ds_error *err) {
    if (loader->count == loader->capacity) {
        const size_t capacity = loader->capacity ? 2 * loader->capacity : 64;
        struct ds_request *grown = realloc(loader->requests, capacity * sizeof *grown);
        if (!grown) return ds_fail_memory(err, capacity * sizeof *grown, "the list of weights");
        loader->requests = grown;
        loader->capacity = capacity;
    }
    struct ds_request *r = &loader->requests[loader->count];
    *r = *request;
    if (!r->shared) DS_TRY(plan_place(loader, r, err));
    *place = (struct ds_slice){r->slab ? &r->slab->planned : NULL, r->offset};
    loader->count++;
    return DS_OK;
}

static void mark_used(const struct ds_request *r, const struct ds_ckpt_tensor *first, bool *used) {
    if (r->kind != DS_REQUEST_EXPERTS) {
        used[r->tensor - first] = true;
        return;
    }
    for (uint32_t e = 0; e < r->experts; e++) used[r->pieces[e].tensor - first] = true;
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

/* --- slabs --- */

/* Places are those in the buffers, or where there are none those in the plan. */
static void point_at_slabs(struct ds_loader *loader) {
    for (size_t i = 0; i < loader->count; i++) {
        struct ds_request *r = &loader->requests[i];
        if (r->imported || r->kind == DS_REQUEST_SCALAR) continue;
        struct ds_buffer *const buffer = r->slab->buffer ? r->slab->buffer : &r->slab->planned;
        if (ds_request_is_matrix(r)) r->weight->at.buffer = buffer;
        else r->slice->buffer = buffer;
    }
}

static void drop_slabs(struct ds_loader *loader) {
    for (struct ds_slab *slab = loader->slabs; slab; slab = slab->next) ds_buffer_drop(&slab->buffer);
    point_at_slabs(loader);
}

ds_status ds_loader_allocate(struct ds_loader *loader, struct ds_error *err) {
    ds_status status = DS_OK;
    for (struct ds_slab *slab = loader->slabs; slab && status == DS_OK; slab = slab->next)
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
