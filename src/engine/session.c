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
    ds_os_mutex_lock(engine->lock);
    const ds_status status = ds_target_enable_bias(&engine->target, err);
    ds_os_mutex_unlock(engine->lock);
    DS_TRY(status);
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
    session->params = checked;
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
    if (session->sequence.slot >= 0) {
        ds_os_mutex_lock(session->engine->lock);
        ds_pager_release_sequence(&session->engine->pager, session->sequence.slot);
        ds_buffer_drop(&session->sequence.taps);
        ds_os_mutex_unlock(session->engine->lock);
    }
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
    session->pace.pending = 0; /* tokens of others are no outcome of a probe */
    return DS_OK;
}

ds_status ds_session_rewind(ds_session *session, size_t length, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    DS_TRY(ds_session_require_idle(session, err));
    struct ds_sequence *s = &session->sequence;
    if (length > s->length)
        return ds_fail(err, DS_ERROR_ARGUMENT, "cannot rewind to %zu tokens: the sequence has %u", length, s->length);
    s->length = (uint32_t)length;
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

static bool speculates(const ds_session *session) { return session->engine->draft_model && session->params.spec != DS_SPEC_OFF; }

/* Cache entries of the last token, and with a drafter those it has no context for, are made again. */
static void align_caches(ds_session *session) {
    struct ds_sequence *s = &session->sequence;
    if (s->length) ds_sequence_forget(s, s->length - 1);
    if (speculates(session)) ds_sequence_forget(s, s->drafted_context + s->stored);
}

/* Tokens the session holds already, through the target; the drafter's context follows if the session speculates. */
static ds_status extend(ds_session *session, struct ds_extend how, ds_token *next, struct ds_error *err) {
    how.feed_drafter = speculates(session);
    how.cancel = &session->cancelled;
    if (how.feed_drafter) {
        DS_TRY(ds_spec_catch_up(&session->engine->spec, &session->sequence, err));
        ds_sequence_forget(&session->sequence, session->sequence.drafted_context);
    }
    return ds_spec_extend(&session->engine->spec, &session->sequence, &how, next, err);
}

/* Whether the scheduler decides. It does not where the costs could not be measured: then blocks are verified whole. */
static bool paces(const ds_session *session) { return speculates(session) && session->params.spec == DS_SPEC_AUTO && session->paced; }

struct generation {
    ds_session *session;
    size_t left;
    ds_token_fn fn;
    void *user;
    ds_stop stop;
};

/* Makes a token part of the sequence and tells the caller. False: nothing more is to be generated. */
static bool commit(struct generation *g, ds_token token) {
    struct ds_sequence *s = &g->session->sequence;
    s->tokens[s->length++] = token;
    g->session->stats.generated++;
    g->left--;
    if (paces(g->session)) ds_pace_committed(&g->session->pace, s->length - 1, token);
    const bool stop_token = !g->session->params.ignore_stop && ds_is_stop_token(g->session->engine, token);
    const bool go_on = !g->fn || g->fn(g->user, token);
    if (stop_token) g->stop = DS_STOP_EOS;
    else if (!go_on) g->stop = DS_STOP_CALLBACK;
    else if (g->left == 0 || s->length == s->capacity) g->stop = DS_STOP_LENGTH;
    return g->stop == DS_STOP_NONE;
}

static ds_status prefill(struct generation *g, struct ds_error *err) {
    ds_session *session = g->session;
    struct ds_sequence *s = &session->sequence;
    const uint32_t rows = s->length - s->computed;
    const double start = ds_os_seconds();
    ds_token next = -1;
    DS_TRY(extend(session, (struct ds_extend){.sample = true}, &next, err));
    session->stats.prompt_tokens += rows;
    session->stats.prefill_seconds += ds_os_seconds() - start;
    commit(g, next);
    return DS_OK;
}

static void count_round(ds_session *session, const struct ds_round_result *r, bool stopped_inside) {
    ds_stats *stats = &session->stats;
    stats->rounds++;
    stats->drafted += r->n_draft;
    stats->verified += r->verified;
    stats->accepted += r->accepted;
    /* As the reference counts tau: a round that ends on an accepted stop token has no token of the target behind it. */
    stats->committed_in_rounds += r->accepted + (stopped_inside ? 0 : 1);
    stats->draft_seconds += r->draft_seconds;
    stats->verify_seconds += r->verify_seconds;
}

static void trace(const ds_session *session, const struct ds_round_result *r) {
    if (!session->trace) return;
    const bool confident = session->engine->draft_model && session->engine->draft_model->has_confidence;
    session->trace(session->trace_user, &(ds_round){.position = r->position, .anchor = r->anchor, .draft = r->draft, .n_draft = r->n_draft,
                                                    .confidence = confident ? r->confidence : NULL, .verified = r->verified,
                                                    .accepted = r->accepted, .next = r->next,
                                                    .confidence_logits = confident ? r->logits : NULL});
}

/* Drafts behind an accepted stop token count as not accepted, as the reference has it. True: there is such a token. */
static bool end_at_stop(const ds_session *session, struct ds_round_result *r) {
    if (session->params.ignore_stop) return false;
    for (uint32_t j = 0; j < r->accepted; j++) {
        if (!ds_is_stop_token(session->engine, r->draft[j])) continue;
        r->accepted = j + 1;
        return true;
    }
    return false;
}

/* --- rounds --- */

/* Drafts that the rest of the answer has room for, beside the target's own token. */
static uint32_t room_for_drafts(const struct generation *g) {
    const struct ds_sequence *s = &g->session->sequence;
    const size_t room = DS_MIN(g->left, (size_t)(s->capacity - s->length));
    return (uint32_t)DS_MIN(room - 1, (size_t)DS_MAX_BLOCK);
}

static uint32_t choose(void *user, const struct ds_round_result *drafted, uint32_t most) {
    return ds_pace_choose(user, drafted->position, drafted->confidence, drafted->n_draft, most);
}

static void tell_pace(struct ds_pace *pace, enum ds_pace_step step, const struct ds_round_result *r) {
    if (step == DS_PACE_SPECULATE && r->n_draft) {
        ds_pace_speculated(pace, &(struct ds_pace_round){.context = r->position, .confidence = r->confidence, .slots = r->n_draft,
                                                         .verified = r->verified, .accepted = r->accepted,
                                                         .draft_seconds = r->block_seconds, .pass_seconds = r->pass_seconds});
        return;
    }
    if (step == DS_PACE_PROBE && r->n_draft) ds_pace_probed(pace, r->position, r->draft, r->confidence, r->n_draft, r->block_seconds);
    ds_pace_plain(pace, r->position, r->pass_seconds);
}

static ds_status paced_round(struct generation *g, struct ds_round_result *r, struct ds_error *err) {
    ds_session *session = g->session;
    struct ds_pace *pace = &session->pace;
    const uint32_t room = room_for_drafts(g);
    const enum ds_pace_step step = ds_pace_next(pace, session->sequence.computed, session->sequence.stored, room).step;
    const struct ds_round_plan plan = {.draft = step != DS_PACE_PLAIN, .verify_most = step == DS_PACE_SPECULATE ? room : 0, .choose = choose,
                                       .user = pace, .taps = step == DS_PACE_SPECULATE ? DS_TAPS_FEED : DS_TAPS_STORE};
    DS_TRY(ds_spec_round(&session->engine->spec, &session->sequence, &plan, r, err));
    session->stats.probes += step == DS_PACE_PROBE;
    tell_pace(pace, step, r);
    return DS_OK;
}

static ds_status unpaced_round(struct generation *g, struct ds_round_result *r, struct ds_error *err) {
    ds_session *session = g->session;
    const bool draft = speculates(session);
    const uint32_t most = session->params.spec == DS_SPEC_FIXED ? session->params.spec_length : DS_MAX_BLOCK;
    const struct ds_round_plan plan = {.draft = draft, .verify_most = draft ? most : 0, .taps = draft ? DS_TAPS_FEED : DS_TAPS_IGNORE};
    return ds_spec_round(&session->engine->spec, &session->sequence, &plan, r, err);
}

static ds_status run_round(struct generation *g, struct ds_error *err) {
    ds_session *session = g->session;
    struct ds_round_result r;
    const double start = ds_os_seconds();
    DS_TRY(paces(session) ? paced_round(g, &r, err) : unpaced_round(g, &r, err));
    session->stats.decode_seconds += ds_os_seconds() - start;
    count_round(session, &r, end_at_stop(session, &r));
    trace(session, &r);
    bool go_on = true;
    for (uint32_t j = 0; go_on && j < r.accepted; j++) go_on = commit(g, r.draft[j]);
    if (go_on) commit(g, r.next);
    return DS_OK;
}

/* A session starts with what the engine's sessions have learned so far, and leaves what it has learned. */
static ds_status start_pace(ds_session *session, struct ds_error *err) {
    ds_engine *engine = session->engine;
    if (!speculates(session) || session->params.spec != DS_SPEC_AUTO || session->paced) return DS_OK;
    DS_TRY(ds_engine_know_costs(engine, &session->sequence, err));
    /* Measuring took context in: a drafter in steps goes on from its last row, which is computed again. */
    struct ds_sequence *s = &session->sequence;
    if (s->paired && s->drafted_context) {
        s->drafted_context--;
        s->stored = 0;
        ds_sequence_forget(s, s->drafted_context);
    }
    ds_os_mutex_lock(engine->lock);
    session->paced = engine->scheduling.known;
    if (session->paced) ds_pace_start(&session->pace, &engine->scheduling.learned, engine->draft_model->block_size, true);
    ds_os_mutex_unlock(engine->lock);
    return DS_OK;
}

static void leave_pace(ds_session *session) {
    static const double busy = 0.5; /* of the time in the table: it was measured while the machine had other things to do */
    if (!paces(session)) return;
    ds_engine *engine = session->engine;
    const struct ds_cost_tuning *tuning = &session->pace.learned.costs.tuning;
    const bool stale = tuning->all * tuning->pass[0] < busy && tuning->seen_pass[0] >= 2;
    ds_os_mutex_lock(engine->lock);
    engine->scheduling.learned = session->pace.learned;
    if (stale) engine->scheduling.known = session->paced = false; /* measured anew before the next answer */
    ds_os_mutex_unlock(engine->lock);
    if (stale) ds_costs_forget(engine);
}

static ds_status generate(struct generation *g, struct ds_error *err) {
    ds_session *session = g->session;
    struct ds_sequence *s = &session->sequence;
    if (s->length == 0) return ds_fail(err, DS_ERROR_ARGUMENT, "the sequence is empty: append a prompt first");
    if (s->length == s->capacity) g->stop = DS_STOP_LENGTH;
    if (g->left == 0) g->stop = DS_STOP_LENGTH;
    align_caches(session);
    if (g->stop == DS_STOP_NONE) DS_TRY(start_pace(session, err));
    while (g->stop == DS_STOP_NONE) {
        if (atomic_load(&session->cancelled)) return ds_fail(err, DS_ERROR_CANCELLED, "cancelled");
        /* A drafter needs context, so even a lone first token goes through the prefill. */
        const bool ready = s->computed > 0 && s->computed + 1 == s->length;
        DS_TRY(ready ? run_round(g, err) : prefill(g, err));
    }
    return DS_OK;
}

ds_status ds_session_generate(ds_session *session, size_t max_tokens, ds_token_fn fn, void *user, ds_stop *stop, struct ds_error *err) {
    DS_PUBLIC_ERROR(err);
    if (stop) *stop = DS_STOP_NONE;
    DS_TRY(ds_session_require_idle(session, err));
    struct generation g = {.session = session, .left = max_tokens, .fn = fn, .user = user};
    const struct ds_float_state host = ds_os_float_begin();
    session->running = true;
    const ds_status status = generate(&g, err);
    leave_pace(session);
    session->running = false;
    ds_os_float_restore(host);
    /* What a round accepted beyond the sequence's end is forgotten. */
    ds_sequence_forget(&session->sequence, session->sequence.length);
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
    align_caches(session);
    ds_sequence_forget(s, s->length - (uint32_t)rows);
    const ds_status status = extend(session, (struct ds_extend){.logits_from = s->length - (uint32_t)rows, .logits = logits}, NULL, err);
    ds_os_float_restore(host);
    if (status == DS_ERROR_CANCELLED) atomic_store(&session->cancelled, false);
    return status;
}
