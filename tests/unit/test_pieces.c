/* SentencePiece-style BPE: what its rules say, on vocabularies small enough to follow by hand. */
#include "base/json.h"
#include "byte_writer.h"
#include "check.h"
#include "ckpt/checkpoint.h"
#include "convert/tokenizer_json.h"
#include "text/tokenizer.h"

#include <jansson.h>

#define BLANK "\xE2\x96\x81"

/* 0 <unk>, 1 <bos>, 2 .. 257 the bytes, then pieces. */
enum { UNKNOWN, BOS, BYTE, PIECE = 258 };
enum { SPACE = PIECE, A, B, SPACE_A, AB, SPACE_AB, NEWLINE, ACCENT, TWO_SPACES, TURN, COUNT };
static const char *const pieces[] = {BLANK, "a", "b", BLANK "a", "ab", BLANK "ab", "\n", "\xC3\xA9", BLANK BLANK, "<turn>"};

static const char *text_of(int id, char buffer[8]) {
    if (id == UNKNOWN) return "<unk>";
    if (id == BOS) return "<bos>";
    if (id >= PIECE) return pieces[id - PIECE];
    snprintf(buffer, 8, "<0x%02X>", (unsigned)(id - BYTE));
    return buffer;
}

/* The document's text, freed by the caller. `merges`: NULL, or a list in the place of the usual one. */
static char *write_json(const char *steps, const char *omit, json_t *merges) {
    json_t *vocab = json_object();
    char buffer[8];
    for (int id = 0; id < COUNT; id++)
        if (!omit || strcmp(text_of(id, buffer), omit) != 0) json_object_set_new(vocab, text_of(id, buffer), json_integer(id));
    json_error_t error;
    json_t *root = json_loads(steps, 0, &error);
    assert_non_null(root);
    json_object_set_new(root, "model", json_pack("{s:s, s:b, s:b, s:s, s:o, s:[s, s, s]}", "type", "BPE", "byte_fallback", 1, "fuse_unk", 1,
                                                 "unk_token", "<unk>", "vocab", vocab, "merges", "a b", BLANK " ab", BLANK " a"));
    json_object_set_new(root, "added_tokens", json_pack("[{s:s, s:i, s:b}, {s:s, s:i, s:b, s:b}, {s:s, s:i, s:b, s:b}]", "content", "<bos>", "id", BOS,
                                                        "special", 1, "content", "<turn>", "id", TURN, "special", 1, "normalized", 0, "content",
                                                        BLANK BLANK, "id", TWO_SPACES, "special", 0, "normalized", 1));
    if (merges) json_object_set_new(json_object_get(root, "model"), "merges", merges);
    char *text = json_dumps(root, 0);
    json_decref(root);
    return text;
}

static struct ds_tokenizer *open_json(const char *steps, const char *omit) {
    char *text = write_json(steps, omit, NULL);
    struct ds_tokenizer *tokenizer;
    struct ds_error err;
    check_ok(ds_tokenizer_parse_json("pieces", text, strlen(text), NULL, 0, &tokenizer, &err), &err);
    free(text);
    return tokenizer;
}

static const char gemma[] = "{\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\\u2581\"},"
                            " \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"String\": \" \"}, \"behavior\": \"MergedWithPrevious\", \"invert\": false},"
                            " \"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\": \"\\u2581\"}, \"content\": \" \"},"
                            " {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}]}}";
static const char llama2[] = "{\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", \"prepend\": \"\\u2581\"},"
                             " {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\\u2581\"}]}, \"pre_tokenizer\": null,"
                             " \"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\": \"\\u2581\"}, \"content\": \" \"},"
                             " {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}, {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}]}}";
static const char metaspace[] = "{\"normalizer\": null, \"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", \"prepend_scheme\": \"first\","
                                " \"split\": false}, \"decoder\": {\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", \"prepend_scheme\": \"first\"}}";

static void check_ids(const struct ds_tokenizer *tokenizer, const char *text, const int32_t *expected, size_t count) {
    struct ds_ids ids = {0};
    struct ds_error err;
    check_ok(ds_tokenizer_encode(tokenizer, text, strlen(text), true, &ids, &err), &err);
    if (ids.count != count) fail_msg("'%s': %zu ids, expected %zu", text, ids.count, count);
    for (size_t i = 0; i < count; i++)
        if (ids.ids[i] != expected[i]) fail_msg("'%s': id %zu is %d, expected %d", text, i, ids.ids[i], expected[i]);
    free(ids.ids);
}
#define CHECK(text, ...) check_ids(tokenizer, text, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static void check_decoded(const struct ds_tokenizer *tokenizer, const int32_t *ids, size_t count, const char *expected) {
    char *text;
    size_t length;
    struct ds_error err;
    check_ok(ds_tokenizer_decode(tokenizer, ids, count, false, &text, &length, &err), &err);
    assert_string_equal(text, expected);
    free(text);
}
#define DECODES(expected, ...) check_decoded(tokenizer, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t), expected)

static void blanks_are_characters_and_merges_cross_them(void **state) {
    (void)state;
    struct ds_tokenizer *tokenizer = open_json(gemma, NULL);
    CHECK("ab ab", AB, SPACE_AB);
    CHECK("a a", A, SPACE_A);
    CHECK(" b", SPACE, B);
    CHECK("a\nb", A, NEWLINE, B);
    DECODES("ab ab", AB, SPACE_AB);
    DECODES(" ab", SPACE_AB);
    ds_tokenizer_close(tokenizer);
}

static void characters_that_are_no_token_become_their_bytes(void **state) {
    (void)state;
    struct ds_tokenizer *tokenizer = open_json(gemma, NULL);
    CHECK("\xC3\xA9", ACCENT);
    CHECK("a\xC3\xA8z", A, BYTE + 0xC3, BYTE + 0xA8, BYTE + 'z');
    CHECK("\xF0\x9F\x98\x80", BYTE + 0xF0, BYTE + 0x9F, BYTE + 0x98, BYTE + 0x80);
    CHECK("a\xFF", A, BYTE + 0xFF); /* no character at all */
    DECODES("\xC3\xA8z", BYTE + 0xC3, BYTE + 0xA8, BYTE + 'z');
    DECODES("\xEF\xBF\xBD" "a", BYTE + 0xC3, A);
    ds_tokenizer_close(tokenizer);
}

static void a_character_with_a_missing_byte_is_unknown_and_neighbours_are_one(void **state) {
    (void)state;
    struct ds_tokenizer *tokenizer = open_json(gemma, "<0xA8>");
    CHECK("\xC3\xA8\xC3\xA8" "a", UNKNOWN, A);
    CHECK("\xC3\xA7", BYTE + 0xC3, BYTE + 0xA7);
    ds_tokenizer_close(tokenizer);
}

static void added_tokens_are_found_in_raw_or_in_escaped_text(void **state) {
    (void)state;
    struct ds_tokenizer *tokenizer = open_json(gemma, NULL);
    CHECK("a<turn>b", A, TURN, B);
    CHECK("a  b", A, TWO_SPACES, B);
    DECODES("a  b", A, TWO_SPACES, B);
    ds_tokenizer_close(tokenizer);
}

static void a_prefix_goes_in_front_of_every_stretch_or_of_the_text_alone(void **state) {
    (void)state;
    struct ds_tokenizer *tokenizer = open_json(llama2, NULL);
    CHECK("ab", SPACE_AB);
    CHECK("ab<turn>ab", SPACE_AB, TURN, SPACE_AB);
    DECODES("ab ab", SPACE_AB, SPACE_AB);
    ds_tokenizer_close(tokenizer);
    tokenizer = open_json(metaspace, NULL);
    CHECK("ab", SPACE_AB);
    CHECK(" ab", SPACE_AB); /* has one already */
    CHECK("ab<turn>ab", SPACE_AB, TURN, AB);
    CHECK("<turn>ab", TURN, AB);
    DECODES("ab", SPACE_AB);
    ds_tokenizer_close(tokenizer);
}

static void other_steps_are_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *steps, *part;
    } cases[] = {
        {"{\"normalizer\": {\"type\": \"NFKC\"}}", "normalizer of type \"NFKC\""},
        {"{\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"String\": \"x\"}, \"content\": \"y\"}}", "normalizer of type \"Replace\""},
        {"{\"normalizer\": null}", "nothing replaces blanks"},
        {"{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}}", "pre_tokenizer of type \"ByteLevel\""},
        {"{\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"_\"}}", "pre_tokenizer.replacement"},
        {"{\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", \"prepend_scheme\": \"often\"}}", "found \"often\""},
        {"{\"decoder\": {\"type\": \"WordPiece\"}}", "decoder of type \"WordPiece\""},
    };
    for (size_t i = 0; i < DS_COUNT(cases); i++) {
        json_error_t error;
        json_t *root = json_loads(cases[i].steps, 0, &error);
        json_object_set_new(root, "model", json_pack("{s:s, s:b, s:{s:i}, s:[]}", "type", "BPE", "byte_fallback", 1, "vocab", "a", 0, "merges"));
        char *text = json_dumps(root, 0);
        struct ds_tokenizer *tokenizer;
        struct ds_error err;
        assert_int_not_equal(ds_tokenizer_parse_json("pieces", text, strlen(text), NULL, 0, &tokenizer, &err), DS_OK);
        check_contains(err.message, cases[i].part);
        free(text);
        json_decref(root);
    }
}

/* --- GGUF --- */

enum { GGUF_I32 = 5, GGUF_F32 = 6, GGUF_BOOL = 7, GGUF_STRING = 8, GGUF_ARRAY = 9 };

static void put_array(struct bytes *file, const char *key, uint32_t element, uint64_t count) {
    put_text(file, key);
    put_u32(file, GGUF_ARRAY);
    put_u32(file, element);
    put_u64(file, count);
}

/* Scores: the later a piece, the worse, but SPACE_AB above AB: joined from either side. */
static float score_of(int id) {
    static const float scores[] = {-10, -11, -12, -3, -2, -1, -13, -14, -4, 0};
    return id < PIECE ? 0.0f : scores[id - PIECE];
}

static struct ds_tokenizer *open_gguf(const char *model, bool merges, int prefix, size_t n_scores, struct ds_error *err) {
    struct bytes file = {.size = 0};
    put(&file, "GGUF", 4);
    put_u32(&file, 3);
    put_u64(&file, 0);
    put_u64(&file, 4u + merges + (n_scores > 0) + (prefix >= 0) + 1u);
    put_text(&file, "general.architecture"), put_u32(&file, GGUF_STRING), put_text(&file, "llama");
    put_text(&file, "tokenizer.ggml.model"), put_u32(&file, GGUF_STRING), put_text(&file, model);
    put_text(&file, "tokenizer.ggml.bos_token_id"), put_u32(&file, GGUF_I32), put_u32(&file, BOS);
    char buffer[8];
    put_array(&file, "tokenizer.ggml.tokens", GGUF_STRING, COUNT);
    for (int id = 0; id < COUNT; id++) put_text(&file, id == TWO_SPACES ? "  " : text_of(id, buffer));
    put_array(&file, "tokenizer.ggml.token_type", GGUF_I32, COUNT);
    for (int id = 0; id < COUNT; id++)
        put_u32(&file, id == UNKNOWN ? 2 : id == BOS || id == TURN ? 3 : id == TWO_SPACES ? 4 : id < PIECE ? 6 : 1);
    if (n_scores) {
        put_array(&file, "tokenizer.ggml.scores", GGUF_F32, n_scores);
        for (size_t i = 0; i < n_scores; i++) {
            const float score = score_of((int)i);
            put(&file, &score, 4);
        }
    }
    if (merges) {
        put_array(&file, "tokenizer.ggml.merges", GGUF_STRING, 2);
        put_text(&file, "a b"), put_text(&file, BLANK " ab");
    }
    if (prefix >= 0) {
        const uint8_t value = (uint8_t)prefix;
        put_text(&file, "tokenizer.ggml.add_space_prefix"), put_u32(&file, GGUF_BOOL), put(&file, &value, 1);
    }
    pad_to(&file, 32);
    char *folder = check_make_folder(), *path = check_write_file(folder, "pieces.gguf", file.data, file.size);
    struct ds_ckpt *ckpt;
    struct ds_tokenizer *tokenizer = NULL;
    check_ok(ds_ckpt_open(path, &ckpt, err), err);
    if (ds_tokenizer_open_gguf(ckpt, &tokenizer, err) != DS_OK) assert_null(tokenizer);
    ds_ckpt_close(ckpt);
    free(path);
    check_remove_folder(folder);
    return tokenizer;
}

static void scores_are_merges_of_the_best_token_first(void **state) {
    (void)state;
    struct ds_error err;
    struct ds_tokenizer *tokenizer = open_gguf("llama", false, -1, COUNT, &err);
    assert_non_null(tokenizer);
    assert_true(ds_tokenizer_adds_bos(tokenizer));
    CHECK("ab", SPACE_AB); /* a blank is put in front unless the file says otherwise */
    CHECK("a<turn>b", SPACE_A, TURN, SPACE, B);
    CHECK("\xC3\xA8", SPACE, BYTE + 0xC3, BYTE + 0xA8);
    DECODES("ab", SPACE_AB);
    ds_tokenizer_close(tokenizer);
    tokenizer = open_gguf("llama", false, 0, COUNT, &err);
    assert_non_null(tokenizer);
    CHECK("ab", AB);
    CHECK("a  b", A, TWO_SPACES, B);
    CHECK(" aab", SPACE_A, AB);
    ds_tokenizer_close(tokenizer);
}

static void gemma_files_bring_merges(void **state) {
    (void)state;
    struct ds_error err;
    struct ds_tokenizer *tokenizer = open_gguf("gemma4", true, -1, 0, &err);
    assert_non_null(tokenizer);
    CHECK("ab ab", AB, SPACE_AB);
    CHECK(" a", SPACE, A); /* there is no merge for it */
    ds_tokenizer_close(tokenizer);
}

static void a_vocabulary_with_neither_or_of_another_length_is_refused(void **state) {
    (void)state;
    struct ds_error err;
    assert_null(open_gguf("llama", false, -1, 0, &err));
    check_contains(err.message, "tokenizer.ggml.scores: expected 268 scores, one a token, found 0");
    assert_null(open_gguf("llama", false, -1, COUNT - 1, &err));
    check_contains(err.message, "found 267");
    assert_null(open_gguf("t5", false, -1, COUNT, &err));
    check_contains(err.message, "found \"t5\"");
}

/* --- from tokenizer.json to GGUF --- */

static void same_ids(const struct ds_tokenizer *a, const struct ds_tokenizer *b, const char *text) {
    struct ds_ids x = {0}, y = {0};
    struct ds_error err;
    check_ok(ds_tokenizer_encode(a, text, strlen(text), true, &x, &err), &err);
    check_ok(ds_tokenizer_encode(b, text, strlen(text), true, &y, &err), &err);
    if (x.count != y.count || (x.count && memcmp(x.ids, y.ids, x.count * sizeof *x.ids) != 0)) fail_msg("'%s' has other ids in GGUF", text);
    char *u, *v;
    size_t n, m;
    check_ok(ds_tokenizer_decode(a, x.ids, x.count, false, &u, &n, &err), &err);
    check_ok(ds_tokenizer_decode(b, y.ids, y.count, false, &v, &m, &err), &err);
    assert_string_equal(u, v);
    free(u), free(v), free(x.ids), free(y.ids);
}

/* Exports the document and compares; `model`: the form that is to be chosen. */
static void check_export(const char *steps, json_t *merges, const char *model) {
    static const char *const texts[] = {"", "a", "ab", "ab ab", " ab", "a<turn>b", "ab<turn>ab", "a\nb", "\xC3\xA9\xC3\xA8z", "a \xF0\x9F\x98\x80", "aab abb", "bab", "b a b", "a  b"};
    char *text = write_json(steps, NULL, merges), *folder = check_make_folder(), *path = ds_os_join(folder, "out.gguf");
    struct ds_tokenizer *original, *made;
    struct ds_ckpt *ckpt;
    struct ds_error err;
    const struct ds_log quiet = {.fn = NULL};
    json_error_t error;
    json_t *root = json_loads(text, JSON_ALLOW_NUL, &error);
    struct ds_gguf_writer *writer = ds_gguf_writer_create();
    const struct ds_tokenizer_export to = {.writer = writer, .log = &quiet, .vocabulary = COUNT + 4};
    check_ok(ds_tokenizer_parse_json("pieces", text, strlen(text), NULL, 0, &original, &err), &err);
    check_ok(ds_gguf_add_string(writer, "general.architecture", "llama", 5, &err), &err);
    check_ok(ds_gguf_add_bool(writer, "tokenizer.ggml.add_bos_token", false, &err), &err);
    check_ok(ds_export_tokenizer_json(&to, root, &err), &err);
    check_ok(ds_gguf_begin(writer, path, &err), &err);
    check_ok(ds_gguf_commit(writer, &err), &err);
    ds_gguf_writer_destroy(writer);
    check_ok(ds_ckpt_open(path, &ckpt, &err), &err);
    assert_string_equal(ds_ckpt_value(ckpt, "tokenizer.ggml.model")->string, model);
    const int64_t *types = ds_ckpt_value(ckpt, "tokenizer.ggml.token_type")->array;
    assert_true(types[UNKNOWN] == 2 && types[BOS] == 3 && types[BYTE + 65] == 6 && types[A] == 1 && types[TURN] == 3 && types[TWO_SPACES] == 4 && types[COUNT] == 5);
    assert_int_equal(ds_ckpt_value(ckpt, "tokenizer.ggml.scores")->length, COUNT + 4);
    assert_int_equal(ds_ckpt_value(ckpt, "tokenizer.ggml.unknown_token_id")->integer, UNKNOWN);
    check_ok(ds_tokenizer_open_gguf(ckpt, &made, &err), &err);
    /* The two blanks are an added token that tokenizer.json looks for behind the prefix, GGUF in front of it: the one warning there is. */
    for (size_t i = 0; i < DS_COUNT(texts); i++)
        if (steps == gemma || (texts[i][0] != ' ' && !strstr(texts[i], "  "))) same_ids(original, made, texts[i]);
    ds_tokenizer_close(made);
    ds_tokenizer_close(original);
    ds_ckpt_close(ckpt);
    json_decref(root);
    free(text);
    free(path);
    check_remove_folder(folder);
}

/* Every cut of every whole, wholes one behind the other, as SentencePiece means them. */
static json_t *complete_merges(void) {
    return json_pack("[s, s, s, s]", BLANK " ab", BLANK "a b", "a b", BLANK " a");
}

static void a_text_has_the_same_ids_in_gguf_with_scores_or_with_merges(void **state) {
    (void)state;
    check_export(gemma, complete_merges(), "llama");
    check_export(llama2, complete_merges(), "llama");
    check_export(gemma, NULL, "gemma4");  /* one way to make the longest token is missing */
    check_export(llama2, NULL, "gemma4");
    check_export(gemma, json_pack("[s, s, s, s]", BLANK " ab", "a b", BLANK "a b", BLANK " a"), "gemma4"); /* merges of a whole apart */
    check_export(gemma, json_pack("[s, s, s, s, s]", BLANK " ab", BLANK "a b", "a b", BLANK " a", BLANK " " BLANK), "gemma4"); /* an added token is made */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blanks_are_characters_and_merges_cross_them),
        cmocka_unit_test(characters_that_are_no_token_become_their_bytes),
        cmocka_unit_test(a_character_with_a_missing_byte_is_unknown_and_neighbours_are_one),
        cmocka_unit_test(added_tokens_are_found_in_raw_or_in_escaped_text),
        cmocka_unit_test(a_prefix_goes_in_front_of_every_stretch_or_of_the_text_alone),
        cmocka_unit_test(other_steps_are_refused_by_name),
        cmocka_unit_test(scores_are_merges_of_the_best_token_first),
        cmocka_unit_test(gemma_files_bring_merges),
        cmocka_unit_test(a_vocabulary_with_neither_or_of_another_length_is_refused),
        cmocka_unit_test(a_text_has_the_same_ids_in_gguf_with_scores_or_with_merges),
    };
    return cmocka_run_group_tests_name("pieces", tests, NULL, NULL);
}
