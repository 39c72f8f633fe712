/* Passes of a target over tokens whose logits and hidden states are recorded. */
#ifndef DSPARK_TESTS_GOLDEN_FORWARD_H
#define DSPARK_TESTS_GOLDEN_FORWARD_H

#include "golden.h"

enum { GOLDEN_MOST_HIDDEN = 16, GOLDEN_TARGETS = 10 };

/* Folders of tests/golden with a random target of each family. */
extern const char *const golden_targets[GOLDEN_TARGETS];

/* What ds_dev_forward gives for all rows of `tokens`. */
struct golden_forward {
    size_t rows, vocabulary, width, states; /* states: layers + 1 */
    float *logits, *hidden[GOLDEN_MOST_HIDDEN];
};
void golden_run_forward(struct golden_forward *f, ds_engine *engine, const ds_token *tokens, size_t count);
void golden_free_forward(struct golden_forward *f);

/* A recorded prompt with the reference's greedy answer, malloc'ed. */
ds_token *golden_prompt_and_answer(const json_t *prompt, size_t *count);
/* The rows in `rows` of a matrix, one behind the other, malloc'ed. */
float *golden_pick_rows(const float *matrix, const ds_token *rows, size_t count, size_t width);

/* Mean over rows of KL(p || q) in nats, p of the reference's logits. */
double golden_divergence(const float *reference, const float *found, size_t rows, size_t vocabulary);

#endif
