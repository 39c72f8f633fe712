/*
 * Every string of tests/golden/tokenizer/<name>/cases.jsonl gives the ids that the reference implementation gave, and its ids decode to the
 * same text, special tokens kept and left out. README.md there says where the cases come from.
 */
#include "base/json.h"
#include "text/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ROOT DSPARK_SOURCE_ROOT "/"
#define CASES ROOT "tests/golden/tokenizer/"

static void check_ids(const struct ds_tokenizer *tokenizer, const json_t *expected, const char *name, unsigned line) {
    const json_t *text = json_object_get(expected, "text"), *ids = json_object_get(expected, "ids");
    const bool special = json_is_true(json_object_get(expected, "parse_special"));
    struct ds_ids found = {0};
    struct ds_error err;
    if (ds_tokenizer_encode(tokenizer, json_string_value(text), json_string_length(text), special, &found, &err) != DS_OK)
        fail_msg("%s, line %u: %s", name, line, err.message);
    if (found.count != json_array_size(ids)) fail_msg("%s, line %u: %zu ids, expected %zu", name, line, found.count, json_array_size(ids));
    for (size_t i = 0; i < found.count; i++)
        if (found.ids[i] != json_integer_value(json_array_get(ids, i)))
            fail_msg("%s, line %u: id %zu is %d, expected %d", name, line, i, found.ids[i], (int)json_integer_value(json_array_get(ids, i)));
    free(found.ids);
}

static void check_text(const struct ds_tokenizer *tokenizer, const json_t *expected, const char *member, const char *name,
                       unsigned line) {
    const json_t *text = json_object_get(expected, member), *list = json_object_get(expected, "ids");
    const size_t count = json_array_size(list);
    int32_t *ids = malloc((count + 1) * sizeof *ids);
    assert_non_null(ids);
    for (size_t i = 0; i < count; i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    char *found;
    size_t length;
    struct ds_error err;
    if (ds_tokenizer_decode(tokenizer, ids, count, strcmp(member, "decoded") != 0, &found, &length, &err) != DS_OK)
        fail_msg("%s, line %u: %s", name, line, err.message);
    if (length != json_string_length(text) || memcmp(found, json_string_value(text), length) != 0)
        fail_msg("%s, line %u: %s is '%s', expected '%s'", name, line, member, found, json_string_value(text));
    free(found);
    free(ids);
}

/* Returns the number of cases, so that an empty file is no success. */
static unsigned check_cases(const struct ds_tokenizer *tokenizer, const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) fail_msg("cannot open %s", path);
    char *text = NULL;
    size_t capacity = 0;
    unsigned line = 0;
    for (ssize_t n; (n = getline(&text, &capacity, file)) > 0;) {
        json_t *expected;
        struct ds_error err;
        line++;
        if (ds_json_parse(text, (size_t)n, &expected, &err) != DS_OK) fail_msg("%s, line %u: %s", path, line, err.message);
        check_ids(tokenizer, expected, path, line);
        check_text(tokenizer, expected, "decoded", path, line);
        check_text(tokenizer, expected, "decoded_skip_special", path, line);
        json_decref(expected);
    }
    free(text);
    fclose(file);
    return line;
}

static void check_json(const char *tokenizer_path, const char *cases) {
    struct ds_tokenizer *tokenizer;
    struct ds_error err;
    if (ds_tokenizer_open_json(tokenizer_path, &tokenizer, &err) != DS_OK) fail_msg("%s", err.message);
    assert_int_equal(check_cases(tokenizer, cases), 400);
    ds_tokenizer_close(tokenizer);
}

static void pair_gives_the_reference_ids_from_json(void **state) {
    (void)state;
    check_json(ROOT "models/tiny/target/tokenizer.json", CASES "pair/cases.jsonl");
}
static void qwen_gives_the_reference_ids_from_json(void **state) {
    (void)state;
    check_json(CASES "qwen/tokenizer.json", CASES "qwen/cases.jsonl");
}
static void deepseek_gives_the_reference_ids_from_json(void **state) {
    (void)state;
    check_json(CASES "deepseek/tokenizer.json", CASES "deepseek/cases.jsonl");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pair_gives_the_reference_ids_from_json),
        cmocka_unit_test(qwen_gives_the_reference_ids_from_json),
        cmocka_unit_test(deepseek_gives_the_reference_ids_from_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
