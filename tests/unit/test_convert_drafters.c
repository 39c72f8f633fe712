/*
 * A drafter of any dialect, converted to GGUF and on to a folder, drafts what it drafted, and its tensors are byte for byte what they were. What an
 * output cannot state is refused, and nothing is written.
 */
#include "drafts.h"
#include "dspark_dev.h"
#include "refusals.h"
#include "tiny_drafters.h"

struct scratch {
    char *folder, *target, *source, *gguf, *back;
};

static int set_up(void **state) {
    struct scratch *s = calloc(1, sizeof *s);
    struct tiny_model target = tiny_target();
    assert_non_null(s);
    s->folder = check_make_folder();
    s->target = tiny_write(&target);
    s->gguf = ds_os_join(s->folder, "drafter.gguf");
    s->back = ds_os_join(s->folder, "back");
    *state = s;
    return 0;
}

static void remove_back(const struct scratch *s) {
    if (ds_os_path_kind(s->back) == DS_PATH_FOLDER) check_remove_folder(strdup(s->back));
}

static int tear_down(void **state) {
    struct scratch *s = *state;
    remove_back(s);
    check_remove_folder(s->folder);
    check_remove_folder(s->target);
    free(s->gguf);
    free(s->back);
    free(s);
    return 0;
}

static ds_status convert(const char *input, const char *output, const char *layout, const char *target, struct ds_error *err) {
    ds_convert_params params = ds_convert_defaults();
    params.input = input;
    params.output = output;
    params.type = "bf16";
    params.layout = layout;
    params.target = target;
    params.threads = 2;
    return ds_convert(&params, NULL, NULL, NULL, err);
}

static void convert_well(const char *input, const char *output, const char *layout, const char *target) {
    struct ds_error err;
    check_ok(convert(input, output, layout, target, &err), &err);
}

/* Every tensor of `a` is in `b`, with the same bytes. */
static void assert_same_tensors(const char *a, const char *b) {
    struct ds_ckpt *x, *y;
    struct ds_error err;
    check_ok(ds_ckpt_open(a, &x, &err), &err);
    check_ok(ds_ckpt_open(b, &y, &err), &err);
    for (size_t i = 0; i < ds_ckpt_tensor_count(x); i++) {
        const struct ds_ckpt_tensor *u = ds_ckpt_tensor_at(x, i), *v = ds_ckpt_find(y, u->name);
        if (!v || u->type != v->type || u->bytes != v->bytes || memcmp(u->data, v->data, (size_t)u->bytes) != 0) fail_msg("%s differs", u->name);
    }
    ds_ckpt_close(y);
    ds_ckpt_close(x);
}

/* Folder -> GGUF -> folder of the layout: one drafter. Without the target, so that its own tables stay. */
static void check_round_trip(const struct scratch *s, struct tiny_model *m, const char *layout) {
    char *source = tiny_write(m);
    convert_well(source, s->gguf, NULL, NULL);
    convert_well(s->gguf, s->back, layout, s->target);
    const struct drafts a = run_drafter(s->target, source, DS_KV_F32), b = run_drafter(s->target, s->gguf, DS_KV_F32), c = run_drafter(s->target, s->back, DS_KV_F32);
    if (differences(&a, &b)) fail_msg("%s: %zu drafts differ in GGUF", source, differences(&a, &b));
    if (differences(&a, &c)) fail_msg("%s: %zu drafts differ in the folder made of it", source, differences(&a, &c));
    assert_same_tensors(source, s->back);
    remove_back(s);
    check_remove_folder(source);
}

static const struct {
    struct tiny_model (*make)(void);
    const char *speculators;
} kinds[] = {{tiny_drafter, "dspark"}, {tiny_gated, "dspark"}, {tiny_rnn, "dspark"}, {tiny_dflash, "dflash"}, {tiny_eagle3, "eagle3"}};

static void every_drafter_of_deepspec_goes_to_gguf_and_back(void **state) {
    for (size_t i = 0; i < DS_COUNT(kinds); i++) {
        struct tiny_model a = kinds[i].make(), b = kinds[i].make();
        check_round_trip(*state, &a, "deepspec");
        check_round_trip(*state, &b, "speculators");
    }
}

static void every_drafter_of_speculators_goes_to_gguf_and_back(void **state) {
    for (size_t i = 0; i < DS_COUNT(kinds); i++) {
        struct tiny_model a = kinds[i].make(), b = kinds[i].make();
        tiny_to_speculators(&a, kinds[i].speculators);
        tiny_to_speculators(&b, kinds[i].speculators);
        check_round_trip(*state, &a, "speculators");
        check_round_trip(*state, &b, "deepspec");
    }
}

/* Steps and taps that GGUF's eagle3 has no keys for. */
static void eagle3_keeps_its_steps_and_its_number_of_taps(void **state) {
    struct tiny_model m = tiny_eagle3();
    tiny_set(&m, "ttt_length", json_integer(4));
    tiny_set(&m, "target_layer_ids", json_pack("[i, i]", 0, 1));
    tiny_find(&m, "fc.weight")->shape[1] = 2 * TINY_HIDDEN;
    check_round_trip(*state, &m, "deepspec");
}

static void an_anchor_that_predicts_nothing_stays_one(void **state) {
    struct tiny_model m = tiny_drafter();
    tiny_to_speculators(&m, "dspark");
    tiny_set(&m, "sample_from_anchor", json_false());
    check_round_trip(*state, &m, "speculators");
    m = tiny_dflash(); /* as its authors write it: blocks of 16 */
    json_t *own = json_object();
    tiny_move(m.config, own, "mask_token_id");
    tiny_move(m.config, own, "target_layer_ids");
    json_object_del(m.config, "block_size");
    tiny_set(&m, "dflash_config", own);
    tiny_set(&m, "architectures", json_pack("[s]", "DFlashDraftModel"));
    check_round_trip(*state, &m, "speculators");
}

static struct tiny_model windowed(bool causal) {
    struct tiny_model m = tiny_dflash();
    tiny_to_speculators(&m, "dflash");
    json_t *layer = json_object_get(m.config, "transformer_layer_config");
    json_object_set_new(layer, "layer_types", json_pack("[s]", "sliding_attention"));
    json_object_set_new(layer, "sliding_window", json_integer(6));
    if (!causal) tiny_set(&m, "sliding_window_non_causal", json_true());
    return m;
}

static void sliding_layers_keep_their_window_and_what_it_hides(void **state) {
    struct tiny_model causal = windowed(true), whole = windowed(false);
    check_round_trip(*state, &causal, "speculators");
    check_round_trip(*state, &whole, "speculators");
}

enum { REDUCED = 30 };

static void a_reduced_vocabulary_becomes_ids_in_gguf_and_offsets_again(void **state) {
    int64_t offsets[REDUCED];
    for (int64_t i = 0; i < REDUCED; i++) offsets[i] = i + 1; /* ids 1, 3, 5, .. */
    struct tiny_model eagle3 = tiny_eagle3(), dspark = tiny_drafter();
    tiny_find(&eagle3, "lm_head.weight")->shape[0] = REDUCED;
    tiny_add(&dspark, "lm_head.weight", 2, REDUCED, TINY_HIDDEN);
    tiny_find(&dspark, "markov_head.markov_w2.weight")->shape[0] = REDUCED;
    struct tiny_model *const models[] = {&eagle3, &dspark};
    for (size_t i = 0; i < DS_COUNT(models); i++) {
        struct tiny_tensor *map = tiny_add(models[i], "d2t", 1, REDUCED, 1);
        map->type = DS_TYPE_I64;
        map->values = offsets;
        tiny_to_speculators(models[i], i ? "dspark" : "eagle3");
        tiny_set(models[i], "draft_vocab_size", json_integer(REDUCED));
        check_round_trip(*state, models[i], "speculators");
    }
}

static void norms_that_speculators_may_have_or_not_come_along(void **state) {
    struct tiny_model bare = tiny_drafter(), eagle3 = tiny_eagle3();
    tiny_to_speculators(&bare, "dspark");
    json_object_set_new(json_object_get(bare.config, "transformer_layer_config"), "model_type", json_string("llama"));
    tiny_drop(&bare, "layers.0.self_attn.q_norm.weight");
    tiny_drop(&bare, "layers.0.self_attn.k_norm.weight");
    check_round_trip(*state, &bare, "speculators");
    tiny_to_speculators(&eagle3, "eagle3");
    tiny_set(&eagle3, "norm_before_fc", json_true());
    tiny_set(&eagle3, "norm_before_residual", json_true());
    tiny_add(&eagle3, "input_norm.weight", 1, 3 * TINY_HIDDEN, 1);
    check_round_trip(*state, &eagle3, "speculators");
}

/* --- refused --- */

static void refuse(const struct scratch *s, struct tiny_model *m, const char *layout, const char *part) {
    char *source = tiny_write(m);
    struct ds_error err;
    expect(convert(source, s->back, layout, s->target, &err), DS_ERROR_UNSUPPORTED, &err, part);
    assert_int_equal(ds_os_path_kind(s->back), DS_PATH_MISSING);
    check_remove_folder(source);
}

static void what_deepspecs_layout_cannot_state_is_refused(void **state) {
    const struct scratch *s = *state;
    int64_t offsets[REDUCED] = {0};
    struct tiny_model m = tiny_drafter();
    tiny_set(&m, "sample_from_anchor", json_false());
    refuse(s, &m, "deepspec", "sample_from_anchor is false, which DeepSpec's layout cannot state");
    m = windowed(true);
    refuse(s, &m, "deepspec", "sliding layers are causal within a block");
    m = tiny_eagle3();
    tiny_find(&m, "lm_head.weight")->shape[0] = REDUCED;
    struct tiny_tensor *map = tiny_add(&m, "d2t", 1, REDUCED, 1);
    map->type = DS_TYPE_I64;
    map->values = offsets;
    refuse(s, &m, "deepspec", "the vocabulary is reduced (d2t)");
    m = tiny_eagle3();
    tiny_to_speculators(&m, "eagle3");
    tiny_set(&m, "norm_before_residual", json_true());
    refuse(s, &m, "deepspec", "norm_before_residual is true");
}

static void a_drafter_for_another_target_is_refused(void **state) {
    const struct scratch *s = *state;
    struct tiny_model m = tiny_drafter();
    tiny_set(&m, "num_target_layers", json_integer(4));
    char *source = tiny_write(&m);
    struct ds_error err;
    expect(convert(source, s->gguf, NULL, s->target, &err), DS_ERROR_MISMATCH, &err, "num_target_layers is 4, the target has 3 layers");
    convert_well(source, s->gguf, NULL, NULL); /* nothing to compare with */
    check_remove_folder(source);
}

static void taps_that_depend_on_the_target_need_it(void **state) {
    const struct scratch *s = *state;
    struct tiny_model m = tiny_eagle3();
    tiny_to_speculators(&m, "eagle3");
    json_object_del(m.config, "eagle_aux_hidden_state_layer_ids");
    char *source = tiny_write(&m);
    struct ds_error err;
    expect(convert(source, s->gguf, NULL, NULL, &err), DS_ERROR_FORMAT, &err, "eagle_aux_hidden_state_layer_ids is missing");
    check_contains(err.message, "--target");
    check_remove_folder(source);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(every_drafter_of_deepspec_goes_to_gguf_and_back),
        TEST(every_drafter_of_speculators_goes_to_gguf_and_back),
        TEST(eagle3_keeps_its_steps_and_its_number_of_taps),
        TEST(an_anchor_that_predicts_nothing_stays_one),
        TEST(sliding_layers_keep_their_window_and_what_it_hides),
        TEST(a_reduced_vocabulary_becomes_ids_in_gguf_and_offsets_again),
        TEST(norms_that_speculators_may_have_or_not_come_along),
        TEST(what_deepspecs_layout_cannot_state_is_refused),
        TEST(a_drafter_for_another_target_is_refused),
        TEST(taps_that_depend_on_the_target_need_it),
    };
    return cmocka_run_group_tests_name("convert_drafters", tests, NULL, NULL);
}
