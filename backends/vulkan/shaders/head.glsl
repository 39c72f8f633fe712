/* Extensions, then the contract's functions. */
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference_uvec2 : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#ifdef DS_HALF
#extension GL_EXT_shader_16bit_storage : require
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : require
#endif
#ifdef DS_DOT
#extension GL_EXT_spirv_intrinsics : require
#endif
#define DS_NUM_GLSL
#include "ops/numerics.h"
#include "shader.h"
