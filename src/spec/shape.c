#include "spec/shape.h"

struct ds_adjust_row ds_adjust_row_of(const struct ds_shaping *s, int32_t slot, uint32_t position, const struct ds_drafted_tokens *drafted) {
    if (!s->adjusts) return (struct ds_adjust_row){.sequence = -1};
    const ds_penalties *p = &s->penalties;
    const bool penalised = p->repetition != 1 || p->presence != 0 || p->frequency != 0;
    const uint32_t window = penalised && p->window ? p->window : penalised ? UINT32_MAX : 0;
    return (struct ds_adjust_row){.sequence = slot,
                                  .first = position > window ? position - window : 0,
                                  .end = position,
                                  .drafted_from = drafted->from,
                                  .drafted_at = drafted->at,
                                  .drafted_stride = drafted->stride,
                                  .repetition = p->repetition,
                                  .presence = p->presence,
                                  .frequency = p->frequency,
                                  .biases = s->biases};
}

void ds_draw_by_mass(struct ds_sample_row *row, uint32_t purpose) {
    row->method = DS_DRAW_MASS;
    row->purpose = purpose;
}

void ds_draw_by_rejection(struct ds_sample_row *row, ds_token draft, uint32_t draft_row) {
    row->method = DS_DRAW_REJECTION;
    row->draft = draft;
    row->draft_row = draft_row;
}
