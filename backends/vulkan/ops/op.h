/* What every file in ops/ starts from: arguments for a shader from an op's parameters. */
#ifndef DSPARK_VULKAN_OP_H
#define DSPARK_VULKAN_OP_H

#include "../device.h"

enum { DS_VK_THREADS = 128 }; /* local_size_x of shaders with a thread a value */

static inline uint32_t ds_vk_blocks(uint64_t values, uint32_t each) { return (uint32_t)((values + each - 1) / each); }

/* One dispatch of shader NAME, whose arguments are `args`; constants follow. */
#define DS_VK_RUN(recorder, NAME, args_, x, y, z, err, ...)                                                                \
    ds_vk_dispatch(recorder, &(struct ds_vk_dispatch){.code = &ds_vk_code_##NAME, .args = &(args_), .bytes = sizeof(args_), \
                                                      .groups = {x, y, z}, .constants = {__VA_ARGS__}}, err)

#endif
