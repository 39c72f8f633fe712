#include "golden.h"

#include "base/json.h"
#include "engine/engine_internal.h"
#include "ops/device.h"

#include <math.h>

char *golden_path(const char *format, ...) {
    char name[512];
    va_list args;
    va_start(args, format);
    assert_true(vsnprintf(name, sizeof name, format, args) < (int)sizeof name);
    va_end(args);
    char *path = ds_os_join(DSPARK_SOURCE_ROOT, name);
    assert_non_null(path);
    return path;
}

char *golden_convert(const char *folder, const char *name, const char *input, const char *type, const char *layout, const char *target) {
    char *path = ds_os_join(folder, name);
    struct ds_error err;
    ds_convert_params params = ds_convert_defaults();
    params.input = input;
    params.output = path;
    params.type = type;
    params.layout = layout;
    params.target = target;
    params.threads = 1;
    check_ok(ds_convert(&params, NULL, NULL, NULL, &err), &err);
    return path;
}

/* --- vectors --- */

static json_t *read_json(const char *path) {
    json_t *json;
    struct ds_error err;
    check_ok(ds_json_read_file(path, 16 << 20, &json, &err), &err);
    return json;
}

void golden_open(struct golden *golden, const char *name, const char *stem) {
    struct ds_error err;
    *golden = (struct golden){0};
    snprintf(golden->name, sizeof golden->name, "%s", name);
    char *path = golden_path("tests/golden/%s/%s.json", name, stem);
    golden->json = read_json(path);
    free(path);
    path = golden_path("tests/golden/%s/meta.json", name);
    if (ds_os_path_kind(path) == DS_PATH_FILE) {
        json_t *meta = read_json(path);
        golden->tolerances = json_incref(golden_member(meta, "tolerance"));
        json_decref(meta);
    }
    free(path);
    path = golden_path("tests/golden/%s/%s.safetensors", name, stem);
    check_ok(ds_ckpt_open(path, &golden->arrays, &err), &err);
    free(path);
}

void golden_close(struct golden *golden) {
    ds_ckpt_close(golden->arrays);
    json_decref(golden->tolerances);
    json_decref(golden->json);
    *golden = (struct golden){0};
}

const float *golden_array(const struct golden *golden, size_t count, const char *format, ...) {
    char name[128];
    va_list args;
    va_start(args, format);
    assert_true(vsnprintf(name, sizeof name, format, args) < (int)sizeof name);
    va_end(args);
    const struct ds_ckpt_tensor *tensor = ds_ckpt_find(golden->arrays, name);
    if (!tensor) fail_msg("%s has no array %s", golden->name, name);
    if (tensor->type != DS_TYPE_F32 || tensor->bytes != count * sizeof(float) || (uintptr_t)tensor->data % sizeof(float))
        fail_msg("%s: %s has %llu bytes; expected %zu aligned f32", golden->name, name, (unsigned long long)tensor->bytes, count);
    return (const float *)(const void *)tensor->data;
}

double golden_tolerance(const struct golden *golden, const char *array) {
    return json_real_value(golden_member(golden_member(golden->tolerances, array), "tolerance_abs"));
}

json_t *golden_member(const json_t *object, const char *key) {
    json_t *member = json_object_get(object, key);
    if (!member) fail_msg("no member '%s' in the vectors", key);
    return member;
}

int64_t golden_int(const json_t *object, const char *key) { return json_integer_value(golden_member(object, key)); }

ds_token *golden_ints(const json_t *object, const char *key, size_t *count) {
    const json_t *array = golden_member(object, key);
    *count = json_array_size(array);
    ds_token *out = malloc(DS_MAX(*count, 1) * sizeof *out);
    assert_non_null(out);
    for (size_t i = 0; i < *count; i++) out[i] = (ds_token)json_integer_value(json_array_get(array, i));
    return out;
}

float *golden_reals(const json_t *object, const char *key, size_t *count) {
    const json_t *array = golden_member(object, key);
    *count = json_array_size(array);
    float *out = malloc(DS_MAX(*count, 1) * sizeof *out);
    assert_non_null(out);
    for (size_t i = 0; i < *count; i++) out[i] = (float)json_number_value(json_array_get(array, i));
    return out;
}

/* --- devices and engines --- */

const char *golden_modules(void) { return getenv("DSPARK_TEST_MODULES"); }

/* Whether a comma-separated list has the name; no list has every name. */
static bool is_meant(const char *name) {
    const char *list = getenv("DSPARK_TEST_DEVICES");
    const size_t n = strlen(name);
    for (const char *at = list; at; at = strchr(at, ','), at += at != NULL)
        if (strncmp(at, name, n) == 0 && (at[n] == 0 || at[n] == ',')) return true;
    return !list;
}

size_t golden_devices(const char *names[GOLDEN_MOST_DEVICES]) {
    const char *all[GOLDEN_MOST_DEVICES];
    const size_t found = DS_MIN(ds_device_names(golden_modules(), all, GOLDEN_MOST_DEVICES), (uint32_t)GOLDEN_MOST_DEVICES);
    size_t count = 0;
    for (size_t i = 0; i < found; i++) {
        struct ds_device *device;
        struct ds_device_limits limits;
        struct ds_error err;
        if (!is_meant(all[i])) continue;
        check_ok(ds_device_create(all[i], &(struct ds_device_params){.modules = golden_modules()}, &device, &err), &err);
        device->fns->limits(device, &limits);
        if (limits.exact) names[count++] = all[i];
        else print_message("# device %s is left out: %s\n", all[i], limits.note);
        ds_device_destroy(device);
    }
    assert_true(count >= 1);
    return count;
}

size_t golden_share(const char *device, size_t count, size_t few) { return strcmp(device, "ref") == 0 ? DS_MIN(count, few) : count; }

ds_engine *golden_engine(const ds_engine_params *params) {
    ds_engine *engine;
    struct ds_error err;
    check_ok(ds_engine_open(params, &engine, &err), &err);
    check_ok(ds_engine_prepare(engine, NULL, NULL, &err), &err);
    return engine;
}

ds_engine *golden_pair(const char *target, const char *drafter, const char *device) {
    ds_engine_params params = ds_engine_defaults();
    params.target = target;
    params.drafter = drafter;
    params.device = device;
    params.modules = golden_modules();
    params.kv = DS_KV_F32;
    params.weights = DS_WEIGHTS_F32;
    ds_engine *engine;
    struct ds_error err;
    check_ok(ds_engine_open(&params, &engine, &err), &err);
    struct ds_placement *home = &engine->placements[0];
    const struct ds_drafter_params keep = {.device = home->device, .stream = home->stream, .kv_f16 = false, .keep_outputs = true};
    ds_drafter_free(&engine->drafter);
    check_ok(ds_drafter_plan(&engine->drafter, engine->draft_model, &engine->target, &keep, &err), &err);
    home->scratch_bytes = DS_MAX(home->scratch_bytes, engine->drafter.scratch_bytes);
    check_ok(ds_engine_prepare(engine, NULL, NULL, &err), &err);
    return engine;
}

float *golden_read(const ds_engine *engine, struct ds_view view, size_t rows) {
    const struct ds_placement *home = &engine->placements[0];
    float *out = malloc(rows * view.cols * sizeof *out);
    struct ds_error err;
    assert_non_null(out);
    assert_true(view.at.buffer && rows <= view.rows && view.stride == view.cols);
    check_ok(home->device->fns->read(home->stream, view.at, out, rows * view.cols * sizeof *out, &err), &err);
    return out;
}

ds_session *golden_session(ds_engine *engine, ds_spec_mode spec) {
    ds_session_params params = ds_session_defaults();
    ds_engine_info info = {.size = sizeof info};
    ds_engine_get_info(engine, &info);
    params.spec = spec;
    params.spec_length = spec == DS_SPEC_FIXED ? info.block_size : 0;
    params.ignore_stop = true;
    ds_session *session;
    struct ds_error err;
    check_ok(ds_session_create(engine, &params, &session, &err), &err);
    return session;
}

void golden_generate(ds_session *session, const ds_token *prompt, size_t n_prompt, ds_token *out, size_t count) {
    struct ds_error err;
    check_ok(ds_session_rewind(session, 0, &err), &err);
    check_ok(ds_session_append(session, prompt, n_prompt, &err), &err);
    check_ok(ds_session_generate(session, count, NULL, NULL, NULL, &err), &err);
    assert_int_equal(ds_session_length(session), n_prompt + count);
    memcpy(out, ds_session_tokens(session) + n_prompt, count * sizeof *out);
}

/* --- comparison --- */

void golden_compare(const char *what, const float *got, const float *expected, size_t count, double tolerance) {
    for (size_t i = 0; i < count; i++) {
        const double difference = fabs((double)got[i] - (double)expected[i]);
        /* Written so that a NaN fails. */
        if (!(difference <= tolerance))
            fail_msg("%s: element %zu is %.9g; expected %.9g within %.3g, found a difference of %.3g", what, i, (double)got[i],
                     (double)expected[i], tolerance, difference);
    }
}

void golden_check(struct golden_report *report, const char *array, const float *got, const float *expected, size_t count, double tolerance) {
    char what[160];
    snprintf(what, sizeof what, "%s: %s", report->label, array);
    golden_compare(what, got, expected, count, tolerance);
    double worst = 0;
    for (size_t i = 0; i < count; i++) worst = fmax(worst, fabs((double)got[i] - (double)expected[i]) / tolerance);
    size_t at = 0;
    while (at < report->count && strcmp(report->worst[at].array, array) != 0) at++;
    if (at == report->count) {
        assert_true(report->count < GOLDEN_MOST_ARRAYS);
        report->worst[report->count++] = (struct golden_worst){.array = array};
    }
    report->worst[at].fraction = fmax(report->worst[at].fraction, worst);
}

void golden_print(const struct golden_report *report) {
    print_message("# %s, largest difference as a fraction of the tolerance:", report->label);
    for (size_t i = 0; i < report->count; i++) print_message(" %s %.2f", report->worst[i].array, report->worst[i].fraction);
    print_message("\n");
}

ds_token golden_argmax(const float *row, size_t count) {
    size_t best = 0;
    for (size_t i = 1; i < count; i++)
        if (row[i] > row[best]) best = i;
    return (ds_token)best;
}
