/* What converted files consist of: the tensors, keys and types that the field's own files have, for targets and drafters. */
#include "conversions.h"

static void the_mixture_is_that_of_the_fields_file(void **state) {
    const struct scratch *s = *state;
    convert_simply(target_folder, s->path, "q4_k_m");
    struct ds_ckpt *ours = open_ckpt(s->path), *theirs = open_ckpt(DSPARK_SOURCE_ROOT "/tests/golden/gguf/target-Q4_K_M/model.gguf");
    assert_int_equal(ds_ckpt_tensor_count(ours), ds_ckpt_tensor_count(theirs));
    for (size_t i = 0; i < ds_ckpt_tensor_count(theirs); i++) {
        const struct ds_ckpt_tensor *expected = ds_ckpt_tensor_at(theirs, i), *found = ds_ckpt_find(ours, expected->name);
        if (!found || found->type != expected->type || found->dims != expected->dims) fail_msg("%s differs", expected->name);
        assert_memory_equal(found->shape, expected->shape, sizeof found->shape);
    }
    ds_ckpt_close(theirs);
    ds_ckpt_close(ours);
}

static void the_keys_are_those_of_the_fields_file(void **state) {
    const struct scratch *s = *state;
    convert_simply(target_folder, s->path, "q4_k_m");
    struct ds_ckpt *ours = open_ckpt(s->path), *theirs = open_ckpt(DSPARK_SOURCE_ROOT "/tests/golden/gguf/target-Q4_K_M/model.gguf");
    for (size_t i = 0; i < ds_ckpt_value_count(theirs); i++) {
        const struct ds_value *expected = ds_ckpt_value_at(theirs, i), *found = ds_ckpt_value(ours, expected->key);
        if (strncmp(expected->key, "general.s", 9) == 0) continue; /* sampling, size_label: not needed */
        if (!found) fail_msg("%s is missing", expected->key);
        if (strcmp(expected->key, "general.name") == 0) continue;
        /* Type and value, byte by byte. */
        if (found->stored.length != expected->stored.length || memcmp(found->stored.data, expected->stored.data, found->stored.length) != 0)
            fail_msg("%s differs", expected->key);
    }
    ds_ckpt_close(theirs);
    ds_ckpt_close(ours);
}

/*
 * Files that llama.cpp's converter wrote of the same folders: order of heads, norms, stacked experts, factors of frequencies,
 * and the rest of the keys.
 */
static void every_family_has_the_tensors_and_keys_of_the_fields_file(void **state) {
    const struct scratch *s = *state;
    static const char *const names[] = {"gemma3-text", "gemma4-text", "gemma4-ple", "gemma4-moe", "llama3-rope", "qwen2"};
    for (size_t n = 0; n < DS_COUNT(names); n++) {
        char folder[256], theirs_path[256];
        snprintf(folder, sizeof folder, DSPARK_SOURCE_ROOT "/tests/golden/target-%s", names[n]);
        snprintf(theirs_path, sizeof theirs_path, DSPARK_SOURCE_ROOT "/tests/golden/gguf-random/target-%s.gguf", names[n]);
        convert_simply(folder, s->path, "bf16");
        struct ds_ckpt *ours = open_ckpt(s->path), *theirs = open_ckpt(theirs_path);
        assert_int_equal(ds_ckpt_tensor_count(ours), ds_ckpt_tensor_count(theirs));
        for (size_t i = 0; i < ds_ckpt_tensor_count(theirs); i++) {
            const struct ds_ckpt_tensor *x = ds_ckpt_tensor_at(theirs, i), *y = ds_ckpt_find(ours, x->name);
            if (!y || y->type != x->type || y->bytes != x->bytes || memcmp(x->shape, y->shape, sizeof x->shape) != 0 ||
                memcmp(x->data, y->data, (size_t)x->bytes) != 0)
                fail_msg("%s: %s differs", names[n], x->name);
        }
        for (size_t i = 0; i < ds_ckpt_value_count(theirs); i++) {
            const struct ds_value *x = ds_ckpt_value_at(theirs, i), *y = ds_ckpt_value(ours, x->key);
            if (strcmp(x->key, "general.name") == 0 || strcmp(x->key, "general.size_label") == 0) continue;
            if (strcmp(x->key, "gemma3.attention.scale") == 0) continue; /* added to their file by hand */
            if (strncmp(x->key, "tokenizer.", 10) == 0) continue;        /* the folder has none */
            if (!y || y->stored.length != x->stored.length || memcmp(y->stored.data, x->stored.data, x->stored.length) != 0)
                fail_msg("%s: %s differs", names[n], x->key);
        }
        ds_ckpt_close(theirs);
        ds_ckpt_close(ours);
    }
}

/* --- experts --- */

static const char moe_folder[] = DSPARK_SOURCE_ROOT "/tests/golden/target-qwen3-moe";

static void stacked_experts_are_those_of_the_fields_file(void **state) {
    const struct scratch *s = *state;
    convert_simply(moe_folder, s->path, "bf16");
    struct ds_ckpt *ours = open_ckpt(s->path), *theirs = open_ckpt(DSPARK_SOURCE_ROOT "/tests/golden/gguf-random/target-qwen3-moe.gguf");
    assert_int_equal(ds_ckpt_tensor_count(ours), ds_ckpt_tensor_count(theirs));
    for (size_t i = 0; i < ds_ckpt_tensor_count(theirs); i++) assert_same_values(ours, ds_ckpt_tensor_at(theirs, i)->name, theirs, ds_ckpt_tensor_at(theirs, i)->name);
    ds_ckpt_close(theirs);
    ds_ckpt_close(ours);
}

/* Newer folders: gate and up of all experts in one tensor [experts, 2 * width, hidden], down in another. */
static void write_joint_experts(const struct ds_ckpt *source, const char *folder) {
    enum { MOST = 128, EXPERTS = 8 };
    static const char *const parts[] = {"gate_proj", "up_proj", "down_proj"};
    struct ds_safetensors_array arrays[MOST];
    char names[MOST][96];
    uint8_t *owned[MOST];
    size_t n = 0, n_owned = 0;
    for (size_t i = 0; i < ds_ckpt_tensor_count(source); i++) {
        const struct ds_ckpt_tensor *t = ds_ckpt_tensor_at(source, i);
        unsigned layer;
        char rest[64];
        assert_true(n < MOST);
        snprintf(names[n], sizeof names[n], "%s", t->name);
        if (!strstr(t->name, ".mlp.experts.")) {
            arrays[n] = (struct ds_safetensors_array){.name = names[n], .type = t->type, .dims = t->dims, .data = t->data};
            memcpy(arrays[n++].shape, t->shape, sizeof t->shape);
            continue;
        }
        if (sscanf(t->name, "model.layers.%u.mlp.experts.0.%63s", &layer, rest) != 2 || strcmp(rest, "up_proj.weight") == 0) continue;
        const size_t first = strcmp(rest, "gate_proj.weight") == 0 ? 0 : 2, count = first ? 1 : 2;
        uint8_t *data = owned[n_owned++] = malloc((size_t)t->bytes * EXPERTS * count), *to = data;
        for (unsigned e = 0; e < EXPERTS; e++) {
            for (size_t k = first; k < first + count; k++, to += t->bytes) {
                char name[96];
                snprintf(name, sizeof name, "model.layers.%u.mlp.experts.%u.%s.weight", layer, e, parts[k]);
                memcpy(to, ds_ckpt_find(source, name)->data, (size_t)t->bytes);
            }
        }
        snprintf(names[n], sizeof names[n], "model.layers.%u.mlp.experts.%s", layer, first ? "down_proj" : "gate_up_proj");
        arrays[n] = (struct ds_safetensors_array){.name = names[n], .type = t->type, .dims = 3, .shape = {EXPERTS, count * t->shape[0], t->shape[1]}, .data = data};
        n++;
    }
    char *path = ds_os_join(folder, "model.safetensors");
    struct ds_error err;
    check_ok(ds_safetensors_write(path, arrays, n, &err), &err);
    free(path);
    while (n_owned) free(owned[--n_owned]);
}

static void joined_experts_give_the_same_file_as_single_ones(void **state) {
    const struct scratch *s = *state;
    struct ds_ckpt *source = open_ckpt(moe_folder);
    struct ds_error err;
    char *folder = check_make_folder(), *text;
    size_t size;
    check_ok(ds_os_read_file(DSPARK_SOURCE_ROOT "/tests/golden/target-qwen3-moe/config.json", 1 << 20, &text, &size, &err), &err);
    check_write_text(folder, "config.json", text);
    free(text);
    write_joint_experts(source, folder);
    convert_simply(moe_folder, s->path, "bf16");
    convert_simply(folder, s->other, "bf16");
    struct ds_ckpt *a = open_ckpt(s->path), *b = open_ckpt(s->other);
    assert_int_equal(ds_ckpt_tensor_count(a), ds_ckpt_tensor_count(b));
    for (size_t i = 0; i < ds_ckpt_tensor_count(a); i++) assert_same_values(a, ds_ckpt_tensor_at(a, i)->name, b, ds_ckpt_tensor_at(a, i)->name);
    ds_ckpt_close(b);
    ds_ckpt_close(a);
    ds_ckpt_close(source);
    check_remove_folder(folder);
}

/* --- drafters --- */

static void tables_that_are_the_targets_are_left_out(void **state) {
    const struct scratch *s = *state;
    ds_convert_params params = params_of(drafter_folder, s->path, "q8_0");
    convert(&params);
    struct ds_ckpt *ckpt = open_ckpt(s->path);
    assert_non_null(ds_ckpt_find(ckpt, "token_embd.weight"));
    assert_null(ds_ckpt_value(ckpt, "tokenizer.ggml.tokens"));
    ds_ckpt_close(ckpt);
    params.target = target_folder;
    convert(&params);
    ckpt = open_ckpt(s->path);
    assert_null(ds_ckpt_find(ckpt, "token_embd.weight"));
    assert_null(ds_ckpt_find(ckpt, "output.weight"));
    assert_non_null(ds_ckpt_value(ckpt, "tokenizer.ggml.tokens"));
    ds_ckpt_close(ckpt);
    params.target = NULL;
    params.drop_embeddings = true;
    params.output = s->other;
    convert(&params);
    ckpt = open_ckpt(s->other);
    assert_null(ds_ckpt_find(ckpt, "token_embd.weight"));
    ds_ckpt_close(ckpt);
}

static void tables_of_its_own_are_kept(void **state) {
    const struct scratch *s = *state;
    struct tiny_model target = tiny_target(), drafter = tiny_drafter();
    tiny_find(&drafter, "embed_tokens.weight")->seed = 5;
    char *target_path = tiny_write(&target), *drafter_path = tiny_write(&drafter);
    ds_convert_params params = params_of(drafter_path, s->path, "bf16");
    params.target = target_path;
    convert(&params);
    struct ds_ckpt *ckpt = open_ckpt(s->path);
    assert_non_null(ds_ckpt_find(ckpt, "token_embd.weight"));
    ds_ckpt_close(ckpt);
    check_remove_folder(target_path);
    check_remove_folder(drafter_path);
}

static void a_drafter_has_the_keys_and_tensors_of_the_fields_file(void **state) {
    const struct scratch *s = *state;
    ds_convert_params params = params_of(drafter_folder, s->path, "q8_0");
    params.target = target_folder;
    convert(&params);
    struct ds_ckpt *ours = open_ckpt(s->path), *theirs = open_ckpt(DSPARK_SOURCE_ROOT "/tests/golden/pair-dspark-Q8_0.gguf");
    assert_int_equal(ds_ckpt_tensor_count(ours), ds_ckpt_tensor_count(theirs));
    for (size_t i = 0; i < ds_ckpt_tensor_count(theirs); i++) {
        const struct ds_ckpt_tensor *expected = ds_ckpt_tensor_at(theirs, i), *found = ds_ckpt_find(ours, expected->name);
        if (!found || found->type != expected->type || found->bytes != expected->bytes) fail_msg("%s differs", expected->name);
    }
    for (size_t i = 0; i < ds_ckpt_value_count(theirs); i++) {
        const struct ds_value *expected = ds_ckpt_value_at(theirs, i), *found = ds_ckpt_value(ours, expected->key);
        if (strncmp(expected->key, "general.", 8) == 0) continue;
        if (!found || found->stored.length != expected->stored.length || memcmp(found->stored.data, expected->stored.data, found->stored.length) != 0)
            fail_msg("%s differs", expected->key);
    }
    ds_ckpt_close(theirs);
    ds_ckpt_close(ours);
}

/* Rows of a head: 0, 32, 1, 33, ... of q and k, whose vectors go the same way. */
static void halves_of_a_llama_head_lie_side_by_side(void **state) {
    const struct scratch *s = *state;
    convert_simply(DSPARK_SOURCE_ROOT "/tests/golden/target-llama3-rope", s->path, "bf16");
    struct ds_ckpt *folder = open_ckpt(DSPARK_SOURCE_ROOT "/tests/golden/target-llama3-rope"), *made = open_ckpt(s->path);
    static const char *const names[][2] = {{"model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight"}, {"model.layers.1.self_attn.k_proj.weight", "blk.1.attn_k.weight"}};
    int64_t head;
    struct ds_error err;
    check_ok(ds_ckpt_int(made, "llama.attention.key_length", 2, 1024, &head, &err), &err);
    for (size_t i = 0; i < DS_COUNT(names); i++) {
        const struct ds_ckpt_tensor *a = ds_ckpt_find(folder, names[i][0]), *b = ds_ckpt_find(made, names[i][1]);
        assert_true(a && b && a->bytes == b->bytes);
        const uint64_t row = a->bytes / a->shape[0];
        for (uint64_t r = 0; r < a->shape[0]; r++) {
            const uint64_t within = r % (uint64_t)head, from = r - within + within % 2 * ((uint64_t)head / 2) + within / 2;
            assert_memory_equal(b->data + r * row, a->data + from * row, row);
        }
    }
    assert_non_null(ds_ckpt_find(made, "rope_freqs.weight"));
    convert_simply(s->path, s->other, "bf16"); /* GGUF to GGUF: nothing moves */
    struct ds_ckpt *again = open_ckpt(s->other);
    assert_int_equal(ds_ckpt_tensor_count(again), ds_ckpt_tensor_count(made));
    for (size_t i = 0; i < ds_ckpt_tensor_count(made); i++) {
        const struct ds_ckpt_tensor *x = ds_ckpt_tensor_at(made, i), *y = ds_ckpt_find(again, x->name);
        assert_true(y && y->bytes == x->bytes && memcmp(x->data, y->data, (size_t)x->bytes) == 0);
    }
    ds_ckpt_close(again);
    ds_ckpt_close(made);
    ds_ckpt_close(folder);
}

/* The gated and the rnn head have tensors of their own, and a key that says which it is. */
static void sequential_heads_keep_their_tensors_and_their_name(void **state) {
    const struct scratch *s = *state;
    static const struct {
        const char *type, *hf, *gguf;
        uint64_t rows, cols; /* in ranks, and hiddens beside them: rows * rank, cols * rank + hidden */
    } heads[] = {{"gated", "gate_proj", "markov_gate", 1, 1}, {"rnn", "joint_proj", "markov_joint", 3, 2}};
    for (size_t i = 0; i < DS_COUNT(heads); i++) {
        struct tiny_model m = tiny_drafter();
        const uint64_t rank = tiny_find(&m, "markov_head.markov_w1.weight")->shape[1];
        char weight[64], bias[64], made_weight[64];
        snprintf(weight, sizeof weight, "markov_head.%s.weight", heads[i].hf);
        snprintf(bias, sizeof bias, "markov_head.%s.bias", heads[i].hf);
        snprintf(made_weight, sizeof made_weight, "%s.weight", heads[i].gguf);
        tiny_add(&m, weight, 2, heads[i].rows * rank, heads[i].cols * rank + TINY_HIDDEN);
        tiny_add(&m, bias, 1, heads[i].rows * rank, 1);
        tiny_set(&m, "markov_head_type", json_string(heads[i].type));
        char *folder = tiny_write(&m);
        convert_simply(folder, s->path, "bf16");
        struct ds_ckpt *source = open_ckpt(folder), *made = open_ckpt(s->path);
        assert_same_values(source, weight, made, made_weight);
        assert_string_equal(ds_ckpt_value(made, "dspark.markov_head_type")->string, heads[i].type);
        ds_ckpt_close(made);
        ds_ckpt_close(source);
        check_remove_folder(folder);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_mixture_is_that_of_the_fields_file),
        TEST(the_keys_are_those_of_the_fields_file),
        TEST(every_family_has_the_tensors_and_keys_of_the_fields_file),
        TEST(stacked_experts_are_those_of_the_fields_file),
        TEST(joined_experts_give_the_same_file_as_single_ones),
        TEST(tables_that_are_the_targets_are_left_out),
        TEST(tables_of_its_own_are_kept),
        TEST(a_drafter_has_the_keys_and_tensors_of_the_fields_file),
        TEST(halves_of_a_llama_head_lie_side_by_side),
        TEST(sequential_heads_keep_their_tensors_and_their_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
