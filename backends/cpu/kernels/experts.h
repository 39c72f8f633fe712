/* Memory that expert_linear needs of each thread; laid out by expert_linear.c. */
#ifndef DSPARK_CPU_EXPERTS_H
#define DSPARK_CPU_EXPERTS_H

#include "host_device.h"

enum { DS_EXPERT_ROWS = 64 }; /* rows of one expert at a time */

/* [starts: experts + 1][pairs: rows * slots], then activations and results of DS_EXPERT_ROWS rows, each aligned. */
static inline uint64_t ds_expert_lists_bytes(const struct ds_op_expert_linear *p) {
    return DS_ALIGN_UP(sizeof(uint32_t) * (p->experts + 1 + (uint64_t)p->ids.rows * p->ids.cols), (uint64_t)DS_ALIGN);
}
static inline uint64_t ds_expert_row_bytes(const struct ds_op_expert_linear *p) {
    if (ds_elem_is_q8(p->x.elem)) return ds_view_pitch(&p->x);
    return DS_ALIGN_UP((uint64_t)p->x.cols * (p->x.elem == DS_ELEM_BF16 ? 2 : 4), (uint64_t)DS_ALIGN);
}
static inline uint64_t ds_expert_bytes(const struct ds_op_expert_linear *p) {
    return ds_expert_lists_bytes(p) + DS_EXPERT_ROWS * (ds_expert_row_bytes(p) + sizeof(float) * (uint64_t)ds_expert_rows(p->outputs));
}

#endif
