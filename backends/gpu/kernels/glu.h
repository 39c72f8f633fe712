/* The gate's activation. */
#ifndef DSPARK_GPU_GLU_H
#define DSPARK_GPU_GLU_H

#include "common.h"

namespace {

template <ds_activation ACTIVATION> GPU_FN float opened(float x) {
    return ACTIVATION == DS_ACT_SILU ? ds_silu(x) : ACTIVATION == DS_ACT_GELU_TANH ? ds_gelu(x) : ds_sigmoid(x);
}

} // namespace

#endif
