/*
 * What was learned about a drafter and lies beside it, as JSON (FOLDER/NAME.json, FILE.gguf.NAME.json): what format it is, and the
 * fingerprint of the drafter it was made for.
 */
#include "engine/engine_internal.h"

#include "base/json.h"

#include <stdlib.h>
#include <string.h>

static char *path_beside(const struct ds_ckpt *ckpt, const char *name) {
    const char *path = ds_ckpt_path(ckpt);
    if (ds_os_path_kind(path) == DS_PATH_FOLDER) return ds_os_join(path, name);
    char *text = malloc(strlen(path) + strlen(name) + 2);
    if (text) strcat(strcat(strcpy(text, path), "."), name);
    return text;
}

/* --- reading --- */

static bool has_text(const json_t *root, const char *name, const char *expected) {
    const char *text = json_string_value(json_object_get(root, name));
    return text && strcmp(text, expected) == 0;
}

static ds_status check(const ds_engine *engine, const struct ds_beside *kind, const json_t *root, struct ds_error *err) {
    char mine[DS_FINGERPRINT_TEXT];
    ds_fingerprint_text(ds_fingerprint(engine->draft_ckpt), mine);
    if (!has_text(root, "format", kind->format)) return ds_fail(err, DS_ERROR_FORMAT, "expected a %s with format \"%s\"", kind->what, kind->format);
    if (has_text(root, "drafter", mine)) return DS_OK;
    return ds_fail(err, DS_ERROR_MISMATCH, "it was made for another drafter than %s (whose fingerprint is %s)", ds_ckpt_path(engine->draft_ckpt), mine);
}

static ds_status read_file(ds_engine *engine, const struct ds_beside *kind, const char *path, struct ds_error *err) {
    json_t *root;
    DS_TRY(ds_json_read_file(path, kind->most_bytes, &root, err));
    ds_status status = check(engine, kind, root, err);
    if (status == DS_OK) status = kind->use(engine, root, err);
    json_decref(root);
    return status == DS_OK ? DS_OK : ds_fail_context(err, "%s", path);
}

ds_status ds_beside_open(ds_engine *engine, const struct ds_beside *kind, struct ds_error *err) {
    char *path = path_beside(engine->draft_ckpt, kind->name);
    if (!path) return ds_fail_memory(err, kind->most_bytes, "what lies beside a drafter");
    ds_status status = ds_os_path_kind(path) == DS_PATH_MISSING ? DS_OK : read_file(engine, kind, path, err);
    if (status != DS_OK && status != DS_ERROR_MEMORY) {
        ds_logf(&engine->log, DS_LOG_WARNING, "the %s is not used: %s; make another with `dspark calibrate`, or remove it", kind->what, err->message);
        status = DS_OK;
    }
    free(path);
    return status;
}

/* --- writing --- */

ds_status ds_beside_save(const ds_engine *engine, const struct ds_beside *kind, json_t *members, size_t flags, char **path, struct ds_error *err) {
    char mine[DS_FINGERPRINT_TEXT], *name = path_beside(engine->draft_ckpt, kind->name);
    ds_fingerprint_text(ds_fingerprint(engine->draft_ckpt), mine);
    json_t *root = members ? json_pack("{ssss}", "format", kind->format, "drafter", mine) : NULL;
    char *text = root && json_object_update(root, members) == 0 ? json_dumps(root, flags) : NULL;
    const ds_status status = name && text ? ds_write_text_file(name, text, err) : ds_fail_memory(err, kind->most_bytes, "what lies beside a drafter");
    free(text);
    json_decref(root);
    json_decref(members);
    if (status == DS_OK) *path = name;
    else free(name);
    return status;
}
