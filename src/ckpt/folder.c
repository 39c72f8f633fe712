/* A model's folder as Hugging Face lays it out: config.json, generation_config.json and one or more safetensors files. */
#include "ckpt/ckpt_internal.h"

#include <stdlib.h>
#include <string.h>

static const char index_name[] = "model.safetensors.index.json";
static const char single_name[] = "model.safetensors";

enum { MAX_CONFIG_BYTES = 16 << 20, MAX_INDEX_BYTES = 100 << 20 };

static bool ends_with(const char *text, const char *ending) {
    const size_t n = strlen(text), m = strlen(ending);
    return n >= m && strcmp(text + n - m, ending) == 0;
}

/* folder/name, in the arena. */
static ds_status path_in(struct ds_ckpt *ckpt, const char *folder, const char *name, const char **out, struct ds_error *err) {
    char *joined = ds_os_join(folder, name);
    if (!joined) return ds_fail_memory(err, strlen(folder) + strlen(name) + 2, "a path");
    const ds_status status = ds_ckpt_copy(ckpt, joined, strlen(joined), out, err);
    free(joined);
    return status;
}

/* --- configuration --- */

/* Adds the members of a JSON file if there is such a file. */
static ds_status read_config(struct ds_ckpt *ckpt, const char *path, const char *prefix, struct ds_error *err) {
    if (ds_os_path_kind(path) == DS_PATH_MISSING) return DS_OK;
    json_t *object;
    DS_TRY(ds_json_read_file(path, MAX_CONFIG_BYTES, &object, err));
    ds_status status = ds_config_add(ckpt, object, prefix, err);
    if (status != DS_OK) status = ds_fail_context(err, "%s", path);
    json_decref(object);
    return status;
}

static ds_status read_configs(struct ds_ckpt *ckpt, const char *folder, struct ds_error *err) {
    const char *generation;
    DS_TRY(path_in(ckpt, folder, "config.json", &ckpt->config_path, err));
    DS_TRY(path_in(ckpt, folder, "generation_config.json", &generation, err));
    DS_TRY(read_config(ckpt, ckpt->config_path, "", err));
    return read_config(ckpt, generation, "generation_config.", err);
}

/* --- tensors --- */

static ds_status read_file(struct ds_ckpt *ckpt, const char *folder, const char *name, struct ds_error *err) {
    const char *path;
    uint32_t file;
    DS_TRY(path_in(ckpt, folder, name, &path, err));
    DS_TRY(ds_ckpt_add_file(ckpt, path, &file, err));
    const ds_status status = ds_safetensors_read(ckpt, file, err);
    return status == DS_OK ? DS_OK : ds_fail_context(err, "%s", path);
}

/* Which tensor is in which file. Names come from the index, so they must not lead out of the folder. */
struct placement {
    const char *tensor, *file;
};

static int compare_placements(const void *a, const void *b) {
    const struct placement *x = a, *y = b;
    const int order = strcmp(x->file, y->file);
    return order != 0 ? order : strcmp(x->tensor, y->tensor);
}

static ds_status check_file_name(const char *tensor, const json_t *name, struct ds_error *err) {
    if (!json_is_string(name))
        return ds_fail(err, DS_ERROR_FORMAT, "'weight_map': tensor '%s': expected a file's name, found %s",
                       ds_quote_name(tensor).text, ds_json_kind(name));
    const char *text = json_string_value(name);
    if (!ends_with(text, ".safetensors") || strpbrk(text, "/\\") || strlen(text) != json_string_length(name))
        return ds_fail(err, DS_ERROR_FORMAT,
                       "'weight_map': tensor '%s': expected the plain name of a .safetensors file in this folder, found '%s'",
                       ds_quote_name(tensor).text, ds_quote(text, json_string_length(name)).text);
    return DS_OK;
}

static int compare_tensor_with_placement(const void *placement, const void *name) {
    return strcmp(((const struct placement *)placement)->tensor, *(const char *const *)name);
}

static int compare_strings(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* All tensors that the index places in the file read last must be there: `names` are that file's, sorted. */
static ds_status check_present(const struct placement *placements, size_t count, const char **names, size_t name_count,
                               struct ds_error *err) {
    for (size_t i = 0; i < count; i++) {
        if (!bsearch(&placements[i], names, name_count, sizeof *names, compare_tensor_with_placement))
            return ds_fail(err, DS_ERROR_FORMAT, "'weight_map': expected tensor '%s' in '%s', where it is not",
                           ds_quote_name(placements[i].tensor).text, ds_quote_name(placements[i].file).text);
    }
    return DS_OK;
}

/* Reads the file that the first of `placements`, all of one file, names. */
static ds_status read_shard(struct ds_ckpt *ckpt, const char *folder, const struct placement *placements, size_t count,
                            struct ds_error *err) {
    const size_t tensors = ckpt->tensor_count, skipped = ckpt->skipped_count;
    DS_TRY(read_file(ckpt, folder, placements[0].file, err));
    const size_t total = ckpt->tensor_count - tensors + ckpt->skipped_count - skipped;
    const char **names = malloc(DS_MAX(total, 1) * sizeof *names);
    if (!names) return ds_fail_memory(err, total * sizeof *names, "tensor names");
    size_t n = 0;
    for (size_t i = tensors; i < ckpt->tensor_count; i++) names[n++] = ckpt->tensors[i].name;
    for (size_t i = skipped; i < ckpt->skipped_count; i++) names[n++] = ckpt->skipped[i].tensor.name;
    qsort(names, n, sizeof *names, compare_strings);
    const ds_status status = check_present(placements, count, names, n, err);
    free(names);
    return status;
}

static ds_status read_shards(struct ds_ckpt *ckpt, const char *folder, const struct placement *placements, size_t count,
                             struct ds_error *err) {
    for (size_t i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count && strcmp(placements[end].file, placements[i].file) == 0;) end++;
        DS_TRY(read_shard(ckpt, folder, placements + i, end - i, err));
    }
    return DS_OK;
}

static ds_status read_weight_map(struct ds_ckpt *ckpt, const char *folder, json_t *index, struct ds_error *err) {
    json_t *map = json_object_get(index, "weight_map");
    const size_t count = json_object_size(map);
    if (count == 0)
        return ds_fail(err, DS_ERROR_FORMAT, "'weight_map': expected an object with members, found %s", ds_json_kind(map));
    struct placement *placements = malloc(count * sizeof *placements);
    if (!placements) return ds_fail_memory(err, count * sizeof *placements, "the index");
    ds_status status = DS_OK;
    size_t n = 0;
    const char *tensor;
    json_t *name;
    json_object_foreach(map, tensor, name) {
        status = check_file_name(tensor, name, err);
        if (status != DS_OK) break;
        placements[n++] = (struct placement){.tensor = tensor, .file = json_string_value(name)};
    }
    if (status == DS_OK) {
        qsort(placements, n, sizeof *placements, compare_placements);
        status = read_shards(ckpt, folder, placements, n, err);
    }
    free(placements);
    return status;
}

static ds_status read_index(struct ds_ckpt *ckpt, const char *folder, const char *path, struct ds_error *err) {
    json_t *index;
    DS_TRY(ds_json_read_file(path, MAX_INDEX_BYTES, &index, err));
    ds_status status = read_weight_map(ckpt, folder, index, err);
    if (status != DS_OK) status = ds_fail_context(err, "%s", path);
    json_decref(index);
    return status;
}

/* Without an index and without model.safetensors: every safetensors file of the folder. */
static ds_status read_all(struct ds_ckpt *ckpt, const char *folder, char **names, size_t count, struct ds_error *err) {
    const char *gguf = NULL;
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        if (ends_with(names[i], ".gguf")) gguf = names[i];
        if (!ends_with(names[i], ".safetensors")) continue;
        DS_TRY(read_file(ckpt, folder, names[i], err));
        found++;
    }
    if (found > 0) return DS_OK;
    return ds_fail(err, DS_ERROR_FORMAT, "%s: expected *.safetensors in this folder, found none%s%s", folder,
                   gguf ? "; to open a GGUF file give its own path, such as " : "", gguf ? ds_quote_name(gguf).text : "");
}

ds_status ds_folder_read(struct ds_ckpt *ckpt, const char *folder, struct ds_error *err) {
    const char *index, *single;
    DS_TRY(read_configs(ckpt, folder, err));
    DS_TRY(path_in(ckpt, folder, index_name, &index, err));
    DS_TRY(path_in(ckpt, folder, single_name, &single, err));
    if (ds_os_path_kind(index) != DS_PATH_MISSING) return read_index(ckpt, folder, index, err);
    if (ds_os_path_kind(single) != DS_PATH_MISSING) return read_file(ckpt, folder, single_name, err);

    char **names;
    size_t count;
    DS_TRY(ds_os_list_folder(folder, &names, &count, err));
    const ds_status status = read_all(ckpt, folder, names, count, err);
    ds_os_free_names(names, count);
    return status;
}
