#include "draft/markov.h"

#include "base/quote.h"
#include "draft/dialect.h"

#include <string.h>

static bool is_gguf(const struct ds_draft_model *draft) { return ds_ckpt_get_format(draft->ckpt) == DS_CKPT_GGUF; }

/* --- configuration --- */

static ds_status read_type(const struct ds_draft_model *draft, ds_markov *out, struct ds_error *err) {
    static const struct {
        const char *name;
        ds_markov type;
    } known[] = {{"vanilla", DS_MARKOV_VANILLA}, {"gated", DS_MARKOV_GATED}, {"rnn", DS_MARKOV_RNN}};
    const char *key = is_gguf(draft) ? "dspark.markov_head_type" : "markov_head_type", *type;
    DS_TRY(ds_ckpt_string_or(draft->ckpt, key, "vanilla", &type, err));
    for (size_t i = 0; i < DS_COUNT(known); i++) {
        if (strcmp(type, known[i].name) != 0) continue;
        *out = known[i].type;
        return DS_OK;
    }
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: %s is '%s'; expected 'vanilla', 'gated' or 'rnn'", ds_ckpt_path(draft->ckpt), key,
                   ds_quote_name(type).text);
}

/* GGUF has no keys for rank and confidence: shapes say it. */
static void read_shapes(struct ds_draft_model *draft, int64_t *rank) {
    const struct ds_ckpt_tensor *w1 = ds_ckpt_find(draft->ckpt, "markov_w1.weight"), *confidence = ds_ckpt_find(draft->ckpt, "conf_proj.weight");
    *rank = w1 && w1->dims == 2 && w1->shape[1] <= 1 << 16 ? (int64_t)w1->shape[1] : 0;
    draft->has_confidence = confidence != NULL;
    draft->confidence_with_markov = confidence && confidence->shape[confidence->dims - 1] != draft->config.hidden;
}

ds_status ds_markov_read(struct ds_draft_model *draft, struct ds_error *err) {
    const struct ds_ckpt *ckpt = draft->ckpt;
    int64_t rank = 0;
    if (is_gguf(draft)) {
        read_shapes(draft, &rank);
    } else if (draft->dialect != DS_DIALECT_DFLASH) {
        if (draft->dialect == DS_DIALECT_SPECULATORS && draft->arch == &ds_draft_dflash) DS_TRY(ds_ckpt_int_or(ckpt, "markov_rank", 0, 1 << 16, 0, &rank, err));
        else DS_TRY(ds_ckpt_int(ckpt, "markov_rank", 0, 1 << 16, &rank, err));
        DS_TRY(ds_ckpt_bool_or(ckpt, "enable_confidence_head", false, &draft->has_confidence, err));
        DS_TRY(ds_ckpt_bool_or(ckpt, "confidence_head_with_markov", true, &draft->confidence_with_markov, err));
    }
    draft->markov_rank = (uint32_t)rank;
    draft->confidence_with_markov &= rank > 0;
    draft->markov = DS_MARKOV_NONE;
    return rank ? read_type(draft, &draft->markov, err) : DS_OK;
}

ds_status ds_markov_load(struct ds_draft_model *draft, struct ds_loader *loader, struct ds_error *err) {
    const struct ds_naming naming = ds_draft_naming_own(draft);
    const struct ds_model_config *c = &draft->config;
    const uint32_t r = draft->markov_rank;
    if (draft->markov != DS_MARKOV_NONE) {
        DS_TRY(ds_naming_matrix(&naming, loader, "markov_head.markov_w1.weight", "markov_w1.weight", 0, c->vocabulary, r, &draft->markov_w1, err));
        DS_TRY(ds_naming_rows(&naming, loader, "markov_head.markov_w2.weight", "markov_w2.weight", draft->head_rows, r, draft->shortlist, draft->draft_vocabulary,
                              &draft->markov_w2, err));
    }
    if (draft->markov == DS_MARKOV_GATED) {
        DS_TRY(ds_naming_matrix(&naming, loader, "markov_head.gate_proj.weight", "markov_gate.weight", 0, r, c->hidden + r, &draft->markov_gate, err));
        DS_TRY(ds_naming_vector(&naming, loader, "markov_head.gate_proj.bias", "markov_gate.bias", 0, r, &draft->markov_bias, err));
    }
    if (draft->markov == DS_MARKOV_RNN) {
        DS_TRY(ds_naming_matrix(&naming, loader, "markov_head.joint_proj.weight", "markov_joint.weight", 0, 3 * r, 2 * r + c->hidden, &draft->markov_gate, err));
        DS_TRY(ds_naming_vector(&naming, loader, "markov_head.joint_proj.bias", "markov_joint.bias", 0, 3 * r, &draft->markov_bias, err));
    }
    if (!draft->has_confidence) return DS_OK;
    const uint32_t inputs = c->hidden + (draft->confidence_with_markov ? r : 0);
    DS_TRY(ds_naming_matrix(&naming, loader, "confidence_head.proj.weight", "conf_proj.weight", 0, 1, inputs, &draft->confidence, err));
    return ds_naming_vector(&naming, loader, "confidence_head.proj.bias", "conf_proj.bias", 0, 1, &draft->confidence_bias, err);
}

/* --- graph --- */

/*
 * A row of `inputs` is [h | e]; the rnn's is [s | e | h | e], so that what its joint matrix reads and what the gate's and the
 * confidence's read each lie side by side.
 */
struct chain {
    const struct ds_draft_model *draft;
    struct ds_graph *graph;
    const struct ds_draft_rows *rows;
    struct ds_view inputs;
    uint32_t h_at, e_at; /* columns */
};

static struct ds_view columns(const struct chain *c, uint32_t k, uint32_t col, uint32_t cols) {
    const uint32_t n = c->rows->sequences;
    return ds_view_part(c->inputs, k * n, n, col, cols);
}

/* The states' columns of slot 0 become zeros (of either sign): no op but this fills. */
static void begin_state(const struct chain *c) {
    ds_graph_embed_into(c->graph, &c->draft->markov_w1, c->rows->rows.ids, 0.0f, columns(c, 0, 0, c->draft->markov_rank));
}

/* tanh(output); the next state goes where slot k + 1 reads it. */
static struct ds_view recur(const struct chain *c, uint32_t k) {
    const struct ds_draft_model *draft = c->draft;
    const uint32_t r = draft->markov_rank, n = c->rows->sequences;
    const struct ds_view gates = ds_graph_linear(c->graph, &draft->markov_gate, columns(c, k, 0, 2 * r + draft->config.hidden), draft->markov_bias,
                                                 (struct ds_view){0});
    const struct ds_view out = ds_graph_tensor(c->graph, DS_ELEM_F32, n, r);
    const bool last = k + 1 == c->rows->slots;
    struct ds_view state = {.rows = 0};
    if (k) state = columns(c, k, 0, r);
    const struct ds_view next = last ? ds_graph_tensor(c->graph, DS_ELEM_F32, n, r) : columns(c, k + 1, 0, r);
    ds_graph_append(c->graph, DS_OP_rnn_cell, &(union ds_op_params){
        .rnn_cell = {.gates = gates, .state = state, .next = next, .out = out}});
    return out;
}

/* What W2 is applied to; slot k's e is in place. */
static struct ds_view mixed(const struct chain *c, uint32_t k) {
    const struct ds_draft_model *draft = c->draft;
    const struct ds_view e = columns(c, k, c->e_at, draft->markov_rank);
    if (draft->markov == DS_MARKOV_VANILLA) return e;
    if (draft->markov == DS_MARKOV_RNN) return recur(c, k);
    const struct ds_view gate = ds_graph_linear(c->graph, &draft->markov_gate, columns(c, k, c->h_at, draft->config.hidden + draft->markov_rank),
                                                draft->markov_bias, (struct ds_view){0});
    return ds_graph_glu(c->graph, gate, e, DS_ACT_SIGMOID);
}

/* logits of slot k from those of the head, u: a sequential head adds its bias, which needs slot k-1's token. */
static struct ds_view slot_logits(const struct chain *c, uint32_t k, struct ds_view u) {
    const struct ds_draft_model *draft = c->draft;
    if (draft->markov == DS_MARKOV_NONE) return u;
    const uint32_t n = c->rows->sequences;
    const struct ds_slice previous = k ? ds_slice_add(c->rows->rows.out_tokens, 4 * (uint64_t)(k - 1) * n) : c->rows->rows.ids;
    ds_graph_embed_into(c->graph, &draft->markov_w1, previous, 1.0f, columns(c, k, c->e_at, draft->markov_rank));
    const struct ds_view x = mixed(c, k);
    if (draft->markov_top) return ds_graph_top_linear(c->graph, &draft->markov_w2, x, u, draft->markov_top, DS_LOGIT_ABSENT);
    return ds_graph_linear(c->graph, &draft->markov_w2, x, (struct ds_slice){0}, u);
}

static void build_confidence(const struct chain *c, const struct ds_draft_outputs *out) {
    const struct ds_draft_model *draft = c->draft;
    const uint32_t rows = c->inputs.rows, r = draft->markov_rank, after_h = c->h_at + draft->config.hidden;
    if (draft->confidence_with_markov && c->e_at != after_h)
        ds_graph_copy(c->graph, ds_view_part(c->inputs, 0, rows, c->e_at, r), (struct ds_slice){0}, ds_view_part(c->inputs, 0, rows, after_h, r));
    ds_graph_linear_into(c->graph, &draft->confidence, ds_view_part(c->inputs, 0, rows, c->h_at, draft->confidence.cols), draft->confidence_bias,
                         (struct ds_view){0}, ds_view_first_rows(out->confidence, rows));
}

void ds_markov_build(const struct ds_draft_model *draft, struct ds_graph *graph, const struct ds_draft_rows *rows, struct ds_view h,
                     struct ds_view base, const struct ds_draft_outputs *out) {
    const uint32_t n = rows->sequences, r = draft->markov_rank, hidden = draft->config.hidden;
    const bool recurrent = draft->markov == DS_MARKOV_RNN;
    struct chain c = {.draft = draft, .graph = graph, .rows = rows, .h_at = recurrent ? 2 * r : 0, .e_at = recurrent ? r : hidden};
    c.inputs = ds_graph_tensor(graph, DS_ELEM_F32, h.rows, hidden + (recurrent ? 3 : 1) * r);
    ds_graph_copy(graph, h, (struct ds_slice){0}, ds_view_part(c.inputs, 0, h.rows, c.h_at, hidden));
    if (recurrent) begin_state(&c);
    for (uint32_t k = 0; k < rows->slots; k++) {
        const struct ds_view logits = slot_logits(&c, k, ds_view_part(base, k * n, n, 0, draft->draft_vocabulary));
        ds_draft_keep(graph, logits, out->logits, k * n);
        ds_draft_sample(draft, graph, rows, k, logits, out->confidence);
    }
    if (draft->has_confidence) build_confidence(&c, out);
}
