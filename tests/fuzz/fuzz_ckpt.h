/* What the two fuzz targets of checkpoints share: a file that opens must be usable in all its parts. */
#ifndef DSPARK_TESTS_FUZZ_CKPT_H
#define DSPARK_TESTS_FUZZ_CKPT_H

#include "ckpt/ckpt_internal.h"

#include <stdlib.h>

static volatile uint64_t fuzz_sink; /* keeps reads that nothing else uses */

/* Touches a tensor's ends and widens its first row. */
static void fuzz_tensor(const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor) {
    if (ds_ckpt_find(ckpt, tensor->name) != tensor) abort();
    fuzz_sink += tensor->data[0] + tensor->data[tensor->bytes - 1];
    if (tensor->type == DS_TYPE_I32 || tensor->type == DS_TYPE_I64) return;
    const uint64_t cols = tensor->dims > 0 ? tensor->shape[tensor->dims - 1] : 1;
    if (cols > SIZE_MAX / sizeof(float)) return;
    float *row = malloc((size_t)cols * sizeof *row);
    if (row) ds_dequantize_row(tensor->type, tensor->data, cols, row);
    free(row);
}

static void fuzz_value(const struct ds_ckpt *ckpt, const struct ds_value *value) {
    struct ds_error err;
    int64_t integer;
    double real;
    const char *string;
    const int64_t *integers;
    size_t count;
    if (ds_ckpt_value(ckpt, value->key) != value) abort();
    (void)ds_ckpt_int(ckpt, value->key, -1, 1, &integer, &err);
    (void)ds_ckpt_real(ckpt, value->key, 0.0, 1.0, &real, &err);
    (void)ds_ckpt_string(ckpt, value->key, &string, &err);
    (void)ds_ckpt_ints(ckpt, value->key, 0, 8, 0, 9, &integers, &count, &err);
    if (value->kind != DS_VALUE_ARRAY || value->element != DS_VALUE_STRING) return;
    const struct ds_text *texts = value->array;
    for (size_t i = 0; i < value->length; i++) {
        if (texts[i].length > 0) fuzz_sink += (uint8_t)texts[i].data[0] + (uint8_t)texts[i].data[texts[i].length - 1];
    }
}

static int fuzz_checkpoint(ds_ckpt_format format, const uint8_t *data, size_t size) {
    struct ds_ckpt *ckpt;
    struct ds_error err;
    if (ds_ckpt_open_memory(format, "input", data, size, &ckpt, &err) != DS_OK) {
        if (ckpt || err.message[0] == '\0') abort();
        return 0;
    }
    for (size_t i = 0; i < ds_ckpt_tensor_count(ckpt); i++) fuzz_tensor(ckpt, ds_ckpt_tensor_at(ckpt, i));
    for (size_t i = 0; i < ds_ckpt_value_count(ckpt); i++) fuzz_value(ckpt, ds_ckpt_value_at(ckpt, i));
    ds_ckpt_close(ckpt);
    return 0;
}

#endif
