/* What the parts of kernel `linear` share: its operands, and what a run of 256 inputs gives. */
#ifndef DSPARK_GPU_LINEAR_H
#define DSPARK_GPU_LINEAR_H

#include "weights.h"

namespace {

struct linear {
    const uint8_t *weight;
    uint64_t tile_bytes;
    uint32_t outputs, inputs;
    const uint8_t *x; /* rows of x_pitch bytes */
    uint32_t x_pitch;
    uint32_t scale_at, sum_at; /* in a row of x, where it is quantised */
    bool x_aligned;            /* rows of x begin at multiples of 16 bytes */
    struct matrix<float> y;
    const float *bias;                   /* or null */
    struct matrix<const float> residual; /* data null: none */

    /* A row of x; one beyond the last reads the last: its sums are not kept. */
    GPU_FN_MEMBER const uint8_t *row(uint32_t r, uint32_t rows) const { return x + static_cast<size_t>(least(r, rows - 1)) * x_pitch; }
};

/* The operands of `outputs` outputs of a matrix: no bias, and nothing said of the alignment of x. */
GPU_HOST_FN struct linear linear_of(const struct ds_weight &weight, uint32_t outputs, const struct ds_view &x, const struct ds_view &y,
                                    struct matrix<const float> residual) {
    struct linear linear = {at<const uint8_t>(weight.at), ds_gpu_tile_bytes(weight.type, weight.cols), outputs, weight.cols, at<const uint8_t>(x.at),
                            static_cast<uint32_t>(ds_view_pitch(&x)), 0, 0, false, matrix_of<float>(y), nullptr, residual};
    linear.scale_at = ds_q8_scale_offset(x.cols);
    linear.sum_at = x.elem == DS_ELEM_Q8_32 ? ds_q8_32_sum_offset(x.cols) : ds_q8_sum_offset(x.cols);
    return linear;
}

} // namespace

#endif
