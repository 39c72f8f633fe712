/*
 * GGUF, versions 2 and 3, little-endian. Layout: header (magic, version, tensor count, key count), keys with typed values,
 * tensor infos, padding to the alignment, tensor data. Everything stated in the file is checked against its real size
 * before it is used. Source: docs/formats.md.
 */
#include "ckpt/gguf_reader.h"

#include <string.h>

enum {
    SMALLEST_KEY = 8 + 1 + 4 + 1,      /* length, one character, type, one byte of value */
    SMALLEST_INFO = 8 + 1 + 4 + 4 + 8, /* length, one character, no dimensions, type, offset */
    DEFAULT_ALIGNMENT = 32
};

/* --- tensors --- */

/* Types that the format has and we do not read; completes "the tensor is ...". */
static const char *unsupported_type(uint32_t id) {
    static const char *const names[] = {
        [9] = "of type q8_1",     [15] = "of type q8_k",  [16] = "of type iq2_xxs", [17] = "of type iq2_xs",
        [18] = "of type iq3_xxs", [19] = "of type iq1_s", [21] = "of type iq3_s",   [22] = "of type iq2_s",
        [24] = "of type i8",      [25] = "of type i16",   [28] = "of type f64",     [29] = "of type iq1_m",
        [34] = "of type tq1_0",   [35] = "of type tq2_0", [40] = "of type nvfp4",
    };
    return id < DS_COUNT(names) && names[id] ? names[id] : "of a type that is not known";
}

/* The file gives the innermost dimension first; a shape has it last. */
static ds_status read_shape(struct ds_gguf_reader *r, struct ds_ckpt_tensor *tensor) {
    uint32_t dims;
    DS_TRY(ds_gguf_take_u32(r, "a number of dimensions", &dims));
    if (dims > DS_CKPT_MAX_DIMS)
        return ds_fail(r->err, DS_ERROR_FORMAT, "expected at most %d dimensions, found %u", DS_CKPT_MAX_DIMS, dims);
    tensor->dims = dims;
    for (uint32_t i = 0; i < DS_CKPT_MAX_DIMS; i++) tensor->shape[i] = 1;
    for (uint32_t i = dims; i-- > 0;) {
        DS_TRY(ds_gguf_take_u64(r, "a dimension", &tensor->shape[i]));
        if (tensor->shape[i] == 0) return ds_fail(r->err, DS_ERROR_FORMAT, "expected dimensions above 0, found 0");
    }
    return DS_OK;
}

static ds_status measure(const struct ds_gguf_reader *r, struct ds_ckpt_tensor *tensor) {
    uint64_t rows = 1;
    bool fits = true;
    for (uint32_t i = 0; i + 1 < tensor->dims; i++) fits = fits && ds_mul_u64(rows, tensor->shape[i], &rows);
    const uint64_t cols = tensor->dims > 0 ? tensor->shape[tensor->dims - 1] : 1;
    const struct ds_type_info *info = ds_type_get(tensor->type);
    if (cols % info->block != 0)
        return ds_fail(r->err, DS_ERROR_FORMAT, "expected rows of whole %s blocks of %u elements, found rows of %llu",
                       info->name, info->block, (unsigned long long)cols);
    if (!fits || !ds_type_size(tensor->type, rows, cols, &tensor->bytes))
        return ds_fail(r->err, DS_ERROR_FORMAT, "a tensor of shape %s is larger than any file",
                       ds_shape_describe(tensor->dims, tensor->shape).text);
    return DS_OK;
}

/* The offset is relative to where the data begins, which is known only behind the last info: see place. */
static ds_status read_info_fields(struct ds_gguf_reader *r, struct ds_ckpt_tensor *tensor) {
    uint32_t type;
    DS_TRY(read_shape(r, tensor));
    DS_TRY(ds_gguf_take_u32(r, "a tensor's type", &type));
    DS_TRY(ds_gguf_take_u64(r, "a tensor's offset", &tensor->offset));
    if (tensor->offset % r->alignment != 0)
        return ds_fail(r->err, DS_ERROR_FORMAT, "expected an offset that is a multiple of %llu, found %llu",
                       (unsigned long long)r->alignment, (unsigned long long)tensor->offset);
    if (ds_type_from_gguf(type, &tensor->type)) {
        DS_TRY(measure(r, tensor));
        return ds_ckpt_add_tensor(r->ckpt, tensor, r->err);
    }
    tensor->bytes = 1; /* its size is not known, but it has one */
    return ds_ckpt_add_skipped(r->ckpt, tensor, unsupported_type(type), r->err);
}

static ds_status read_info(struct ds_gguf_reader *r, uint64_t index) {
    struct ds_ckpt_tensor tensor = {.file = r->file};
    if (ds_gguf_take_name(r, "a tensor's name", &tensor.name) != DS_OK)
        return ds_fail_context(r->err, "tensor %llu", (unsigned long long)index);
    const ds_status status = read_info_fields(r, &tensor);
    return status == DS_OK ? DS_OK : ds_fail_context(r->err, "tensor '%s'", ds_quote_name(tensor.name).text);
}

/* --- their data --- */

static ds_status place(const struct ds_gguf_reader *r, uint64_t base, struct ds_ckpt_tensor *tensor) {
    const uint64_t room = r->size - base;
    if (tensor->offset > room || tensor->bytes > room - tensor->offset)
        return ds_fail(
            r->err, DS_ERROR_FORMAT,
            "tensor '%s': the file is cut off: expected %llu bytes at offset %llu of the data, found %llu bytes of data",
            ds_quote_name(tensor->name).text, (unsigned long long)tensor->bytes, (unsigned long long)tensor->offset,
            (unsigned long long)room);
    tensor->offset += base;
    return DS_OK;
}

static ds_status place_tensors(struct ds_gguf_reader *r) {
    struct ds_ckpt *ckpt = r->ckpt;
    if (ckpt->tensor_count + ckpt->skipped_count == 0) return DS_OK; /* then the file may end without the padding */
    const uint64_t base = DS_ALIGN_UP(r->at, r->alignment);          /* no overflow: a file's size and a 32-bit number */
    if (base > r->size)
        return ds_fail(r->err, DS_ERROR_FORMAT, "the file is cut off: expected tensor data at byte %llu, found the end at %llu",
                       (unsigned long long)base, (unsigned long long)r->size);
    for (size_t i = 0; i < ckpt->tensor_count; i++) {
        DS_TRY(place(r, base, &ckpt->tensors[i]));
        ckpt->tensors[i].data = r->data + ckpt->tensors[i].offset;
    }
    for (size_t i = 0; i < ckpt->skipped_count; i++) DS_TRY(place(r, base, &ckpt->skipped[i].tensor));
    return ds_ckpt_check_overlap(ckpt, r->file, base, r->size, false, r->err);
}

/* --- the file --- */

static ds_status read_version(struct ds_gguf_reader *r) {
    const uint8_t *magic;
    uint32_t version;
    DS_TRY(ds_gguf_take(r, 4, "the magic", &magic));
    if (memcmp(magic, "GGUF", 4) != 0)
        return ds_fail(r->err, DS_ERROR_FORMAT, "expected a GGUF file, which starts with 'GGUF', found '%s'",
                       ds_quote((const char *)magic, 4).text);
    DS_TRY(ds_gguf_take_u32(r, "the version", &version));
    if (version == 2 || version == 3) return DS_OK;
    if (version != 0 && (version & 0xFFFF) == 0)
        return ds_fail(r->err, DS_ERROR_UNSUPPORTED,
                       "this GGUF file is big-endian: expected a little-endian one; convert it on a "
                       "little-endian machine");
    return ds_fail(r->err, DS_ERROR_UNSUPPORTED, "expected GGUF version 2 or 3, found %u%s", version,
                   version < 2 ? ": convert the model again with current tools" : "");
}

static ds_status check_count(const struct ds_gguf_reader *r, uint64_t count, uint64_t smallest, const char *what) {
    const uint64_t room = (r->size - r->at) / smallest;
    if (count <= room) return DS_OK;
    return ds_fail(r->err, DS_ERROR_FORMAT, "expected at most %llu %s, for which the file has room, found %llu",
                   (unsigned long long)room, what, (unsigned long long)count);
}

ds_status ds_gguf_read(struct ds_ckpt *ckpt, uint32_t file, struct ds_error *err) {
    struct ds_gguf_reader r = {
        .ckpt = ckpt,
        .file = file,
        .data = ckpt->files[file].mapping.data,
        .size = ckpt->files[file].mapping.size,
        .alignment = DEFAULT_ALIGNMENT,
        .err = err,
    };
    uint64_t tensors, keys;
    DS_TRY(read_version(&r));
    DS_TRY(ds_gguf_take_u64(&r, "the number of tensors", &tensors));
    DS_TRY(ds_gguf_take_u64(&r, "the number of keys", &keys));
    DS_TRY(check_count(&r, keys, SMALLEST_KEY, "keys"));
    DS_TRY(check_count(&r, tensors, SMALLEST_INFO, "tensors"));
    for (uint64_t i = 0; i < keys; i++) DS_TRY(ds_gguf_read_key(&r, i));
    for (uint64_t i = 0; i < tensors; i++) DS_TRY(read_info(&r, i));
    return place_tensors(&r);
}
