/*
 * Whole models of a few kilobytes: a target, perhaps a drafter, opened as the engine opens them; what opens is loaded and
 * generates some tokens. An input is a list of parts with a line "====" between them: a GGUF file is a model; else a part
 * is a config.json and the next one the header of its safetensors file, whose data is made up here.
 */
#ifndef DSPARK_FUZZ_MODEL_H
#define DSPARK_FUZZ_MODEL_H

#include "base/bytes.h"
#include "base/json.h"
#include "base/os.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_DATA = 1 << 20, MOST_MEMORY = 16 << 20, MOST_WORK = 1 << 16, NAME_BYTES = 128 };

static char root[64];

unsigned fuzz_used; /* models that opened and generated: replay.c holds the corpus to it */

static void remove_files(void) {
    static const char *const names[] = {"target/config.json", "target/model.safetensors", "target",     "target.gguf",
                                        "draft/config.json",  "draft/model.safetensors",  "draft",      "draft.gguf", ""};
    for (size_t i = 0; i < DS_COUNT(names); i++) {
        char path[NAME_BYTES];
        snprintf(path, sizeof path, "%s/%s", root, names[i]);
        (void)remove(path);
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    const char *base = getenv("TMPDIR");
    snprintf(root, sizeof root, "%.40s/dspark-fuzz-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(root)) abort();
    char path[NAME_BYTES];
    snprintf(path, sizeof path, "%s/target", root);
    if (mkdir(path, 0700) != 0) abort();
    snprintf(path, sizeof path, "%s/draft", root);
    if (mkdir(path, 0700) != 0) abort();
    atexit(remove_files);
    return 0;
}

struct part {
    const uint8_t *data;
    size_t size;
};

static struct part next_part(struct part *rest) {
    static const char separator[] = "\n====\n";
    const size_t length = sizeof separator - 1;
    const uint8_t *end = rest->size ? memmem(rest->data, rest->size, separator, length) : NULL;
    const struct part part = {rest->data, end ? (size_t)(end - rest->data) : rest->size};
    const size_t used = end ? part.size + length : part.size;
    rest->data += used;
    rest->size -= used;
    return part;
}

static void write_part(FILE *file, const void *data, size_t size) {
    if (size && fwrite(data, 1, size, file) != size) abort();
}

static FILE *create(const char *model, const char *name) {
    char path[NAME_BYTES];
    snprintf(path, sizeof path, "%s/%s%s", root, model, name);
    FILE *file = fopen(path, "wb");
    if (!file) abort();
    return file;
}

/* Where the last tensor of a header ends, as far as the header can be believed. */
static size_t data_size(struct part header) {
    struct ds_error err;
    json_t *json;
    size_t most = 0;
    const char *name;
    json_t *tensor;
    if (ds_json_parse((const char *)header.data, header.size, &json, &err) != DS_OK) return 0;
    json_object_foreach(json, name, tensor) {
        const json_int_t end = json_integer_value(json_array_get(json_object_get(tensor, "data_offsets"), 1));
        if (end > 0 && end <= MOST_DATA) most = DS_MAX(most, (size_t)end);
    }
    json_decref(json);
    return most;
}

static void write_safetensors(const char *model, struct part header) {
    FILE *file = create(model, "/model.safetensors");
    uint8_t length[8];
    ds_store_u64(length, header.size);
    write_part(file, length, sizeof length);
    write_part(file, header.data, header.size);
    static uint8_t data[MOST_DATA];
    const size_t size = data_size(header);
    for (size_t i = 0; i < size; i++) data[i] = i % 2 ? (uint8_t)(0x3c + i % 3 - (i % 5 ? 0 : 0x80)) : (uint8_t)(i * 37); /* bf16 of modest size */
    write_part(file, data, size);
    fclose(file);
}

/* Writes the next model of the input; false when there is none. `path` [NAME_BYTES] is what to open. */
static bool write_model(const char *model, struct part *rest, char *path) {
    const struct part part = next_part(rest);
    if (part.size == 0) return false;
    const bool gguf = part.size >= 4 && memcmp(part.data, "GGUF", 4) == 0;
    FILE *file = create(model, gguf ? ".gguf" : "/config.json");
    write_part(file, part.data, part.size);
    fclose(file);
    if (!gguf) write_safetensors(model, next_part(rest));
    snprintf(path, NAME_BYTES, "%s/%s%s", root, model, gguf ? ".gguf" : "");
    return true;
}

/* What opens must work; only numbers that are not finite may end it. */
static inline void use(ds_engine *engine) {
    struct ds_error err;
    ds_session *session;
    ds_session_params params = ds_session_defaults();
    params.ignore_stop = true;
    if (ds_engine_prepare(engine, NULL, NULL, &err) != DS_OK) abort();
    if (ds_session_create(engine, &params, &session, &err) != DS_OK) abort();
    if (ds_session_append(session, (const ds_token[]){0}, 1, &err) != DS_OK) abort();
    const ds_status status = ds_session_generate(session, 3, NULL, NULL, NULL, &err);
    if (status != DS_OK && status != DS_ERROR_NUMERIC) abort();
    ds_session_destroy(session);
    fuzz_used++;
}

/* Opens what the input describes; what opens is used. */
static inline int run_models(const uint8_t *data, size_t size) {
    struct part rest = {data, size};
    char target[NAME_BYTES], drafter[NAME_BYTES];
    if (!write_model("target", &rest, target)) return 0;
    ds_engine_params params = ds_engine_defaults();
    params.target = target;
    params.drafter = write_model("draft", &rest, drafter) ? drafter : NULL;
    params.device = "ref";
    params.context = 8;
    params.max_rows = 4;
    params.memory_budget = MOST_MEMORY;
    ds_engine *engine;
    struct ds_error err;
    if (ds_engine_open(&params, &engine, &err) != DS_OK) {
        if (engine || err.message[0] == '\0' || err.status == DS_ERROR_INTERNAL) abort();
        return 0;
    }
    ds_engine_info info = {.size = sizeof info};
    ds_engine_get_info(engine, &info);
    if (info.weight_bytes < MOST_WORK * 4) use(engine); /* ref is slow */
    ds_engine_destroy(engine);
    return 0;
}

#endif
