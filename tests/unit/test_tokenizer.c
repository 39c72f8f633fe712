/* Text becomes ids and ids become text as the tokenizer says, for every input. */
#include "text/bpe.h"
#include "tiny_tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct ds_tokenizer *open_tiny(void) {
    json_t *document = tiny_document();
    struct ds_tokenizer *tokenizer;
    struct ds_error err;
    if (tiny_open(document, NULL, &tokenizer, &err) != DS_OK) fail_msg("%s", err.message);
    json_decref(document);
    return tokenizer;
}

static void check(const struct ds_tokenizer *tokenizer, const char *text, bool special, const int32_t *expected, size_t count) {
    struct ds_ids ids = {0};
    struct ds_error err;
    assert_int_equal(ds_tokenizer_encode(tokenizer, text, strlen(text), special, &ids, &err), DS_OK);
    if (ids.count != count) fail_msg("'%s': %zu ids, expected %zu", text, ids.count, count);
    for (size_t i = 0; i < count; i++)
        if (ids.ids[i] != expected[i]) fail_msg("'%s': id %zu is %d, expected %d", text, i, ids.ids[i], expected[i]);
    free(ids.ids);
}
#define CHECK(text, special, ...)                                                                                              \
    check(tokenizer, text, special, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static void merges_join_the_lowest_rank_first_and_the_leftmost_of_equals(void **state) {
    (void)state;
    struct ds_tokenizer *tokenizer = open_tiny();
    CHECK("the the", true, TINY_THE, TINY_SPACE_THE);
    CHECK("aaa", true, TINY_AA, 'a');
    CHECK("aaaaaaa", true, TINY_AAAA, TINY_AA, 'a');
    ds_tokenizer_close(tokenizer);
}

static void special_tokens_are_text_unless_asked_for_but_other_added_tokens_are_not(void **state) {
    (void)state;
    struct ds_tokenizer *tokenizer = open_tiny();
    CHECK("x<|im_end|><think>", true, 'x', TINY_END, TINY_THINK);
    CHECK("<|im_end|><think>", false, '<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|', '>', TINY_THINK);
    assert_true(ds_tokenizer_is_special(tokenizer, TINY_END));
    assert_false(ds_tokenizer_is_special(tokenizer, TINY_THINK));
    ds_tokenizer_close(tokenizer);
}

static void added_tokens_strip_blanks_and_respect_words(void **state) {
    (void)state;
    struct ds_tokenizer *tokenizer = open_tiny();
    CHECK("x \n<greedy>\t y", true, 'x', TINY_GREEDY, 'y');
    CHECK("<greedy>  <greedy>", true, TINY_GREEDY, TINY_GREEDY);
    CHECK("(word)", true, '(', TINY_WORD, ')');
    CHECK("words", true, 'w', 'o', 'r', 'd', 's');
    CHECK("\xC3\xA9word", true, 0xC3, 0xA9, 'w', 'o', 'r', 'd');
    ds_tokenizer_close(tokenizer);
}

static void a_normalized_token_is_found_in_every_spelling(void **state) {
    (void)state;
    struct ds_tokenizer *tokenizer = open_tiny();
    CHECK("e\xCC\x81\xCC\x81", true, TINY_ACCENT);
    CHECK("\xC3\xA9\xCC\x81", true, TINY_ACCENT);
    CHECK("e\xCC\x81", true, 0xC3, 0xA9); /* NFC */
    ds_tokenizer_close(tokenizer);
}

static void every_byte_string_decodes_to_itself_when_it_is_in_normal_form(void **state) {
    (void)state;
    struct ds_tokenizer *tokenizer = open_tiny();
    uint32_t random = 1;
    for (unsigned round = 0; round < 2000; round++) {
        char text[24], back[256];
        size_t length = 0;
        for (size_t i = 0; i < sizeof text; i++) { /* no byte CC: then nothing is composed */
            random = random * 1664525u + 1013904223u;
            const uint8_t byte = (uint8_t)(random >> 24);
            text[i] = (char)(byte >= 0xCC && byte < 0xF5 ? 0x20 + byte % 64 : byte);
        }
        struct ds_ids ids = {0};
        struct ds_error err;
        assert_int_equal(ds_tokenizer_encode(tokenizer, text, sizeof text, true, &ids, &err), DS_OK);
        for (size_t i = 0; i < ids.count; i++) {
            const struct ds_text bytes = ds_tokenizer_bytes(tokenizer, ids.ids[i]);
            memcpy(back + length, bytes.data, bytes.length);
            length += bytes.length;
        }
        assert_int_equal(length, sizeof text);
        assert_memory_equal(back, text, length);
        free(ids.ids);
    }
    ds_tokenizer_close(tokenizer);
}

static void an_invalid_byte_is_its_token_and_parts_the_text(void **state) {
    (void)state;
    struct ds_tokenizer *tokenizer = open_tiny();
    CHECK("the\xFFthe\xE2\x82", true, TINY_THE, 0xFF, TINY_THE, 0xE2, 0x82);
    ds_tokenizer_close(tokenizer);
}

static void unknown_ids_decode_to_nothing(void **state) {
    (void)state;
    struct ds_tokenizer *tokenizer = open_tiny();
    const int32_t ids[] = {-1, INT32_MIN, 'a', 280, 100000, INT32_MAX, TINY_END, 'b'};
    char *text;
    size_t length;
    struct ds_error err;
    assert_int_equal(ds_tokenizer_decode(tokenizer, ids, DS_COUNT(ids), true, &text, &length, &err), DS_OK);
    assert_string_equal(text, "ab");
    free(text);
    ds_tokenizer_close(tokenizer);
}

static void a_failed_or_empty_call_appends_nothing(void **state) {
    (void)state;
    struct ds_tokenizer *tokenizer = open_tiny();
    struct ds_ids ids = {0};
    struct ds_error err;
    assert_int_equal(ds_tokenizer_encode(tokenizer, "", 0, true, &ids, &err), DS_OK);
    assert_int_equal(ids.count, 0);
    assert_int_equal(ds_tokenizer_encode(tokenizer, NULL, 0, true, &ids, &err), DS_OK);
    free(ids.ids);
    ds_tokenizer_close(tokenizer);
}

/* --- cost --- */

/* Merges of two-letter alphabets to depth 16, so that every merge goes through the queue. */
static uint64_t steps_for(size_t n) {
    struct ds_arena arena = {0};
    struct ds_bpe bpe = {.unknown = -1};
    struct ds_bpe_work work = {0};
    struct ds_ids ids = {0};
    struct ds_error err;
    assert_int_equal(ds_bpe_init(&bpe, 64, &arena, &err), DS_OK);
    for (int byte = 0; byte < 256; byte++) bpe.byte_ids[byte] = byte;
    for (int depth = 0; depth < 20; depth++) {
        const int32_t part = depth ? 256 + depth - 1 : 'a';
        ds_bpe_add_merge(&bpe, (uint32_t)depth, part, part, 256 + depth);
    }
    char *text = malloc(n);
    assert_non_null(text);
    memset(text, 'a', n);
    assert_int_equal(ds_bpe_encode(&bpe, &work, text, n, &ids, &err), DS_OK);
    const uint64_t steps = work.steps;
    free(text);
    free(ids.ids);
    ds_bpe_work_free(&work);
    ds_arena_free(&arena);
    return steps;
}

static void merging_costs_n_log_n_steps(void **state) {
    (void)state;
    const size_t small = 1 << 13, large = 1 << 16;
    const double small_steps = (double)steps_for(small), large_steps = (double)steps_for(large);
    assert_true(small_steps < 8.0 * (double)small * 13);
    assert_true(large_steps < 8.0 * (double)large * 16);
    assert_true(large_steps < small_steps * 8 * 2); /* quadratic would be 64 */
}

static void ignore_merges_takes_a_token_whole(void **state) {
    (void)state;
    json_t *document = tiny_document(), *model = json_object_get(document, "model");
    json_object_set_new(json_object_get(model, "vocab"), "xyz", json_integer(290));
    struct ds_tokenizer *tokenizer;
    struct ds_error err;
    assert_int_equal(tiny_open(document, NULL, &tokenizer, &err), DS_OK);
    CHECK("xyz", true, 'x', 'y', 'z');
    ds_tokenizer_close(tokenizer);
    json_object_set_new(model, "ignore_merges", json_true());
    assert_int_equal(tiny_open(document, NULL, &tokenizer, &err), DS_OK);
    CHECK("xyz", true, 290);
    CHECK("xyzx", true, 'x', 'y', 'z', 'x');
    ds_tokenizer_close(tokenizer);
    json_decref(document);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_join_the_lowest_rank_first_and_the_leftmost_of_equals),
        cmocka_unit_test(special_tokens_are_text_unless_asked_for_but_other_added_tokens_are_not),
        cmocka_unit_test(added_tokens_strip_blanks_and_respect_words),
        cmocka_unit_test(a_normalized_token_is_found_in_every_spelling),
        cmocka_unit_test(every_byte_string_decodes_to_itself_when_it_is_in_normal_form),
        cmocka_unit_test(an_invalid_byte_is_its_token_and_parts_the_text),
        cmocka_unit_test(unknown_ids_decode_to_nothing),
        cmocka_unit_test(a_failed_or_empty_call_appends_nothing),
        cmocka_unit_test(merging_costs_n_log_n_steps),
        cmocka_unit_test(ignore_merges_takes_a_token_whole),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
