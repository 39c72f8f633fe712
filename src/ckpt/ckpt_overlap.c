/* Whether tensors of a file share bytes, or leave some out. */
#include "ckpt/ckpt_internal.h"

#include <stdlib.h>

struct range {
    uint64_t begin, end;
    const char *name;
};

static int compare_ranges(const void *a, const void *b) {
    const struct range *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end == y->end ? 0 : x->end < y->end ? -1 : 1;
}

static ds_status fail_hole(uint64_t begin, uint64_t end, struct ds_error *err) {
    return ds_fail(err, DS_ERROR_FORMAT, "bytes %llu to %llu belong to no tensor: expected tensors without gaps up to the end",
                   (unsigned long long)begin, (unsigned long long)end);
}

static ds_status check_ranges(const struct range *ranges, size_t count, uint64_t begin, uint64_t end, bool no_holes,
                              struct ds_error *err) {
    uint64_t at = begin;
    for (size_t i = 0; i < count; i++) {
        if (ranges[i].begin < at)
            return ds_fail(err, DS_ERROR_FORMAT,
                           "tensor '%s' overlaps another: expected it at byte %llu or later, found it at %llu",
                           ds_quote_name(ranges[i].name).text, (unsigned long long)at, (unsigned long long)ranges[i].begin);
        if (no_holes && ranges[i].begin > at) return fail_hole(at, ranges[i].begin, err);
        at = ranges[i].end;
    }
    return no_holes && at != end ? fail_hole(at, end, err) : DS_OK;
}

static size_t add_range(struct range *ranges, size_t count, const struct ds_ckpt_tensor *tensor, uint32_t file) {
    if (tensor->file != file) return count;
    ranges[count] = (struct range){tensor->offset, tensor->offset + tensor->bytes, tensor->name};
    return count + 1;
}

ds_status ds_ckpt_check_overlap(const struct ds_ckpt *ckpt, uint32_t file, uint64_t begin, uint64_t end, bool no_holes,
                                struct ds_error *err) {
    const size_t most = ckpt->tensor_count + ckpt->skipped_count;
    struct range *ranges = malloc(DS_MAX(most, 1) * sizeof *ranges);
    if (!ranges) return ds_fail_memory(err, most * sizeof *ranges, "the tensors' places");
    size_t count = 0;
    for (size_t i = 0; i < ckpt->tensor_count; i++) count = add_range(ranges, count, &ckpt->tensors[i], file);
    for (size_t i = 0; i < ckpt->skipped_count; i++) count = add_range(ranges, count, &ckpt->skipped[i].tensor, file);
    qsort(ranges, count, sizeof *ranges, compare_ranges);
    const ds_status status = check_ranges(ranges, count, begin, end, no_holes, err);
    free(ranges);
    return status;
}
