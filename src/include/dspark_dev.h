/*
 * For people who port models: tensors, hidden states, conversion, device self-test. Unstable; everything here may change
 * with any release. Programs that only want text use dspark.h.
 */
#ifndef DSPARK_DEV_H
#define DSPARK_DEV_H

#include "dspark.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Runs `tokens` through the target alone, from position 0, in the session (whose sequence they become), and hands out f32
 * rows. `logits` [count or 1, vocabulary] and each of `hidden` [layers + 1][count or 1, hidden_size] in Hugging Face's
 * convention (0: embedding output; l: output of layer l-1; last: after the final norm). `last_only`: the last row alone.
 * NULL: not wanted.
 */
DS_API ds_status ds_dev_forward(ds_session *session, const ds_token *tokens, size_t count, bool last_only, float *logits,
                                float *const *hidden, struct ds_error *err);

#ifdef __cplusplus
}
#endif

#endif
