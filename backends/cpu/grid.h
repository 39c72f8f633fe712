/*
 * How the ops that work row by row cut a row among threads: into `units` of `width` columns, of which unit u of row r is number
 * r * units + u among those that ds_cpu_share shares out. Two ops with the same grid touch the same columns of a view with the same
 * thread, so that no thread has to wait for another between them (graph.c). Kernels and planner take the grid from here; it does
 * not depend on the number of active rows, which such ops have in common.
 */
#ifndef DSPARK_CPU_GRID_H
#define DSPARK_CPU_GRID_H

#include "ops/ops.h"

struct ds_cpu_grid {
    uint32_t rows, units, width; /* units 0: the op has no grid */
};

static inline struct ds_cpu_grid ds_cpu_grid_of_runs(const struct ds_view *view) {
    return (struct ds_cpu_grid){view->rows, (view->cols + DS_RUN - 1) / DS_RUN, DS_RUN};
}

static inline struct ds_cpu_grid ds_cpu_grid_of_groups(const struct ds_view *view, uint32_t width) {
    return (struct ds_cpu_grid){view->rows, view->cols / width, width};
}

/* A row that is one group is cut into runs, and each thread sums up all of it, unless the sum would meet what another has written. */
static inline bool ds_cpu_norm_by_runs(const struct ds_op_rms_norm *p) {
    const bool in_place = p->x.at.buffer == p->out.at.buffer && p->x.at.offset == p->out.at.offset;
    return p->dim == p->x.cols && p->dim > DS_RUN && !in_place;
}

static inline struct ds_cpu_grid ds_cpu_norm_grid(const struct ds_op_rms_norm *p) {
    return ds_cpu_norm_by_runs(p) ? ds_cpu_grid_of_runs(&p->x) : ds_cpu_grid_of_groups(&p->x, p->dim);
}

/* A thread's units of the active rows: number .. end - 1. */
static inline uint32_t ds_cpu_grid_row(struct ds_cpu_grid grid, uint64_t number) { return (uint32_t)(number / grid.units); }
static inline uint32_t ds_cpu_grid_column(struct ds_cpu_grid grid, uint64_t number) { return (uint32_t)(number % grid.units) * grid.width; }

#endif
