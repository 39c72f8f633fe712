/* Appending to a struct ds_ids. */
#ifndef DSPARK_TEXT_IDS_H
#define DSPARK_TEXT_IDS_H

#include "text/tokenizer.h"

#include <stdlib.h>

static inline ds_status ds_ids_reserve(struct ds_ids *ids, size_t more, struct ds_error *err) {
    if (more <= ids->capacity - ids->count) return DS_OK;
    if (more > SIZE_MAX / 16 - ids->count) return ds_fail_memory(err, more, "token ids");
    const size_t capacity = DS_MAX(ids->capacity * 2, ids->count + more);
    int32_t *grown = realloc(ids->ids, capacity * sizeof *grown);
    if (!grown) return ds_fail_memory(err, capacity * sizeof *grown, "token ids");
    ids->ids = grown;
    ids->capacity = capacity;
    return DS_OK;
}

static inline ds_status ds_ids_push(struct ds_ids *ids, int32_t id, struct ds_error *err) {
    DS_TRY(ds_ids_reserve(ids, 1, err));
    ids->ids[ids->count++] = id;
    return DS_OK;
}

#endif
