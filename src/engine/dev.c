/* dspark_dev.h: for people who port models. */
#include "dspark_dev.h"
#include "engine/engine_internal.h"

#include <stdlib.h>
#include <string.h>

/* Hidden states of rows [first, first + rows) of the sequence, from a pass of their own over the same cache entries. */
static ds_status hidden_chunk(ds_session *session, uint32_t first, uint32_t rows, float *states, struct ds_error *err) {
    const struct ds_sequence *s = &session->sequence;
    struct ds_rows_buffer *b = &session->engine->target.rows;
    for (uint32_t i = 0; i < rows; i++) {
        b->in_ids[i] = s->tokens[first + i];
        b->in_positions[i] = (int32_t)(first + i);
        b->in_sequences[i] = s->slot;
        b->in_visible[i] = (int32_t)(first + i + 1);
    }
    return ds_target_run_hidden(&session->engine->target, rows, states, err);
}

/* Distributes [layers + 1][rows][hidden] of one chunk to the caller's arrays, from their row `to` on. */
static void hand_out(float *const *hidden, uint32_t layers, uint32_t width, const float *states, uint32_t rows, size_t to) {
    for (uint32_t l = 0; l <= layers; l++)
        if (hidden[l])
            memcpy(hidden[l] + to * width, states + (size_t)l * rows * width, (size_t)rows * width * sizeof *states);
}

static ds_status all_hidden(ds_session *session, bool last_only, float *const *hidden, struct ds_error *err) {
    const ds_engine *engine = session->engine;
    const uint32_t layers = engine->model->config.layers, width = engine->model->config.hidden;
    const uint32_t length = session->sequence.length, chunk = engine->spec.chunk;
    float *states = malloc((size_t)(layers + 1) * chunk * width * sizeof *states);
    if (!states) return ds_fail_memory(err, (size_t)(layers + 1) * chunk * width * sizeof *states, "hidden states");
    ds_status status = DS_OK;
    for (uint32_t first = last_only ? length - 1 : 0; status == DS_OK && first < length; first += chunk) {
        const uint32_t rows = DS_MIN(chunk, length - first);
        ds_os_mutex_lock(engine->lock);
        status = hidden_chunk(session, first, rows, states, err);
        ds_os_mutex_unlock(engine->lock);
        if (status == DS_OK) hand_out(hidden, layers, width, states, rows, last_only ? 0 : first);
    }
    free(states);
    return status;
}

ds_status ds_dev_forward(ds_session *session, const ds_token *tokens, size_t count, bool last_only, float *logits, float *const *hidden,
                         struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    if (count == 0) return ds_fail(err, DS_ERROR_ARGUMENT, "no tokens were given");
    DS_TRY(ds_session_rewind(session, 0, err));
    DS_TRY(ds_session_append(session, tokens, count, err));
    const size_t rows = last_only ? 1 : count;
    struct ds_sequence *s = &session->sequence;
    const struct ds_extend how = {.logits_from = logits ? (uint32_t)(count - rows) : 0, .logits = logits};
    const struct ds_float_state host = ds_os_float_begin();
    ds_status status = ds_spec_extend(&session->engine->spec, s, &how, NULL, err);
    if (status == DS_OK && hidden) status = all_hidden(session, last_only, hidden, err);
    ds_os_float_restore(host);
    return status;
}
