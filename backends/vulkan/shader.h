/*
 * What the host side and the shaders of backends/vulkan know of each other. For C, and for GLSL after ops/numerics.h.
 *
 * shaders/NAME.comp is compiled by compile.py into `ds_vk_code_NAME`, in as many variants as its first line asks for. Its arguments
 * are a struct of shaders/NAME.h, which both sides include: addresses first, then words, at most 128 bytes.
 */
#ifndef DSPARK_VULKAN_SHADER_H
#define DSPARK_VULKAN_SHADER_H

#if defined(DS_NUM_GLSL)
#define ds_address uvec2
#else
#include <stdint.h>
typedef uint64_t ds_address; /* ds_vk_at says what is in it */

enum {
    DS_VK_ADDRESS = 1, /* operands by their addresses, else by descriptors */
    DS_VK_HALF = 2,    /* 16-bit storage, else halves of words */
    DS_VK_DOT = 4,     /* packed integer dot products, else by unpacking */
    DS_VK_VARIANTS = 8
};

struct ds_vk_code {
    const char *name;
    const uint32_t *words[DS_VK_VARIANTS]; /* by the device's variant */
    uint32_t bytes[DS_VK_VARIANTS];
};
#endif

#endif
