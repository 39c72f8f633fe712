/* How long ops take on a device. */
#ifndef DSPARK_ENGINE_OP_TIMES_H
#define DSPARK_ENGINE_OP_TIMES_H

#include "ops/device.h"

enum { DS_OPS_TIMED = DS_DEVICE_MARKS - 1 }; /* at once */

/*
 * Runs up to DS_OPS_TIMED nodes one after the other on a stream that nobody else uses and gives the seconds of each: by the device's clock where it has
 * one, so that submissions and waits are no part of them, else by the host's, which waits for each.
 */
ds_status ds_time_ops(struct ds_stream *stream, const struct ds_device *device, const struct ds_graph_node *nodes, uint32_t n,
                      double seconds[DS_OPS_TIMED], struct ds_error *err);

#endif
