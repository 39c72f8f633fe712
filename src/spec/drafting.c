/* The drafter's pass over the rounds that draft. */
#include "spec/pass.h"

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

/* --- drafts that the host reads before they are verified --- */

/* Rejection sampling compares with what the drafts were drawn from. */
static ds_status keep_sampled(struct ds_drafter *d, uint32_t s, struct ds_turn *t, uint32_t slots, struct ds_error *err) {
    t->sampled_row = ds_drafter_sampled_row(d, s, 0);
    t->sampled_stride = d->width;
    return ds_drafter_cross(d, s, slots, err);
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

/*
 * Turns that sample by rejection come last, and as many as one pass takes: what their drafts were drawn from lies with the
 * drafter until its next pass. More of them do not draft in this step, whatever their drafts would have been.
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

/* --- drafts that it does not see before the target has --- */

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

/* They draft in ds_spec_run: as many as the pass has slots, for all that is known yet. */
static void leave_unseen(const struct ds_spec *spec, struct ds_turn *turns, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        if (!drafts(spec, &turns[i])) continue;
        turns[i].unseen = true;
        turns[i].result.n_draft = slots_of(spec, &turns[i]);
    }
}

/* Marks of the device's clock around a pass of the drafter that the host does not wait for. */
enum { DRAFTING_BEGINS, DRAFTING_ENDS };

static ds_status mark_drafting(const struct ds_drafter *d, uint32_t which, struct ds_error *err) {
    const struct ds_device_fns *fns = d->params.device->fns;
    return fns->mark ? fns->mark(d->params.stream, which, err) : DS_OK;
}

ds_status ds_drafting_begin_unseen(const struct ds_spec *spec, struct ds_turn *turns, uint32_t n, struct ds_error *err) {
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

ds_status ds_drafting_hand_over(const struct ds_spec *spec, const struct ds_turn *turns, uint32_t n, bool *any, struct ds_error *err) {
    const struct ds_rows *at = &spec->target->rows.at;
    for (uint32_t i = 0; i < n; i++) {
        const struct ds_turn *t = &turns[i];
        if (t->status != DS_OK || !t->unseen) continue;
        DS_TRY(ds_drafter_copy_tokens(spec->drafter, t->drafting_as, t->rows - 1, ds_slice_add(at->ids, 4 * (uint64_t)(t->first_row + 1)), err));
        *any = true;
    }
    return *any ? ds_drafter_pass_on(spec->drafter, at->out_beside, err) : DS_OK;
}

/* 0: the device has no clock. */
static ds_status drafting_seconds(const struct ds_drafter *d, double *seconds, struct ds_error *err) {
    const struct ds_device_fns *fns = d->params.device->fns;
    *seconds = 0;
    return fns->mark ? fns->elapsed(d->params.stream, DRAFTING_BEGINS, DRAFTING_ENDS, seconds, err) : DS_OK;
}

/* Where a block ended early, fewer drafts have been verified than rows were run. */
static void see_drafts(const struct ds_spec *spec, struct ds_turn *t, double seconds) {
    read_block(spec, t->drafting_as, slots_of(spec, t), &t->result);
    t->result.verified = DS_MIN(t->result.verified, t->result.n_draft);
    t->result.draft_seconds = t->result.block_seconds = seconds;
    t->unseen = false;
}

ds_status ds_drafting_see(const struct ds_spec *spec, struct ds_turn *turns, uint32_t n, double *seconds, struct ds_error *err) {
    DS_TRY(drafting_seconds(spec->drafter, seconds, err));
    ds_drafter_take(spec->drafter, spec->target->rows.out_beside);
    for (uint32_t i = 0; i < n; i++)
        if (turns[i].status == DS_OK && turns[i].unseen) see_drafts(spec, &turns[i], *seconds);
    return DS_OK;
}

/* --- either way --- */

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
