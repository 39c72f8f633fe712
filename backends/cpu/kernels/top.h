/* What top_linear keeps in scratch, for scratch.c and the kernel. */
#ifndef DSPARK_CPU_TOP_H
#define DSPARK_CPU_TOP_H

#include "host_device.h"

enum { DS_TOP_GROUP = 64 }; /* outputs whose largest key is found first */

static inline uint32_t ds_top_groups(uint32_t outputs) { return (outputs + DS_TOP_GROUP - 1) / DS_TOP_GROUP; }
/* Of every thread: keys and ids of candidates, in front of what `linear` needs. */
static inline uint64_t ds_top_list_bytes(uint32_t outputs) { return DS_ALIGN_UP(2 * sizeof(uint32_t) * (uint64_t)outputs, (uint64_t)DS_ALIGN); }

#endif
