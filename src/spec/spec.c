#include "spec/spec.h"

#include <assert.h>
#include <string.h>

/* --- turns --- */

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

static uint32_t first_position(const struct ds_turn *t) { return t->round ? t->result.position : t->sequence->computed; }
static bool is_last_chunk(const struct ds_turn *t) { return t->sequence->computed + t->rows == t->sequence->length; }

/* --- drafting --- */

/* The s-th block of the drafter's pass. */
static void read_block(const struct ds_spec *spec, uint32_t s, uint32_t slots, struct ds_round_result *r) {
    const struct ds_drafter *d = spec->drafter;
    r->n_draft = 0;
    /* A slot whose logits were not finite has no token: the block ends there. */
    for (uint32_t k = 0; k < slots; k++) {
        const ds_token token = ds_drafter_token(d, s, k);
        if (token < 0) break;
        r->draft[r->n_draft++] = token;
        if (d->model->arch->steps && ds_model_stops_at(spec->target->model, token)) break;
    }
    for (uint32_t k = 0; k < r->n_draft; k++) r->confidence[k] = DS_CONFIDENCE_UNKNOWN;
    if (!d->model->has_confidence) return;
    for (uint32_t k = 0; k < r->n_draft; k++) r->logits[k] = ds_drafter_confidence(d, s, k);
    ds_confidence(r->logits, spec->temperature, r->n_draft, r->confidence);
}

static ds_status ready_to_draft(const struct ds_spec *spec, struct ds_turn *t, struct ds_error *err) {
    DS_TRY(ds_sequence_reserve(spec, t->sequence, t->result.position + spec->drafter->model->block_rows, err));
    DS_TRY(ds_sequence_tell(spec, t->sequence, true, err));
    return ds_sequence_catch_up(spec, t->sequence, err);
}

static uint32_t slots_of(const struct ds_spec *spec, const struct ds_turn *t) {
    const uint32_t block = spec->drafter->model->block_size;
    return t->plan.slots ? DS_MIN(t->plan.slots, block) : block;
}

/* The k-th slot's penalties see the drafts in front of it, which lie slot-major. */
static void shape_drafts(struct ds_drafter *d, uint32_t s, const struct ds_turn *t, uint32_t slots) {
    const struct ds_shaping *shaping = &t->sequence->shaping;
    const struct ds_drafted_tokens drafted = {.from = t->result.position + 1, .at = s, .stride = d->width};
    ds_drafter_use_extended(d);
    for (uint32_t k = 0; k < slots; k++) {
        *ds_drafter_adjust(d, s, k) = ds_adjust_row_of(shaping, t->sequence->slot, t->result.position + 1 + k, &drafted);
        if (shaping->rejects) ds_draw_by_mass(ds_drafter_sample(d, s, k), DS_PHILOX_DRAFT);
    }
}

/* Rejection sampling compares with what the drafts were drawn from. */
static ds_status keep_sampled(struct ds_drafter *d, uint32_t s, struct ds_turn *t, uint32_t slots, struct ds_error *err) {
    t->sampled_row = ds_drafter_sampled_row(d, s, 0);
    t->sampled_stride = d->width;
    return ds_drafter_cross(d, s, slots, err);
}

/* The rows of one pass of the drafter over some turns; returns its slots. */
static uint32_t set_drafting_rows(const struct ds_spec *spec, struct ds_turn *const *turns, uint32_t n) {
    struct ds_drafter *d = spec->drafter;
    uint32_t most = 0;
    for (uint32_t s = 0; s < n; s++) most = DS_MAX(most, slots_of(spec, turns[s]));
    ds_drafter_begin(d, n, most);
    for (uint32_t s = 0; s < n; s++) {
        const struct ds_turn *t = turns[s];
        ds_drafter_set(d, s, t->sequence->slot, t->result.position, t->result.anchor);
        for (uint32_t k = 0; k < most; k++)
            *ds_drafter_sample(d, s, k) = ds_sample_row_of(&t->sequence->sampling, t->result.position + 1 + k);
        if (ds_shaping_extends(&t->sequence->shaping)) shape_drafts(d, s, t, most);
    }
    return most;
}

static ds_status draft_together(const struct ds_spec *spec, struct ds_turn *const *turns, uint32_t n, struct ds_error *err) {
    struct ds_drafter *d = spec->drafter;
    const uint32_t most = set_drafting_rows(spec, turns, n);
    const double start = ds_os_seconds();
    DS_TRY(ds_drafter_run(d, err));
    const double seconds = ds_os_seconds() - start;
    for (uint32_t s = 0; s < n; s++) {
        if (turns[s]->sequence->shaping.rejects) DS_TRY(keep_sampled(d, s, turns[s], most, err));
        read_block(spec, s, slots_of(spec, turns[s]), &turns[s]->result);
        turns[s]->result.block_seconds = seconds;
        turns[s]->result.drafting = n;
    }
    return DS_OK;
}

static bool drafts(const struct ds_spec *spec, const struct ds_turn *t) {
    return t->status == DS_OK && t->round && spec->drafter && t->plan.draft && ds_sequence_can_draft(t->sequence);
}

/* Nothing of the drafts is wanted before the target has seen them, and one pass drafts them all. */
static bool fuses(const struct ds_spec *spec, const struct ds_turn *turns, uint32_t n) {
    const struct ds_drafter *d = spec->drafter;
    if (d->bridged || d->params.device->fns->host) return false; /* in host memory nothing is won, and times of halves would be lost */
    uint32_t count = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!drafts(spec, &turns[i])) continue;
        const struct ds_sequence *s = turns[i].sequence;
        if (!turns[i].plan.fused || s->shaping.rejects || s->bias) return false;
        count++;
    }
    return count <= d->most_sequences;
}

/* They draft in `run`: as many as the pass has slots, for all that is known yet. */
static void leave_unseen(const struct ds_spec *spec, struct ds_turn *turns, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        if (!drafts(spec, &turns[i])) continue;
        turns[i].unseen = true;
        turns[i].result.n_draft = slots_of(spec, &turns[i]);
    }
}

/*
 * Turns that sample by rejection come last, and as many as one pass takes: what their drafts were drawn from lies with the drafter until
 * its next pass. More of them do not draft in this step, whatever their drafts would have been.
 */
static ds_status draft_all(const struct ds_spec *spec, struct ds_turn *turns, uint32_t n, struct ds_error *err) {
    struct ds_turn *together[DS_MOST_DRAFTING];
    uint32_t count = 0;
    for (int rejecting = 0; rejecting < 2; rejecting++) {
        for (uint32_t i = 0; i < n; i++) {
            if (!drafts(spec, &turns[i]) || turns[i].sequence->shaping.rejects != rejecting) continue;
            if (count == spec->drafter->most_sequences) {
                if (together[count - 1]->sequence->shaping.rejects) break;
                DS_TRY(draft_together(spec, together, count, err));
                count = 0;
            }
            turns[i].status = ready_to_draft(spec, &turns[i], &turns[i].error);
            if (turns[i].status == DS_OK) together[count++] = &turns[i];
        }
    }
    return count ? draft_together(spec, together, count, err) : DS_OK;
}

uint32_t ds_spec_most_drafts(const struct ds_spec *spec, const struct ds_turn *t) {
    /* Rows n..n+l must exist in the cache. */
    return DS_MIN(DS_MIN(t->result.n_draft, t->plan.verify_most), spec->context - 1 - t->result.position);
}

ds_status ds_spec_draft(const struct ds_spec *spec, struct ds_turn *turns, uint32_t n, struct ds_error *err) {
    const double start = ds_os_seconds();
    bool any = false;
    for (uint32_t i = 0; i < n; i++) any |= drafts(spec, &turns[i]);
    if (any && fuses(spec, turns, n)) {
        leave_unseen(spec, turns, n);
    } else if (any) {
        ds_os_mutex_lock(spec->lock);
        const ds_status status = draft_all(spec, turns, n, err);
        ds_os_mutex_unlock(spec->lock);
        DS_TRY(status);
    }
    const double seconds = ds_os_seconds() - start;
    for (uint32_t i = 0; i < n; i++) {
        if (!turns[i].round || turns[i].status != DS_OK) continue;
        turns[i].result.verified = ds_spec_most_drafts(spec, &turns[i]);
        turns[i].result.draft_seconds = turns[i].result.n_draft && !turns[i].unseen ? seconds : 0;
    }
    return DS_OK;
}

/* --- the rows of a pass --- */

/* Asks the host for the bias of the row behind `n_drafted` drafts; true when there is one. */
static bool ask_bias(const struct ds_spec *spec, struct ds_sequence *s, const ds_token *drafted, uint32_t n_drafted) {
    const size_t vocabulary = spec->target->model->config.vocabulary;
    float *row = s->bias_rows + n_drafted * vocabulary;
    memset(row, 0, vocabulary * sizeof *row);
    return s->bias(s->bias_user, drafted, n_drafted, row);
}

/* Of an extension only the row that a token is drawn from has a bias. */
static void ask_biases(const struct ds_spec *spec, struct ds_turn *t) {
    const bool samples = t->round || (t->extend.sample && is_last_chunk(t));
    memset(t->biased, 0, sizeof t->biased);
    if (!t->sequence->bias || !samples) return;
    for (uint32_t j = 0; j < (t->round ? t->rows : 1); j++) t->biased[j] = ask_bias(spec, t->sequence, t->result.draft, j);
}

struct pass {
    uint32_t rows, outputs;
    bool extended;
};

/* Output `i` of the turn, in its row `row`: penalties that see the drafts in front of it, and how its token is drawn. */
static void shape_output(const struct ds_spec *spec, const struct ds_turn *t, uint32_t i, uint32_t row) {
    struct ds_rows_buffer *rows = &spec->target->rows;
    struct ds_sample_row *sample = &rows->in_sample[t->first_out + i];
    const struct ds_shaping *shaping = &t->sequence->shaping;
    const uint32_t first = first_position(t);
    const struct ds_drafted_tokens drafted = {.from = t->round ? first + 1 : t->sequence->length, .at = t->first_row + 1, .stride = 1};
    rows->in_adjust[t->first_out + i] = ds_adjust_row_of(shaping, t->sequence->slot, first + row + 1, &drafted);
    if (!shaping->rejects) return;
    if (t->round && i < t->result.verified) ds_draw_by_rejection(sample, t->result.draft[i], t->sampled_row + i * t->sampled_stride);
    else ds_draw_by_mass(sample, DS_PHILOX_RESIDUAL);
}

/* Output row `out` gives the logits of the turn's row `row`; `bias`: which of the sequence's bias rows it has, -1: none. */
static ds_status set_output(const struct ds_spec *spec, const struct ds_turn *t, uint32_t out, uint32_t row, int32_t bias, struct ds_error *err) {
    struct ds_rows_buffer *rows = &spec->target->rows;
    rows->in_out_index[out] = (int32_t)(t->first_row + row);
    rows->in_sample[out] = ds_sample_row_of(&t->sequence->sampling, first_position(t) + row + 1);
    rows->in_sample[out].bias_row = bias < 0 ? -1 : (int32_t)out;
    if (bias < 0) return DS_OK;
    return ds_target_write_bias(spec->target, out, t->sequence->bias_rows + (size_t)bias * spec->target->model->config.vocabulary, err);
}

static ds_status set_rows(const struct ds_spec *spec, struct ds_turn *t, struct pass *pass, struct ds_error *err) {
    struct ds_rows_buffer *rows = &spec->target->rows;
    const uint32_t first = first_position(t);
    t->first_row = pass->rows;
    t->first_out = pass->outputs;
    for (uint32_t i = 0; i < t->rows; i++) {
        const uint32_t row = t->first_row + i;
        rows->in_ids[row] = !t->round ? t->sequence->tokens[first + i] : !i ? t->result.anchor : t->unseen ? 0 : t->result.draft[i - 1];
        rows->in_positions[row] = (int32_t)(first + i);
        rows->in_sequences[row] = t->sequence->slot;
        rows->in_visible[row] = (int32_t)(first + i + 1);
    }
    for (uint32_t i = 0; i < t->outputs; i++) {
        const bool last = i + 1 == t->outputs;
        const bool biased = t->round ? t->biased[i] : last && t->biased[0];
        DS_TRY(set_output(spec, t, t->first_out + i, t->rows - t->outputs + i, biased ? t->round ? (int32_t)i : 0 : -1, err));
        shape_output(spec, t, i, t->rows - t->outputs + i);
        pass->extended |= biased || ds_shaping_extends(&t->sequence->shaping);
    }
    pass->rows += t->rows;
    pass->outputs += t->outputs;
    return DS_OK;
}

/* Pages for its rows, and room for their features. */
static ds_status make_room(const struct ds_spec *spec, struct ds_turn *t, struct ds_error *err) {
    struct ds_sequence *s = t->sequence;
    DS_TRY(ds_sequence_reserve(spec, s, first_position(t) + t->rows, err));
    DS_TRY(ds_sequence_tell(spec, s, false, err));
    if (!t->round || t->plan.taps == DS_TAPS_IGNORE || !s->stored || !ds_sequence_can_draft(s)) return DS_OK;
    return t->plan.taps == DS_TAPS_FEED || s->stored + t->rows > DS_STORED_TAPS ? ds_sequence_catch_up(spec, s, err) : DS_OK;
}

/* --- what came of it --- */

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
    const uint32_t first = first_position(t), vocabulary = spec->target->model->config.vocabulary;
    for (uint32_t i = 0; i < t->rows; i++) DS_TRY(ds_check_row_flags(rows->out_flags_rows[t->first_row + i], first + i, err));
    if (t->extend.logits && t->outputs) {
        const uint32_t done = first + t->rows - t->outputs - t->extend.logits_from;
        DS_TRY(ds_target_read_logits(spec->target, t->first_out, t->outputs, t->extend.logits + (size_t)done * vocabulary, err));
    }
    if (!t->extend.sample || !is_last_chunk(t)) return DS_OK;
    const uint32_t out = t->first_out + t->outputs - 1;
    DS_TRY(ds_check_row_flags(rows->out_flags[out], first + t->rows - 1, err));
    t->next = rows->out_tokens[out];
    return note_logprobs(spec, t, out, 1, err);
}

/* Rows whose features are of use: the anchor and what was accepted, or all. */
static uint32_t surviving_rows(const struct ds_turn *t) { return t->round ? t->result.accepted + 1 : t->rows; }

static bool feeds(const struct ds_turn *t) {
    return t->round ? t->plan.taps == DS_TAPS_FEED && ds_sequence_can_draft(t->sequence) : t->extend.feed_drafter;
}

/* The token behind surviving row i; -1: not known yet. */
static ds_token token_behind(const struct ds_turn *t, uint32_t i) {
    if (t->round) return i < t->result.accepted ? t->result.draft[i] : t->result.next;
    const uint32_t position = first_position(t) + i + 1;
    return position < t->sequence->length ? t->sequence->tokens[position] : t->next;
}

/* A last row whose next token is not known cannot be paired with it: it waits for the next extension. */
static void feed(const struct ds_spec *spec, struct ds_turn *t) {
    struct ds_drafter *d = spec->drafter;
    const uint32_t all = surviving_rows(t), first = first_position(t);
    for (uint32_t i = 0; i < all; i++) d->following[i] = token_behind(t, i);
    const uint32_t n = all - (t->sequence->paired && d->following[all - 1] < 0);
    if (n) ds_drafter_context_add(d, t->sequence->slot, first, t->first_row, n, d->following);
    t->sequence->drafted_context = first + n;
}

/* Features of all surviving rows, in one pass of the drafter unless the target's was `joined`; where speculation is parked they wait. */
static ds_status keep_taps(const struct ds_spec *spec, struct ds_turn *turns, uint32_t n, bool joined, struct ds_error *err) {
    if (!spec->drafter) return DS_OK;
    ds_drafter_context_begin(spec->drafter);
    for (uint32_t i = 0; i < n; i++) {
        struct ds_turn *t = &turns[i];
        if (t->status != DS_OK) continue;
        if (feeds(t)) feed(spec, t);
        else if (t->round && t->plan.taps == DS_TAPS_STORE && ds_sequence_can_draft(t->sequence))
            DS_TRY(ds_sequence_store(spec, t->sequence, t->first_row, surviving_rows(t), err));
    }
    return joined ? ds_drafter_context_joined(spec->drafter, err) : ds_drafter_context_run(spec->drafter, err);
}

/* The pass that takes its rows into the drafter's context as well; NULL: there is none, or nobody's are wanted there. */
static struct ds_graph *joined_graph(const struct ds_spec *spec, const struct ds_turn *turns, uint32_t n, const struct pass *pass) {
    bool any = false;
    for (uint32_t i = 0; i < n; i++) any |= turns[i].status == DS_OK && feeds(&turns[i]);
    return spec->drafter && any ? ds_drafter_joined_graph(spec->drafter, pass->rows, pass->outputs, pass->extended) : NULL;
}

/* --- the pass --- */

/* Marks of the device's clock around a pass of the drafter that the host does not wait for. */
enum { DRAFTING_BEGINS, DRAFTING_ENDS };

static ds_status mark_drafting(const struct ds_drafter *d, uint32_t which, struct ds_error *err) {
    const struct ds_device_fns *fns = d->params.device->fns;
    return fns->mark ? fns->mark(d->params.stream, which, err) : DS_OK;
}

/* 0: the device has no clock. */
static ds_status drafting_seconds(const struct ds_drafter *d, double *seconds, struct ds_error *err) {
    const struct ds_device_fns *fns = d->params.device->fns;
    *seconds = 0;
    return fns->mark ? fns->elapsed(d->params.stream, DRAFTING_BEGINS, DRAFTING_ENDS, seconds, err) : DS_OK;
}

/* One pass of the drafter whose drafts the host does not wait for. */
static ds_status draft_unseen(const struct ds_spec *spec, struct ds_turn *turns, uint32_t n, struct ds_error *err) {
    struct ds_turn *together[DS_MOST_DRAFTING];
    uint32_t count = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct ds_turn *t = &turns[i];
        if (t->status != DS_OK || !t->unseen) continue;
        t->status = ready_to_draft(spec, t, &t->error);
        if (t->status != DS_OK) continue;
        t->drafting_as = count;
        together[count++] = t;
    }
    if (!count) return DS_OK;
    for (uint32_t s = 0; s < count; s++) together[s]->result.drafting = count;
    (void)set_drafting_rows(spec, together, count);
    DS_TRY(mark_drafting(spec->drafter, DRAFTING_BEGINS, err));
    DS_TRY(ds_drafter_begin_run(spec->drafter, err));
    return mark_drafting(spec->drafter, DRAFTING_ENDS, err);
}

/* Drafts that the host has not seen go to their rows on the device, and all that the drafter found to where it is read with the target's results. */
static ds_status hand_over_drafts(const struct ds_spec *spec, const struct ds_turn *turns, uint32_t n, bool *any, struct ds_error *err) {
    const struct ds_rows *at = &spec->target->rows.at;
    for (uint32_t i = 0; i < n; i++) {
        const struct ds_turn *t = &turns[i];
        if (t->status != DS_OK || !t->unseen) continue;
        DS_TRY(ds_drafter_copy_tokens(spec->drafter, t->drafting_as, t->rows - 1, ds_slice_add(at->ids, 4 * (uint64_t)(t->first_row + 1)), err));
        *any = true;
    }
    return *any ? ds_drafter_pass_on(spec->drafter, at->out_beside, err) : DS_OK;
}

/* What was drafted is known now, in `seconds`; where the block ended early, fewer drafts have been verified than rows were run. */
static void see_drafts(const struct ds_spec *spec, struct ds_turn *turns, uint32_t n, double seconds) {
    ds_drafter_take(spec->drafter, spec->target->rows.out_beside);
    for (uint32_t i = 0; i < n; i++) {
        struct ds_turn *t = &turns[i];
        if (t->status != DS_OK || !t->unseen) continue;
        read_block(spec, t->drafting_as, slots_of(spec, t), &t->result);
        t->result.verified = DS_MIN(t->result.verified, t->result.n_draft);
        t->result.draft_seconds = t->result.block_seconds = seconds;
        t->unseen = false;
    }
}

static ds_status run_target(const struct ds_spec *spec, struct ds_turn *turns, uint32_t n, const struct pass *pass, struct ds_graph *joined,
                            double *drafting, struct ds_error *err) {
    bool unseen = false;
    *drafting = 0;
    DS_TRY(ds_target_begin(spec->target, pass->rows, pass->outputs, err));
    DS_TRY(hand_over_drafts(spec, turns, n, &unseen, err));
    if (joined) DS_TRY(ds_target_end_graph(spec->target, joined, err));
    else DS_TRY(ds_target_end(spec->target, pass->rows, pass->extended, err));
    if (!unseen) return DS_OK;
    DS_TRY(drafting_seconds(spec->drafter, drafting, err));
    see_drafts(spec, turns, n, *drafting);
    return DS_OK;
}

/* *drafting: of the time, what the device spent on drafts that the host had not seen. */
static ds_status run(const struct ds_spec *spec, struct ds_turn *turns, uint32_t n, double *drafting, struct ds_error *err) {
    struct pass pass = {.rows = 0};
    *drafting = 0;
    DS_TRY(draft_unseen(spec, turns, n, err));
    for (uint32_t i = 0; i < n; i++) {
        struct ds_turn *t = &turns[i];
        if (t->status == DS_OK) t->status = make_room(spec, t, &t->error);
        if (t->status == DS_OK) DS_TRY(set_rows(spec, t, &pass, err));
    }
    if (!pass.rows) return DS_OK;
    const double start = ds_os_seconds();
    struct ds_graph *const joined = joined_graph(spec, turns, n, &pass);
    DS_TRY(run_target(spec, turns, n, &pass, joined, drafting, err));
    const double seconds = DS_MAX(ds_os_seconds() - start - *drafting, 0);
    for (uint32_t i = 0; i < n; i++) {
        struct ds_turn *t = &turns[i];
        if (t->status != DS_OK) continue;
        t->result.pass_seconds = seconds;
        t->result.rows = pass.rows;
        t->status = t->round ? finish_round(spec, t, &t->error) : finish_extension(spec, t, &t->error);
    }
    const ds_status status = keep_taps(spec, turns, n, joined != NULL, err);
    for (uint32_t i = 0; i < n; i++) {
        struct ds_sequence *s = turns[i].sequence;
        if (status != DS_OK) s->drafted_context = DS_MIN(s->drafted_context, s->computed);
        else if (turns[i].status == DS_OK) s->computed = first_position(&turns[i]) + surviving_rows(&turns[i]);
    }
    return status;
}

ds_status ds_spec_run(const struct ds_spec *spec, struct ds_turn *turns, uint32_t n, struct ds_error *err) {
    const double start = ds_os_seconds();
    for (uint32_t i = 0; i < n; i++) {
        struct ds_turn *t = &turns[i];
        if (t->status != DS_OK) continue;
        if (t->round) t->rows = t->outputs = t->result.verified + 1;
        ask_biases(spec, t);
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
