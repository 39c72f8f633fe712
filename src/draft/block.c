/*
 * Drafters of whole blocks: DSpark (arXiv 2607.05147, section 3; DeepSpec's Qwen3DSparkModel) and DFlash (arXiv 2602.06036), which is the
 * same without a sequential head. Layers of the target's family over [context | block], block rows not causal among themselves.
 *
 *   context row     c = RMSNorm(W_fc [taps]; hidden_norm);  K = rope(k_norm(W_k c)), V = W_v c at the token's own position
 *   block           embeddings of [anchor, mask, mask, ..] at positions n..n+g-1, each row sees all context < n and the block
 *   row k           U_k = head(h_k), then the sequential head (markov.h)
 *
 * As DeepSpec trains it, the anchor's row predicts, too: row k (from 0) sits at position n+k and predicts n+k+1, g rows give g
 * drafts. In the original form (`sample_from_anchor` false) row k predicts its own position n+k, and the anchor's row nothing.
 */
#include "draft/dialect.h"
#include "draft/layers.h"
#include "draft/markov.h"

#include <string.h>

/* --- configuration --- */

/* Keys that DFlash's own files hold in an object of their own. */
static const char *own_key(const struct ds_draft_model *draft, const char *hf, const char *gguf, char key[DS_KEY_MAX]) {
    const struct ds_naming own = ds_draft_naming_own(draft);
    if (draft->dialect == DS_DIALECT_DFLASH) {
        struct ds_naming nested = own;
        nested.hf_keys = "dflash_config.";
        if (ds_ckpt_value(draft->ckpt, ds_naming_key(&nested, hf, gguf, key))) return key;
    }
    return ds_naming_key(&own, hf, gguf, key);
}

/* Original DFlash is trained on blocks of 16 and does without the key; DSpark's files must say it. */
static ds_status read_block(struct ds_draft_model *draft, struct ds_error *err) {
    enum { SPECULATORS_BLOCK = 8, DFLASH_BLOCK = 16 };
    const bool speculators = draft->dialect == DS_DIALECT_SPECULATORS;
    const bool required = draft->dialect == DS_DIALECT_DEEPSPEC || (draft->dialect == DS_DIALECT_GGUF && draft->arch == &ds_draft_dspark);
    char key[DS_KEY_MAX];
    bool from_anchor;
    const bool fallback = draft->dialect == DS_DIALECT_DEEPSPEC || draft->dialect == DS_DIALECT_GGUF;
    DS_TRY(ds_ckpt_bool_or(draft->ckpt, own_key(draft, "sample_from_anchor", "sample_from_anchor", key), fallback, &from_anchor, err));
    const int64_t least = from_anchor ? 1 : 2;
    int64_t rows;
    own_key(draft, "block_size", "block_size", key);
    if (required) DS_TRY(ds_ckpt_int(draft->ckpt, key, least, DS_MAX_BLOCK_ROWS, &rows, err));
    else DS_TRY(ds_ckpt_int_or(draft->ckpt, key, least, DS_MAX_BLOCK_ROWS, speculators ? SPECULATORS_BLOCK : DFLASH_BLOCK, &rows, err));
    draft->block_rows = (uint32_t)rows;
    draft->block_size = (uint32_t)rows - !from_anchor;
    return DS_OK;
}

static ds_status read_mask(struct ds_draft_model *draft, const struct ds_model *target, struct ds_error *err) {
    char key[DS_KEY_MAX];
    int64_t mask;
    own_key(draft, "mask_token_id", "", key);
    DS_TRY(ds_ckpt_int(draft->ckpt, draft->dialect == DS_DIALECT_GGUF ? "tokenizer.ggml.mask_token_id" : key, 0, (int64_t)target->config.vocabulary - 1,
                       &mask, err));
    draft->mask_token = (int32_t)mask;
    return DS_OK;
}

/* Causal windows are what speculators trains unless its file says otherwise; all others see the whole block. */
static ds_status read_windows(struct ds_draft_model *draft, struct ds_error *err) {
    bool flag;
    if (draft->dialect == DS_DIALECT_SPECULATORS) {
        DS_TRY(ds_ckpt_bool_or(draft->ckpt, "sliding_window_non_causal", false, &flag, err));
        draft->causal_windows = !flag && draft->config.window > 0;
    }
    if (draft->dialect == DS_DIALECT_GGUF) {
        DS_TRY(ds_ckpt_bool_or(draft->ckpt, "dspark.sliding_window_causal", false, &flag, err));
        draft->causal_windows = flag && draft->config.window > 0;
    }
    if (draft->dialect != DS_DIALECT_DFLASH) return DS_OK;
    DS_TRY(ds_ckpt_bool_or(draft->ckpt, "dflash_config.causal", false, &flag, err));
    if (!flag) return DS_OK;
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: dflash_config.causal is true; expected a block whose rows see each other (false)", ds_ckpt_path(draft->ckpt));
}

/* Which norms a layer has: speculators names the kind of layer, GGUF files have the tensors, all others are Qwen3's. */
static ds_status read_layers(struct ds_draft_model *draft, struct ds_error *err) {
    struct ds_family family = {.qk_norm = draft->dialect != DS_DIALECT_GGUF || ds_ckpt_find(draft->ckpt, "blk.0.attn_q_norm.weight")};
    const char *kind = "qwen3";
    if (draft->gemma) return ds_draft_gemma_read(draft, err);
    if (draft->dialect == DS_DIALECT_SPECULATORS) DS_TRY(ds_ckpt_string(draft->ckpt, "transformer_layer_config.model_type", &kind, err));
    if (strcmp(kind, "llama") == 0) family.qk_norm = false;
    else if (strcmp(kind, "qwen3") != 0)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: transformer_layer_config.model_type is '%s'; expected 'qwen3' or 'llama'", ds_ckpt_path(draft->ckpt), kind);
    const struct ds_naming naming = ds_draft_naming(draft);
    return ds_config_read_family(&naming, &family, &draft->config, err);
}

static ds_status configure(struct ds_draft_model *draft, const struct ds_model *target, struct ds_error *err) {
    char key[DS_KEY_MAX];
    DS_TRY(read_layers(draft, err));
    DS_TRY(ds_draft_check_target(draft, target, false, err));
    const char *taps = draft->dialect == DS_DIALECT_SPECULATORS ? "aux_hidden_state_layer_ids" : own_key(draft, "target_layer_ids", "target_layers", key);
    DS_TRY(ds_draft_read_taps(draft, target, draft->dialect == DS_DIALECT_GGUF ? "" : taps, NULL, err));
    DS_TRY(read_block(draft, err));
    DS_TRY(read_mask(draft, target, err));
    DS_TRY(read_windows(draft, err));
    DS_TRY(ds_draft_read_vocabulary(draft, target, err));
    DS_TRY(ds_markov_read(draft, err));
    draft->arch = draft->markov == DS_MARKOV_NONE && !draft->has_confidence ? &ds_draft_dflash : &ds_draft_dspark;
    return DS_OK;
}

/* --- weights --- */

static ds_status load(struct ds_draft_model *draft, const struct ds_model *target, struct ds_loader *loader, struct ds_error *err) {
    const struct ds_naming naming = ds_draft_naming(draft);
    const struct ds_model_config *c = &draft->config;
    DS_TRY(ds_draft_load_vocabulary(draft, target, loader, err));
    DS_TRY(ds_naming_matrix(&naming, loader, "fc.weight", "fc.weight", 0, c->hidden, draft->n_taps * draft->target_hidden, &draft->fc, err));
    DS_TRY(ds_naming_vector(&naming, loader, "hidden_norm.weight", "enc.output_norm.weight", 0, c->hidden, &draft->hidden_norm, err));
    DS_TRY(ds_naming_vector(&naming, loader, "norm.weight", "output_norm.weight", 0, c->hidden, &draft->final_norm, err));
    DS_TRY(ds_draft_layers_load(draft, loader, err));
    return ds_markov_load(draft, loader, err);
}

/* --- graphs --- */

static void build_context(const struct ds_draft_model *draft, struct ds_graph *graph, const struct ds_rows *rows,
                          const struct ds_cache *cache, struct ds_view features, struct ds_view feature_out) {
    const struct ds_model_config *c = &draft->config;
    ds_graph_set_count(graph, rows->count);
    ds_graph_set_flags(graph, rows->flags);
    const struct ds_view mixed = ds_graph_linear(graph, &draft->fc, features, (struct ds_slice){0}, (struct ds_view){0});
    const struct ds_view feature = ds_graph_rms_norm(graph, mixed, c->hidden, draft->hidden_norm, c->rms_eps);
    ds_draft_keep(graph, feature, feature_out, 0);
    for (uint32_t l = 0; l < c->layers; l++) ds_draft_layer_store(draft, graph, rows, cache, l, feature);
}

static void build_block(const struct ds_draft_model *draft, struct ds_graph *graph, const struct ds_draft_rows *rows,
                        const struct ds_cache *cache, const struct ds_draft_outputs *out) {
    const struct ds_model_config *c = &draft->config;
    const struct ds_slice none = {0};
    struct ds_rows causal = rows->rows;
    causal.visible = rows->rows.causal;
    ds_graph_set_count(graph, none); /* a block's layers are always whole */
    ds_graph_set_flags(graph, rows->rows.flags);
    struct ds_view x = ds_draft_embed(draft, graph, rows->rows.ids, rows->rows.rows);
    for (uint32_t l = 0; l < c->layers; l++) {
        const bool forward = draft->causal_windows && ds_config_window(c, l);
        x = ds_draft_layer_build(draft, graph, forward ? &causal : &rows->rows, cache, l, x);
    }
    const uint32_t silent = (draft->block_rows - draft->block_size) * rows->sequences;
    x = ds_view_part(x, silent, rows->slots * rows->sequences, 0, x.cols);
    const struct ds_view h = ds_graph_rms_norm(graph, x, c->hidden, draft->final_norm, c->rms_eps);
    ds_draft_keep(graph, h, out->hidden, 0);
    const struct ds_view base = ds_draft_head(draft, graph, h);
    ds_draft_keep(graph, base, out->base_logits, 0);
    ds_markov_build(draft, graph, rows, h, base, out);
}

const struct ds_draft_arch ds_draft_dspark = {.name = "dspark", .configure = configure, .load = load, .build_context = build_context, .build_block = build_block};
const struct ds_draft_arch ds_draft_dflash = {.name = "dflash", .configure = configure, .load = load, .build_context = build_context, .build_block = build_block};
