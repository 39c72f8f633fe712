/* One step of several generations: a pass of the drafter, lengths chosen over all requests, a pass of the target. */
#include "engine/engine_internal.h"

static void begin_round(struct ds_generation *g, struct ds_turn *turn) {
    ds_session *session = g->session;
    struct ds_sequence *s = &session->sequence;
    const uint32_t room = ds_generation_room(g);
    struct ds_round_plan plan = {.taps = DS_TAPS_IGNORE};
    if (ds_generation_is_paced(g)) {
        const struct ds_pace_plan paced = ds_pace_next(&session->pace, s->computed, s->stored, room);
        g->step = paced.step;
        plan = (struct ds_round_plan){.draft = g->step != DS_PACE_PLAIN, .slots = paced.slots,
                                      .verify_most = g->step == DS_PACE_SPECULATE ? room : 0,
                                      .taps = g->step == DS_PACE_SPECULATE ? DS_TAPS_FEED : DS_TAPS_STORE};
    } else if (ds_session_speculates(session)) {
        plan = (struct ds_round_plan){.draft = true, .taps = DS_TAPS_FEED,
                                      .verify_most = session->params.spec == DS_SPEC_FIXED ? session->params.spec_length : DS_MAX_BLOCK};
    }
    ds_turn_begin_round(turn, s, &plan);
}

static void begin_turn(struct ds_generation *g, struct ds_turn *turn) {
    const ds_session *session = g->session;
    if (ds_generation_decodes(g)) {
        begin_round(g, turn);
    } else {
        const struct ds_extend how = {.feed_drafter = ds_session_speculates(session), .sample = true};
        ds_turn_begin_extend(turn, &g->session->sequence, &how, g->rows, 1);
    }
    if (atomic_load(&session->cancelled)) turn->status = ds_fail(&turn->error, DS_ERROR_CANCELLED, "cancelled");
}

/* --- lengths --- */

/* Of those of fixed length every draft is verified, as far as a pass has rows; each turn has one at least. */
static void choose_lengths(struct ds_generation *const *list, struct ds_turn *turns, uint32_t n, uint32_t rows, uint32_t outputs) {
    for (uint32_t i = 0; i < n; i++) {
        if (turns[i].status != DS_OK) continue;
        rows -= turns[i].round ? 1 : turns[i].rows;
        outputs -= turns[i].round ? 1 : turns[i].outputs;
    }
    uint32_t left = DS_MIN(rows, outputs);
    for (uint32_t i = 0; i < n; i++) {
        struct ds_turn *t = &turns[i];
        if (t->status != DS_OK || !t->round) continue;
        struct ds_round_result *r = &t->result;
        r->verified = DS_MIN(r->verified, left);
        if (r->verified && ds_generation_is_paced(list[i]))
            r->verified = ds_pace_choose(&list[i]->session->pace, r->position, r->confidence, r->n_draft, r->verified);
        left -= r->verified;
    }
}

ds_status ds_generations_step(ds_engine *engine, struct ds_generation *const *list, struct ds_turn *turns, uint32_t n, struct ds_error *err) {
    const struct ds_target_params *p = &engine->target.params;
    const double start = ds_os_seconds();
    for (uint32_t i = 0; i < n; i++) begin_turn(list[i], &turns[i]);
    DS_TRY(ds_spec_draft(&engine->spec, turns, n, err));
    choose_lengths(list, turns, n, p->rows, p->out_rows);
    DS_TRY(ds_spec_run(&engine->spec, turns, n, err));
    const double seconds = ds_os_seconds() - start;
    for (uint32_t i = 0; i < n; i++) ds_generation_take(list[i], &turns[i], seconds);
    return DS_OK;
}
