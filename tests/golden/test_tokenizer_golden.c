/*
 * Every string of tests/golden/tokenizer/<name>/cases.jsonl gives the ids that the reference implementation gave, and its ids
 * decode to the same text, special tokens kept and left out. README.md there says where the cases come from.
 */
#include "base/json.h"
#include "ckpt/ckpt_internal.h"
#include "text/buffer.h"
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
    if (found.count != json_array_size(ids))
        fail_msg("%s, line %u: %zu ids, expected %zu", name, line, found.count, json_array_size(ids));
    for (size_t i = 0; i < found.count; i++)
        if (found.ids[i] != json_integer_value(json_array_get(ids, i)))
            fail_msg("%s, line %u: id %zu is %d, expected %d", name, line, i, found.ids[i],
                     (int)json_integer_value(json_array_get(ids, i)));
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

/* --- the same vocabularies as GGUF metadata --- */

enum { GGUF_STRING = 8, GGUF_ARRAY = 9, GGUF_INT32 = 5 };

static void put(struct ds_buffer *out, const void *data, size_t n) {
    struct ds_error err;
    assert_int_equal(ds_buffer_append(out, data, n, &err), DS_OK);
}
static void put_u32(struct ds_buffer *out, uint32_t value) {
    put(out, &value, sizeof value);
}
static void put_u64(struct ds_buffer *out, uint64_t value) {
    put(out, &value, sizeof value);
}
static void put_string(struct ds_buffer *out, const char *text, size_t n) {
    put_u64(out, n);
    put(out, text, n);
}
static void put_key(struct ds_buffer *out, const char *key, uint32_t type) {
    put_string(out, key, strlen(key));
    put_u32(out, type);
}
static void put_array(struct ds_buffer *out, const char *key, uint32_t type, size_t n) {
    put_key(out, key, GGUF_ARRAY);
    put_u32(out, type);
    put_u64(out, n);
}

struct entry {
    const char *text;
    size_t length;
    int32_t type;
};

/* By id. Ids without a token get type 5, "unused", as converters write it. */
static struct entry *entries_of(const json_t *root, size_t *count) {
    json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab"), *added = json_object_get(root, "added_tokens"),
           *value;
    const char *text;
    size_t i, highest = 0;
    json_object_foreach(vocab, text, value) highest = DS_MAX(highest, (size_t)json_integer_value(value));
    json_array_foreach(added, i, value) highest = DS_MAX(highest, (size_t)json_integer_value(json_object_get(value, "id")));
    *count = highest + 1;
    struct entry *entries = calloc(*count, sizeof *entries);
    assert_non_null(entries);
    for (i = 0; i < *count; i++) entries[i] = (struct entry){"", 0, 5};
    json_object_foreach(vocab, text, value) entries[json_integer_value(value)] = (struct entry){text, strlen(text), 1};
    json_array_foreach(added, i, value) {
        const json_t *content = json_object_get(value, "content");
        entries[json_integer_value(json_object_get(value, "id"))] = (struct entry){
            json_string_value(content), json_string_length(content), json_is_true(json_object_get(value, "special")) ? 3 : 4};
    }
    return entries;
}

static void put_merges(struct ds_buffer *out, const json_t *merges) {
    size_t i;
    json_t *value;
    put_array(out, "tokenizer.ggml.merges", GGUF_STRING, json_array_size(merges));
    json_array_foreach(merges, i, value) {
        if (json_is_string(value)) {
            put_string(out, json_string_value(value), json_string_length(value));
            continue;
        }
        const json_t *left = json_array_get(value, 0), *right = json_array_get(value, 1);
        put_u64(out, json_string_length(left) + 1 + json_string_length(right));
        put(out, json_string_value(left), json_string_length(left));
        put(out, " ", 1);
        put(out, json_string_value(right), json_string_length(right));
    }
}

static struct ds_buffer gguf_of(const json_t *root, const char *pre) {
    struct ds_buffer out = {0};
    size_t count;
    struct entry *entries = entries_of(root, &count);
    put(&out, "GGUF", 4);
    put_u32(&out, 3);
    put_u64(&out, 0);
    put_u64(&out, 6);
    put_key(&out, "general.architecture", GGUF_STRING);
    put_string(&out, "qwen3", 5);
    put_key(&out, "tokenizer.ggml.model", GGUF_STRING);
    put_string(&out, "gpt2", 4);
    put_key(&out, "tokenizer.ggml.pre", GGUF_STRING);
    put_string(&out, pre, strlen(pre));
    put_array(&out, "tokenizer.ggml.tokens", GGUF_STRING, count);
    for (size_t i = 0; i < count; i++) put_string(&out, entries[i].text, entries[i].length);
    put_array(&out, "tokenizer.ggml.token_type", GGUF_INT32, count);
    for (size_t i = 0; i < count; i++) put(&out, &entries[i].type, sizeof entries[i].type);
    put_merges(&out, json_object_get(json_object_get(root, "model"), "merges"));
    while (out.length % 32) put(&out, "", 1);
    free(entries);
    return out;
}

static void check_gguf(const struct ds_ckpt *ckpt, const char *cases) {
    struct ds_tokenizer *tokenizer;
    struct ds_error err;
    if (ds_tokenizer_open(ckpt, &tokenizer, &err) != DS_OK) fail_msg("%s", err.message);
    assert_non_null(tokenizer);
    assert_int_equal(check_cases(tokenizer, cases), 400);
    ds_tokenizer_close(tokenizer);
}

static void check_as_gguf(const char *tokenizer_path, const char *pre, const char *cases) {
    json_t *root;
    struct ds_ckpt *ckpt;
    struct ds_error err;
    if (ds_json_read_file(tokenizer_path, 64u << 20, &root, &err) != DS_OK) fail_msg("%s", err.message);
    struct ds_buffer gguf = gguf_of(root, pre);
    if (ds_ckpt_open_memory(DS_CKPT_GGUF, "converted", gguf.data, gguf.length, &ckpt, &err) != DS_OK)
        fail_msg("%s", err.message);
    check_gguf(ckpt, cases);
    ds_ckpt_close(ckpt);
    free(gguf.data);
    json_decref(root);
}

static void qwen_gives_the_reference_ids_from_gguf_metadata(void **state) {
    (void)state;
    check_as_gguf(CASES "qwen/tokenizer.json", "qwen2", CASES "qwen/cases.jsonl");
}
static void deepseek_gives_the_reference_ids_from_gguf_metadata(void **state) {
    (void)state;
    check_as_gguf(CASES "deepseek/tokenizer.json", "deepseek-v3", CASES "deepseek/cases.jsonl");
}

/* A file of another project's converter, its tensors left out. */
static void pair_gives_the_reference_ids_from_a_converted_gguf(void **state) {
    (void)state;
    struct ds_ckpt *ckpt;
    struct ds_error err;
    if (ds_ckpt_open(CASES "pair/vocab.gguf", &ckpt, &err) != DS_OK) fail_msg("%s", err.message);
    check_gguf(ckpt, CASES "pair/cases.jsonl");
    ds_ckpt_close(ckpt);
}

static ds_status open_pair_as(const char *pre, struct ds_error *err) {
    json_t *root;
    struct ds_ckpt *ckpt;
    struct ds_tokenizer *tokenizer;
    if (ds_json_read_file(ROOT "models/tiny/target/tokenizer.json", 64u << 20, &root, err) != DS_OK)
        fail_msg("%s", err->message);
    struct ds_buffer gguf = gguf_of(root, pre);
    if (ds_ckpt_open_memory(DS_CKPT_GGUF, "converted", gguf.data, gguf.length, &ckpt, err) != DS_OK)
        fail_msg("%s", err->message);
    const ds_status status = ds_tokenizer_open(ckpt, &tokenizer, err);
    ds_tokenizer_close(tokenizer);
    ds_ckpt_close(ckpt);
    free(gguf.data);
    json_decref(root);
    return status;
}

static void every_known_pre_tokenizer_opens_and_others_are_refused_by_name(void **state) {
    (void)state;
    static const char *const known[] = {"gpt-2",       "qwen2",        "deepseek-r1-qwen", "qwen35",
                                        "deepseek-v3", "deepseek-llm", "deepseek-coder"};
    struct ds_error err;
    for (size_t i = 0; i < DS_COUNT(known); i++)
        if (open_pair_as(known[i], &err) != DS_OK) fail_msg("%s: %s", known[i], err.message);
    /* Llama 3's files add a begin token unless they say otherwise, and this one has none. */
    assert_int_equal(open_pair_as("llama-bpe", &err), DS_ERROR_FORMAT);
    assert_non_null(strstr(err.message, "bos_token_id"));
    assert_int_equal(open_pair_as("default", &err), DS_ERROR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "convert the model again"));
    assert_int_equal(open_pair_as("tekken", &err), DS_ERROR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "\"tekken\""));
    assert_non_null(strstr(err.message, "qwen2"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pair_gives_the_reference_ids_from_json),
        cmocka_unit_test(qwen_gives_the_reference_ids_from_json),
        cmocka_unit_test(deepseek_gives_the_reference_ids_from_json),
        cmocka_unit_test(qwen_gives_the_reference_ids_from_gguf_metadata),
        cmocka_unit_test(deepseek_gives_the_reference_ids_from_gguf_metadata),
        cmocka_unit_test(pair_gives_the_reference_ids_from_a_converted_gguf),
        cmocka_unit_test(every_known_pre_tokenizer_opens_and_others_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
