#include "text/normalize.h"
#include "text/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* Code points that grow as they are decomposed. */
struct code_points {
    int32_t *data;
    size_t length, capacity;
};

/* One character becomes at most 18 (U+FDFA, compatibility). */
enum { MAX_DECOMPOSITION = 32 };

bool ds_is_normalized(ds_normal_form form, const char *text, size_t length) {
    if (form == DS_NORMAL_NONE) return true;
    /* Nothing below U+0300 changes under NFC; ASCII never changes. CC is the first byte of U+0300. */
    const uint8_t first_suspect = form == DS_NORMAL_NFC ? 0xCC : 0x80;
    uint8_t highest = 0;
    for (size_t i = 0; i < length; i++) highest = DS_MAX(highest, (uint8_t)text[i]);
    return highest < first_suspect;
}

static ds_status reserve(struct code_points *points, struct ds_error *err) {
    if (points->capacity - points->length >= MAX_DECOMPOSITION) return DS_OK;
    const size_t capacity = points->capacity + points->capacity / 2 + MAX_DECOMPOSITION;
    int32_t *grown = realloc(points->data, capacity * sizeof *grown);
    if (!grown) return ds_fail_memory(err, capacity * sizeof *grown, "normalising text");
    points->data = grown;
    points->capacity = capacity;
    return DS_OK;
}

static ds_status decompose(const char *text, size_t length, utf8proc_option_t options, struct code_points *points,
                           struct ds_error *err) {
    int boundary = 0;
    for (size_t i = 0; i < length;) {
        DS_TRY(reserve(points, err));
        const utf8proc_ssize_t n =
            utf8proc_decompose_char((utf8proc_int32_t)ds_utf8_decode(text + i), points->data + points->length,
                                    (utf8proc_ssize_t)(points->capacity - points->length), options, &boundary);
        if (n < 0 || (size_t)n > points->capacity - points->length)
            return ds_fail(err, DS_ERROR_INTERNAL, "normalising text: %s", utf8proc_errmsg(n));
        points->length += (size_t)n;
        i += ds_utf8_classify(text + i, length - i).length;
    }
    return DS_OK;
}

static uint32_t combining_class(int32_t point) {
    return (uint32_t)utf8proc_get_property(point)->combining_class & 0xFF;
}

/*
 * Canonical order: each run of combining characters is sorted by class, stably. By counting: utf8proc's own exchange sort
 * takes quadratic time on a long run, and a prompt may be one.
 */
static void sort_run(int32_t *run, int32_t *scratch, size_t n) {
    size_t start[257] = {0};
    for (size_t i = 0; i < n; i++) start[combining_class(run[i]) + 1]++;
    for (size_t c = 1; c < DS_COUNT(start); c++) start[c] += start[c - 1];
    for (size_t i = 0; i < n; i++) scratch[start[combining_class(run[i])]++] = run[i];
    memcpy(run, scratch, n * sizeof *run);
}

static ds_status reorder(struct code_points *points, struct ds_error *err) {
    int32_t *scratch = NULL;
    for (size_t i = 0; i < points->length;) {
        size_t end = i;
        bool sorted = true;
        for (uint32_t previous = 0; end < points->length; end++) {
            const uint32_t class = combining_class(points->data[end]);
            if (class == 0) break;
            sorted = sorted && class >= previous;
            previous = class;
        }
        if (!sorted) {
            if (!scratch) scratch = malloc(points->length * sizeof *scratch);
            if (!scratch) return ds_fail_memory(err, points->length * sizeof *scratch, "normalising text");
            sort_run(points->data + i, scratch, end - i);
        }
        i = end + 1;
    }
    free(scratch);
    return DS_OK;
}

static ds_status encode(const struct code_points *points, struct ds_buffer *out, struct ds_error *err) {
    out->length = 0;
    for (size_t i = 0; i < points->length; i++) {
        DS_TRY(ds_buffer_reserve(out, 4, err));
        out->length += (size_t)utf8proc_encode_char(points->data[i], (utf8proc_uint8_t *)out->data + out->length);
    }
    return DS_OK;
}

ds_status ds_normalize(ds_normal_form form, const char *text, size_t length, struct ds_buffer *out, struct ds_error *err) {
    const bool compose = form == DS_NORMAL_NFC || form == DS_NORMAL_NFKC;
    const bool compatible = form == DS_NORMAL_NFKC || form == DS_NORMAL_NFKD;
    const utf8proc_option_t options = UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                                      (compatible ? UTF8PROC_COMPAT : (utf8proc_option_t)0);
    struct code_points points = {0};
    ds_status status = decompose(text, length, options, &points, err);
    if (status == DS_OK) status = reorder(&points, err);
    if (status == DS_OK && compose && points.length) {
        const utf8proc_ssize_t n = utf8proc_normalize_utf32(points.data, (utf8proc_ssize_t)points.length, options);
        points.length = n < 0 ? 0 : (size_t)n;
        if (n < 0) status = ds_fail(err, DS_ERROR_INTERNAL, "normalising text: %s", utf8proc_errmsg(n));
    }
    if (status == DS_OK) status = encode(&points, out, err);
    free(points.data);
    return status;
}
