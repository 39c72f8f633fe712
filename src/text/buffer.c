#include "text/buffer.h"

#include <stdlib.h>
#include <string.h>

ds_status ds_buffer_reserve(struct ds_buffer *buffer, size_t more, struct ds_error *err) {
    if (more <= buffer->capacity - buffer->length) return DS_OK;
    if (more > SIZE_MAX / 4 - buffer->length) return ds_fail_memory(err, more, "text");
    const size_t capacity = DS_MAX(buffer->capacity + buffer->capacity / 2, buffer->length + more);
    char *grown = realloc(buffer->data, capacity);
    if (!grown) return ds_fail_memory(err, capacity, "text");
    buffer->data = grown;
    buffer->capacity = capacity;
    return DS_OK;
}

ds_status ds_buffer_append(struct ds_buffer *buffer, const char *data, size_t length, struct ds_error *err) {
    DS_TRY(ds_buffer_reserve(buffer, length, err));
    if (length) memcpy(buffer->data + buffer->length, data, length);
    buffer->length += length;
    return DS_OK;
}
