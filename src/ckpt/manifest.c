/* The manifest's text: written in one way only, and read strictly. */
#include "ckpt/manifest.h"

#include "base/json.h"
#include "base/os.h"
#include "base/quote.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char format_name[] = "dspark-manifest", algorithm_name[] = "blake2b-256";
enum { VERSION = 1, MOST_FILES = 1 << 16, MOST_TENSORS = 1 << 20 };

void ds_manifest_free(struct ds_manifest *manifest) {
    ds_arena_free(&manifest->arena);
    *manifest = (struct ds_manifest){0};
}

/* --- paths --- */

static char *with_ending(const char *path, size_t length, const char *ending) {
    const size_t n = strlen(ending);
    char *out = malloc(length + n + 1);
    if (!out) return NULL;
    memcpy(out, path, length);
    memcpy(out + length, ending, n + 1);
    return out;
}

char *ds_manifest_path(const char *checkpoint) {
    if (ds_os_path_kind(checkpoint) == DS_PATH_FOLDER) return ds_os_join(checkpoint, "dspark-manifest.json");
    return with_ending(checkpoint, strlen(checkpoint), ".manifest.json");
}

char *ds_signature_path(const char *manifest_path) { return with_ending(manifest_path, strlen(manifest_path), ".sig"); }

/* --- writing --- */

struct builder {
    char *text; /* owned */
    size_t used, capacity;
    bool failed;
};

static void add_bytes(struct builder *b, const char *data, size_t n) {
    if (b->failed) return;
    if (b->capacity - b->used < n + 1) {
        const size_t larger = DS_MAX(2 * b->capacity, b->used + n + 4096);
        char *moved = realloc(b->text, larger);
        if (!moved) {
            b->failed = true;
            return;
        }
        b->text = moved;
        b->capacity = larger;
    }
    memcpy(b->text + b->used, data, n);
    b->used += n;
    b->text[b->used] = '\0';
}

static void add(struct builder *b, const char *format, ...) DS_PRINTF(2, 3);
static void add(struct builder *b, const char *format, ...) {
    char piece[256];
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(piece, sizeof piece, format, args);
    va_end(args);
    add_bytes(b, piece, (size_t)n);
}

static ds_status add_name(struct builder *b, const char *name, struct ds_error *err) {
    json_t *string = json_string(name);
    if (!string) return ds_fail(err, DS_ERROR_UNSUPPORTED, "the name '%s' is not UTF-8, which a manifest needs", ds_quote_name(name).text);
    char *text = json_dumps(string, JSON_ENCODE_ANY | JSON_COMPACT);
    json_decref(string);
    if (!text) return ds_fail_memory(err, 0, "a manifest");
    add_bytes(b, text, strlen(text));
    free(text);
    return DS_OK;
}

static void add_digest(struct builder *b, const char *key, const struct ds_digest *digest) {
    char hex[2 * DS_DIGEST_BYTES + 1];
    ds_hex_write(digest->bytes, sizeof digest->bytes, hex);
    add(b, ", \"%s\": \"%s\"", key, hex);
}

static ds_status add_file(struct builder *b, const struct ds_manifest_file *file, struct ds_error *err) {
    add(b, "  {\"name\": ");
    DS_TRY(add_name(b, file->name, err));
    add(b, ", \"bytes\": %" PRIu64, file->bytes);
    add_digest(b, "digest", &file->whole);
    add_digest(b, "rest", &file->rest);
    add(b, ", \"tensors\": [");
    for (size_t i = 0; i < file->n_tensors; i++) {
        const struct ds_manifest_tensor *tensor = &file->tensors[i];
        add(b, i ? ",\n   {\"name\": " : "\n   {\"name\": ");
        DS_TRY(add_name(b, tensor->name, err));
        add(b, ", \"offset\": %" PRIu64 ", \"bytes\": %" PRIu64, tensor->offset, tensor->bytes);
        add_digest(b, "digest", &tensor->digest);
        add(b, "}");
    }
    add(b, file->n_tensors ? "\n  ]}" : "]}");
    return DS_OK;
}

static ds_status add_all(struct builder *b, const struct ds_manifest *manifest, struct ds_error *err) {
    add(b, "{\n \"format\": \"%s\",\n \"version\": %d,\n \"algorithm\": \"%s\",\n \"files\": [\n", format_name, VERSION, algorithm_name);
    for (size_t i = 0; i < manifest->n_files; i++) {
        DS_TRY(add_file(b, &manifest->files[i], err));
        add(b, i + 1 < manifest->n_files ? ",\n" : "\n");
    }
    add(b, " ]\n}\n");
    return b->failed ? ds_fail_memory(err, b->used, "a manifest") : DS_OK;
}

ds_status ds_manifest_text(const struct ds_manifest *manifest, char **out, size_t *size, struct ds_error *err) {
    struct builder b = {0};
    const ds_status status = add_all(&b, manifest, err);
    if (status != DS_OK) free(b.text);
    *out = status == DS_OK ? b.text : NULL;
    *size = status == DS_OK ? b.used : 0;
    return status;
}

/* --- reading --- */

/* A member that must be there; `where` is what has it. */
static ds_status get_text(const json_t *object, const char *where, const char *key, const char **out, struct ds_error *err) {
    const json_t *value = json_object_get(object, key);
    *out = json_string_value(value);
    if (*out && strlen(*out) == json_string_length(value)) return DS_OK;
    return ds_fail(err, DS_ERROR_FORMAT, "%s: '%s': expected a text, found %s", where, key, *out ? "one with a NUL" : ds_json_kind(value));
}

static ds_status get_size(const json_t *object, const char *where, const char *key, uint64_t *out, struct ds_error *err) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: '%s': expected a whole number of 0 or more, found %s", where, key, ds_json_kind(value));
    *out = (uint64_t)json_integer_value(value);
    return DS_OK;
}

static ds_status get_digest(const json_t *object, const char *where, const char *key, struct ds_digest *out, struct ds_error *err) {
    const char *text;
    DS_TRY(get_text(object, where, key, &text, err));
    if (ds_hex_read(text, strlen(text), out->bytes, sizeof out->bytes)) return DS_OK;
    return ds_fail(err, DS_ERROR_FORMAT, "%s: '%s': expected %d lower-case hexadecimal digits, found %zu characters: '%s'", where, key, 2 * DS_DIGEST_BYTES,
                   strlen(text), ds_quote_name(text).text);
}

static ds_status expect_text(const json_t *object, const char *key, const char *expected, struct ds_error *err) {
    const char *found;
    DS_TRY(get_text(object, "the manifest", key, &found, err));
    if (strcmp(found, expected) == 0) return DS_OK;
    return ds_fail(err, strcmp(key, "algorithm") == 0 ? DS_ERROR_UNSUPPORTED : DS_ERROR_FORMAT, "'%s': expected '%s', found '%s'", key, expected,
                   ds_quote_name(found).text);
}

/* "tensor 'x'", for messages. */
static struct ds_quoted describe(const char *what, const char *name) {
    struct ds_quoted out;
    const struct ds_quoted quoted = ds_quote_name(name);
    snprintf(out.text, sizeof out.text, "%s '%.*s'", what, 120, quoted.text);
    return out;
}

static ds_status copy_name(struct ds_manifest *manifest, const json_t *object, const char *what, const char **out, struct ds_error *err) {
    const char *name;
    DS_TRY(get_text(object, what, "name", &name, err));
    *out = ds_arena_copy(&manifest->arena, name, strlen(name));
    return *out ? DS_OK : ds_fail_memory(err, strlen(name), "a manifest");
}

/* `end`: of the tensor before. */
static ds_status read_tensor(struct ds_manifest *manifest, const struct ds_manifest_file *file, const json_t *object, uint64_t *end,
                             struct ds_manifest_tensor *out, struct ds_error *err) {
    DS_TRY(copy_name(manifest, object, "a tensor", &out->name, err));
    const struct ds_quoted where = describe("tensor", out->name);
    DS_TRY(get_size(object, where.text, "offset", &out->offset, err));
    DS_TRY(get_size(object, where.text, "bytes", &out->bytes, err));
    DS_TRY(get_digest(object, where.text, "digest", &out->digest, err));
    uint64_t stop;
    if (out->offset < *end)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: expected an offset of %" PRIu64 " or more, behind the tensor before it, found %" PRIu64, where.text, *end,
                       out->offset);
    if (!ds_add_u64(out->offset, out->bytes, &stop) || stop > file->bytes)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: expected a place within the file's %" PRIu64 " bytes, found %" PRIu64 " bytes at %" PRIu64, where.text,
                       file->bytes, out->bytes, out->offset);
    *end = stop;
    return DS_OK;
}

static ds_status read_file(struct ds_manifest *manifest, const json_t *object, struct ds_manifest_file *out, struct ds_error *err) {
    DS_TRY(copy_name(manifest, object, "a file", &out->name, err));
    const struct ds_quoted where = describe("file", out->name);
    if (!out->name[0] || strpbrk(out->name, "/\\"))
        return ds_fail(err, DS_ERROR_FORMAT, "%s: expected a plain name of a file in the same folder", where.text);
    DS_TRY(get_size(object, where.text, "bytes", &out->bytes, err));
    DS_TRY(get_digest(object, where.text, "digest", &out->whole, err));
    DS_TRY(get_digest(object, where.text, "rest", &out->rest, err));
    const json_t *tensors = json_object_get(object, "tensors");
    out->n_tensors = json_array_size(tensors);
    if (!json_is_array(tensors) || out->n_tensors > MOST_TENSORS)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: 'tensors': expected an array of at most %d, found %s of %zu", where.text, MOST_TENSORS, ds_json_kind(tensors),
                       out->n_tensors);
    out->tensors = ds_arena_array(&manifest->arena, out->n_tensors, sizeof *out->tensors);
    if (!out->tensors) return ds_fail_memory(err, out->n_tensors * sizeof *out->tensors, "a manifest");
    uint64_t end = 0;
    for (size_t i = 0; i < out->n_tensors; i++) DS_TRY(read_tensor(manifest, out, json_array_get(tensors, i), &end, &out->tensors[i], err));
    return DS_OK;
}

static int compare_names(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static ds_status refuse_twice(const char **names, size_t count, const char *what, struct ds_error *err) {
    if (count > 0) qsort(names, count, sizeof *names, compare_names);
    for (size_t i = 1; i < count; i++)
        if (strcmp(names[i - 1], names[i]) == 0) return ds_fail(err, DS_ERROR_FORMAT, "%s '%s' occurs twice", what, ds_quote_name(names[i]).text);
    return DS_OK;
}

/* Names are looked up by others: each once, tensors over all files. */
static ds_status check_names(const struct ds_manifest *manifest, struct ds_error *err) {
    size_t tensors = 0, n = 0;
    for (size_t i = 0; i < manifest->n_files; i++) tensors += manifest->files[i].n_tensors;
    const char **names = malloc(DS_MAX(DS_MAX(tensors, manifest->n_files), 1) * sizeof *names);
    if (!names) return ds_fail_memory(err, tensors * sizeof *names, "a manifest's names");
    for (; n < manifest->n_files; n++) names[n] = manifest->files[n].name;
    ds_status status = refuse_twice(names, n, "file", err);
    n = 0;
    for (size_t i = 0; i < manifest->n_files; i++)
        for (size_t t = 0; t < manifest->files[i].n_tensors; t++) names[n++] = manifest->files[i].tensors[t].name;
    if (status == DS_OK) status = refuse_twice(names, n, "tensor", err);
    free(names);
    return status;
}

static ds_status read_root(struct ds_manifest *manifest, const json_t *root, struct ds_error *err) {
    uint64_t version = 0;
    if (!json_is_object(root)) return ds_fail(err, DS_ERROR_FORMAT, "expected an object, found %s", ds_json_kind(root));
    DS_TRY(expect_text(root, "format", format_name, err));
    DS_TRY(get_size(root, "the manifest", "version", &version, err));
    if (version != VERSION) return ds_fail(err, DS_ERROR_UNSUPPORTED, "'version': expected %d, found %" PRIu64, VERSION, version);
    DS_TRY(expect_text(root, "algorithm", algorithm_name, err));
    const json_t *files = json_object_get(root, "files");
    manifest->n_files = json_array_size(files);
    if (!json_is_array(files) || manifest->n_files < 1 || manifest->n_files > MOST_FILES)
        return ds_fail(err, DS_ERROR_FORMAT, "'files': expected an array of 1 to %d, found %s of %zu", MOST_FILES, ds_json_kind(files), manifest->n_files);
    manifest->files = ds_arena_array(&manifest->arena, manifest->n_files, sizeof *manifest->files);
    if (!manifest->files) return ds_fail_memory(err, manifest->n_files * sizeof *manifest->files, "a manifest");
    for (size_t i = 0; i < manifest->n_files; i++) DS_TRY(read_file(manifest, json_array_get(files, i), &manifest->files[i], err));
    return check_names(manifest, err);
}

/* The line's text, which names its tensor. */
static struct ds_quoted quote_line(const char *text, size_t size, size_t line) {
    size_t begin = 0;
    for (size_t i = 0; i < size && line > 1; i++)
        if (text[i] == '\n' && --line) begin = i + 1;
    const char *end = memchr(text + begin, '\n', size - begin);
    size_t length = end ? (size_t)(end - text) - begin : size - begin;
    for (; length && text[begin] == ' '; length--) begin++;
    return ds_quote(text + begin, length);
}

static ds_status compare_texts(const char *text, size_t size, const char *again, size_t again_size, struct ds_error *err) {
    size_t same = 0, line = 1;
    for (; same < size && same < again_size && text[same] == again[same]; same++) line += text[same] == '\n';
    if (same == size && same == again_size) return DS_OK;
    return ds_fail(err, DS_ERROR_FORMAT, "line %zu is not written as dspark writes it, so the manifest was changed: '%s'", line, quote_line(text, size, line).text);
}

static ds_status parse(const char *text, size_t size, struct ds_manifest *out, struct ds_error *err) {
    json_error_t error;
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!root && (json_error_code(&error) == json_error_out_of_memory || !error.text[0])) return ds_fail_memory(err, size, "a manifest");
    if (!root)
        return ds_fail(err, DS_ERROR_FORMAT, "not valid JSON, so it was cut off or changed: line %d, column %d: %s: '%s'", error.line, error.column,
                       ds_quote_name(error.text).text, quote_line(text, size, (size_t)DS_MAX(error.line, 1)).text);
    ds_status status = read_root(out, root, err);
    json_decref(root);
    char *again = NULL;
    size_t again_size = 0;
    if (status == DS_OK) status = ds_manifest_text(out, &again, &again_size, err);
    if (status == DS_OK) status = compare_texts(text, size, again, again_size, err);
    free(again);
    return status;
}

ds_status ds_manifest_parse(const char *text, size_t size, struct ds_manifest *out, struct ds_error *err) {
    *out = (struct ds_manifest){0};
    const ds_status status = parse(text, size, out, err);
    if (status != DS_OK) ds_manifest_free(out);
    return status;
}
