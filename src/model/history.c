#include "model/history.h"

#include "graph/graph.h"

static struct ds_view take(struct ds_buffer *buffer, uint64_t *at, ds_elem elem, uint32_t rows, uint32_t cols) {
    const struct ds_view view = ds_view_of((struct ds_slice){buffer, *at}, elem, rows, cols);
    *at += DS_ALIGN_UP(ds_view_bytes(&view), (uint64_t)DS_ALIGN);
    return view;
}

static uint64_t lay_out(struct ds_history *h, struct ds_buffer *buffer, uint32_t sequences, uint32_t positions) {
    uint64_t bytes = 0;
    h->tokens = take(buffer, &bytes, DS_ELEM_I32, sequences, positions);
    h->bias_ids = take(buffer, &bytes, DS_ELEM_I32, sequences, DS_MOST_BIASES);
    h->bias_values = take(buffer, &bytes, DS_ELEM_F32, sequences, DS_MOST_BIASES);
    return bytes;
}

ds_status ds_history_create(struct ds_history *h, struct ds_device *device, uint32_t sequences, uint32_t positions, struct ds_error *err) {
    *h = (struct ds_history){0};
    const uint64_t bytes = lay_out(h, NULL, sequences, positions);
    const ds_status status = device->fns->buffer_create(device, bytes, &h->buffer, err);
    if (status != DS_OK) *h = (struct ds_history){0};
    else lay_out(h, h->buffer, sequences, positions);
    return status;
}

void ds_history_free(struct ds_history *h) {
    ds_buffer_drop(&h->buffer);
    *h = (struct ds_history){0};
}

static ds_status write(const struct ds_view *view, struct ds_stream *stream, int32_t row, uint32_t first, const void *from, uint32_t n,
                       struct ds_error *err) {
    const struct ds_slice to = ds_slice_add(view->at, 4 * ((uint64_t)(uint32_t)row * view->stride + first));
    return n ? view->at.buffer->device->fns->write(stream, to, from, 4 * (uint64_t)n, err) : DS_OK;
}

ds_status ds_history_write(const struct ds_history *h, struct ds_stream *stream, int32_t sequence, uint32_t first, const int32_t *tokens,
                           uint32_t n, struct ds_error *err) {
    return write(&h->tokens, stream, sequence, first, tokens, n, err);
}

ds_status ds_history_write_biases(const struct ds_history *h, struct ds_stream *stream, int32_t sequence, const int32_t *ids,
                                  const float *values, uint32_t n, struct ds_error *err) {
    DS_TRY(write(&h->bias_ids, stream, sequence, 0, ids, n, err));
    return write(&h->bias_values, stream, sequence, 0, values, n, err);
}
