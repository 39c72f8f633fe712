/*
 * Weights on their way from a checkpoint to a device: first all are asked for (which plans memory), then slabs, as
 * few as the device's largest buffer allows, are allocated and filled, tensor by tensor, each one's file pages released when it has been copied.
 *
 * Requests keep pointers to the ds_weight or ds_slice they fill: these must stay where they are until ds_loader_finish.
 */
#ifndef DSPARK_MODEL_LOADER_H
#define DSPARK_MODEL_LOADER_H

#include "ckpt/checkpoint.h"
#include "ops/device.h"

struct ds_loader;

/* `widen`: matrices become f32 whatever they are stored as. *out is NULL on failure. */
ds_status ds_loader_create(struct ds_device *device, bool widen, struct ds_loader **out, struct ds_error *err);
void ds_loader_destroy(struct ds_loader *loader); /* gives the slab back, too; accepts NULL */

/*
 * A matrix [rows, cols] for embed and linear. Its place is planned at once (buffer of the plan, not yet real). A second
 * request for the same tensor, or for one of equal type, shape and bytes in another checkpoint, shares the first one's
 * place: a tied head and a drafter's copies of the target's embedding cost nothing. A packed one is used where it lies in the file, so that
 * the checkpoint must outlive the loader; DS_ERROR_UNSUPPORTED where its layout is not this device's.
 */
ds_status ds_loader_matrix(struct ds_loader *loader, const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor,
                           struct ds_weight *out, struct ds_error *err);
/*
 * Some rows of a matrix, in the order of `list` [n] (copied): row i is the tensor's row list[i], which the caller has checked.
 * DS_ERROR_UNSUPPORTED for a packed tensor, whose rows do not lie alone.
 */
ds_status ds_loader_rows(struct ds_loader *loader, const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor, const int32_t *list, uint32_t n,
                         struct ds_weight *out, struct ds_error *err);
/* A vector, widened to f32. */
ds_status ds_loader_vector(struct ds_loader *loader, const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor,
                           struct ds_slice *out, struct ds_error *err);
/* The same with every element x replaced by x * scale + offset. */
ds_status ds_loader_vector_affine(struct ds_loader *loader, const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor, float scale,
                                  float offset, struct ds_slice *out, struct ds_error *err);
/* The value of a tensor of one element, at once: for parameters of a graph. */
ds_status ds_loader_scalar(struct ds_loader *loader, const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor, float *out,
                           struct ds_error *err);
/*
 * The matrices of all experts as one (ds_op_expert_linear): piece e is expert e's, rows [first_row, first_row + outputs) of its tensor
 * seen as a matrix of `cols` columns, which the caller has checked. All of one type.
 */
struct ds_loader_piece {
    const struct ds_ckpt_tensor *tensor;
    uint64_t first_row;
};
ds_status ds_loader_experts(struct ds_loader *loader, const struct ds_ckpt *ckpt, const struct ds_loader_piece *pieces, uint32_t experts,
                            uint32_t outputs, uint32_t cols, struct ds_weight *out, struct ds_error *err);
/* Numbers that we made (rope tables): copied now into the loader. */
ds_status ds_loader_constant(struct ds_loader *loader, const float *values, uint64_t count, struct ds_slice *out, struct ds_error *err);

/* A tensor that nobody needs to ask for although it is in the file. */
typedef bool (*ds_loader_spare_fn)(const char *name);
/* The first tensor of the checkpoint that none of `loaders` [n] was asked for and that is not spare, or NULL; DS_ERROR_MEMORY when there is no room to look. */
ds_status ds_loader_find_unused(struct ds_loader *const *loaders, uint32_t n, const struct ds_ckpt *ckpt, ds_loader_spare_fn spare,
                                const struct ds_ckpt_tensor **out, struct ds_error *err);

uint64_t ds_loader_bytes(const struct ds_loader *loader); /* of the slab, and of packed weights in their files */

/* Makes every request's place real, and leaves it unwritten. On failure the plan stands and it may be called again. */
ds_status ds_loader_allocate(struct ds_loader *loader, struct ds_error *err);
void ds_loader_release(struct ds_loader *loader); /* back to what was planned; accepts NULL */
/* Allocates what is not allocated yet, and fills it. On failure the plan stands and it may be called again. */
ds_status ds_loader_finish(struct ds_loader *loader, struct ds_stream *stream, ds_progress_fn progress, void *user,
                           struct ds_error *err);

#endif
