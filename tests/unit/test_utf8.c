#include "text/byte_alphabet.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Decodes in two pieces, cut at `cut`. */
static size_t decode_cut(const char *bytes, size_t n, size_t cut, char *out) {
    struct ds_utf8_stream stream = {0};
    size_t length = ds_utf8_push(&stream, bytes, cut, out);
    length += ds_utf8_push(&stream, bytes + cut, n - cut, out + length);
    return length + ds_utf8_finish(&stream, out + length);
}

#define R "\xEF\xBF\xBD"

static const struct {
    const char *bytes, *text;
} cases[] = {
    {"plain", "plain"},
    {"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"},
    {"\xF0\x9F\x98", R}, /* one maximal part, not three */
    {"\xF0\x9F\x98x", R "x"},
    {"\xE2\x82", R},
    {"\xC0\xAF", R R}, /* overlong: no byte of it begins a character */
    {"\xE0\x80\xAF", R R R},
    {"\xED\xA0\x80", R R R},       /* a surrogate */
    {"\xF4\x90\x80\x80", R R R R}, /* above U+10FFFF */
    {"\xF5\x80", R R},
    {"\x80\xBF", R R},
    {"\xE2\xE2\x82\xAC", R "\xE2\x82\xAC"}, /* a lead byte cut short by another */
    {"\xF0\x90\xC3\xA9\xF0", R "\xC3\xA9" R},
    {"a\xE1\x80"
     "b\xF1\x80\x80"
     "c",
     "a" R "b" R "c"},
    /* The standard's own example (chapter 3, table 3-8) */
    {"\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64", "a" R R R "b" R "c" R R "d"},
};

static void invalid_parts_become_one_replacement_each(void **state) {
    (void)state;
    for (size_t i = 0; i < DS_COUNT(cases); i++) {
        char out[128];
        const size_t n = decode_cut(cases[i].bytes, strlen(cases[i].bytes), 0, out);
        assert_int_equal(n, strlen(cases[i].text));
        assert_memory_equal(out, cases[i].text, n);
    }
}

static void pieces_joined_equal_the_whole_for_every_cut(void **state) {
    (void)state;
    for (size_t i = 0; i < DS_COUNT(cases); i++) {
        const size_t length = strlen(cases[i].bytes);
        for (size_t cut = 0; cut <= length; cut++) {
            char out[128];
            const size_t n = decode_cut(cases[i].bytes, length, cut, out);
            assert_int_equal(n, strlen(cases[i].text));
            assert_memory_equal(out, cases[i].text, n);
        }
    }
}

/* All strings of up to four bytes over the bytes at which a rule changes. */
static void every_short_string_gives_valid_text_within_the_promised_size(void **state) {
    (void)state;
    static const uint8_t edges[] = {0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC1, 0xC2,
                                    0xDF, 0xE0, 0xE1, 0xED, 0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xFF};
    const size_t k = DS_COUNT(edges);
    for (size_t code = 0; code < k * k * k * k; code++) {
        const char bytes[4] = {(char)edges[code % k], (char)edges[code / k % k], (char)edges[code / k / k % k],
                               (char)edges[code / k / k / k]};
        char whole[64], cut[64];
        const size_t n = decode_cut(bytes, 4, 0, whole);
        assert_true(n <= 3 * (4 + 4) + 12);
        assert_int_equal(ds_utf8_valid_prefix(whole, n), n);
        for (size_t at = 1; at < 4; at++) {
            assert_int_equal(decode_cut(bytes, 4, at, cut), n);
            assert_memory_equal(cut, whole, n);
        }
    }
}

static void a_character_comes_out_with_its_last_byte(void **state) {
    (void)state;
    struct ds_utf8_stream stream = {0};
    char out[16];
    assert_int_equal(ds_utf8_push(&stream, "\xF0\x9F\x98", 3, out), 0);
    assert_int_equal(ds_utf8_push(&stream, "\x80", 1, out), 4);
    assert_int_equal(ds_utf8_finish(&stream, out), 0);
}

static void decoding_and_stepping_back_agree_with_encoding(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint32_t code;
    } points[] = {{"\x7F", 0x7F},
                  {"\xC2\x80", 0x80},
                  {"\xDF\xBF", 0x7FF},
                  {"\xE0\xA0\x80", 0x800},
                  {"\xEF\xBF\xBF", 0xFFFF},
                  {"\xF0\x90\x80\x80", 0x10000},
                  {"\xF4\x8F\xBF\xBF", 0x10FFFF}};
    for (size_t i = 0; i < DS_COUNT(points); i++) {
        const char *text = points[i].text;
        assert_int_equal(ds_utf8_decode(text), points[i].code);
        assert_ptr_equal(ds_utf8_previous(text, text + strlen(text)), text);
    }
}

static void the_byte_alphabet_is_a_bijection(void **state) {
    (void)state;
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[2], back[2];
        size_t length;
        const size_t n = ds_byte_alphabet_encode((uint8_t)byte, text);
        assert_int_equal(ds_utf8_valid_prefix(text, n), n);
        assert_true(ds_byte_alphabet_decode(text, n, back, &length));
        assert_int_equal(length, 1);
        assert_int_equal((uint8_t)back[0], byte);
    }
    char out[8];
    size_t length;
    assert_false(ds_byte_alphabet_decode(" ", 1, out, &length));
    assert_false(ds_byte_alphabet_decode("\xEF\xBD\x9C", 3, out, &length));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(invalid_parts_become_one_replacement_each),
        cmocka_unit_test(pieces_joined_equal_the_whole_for_every_cut),
        cmocka_unit_test(every_short_string_gives_valid_text_within_the_promised_size),
        cmocka_unit_test(a_character_comes_out_with_its_last_byte),
        cmocka_unit_test(decoding_and_stepping_back_agree_with_encoding),
        cmocka_unit_test(the_byte_alphabet_is_a_bijection),
    };
    return cmocka_run_group_tests_name("utf8", tests, NULL, NULL);
}
