/*
 * Eagle3 (arXiv 2503.01840; DeepSpec's Qwen3Eagle3Model): one causal layer that reads tokens and features side by side, run token
 * after token. With f_i = W_fc [taps of position i] (norm_before_fc: of their RMSNorm), not normalised:
 *
 *   context row i   pairs f_i with the *token at i+1*, at rope position i:
 *                   x = [RMSNorm(embed(token); input norm) ; RMSNorm(f_i; hidden_norm)],  K = rope(W_k x), V = W_v x
 *   step 0          the last context row, i = n-1, with the anchor: z_0 = layer output on x; the residual is f (norm_before_residual:
 *                   RMSNorm(f; hidden_norm));  logits = head(RMSNorm(z_0; norm)) draw y_1
 *   step j          the same of z_{j-1} in the place of f, and of y_j, at rope position n-1+j
 *
 * z is carried on before the final norm. What steps write into the cache behind position n-1 is overwritten by true features.
 * q and k are normed per head where the checkpoint has the norms. GGUF's rotary pairs lie side by side.
 */
#include "draft/dialect.h"

#include "base/quote.h"
#include "draft/layers.h"
#include "model/config.h"

#include <string.h>

enum { DEFAULT_STEPS = 7 };

/* Of GGUF files that dspark makes of DeepSpec's Eagle3, which may tap any number of layers. */
static const char steps_key[] = "dspark.ttt_length";

/* --- configuration --- */

static ds_status read_layer(struct ds_draft_model *draft, struct ds_error *err) {
    const struct ds_naming naming = ds_draft_naming(draft);
    if (draft->gemma) return ds_draft_gemma_read(draft, err);
    const struct ds_family family = {.qk_norm = ds_naming_has(&naming, "layers.0.self_attn.q_norm.weight", "blk.%u.attn_q_norm.weight", 0),
                                     .interleaved = true};
    if (draft->dialect == DS_DIALECT_SPECULATORS) {
        const char *kind;
        DS_TRY(ds_ckpt_string(draft->ckpt, "transformer_layer_config.model_type", &kind, err));
        if (strcmp(kind, "llama") != 0 && strcmp(kind, "qwen3") != 0)
            return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: transformer_layer_config.model_type is '%s'; expected 'llama' or 'qwen3'",
                           ds_ckpt_path(draft->ckpt), ds_quote_name(kind).text);
    }
    if (draft->dialect == DS_DIALECT_DEEPSPEC && !family.qk_norm)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: there is no tensor 'layers.0.self_attn.q_norm.weight'", ds_ckpt_path(draft->ckpt));
    return ds_config_read_family(&naming, &family, &draft->config, err);
}

static ds_status require_one_layer(const struct ds_draft_model *draft, struct ds_error *err) {
    const struct ds_naming naming = ds_draft_naming(draft);
    char key[DS_KEY_MAX];
    if (draft->config.layers == 1) return DS_OK;
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: %s is %u; an Eagle3 drafter has 1 layer", ds_ckpt_path(draft->ckpt),
                   ds_naming_key(&naming, "num_hidden_layers", "block_count", key), draft->config.layers);
}

static ds_status read_flag(const struct ds_draft_model *draft, const char *name, bool fallback, bool *out, struct ds_error *err) {
    const struct ds_naming own = ds_draft_naming_own(draft);
    char key[DS_KEY_MAX];
    return ds_ckpt_bool_or(draft->ckpt, ds_naming_key(&own, name, name, key), fallback, out, err);
}

/* Norms that are there or not. speculators' trainer and class disagree about a default, so its files must say it. */
static ds_status read_norms(struct ds_draft_model *draft, struct ds_error *err) {
    static const struct ds_refusal refused[] = {{"fc_norm", "fc_norm", 0}, {"norm_output", "norm_output", 0}};
    const struct ds_naming own = ds_draft_naming_own(draft);
    DS_TRY(ds_config_refuse(&own, refused, DS_COUNT(refused), err));
    if (draft->dialect == DS_DIALECT_SPECULATORS && !ds_ckpt_value(draft->ckpt, "norm_before_residual"))
        return ds_fail(err, DS_ERROR_FORMAT, "%s: norm_before_residual is missing, and either value is usual; expected true or false", ds_ckpt_path(draft->ckpt));
    DS_TRY(read_flag(draft, "norm_before_residual", false, &draft->norm_before_residual, err));
    return read_flag(draft, "norm_before_fc", false, &draft->norm_before_fc, err);
}

/* speculators without a list of taps means the three that EAGLE-3 was trained with. */
static ds_status read_taps(struct ds_draft_model *draft, const struct ds_model *target, struct ds_error *err) {
    const int32_t layers = (int32_t)target->config.layers;
    const int32_t usual[] = {1, layers / 2 - 1, layers - 4};
    const bool speculators = draft->dialect == DS_DIALECT_SPECULATORS;
    if (speculators && !ds_ckpt_value(draft->ckpt, "eagle_aux_hidden_state_layer_ids") && layers < 6)
        return ds_fail(err, DS_ERROR_MISMATCH, "%s: eagle_aux_hidden_state_layer_ids is missing, and a target of %d layers has no usual taps; expected a list of layers",
                       ds_ckpt_path(draft->ckpt), layers);
    DS_TRY(ds_draft_read_taps(draft, target, speculators ? "eagle_aux_hidden_state_layer_ids" : "target_layer_ids", speculators ? usual : NULL, err));
    if (draft->dialect != DS_DIALECT_GGUF || draft->n_taps == 3 || ds_ckpt_value(draft->ckpt, steps_key)) return DS_OK;
    return ds_fail(err, DS_ERROR_FORMAT, "%s: eagle3.target_layers has %u entries; expected 3", ds_ckpt_path(draft->ckpt), draft->n_taps);
}

static ds_status configure(struct ds_draft_model *draft, const struct ds_model *target, struct ds_error *err) {
    DS_TRY(read_layer(draft, err));
    DS_TRY(require_one_layer(draft, err));
    draft->config.attention_inputs = 2 * draft->config.hidden; /* token and feature */
    /* Another width is possible where no table of the target is used. */
    const struct ds_naming own = ds_draft_naming_own(draft);
    const bool own_tables = ds_naming_has(&own, "embed_tokens.weight", "token_embd.weight", 0) && ds_naming_has(&own, "lm_head.weight", "output.weight", 0);
    DS_TRY(ds_draft_check_target(draft, target, own_tables, err));
    DS_TRY(read_taps(draft, target, err));
    DS_TRY(read_norms(draft, err));
    DS_TRY(ds_draft_read_vocabulary(draft, target, err));
    int64_t steps = DEFAULT_STEPS;
    if (draft->dialect == DS_DIALECT_DEEPSPEC) DS_TRY(ds_ckpt_int(draft->ckpt, "ttt_length", 1, DS_MAX_BLOCK_ROWS, &steps, err));
    if (draft->dialect == DS_DIALECT_GGUF) DS_TRY(ds_ckpt_int_or(draft->ckpt, steps_key, 1, DS_MAX_BLOCK_ROWS, DEFAULT_STEPS, &steps, err));
    draft->block_size = draft->block_rows = (uint32_t)steps;
    return DS_OK;
}

/* --- weights --- */

static ds_status load(struct ds_draft_model *draft, const struct ds_model *target, struct ds_loader *loader, struct ds_error *err) {
    const struct ds_naming own = ds_draft_naming_own(draft), naming = ds_draft_naming(draft);
    const uint32_t hidden = draft->config.hidden, inputs = draft->n_taps * draft->target_hidden;
    DS_TRY(ds_draft_load_vocabulary(draft, target, loader, err));
    DS_TRY(ds_naming_matrix(&own, loader, "fc.weight", "fc.weight", 0, hidden, inputs, &draft->fc, err));
    static const char older[] = "enc.input_norm.weight";
    if (draft->norm_before_fc)
        DS_TRY(ds_naming_vector(&own, loader, "input_norm.weight", ds_ckpt_find(draft->ckpt, older) ? older : "enc.output_norm.weight", 0, inputs,
                                &draft->input_norm, err));
    DS_TRY(ds_naming_vector(&own, loader, "norm.weight", "output_norm.weight", 0, hidden, &draft->final_norm, err));
    DS_TRY(ds_naming_vector(&naming, loader, "layers.0.hidden_norm.weight", "blk.%u.attn_norm_2.weight", 0, hidden, &draft->hidden_norm, err));
    return ds_draft_layers_load(draft, loader, err);
}

/* --- graphs --- */

static void norm_into(struct ds_graph *graph, struct ds_view x, struct ds_slice weight, float eps, struct ds_slice count, struct ds_view out) {
    ds_graph_append(graph, DS_OP_rms_norm, &(union ds_op_params){
        .rms_norm = {.x = x, .out = out, .dim = x.cols, .weight = weight, .eps = eps, .count = count}});
}

/* [RMSNorm(embed(ids); input norm) ; RMSNorm(feature; hidden_norm)] */
static struct ds_view pair(const struct ds_draft_model *draft, struct ds_graph *graph, struct ds_slice ids, struct ds_slice count, struct ds_view feature) {
    const uint32_t hidden = draft->config.hidden, rows = feature.rows;
    const float eps = draft->config.rms_eps;
    const struct ds_view both = ds_graph_tensor(graph, DS_ELEM_F32, rows, 2 * hidden);
    const struct ds_view token = ds_draft_embed(draft, graph, ids, rows);
    norm_into(graph, token, ds_draft_attention_norm(draft, 0), eps, count, ds_view_part(both, 0, rows, 0, hidden));
    norm_into(graph, feature, draft->hidden_norm, eps, count, ds_view_part(both, 0, rows, hidden, hidden));
    return both;
}

static void build_context(const struct ds_draft_model *draft, struct ds_graph *graph, const struct ds_rows *rows,
                          const struct ds_cache *cache, struct ds_view features, struct ds_view feature_out) {
    ds_graph_set_count(graph, rows->count);
    ds_graph_set_flags(graph, rows->flags);
    if (draft->norm_before_fc) features = ds_graph_rms_norm(graph, features, features.cols, draft->input_norm, draft->config.rms_eps);
    ds_graph_linear_into(graph, &draft->fc, features, (struct ds_slice){0}, (struct ds_view){0}, feature_out);
    ds_draft_layer_store(draft, graph, rows, cache, 0, pair(draft, graph, rows->ids, rows->count, feature_out));
}

/* The rows of step k among those of all steps. */
static struct ds_rows rows_of_step(const struct ds_draft_rows *all, uint32_t k) {
    struct ds_rows rows = all->rows;
    const uint64_t first = 4 * (uint64_t)k * all->sequences;
    rows.rows = all->sequences;
    rows.count = (struct ds_slice){0};
    rows.positions = ds_slice_add(rows.positions, first);
    rows.sequences = ds_slice_add(rows.sequences, first);
    rows.visible = ds_slice_add(rows.visible, first);
    rows.flags = ds_slice_add(rows.flags, first);
    return rows;
}

static struct ds_view build_step(const struct ds_draft_model *draft, struct ds_graph *graph, const struct ds_rows *rows, const struct ds_cache *cache,
                                 struct ds_slice ids, struct ds_view feature) {
    const struct ds_view both = pair(draft, graph, ids, rows->count, feature);
    const struct ds_view residual = draft->norm_before_residual ? ds_view_part(both, 0, both.rows, draft->config.hidden, draft->config.hidden) : feature;
    return ds_draft_layer_build_from(draft, graph, rows, cache, 0, both, residual);
}

static void build_block(const struct ds_draft_model *draft, struct ds_graph *graph, const struct ds_draft_rows *rows,
                        const struct ds_cache *cache, const struct ds_draft_outputs *out) {
    const uint32_t n = rows->sequences;
    ds_graph_set_count(graph, (struct ds_slice){0}); /* a stop token ends a proposal; the host cuts it */
    struct ds_view z = rows->carried;
    for (uint32_t k = 0; k < rows->slots; k++) {
        const struct ds_rows step = rows_of_step(rows, k);
        const struct ds_slice ids = k ? ds_slice_add(rows->rows.out_tokens, 4 * (uint64_t)(k - 1) * n) : rows->rows.ids;
        ds_graph_set_flags(graph, step.flags);
        z = build_step(draft, graph, &step, cache, ids, z);
        ds_draft_keep(graph, z, out->hidden, k * n);
        const struct ds_view normed = ds_graph_rms_norm(graph, z, draft->config.hidden, draft->final_norm, draft->config.rms_eps);
        const struct ds_view logits = ds_draft_head(draft, graph, normed);
        ds_draft_keep(graph, logits, out->logits, k * n);
        ds_draft_sample(draft, graph, rows, k, logits, out->confidence);
    }
}

const struct ds_draft_arch ds_draft_eagle3 = {
    .name = "eagle3", .steps = true, .configure = configure, .load = load, .build_context = build_context, .build_block = build_block};
