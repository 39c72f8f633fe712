#include "model/rows.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct ds_paging ds_rows_paging(const struct ds_rows *rows) {
    return (struct ds_paging){.page_table = rows->page_table,
                              .sequences = rows->sequences_max,
                              .pages_per_sequence = rows->pages_per_sequence,
                              .row_sequence = rows->sequences,
                              .positions = rows->positions};
}

/* Where the next part lies, on the device and in the host copy (NULL until that exists). */
struct cursor {
    struct ds_buffer *device_buffer;
    uint8_t *host;
    uint64_t total;
};

static void *take(struct cursor *cursor, struct ds_slice *slice, uint64_t bytes) {
    *slice = (struct ds_slice){cursor->device_buffer, cursor->total};
    void *host = cursor->host ? cursor->host + cursor->total : NULL;
    cursor->total += DS_ALIGN_UP(bytes, (uint64_t)DS_ALIGN);
    return host;
}

/* One buffer: [written before a run | written before (zeros) and read after it]. */
static void lay_out(struct ds_rows_buffer *b, struct ds_buffer *device_buffer) {
    const uint64_t rows = b->at.rows, out_rows = b->at.out_rows;
    struct cursor cursor = {device_buffer, b->host, 0};
    b->in_count = take(&cursor, &b->at.count, 4);
    b->in_out_count = take(&cursor, &b->at.out_count, 4);
    b->in_ids = take(&cursor, &b->at.ids, 4 * rows);
    b->in_positions = take(&cursor, &b->at.positions, 4 * rows);
    b->in_sequences = take(&cursor, &b->at.sequences, 4 * rows);
    b->in_visible = take(&cursor, &b->at.visible, 4 * rows);
    b->in_causal = take(&cursor, &b->at.causal, 4 * rows);
    b->in_out_index = take(&cursor, &b->at.out_index, 4 * out_rows);
    b->in_sample = take(&cursor, &b->at.sample, sizeof(struct ds_sample_row) * out_rows);
    b->in_adjust = take(&cursor, &b->at.adjust, sizeof(struct ds_adjust_row) * out_rows);
    b->out_flags_rows = take(&cursor, &b->at.flags, 4 * rows);
    b->out_tokens = take(&cursor, &b->at.out_tokens, 4 * out_rows);
    b->out_flags = take(&cursor, &b->at.out_flags, 4 * out_rows);
    b->out_scores = take(&cursor, &b->at.out_scores, 4 * out_rows);
    b->out_beside = take(&cursor, &b->at.out_beside, b->beside_bytes);
    b->planned.bytes = b->host_bytes = cursor.total;
    b->flags_bytes = cursor.total - b->at.flags.offset;
}

ds_status ds_rows_plan(struct ds_rows_buffer *b, struct ds_device *device, uint32_t rows, uint32_t out_rows, struct ds_slice page_table,
                       uint32_t sequences_max, uint32_t pages_per_sequence, uint64_t beside, struct ds_error *err) {
    *b = (struct ds_rows_buffer){.device = device, .beside_bytes = beside};
    b->at = (struct ds_rows){.rows = rows, .out_rows = out_rows, .page_table = page_table, .sequences_max = sequences_max,
                             .pages_per_sequence = pages_per_sequence};
    lay_out(b, &b->planned);
    b->host = calloc(1, (size_t)b->planned.bytes);
    if (!b->host) return ds_fail_memory(err, (size_t)b->planned.bytes, "the rows of a pass");
    lay_out(b, &b->planned);
    return DS_OK;
}

ds_status ds_rows_allocate(struct ds_rows_buffer *b, struct ds_slice page_table, struct ds_error *err) {
    assert(!b->buffer);
    DS_TRY(b->device->fns->buffer_create(b->device, b->planned.bytes, &b->buffer, err));
    b->at.page_table = page_table;
    lay_out(b, b->buffer);
    return DS_OK;
}

void ds_rows_free(struct ds_rows_buffer *b) {
    ds_buffer_drop(&b->buffer);
    free(b->host);
    *b = (struct ds_rows_buffer){0};
}

ds_status ds_rows_write(struct ds_rows_buffer *b, struct ds_stream *stream, struct ds_error *err) {
    memset(b->host + b->at.flags.offset, 0, (size_t)b->flags_bytes);
    return b->device->fns->write(stream, (struct ds_slice){b->buffer, 0}, b->host, b->host_bytes, err);
}

ds_status ds_rows_read(struct ds_rows_buffer *b, struct ds_stream *stream, struct ds_error *err) {
    return b->device->fns->read(stream, b->at.flags, b->host + b->at.flags.offset, b->flags_bytes, err);
}

/* The three lie side by side. */
uint64_t ds_rows_results_bytes(uint32_t out_rows) { return 3 * DS_ALIGN_UP(4 * (uint64_t)out_rows, (uint64_t)DS_ALIGN); }

ds_status ds_rows_pass_on(const struct ds_rows_buffer *b, struct ds_stream *stream, struct ds_slice to, struct ds_error *err) {
    return b->device->fns->copy(stream, to, b->at.out_tokens, ds_rows_results_bytes(b->at.out_rows), err);
}

void ds_rows_take(struct ds_rows_buffer *b, const uint8_t *results) {
    memcpy(b->host + b->at.out_tokens.offset, results, (size_t)ds_rows_results_bytes(b->at.out_rows));
}
