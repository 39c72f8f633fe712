/*
 * A list of ops as all threads of the pool walk it together: woken once for the whole list, and meeting only where an op touches
 * what another has written, or writes what another has touched.
 */
#ifndef DSPARK_CPU_GRAPH_H
#define DSPARK_CPU_GRAPH_H

#include "kernels.h"

/* One op of a list. */
struct ds_cpu_step {
    ds_cpu_kernel kernel;
    const union ds_op_params *params;
    bool wait; /* all threads have finished the steps before */
};

/* Fills steps[0..count) from nodes, whose parameters are borrowed. DS_ERROR_MEMORY. */
ds_status ds_cpu_plan_steps(const struct ds_graph_node *nodes, uint32_t count, const struct ds_cpu_kernels *kernels,
                            struct ds_cpu_step *steps, struct ds_error *err);

#endif
