/*
 * Costs kept in a folder (engine/cost_file.c): a file is taken by the engine whose costs it holds and by no other, and only as it was written. Nothing
 * is measured here: the engines are not even prepared.
 */
#include "streams.h"

#include "engine/engine_internal.h"

static char *folder, warning[1024];

static void warn(void *user, ds_log_level level, const char *message) {
    if (level == DS_LOG_WARNING) snprintf(user, sizeof warning, "%s", message);
}

static int make_folder(void **state) {
    (void)state;
    folder = check_make_folder();
    return 0;
}
static int remove_folder(void **state) {
    (void)state;
    check_remove_folder(folder);
    return 0;
}

static ds_engine_params usual(void) {
    ds_engine_params params = ds_engine_defaults();
    params.target = PAIR_TARGET;
    params.drafter = PAIR_DRAFTER;
    params.device = "cpu";
    params.context = 512;
    params.threads = 1;
    params.cache = folder;
    params.log = warn;
    params.log_user = warning;
    return params;
}

static ds_engine *open_unprepared(const ds_engine_params *params) {
    ds_engine *engine;
    struct ds_error err;
    check_ok(ds_engine_open(params, &engine, &err), &err);
    return engine;
}

/* Costs that nobody measured, as if by this engine. */
static void store(ds_engine *engine) {
    struct ds_cost_samples s = {.n = 3, .near_context = 1, .block = 7, .draft_one = 1e-3, .draft_whole = 2e-3, .feed_rows = 8, .feed_one = 1e-4, .feed_many = 3e-4};
    s.pass[0] = (struct ds_cost_sample){1, 1e-3, 0};
    s.pass[1] = (struct ds_cost_sample){4, 2e-3, 0};
    s.pass[2] = (struct ds_cost_sample){8, 3e-3, 0};
    struct ds_cost_table table;
    ds_cost_fit(&s, &table);
    table.spread = 1;
    table.measured = 1;
    ds_pace_learned_start(&engine->scheduling.learned, &table, DS_CONFIDENCE_HEAD);
    engine->scheduling.known = true;
    warning[0] = '\0';
    ds_costs_store(engine);
    assert_string_equal(warning, "");
}

static bool loads(const ds_engine *engine) {
    struct ds_pace_learned learned;
    warning[0] = '\0';
    return ds_costs_load(engine, &learned);
}

/* Threads, cache type, stored type, drafter, its head: each has costs of its own, and nothing is said of those of others. */
static void what_costs_depend_on_has_a_table_of_its_own(void **state) {
    (void)state;
    ds_engine_params params = usual();
    ds_engine *engine = open_unprepared(&params);
    assert_false(loads(engine));
    store(engine);
    assert_true(loads(engine));
    ds_engine_destroy(engine);
    enum { SAME, SAME_CONTEXT, THREADS, KV, WEIGHTS, TOP, DRAFTER, DRAFT_DEVICE, CASES };
    for (int c = 0; c < CASES; c++) {
        params = usual();
        if (c == SAME_CONTEXT) params.context = 1024; /* lines are told by position: room for more of them changes nothing */
        if (c == THREADS) params.threads = 2;
        if (c == KV) params.kv = DS_KV_F32;
        if (c == WEIGHTS) params.weights = DS_WEIGHTS_F32;
        if (c == TOP) params.draft_top_k = 64;
        if (c == DRAFTER) params.drafter = DSPARK_SOURCE_ROOT "/models/tiny/dflash";
        if (c == DRAFT_DEVICE) params.draft_device = "ref";
        engine = open_unprepared(&params);
        assert_int_equal(loads(engine), c == SAME || c == SAME_CONTEXT);
        assert_string_equal(warning, "");
        ds_engine_destroy(engine);
    }
}

/* --- damage --- */

/* The file that holds this engine's costs, and its text; the caller frees both. */
static char *stored(ds_engine *engine, char **path, size_t *size) {
    struct ds_error err;
    char *text;
    store(engine);
    *path = check_only_file(folder);
    check_ok(ds_os_read_file(*path, 1 << 16, &text, size, &err), &err);
    return text;
}

/* The text with the `nth` value behind "name": replaced; malloc'ed. A value ends with a comma, a line, or a bracket. */
static char *with_value(const char *text, const char *name, int nth, const char *value) {
    char key[64];
    snprintf(key, sizeof key, "\"%s\": ", name);
    const char *at = text;
    for (int i = 0; i <= nth; i++) {
        at = strstr(i ? at + 1 : at, key);
        assert_non_null(at);
    }
    at += strlen(key);
    size_t depth = 0, n = 0;
    for (; at[n] && (depth || !strchr(",\n}]", at[n])); n++) depth += (at[n] == '[' || at[n] == '{') - (at[n] == ']' || at[n] == '}');
    char *out = malloc(strlen(text) + strlen(value) + 1);
    assert_non_null(out);
    memcpy(out, text, (size_t)(at - text));
    strcpy(out + (at - text), value);
    strcat(out, at + n);
    return out;
}

static void a_table_that_no_measurement_gives_is_refused_with_a_reason(void **state) {
    (void)state;
    const ds_engine_params params = usual();
    ds_engine *engine = open_unprepared(&params);
    size_t size;
    char *path, *text = stored(engine, &path, &size);
    for (size_t cut = 0; cut + 2 < size; cut += 37) { /* cut off anywhere: what is behind the closing brace is a newline */
        check_overwrite(path, text, cut);
        assert_false(loads(engine));
        check_contains(warning, "measured anew");
    }
    static const char *const numbers[] = {"-1", "1e300", "1e999", "NaN", "\"1\"", "null", "[]", "true"};
    static const struct {
        const char *name;
        int nth;
    } places[] = {{"seconds", 0}, {"seconds", 2}, {"per_position", 1}, {"seconds", 3}, {"per_slot", 0}, {"per_sequence", 0}, {"per_row", 0}, {"rows", 0}, {"slots", 0}};
    for (size_t p = 0; p < DS_COUNT(places); p++) {
        for (size_t i = 0; i < DS_COUNT(numbers); i++) {
            char *changed = with_value(text, places[p].name, places[p].nth, numbers[i]);
            check_overwrite(path, changed, strlen(changed));
            if (loads(engine)) fail_msg("%s number %d as %s was taken", places[p].name, places[p].nth, numbers[i]);
            check_contains(warning, "measured anew");
            free(changed);
        }
    }
    static const struct {
        const char *name;
        int nth;
        const char *value;
    } wrong[] = {{"rows", 1, "1"}, {"rows", 2, "3"}, {"rows", 0, "2"}, {"rows", 2, "5000"}, {"seconds", 0, "0"}, {"seconds", 1, "0.5"}, /* dearer than more rows are */
                 {"slots", 0, "8"}, {"slots", 0, "0"}, {"passes", 0, "[]"}, {"passes", 0, "7"}, {"draft", 0, "null"}, {"key", 0, "\"another\""}};
    for (size_t i = 0; i < DS_COUNT(wrong); i++) {
        char *changed = with_value(text, wrong[i].name, wrong[i].nth, wrong[i].value);
        check_overwrite(path, changed, strlen(changed));
        if (loads(engine)) fail_msg("%s number %d as %s was taken", wrong[i].name, wrong[i].nth, wrong[i].value);
        check_contains(warning, "measured anew");
        free(changed);
    }
    check_overwrite(path, text, size);
    assert_true(loads(engine));
    assert_string_equal(warning, "");
    free(text);
    free(path);
    ds_engine_destroy(engine);
}

/* What was learned may be damaged without the table: the table is taken, and nothing has been learned. */
static void what_was_learned_and_makes_no_sense_is_left_out(void **state) {
    (void)state;
    const ds_engine_params params = usual();
    ds_engine *engine = open_unprepared(&params);
    size_t size;
    char *path, *text = stored(engine, &path, &size);
    static const struct {
        const char *name, *value;
    } wrong[] = {{"tokens", "-1"}, {"tokens", "1e300"}, {"credit", "1e9"}, {"wait", "0"}, {"since", "-3"}, {"use", "[1,2]"}, {"reached", "[2,0,0,0,0,0,0]"},
                 {"company", "[0,1]"}, {"pass", "[0,0,0]"}, {"pass_seen", "[-1,0,0]"}, {"shift", "[1e9,0,0,0,0,0,0]"}, {"evidence", "7"}, {"slope", "[-1,0]"},
                 {"learned", "7"}, {"learned", "{}"}};
    for (size_t i = 0; i < DS_COUNT(wrong); i++) {
        char *changed = with_value(text, wrong[i].name, 0, wrong[i].value);
        check_overwrite(path, changed, strlen(changed));
        struct ds_pace_learned learned;
        warning[0] = '\0';
        assert_true(ds_costs_load(engine, &learned));
        if (!strstr(warning, "learned anew")) fail_msg("%s as %s was taken", wrong[i].name, wrong[i].value);
        assert_true(learned.seen == 0 && learned.committed == 0 && !learned.parked && learned.costs.tuning.pass[0] == 1);
        free(changed);
    }
    free(text);
    free(path);
    ds_engine_destroy(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_costs_depend_on_has_a_table_of_its_own, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_table_that_no_measurement_gives_is_refused_with_a_reason, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(what_was_learned_and_makes_no_sense_is_left_out, make_folder, remove_folder),
    };
    return cmocka_run_group_tests_name("cost files", tests, NULL, NULL);
}
