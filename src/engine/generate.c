/* An answer in the making: where it stands, what becomes of a turn's tokens. */
#include "engine/engine_internal.h"

bool ds_session_speculates(const ds_session *session) { return session->engine->draft_model && session->params.spec != DS_SPEC_OFF; }

static bool is_paced(const ds_session *session) {
    return ds_session_speculates(session) && session->params.spec == DS_SPEC_AUTO && session->paced;
}

bool ds_session_follows(const ds_session *session) {
    return ds_session_speculates(session) && !(is_paced(session) && session->pace.forgone);
}

void ds_session_align(ds_session *session) {
    struct ds_sequence *s = &session->sequence;
    if (s->length) ds_sequence_forget(s, s->length - 1);
    if (ds_session_follows(session)) ds_sequence_forget(s, s->drafted_context + s->stored);
}

ds_status ds_session_feed_all(ds_session *session, struct ds_error *err) {
    if (!ds_session_follows(session)) return DS_OK;
    DS_TRY(ds_spec_catch_up(&session->engine->spec, &session->sequence, err));
    ds_sequence_forget(&session->sequence, session->sequence.drafted_context);
    return DS_OK;
}

/* The scheduler does not decide where the costs could not be measured: then blocks are verified whole. */
bool ds_generation_is_paced(const struct ds_generation *g) { return is_paced(g->session); }

bool ds_generation_decodes(const struct ds_generation *g) {
    const struct ds_sequence *s = &g->session->sequence;
    return s->computed > 0 && s->computed + 1 == s->length; /* a drafter needs context, so even a lone first token is no round */
}

uint32_t ds_generation_room(const struct ds_generation *g) {
    const struct ds_sequence *s = &g->session->sequence;
    const size_t room = DS_MIN(g->left, (size_t)(s->capacity - s->length));
    return (uint32_t)DS_MIN(room - 1, (size_t)DS_MAX_BLOCK);
}

/* --- a turn is over --- */

/* Makes the i-th token of a turn part of the sequence and tells the caller. False: nothing more is to be generated. */
static bool commit(struct ds_generation *g, ds_token token, uint32_t i) {
    struct ds_sequence *s = &g->session->sequence;
    s->tokens[s->length++] = token;
    g->session->stats.generated++;
    g->left--;
    if (ds_generation_is_paced(g)) ds_pace_committed(&g->session->pace, s->length - 1, token);
    const bool stop_token = !g->session->params.ignore_stop && ds_is_stop_token(g->session->engine, token);
    ds_session_tell_logprobs(g->session, i);
    const bool met = !stop_token && ds_session_meets_stop(g->session, token);
    const bool go_on = !g->fn || g->fn(g->user, token);
    if (stop_token) g->stop = DS_STOP_EOS;
    else if (met) g->stop = DS_STOP_STRING;
    else if (!go_on) g->stop = DS_STOP_CALLBACK;
    else if (g->left == 0 || s->length == s->capacity) g->stop = DS_STOP_LENGTH;
    return g->stop == DS_STOP_NONE;
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
    session->trace(session->trace_user, &(ds_round){.position = r->position, .anchor = r->anchor, .draft = r->draft, .n_draft = r->n_draft,
                                                    .confidence = r->n_draft ? r->confidence : NULL, .verified = r->verified,
                                                    .accepted = r->accepted, .next = r->next,
                                                    .confidence_logits = r->n_draft ? r->logits : NULL});
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

/* Times of passes and drafts that others had a part in: the pass is still one of so many rows, the draft tells of nobody's own. */
static void observe_company(struct ds_pace *pace, const struct ds_round_result *r) {
    struct ds_costs *costs = &pace->learned.costs;
    if (r->rows <= costs->table.widths[costs->table.n_widths - 1]) ds_cost_observe_pass(costs, r->rows, r->position, r->pass_seconds);
}

static void tell_pace(const struct ds_generation *g, const struct ds_round_result *r) {
    struct ds_pace *pace = &g->session->pace;
    const bool alone = r->rows == r->verified + 1;
    const double pass = alone ? r->pass_seconds : 0, draft = r->drafting == 1 ? r->block_seconds : 0;
    if (!alone && !g->beside_prompts) observe_company(pace, r);
    if (g->step == DS_PACE_SPECULATE && r->n_draft) {
        ds_pace_speculated(pace, &(struct ds_pace_round){.context = r->position, .confidence = r->confidence, .slots = r->n_draft,
                                                         .verified = r->verified, .accepted = r->accepted,
                                                         .draft_seconds = draft, .pass_seconds = pass});
        return;
    }
    if (g->step == DS_PACE_PROBE && r->n_draft) ds_pace_probed(pace, r->position, r->draft, r->confidence, r->n_draft, draft);
    ds_pace_plain(pace, r->position, pass);
}

static void take_round(struct ds_generation *g, struct ds_round_result r) {
    ds_session *session = g->session;
    if (ds_generation_is_paced(g)) {
        session->stats.probes += g->step == DS_PACE_PROBE;
        tell_pace(g, &r);
    }
    count_round(session, &r, end_at_stop(session, &r));
    trace(session, &r);
    bool go_on = true;
    for (uint32_t j = 0; go_on && j < r.accepted; j++) go_on = commit(g, r.draft[j], j);
    if (go_on) commit(g, r.next, r.accepted);
}

void ds_generation_take(struct ds_generation *g, const struct ds_turn *turn, double seconds) {
    ds_stats *stats = &g->session->stats;
    if (turn->status != DS_OK) return;
    if (turn->round) {
        stats->decode_seconds += seconds;
        take_round(g, turn->result);
        return;
    }
    stats->prompt_tokens += turn->rows;
    stats->prefill_seconds += seconds;
    if (turn->next < 0) return;
    ds_spec_keep(&g->session->engine->spec, &g->session->sequence, ds_session_follows(g->session), false);
    commit(g, turn->next, 0);
}

/* --- begin and end --- */

/* A session starts with what the engine's sessions have learned so far, and leaves what it has learned. */
static ds_status know_pace(ds_session *session, struct ds_error *err) {
    ds_engine *engine = session->engine;
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
    if (session->paced) ds_pace_start(&session->pace, &engine->scheduling.learned, engine->draft_model->block_size, !s->shaping.rejects);
    ds_os_mutex_unlock(engine->lock);
    return DS_OK;
}

static ds_status start_pace(ds_session *session, struct ds_error *err) {
    const struct ds_sequence *s = &session->sequence;
    if (!ds_session_speculates(session) || session->params.spec != DS_SPEC_AUTO) return DS_OK;
    if (!session->paced) DS_TRY(know_pace(session, err));
    session->pace.coupled = !s->shaping.rejects; /* a session may have been configured anew */
    if (session->paced) ds_pace_follows(&session->pace, s->computed, ds_sequence_can_draft(s));
    return DS_OK;
}

static void leave_pace(struct ds_generation *g) {
    ds_session *session = g->session;
    if (!ds_generation_is_paced(g)) return;
    ds_engine *engine = session->engine;
    const bool stale = ds_pace_table_is_stale(&session->pace.learned);
    ds_os_mutex_lock(engine->lock);
    const bool again = stale && !engine->scheduling.remeasured;
    engine->scheduling.learned = session->pace.learned;
    engine->scheduling.changed = true;
    if (again) { /* measured anew before the next answer */
        engine->scheduling.known = session->paced = false;
        engine->scheduling.remeasured = true;
    }
    ds_os_mutex_unlock(engine->lock);
    if (again) ds_costs_forget(engine);
}

ds_status ds_generation_begin(struct ds_generation *g, struct ds_error *err) {
    ds_session *session = g->session;
    struct ds_sequence *s = &session->sequence;
    if (s->length == 0) return ds_fail(err, DS_ERROR_ARGUMENT, "the sequence is empty: append a prompt first");
    if (s->length == s->capacity) g->stop = DS_STOP_LENGTH;
    if (g->left == 0) g->stop = DS_STOP_LENGTH;
    ds_sequence_forget(s, s->length - 1);
    if (g->stop == DS_STOP_NONE) DS_TRY(start_pace(session, err));
    ds_session_align(session);
    if (g->stop != DS_STOP_NONE) return DS_OK;
    uint32_t found;
    DS_TRY(ds_spec_adopt(&session->engine->spec, s, ds_session_follows(session), &found, err));
    session->stats.cached_tokens += found;
    return ds_generation_decodes(g) ? DS_OK : ds_session_feed_all(session, err);
}

void ds_generation_end(struct ds_generation *g) {
    leave_pace(g);
    ds_session *session = g->session;
    ds_sequence_forget(&session->sequence, session->sequence.length); /* what a round accepted beyond the sequence's end */
    ds_spec_keep(&session->engine->spec, &session->sequence, ds_session_follows(session), false);
}
