/* Text is split into words, and normalised, as the reference does it; what would mean something else is refused. */
#include "text/normalize.h"
#include "text/pretokenize.h"
#include "tiny_tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split_behaviors_place_matches_as_the_reference_does),
        cmocka_unit_test(blanks_and_words_are_those_of_the_reference_engine),
        cmocka_unit_test(patterns_that_would_mean_something_else_are_refused),
        cmocka_unit_test(endless_backtracking_ends_with_an_error),
        cmocka_unit_test(long_runs_of_marks_are_put_in_order_and_composed),
    };
    return cmocka_run_group_tests_name("pretokenize", tests, NULL, NULL);
}
