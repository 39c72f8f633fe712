/* A growing buffer of bytes. */
#ifndef DSPARK_TEXT_BUFFER_H
#define DSPARK_TEXT_BUFFER_H

#include "base/status.h"

/* Zero it to start; free `data` with free(). */
struct ds_buffer {
    char *data;
    size_t length, capacity;
};

/* Room for `more` bytes behind `length`. */
ds_status ds_buffer_reserve(struct ds_buffer *buffer, size_t more, struct ds_error *err);
ds_status ds_buffer_append(struct ds_buffer *buffer, const char *data, size_t length, struct ds_error *err);

#endif
