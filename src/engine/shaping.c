/* What a session asks of its tokens beyond plain sampling: checked, and made ready on the devices. */
#include "engine/engine_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static ds_status check_range(const char *name, float value, float least, float most, const char *note, struct ds_error *err) {
    if (value >= least && value <= most) return DS_OK;
    return ds_fail(err, DS_ERROR_ARGUMENT, "%s is %g; expected %g to %g%s", name, (double)value, (double)least, (double)most, note);
}

static int by_token(const void *left, const void *right) {
    const ds_logit_bias *a = left, *b = right;
    return (a->token > b->token) - (a->token < b->token);
}

static ds_status check_biases(const ds_engine *engine, const ds_logit_bias *list, size_t n, struct ds_error *err) {
    const uint32_t vocabulary = engine->model->config.vocabulary;
    size_t forbidden = 0;
    for (size_t i = 0; i < n; i++) {
        if (list[i].token < 0 || (uint32_t)list[i].token >= vocabulary)
            return ds_fail(err, DS_ERROR_ARGUMENT, "logit bias %zu is of token %d; the vocabulary has ids 0 to %u", i, (int)list[i].token, vocabulary - 1);
        if (!(list[i].bias >= -1000 && list[i].bias <= 1000) && list[i].bias != -INFINITY)
            return ds_fail(err, DS_ERROR_ARGUMENT, "the logit bias of token %d is %g; expected -1000 to 1000, or -infinity", (int)list[i].token,
                           (double)list[i].bias);
        forbidden += list[i].bias == -INFINITY;
    }
    if (n > DS_MOST_BIASES) return ds_fail(err, DS_ERROR_ARGUMENT, "%zu logit biases; at most %d are possible", n, DS_MOST_BIASES);
    ds_logit_bias sorted[DS_MOST_BIASES];
    if (n) memcpy(sorted, list, n * sizeof *list);
    qsort(sorted, n, sizeof *sorted, by_token);
    for (size_t i = 1; i < n; i++)
        if (sorted[i].token == sorted[i - 1].token)
            return ds_fail(err, DS_ERROR_ARGUMENT, "token %d has two logit biases; expected one", (int)sorted[i].token);
    if (forbidden == vocabulary) return ds_fail(err, DS_ERROR_ARGUMENT, "the logit biases forbid every token");
    return DS_OK;
}

ds_status ds_shaping_check(const ds_engine *engine, const ds_session_params *params, struct ds_error *err) {
    const ds_penalties *p = &params->penalties;
    if (params->acceptance != DS_COUPLED && params->acceptance != DS_REJECTION)
        return ds_fail(err, DS_ERROR_ARGUMENT, "the acceptance %d is unknown; expected DS_COUPLED or DS_REJECTION", (int)params->acceptance);
    if (p->repetition != 0) DS_TRY(check_range("the repetition penalty", p->repetition, 0.01f, 100, ", or 0 for none", err));
    DS_TRY(check_range("the presence penalty", p->presence, -100, 100, "", err));
    DS_TRY(check_range("the frequency penalty", p->frequency, -100, 100, "", err));
    if (params->n_logit_bias && !params->logit_bias)
        return ds_fail(err, DS_ERROR_ARGUMENT, "n_logit_bias is %zu, but logit_bias is NULL", params->n_logit_bias);
    return check_biases(engine, params->logit_bias, params->n_logit_bias, err);
}

static ds_status extend(ds_engine *engine, uint32_t extensions, struct ds_error *err) {
    struct ds_view drafted = {.rows = 0};
    DS_TRY(ds_target_extend_memory(&engine->target, extensions, err));
    const uint32_t of_drafts = (engine->target.extensions | extensions) & (DS_EXTENDS_ADJUST | DS_EXTENDS_REJECT);
    if (engine->draft_model && of_drafts) DS_TRY(ds_drafter_extend(&engine->drafter, of_drafts, &drafted, err));
    DS_TRY(ds_target_extend(&engine->target, extensions, drafted, err));
    return engine->draft_model ? ds_drafter_join_extended(&engine->drafter, err) : DS_OK;
}

ds_status ds_engine_extend(ds_engine *engine, uint32_t extensions, struct ds_error *err) {
    ds_os_mutex_lock(engine->lock);
    const ds_status status = extend(engine, extensions, err);
    ds_os_mutex_unlock(engine->lock);
    return status;
}

static ds_status write_biases(ds_session *session, const ds_logit_bias *list, uint32_t n, struct ds_error *err) {
    ds_engine *engine = session->engine;
    int32_t ids[DS_MOST_BIASES];
    float values[DS_MOST_BIASES];
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = list[i].token;
        values[i] = list[i].bias;
    }
    const int32_t slot = session->sequence.slot;
    DS_TRY(ds_history_write_biases(&engine->target.history, engine->target.params.stream, slot, ids, values, n, err));
    if (!engine->draft_model || !engine->drafter.bridged) return DS_OK;
    return ds_history_write_biases(&engine->drafter.own_history, engine->drafter.params.stream, slot, ids, values, n, err);
}

ds_status ds_session_shape(ds_session *session, const ds_session_params *params, struct ds_error *err) {
    struct ds_shaping shaping = {.penalties = params->penalties, .biases = (uint32_t)params->n_logit_bias,
                                 .rejects = params->acceptance == DS_REJECTION && params->sampling.temperature > 0};
    ds_penalties *p = &shaping.penalties;
    if (p->repetition == 0) p->repetition = 1;
    shaping.adjusts = p->repetition != 1 || p->presence != 0 || p->frequency != 0 || shaping.biases;
    const uint32_t extensions = (params->bias ? DS_EXTENDS_BIAS : 0) | (shaping.adjusts ? DS_EXTENDS_ADJUST : 0) | (shaping.rejects ? DS_EXTENDS_REJECT : 0);
    if (extensions) DS_TRY(ds_engine_extend(session->engine, extensions, err));
    if (shaping.biases) {
        ds_os_mutex_lock(session->engine->lock);
        const ds_status status = write_biases(session, params->logit_bias, shaping.biases, err);
        ds_os_mutex_unlock(session->engine->lock);
        DS_TRY(status);
    }
    session->sequence.shaping = shaping; /* histories are told anew */
    return DS_OK;
}
