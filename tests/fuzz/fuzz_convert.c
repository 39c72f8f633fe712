/*
 * Conversion of targets and drafters, as fuzz_model.h describes them: what cannot be converted is refused with a message, and what can is
 * understood again, as the same kind of model.
 */
#include "fuzz_model.h"

#include "dspark_dev.h"

static void check_refusal(const struct ds_error *err) {
    if (err->message[0] == '\0' || err->status == DS_ERROR_INTERNAL) abort();
}

static void name_output(const char *layout, char out[NAME_BYTES], char config[NAME_BYTES], char tensors[NAME_BYTES]) {
    const bool file = strcmp(layout, "gguf") == 0;
    snprintf(out, NAME_BYTES, "%s/out%s", root, file ? ".gguf" : "");
    snprintf(config, NAME_BYTES, "%s/out/config.json", root);
    snprintf(tensors, NAME_BYTES, "%s/out/model.safetensors", root);
}

static ds_status open_pair(const char *target, const char *drafter) {
    ds_engine_params params = ds_engine_defaults();
    struct ds_error err;
    ds_engine *engine;
    params.target = target;
    params.drafter = drafter;
    params.device = "ref";
    params.context = 8;
    params.max_rows = 4;
    params.memory_budget = MOST_MEMORY;
    const ds_status status = ds_engine_open(&params, &engine, &err);
    if (status == DS_OK) ds_engine_destroy(engine);
    else check_refusal(&err);
    return status;
}

/* `target`: what a drafter is for; NULL: the input is a target. */
static void try_to_convert(const char *input, const char *target, const char *layout, const char *type) {
    char out[NAME_BYTES], config[NAME_BYTES], tensors[NAME_BYTES];
    struct ds_error err;
    ds_convert_params params = ds_convert_defaults();
    name_output(layout, out, config, tensors);
    params.input = input;
    params.output = out;
    params.target = target;
    params.layout = layout;
    params.type = type;
    params.threads = 1;
    if (ds_convert(&params, NULL, NULL, NULL, &err) != DS_OK) check_refusal(&err);
    else if (open_pair(target ? target : input, target ? input : NULL) == DS_OK) { /* then so must what was made of it */
        const ds_status status = open_pair(target ? target : out, target ? out : NULL);
        if (status != DS_OK && status != DS_ERROR_MEMORY) abort();
    }
    (void)remove(tensors);
    (void)remove(config);
    (void)remove(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct part rest = {data, size};
    char target[NAME_BYTES], drafter[NAME_BYTES];
    if (!write_model("target", &rest, target)) return 0;
    const bool pair = write_model("draft", &rest, drafter);
    if (!pair) {
        try_to_convert(target, NULL, "gguf", "f32");
        try_to_convert(target, NULL, "gguf", "q8_0");
        return 0;
    }
    try_to_convert(drafter, target, "gguf", "f32");
    try_to_convert(drafter, target, "deepspec", "bf16");
    try_to_convert(drafter, target, "speculators", "f16");
    return 0;
}
