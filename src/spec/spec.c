#include "spec/spec.h"

#include <assert.h>
#include <string.h>

void ds_sequence_forget(struct ds_sequence *sequence, uint32_t computed) {
    sequence->computed = DS_MIN(sequence->computed, computed);
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

bool ds_sequence_can_draft(const struct ds_sequence *s) { return s->drafted_context + s->stored == s->computed; }

/* --- rows of a pass --- */

static void set_row(struct ds_rows_buffer *rows, uint32_t row, const struct ds_sequence *sequence, uint32_t position, ds_token token) {
    rows->in_ids[row] = token;
    rows->in_positions[row] = (int32_t)position;
    rows->in_sequences[row] = sequence->slot;
    rows->in_visible[row] = (int32_t)(position + 1);
}

/* Output row `out` gives the logits of `row`, which predict the token at `position`. */
static void set_output(struct ds_rows_buffer *rows, uint32_t out, uint32_t row, const struct ds_sequence *sequence, uint32_t position,
                       int32_t bias_row) {
    rows->in_out_index[out] = (int32_t)row;
    rows->in_sample[out] = ds_sample_row_of(&sequence->sampling, position);
    rows->in_sample[out].bias_row = bias_row;
}

/* Asks the host for the bias of the row behind `n_drafted` drafts; true when there is one. */
static bool ask_bias(const struct ds_spec *spec, struct ds_sequence *sequence, const ds_token *drafted, uint32_t n_drafted) {
    if (!sequence->bias) return false;
    const size_t vocabulary = spec->target->model->config.vocabulary;
    float *row = sequence->bias_rows + n_drafted * vocabulary;
    memset(row, 0, vocabulary * sizeof *row);
    return sequence->bias(sequence->bias_user, drafted, n_drafted, row);
}

static ds_status write_bias(const struct ds_spec *spec, const struct ds_sequence *sequence, uint32_t row, struct ds_error *err) {
    return ds_target_write_bias(spec->target, row, sequence->bias_rows + (size_t)row * spec->target->model->config.vocabulary, err);
}

/* --- extending by known tokens --- */

struct chunk {
    uint32_t first, rows; /* positions first..first+rows-1 */
    uint32_t outputs;     /* the last so many give logits */
    bool last;            /* of the extension */
    bool biased;
};

/* Logits come from at most out_rows rows a pass, so a chunk ends before more are wanted. */
static struct chunk next_chunk(const struct ds_spec *spec, const struct ds_sequence *sequence, const struct ds_extend *how) {
    struct chunk chunk = {.first = sequence->computed};
    chunk.rows = DS_MIN(sequence->length - chunk.first, spec->chunk);
    if (how->logits && chunk.first + chunk.rows > how->logits_from) {
        const uint32_t silent = how->logits_from > chunk.first ? how->logits_from - chunk.first : 0;
        chunk.outputs = DS_MIN(chunk.rows - silent, spec->target->params.out_rows);
        chunk.rows = silent + chunk.outputs;
    }
    chunk.last = chunk.first + chunk.rows == sequence->length;
    if (chunk.last && how->sample) chunk.outputs = DS_MAX(chunk.outputs, 1);
    return chunk;
}

/* Rows of the chunk become context. A last row whose next token is not known cannot be paired with it: it waits for the next extension. */
static ds_status feed_drafter(const struct ds_spec *spec, struct ds_sequence *sequence, const struct chunk *chunk, ds_token next,
                              struct ds_error *err) {
    ds_token *const following = spec->drafter->following;
    const uint32_t end = chunk->first + chunk->rows;
    for (uint32_t i = 0; i < chunk->rows; i++)
        following[i] = chunk->first + i + 1 < sequence->length ? sequence->tokens[chunk->first + i + 1] : next;
    const uint32_t rows = chunk->rows - (sequence->paired && following[chunk->rows - 1] < 0);
    if (rows) DS_TRY(ds_drafter_context(spec->drafter, sequence->slot, chunk->first, rows, following, err));
    sequence->drafted_context = end - (chunk->rows - rows);
    return DS_OK;
}

static ds_status run_chunk(const struct ds_spec *spec, struct ds_sequence *sequence, const struct ds_extend *how,
                           const struct chunk *chunk, ds_token *next, struct ds_error *err) {
    struct ds_rows_buffer *rows = &spec->target->rows;
    DS_TRY(ds_pager_reserve(spec->pager, sequence->slot, chunk->first + chunk->rows, err));
    for (uint32_t i = 0; i < chunk->rows; i++) set_row(rows, i, sequence, chunk->first + i, sequence->tokens[chunk->first + i]);
    const uint32_t silent = chunk->rows - chunk->outputs;
    for (uint32_t i = 0; i < chunk->outputs; i++) {
        const bool biased = chunk->biased && i + 1 == chunk->outputs;
        set_output(rows, i, silent + i, sequence, chunk->first + silent + i + 1, biased ? 0 : -1);
    }
    if (chunk->biased) DS_TRY(write_bias(spec, sequence, 0, err));
    DS_TRY(ds_target_run(spec->target, chunk->rows, chunk->outputs, chunk->biased, err));
    for (uint32_t i = 0; i < chunk->rows; i++) DS_TRY(ds_check_row_flags(rows->out_flags_rows[i], chunk->first + i, err));
    if (how->logits && chunk->outputs) {
        const uint32_t done = chunk->first + silent - how->logits_from;
        DS_TRY(ds_target_read_logits(spec->target, 0, chunk->outputs,
                                     how->logits + (size_t)done * spec->target->model->config.vocabulary, err));
    }
    if (chunk->last && how->sample) {
        DS_TRY(ds_check_row_flags(rows->out_flags[chunk->outputs - 1], chunk->first + chunk->rows - 1, err));
        *next = rows->out_tokens[chunk->outputs - 1];
    }
    return how->feed_drafter ? feed_drafter(spec, sequence, chunk, how->sample ? *next : -1, err) : DS_OK;
}

ds_status ds_spec_extend(const struct ds_spec *spec, struct ds_sequence *sequence, const struct ds_extend *how, ds_token *next,
                         struct ds_error *err) {
    assert(!how->feed_drafter || sequence->drafted_context == sequence->computed);
    while (sequence->computed < sequence->length) {
        if (how->cancel && atomic_load(how->cancel)) return ds_fail(err, DS_ERROR_CANCELLED, "cancelled");
        struct chunk chunk = next_chunk(spec, sequence, how);
        chunk.biased = chunk.last && how->sample && ask_bias(spec, sequence, NULL, 0);
        ds_os_mutex_lock(spec->lock);
        const ds_status status = run_chunk(spec, sequence, how, &chunk, next, err);
        ds_os_mutex_unlock(spec->lock);
        DS_TRY(status);
        sequence->computed = chunk.first + chunk.rows;
    }
    return DS_OK;
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

static ds_status catch_up(const struct ds_spec *spec, struct ds_sequence *s, struct ds_error *err) {
    const uint32_t most = spec->target->params.rows; /* at once */
    uint32_t all = s->stored;
    if (s->paired && s->length - s->drafted_context <= all) all = s->length - s->drafted_context - 1; /* the last one has no token yet */
    s->stored = 0; /* after a failure the context ends where it ends, and is computed again */
    for (uint32_t done = 0; done < all; done += most) DS_TRY(take_in(spec, s, done, DS_MIN(all - done, most), err));
    return DS_OK;
}

ds_status ds_spec_catch_up(const struct ds_spec *spec, struct ds_sequence *sequence, struct ds_error *err) {
    ds_os_mutex_lock(spec->lock);
    const ds_status status = catch_up(spec, sequence, err);
    ds_os_mutex_unlock(spec->lock);
    return status;
}

/* Those of the round's accepted rows; the caller moves `computed`. */
static ds_status keep_taps(const struct ds_spec *spec, struct ds_sequence *s, const struct ds_round_result *r, enum ds_round_taps how,
                           struct ds_error *err) {
    const uint32_t n = r->accepted + 1;
    if (how == DS_TAPS_IGNORE || !ds_sequence_can_draft(s)) return DS_OK;
    if (how == DS_TAPS_STORE) {
        const struct ds_target_params *p = &spec->target->params;
        DS_TRY(p->device->fns->copy(p->stream, (struct ds_slice){s->taps, s->stored * tap_row_bytes(spec)}, spec->target->taps.at,
                                    n * tap_row_bytes(spec), err));
        s->stored += n;
        return DS_OK;
    }
    ds_token following[DS_MAX_BLOCK + 1];
    for (uint32_t j = 0; j < n; j++) following[j] = j < r->accepted ? r->draft[j] : r->next;
    DS_TRY(ds_drafter_context(spec->drafter, s->slot, s->computed, n, following, err));
    s->drafted_context += n;
    return DS_OK;
}

/* --- a round --- */

static bool is_stop(const struct ds_model *model, ds_token token) {
    for (uint32_t i = 0; i < model->n_stops; i++)
        if (model->stop_ids[i] == token) return true;
    return false;
}

static ds_status draft(const struct ds_spec *spec, struct ds_sequence *sequence, struct ds_round_result *r, struct ds_error *err) {
    struct ds_drafter *drafter = spec->drafter;
    const uint32_t g = drafter->model->block_size;
    struct ds_sample_row sample[DS_MAX_BLOCK];
    for (uint32_t k = 0; k < g; k++) sample[k] = ds_sample_row_of(&sequence->sampling, r->position + 1 + k);
    DS_TRY(ds_pager_reserve(spec->pager, sequence->slot, r->position + drafter->model->block_rows, err));
    DS_TRY(catch_up(spec, sequence, err));
    const double start = ds_os_seconds();
    DS_TRY(ds_drafter_block(drafter, sequence->slot, r->position, r->anchor, sample, err));
    r->block_seconds = ds_os_seconds() - start;
    /* A slot whose logits were not finite has no token: the block ends there. */
    for (; r->n_draft < g && drafter->block.out_tokens[r->n_draft] >= 0; r->n_draft++) {
        r->draft[r->n_draft] = drafter->block.out_tokens[r->n_draft];
        if (drafter->model->arch->steps && is_stop(spec->target->model, r->draft[r->n_draft])) {
            r->n_draft++;
            break;
        }
    }
    if (drafter->model->has_confidence) r->logits = drafter->confidence;
    if (r->logits) ds_confidence(drafter->confidence, spec->temperature, r->n_draft, r->confidence);
    else
        for (uint32_t k = 0; k < r->n_draft; k++) r->confidence[k] = DS_CONFIDENCE_UNKNOWN;
    return DS_OK;
}

/* The pass over [anchor, drafts]. */
static ds_status run_pass(const struct ds_spec *spec, struct ds_sequence *sequence, const bool *biased, struct ds_round_result *r,
                          struct ds_error *err) {
    struct ds_rows_buffer *rows = &spec->target->rows;
    bool any_bias = false;
    DS_TRY(ds_pager_reserve(spec->pager, sequence->slot, r->position + r->verified + 1, err));
    for (uint32_t j = 0; j <= r->verified; j++) {
        set_row(rows, j, sequence, r->position + j, j ? r->draft[j - 1] : r->anchor);
        set_output(rows, j, j, sequence, r->position + j + 1, biased[j] ? (int32_t)j : -1);
        if (biased[j]) DS_TRY(write_bias(spec, sequence, j, err));
        any_bias |= biased[j];
    }
    const double start = ds_os_seconds();
    DS_TRY(ds_target_run(spec->target, r->verified + 1, r->verified + 1, any_bias, err));
    r->pass_seconds = ds_os_seconds() - start;
    return DS_OK;
}

static ds_status accept(const struct ds_spec *spec, struct ds_round_result *r, struct ds_error *err) {
    const struct ds_rows_buffer *rows = &spec->target->rows;
    const struct ds_verified_rows verified = {.tokens = rows->out_tokens, .flags = rows->out_flags, .flags_rows = rows->out_flags_rows,
                                              .draft = r->draft, .n_draft = r->verified, .position = r->position};
    return ds_accept(&verified, &r->accepted, &r->next, err);
}

static ds_status verify(const struct ds_spec *spec, struct ds_sequence *sequence, const bool *biased, enum ds_round_taps taps,
                        struct ds_round_result *r, struct ds_error *err) {
    if (sequence->stored && (taps == DS_TAPS_FEED || sequence->stored + r->verified + 1 > DS_STORED_TAPS)) DS_TRY(catch_up(spec, sequence, err));
    DS_TRY(run_pass(spec, sequence, biased, r, err));
    DS_TRY(accept(spec, r, err));
    DS_TRY(keep_taps(spec, sequence, r, taps, err));
    sequence->computed = r->position + r->accepted + 1;
    return DS_OK;
}

ds_status ds_spec_round(const struct ds_spec *spec, struct ds_sequence *sequence, const struct ds_round_plan *plan,
                        struct ds_round_result *r, struct ds_error *err) {
    assert(sequence->computed + 1 == sequence->length && sequence->length <= spec->context);
    *r = (struct ds_round_result){.position = sequence->computed, .anchor = sequence->tokens[sequence->computed]};
    const double start = ds_os_seconds();
    if (spec->drafter && plan->draft && ds_sequence_can_draft(sequence)) {
        ds_os_mutex_lock(spec->lock);
        const ds_status status = draft(spec, sequence, r, err);
        ds_os_mutex_unlock(spec->lock);
        DS_TRY(status);
    }
    const double drafted = ds_os_seconds();
    /* Rows n..n+l must exist in the cache. */
    const uint32_t most = DS_MIN(DS_MIN(r->n_draft, plan->verify_most), spec->context - 1 - r->position);
    r->verified = most && plan->choose ? plan->choose(plan->user, r, most) : most;

    bool biased[DS_MAX_BLOCK + 1];
    for (uint32_t j = 0; j <= r->verified; j++) biased[j] = ask_bias(spec, sequence, r->draft, j);
    ds_os_mutex_lock(spec->lock);
    const ds_status status = verify(spec, sequence, biased, plan->taps, r, err);
    ds_os_mutex_unlock(spec->lock);
    r->draft_seconds = drafted - start;
    r->verify_seconds = ds_os_seconds() - drafted;
    return status;
}
