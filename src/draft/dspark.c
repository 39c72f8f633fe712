/*
 * DSpark (arXiv 2607.05147, section 3; DeepSpec's Qwen3DSparkModel): Qwen3 layers over [context | block], block rows not
 * causal among themselves, then a sequential Markov head over the block (unless its rank is 0) and a confidence head.
 *
 *   context row     c = RMSNorm(W_fc [taps]; hidden_norm);  K = rope(k_norm(W_k c)), V = W_v c at the token's own position
 *   block           embeddings of [anchor, mask, mask, ..] at positions n..n+g-1, each row sees all context < n and the block
 *   slot k          U_k = head(h_k);  e_k = W1[y_{k-1}], y_0 = anchor;  logits_k = U_k + W2 e_k;  y_k from logits_k
 *   confidence      c_k = w . [h_k ; e_k] + b, before the sigmoid
 *
 * Slot 1 is the anchor's: slot k sits at position n+k-1 and predicts position n+k.
 */
#include "draft/draft.h"

#include <string.h>

static bool is_gguf(const struct ds_ckpt *ckpt) { return ds_ckpt_get_format(ckpt) == DS_CKPT_GGUF; }

static struct ds_naming naming_of(const struct ds_draft_model *draft) {
    return (struct ds_naming){.ckpt = draft->ckpt, .hf_prefix = "", .gguf_arch = "dflash"};
}

static bool string_is(const struct ds_ckpt *ckpt, const char *key, const char *expected) {
    const struct ds_value *value = ds_ckpt_value(ckpt, key);
    return value && value->kind == DS_VALUE_STRING && strcmp(value->string, expected) == 0;
}

static bool recognise(const struct ds_ckpt *ckpt) {
    if (is_gguf(ckpt)) return string_is(ckpt, "general.architecture", "dflash") && ds_ckpt_find(ckpt, "markov_w1.weight");
    static const char expected[] = "Qwen3DSparkModel";
    const struct ds_value *value = ds_ckpt_value(ckpt, "architectures");
    if (!value || value->kind != DS_VALUE_ARRAY || value->element != DS_VALUE_STRING || value->length < 1) return false;
    const struct ds_text *text = value->array;
    return text->length == strlen(expected) && memcmp(text->data, expected, text->length) == 0;
}

/* Taps are layer outputs, 0-based, -1 the embedding; GGUF counts one higher. The last layer's output is stored normalised, so it cannot be one. */
static ds_status read_taps(struct ds_draft_model *draft, const struct ds_model *target, struct ds_error *err) {
    const int64_t shift = is_gguf(draft->ckpt) ? 1 : 0;
    const struct ds_naming naming = naming_of(draft);
    char key[DS_KEY_MAX];
    ds_naming_key(&naming, "target_layer_ids", "target_layers", key);
    const int64_t *taps;
    size_t count;
    DS_TRY(ds_ckpt_ints(draft->ckpt, key, 1, DS_MAX_TAPS, -1 + shift, INT32_MAX, &taps, &count, err));
    for (size_t i = 0; i < count; i++) {
        const int64_t layer = taps[i] - shift;
        if (layer >= (int64_t)target->config.layers - 1)
            return ds_fail(err, DS_ERROR_MISMATCH, "%s: %s taps layer %lld; the target has %u layers and its last cannot be tapped: expected at most %lld",
                           ds_ckpt_path(draft->ckpt), key, (long long)taps[i], target->config.layers,
                           (long long)target->config.layers - 2 + shift);
        draft->tap_layers[i] = (int32_t)layer;
    }
    draft->n_taps = (uint32_t)count;
    return DS_OK;
}

static ds_status read_block(struct ds_draft_model *draft, const struct ds_model *target, struct ds_error *err) {
    const struct ds_naming naming = naming_of(draft);
    char key[DS_KEY_MAX];
    int64_t value;
    DS_TRY(ds_ckpt_int(draft->ckpt, ds_naming_key(&naming, "block_size", "block_size", key), 1, 64, &value, err));
    draft->block_size = (uint32_t)value;
    const char *mask_key = is_gguf(draft->ckpt) ? "tokenizer.ggml.mask_token_id" : "mask_token_id";
    DS_TRY(ds_ckpt_int(draft->ckpt, mask_key, 0, (int64_t)target->config.vocabulary - 1, &value, err));
    draft->mask_token = (int32_t)value;
    bool from_anchor;
    DS_TRY(ds_ckpt_bool_or(draft->ckpt, ds_naming_key(&naming, "sample_from_anchor", "sample_from_anchor", key), true, &from_anchor, err));
    if (!from_anchor)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: %s is false (the anchor's slot predicts nothing); only true is supported",
                       ds_ckpt_path(draft->ckpt), key);
    if (is_gguf(draft->ckpt)) {
        DS_TRY(ds_ckpt_int_or(draft->ckpt, "dflash.attention.sliding_window", 0, INT32_MAX, 0, &value, err));
        if (value)
            return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: dflash.attention.sliding_window is %lld; only full attention is supported",
                           ds_ckpt_path(draft->ckpt), (long long)value);
    }
    return DS_OK;
}

/* config.json says which heads there are; in GGUF their tensors do. */
static ds_status read_heads(struct ds_draft_model *draft, struct ds_error *err) {
    const struct ds_ckpt *ckpt = draft->ckpt;
    const struct ds_ckpt_tensor *w1 = ds_ckpt_find(ckpt, is_gguf(ckpt) ? "markov_w1.weight" : "markov_head.markov_w1.weight");
    int64_t rank = w1 && w1->dims == 2 && w1->shape[1] <= INT32_MAX ? (int64_t)w1->shape[1] : 0;
    const char *type;
    const char *type_key = is_gguf(ckpt) ? "dspark.markov_head_type" : "markov_head_type";
    DS_TRY(ds_ckpt_string_or(ckpt, type_key, "vanilla", &type, err));
    if (is_gguf(ckpt)) {
        draft->has_confidence = ds_ckpt_find(ckpt, "conf_proj.weight") != NULL;
        draft->confidence_with_markov = true;
    } else {
        DS_TRY(ds_ckpt_int(ckpt, "markov_rank", 0, 1 << 16, &rank, err));
        DS_TRY(ds_ckpt_bool_or(ckpt, "enable_confidence_head", false, &draft->has_confidence, err));
        DS_TRY(ds_ckpt_bool_or(ckpt, "confidence_head_with_markov", true, &draft->confidence_with_markov, err));
    }
    draft->markov = rank ? DS_MARKOV_VANILLA : DS_MARKOV_NONE;
    draft->markov_rank = (uint32_t)rank;
    if (rank == 0) return DS_OK;
    if (strcmp(type, "vanilla") != 0)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: %s is '%s'; only 'vanilla' is supported", ds_ckpt_path(ckpt), type_key, type);
    return DS_OK;
}

static ds_status configure(struct ds_draft_model *draft, const struct ds_model *target, struct ds_error *err) {
    const struct ds_naming naming = naming_of(draft);
    const char *path = ds_ckpt_path(draft->ckpt);
    DS_TRY(ds_config_read(&naming, &draft->config, err));
    if (draft->config.hidden != target->config.hidden)
        return ds_fail(err, DS_ERROR_MISMATCH, "%s: the drafter's hidden size is %u, the target's %u; this drafter was made for another target",
                       path, draft->config.hidden, target->config.hidden);
    draft->config.vocabulary = target->config.vocabulary;
    if (!is_gguf(draft->ckpt)) {
        int64_t value;
        DS_TRY(ds_ckpt_int(draft->ckpt, "vocab_size", 1, INT32_MAX, &value, err));
        if ((uint64_t)value != target->config.vocabulary)
            return ds_fail(err, DS_ERROR_MISMATCH, "%s: vocab_size is %lld, the target's vocabulary has %u; this drafter was made for another target",
                           path, (long long)value, target->config.vocabulary);
        DS_TRY(ds_ckpt_int_or(draft->ckpt, "num_target_layers", 1, INT32_MAX, target->config.layers, &value, err));
        if ((uint64_t)value != target->config.layers)
            return ds_fail(err, DS_ERROR_MISMATCH, "%s: num_target_layers is %lld, the target has %u layers; this drafter was made for another target",
                           path, (long long)value, target->config.layers);
    }
    DS_TRY(read_taps(draft, target, err));
    DS_TRY(read_block(draft, target, err));
    return read_heads(draft, err);
}

/* The drafter's own table where it has one, else the target's. */
static ds_status load_shared(struct ds_draft_model *draft, const struct ds_model *target, struct ds_loader *loader, struct ds_error *err) {
    const struct ds_naming naming = naming_of(draft);
    const struct ds_model_config *c = &draft->config;
    const bool target_gguf = is_gguf(target->ckpt);
    const struct ds_naming theirs = {.ckpt = target->ckpt, .hf_prefix = "", .gguf_arch = ""};
    if (ds_naming_has(&naming, "embed_tokens.weight", "token_embd.weight", 0))
        DS_TRY(ds_naming_matrix(&naming, loader, "embed_tokens.weight", "token_embd.weight", 0, c->vocabulary, c->hidden, &draft->embedding, err));
    else
        DS_TRY(ds_naming_matrix(&theirs, loader, "model.embed_tokens.weight", "token_embd.weight", 0, c->vocabulary, c->hidden, &draft->embedding, err));
    if (ds_naming_has(&naming, "lm_head.weight", "output.weight", 0))
        return ds_naming_matrix(&naming, loader, "lm_head.weight", "output.weight", 0, c->vocabulary, c->hidden, &draft->head, err);
    const bool tied = target->config.tied;
    return ds_naming_matrix(&theirs, loader, tied ? "model.embed_tokens.weight" : "lm_head.weight",
                            tied && target_gguf ? "token_embd.weight" : "output.weight", 0, c->vocabulary, c->hidden, &draft->head, err);
}

static ds_status load(struct ds_draft_model *draft, const struct ds_model *target, struct ds_loader *loader, struct ds_error *err) {
    const struct ds_naming naming = naming_of(draft);
    const struct ds_model_config *c = &draft->config;
    const uint32_t rank = draft->markov_rank;
    DS_TRY(load_shared(draft, target, loader, err));
    DS_TRY(ds_naming_matrix(&naming, loader, "fc.weight", "fc.weight", 0, c->hidden, draft->n_taps * c->hidden, &draft->fc, err));
    DS_TRY(ds_naming_vector(&naming, loader, "hidden_norm.weight", "enc.output_norm.weight", 0, c->hidden, &draft->hidden_norm, err));
    DS_TRY(ds_naming_vector(&naming, loader, "norm.weight", "output_norm.weight", 0, c->hidden, &draft->final_norm, err));
    for (uint32_t l = 0; l < c->layers; l++) DS_TRY(ds_layer_load(&draft->layers[l], c, &naming, l, loader, err));
    if (draft->markov == DS_MARKOV_VANILLA) {
        DS_TRY(ds_naming_matrix(&naming, loader, "markov_head.markov_w1.weight", "markov_w1.weight", 0, c->vocabulary, rank, &draft->markov_w1, err));
        DS_TRY(ds_naming_matrix(&naming, loader, "markov_head.markov_w2.weight", "markov_w2.weight", 0, c->vocabulary, rank, &draft->markov_w2, err));
    }
    if (!draft->has_confidence) return DS_OK;
    const uint32_t inputs = c->hidden + (draft->confidence_with_markov ? rank : 0);
    DS_TRY(ds_naming_matrix(&naming, loader, "confidence_head.proj.weight", "conf_proj.weight", 0, 1, inputs, &draft->confidence, err));
    return ds_naming_vector(&naming, loader, "confidence_head.proj.bias", "conf_proj.bias", 0, 1, &draft->confidence_bias, err);
}

static struct ds_layer_context layer_context(const struct ds_draft_model *draft, const struct ds_rows *rows) {
    return (struct ds_layer_context){.config = &draft->config, .rows = rows, .rope_cos = draft->rope_cos, .rope_sin = draft->rope_sin,
                                     .rope_positions = draft->rope_positions};
}

static void build_context(const struct ds_draft_model *draft, struct ds_graph *graph, const struct ds_rows *rows,
                          const struct ds_cache *cache, struct ds_view features, struct ds_view feature_out) {
    const struct ds_model_config *c = &draft->config;
    const struct ds_layer_context context = layer_context(draft, rows);
    ds_graph_set_count(graph, rows->count);
    ds_graph_set_flags(graph, rows->flags);
    const struct ds_view mixed = ds_graph_linear(graph, &draft->fc, features, (struct ds_slice){0}, (struct ds_view){0});
    const struct ds_view feature = ds_graph_rms_norm(graph, mixed, c->hidden, draft->hidden_norm, c->rms_eps);
    if (feature_out.at.buffer) ds_graph_copy(graph, feature, (struct ds_slice){0}, feature_out);
    for (uint32_t l = 0; l < c->layers; l++) ds_layer_store(graph, &context, &draft->layers[l], &cache->layers[l], feature);
}

static void keep(struct ds_graph *graph, struct ds_view x, struct ds_view out, uint32_t first_row) {
    if (out.at.buffer) ds_graph_copy(graph, x, (struct ds_slice){0}, ds_view_part(out, first_row, x.rows, 0, x.cols));
}

/* logits of slot k from those of the head, u: a sequential head adds its bias, which needs slot k-1's token; it leaves e in `inputs`. */
static struct ds_view slot_logits(const struct ds_draft_model *draft, struct ds_graph *graph, const struct ds_draft_rows *rows, uint32_t k,
                                  struct ds_view u, struct ds_view inputs) {
    if (draft->markov == DS_MARKOV_NONE) return u;
    const uint32_t n = rows->sequences;
    const struct ds_slice previous = k ? ds_slice_add(rows->rows.out_tokens, 4 * (uint64_t)(k - 1) * n) : rows->rows.ids;
    const struct ds_view e = ds_view_part(inputs, k * n, n, draft->config.hidden, draft->markov_rank);
    ds_graph_embed_into(graph, &draft->markov_w1, previous, 1.0f, e);
    return ds_graph_linear(graph, &draft->markov_w2, e, (struct ds_slice){0}, u);
}

/* Token after token, slot k of all sequences at once. `inputs` [g * sequences, hidden + rank] holds h, and takes e. */
static void build_chain(const struct ds_draft_model *draft, struct ds_graph *graph, const struct ds_draft_rows *rows, struct ds_view base,
                        struct ds_view inputs, const struct ds_draft_outputs *out) {
    const uint32_t n = rows->sequences;
    for (uint32_t k = 0; k < draft->block_size; k++) {
        const struct ds_view u = ds_view_part(base, k * n, n, 0, draft->config.vocabulary);
        const struct ds_view logits = slot_logits(draft, graph, rows, k, u, inputs);
        keep(graph, logits, out->logits, k * n);
        ds_graph_append(graph, DS_OP_sample, &(union ds_op_params){
            .sample = {.logits = logits, .rows = ds_slice_add(rows->rows.sample, (uint64_t)k * n * sizeof(struct ds_sample_row)),
                       .tokens = ds_slice_add(rows->rows.out_tokens, 4 * (uint64_t)k * n),
                       .flags = ds_slice_add(rows->rows.out_flags, 4 * (uint64_t)k * n)}});
    }
}

static void build_block(const struct ds_draft_model *draft, struct ds_graph *graph, const struct ds_draft_rows *rows,
                        const struct ds_cache *cache, const struct ds_draft_outputs *out) {
    const struct ds_model_config *c = &draft->config;
    const struct ds_layer_context context = layer_context(draft, &rows->rows);
    const struct ds_slice none = {0};
    const uint32_t n_rows = rows->rows.rows;
    ds_graph_set_count(graph, none); /* a block is always whole */
    ds_graph_set_flags(graph, rows->rows.flags);
    struct ds_view x = ds_graph_embed(graph, &draft->embedding, rows->rows.ids, n_rows, 1.0f);
    for (uint32_t l = 0; l < c->layers; l++) x = ds_layer_build(graph, &context, &draft->layers[l], &cache->layers[l], x);
    const struct ds_view h = ds_graph_rms_norm(graph, x, c->hidden, draft->final_norm, c->rms_eps);
    keep(graph, h, out->hidden, 0);
    const struct ds_view base = ds_graph_linear(graph, &draft->head, h, none, (struct ds_view){0});
    keep(graph, base, out->base_logits, 0);
    const struct ds_view inputs = ds_graph_tensor(graph, DS_ELEM_F32, n_rows, c->hidden + draft->markov_rank);
    ds_graph_copy(graph, h, none, ds_view_part(inputs, 0, n_rows, 0, c->hidden));
    build_chain(draft, graph, rows, base, inputs, out);
    if (draft->has_confidence)
        ds_graph_linear_into(graph, &draft->confidence, ds_view_part(inputs, 0, n_rows, 0, draft->confidence.cols), draft->confidence_bias,
                             (struct ds_view){0}, out->confidence);
}

const struct ds_draft_arch ds_draft_dspark = {.name = "dspark",
                                              .recognise = recognise,
                                              .configure = configure,
                                              .load = load,
                                              .build_context = build_context,
                                              .build_block = build_block};
