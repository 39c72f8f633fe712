#include "golden_forward.h"

#include <math.h>

const char *const golden_targets[GOLDEN_TARGETS] = {"target-qwen3", "target-qwen3-yarn", "target-qwen2", "target-llama3-rope", "target-mistral-swa", "target-qwen3-moe",
                                       "target-gemma3-text", "target-gemma4-text", "target-gemma4-ple", "target-gemma4-moe"};

void golden_run_forward(struct golden_forward *f, ds_engine *engine, const ds_token *tokens, size_t count) {
    ds_engine_info info = {.size = sizeof info};
    ds_engine_get_info(engine, &info);
    *f = (struct golden_forward){.rows = count, .vocabulary = info.vocabulary, .width = info.hidden_size, .states = info.layers + 1};
    assert_true(f->states <= GOLDEN_MOST_HIDDEN);
    f->logits = malloc(count * f->vocabulary * sizeof *f->logits);
    assert_non_null(f->logits);
    for (size_t l = 0; l < f->states; l++) {
        f->hidden[l] = malloc(count * f->width * sizeof *f->hidden[l]);
        assert_non_null(f->hidden[l]);
    }
    ds_session *session = golden_session(engine, DS_SPEC_OFF);
    struct ds_error err;
    check_ok(ds_dev_forward(session, tokens, count, false, f->logits, f->hidden, &err), &err);
    ds_session_destroy(session);
}

void golden_free_forward(struct golden_forward *f) {
    for (size_t l = 0; l < f->states; l++) free(f->hidden[l]);
    free(f->logits);
}

ds_token *golden_prompt_and_answer(const json_t *prompt, size_t *count) {
    size_t n_prompt, n_greedy;
    ds_token *ids = golden_ints(prompt, "prompt_ids", &n_prompt), *greedy = golden_ints(prompt, "greedy", &n_greedy);
    *count = n_prompt + n_greedy;
    ids = realloc(ids, *count * sizeof *ids);
    assert_non_null(ids);
    memcpy(ids + n_prompt, greedy, n_greedy * sizeof *ids);
    free(greedy);
    return ids;
}

float *golden_pick_rows(const float *matrix, const ds_token *rows, size_t count, size_t width) {
    float *picked = malloc(count * width * sizeof *picked);
    assert_non_null(picked);
    for (size_t i = 0; i < count; i++) memcpy(picked + i * width, matrix + (size_t)rows[i] * width, width * sizeof *picked);
    return picked;
}

static double log_sum(const float *row, size_t count) {
    const double top = (double)row[golden_argmax(row, count)];
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += exp((double)row[i] - top);
    return top + log(sum);
}

double golden_divergence(const float *reference, const float *found, size_t rows, size_t vocabulary) {
    double sum = 0;
    for (size_t r = 0; r < rows; r++) {
        const float *p = reference + r * vocabulary, *q = found + r * vocabulary;
        const double log_p = log_sum(p, vocabulary), log_q = log_sum(q, vocabulary);
        for (size_t i = 0; i < vocabulary; i++) {
            const double lp = (double)p[i] - log_p;
            sum += exp(lp) * (lp - ((double)q[i] - log_q));
        }
    }
    return sum / (double)rows;
}
