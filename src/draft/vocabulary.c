/*
 * A drafter's vocabulary: the target's, or a part of it; and a shortlist that makes it smaller. `d2t` says which token a row of the reduced head is: in speculators' files
 * as an offset (id = i + d2t[i]), in GGUF as the id itself. Either is checked to name different tokens, so that the one taken for
 * the other is found out.
 */
#include "draft/dialect.h"

#include "base/bytes.h"
#include "model/decoder.h"

#include <stdlib.h>

static bool is_gguf(const struct ds_ckpt *ckpt) { return ds_ckpt_get_format(ckpt) == DS_CKPT_GGUF; }

static int64_t stored_id(const struct ds_ckpt_tensor *d2t, uint32_t i) {
    if (d2t->type == DS_TYPE_I64) return (int64_t)ds_load_u64(d2t->data + 8 * (size_t)i);
    return (int32_t)ds_load_u32(d2t->data + 4 * (size_t)i);
}

static ds_status fill_map(struct ds_draft_model *draft, const struct ds_ckpt_tensor *d2t, uint8_t *seen, struct ds_error *err) {
    const bool offsets = !is_gguf(draft->ckpt);
    const char *const meaning = offsets ? "offsets (id = i + d2t[i])" : "ids of the target";
    for (uint32_t i = 0; i < draft->draft_vocabulary; i++) {
        const int64_t stored = stored_id(d2t, i);
        const bool sane = stored >= -(int64_t)INT32_MAX && stored <= INT32_MAX;
        const int64_t id = sane ? stored + (offsets ? i : 0) : -1;
        if (id < 0 || id >= draft->config.vocabulary)
            return ds_fail(err, DS_ERROR_FORMAT, "%s: d2t[%u] is %lld; d2t holds %s here, expected a token from 0 to %u", ds_ckpt_path(draft->ckpt), i,
                           (long long)stored, meaning, draft->config.vocabulary - 1);
        if (seen[id / 8] >> id % 8 & 1)
            return ds_fail(err, DS_ERROR_FORMAT, "%s: d2t[%u] is %lld: token %lld a second time; d2t holds %s here, expected different tokens",
                           ds_ckpt_path(draft->ckpt), i, (long long)stored, (long long)id, meaning);
        seen[id / 8] |= (uint8_t)(1u << id % 8);
        draft->vocabulary_map[i] = (int32_t)id;
    }
    return DS_OK;
}

static ds_status read_map(struct ds_draft_model *draft, const struct ds_ckpt_tensor *d2t, struct ds_error *err) {
    if (d2t->dims != 1 || (d2t->type != DS_TYPE_I64 && d2t->type != DS_TYPE_I32) || d2t->shape[0] > draft->config.vocabulary)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: tensor 'd2t' must be a list of at most %u integers (i64), one a row of the head", ds_ckpt_path(draft->ckpt),
                       draft->config.vocabulary);
    draft->draft_vocabulary = (uint32_t)d2t->shape[0];
    const size_t bytes = draft->config.vocabulary / 8 + 1;
    draft->vocabulary_map = malloc(draft->draft_vocabulary * sizeof *draft->vocabulary_map);
    uint8_t *seen = calloc(1, bytes);
    const ds_status status = draft->vocabulary_map && seen ? fill_map(draft, d2t, seen, err) : ds_fail_memory(err, bytes, "a drafter's vocabulary");
    free(seen);
    return status;
}

ds_status ds_draft_read_vocabulary(struct ds_draft_model *draft, const struct ds_model *target, struct ds_error *err) {
    const struct ds_naming naming = ds_draft_naming_own(draft);
    const uint32_t vocabulary = target->config.vocabulary;
    const struct ds_ckpt_tensor *d2t = ds_ckpt_find(draft->ckpt, "d2t"), *head = ds_ckpt_find(draft->ckpt, is_gguf(draft->ckpt) ? "output.weight" : "lm_head.weight");
    draft->draft_vocabulary = vocabulary;
    if (d2t) DS_TRY(read_map(draft, d2t, err));
    if (d2t && !head)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: there is a reduced vocabulary (d2t), but no head '%s' for it", ds_ckpt_path(draft->ckpt),
                       is_gguf(draft->ckpt) ? "output.weight" : "lm_head.weight");
    const uint64_t rows = head && head->dims == 2 ? head->shape[0] : draft->draft_vocabulary;
    if (rows != draft->draft_vocabulary && !d2t)
        return ds_fail(err, DS_ERROR_MISMATCH, "%s: the head has %llu rows, the target's vocabulary %u, and no tensor 'd2t' says which tokens they are",
                       ds_ckpt_path(draft->ckpt), (unsigned long long)rows, vocabulary);
    draft->head_rows = draft->draft_vocabulary;
    if (is_gguf(draft->ckpt)) return DS_OK;
    char key[DS_KEY_MAX];
    int64_t value;
    DS_TRY(ds_ckpt_int_or(draft->ckpt, ds_naming_key(&naming, "draft_vocab_size", "", key), 1, INT32_MAX, draft->draft_vocabulary, &value, err));
    if (value == draft->draft_vocabulary) return DS_OK;
    return ds_fail(err, DS_ERROR_MISMATCH, "%s: draft_vocab_size is %lld, but %s", ds_ckpt_path(draft->ckpt), (long long)value,
                   d2t ? "'d2t' has another length" : "there is no tensor 'd2t' for a reduced vocabulary");
}

/* The tensor that is the head, its own or the target's, and how its checkpoint calls it. */
struct head {
    struct ds_naming naming;
    const char *hf, *gguf;
};
static struct head head_of(const struct ds_draft_model *draft, const struct ds_model *target) {
    const struct ds_naming own = ds_draft_naming_own(draft);
    if (ds_naming_has(&own, "lm_head.weight", "output.weight", 0)) return (struct head){own, "lm_head.weight", "output.weight"};
    if (target->config.tied) return (struct head){ds_decoder_naming(target), "embed_tokens.weight", "token_embd.weight"};
    return (struct head){ds_decoder_naming_beside(target), "lm_head.weight", "output.weight"};
}

static ds_status load_head(struct ds_draft_model *draft, const struct ds_model *target, struct ds_loader *loader, struct ds_error *err) {
    const struct head head = head_of(draft, target);
    return ds_naming_rows(&head.naming, loader, head.hf, head.gguf, draft->head_rows, draft->config.hidden, draft->shortlist, draft->draft_vocabulary,
                          &draft->head, err);
}

/* --- a shortlist --- */

static ds_status require_single_rows(const struct ds_draft_model *draft, const struct ds_model *target, struct ds_error *err) {
    const struct head head = head_of(draft, target);
    const struct ds_naming own = ds_draft_naming_own(draft);
    const struct ds_ckpt_tensor *const tensors[] = {ds_naming_find(&head.naming, head.hf, head.gguf, 0),
                                                    ds_naming_find(&own, "markov_head.markov_w2.weight", "markov_w2.weight", 0)};
    for (size_t i = 0; i < DS_COUNT(tensors); i++)
        if (tensors[i] && tensors[i]->packed)
            return ds_fail(err, DS_ERROR_UNSUPPORTED, "tensor '%s' is packed, and has no single rows", tensors[i]->name);
    return DS_OK;
}

/* The row of the stored head for each token of the target, or -1. */
static void find_rows(const struct ds_draft_model *draft, int32_t *row_of) {
    for (uint32_t t = 0; t < draft->config.vocabulary; t++) row_of[t] = draft->vocabulary_map ? -1 : (int32_t)t;
    for (uint32_t i = 0; draft->vocabulary_map && i < draft->draft_vocabulary; i++) row_of[draft->vocabulary_map[i]] = (int32_t)i;
}

ds_status ds_draft_shorten(struct ds_draft_model *draft, const struct ds_model *target, const int32_t *tokens, uint32_t n, struct ds_error *err) {
    DS_TRY(require_single_rows(draft, target, err));
    int32_t *row_of = malloc(draft->config.vocabulary * sizeof *row_of);
    int32_t *rows = malloc(DS_MAX(n, 1) * sizeof *rows), *map = malloc(DS_MAX(n, 1) * sizeof *map);
    uint32_t kept = 0;
    if (row_of && rows && map) {
        find_rows(draft, row_of);
        for (uint32_t i = 0; i < n; i++) {
            if (row_of[tokens[i]] < 0) continue;
            rows[kept] = row_of[tokens[i]];
            map[kept++] = tokens[i];
        }
    }
    free(row_of);
    if (!kept) {
        const bool memory = row_of && rows && map;
        free(rows);
        free(map);
        if (!memory) return ds_fail_memory(err, draft->config.vocabulary * sizeof *row_of, "a shortlist");
        return ds_fail(err, DS_ERROR_ARGUMENT, "the drafter's vocabulary has none of its tokens");
    }
    free(draft->vocabulary_map);
    free(draft->shortlist);
    draft->vocabulary_map = map;
    draft->shortlist = rows;
    draft->draft_vocabulary = kept;
    return DS_OK;
}

ds_status ds_draft_load_vocabulary(struct ds_draft_model *draft, const struct ds_model *target, struct ds_loader *loader, struct ds_error *err) {
    const struct ds_naming own = ds_draft_naming_own(draft);
    const struct ds_model_config *c = &draft->config;
    /* A map is i32; a loader's constant is a copy of words. */
    if (draft->vocabulary_map)
        DS_TRY(ds_loader_constant(loader, (const float *)(const void *)draft->vocabulary_map, draft->draft_vocabulary, &draft->vocabulary_ids, err));
    const bool own_embedding = ds_naming_has(&own, "embed_tokens.weight", "token_embd.weight", 0), own_head = ds_naming_has(&own, "lm_head.weight", "output.weight", 0);
    if (own_embedding) DS_TRY(ds_naming_matrix(&own, loader, "embed_tokens.weight", "token_embd.weight", 0, c->vocabulary, c->hidden, &draft->embedding, err));
    if (own_head || target->ckpt) DS_TRY(load_head(draft, target, loader, err));
    if (own_embedding || !target->ckpt) return DS_OK;
    const struct ds_naming theirs = ds_decoder_naming(target);
    return ds_naming_matrix(&theirs, loader, "embed_tokens.weight", "token_embd.weight", 0, c->vocabulary, c->hidden, &draft->embedding, err);
}

/* --- graphs --- */

void ds_draft_keep(struct ds_graph *graph, struct ds_view x, struct ds_view out, uint32_t first_row) {
    if (out.at.buffer) ds_graph_copy(graph, x, (struct ds_slice){0}, ds_view_part(out, first_row, x.rows, 0, x.cols));
}

/* Tokens that the reduced vocabulary lacks are spread in between, so that sampling knows tokens by the target's ids alone. */
static struct ds_view spread(const struct ds_draft_model *draft, struct ds_graph *graph, struct ds_view logits) {
    if (!draft->vocabulary_map) return logits;
    const struct ds_view all = ds_graph_tensor(graph, DS_ELEM_F32, logits.rows, draft->config.vocabulary);
    ds_graph_append(graph, DS_OP_scatter, &(union ds_op_params){
        .scatter = {.x = logits, .ids = draft->vocabulary_ids, .out = all, .fill = DS_LOGIT_ABSENT}});
    return all;
}

/* What slot k's drafts are drawn from, where it is to be kept: after penalties that see the drafts before it, and biases. */
static struct ds_view keep_sampled(struct ds_graph *graph, const struct ds_draft_rows *rows, uint32_t k, struct ds_view logits) {
    const uint32_t n = rows->sequences;
    if (!rows->sampled.at.buffer) return logits;
    const struct ds_view out = ds_view_part(rows->sampled, k * n, n, 0, logits.cols);
    if (!rows->history) {
        ds_graph_copy(graph, logits, (struct ds_slice){0}, out);
        return out;
    }
    const struct ds_slice none = {0}, adjust = ds_slice_add(rows->rows.adjust, (uint64_t)k * n * sizeof(struct ds_adjust_row));
    ds_graph_append(graph, DS_OP_adjust, &(union ds_op_params){
        .adjust = {.x = logits, .out = out, .rows = adjust, .history = rows->history->tokens, .drafted = k ? rows->rows.out_tokens : none,
                   .n_drafted = k * n, .bias_ids = rows->history->bias_ids, .bias_values = rows->history->bias_values}});
    return out;
}

void ds_draft_sample(const struct ds_draft_model *draft, struct ds_graph *graph, const struct ds_draft_rows *rows, uint32_t k,
                     struct ds_view logits, struct ds_view confidence) {
    const uint64_t first = (uint64_t)k * rows->sequences;
    const struct ds_slice how = ds_slice_add(rows->rows.sample, first * sizeof(struct ds_sample_row));
    const struct ds_slice tokens = ds_slice_add(rows->rows.out_tokens, 4 * first), flags = ds_slice_add(rows->rows.out_flags, 4 * first);
    const struct ds_view drawn = keep_sampled(graph, rows, k, spread(draft, graph, logits));
    ds_graph_append(graph, DS_OP_sample, &(union ds_op_params){.sample = {.logits = drawn, .rows = how, .tokens = tokens, .flags = flags}});
    if (rows->rejects)
        ds_graph_append(graph, DS_OP_reject, &(union ds_op_params){.reject = {.logits = drawn, .rows = how, .tokens = tokens, .flags = flags}});
    if (!draft->has_confidence && confidence.at.buffer)
        ds_graph_append(graph, DS_OP_max_prob, &(union ds_op_params){
            .max_prob = {.logits = drawn, .log_odds = ds_view_part(confidence, k * rows->sequences, rows->sequences, 0, 1)}});
}
