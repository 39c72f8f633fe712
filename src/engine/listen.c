/* What a session listens for in its own tokens: stop strings, and the log-probabilities its caller wants. */
#include "engine/engine_internal.h"

#include <stdlib.h>

static ds_status make_logprobs(ds_session *session, const ds_session_params *params, struct ds_error *err) {
    if (params->logprobs > DS_MOST_LOGPROBS)
        return ds_fail(err, DS_ERROR_ARGUMENT, "logprobs is %u; expected 0 to %d", params->logprobs, DS_MOST_LOGPROBS);
    if (params->logprobs && !params->logprobs_fn) return ds_fail(err, DS_ERROR_ARGUMENT, "logprobs is %u, but logprobs_fn is NULL", params->logprobs);
    if (params->logprobs_fn && !session->logprobs) {
        const size_t bytes = sizeof *session->logprobs + 4 * (size_t)session->engine->model->config.vocabulary;
        session->logprobs = malloc(bytes);
        if (!session->logprobs) return ds_fail_memory(err, bytes, "log-probabilities");
        session->logprobs->logits = (float *)(session->logprobs + 1);
    }
    if (session->logprobs) session->logprobs->n_top = params->logprobs;
    session->sequence.logprobs = params->logprobs_fn ? session->logprobs : NULL;
    return DS_OK;
}

ds_status ds_session_listen(ds_session *session, const ds_session_params *params, struct ds_error *err) {
    ds_text_stream *until = NULL;
    if (params->n_stops) DS_TRY(ds_text_stream_create_until(session->engine, false, params->stops, params->n_stops, &until, err));
    const ds_status status = make_logprobs(session, params, err);
    if (status != DS_OK) {
        ds_text_stream_destroy(until);
        return status;
    }
    ds_text_stream_destroy(session->until);
    session->until = until;
    return DS_OK;
}

void ds_session_begin_text(ds_session *session) {
    size_t length;
    if (session->until) ds_text_stream_finish(session->until, &length);
}

void ds_session_tell_logprobs(const ds_session *session, uint32_t i) {
    const struct ds_logprobs *l = session->sequence.logprobs;
    if (l) session->params.logprobs_fn(session->params.logprobs_user, &l->rows[i].chosen, l->rows[i].top, l->n_top);
}

bool ds_session_meets_stop(ds_session *session, ds_token token) {
    size_t length;
    if (!session->until) return false;
    ds_text_stream_push(session->until, token, &length);
    if (ds_text_stream_stopped(session->until) < 0) return false;
    ds_session_begin_text(session);
    return true;
}
