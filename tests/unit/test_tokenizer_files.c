/* tokenizer.json is read as it is written, and refused by the name of the member that is wrong. */
#include "tiny_tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_types_are_refused_by_the_name_of_the_member),
        cmocka_unit_test(what_is_not_supported_is_named),
        cmocka_unit_test(ids_out_of_range_huge_or_taken_are_refused),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(the_begin_token_comes_from_the_configuration_or_the_post_processor),
    };
    return cmocka_run_group_tests_name("tokenizer_files", tests, NULL, NULL);
}
