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

/* --- pages --- */

/* Positions below are never written again. A drafter in steps writes its last context row anew, when it drafts. */
static uint32_t first_written(const struct ds_sequence *s) {
    const uint32_t first = ds_sequence_can_draft(s) ? s->drafted_context : s->computed; /* a context that does not follow is not written */
    return s->paired && first ? first - 1 : first;
}

/* Pages that others hold, too, are replaced by copies before they are written. */
static ds_status make_private(const struct ds_spec *spec, const struct ds_sequence *s, struct ds_error *err) {
    const uint32_t first = first_written(s);
    for (uint32_t i = first / DS_PAGE; i < spec->pager->lengths[s->slot]; i++) {
        int32_t from, to;
        DS_TRY(ds_pager_make_private(spec->pager, s->slot, i, &from, &to, err));
        if (from == to || i * DS_PAGE >= s->computed) continue; /* nothing in it is of use */
        DS_TRY(ds_target_copy_page(spec->target, from, to, err));
        if (spec->drafter) DS_TRY(ds_cache_copy_page(&spec->drafter->cache, spec->drafter->params.stream, from, to, err));
    }
    return DS_OK;
}

ds_status ds_sequence_reserve(const struct ds_spec *spec, const struct ds_sequence *s, uint32_t positions, struct ds_error *err) {
    DS_TRY(make_private(spec, s, err));
    return ds_pager_reserve(spec->pager, s->slot, positions, err);
}

static uint32_t usable_prefix(const struct ds_spec *spec, const struct ds_sequence *s, bool follows) {
    const uint32_t matched = ds_prefix_match(spec->prefix, s->tokens, s->length, follows);
    /* The last row of a drafter in steps was paired with a token that may be another one here. */
    const uint32_t complete = follows && s->paired && matched ? matched - 1 : matched;
    /* Two rows are left for a prefill: rounds begin where they do after a cold start, and such a drafter gets the feature it goes on from. */
    return DS_MIN(complete, s->length - 2);
}

ds_status ds_spec_adopt(const struct ds_spec *spec, struct ds_sequence *s, bool follows, uint32_t *found, struct ds_error *err) {
    *found = 0;
    if (!spec->prefix->capacity || s->computed || s->length < 3) return DS_OK;
    ds_os_mutex_lock(spec->lock);
    const uint32_t usable = usable_prefix(spec, s, follows);
    ds_status status = DS_OK;
    if (usable) {
        ds_pager_truncate(spec->pager, s->slot, 0);
        ds_pager_adopt(spec->pager, s->slot, spec->prefix->path, (usable + DS_PAGE - 1) / DS_PAGE);
        s->computed = usable;
        s->drafted_context = follows ? usable : 0;
        s->stored = 0;
        status = make_private(spec, s, err); /* at once: the pages this takes are promised */
        if (status != DS_OK) {
            ds_pager_truncate(spec->pager, s->slot, 0);
            s->computed = s->drafted_context = 0;
        }
    }
    ds_os_mutex_unlock(spec->lock);
    if (status == DS_ERROR_LIMIT) return DS_OK; /* without it then */
    *found = s->computed;
    return status;
}

void ds_spec_keep(const struct ds_spec *spec, const struct ds_sequence *s, bool follows, bool over) {
    const uint32_t computed = DS_MIN(s->computed, s->length), drafted = DS_MIN(computed, s->drafted_context);
    const uint32_t known = follows ? drafted : computed;
    /* A page that is written again would have to be copied first: of a sequence that goes on, those in front of it are kept. */
    const uint32_t n = over ? known : DS_MIN(known, first_written(s));
    if (!spec->prefix->capacity || !n) return;
    ds_os_mutex_lock(spec->lock);
    if (!follows && drafted) ds_prefix_insert(spec->prefix, s->slot, s->tokens, DS_MIN(drafted, n), true, false);
    ds_prefix_insert(spec->prefix, s->slot, s->tokens, n, follows, over);
    ds_os_mutex_unlock(spec->lock);
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
