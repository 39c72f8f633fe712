/* One step of several generations: a pass of the drafter, lengths chosen over all requests, a pass of the target. */
#include "engine/engine_internal.h"
#include "spec/lengths.h"

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
                                      .taps = g->step == DS_PACE_SPECULATE ? DS_TAPS_FEED : paced.keep ? DS_TAPS_STORE : DS_TAPS_IGNORE};
    } else if (ds_session_speculates(session)) {
        const bool fixed = session->params.spec == DS_SPEC_FIXED;
        plan = (struct ds_round_plan){.draft = true, .fused = true, .taps = DS_TAPS_FEED, .slots = fixed ? session->params.spec_length : 0,
                                      .verify_most = fixed ? session->params.spec_length : DS_MAX_BLOCK};
    }
    ds_turn_begin_round(turn, s, &plan);
}

static void begin_turn(struct ds_generation *g, struct ds_turn *turn) {
    const ds_session *session = g->session;
    if (ds_generation_decodes(g)) {
        begin_round(g, turn);
    } else {
        const struct ds_extend how = {.feed_drafter = ds_session_follows(session), .sample = true};
        ds_turn_begin_extend(turn, &g->session->sequence, &how, g->rows, 1);
    }
    if (atomic_load(&session->cancelled)) turn->status = ds_fail(&turn->error, DS_ERROR_CANCELLED, "cancelled");
}

/* --- lengths --- */

/* What a step is made of, as far as it is known before it is drafted for. */
struct makeup {
    uint32_t decoding, prompt_rows, drafting;
};

static bool will_draft(const struct ds_generation *g) {
    const ds_session *session = g->session;
    if (!ds_generation_decodes(g) || !ds_session_speculates(session)) return false;
    return !ds_generation_is_paced(g) || !session->pace.learned.parked;
}

static struct makeup makeup_of(struct ds_generation *const *list, uint32_t n) {
    struct makeup m = {.decoding = 0};
    for (uint32_t i = 0; i < n; i++) {
        m.decoding += ds_generation_decodes(list[i]);
        m.drafting += will_draft(list[i]);
        if (!ds_generation_decodes(list[i])) m.prompt_rows += list[i]->rows;
    }
    return m;
}

static void announce(struct ds_generation *const *list, uint32_t n) {
    const struct makeup m = makeup_of(list, n);
    for (uint32_t i = 0; i < n; i++) {
        if (!ds_generation_is_paced(list[i]) || !ds_generation_decodes(list[i])) continue;
        ds_lengths_announce(&list[i]->session->pace, m.decoding, m.prompt_rows, m.drafting + !will_draft(list[i]));
    }
}

/* Of those of fixed length every draft is verified, as far as a pass has rows; the scheduler divides what is left among the others. */
static void choose_lengths(struct ds_generation *const *list, struct ds_turn *turns, uint32_t n, uint32_t rows, uint32_t outputs) {
    struct ds_lengths_request requests[DS_MOST_TURNS];
    struct ds_turn *asked[DS_MOST_TURNS];
    uint32_t count = 0, others = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (turns[i].status != DS_OK) continue;
        others += turns[i].round ? 1 : turns[i].rows;
        outputs -= turns[i].round ? 1 : turns[i].outputs;
    }
    uint32_t left = DS_MIN(rows - others, outputs);
    for (uint32_t i = 0; i < n; i++) {
        struct ds_turn *t = &turns[i];
        if (t->status != DS_OK || !t->round || !t->result.verified) continue;
        struct ds_round_result *r = &t->result;
        if (ds_generation_is_paced(list[i])) {
            asked[count] = t;
            requests[count++] = (struct ds_lengths_request){.pace = &list[i]->session->pace, .context = r->position, .confidence = r->confidence,
                                                            .n = r->verified};
            continue;
        }
        r->verified = DS_MIN(r->verified, left);
        left -= r->verified;
        others += r->verified;
    }
    if (!count) return;
    ds_lengths_choose(requests, count, others - count, left);
    for (uint32_t i = 0; i < count; i++) asked[i]->result.verified = requests[i].length;
}

/* What each is charged with, now that it is known who did what. */
static void settle(struct ds_generation *const *list, const struct ds_turn *turns, uint32_t n) {
    uint32_t decoding = 0;
    bool prompts = false;
    for (uint32_t i = 0; i < n; i++) {
        decoding += turns[i].status == DS_OK && turns[i].round;
        prompts |= turns[i].status == DS_OK && !turns[i].round;
    }
    for (uint32_t i = 0; i < n; i++) list[i]->beside_prompts = prompts;
    for (uint32_t i = 0; i < n; i++) {
        const struct ds_turn *t = &turns[i];
        if (t->status != DS_OK || !t->round || !ds_generation_is_paced(list[i])) continue;
        ds_lengths_settle(&list[i]->session->pace, decoding, t->result.rows, t->rows, t->result.drafting);
    }
}

ds_status ds_generations_step(ds_engine *engine, struct ds_generation *const *list, struct ds_turn *turns, uint32_t n, struct ds_error *err) {
    const struct ds_target_params *p = &engine->target.params;
    const double start = ds_os_seconds();
    announce(list, n);
    for (uint32_t i = 0; i < n; i++) begin_turn(list[i], &turns[i]);
    DS_TRY(ds_spec_draft(&engine->spec, turns, n, err));
    choose_lengths(list, turns, n, p->rows, p->out_rows);
    DS_TRY(ds_spec_run(&engine->spec, turns, n, err));
    settle(list, turns, n);
    const double seconds = ds_os_seconds() - start;
    for (uint32_t i = 0; i < n; i++) ds_generation_take(list[i], &turns[i], seconds);
    return DS_OK;
}
