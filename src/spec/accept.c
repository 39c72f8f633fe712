#include "spec/accept.h"

#include "base/status.h"
#include "ops/numerics.h"

struct ds_sample_row ds_sample_row_of(const ds_sampling *s, uint32_t position) {
    return (struct ds_sample_row){.inverse_temperature = s->temperature > 0 ? ds_div(1.0f, s->temperature) : 0.0f,
                                  .top_k = s->top_k,
                                  .top_p = s->top_p,
                                  .min_p = s->min_p,
                                  .seed_low = (uint32_t)s->seed,
                                  .seed_high = (uint32_t)(s->seed >> 32),
                                  .position = position,
                                  .stream = s->stream,
                                  .purpose = 0,
                                  .bias_row = -1};
}

ds_status ds_check_row_flags(uint32_t flags, uint32_t position, struct ds_error *err) {
    if (flags & (DS_FLAG_LOGIT | DS_FLAG_ACTIVATION))
        return ds_fail(err, DS_ERROR_NUMERIC, "the target gave a non-finite %s at position %u; the sequence cannot go on",
                       flags & DS_FLAG_LOGIT ? "logit" : "activation", position);
    if (flags & DS_FLAG_MASKED)
        return ds_fail(err, DS_ERROR_ARGUMENT, "the bias forbids every token at position %u", position + 1);
    return DS_OK;
}

ds_status ds_accept(const struct ds_verified_rows *rows, uint32_t *accepted, ds_token *next, struct ds_error *err) {
    uint32_t j = 0;
    for (;; j++) {
        const uint32_t flags = rows->flags_rows[j] | rows->flags[j];
        if (flags && j > 0) { /* the tokens in front of it are good: the round ends there, and the next one reports it */
            j--;
            break;
        }
        DS_TRY(ds_check_row_flags(flags, rows->position + j, err));
        if (j == rows->n_draft || rows->tokens[j] != rows->draft[j]) break;
    }
    *accepted = j;
    *next = rows->tokens[j];
    return DS_OK;
}
