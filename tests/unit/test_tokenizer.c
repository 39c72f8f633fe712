#include "text/bpe.h"
#include "text/normalize.h"
#include "text/pretokenize.h"
#include "tiny_tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

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

/* --- splitting --- */

struct words {
    char text[256];
};
static ds_status collect(void *user, const char *word, size_t length, struct ds_error *err) {
    struct words *words = user;
    (void)err;
    snprintf(words->text + strlen(words->text), sizeof words->text - strlen(words->text), "[%.*s]", (int)length, word);
    return DS_OK;
}

static void check_split(const char *pattern, bool literal, ds_split_behavior behavior, bool invert, const char *text,
                        const char *expected) {
    struct ds_pretokenizer pre = {0};
    struct ds_pretokenizer_work work = {0};
    struct words words = {0};
    struct ds_error err;
    if (ds_pretokenizer_add(&pre, pattern, strlen(pattern), literal, behavior, invert, &err) != DS_OK)
        fail_msg("%s", err.message);
    assert_int_equal(ds_pretokenize(&pre, &work, text, strlen(text), collect, &words, &err), DS_OK);
    assert_string_equal(words.text, expected);
    ds_pretokenizer_work_free(&work);
    ds_pretokenizer_free(&pre);
}

/* The example of the reference's documentation: "the-final--countdown", split at "-". */
static void split_behaviors_place_matches_as_the_reference_does(void **state) {
    (void)state;
    const char *text = "the-final--countdown";
    check_split("-", true, DS_SPLIT_REMOVED, false, text, "[the][final][countdown]");
    check_split("-", true, DS_SPLIT_ISOLATED, false, text, "[the][-][final][-][-][countdown]");
    check_split("-", true, DS_SPLIT_MERGED_WITH_PREVIOUS, false, text, "[the-][final-][-][countdown]");
    check_split("-", true, DS_SPLIT_MERGED_WITH_NEXT, false, text, "[the][-final][-][-countdown]");
    check_split("-", true, DS_SPLIT_CONTIGUOUS, false, text, "[the][-][final][--][countdown]");
    check_split("\\w+", false, DS_SPLIT_REMOVED, true, text, "[the][final][countdown]");
    check_split("x*", false, DS_SPLIT_ISOLATED, false, "axxb", "[a][xx][b]");
}

static void blanks_and_words_are_those_of_the_reference_engine(void **state) {
    (void)state;
    check_split("\\s", false, DS_SPLIT_REMOVED, false,
                "a\xC2\x85"
                "b\xC2\xA0"
                "c\xE2\x80\xA8"
                "d",
                "[a][b][c][d]");
    check_split("\\s", false, DS_SPLIT_REMOVED, false,
                "a\xE1\xA0\x8E"
                "b",
                "[a\xE1\xA0\x8E"
                "b]"); /* U+180E */
    check_split("[^\\S]", false, DS_SPLIT_REMOVED, false,
                "a\xE1\xA0\x8E"
                "b c",
                "[a\xE1\xA0\x8E"
                "b][c]");
    check_split("(?i:'s)", false, DS_SPLIT_ISOLATED, false, "x's'S'\xC5\xBF", "[x]['s]['S]['\xC5\xBF]");
    check_split("\\w+", false, DS_SPLIT_REMOVED, true, "e\xCC\x81_1 \xE2\x80\xBF.\xC2\xBD",
                "[e\xCC\x81_1][\xE2\x80\xBF][\xC2\xBD]");
    check_split("[\\w]+", false, DS_SPLIT_REMOVED, true, "a \xC2\xBD", "[a]"); /* in a class the half is no word character */
}

static void patterns_that_would_mean_something_else_are_refused(void **state) {
    (void)state;
    static const char *const patterns[] = {"\\p{N}{1,3}+", "[a&&b]", "[a[b]]", "\\bx",  "(a)\\1", "\\h", "(?<n>a)", "(?m)a",
                                           "(*VERB)",      "a{,3}",  "\\xFF",  "[\\W]", "\\",     "[",   "(",       "\\p{Foo}",
                                           "\\Ka",         "(?R)",   "\\C"};
    for (size_t i = 0; i < DS_COUNT(patterns); i++) {
        struct ds_regex *regex;
        struct ds_error err = {0};
        if (ds_regex_compile(patterns[i], strlen(patterns[i]), false, &regex, &err) == DS_OK)
            fail_msg("%s was accepted", patterns[i]);
        assert_null(regex);
        assert_non_null(strstr(err.message, "regular expression"));
    }
}

static void endless_backtracking_ends_with_an_error(void **state) {
    (void)state;
    struct ds_regex *regex;
    struct ds_error err;
    const char pattern[] = "(?:a|aa)+(?:a|aa)+[bc]";
    char text[64];
    memset(text, 'a', sizeof text);
    bool found;
    struct ds_range range;
    assert_int_equal(ds_regex_compile(pattern, strlen(pattern), false, &regex, &err), DS_OK);
    struct ds_regex_match *match = ds_regex_match_create();
    assert_int_equal(ds_regex_find(regex, match, text, sizeof text, 0, &found, &range, &err), DS_ERROR_LIMIT);
    ds_regex_match_destroy(match);
    ds_regex_free(regex);
}

static void long_runs_of_marks_are_put_in_order_and_composed(void **state) {
    (void)state;
    /* U+0301 (class 230) before U+0316 (class 220), many times: sorted, the first acute composed with its letter. */
    enum { PAIRS = 50000 };
    char *text = malloc(1 + 4 * PAIRS);
    assert_non_null(text);
    text[0] = 'e';
    for (size_t i = 0; i < PAIRS; i++) memcpy(text + 1 + 4 * i, "\xCC\x81\xCC\x96", 4);
    struct ds_buffer out = {0};
    struct ds_error err;
    assert_int_equal(ds_normalize(DS_NORMAL_NFC, text, 1 + 4 * PAIRS, &out, &err), DS_OK);
    assert_int_equal(out.length, 2 + 4 * PAIRS - 2);
    assert_memory_equal(out.data, "\xC3\xA9\xCC\x96\xCC\x96", 6);
    assert_memory_equal(out.data + out.length - 4, "\xCC\x81\xCC\x81", 4);
    free(out.data);
    free(text);
}

/* --- files --- */

/* Opens the document with one member replaced (deleted: NULL) and expects the message to hold `said`. */
static void expect_refusal(const char *object, const char *member, json_t *value, ds_status status, const char *said) {
    json_t *document = tiny_document(), *target = object ? json_object_get(document, object) : document;
    if (value)
        json_object_set_new(target, member, value);
    else
        json_object_del(target, member);
    struct ds_tokenizer *tokenizer;
    struct ds_error err = {0};
    assert_int_equal(tiny_open(document, NULL, &tokenizer, &err), status);
    assert_null(tokenizer);
    if (!strstr(err.message, said)) fail_msg("'%s' does not say '%s'", err.message, said);
    assert_null(strchr(err.message, '\n'));
    json_decref(document);
}

static void wrong_types_are_refused_by_the_name_of_the_member(void **state) {
    (void)state;
    expect_refusal(NULL, "model", json_string("x"), DS_ERROR_FORMAT, "model: expected an object, found a string");
    expect_refusal(NULL, "model", NULL, DS_ERROR_FORMAT, "model: expected an object");
    expect_refusal("model", "vocab", json_array(), DS_ERROR_FORMAT, "model.vocab: expected an object, found an array");
    expect_refusal("model", "vocab", json_object(), DS_ERROR_FORMAT, "merge 0: 't' is not in the vocabulary");
    expect_refusal("model", "merges", NULL, DS_ERROR_FORMAT, "model.merges");
    expect_refusal("model", "merges", json_pack("[i]", 1), DS_ERROR_FORMAT, "model.merges[0]");
    expect_refusal("model", "merges", json_pack("[[s]]", "a"), DS_ERROR_FORMAT, "model.merges[0]");
    expect_refusal("model", "merges", json_pack("[s]", "a b c"), DS_ERROR_FORMAT, "merge 0");
    expect_refusal("model", "merges", json_pack("[s]", "q\nq q"), DS_ERROR_FORMAT, "merge 0");
    expect_refusal("model", "unk_token", json_string("nowhere"), DS_ERROR_FORMAT, "unk_token");
    expect_refusal(NULL, "added_tokens", json_object(), DS_ERROR_FORMAT, "added_tokens: expected an array");
    expect_refusal(NULL, "added_tokens", json_pack("[i]", 5), DS_ERROR_FORMAT, "added_tokens[]");
    expect_refusal("pre_tokenizer", "use_regex", json_integer(1), DS_ERROR_FORMAT,
                   "pre_tokenizer.use_regex: expected a boolean, found a number");
    expect_refusal(NULL, "normalizer", json_pack("{s:s}", "kind", "NFC"), DS_ERROR_FORMAT, "normalizer.type");
}

static void what_is_not_supported_is_named(void **state) {
    (void)state;
    expect_refusal("model", "type", json_string("Unigram"), DS_ERROR_UNSUPPORTED, "\"Unigram\"");
    expect_refusal("model", "byte_fallback", json_true(), DS_ERROR_UNSUPPORTED, "byte_fallback");
    expect_refusal("model", "dropout", json_real(0.1), DS_ERROR_UNSUPPORTED, "dropout");
    expect_refusal("model", "end_of_word_suffix", json_string("</w>"), DS_ERROR_UNSUPPORTED, "end_of_word_suffix");
    expect_refusal(NULL, "normalizer", json_pack("{s:s, s:s}", "type", "Prepend", "prepend", "_"), DS_ERROR_UNSUPPORTED,
                   "\"Prepend\"");
    expect_refusal(NULL, "pre_tokenizer", json_pack("{s:s}", "type", "Metaspace"), DS_ERROR_UNSUPPORTED, "\"Metaspace\"");
    expect_refusal(NULL, "pre_tokenizer", json_null(), DS_ERROR_UNSUPPORTED, "ByteLevel");
    expect_refusal(NULL, "decoder", json_pack("{s:s}", "type", "WordPiece"), DS_ERROR_UNSUPPORTED, "\"WordPiece\"");
}

static json_t *token(const char *content, json_int_t id) {
    return json_pack("[{s:s, s:I}]", "content", content, "id", id);
}

static void ids_out_of_range_huge_or_taken_are_refused(void **state) {
    (void)state;
    static const json_int_t bad[] = {-1, (json_int_t)1 << 30, INT32_MAX, (json_int_t)1 << 31, (json_int_t)1 << 32, INT64_MAX};
    for (size_t i = 0; i < DS_COUNT(bad); i++) {
        expect_refusal(NULL, "added_tokens", token("new", bad[i]), DS_ERROR_FORMAT, "'new'");
        expect_refusal("model", "vocab", json_pack("{s:I}", "x", bad[i]), DS_ERROR_FORMAT, "'x'");
    }
    expect_refusal("model", "vocab", json_pack("{s:i, s:i}", "x", 1, "y", 1), DS_ERROR_FORMAT, "another token has too");
    expect_refusal("model", "vocab", json_pack("{s:s}", "x", "1"), DS_ERROR_FORMAT, "'x'");
    expect_refusal(NULL, "added_tokens", token("new", 'a'), DS_ERROR_FORMAT, "another token has too");
    expect_refusal(NULL, "added_tokens", token("th", 'a'), DS_ERROR_FORMAT, "the vocabulary gives it 256");
}

static void a_file_cut_anywhere_is_refused(void **state) {
    (void)state;
    json_t *document = tiny_document();
    char *text = json_dumps(document, 0);
    const size_t length = strlen(text);
    for (size_t n = 0; n < length; n += n + 64 < length ? 7 : 1) {
        struct ds_tokenizer *tokenizer;
        struct ds_error err;
        assert_int_not_equal(ds_tokenizer_parse_json("tiny", text, n, NULL, 0, &tokenizer, &err), DS_OK);
        assert_null(tokenizer);
    }
    free(text);
    json_decref(document);
}

static void the_begin_token_comes_from_the_configuration_or_the_post_processor(void **state) {
    (void)state;
    static const struct {
        const char *config;
        bool processor, adds;
        int32_t bos;
    } cases[] = {
        {NULL, false, false, -1},
        {"{}", false, false, -1},
        {"{\"bos_token\": \"<|im_start|>\"}", false, false, TINY_START},
        {"{\"bos_token\": {\"content\": \"<|im_start|>\"}, \"add_bos_token\": true}", false, true, TINY_START},
        {NULL, true, true, TINY_START},
        {"{\"add_bos_token\": false}", true, false, TINY_START},
        {"{\"bos_token\": \"<|im_end|>\"}", true, false, TINY_END},
    };
    for (size_t i = 0; i < DS_COUNT(cases); i++) {
        json_t *document = tiny_document();
        if (cases[i].processor)
            json_object_set_new(document, "post_processor",
                                json_pack("{s:s, s:[{s:{s:s}}]}", "type", "TemplateProcessing", "single", "SpecialToken", "id",
                                          "<|im_start|>"));
        struct ds_tokenizer *tokenizer;
        struct ds_error err;
        if (tiny_open(document, cases[i].config, &tokenizer, &err) != DS_OK) fail_msg("%zu: %s", i, err.message);
        assert_int_equal(ds_tokenizer_bos(tokenizer), cases[i].bos);
        assert_int_equal(ds_tokenizer_adds_bos(tokenizer), cases[i].adds);
        ds_tokenizer_close(tokenizer);
        json_decref(document);
    }
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
        cmocka_unit_test(split_behaviors_place_matches_as_the_reference_does),
        cmocka_unit_test(blanks_and_words_are_those_of_the_reference_engine),
        cmocka_unit_test(patterns_that_would_mean_something_else_are_refused),
        cmocka_unit_test(endless_backtracking_ends_with_an_error),
        cmocka_unit_test(long_runs_of_marks_are_put_in_order_and_composed),
        cmocka_unit_test(wrong_types_are_refused_by_the_name_of_the_member),
        cmocka_unit_test(what_is_not_supported_is_named),
        cmocka_unit_test(ids_out_of_range_huge_or_taken_are_refused),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(the_begin_token_comes_from_the_configuration_or_the_post_processor),
        cmocka_unit_test(ignore_merges_takes_a_token_whole),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
