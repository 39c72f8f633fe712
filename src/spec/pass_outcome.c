/* What came of a pass of the target: tokens, logits, and features that the drafter goes on from. */
#include "spec/pass.h"

/* Of the turn's n tokens, drawn from output rows `out` on. */
static ds_status note_logprobs(const struct ds_spec *spec, const struct ds_turn *t, uint32_t out, uint32_t n, struct ds_error *err) {
    struct ds_logprobs *l = t->sequence->logprobs;
    for (uint32_t i = 0; l && i < n; i++) {
        const ds_token token = !t->round ? t->next : i < t->result.accepted ? t->result.draft[i] : t->result.next;
        DS_TRY(ds_target_read_logits(spec->target, out + i, 1, l->logits, err));
        ds_logprobs_of(l->logits, spec->target->model->config.vocabulary, token, l->n_top, &l->rows[i]);
    }
    return DS_OK;
}

static ds_status finish_round(const struct ds_spec *spec, struct ds_turn *t, struct ds_error *err) {
    const struct ds_rows_buffer *rows = &spec->target->rows;
    struct ds_round_result *r = &t->result;
    const struct ds_verified_rows verified = {.tokens = rows->out_tokens + t->first_out, .flags = rows->out_flags + t->first_out,
                                              .flags_rows = rows->out_flags_rows + t->first_row, .draft = r->draft,
                                              .n_draft = r->verified, .position = r->position};
    DS_TRY(ds_accept(&verified, &r->accepted, &r->next, err));
    return note_logprobs(spec, t, t->first_out, r->accepted + 1, err);
}

static ds_status finish_extension(const struct ds_spec *spec, struct ds_turn *t, struct ds_error *err) {
    const struct ds_rows_buffer *rows = &spec->target->rows;
    const uint32_t first = ds_turn_first(t), vocabulary = spec->target->model->config.vocabulary;
    for (uint32_t i = 0; i < t->rows; i++) DS_TRY(ds_check_row_flags(rows->out_flags_rows[t->first_row + i], first + i, err));
    if (t->extend.logits && t->outputs) {
        const uint32_t done = first + t->rows - t->outputs - t->extend.logits_from;
        DS_TRY(ds_target_read_logits(spec->target, t->first_out, t->outputs, t->extend.logits + (size_t)done * vocabulary, err));
    }
    if (!t->extend.sample || !ds_turn_is_last_chunk(t)) return DS_OK;
    const uint32_t out = t->first_out + t->outputs - 1;
    DS_TRY(ds_check_row_flags(rows->out_flags[out], first + t->rows - 1, err));
    t->next = rows->out_tokens[out];
    return note_logprobs(spec, t, out, 1, err);
}

ds_status ds_pass_finish(const struct ds_spec *spec, struct ds_turn *t, struct ds_error *err) {
    return t->round ? finish_round(spec, t, err) : finish_extension(spec, t, err);
}

/* --- features --- */

static bool feeds(const struct ds_turn *t) {
    return t->round ? t->plan.taps == DS_TAPS_FEED && ds_sequence_can_draft(t->sequence) : t->extend.feed_drafter;
}

/* The token behind surviving row i; -1: not known yet. */
static ds_token token_behind(const struct ds_turn *t, uint32_t i) {
    if (t->round) return i < t->result.accepted ? t->result.draft[i] : t->result.next;
    const uint32_t position = ds_turn_first(t) + i + 1;
    return position < t->sequence->length ? t->sequence->tokens[position] : t->next;
}

/* A last row whose next token is not known cannot be paired with it: it waits for the next extension. */
static void feed(const struct ds_spec *spec, struct ds_turn *t) {
    struct ds_drafter *d = spec->drafter;
    const uint32_t all = ds_turn_surviving_rows(t), first = ds_turn_first(t);
    for (uint32_t i = 0; i < all; i++) d->following[i] = token_behind(t, i);
    const uint32_t n = all - (t->sequence->paired && d->following[all - 1] < 0);
    if (n) ds_drafter_context_add(d, t->sequence->slot, first, t->first_row, n, d->following);
    t->sequence->drafted_context = first + n;
}

ds_status ds_pass_keep_taps(const struct ds_spec *spec, struct ds_turn *turns, uint32_t n, bool joined, struct ds_error *err) {
    if (!spec->drafter) return DS_OK;
    ds_drafter_context_begin(spec->drafter);
    for (uint32_t i = 0; i < n; i++) {
        struct ds_turn *t = &turns[i];
        if (t->status != DS_OK) continue;
        if (feeds(t)) feed(spec, t);
        else if (t->round && t->plan.taps == DS_TAPS_STORE && ds_sequence_can_draft(t->sequence))
            DS_TRY(ds_sequence_store(spec, t->sequence, t->first_row, ds_turn_surviving_rows(t), err));
    }
    return joined ? ds_drafter_context_joined(spec->drafter, err) : ds_drafter_context_run(spec->drafter, err);
}

struct ds_graph *ds_pass_joined_graph(const struct ds_spec *spec, const struct ds_turn *turns, uint32_t n, const struct ds_pass *pass) {
    bool any = false;
    for (uint32_t i = 0; i < n; i++) any |= turns[i].status == DS_OK && feeds(&turns[i]);
    return spec->drafter && any ? ds_drafter_joined_graph(spec->drafter, pass->rows, pass->outputs, pass->extended) : NULL;
}
