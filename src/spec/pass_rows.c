/* What a pass of the target is told of each turn: its rows, and how the tokens behind them are drawn. */
#include "spec/pass.h"

#include <string.h>

/* Asks the host for the bias of the row behind `n_drafted` drafts; true when there is one. */
static bool ask_bias(const struct ds_spec *spec, struct ds_sequence *s, const ds_token *drafted, uint32_t n_drafted) {
    const size_t vocabulary = spec->target->model->config.vocabulary;
    float *row = s->bias_rows + n_drafted * vocabulary;
    memset(row, 0, vocabulary * sizeof *row);
    return s->bias(s->bias_user, drafted, n_drafted, row);
}

/* Of an extension only the row that a token is drawn from has a bias. */
void ds_pass_ask_biases(const struct ds_spec *spec, struct ds_turn *t) {
    const bool samples = t->round || (t->extend.sample && ds_turn_is_last_chunk(t));
    memset(t->biased, 0, sizeof t->biased);
    if (!t->sequence->bias || !samples) return;
    for (uint32_t j = 0; j < (t->round ? t->rows : 1); j++) t->biased[j] = ask_bias(spec, t->sequence, t->result.draft, j);
}

ds_status ds_pass_make_room(const struct ds_spec *spec, struct ds_turn *t, struct ds_error *err) {
    struct ds_sequence *s = t->sequence;
    DS_TRY(ds_sequence_reserve(spec, s, ds_turn_first(t) + t->rows, err));
    DS_TRY(ds_sequence_tell(spec, s, false, err));
    if (!t->round || t->plan.taps == DS_TAPS_IGNORE || !s->stored || !ds_sequence_can_draft(s)) return DS_OK;
    return t->plan.taps == DS_TAPS_FEED || s->stored + t->rows > DS_STORED_TAPS ? ds_sequence_catch_up(spec, s, err) : DS_OK;
}

/* Output `i` of the turn, in its row `row`: penalties that see the drafts in front of it, and how its token is drawn. */
static void shape_output(const struct ds_spec *spec, const struct ds_turn *t, uint32_t i, uint32_t row) {
    struct ds_rows_buffer *rows = &spec->target->rows;
    struct ds_sample_row *sample = &rows->in_sample[t->first_out + i];
    const struct ds_shaping *shaping = &t->sequence->shaping;
    const uint32_t first = ds_turn_first(t);
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
    rows->in_sample[out] = ds_sample_row_of(&t->sequence->sampling, ds_turn_first(t) + row + 1);
    rows->in_sample[out].bias_row = bias < 0 ? -1 : (int32_t)out;
    if (bias < 0) return DS_OK;
    return ds_target_write_bias(spec->target, out, t->sequence->bias_rows + (size_t)bias * spec->target->model->config.vocabulary, err);
}

/* A draft that the host has not seen comes to its row on the device. */
static ds_token token_in(const struct ds_turn *t, uint32_t row) {
    if (!t->round) return t->sequence->tokens[t->sequence->computed + row];
    if (row == 0) return t->result.anchor;
    return t->unseen ? 0 : t->result.draft[row - 1];
}

static void set_inputs(struct ds_rows_buffer *rows, const struct ds_turn *t) {
    const uint32_t first = ds_turn_first(t);
    for (uint32_t i = 0; i < t->rows; i++) {
        const uint32_t row = t->first_row + i;
        rows->in_ids[row] = token_in(t, i);
        rows->in_positions[row] = (int32_t)(first + i);
        rows->in_sequences[row] = t->sequence->slot;
        rows->in_visible[row] = (int32_t)(first + i + 1);
    }
}

/* Which of the sequence's bias rows output `i` has; -1: none. An extension has one, for its last row. */
static int32_t bias_of(const struct ds_turn *t, uint32_t i) {
    if (t->round) return t->biased[i] ? (int32_t)i : -1;
    return i + 1 == t->outputs && t->biased[0] ? 0 : -1;
}

ds_status ds_pass_add(const struct ds_spec *spec, struct ds_turn *t, struct ds_pass *pass, struct ds_error *err) {
    t->first_row = pass->rows;
    t->first_out = pass->outputs;
    set_inputs(&spec->target->rows, t);
    for (uint32_t i = 0; i < t->outputs; i++) {
        const uint32_t row = t->rows - t->outputs + i; /* the last ones give logits */
        const int32_t bias = bias_of(t, i);
        DS_TRY(set_output(spec, t, t->first_out + i, row, bias, err));
        shape_output(spec, t, i, row);
        pass->extended |= bias >= 0 || ds_shaping_extends(&t->sequence->shaping);
    }
    pass->rows += t->rows;
    pass->outputs += t->outputs;
    return DS_OK;
}
