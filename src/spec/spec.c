/* Turns, and a pass over many of them. */
#include "spec/pass.h"

#include <assert.h>

void ds_turn_begin_round(struct ds_turn *turn, struct ds_sequence *s, const struct ds_round_plan *plan) {
    assert(s->computed + 1 == s->length);
    turn->sequence = s;
    turn->round = true;
    turn->unseen = false;
    turn->plan = *plan;
    turn->status = DS_OK;
    struct ds_round_result *r = &turn->result;
    r->position = s->computed;
    r->anchor = s->tokens[s->computed];
    r->n_draft = r->verified = r->accepted = r->drafting = r->rows = 0;
    r->next = turn->next = -1;
    r->draft_seconds = r->verify_seconds = r->block_seconds = r->pass_seconds = 0;
}

void ds_turn_begin_extend(struct ds_turn *turn, struct ds_sequence *s, const struct ds_extend *how, uint32_t rows, uint32_t outputs) {
    assert(!how->feed_drafter || s->drafted_context == s->computed);
    turn->sequence = s;
    turn->round = turn->unseen = false;
    turn->extend = *how;
    turn->status = DS_OK;
    turn->next = -1;
    turn->rows = DS_MIN(s->length - s->computed, rows);
    turn->outputs = 0;
    const uint32_t first = s->computed;
    if (how->logits && first + turn->rows > how->logits_from) { /* a chunk ends before more logits are wanted than a pass gives */
        const uint32_t silent = how->logits_from > first ? how->logits_from - first : 0;
        turn->outputs = DS_MIN(turn->rows - silent, outputs);
        turn->rows = silent + turn->outputs;
    }
    if (how->sample && first + turn->rows == s->length) turn->outputs = DS_MAX(turn->outputs, 1);
}

/* --- the pass --- */

/* *drafting: of the time, what the device spent on drafts that the host had not seen. */
static ds_status run_target(const struct ds_spec *spec, struct ds_turn *turns, uint32_t n, const struct ds_pass *pass, struct ds_graph *joined,
                            double *drafting, struct ds_error *err) {
    bool unseen = false;
    DS_TRY(ds_target_begin(spec->target, pass->rows, pass->outputs, err));
    DS_TRY(ds_drafting_hand_over(spec, turns, n, &unseen, err));
    if (joined) DS_TRY(ds_target_end_graph(spec->target, joined, err));
    else DS_TRY(ds_target_end(spec->target, pass->rows, pass->extended, err));
    return unseen ? ds_drafting_see(spec, turns, n, drafting, err) : DS_OK;
}

static ds_status set_rows(const struct ds_spec *spec, struct ds_turn *turns, uint32_t n, struct ds_pass *pass, struct ds_error *err) {
    for (uint32_t i = 0; i < n; i++) {
        struct ds_turn *t = &turns[i];
        if (t->status == DS_OK) t->status = ds_pass_make_room(spec, t, &t->error);
        if (t->status == DS_OK) DS_TRY(ds_pass_add(spec, t, pass, err));
    }
    return DS_OK;
}

static void finish(const struct ds_spec *spec, struct ds_turn *turns, uint32_t n, uint32_t rows, double seconds) {
    for (uint32_t i = 0; i < n; i++) {
        struct ds_turn *t = &turns[i];
        if (t->status != DS_OK) continue;
        t->result.pass_seconds = seconds;
        t->result.rows = rows;
        t->status = ds_pass_finish(spec, t, &t->error);
    }
}

/*
 * The caches hold the rows that survive; where their features could not be taken in (`kept`), the drafter's context ends in
 * front of them.
 */
static void advance(struct ds_turn *turns, uint32_t n, bool kept) {
    for (uint32_t i = 0; i < n; i++) {
        struct ds_sequence *s = turns[i].sequence;
        if (!kept) s->drafted_context = DS_MIN(s->drafted_context, s->computed);
        else if (turns[i].status == DS_OK) s->computed = ds_turn_first(&turns[i]) + ds_turn_surviving_rows(&turns[i]);
    }
}

static ds_status run(const struct ds_spec *spec, struct ds_turn *turns, uint32_t n, double *drafting, struct ds_error *err) {
    struct ds_pass pass = {.rows = 0};
    *drafting = 0;
    DS_TRY(ds_drafting_begin_unseen(spec, turns, n, err));
    DS_TRY(set_rows(spec, turns, n, &pass, err));
    if (!pass.rows) return DS_OK;
    const double start = ds_os_seconds();
    struct ds_graph *const joined = ds_pass_joined_graph(spec, turns, n, &pass);
    DS_TRY(run_target(spec, turns, n, &pass, joined, drafting, err));
    finish(spec, turns, n, pass.rows, DS_MAX(ds_os_seconds() - start - *drafting, 0));
    const ds_status status = ds_pass_keep_taps(spec, turns, n, joined != NULL, err);
    advance(turns, n, status == DS_OK);
    return status;
}

ds_status ds_spec_run(const struct ds_spec *spec, struct ds_turn *turns, uint32_t n, struct ds_error *err) {
    const double start = ds_os_seconds();
    for (uint32_t i = 0; i < n; i++) {
        struct ds_turn *t = &turns[i];
        if (t->status != DS_OK) continue;
        if (t->round) t->rows = t->outputs = t->result.verified + 1;
        ds_pass_ask_biases(spec, t);
    }
    ds_os_mutex_lock(spec->lock);
    double drafting;
    const ds_status status = run(spec, turns, n, &drafting, err);
    ds_os_mutex_unlock(spec->lock);
    const double seconds = DS_MAX(ds_os_seconds() - start - drafting, 0);
    for (uint32_t i = 0; i < n; i++) turns[i].result.verify_seconds = seconds;
    return status;
}

/* --- a single sequence --- */

static ds_status own_status(const struct ds_turn *turn, struct ds_error *err) {
    if (turn->status != DS_OK) *err = turn->error;
    return turn->status;
}

ds_status ds_spec_extend(const struct ds_spec *spec, struct ds_sequence *sequence, const struct ds_extend *how, ds_token *next,
                         struct ds_error *err) {
    struct ds_turn turn;
    while (sequence->computed < sequence->length) {
        if (how->cancel && atomic_load(how->cancel)) return ds_fail(err, DS_ERROR_CANCELLED, "cancelled");
        ds_turn_begin_extend(&turn, sequence, how, spec->chunk, spec->target->params.out_rows);
        DS_TRY(ds_spec_run(spec, &turn, 1, err));
        DS_TRY(own_status(&turn, err));
        if (how->sample && sequence->computed == sequence->length) *next = turn.next;
    }
    return DS_OK;
}

ds_status ds_spec_round(const struct ds_spec *spec, struct ds_sequence *sequence, const struct ds_round_plan *plan,
                        struct ds_round_result *result, struct ds_error *err) {
    struct ds_turn turn;
    ds_turn_begin_round(&turn, sequence, plan);
    DS_TRY(ds_spec_draft(spec, &turn, 1, err));
    if (turn.status == DS_OK) DS_TRY(ds_spec_run(spec, &turn, 1, err));
    *result = turn.result;
    return own_status(&turn, err);
}
