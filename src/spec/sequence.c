/* A sequence's caches: what is forgotten, what waits to become the drafter's context, whose pages are written. */
#include "spec/spec.h"

void ds_sequence_forget(struct ds_sequence *sequence, uint32_t computed) {
    sequence->computed = DS_MIN(sequence->computed, computed);
    for (int i = 0; i < 2; i++) sequence->shaping.told[i] = DS_MIN(sequence->shaping.told[i], computed);
    const uint32_t before = sequence->drafted_context;
    if (!sequence->paired) {
        sequence->drafted_context = DS_MIN(before, computed);
    } else {
        /* The last row was paired with a token that may be another one now, and the feature that drafting goes on from is lost. */
        const uint32_t most = DS_MIN(computed, sequence->length ? sequence->length - 1 : 0);
        if (before > most) sequence->drafted_context = most ? most - 1 : 0;
    }
    sequence->stored = sequence->drafted_context < before ? 0 : DS_MIN(sequence->stored, sequence->computed - before);
}

ds_status ds_sequence_tell(const struct ds_spec *spec, struct ds_sequence *s, bool drafter, struct ds_error *err) {
    const bool own = drafter && spec->drafter->bridged;
    const struct ds_history *history = own ? &spec->drafter->own_history : &spec->target->history;
    uint32_t *told = &s->shaping.told[own];
    if (!s->shaping.adjusts || *told >= s->length) return DS_OK;
    struct ds_stream *stream = own ? spec->drafter->params.stream : spec->target->params.stream;
    DS_TRY(ds_history_write(history, stream, s->slot, *told, s->tokens + *told, s->length - *told, err));
    *told = s->length;
    return DS_OK;
}

bool ds_sequence_can_draft(const struct ds_sequence *s) { return s->drafted_context + s->stored == s->computed; }

ds_status ds_sequence_reserve(const struct ds_spec *spec, struct ds_sequence *s, uint32_t positions, struct ds_error *err) {
    return ds_pager_reserve(spec->pager, s->slot, positions, err);
}

/* --- the drafter's context --- */

static uint64_t tap_row_bytes(const struct ds_spec *spec) { return 4 * (uint64_t)spec->target->taps.cols; }

/* Rows [first, first + n) of what is stored; the tokens behind them are in the sequence by now. */
static ds_status take_in(const struct ds_spec *spec, struct ds_sequence *s, uint32_t first, uint32_t n, struct ds_error *err) {
    const struct ds_target_params *p = &spec->target->params;
    ds_token *const following = spec->drafter->following;
    for (uint32_t i = 0; i < n; i++) following[i] = s->drafted_context + i + 1 < s->length ? s->tokens[s->drafted_context + i + 1] : -1;
    const struct ds_slice from = {s->taps, first * tap_row_bytes(spec)};
    DS_TRY(p->device->fns->copy(p->stream, spec->target->taps.at, from, n * tap_row_bytes(spec), err));
    DS_TRY(ds_drafter_context(spec->drafter, s->slot, s->drafted_context, n, following, err));
    s->drafted_context += n;
    return DS_OK;
}

ds_status ds_sequence_catch_up(const struct ds_spec *spec, struct ds_sequence *s, struct ds_error *err) {
    const uint32_t most = spec->target->params.rows; /* at once */
    uint32_t all = s->stored;
    if (s->paired && s->length - s->drafted_context <= all) all = s->length - s->drafted_context - 1; /* the last one has no token yet */
    s->stored = 0; /* after a failure the context ends where it ends, and is computed again */
    for (uint32_t done = 0; done < all; done += most) DS_TRY(take_in(spec, s, done, DS_MIN(all - done, most), err));
    return DS_OK;
}

ds_status ds_sequence_store(const struct ds_spec *spec, struct ds_sequence *s, uint32_t row, uint32_t n, struct ds_error *err) {
    const struct ds_target_params *p = &spec->target->params;
    const struct ds_slice from = ds_slice_add(spec->target->taps.at, row * tap_row_bytes(spec));
    DS_TRY(p->device->fns->copy(p->stream, (struct ds_slice){s->taps, s->stored * tap_row_bytes(spec)}, from, n * tap_row_bytes(spec), err));
    s->stored += n;
    return DS_OK;
}

ds_status ds_spec_catch_up(const struct ds_spec *spec, struct ds_sequence *sequence, struct ds_error *err) {
    ds_os_mutex_lock(spec->lock);
    const ds_status status = ds_sequence_catch_up(spec, sequence, err);
    ds_os_mutex_unlock(spec->lock);
    return status;
}
