/*
 * The weight loader from inside (loader.h), and what its files share.
 *
 *   loader.c        its life: requests and the slabs that they lie in
 *   loader_ask.c    what may be asked for, and how much room it needs
 *   loader_fill.c   from the files into the slabs
 */
#ifndef DSPARK_MODEL_LOADER_INTERNAL_H
#define DSPARK_MODEL_LOADER_INTERNAL_H

#include "model/loader.h"

struct ds_request {
    enum {
        DS_REQUEST_MATRIX,
        DS_REQUEST_ROWS,
        DS_REQUEST_EXPERTS,
        DS_REQUEST_VECTOR,
        DS_REQUEST_CONSTANT,
        DS_REQUEST_SCALAR /* read already */
    } kind;
    const struct ds_ckpt *ckpt;
    const struct ds_ckpt_tensor *tensor; /* NULL: experts, constants */
    float *values;                       /* a constant's: owned */
    uint64_t count;                      /* of a vector, a constant */
    ds_type type;                        /* on the device: a matrix, rows, experts */
    uint32_t rows, cols;                 /* the same */
    int32_t *list;                       /* which rows: owned */
    float scale, shift;                  /* of a vector */
    struct ds_loader_piece *pieces;      /* of experts: owned */
    uint32_t experts, outputs;
    struct ds_slab *slab;
    uint64_t offset, bytes;
    bool shared;                /* another request fills this place */
    struct ds_buffer *imported; /* a packed matrix, used where it lies in the file; owned */
    struct ds_weight *weight;   /* what is filled: one of the two */
    struct ds_slice *slice;
};

/* Weights lie in as few buffers as the device's limit on one allows. */
struct ds_slab {
    struct ds_slab *next;
    struct ds_buffer planned; /* stands in for the buffer until it exists */
    struct ds_buffer *buffer;
};

struct ds_loader {
    struct ds_device *device;
    bool widen;
    struct ds_request *requests;
    size_t count, capacity;
    uint64_t imported; /* bytes of packed weights */
    struct ds_slab *slabs; /* the last one first */
    uint64_t most_bytes;   /* of a buffer */
    uint64_t planned;      /* bytes of all slabs */
    bool placed;
};

/* Appends a request and plans its place, unless it is shared. What it owns stays the caller's on failure. */
ds_status ds_loader_add(struct ds_loader *loader, const struct ds_request *request, struct ds_slice *place, struct ds_error *err);

/* Matrices are written in groups of rows; the other kinds as one run of floats. */
static inline bool ds_request_is_matrix(const struct ds_request *r) {
    return r->kind == DS_REQUEST_MATRIX || r->kind == DS_REQUEST_ROWS || r->kind == DS_REQUEST_EXPERTS;
}

#endif
