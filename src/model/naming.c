/* One name for each tensor and key in two containers. */
#include "model/layer.h"

#include <stdio.h>

enum { NAME_MAX_BYTES = 192 };

static const char *tensor_name(const struct ds_naming *naming, const char *hf, const char *gguf, uint32_t layer,
                               char name[NAME_MAX_BYTES]) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    if (ds_ckpt_get_format(naming->ckpt) == DS_CKPT_GGUF) {
        snprintf(name, NAME_MAX_BYTES, gguf, layer);
    } else {
        const int n = snprintf(name, NAME_MAX_BYTES, "%s", naming->hf_prefix);
        snprintf(name + n, NAME_MAX_BYTES - (size_t)n, hf, layer);
    }
#pragma GCC diagnostic pop
    return name;
}

ds_status ds_naming_tensor(const struct ds_naming *naming, const char *hf, const char *gguf, uint32_t layer, uint32_t dims,
                           const uint64_t *shape, const struct ds_ckpt_tensor **out, struct ds_error *err) {
    char name[NAME_MAX_BYTES];
    return ds_ckpt_require(naming->ckpt, tensor_name(naming, hf, gguf, layer, name), dims, shape, out, err);
}

const struct ds_ckpt_tensor *ds_naming_find(const struct ds_naming *naming, const char *hf, const char *gguf, uint32_t layer) {
    char name[NAME_MAX_BYTES];
    return ds_ckpt_find(naming->ckpt, tensor_name(naming, hf, gguf, layer, name));
}

bool ds_naming_has(const struct ds_naming *naming, const char *hf, const char *gguf, uint32_t layer) {
    return ds_naming_find(naming, hf, gguf, layer) != NULL;
}

ds_status ds_naming_matrix(const struct ds_naming *naming, struct ds_loader *loader, const char *hf, const char *gguf, uint32_t layer,
                           uint32_t rows, uint32_t cols, struct ds_weight *out, struct ds_error *err) {
    char name[NAME_MAX_BYTES];
    const struct ds_ckpt_tensor *tensor = ds_ckpt_find(naming->ckpt, tensor_name(naming, hf, gguf, layer, name));
    const bool flat = rows == 1 && tensor && tensor->dims == 1; /* GGUF drops outer dimensions of 1 */
    DS_TRY(flat ? ds_ckpt_require(naming->ckpt, name, 1, (uint64_t[]){cols}, &tensor, err)
                : ds_ckpt_require(naming->ckpt, name, 2, (uint64_t[]){rows, cols}, &tensor, err));
    return ds_loader_matrix(loader, naming->ckpt, tensor, out, err);
}

ds_status ds_naming_rows(const struct ds_naming *naming, struct ds_loader *loader, const char *hf, const char *gguf, uint32_t rows, uint32_t cols,
                         const int32_t *list, uint32_t n, struct ds_weight *out, struct ds_error *err) {
    const struct ds_ckpt_tensor *tensor;
    if (!list) return ds_naming_matrix(naming, loader, hf, gguf, 0, rows, cols, out, err);
    DS_TRY(ds_naming_tensor(naming, hf, gguf, 0, 2, (uint64_t[]){rows, cols}, &tensor, err));
    return ds_loader_rows(loader, naming->ckpt, tensor, list, n, out, err);
}

ds_status ds_naming_vector(const struct ds_naming *naming, struct ds_loader *loader, const char *hf, const char *gguf, uint32_t layer,
                           uint32_t n, struct ds_slice *out, struct ds_error *err) {
    const struct ds_ckpt_tensor *tensor;
    DS_TRY(ds_naming_tensor(naming, hf, gguf, layer, 1, (uint64_t[]){n}, &tensor, err));
    return ds_loader_vector(loader, naming->ckpt, tensor, out, err);
}

const char *ds_naming_key(const struct ds_naming *naming, const char *hf, const char *gguf, char key[DS_KEY_MAX]) {
    if (ds_ckpt_get_format(naming->ckpt) == DS_CKPT_GGUF) snprintf(key, DS_KEY_MAX, "%s.%s", naming->gguf_arch, gguf);
    else snprintf(key, DS_KEY_MAX, "%s%s", naming->hf_keys ? naming->hf_keys : "", hf);
    return key;
}
