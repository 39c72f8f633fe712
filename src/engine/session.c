/* Sessions: a sequence, how it is sampled, and the loop that generates. */
#include "engine/engine_internal.h"

#include <stdlib.h>
#include <string.h>

ds_session_params ds_session_defaults(void) { return (ds_session_params){.size = sizeof(ds_session_params), .spec = DS_SPEC_AUTO}; }

static ds_status read_params(const ds_engine *engine, const ds_session_params *params, ds_session_params *out, struct ds_error *err) {
    *out = (ds_session_params){0};
    if (!params || params->size == 0 || params->size > sizeof *out)
        return ds_fail(err, DS_ERROR_ARGUMENT, "ds_session_params.size is %zu; expected sizeof(ds_session_params), at most %zu",
                       params ? params->size : 0, sizeof *out);
    memcpy(out, params, params->size);
    const ds_sampling *s = &out->sampling;
    if (!(s->temperature >= 0 && s->temperature <= 100))
        return ds_fail(err, DS_ERROR_ARGUMENT, "temperature is %g; expected 0 to 100", (double)s->temperature);
    if (s->temperature > 0 && s->temperature < 1e-3f)
        return ds_fail(err, DS_ERROR_ARGUMENT, "temperature is %g; expected 0 (greedy) or at least 0.001", (double)s->temperature);
    if (!(s->top_p >= 0 && s->top_p <= 1)) return ds_fail(err, DS_ERROR_ARGUMENT, "top_p is %g; expected 0 to 1", (double)s->top_p);
    if (!(s->min_p >= 0 && s->min_p <= 1)) return ds_fail(err, DS_ERROR_ARGUMENT, "min_p is %g; expected 0 to 1", (double)s->min_p);
    DS_TRY(ds_shaping_check(engine, out, err));
    if (out->adapter) return ds_fail(err, DS_ERROR_UNSUPPORTED, "adapter is %u; adapters are not supported, expected 0", out->adapter);
    if (out->spec != DS_SPEC_OFF && out->spec != DS_SPEC_FIXED && out->spec != DS_SPEC_AUTO)
        return ds_fail(err, DS_ERROR_ARGUMENT, "speculation mode %d is unknown", (int)out->spec);
    const uint32_t block = engine->draft_model ? engine->draft_model->block_size : 0;
    if (out->spec == DS_SPEC_FIXED && block && (out->spec_length < 1 || out->spec_length > block))
        return ds_fail(err, DS_ERROR_ARGUMENT, "spec_length is %u; this drafter's block allows 1 to %u", out->spec_length, block);
    return DS_OK;
}

/* A bias needs memory and graphs that most sessions never use. */
static ds_status enable_bias(ds_session *session, struct ds_error *err) {
    ds_engine *engine = session->engine;
    DS_TRY(ds_engine_extend(engine, DS_EXTENDS_BIAS, err));
    if (session->sequence.bias_rows) return DS_OK;
    const uint32_t rows = engine->draft_model ? engine->draft_model->block_size + 1 : 1;
    const size_t bytes = (size_t)rows * engine->model->config.vocabulary * sizeof(float);
    session->sequence.bias_rows = malloc(bytes);
    return session->sequence.bias_rows ? DS_OK : ds_fail_memory(err, bytes, "the bias of a session's rows");
}

/* Room for the features that wait while speculation is parked. */
static ds_status enable_parking(ds_session *session, struct ds_error *err) {
    const struct ds_target *target = &session->engine->target;
    if (session->sequence.taps) return DS_OK;
    const uint64_t bytes = DS_STORED_TAPS * 4 * (uint64_t)target->taps.cols;
    ds_os_mutex_lock(session->engine->lock);
    const ds_status status = target->params.device->fns->buffer_create(target->params.device, bytes, &session->sequence.taps, err);
    ds_os_mutex_unlock(session->engine->lock);
    return status;
}

ds_status ds_session_require_idle(const ds_session *session, struct ds_error *err) {
    if (session->batch) return ds_fail(err, DS_ERROR_ARGUMENT, "the session is in a batch: it cannot be changed before its answer is complete or it is removed");
    if (!session->running) return DS_OK;
    return ds_fail(err, DS_ERROR_ARGUMENT, "the session is in the middle of a call: one of its own callbacks cannot change it");
}

ds_status ds_session_configure(ds_session *session, const ds_session_params *params, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    DS_TRY(ds_session_require_idle(session, err));
    ds_session_params checked;
    DS_TRY(read_params(session->engine, params, &checked, err));
    if (checked.bias) DS_TRY(enable_bias(session, err));
    if (checked.spec == DS_SPEC_AUTO && session->engine->draft_model) DS_TRY(enable_parking(session, err));
    DS_TRY(ds_session_listen(session, &checked, err));
    DS_TRY(ds_session_shape(session, &checked, err));
    session->params = checked;
    session->params.stops = NULL; /* copied, as the next */
    session->params.logit_bias = NULL; /* the caller's own again */
    session->sequence.sampling = checked.sampling;
    session->sequence.bias = checked.bias;
    session->sequence.bias_user = checked.bias_user;
    return DS_OK;
}

static ds_status take_slot(ds_session *session, struct ds_error *err) {
    ds_engine *engine = session->engine;
    ds_os_mutex_lock(engine->lock);
    const bool prepared = engine->state == DS_ENGINE_PREPARED;
    if (prepared) session->sequence.slot = ds_pager_take_sequence(&engine->pager);
    ds_os_mutex_unlock(engine->lock);
    if (!prepared) return ds_fail(err, DS_ERROR_ARGUMENT, "the engine is not prepared: call ds_engine_prepare first");
    if (session->sequence.slot >= 0) return DS_OK;
    return ds_fail(err, DS_ERROR_LIMIT, "the engine was opened for %u session(s) and all are in use", engine->params.max_sessions);
}

ds_status ds_session_create(ds_engine *engine, const ds_session_params *params, ds_session **out, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    *out = NULL;
    ds_session *session = calloc(1, sizeof *session);
    if (!session) return ds_fail_memory(err, sizeof *session, "a session");
    session->engine = engine;
    session->sequence.slot = -1;
    session->sequence.paired = engine->draft_model && engine->draft_model->arch->steps;
    session->sequence.capacity = engine->params.context;
    session->sequence.tokens = malloc(session->sequence.capacity * sizeof *session->sequence.tokens);
    ds_status status = session->sequence.tokens ? take_slot(session, err) : ds_fail_memory(err, session->sequence.capacity, "a session's tokens");
    if (status == DS_OK) status = ds_session_configure(session, params, err);
    if (status != DS_OK) {
        ds_session_destroy(session);
        return status;
    }
    *out = session;
    return DS_OK;
}

void ds_session_destroy(ds_session *session) {
    if (!session) return;
    if (session->batch && ds_batch_forget(session->batch, session)) return; /* destroyed when the step is over */
    if (session->sequence.slot >= 0) {
        ds_spec_keep(&session->engine->spec, &session->sequence, ds_session_follows(session), true);
        ds_os_mutex_lock(session->engine->lock);
        ds_pager_release_sequence(&session->engine->pager, session->sequence.slot);
        ds_buffer_drop(&session->sequence.taps);
        ds_os_mutex_unlock(session->engine->lock);
    }
    ds_text_stream_destroy(session->until);
    free(session->logprobs);
    free(session->sequence.bias_rows);
    free(session->sequence.tokens);
    free(session);
}

/* --- the sequence --- */

size_t ds_session_length(const ds_session *session) { return session->sequence.length; }
const ds_token *ds_session_tokens(const ds_session *session) { return session->sequence.tokens; }

ds_status ds_session_append(ds_session *session, const ds_token *tokens, size_t count, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    DS_TRY(ds_session_require_idle(session, err));
    struct ds_sequence *s = &session->sequence;
    const uint32_t vocabulary = session->engine->model->config.vocabulary;
    for (size_t i = 0; i < count; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= vocabulary)
            return ds_fail(err, DS_ERROR_ARGUMENT, "token %zu is %d; the vocabulary has ids 0 to %u", i, (int)tokens[i], vocabulary - 1);
    if (count > s->capacity - s->length)
        return ds_fail(err, DS_ERROR_LIMIT, "%zu tokens do not fit: the context holds %u and %u are in use", count, s->capacity, s->length);
    if (count) memcpy(s->tokens + s->length, tokens, count * sizeof *tokens);
    s->length += (uint32_t)count;
    if (count) ds_session_begin_text(session);
    session->pace.pending = 0; /* tokens of others are no outcome of a probe */
    return DS_OK;
}

ds_status ds_session_rewind(ds_session *session, size_t length, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    DS_TRY(ds_session_require_idle(session, err));
    struct ds_sequence *s = &session->sequence;
    if (length > s->length)
        return ds_fail(err, DS_ERROR_ARGUMENT, "cannot rewind to %zu tokens: the sequence has %u", length, s->length);
    if (length < s->length) ds_spec_keep(&session->engine->spec, s, ds_session_follows(session), true);
    s->length = (uint32_t)length;
    ds_session_begin_text(session);
    session->pace.pending = 0;
    ds_sequence_forget(s, s->length);
    ds_os_mutex_lock(session->engine->lock);
    ds_pager_truncate(&session->engine->pager, s->slot, s->computed);
    ds_os_mutex_unlock(session->engine->lock);
    return DS_OK;
}

void ds_cancel(ds_session *session) { atomic_store(&session->cancelled, true); }

void ds_session_set_trace(ds_session *session, ds_round_fn fn, void *user) {
    session->trace = fn;
    session->trace_user = user;
}

void ds_session_get_stats(const ds_session *session, ds_stats *stats) {
    const size_t size = stats->size;
    ds_stats full = session->stats;
    full.size = size;
    memcpy(stats, &full, DS_MIN(size, sizeof full));
}

void ds_session_reset_stats(ds_session *session) { session->stats = (ds_stats){0}; }

/* --- generating --- */

ds_status ds_session_generate(ds_session *session, size_t max_tokens, ds_token_fn fn, void *user, ds_stop *stop, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    if (stop) *stop = DS_STOP_NONE;
    DS_TRY(ds_session_require_idle(session, err));
    struct ds_generation g = {.session = session, .left = max_tokens, .fn = fn, .user = user}, *const list[] = {&g};
    struct ds_turn turn;
    const struct ds_float_state host = ds_os_float_begin();
    session->running = true;
    ds_status status = ds_generation_begin(&g, err);
    while (status == DS_OK && g.stop == DS_STOP_NONE) {
        g.rows = session->engine->spec.chunk;
        status = ds_generations_step(session->engine, list, &turn, 1, err);
        if (status == DS_OK && turn.status != DS_OK) {
            *err = turn.error;
            status = turn.status;
        }
    }
    ds_generation_end(&g);
    session->running = false;
    ds_os_float_restore(host);
    if (status == DS_ERROR_CANCELLED) atomic_store(&session->cancelled, false);
    if (stop) *stop = g.stop;
    return status;
}

ds_status ds_session_logits(ds_session *session, size_t rows, float *logits, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    DS_TRY(ds_session_require_idle(session, err));
    struct ds_sequence *s = &session->sequence;
    if (rows < 1 || rows > s->length)
        return ds_fail(err, DS_ERROR_ARGUMENT, "logits of %zu rows asked for; the sequence has %u tokens", rows, s->length);
    const struct ds_float_state host = ds_os_float_begin();
    ds_session_align(session);
    ds_sequence_forget(s, s->length - (uint32_t)rows);
    const struct ds_extend how = {.feed_drafter = ds_session_follows(session), .logits_from = s->length - (uint32_t)rows, .logits = logits,
                                  .cancel = &session->cancelled};
    ds_status status = ds_session_feed_all(session, err);
    if (status == DS_OK) status = ds_spec_extend(&session->engine->spec, s, &how, NULL, err);
    ds_os_float_restore(host);
    if (status == DS_ERROR_CANCELLED) atomic_store(&session->cancelled, false);
    return status;
}
