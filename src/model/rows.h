/*
 * The rows of one pass: which token stands where in which sequence. The graph of a pass is fixed; this is its data, kept
 * in host memory and written to the device in front of each run.
 */
#ifndef DSPARK_MODEL_ROWS_H
#define DSPARK_MODEL_ROWS_H

#include "ops/device.h"

/* Places in one device buffer. All i32 unless noted. */
struct ds_rows {
    uint32_t rows;              /* most rows a pass of this layout can have */
    uint32_t out_rows;          /* most rows that give logits */
    struct ds_slice count;      /* u32: active rows */
    struct ds_slice out_count;  /* u32: active output rows */
    struct ds_slice ids;        /* [rows] token ids */
    struct ds_slice positions;  /* [rows] absolute; -1: padding */
    struct ds_slice sequences;  /* [rows] row of the page table */
    struct ds_slice visible;    /* [rows] positions a row attends to: j < visible */
    struct ds_slice causal;     /* [rows] the same for layers that are causal where others are not (drafters) */
    struct ds_slice out_index;  /* [out_rows] rows that give logits */
    struct ds_slice sample;     /* struct ds_sample_row [out_rows] */
    struct ds_slice adjust;     /* struct ds_adjust_row [out_rows] */
    struct ds_slice flags;      /* u32 [rows], written by the pass */
    struct ds_slice out_tokens; /* [out_rows], written by the pass */
    struct ds_slice out_flags;  /* u32 [out_rows], written by the pass */
    struct ds_slice out_scores; /* f32 [out_rows], written by passes that have a number to tell beside each token (drafters) */
    struct ds_slice out_beside; /* read with all that: what an earlier pass passed on (ds_rows_pass_on) */
    struct ds_slice page_table; /* [sequences_max][pages_per_sequence] */
    uint32_t sequences_max, pages_per_sequence;
};

struct ds_paging ds_rows_paging(const struct ds_rows *rows);

/*
 * The buffer behind a ds_rows and its host copy. `in_*` point into the host copy: fill them, then ds_rows_write. The page
 * table lies apart, because several layouts on one device share it.
 */
struct ds_rows_buffer {
    struct ds_rows at;
    struct ds_device *device;
    struct ds_buffer planned; /* bytes known, not yet real */
    struct ds_buffer *buffer; /* owned; NULL: not allocated */
    uint8_t *host;            /* owned */
    uint64_t host_bytes;      /* the part that is written before a run */
    uint64_t beside_bytes;    /* of out_beside */
    uint64_t flags_bytes;     /* the part that is zeroed before and read after a run, behind the host part */
    uint32_t *in_count, *in_out_count;
    int32_t *in_ids, *in_positions, *in_sequences, *in_visible, *in_causal, *in_out_index;
    struct ds_sample_row *in_sample;
    struct ds_adjust_row *in_adjust; /* read by passes that adjust logits alone */
    uint32_t *out_flags_rows; /* host copies after ds_rows_read */
    int32_t *out_tokens;
    uint32_t *out_flags;
    float *out_scores;
    uint8_t *out_beside;
};

/* Lays out for `rows` and `out_rows`, with `beside` bytes of out_beside; the page table is somebody else's slice. Nothing is allocated on the device yet. */
ds_status ds_rows_plan(struct ds_rows_buffer *buffer, struct ds_device *device, uint32_t rows, uint32_t out_rows,
                       struct ds_slice page_table, uint32_t sequences_max, uint32_t pages_per_sequence, uint64_t beside, struct ds_error *err);
ds_status ds_rows_allocate(struct ds_rows_buffer *buffer, struct ds_slice page_table, struct ds_error *err);
void ds_rows_free(struct ds_rows_buffer *buffer); /* accepts a zeroed struct */

ds_status ds_rows_write(struct ds_rows_buffer *buffer, struct ds_stream *stream, struct ds_error *err);
ds_status ds_rows_read(struct ds_rows_buffer *buffer, struct ds_stream *stream, struct ds_error *err);

/*
 * A pass whose results are wanted together with those of a later one on the same stream: out_tokens, out_flags and out_scores are copied on the
 * device to `to` (ds_rows_results_bytes of it), and taken from there once they have been read.
 */
uint64_t ds_rows_results_bytes(uint32_t out_rows);
ds_status ds_rows_pass_on(const struct ds_rows_buffer *buffer, struct ds_stream *stream, struct ds_slice to, struct ds_error *err);
void ds_rows_take(struct ds_rows_buffer *buffer, const uint8_t *results);

#endif
