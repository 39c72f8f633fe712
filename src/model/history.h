/*
 * What a device knows of sequences beside their caches: their tokens, which penalties look at, and biases of single tokens. Written as it
 * changes, so that a pass reads it as data.
 *
 * Threads: those of the device lock.
 */
#ifndef DSPARK_MODEL_HISTORY_H
#define DSPARK_MODEL_HISTORY_H

#include "ops/device.h"

enum { DS_MOST_BIASES = 1024 }; /* of one sequence */

struct ds_history {
    struct ds_buffer *buffer; /* owned; NULL: there is none */
    struct ds_view tokens;    /* i32 [sequences, positions] */
    struct ds_view bias_ids;  /* i32 [sequences, DS_MOST_BIASES] */
    struct ds_view bias_values; /* f32, likewise */
};

/* On failure *history holds nothing. */
ds_status ds_history_create(struct ds_history *history, struct ds_device *device, uint32_t sequences, uint32_t positions, struct ds_error *err);
void ds_history_free(struct ds_history *history); /* accepts a zeroed struct */

/* tokens[0..n) stand at positions first.. of the sequence. */
ds_status ds_history_write(const struct ds_history *history, struct ds_stream *stream, int32_t sequence, uint32_t first, const int32_t *tokens,
                           uint32_t n, struct ds_error *err);
/* The sequence's first n biases; ids differ from each other. */
ds_status ds_history_write_biases(const struct ds_history *history, struct ds_stream *stream, int32_t sequence, const int32_t *ids,
                                  const float *values, uint32_t n, struct ds_error *err);

#endif
