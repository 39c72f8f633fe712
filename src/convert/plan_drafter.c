/*
 * A drafter's tensors. The loader's own reader says what the drafter is, whatever the dialect; here its tensors get the names of the output.
 * Embedding and head are left out where they are the target's, or come from it where a folder needs them.
 */
#include "base/quote.h"
#include "convert/convert_internal.h"
#include "draft/dialect.h"
#include "model/decoder.h"

#include <stdio.h>
#include <string.h>

enum { COMPARED_BYTES = 32 << 20, MOST_LAYERS = INT32_MAX / 2 };

/* --- the target that a drafter's file describes --- */

static uint64_t rows_of(const struct ds_ckpt *ckpt, const char *name) {
    const struct ds_ckpt_tensor *tensor = ds_ckpt_find(ckpt, name);
    return tensor && tensor->dims == 2 && tensor->shape[0] <= INT32_MAX ? tensor->shape[0] : 0;
}

static ds_status read_vocabulary(const struct ds_conversion *c, const struct ds_draft_kind *kind, uint32_t *out, struct ds_error *err) {
    int64_t vocabulary = 0;
    if (kind->dialect != DS_DIALECT_GGUF) {
        const char *key = kind->dialect == DS_DIALECT_SPECULATORS ? "transformer_layer_config.vocab_size" : "vocab_size";
        DS_TRY(ds_ckpt_int(c->source, key, 1, INT32_MAX, &vocabulary, err));
        *out = (uint32_t)vocabulary;
        return DS_OK;
    }
    static const char *const tables[] = {"token_embd.weight", "markov_w1.weight"};
    const struct ds_value *tokens = ds_ckpt_value(c->source, "tokenizer.ggml.tokens");
    for (size_t i = 0; i < DS_COUNT(tables) && !vocabulary; i++) vocabulary = (int64_t)rows_of(c->source, tables[i]);
    if (!vocabulary && !ds_ckpt_find(c->source, "d2t")) vocabulary = (int64_t)rows_of(c->source, "output.weight");
    if (!vocabulary && tokens && tokens->kind == DS_VALUE_ARRAY && tokens->length <= INT32_MAX) vocabulary = (int64_t)tokens->length;
    if (!vocabulary)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: the drafter has no table of its own that says how large the vocabulary is: name its target (--target)",
                       ds_ckpt_path(c->source));
    *out = (uint32_t)vocabulary;
    return DS_OK;
}

/* What a drafter's reader looks at in its target, taken from the drafter's own file. */
static ds_status describe_target(const struct ds_conversion *c, const struct ds_draft_kind *kind, struct ds_model *target, struct ds_error *err) {
    const bool speculators = kind->dialect == DS_DIALECT_SPECULATORS, gguf = kind->dialect == DS_DIALECT_GGUF;
    const struct ds_naming layers = {.ckpt = c->source, .gguf_arch = c->arch, .hf_keys = speculators ? "transformer_layer_config." : NULL};
    const struct ds_naming own = {.ckpt = c->source, .gguf_arch = c->arch};
    char key[DS_KEY_MAX];
    int64_t hidden, count;
    *target = (struct ds_model){0};
    DS_TRY(read_vocabulary(c, kind, &target->config.vocabulary, err));
    DS_TRY(ds_ckpt_int(c->source, ds_naming_key(&layers, "hidden_size", "embedding_length", key), 1, 1 << 20, &hidden, err));
    DS_TRY(ds_ckpt_int_or(c->source, ds_naming_key(&own, "target_hidden_size", "target_hidden_size", key), 1, 1 << 20, hidden, &hidden, err));
    DS_TRY(ds_ckpt_int_or(c->source, "num_target_layers", 1, MOST_LAYERS, MOST_LAYERS, &count, err));
    target->config.hidden = (uint32_t)hidden;
    target->config.layers = (uint32_t)count;
    if (gguf || !speculators || !kind->arch->steps || count != MOST_LAYERS || ds_ckpt_value(c->source, "eagle_aux_hidden_state_layer_ids")) return DS_OK;
    return ds_fail(err, DS_ERROR_FORMAT, "%s: eagle_aux_hidden_state_layer_ids is missing; which layers are meant depends on the target: name it (--target)",
                   ds_ckpt_path(c->source));
}

/* The drafter as its loader understands it; without a `target`, as one for the target that its file describes. */
static ds_status open_drafter(struct ds_conversion *c, struct ds_error *err) {
    struct ds_draft_kind kind;
    DS_TRY(ds_draft_recognise(c->source, &kind, err));
    c->arch = kind.arch->steps ? "eagle3" : "dflash";
    struct ds_model described;
    if (c->target) DS_TRY(ds_model_open(c->target, &c->model, err));
    else DS_TRY(describe_target(c, &kind, &described, err));
    DS_TRY(ds_draft_open(c->source, c->target ? c->model : &described, &c->draft, err));
    c->config = &c->draft->config;
    return DS_OK;
}

/* --- tables that are the target's --- */

static bool same_piece(const struct ds_ckpt *ckpt_a, const struct ds_ckpt_tensor *a, const struct ds_ckpt *ckpt_b, const struct ds_ckpt_tensor *b,
                       uint64_t begin, uint64_t bytes) {
    const bool same = memcmp(a->data + begin, b->data + begin, (size_t)bytes) == 0;
    ds_ckpt_release_part(ckpt_a, a, begin, bytes);
    ds_ckpt_release_part(ckpt_b, b, begin, bytes);
    return same;
}

/* The same weights, whatever the files call them. Tables have gigabytes: they are compared piece by piece. */
static bool same_tensor(const struct ds_ckpt *ckpt_a, const struct ds_ckpt_tensor *a, const struct ds_ckpt *ckpt_b, const struct ds_ckpt_tensor *b) {
    if (!a || !b || a->type != b->type || a->bytes != b->bytes || a->dims != b->dims || memcmp(a->shape, b->shape, sizeof a->shape) != 0) return false;
    for (uint64_t begin = 0; begin < a->bytes; begin += COMPARED_BYTES)
        if (!same_piece(ckpt_a, a, ckpt_b, b, begin, DS_MIN(a->bytes - begin, (uint64_t)COMPARED_BYTES))) return false;
    return true;
}

static const struct ds_ckpt_tensor *find_own(const struct ds_conversion *c, const char *hf, const char *gguf) {
    return ds_ckpt_find(c->source, ds_convert_from_gguf(c) ? gguf : hf);
}

static const struct ds_ckpt_tensor *find_theirs(const struct ds_conversion *c, bool head) {
    const struct ds_naming naming = ds_decoder_naming(c->model), beside = ds_decoder_naming_beside(c->model);
    if (head && !c->model->config.tied) return ds_naming_find(&beside, "lm_head.weight", "output.weight", 0);
    return ds_naming_find(&naming, "embed_tokens.weight", "token_embd.weight", 0);
}

/* Whether the drafter's table is the target's, so that the drafter's file can do without. */
static bool is_shared(const struct ds_conversion *c, const struct ds_ckpt_tensor *own, bool head) {
    if (head && c->draft->vocabulary_map) return false; /* no target has one */
    if (c->params->drop_embeddings) return true;
    if (!c->target) return false;
    const bool same = same_tensor(c->source, own, c->target, find_theirs(c, head));
    if (!same) ds_logf(&c->log, DS_LOG_INFO, "%s is not the target's and is kept (--no-embeddings leaves it out all the same)", own->name);
    return same;
}

static ds_status add_table(struct ds_conversion *c, const char *hf, const char *gguf, bool head, struct ds_error *err) {
    const struct ds_ckpt_tensor *own = find_own(c, hf, gguf);
    const bool folder = c->layout != DS_LAYOUT_GGUF;
    if (own) return !folder && is_shared(c, own, head) ? DS_OK : ds_convert_add(c, c->source, own, gguf, hf, NULL, err);
    if (!folder) return DS_OK;
    if (!c->target)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s: there is no %s in this file and a folder needs one: name the target that has it (--target)",
                       ds_ckpt_path(c->source), hf);
    const struct ds_ckpt_tensor *theirs = find_theirs(c, head);
    if (!theirs) return ds_fail(err, DS_ERROR_FORMAT, "%s: there is no embedding or head that the drafter could use", ds_ckpt_path(c->target));
    return ds_convert_add(c, c->target, theirs, gguf, hf, NULL, err);
}

/* --- the rest --- */

/* Which tokens the rows of a reduced head are: ids in GGUF, offsets in a folder. */
static ds_status add_map(struct ds_conversion *c, struct ds_error *err) {
    const struct ds_draft_model *draft = c->draft;
    if (!draft->vocabulary_map) return DS_OK;
    int64_t *map = ds_arena_array(&c->arena, draft->draft_vocabulary, sizeof *map);
    if (!map) return ds_fail_memory(err, draft->draft_vocabulary * sizeof *map, "a drafter's vocabulary");
    for (uint32_t i = 0; i < draft->draft_vocabulary; i++) map[i] = draft->vocabulary_map[i] - (c->layout == DS_LAYOUT_GGUF ? 0 : (int64_t)i);
    return ds_convert_add_values(c, "d2t", DS_TYPE_I64, draft->draft_vocabulary, map, err);
}

/* Writers of GGUF drop the one row of a matrix [1, n]; folders have it. */
static ds_status add_confidence(struct ds_conversion *c, struct ds_error *err) {
    const struct ds_ckpt_tensor *weight = find_own(c, "confidence_head.proj.weight", "conf_proj.weight");
    if (!weight) return DS_OK;
    struct ds_plan_item *item;
    DS_TRY(ds_convert_add(c, c->source, weight, "conf_proj.weight", "confidence_head.proj.weight", &item, err));
    const uint64_t cols = weight->shape[weight->dims ? weight->dims - 1 : 0];
    item->dims = 2;
    memcpy(item->shape, (uint64_t[]){1, cols, 1, 1}, sizeof item->shape);
    if (!c->draft->confidence_with_markov && c->layout == DS_LAYOUT_GGUF)
        ds_logf(&c->log, DS_LOG_WARNING, "the confidence head has no Markov features: dspark tells that by its shape, other runtimes may refuse it");
    return DS_OK;
}

/* Eagle3's norm of the taps has two names in GGUF, the other one being that of older files. */
static ds_status add_ends(struct ds_conversion *c, struct ds_error *err) {
    const bool steps = c->draft->arch->steps;
    const struct ds_name_rule rules[] = {
        {"fc.weight", "fc.weight", DS_RULE_PLAIN},
        {steps ? "input_norm.weight" : "hidden_norm.weight", "enc.output_norm.weight", DS_RULE_NORM},
        {"norm.weight", "output_norm.weight", DS_RULE_NORM},
        {"markov_head.markov_w1.weight", "markov_w1.weight", DS_RULE_PLAIN},
        {"markov_head.markov_w2.weight", "markov_w2.weight", DS_RULE_PLAIN},
        {"markov_head.gate_proj.weight", "markov_gate.weight", DS_RULE_PLAIN},
        {"markov_head.gate_proj.bias", "markov_gate.bias", DS_RULE_PLAIN},
        {"markov_head.joint_proj.weight", "markov_joint.weight", DS_RULE_PLAIN},
        {"markov_head.joint_proj.bias", "markov_joint.bias", DS_RULE_PLAIN},
        {"confidence_head.proj.bias", "conf_proj.bias", DS_RULE_PLAIN},
    };
    for (size_t i = 0; i < DS_COUNT(rules); i++) {
        const struct ds_ckpt_tensor *tensor = find_own(c, rules[i].hf, rules[i].gguf);
        if (tensor) DS_TRY(ds_convert_add(c, c->source, tensor, rules[i].gguf, rules[i].hf, NULL, err));
    }
    const struct ds_ckpt_tensor *older = steps && ds_convert_from_gguf(c) ? ds_ckpt_find(c->source, "enc.input_norm.weight") : NULL;
    if (older) DS_TRY(ds_convert_add(c, c->source, older, older->name, "input_norm.weight", NULL, err));
    return add_confidence(c, err);
}

/* Rows of q and k are halves of pairs but in GGUF's `eagle3`, whose norms of heads go the same way. */
static void reorder(const struct ds_conversion *c, const struct ds_name_rule *rule, struct ds_plan_item *item) {
    const bool gguf_in = ds_convert_from_gguf(c), gguf_out = c->layout == DS_LAYOUT_GGUF;
    const bool of_heads = rule->kind == DS_RULE_ROTATED || strstr(rule->hf, "self_attn.q_norm") || strstr(rule->hf, "self_attn.k_norm");
    if (!of_heads || !c->draft->arch->steps || c->draft->gemma || gguf_in == gguf_out) return;
    item->order = gguf_out ? DS_ROWS_PAIRED : DS_ROWS_HALVED;
    item->head_rows = c->config->head_dim;
}

static ds_status add_layers(struct ds_conversion *c, struct ds_error *err) {
    const struct ds_naming naming = {.ckpt = c->source, .hf_prefix = "", .gguf_arch = c->arch};
    for (uint32_t layer = 0; layer < c->config->layers; layer++) {
        for (const struct ds_name_rule *rule = ds_convert_layer_rules(c->draft->gemma); rule->hf; rule++) {
            const struct ds_ckpt_tensor *tensor = ds_naming_find(&naming, rule->hf, rule->gguf, layer);
            if (!tensor) continue;
            char name[64], hf[96];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            snprintf(name, sizeof name, rule->gguf, layer);
            snprintf(hf, sizeof hf, rule->hf, layer);
#pragma GCC diagnostic pop
            struct ds_plan_item *item;
            DS_TRY(ds_convert_add(c, c->source, tensor, name, hf, &item, err));
            reorder(c, rule, item);
        }
    }
    return DS_OK;
}

/* A file's own factors stay what they are in GGUF; layout_config.c says them in a folder. */
static ds_status add_factors(struct ds_conversion *c, struct ds_error *err) {
    const struct ds_ckpt_tensor *factors = ds_ckpt_find(c->source, "rope_freqs.weight");
    if (c->layout != DS_LAYOUT_GGUF) return DS_OK;
    if (!ds_convert_from_gguf(c)) return ds_convert_rope_factors(c, err);
    return factors ? ds_convert_add(c, c->source, factors, factors->name, factors->name, NULL, err) : DS_OK;
}

/* --- complete? --- */

static bool is_table(const char *name) {
    static const char *const tables[] = {"embed_tokens.weight", "lm_head.weight", "token_embd.weight", "output.weight"};
    for (size_t i = 0; i < DS_COUNT(tables); i++)
        if (strcmp(name, tables[i]) == 0) return true;
    return false;
}

/* A tensor that is not understood would change what is drafted, if it were left out. */
static ds_status check_complete(const struct ds_conversion *c, struct ds_error *err) {
    for (size_t i = 0, used; i < ds_ckpt_tensor_count(c->source); i++) {
        const struct ds_ckpt_tensor *tensor = ds_ckpt_tensor_at(c->source, i);
        for (used = 0; used < c->n_items && c->items[used].source != tensor; used++) continue;
        if (used < c->n_items || ds_draft_is_spare(tensor->name) || is_table(tensor->name)) continue;
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor '%s' is not part of the %s drafters known here; leaving it out would change what is drafted",
                       ds_ckpt_path(c->source), ds_quote_name(tensor->name).text, c->draft->arch->name);
    }
    return DS_OK;
}

/* What loading checks, without reading a weight. */
static ds_status check_loadable(struct ds_conversion *c, struct ds_error *err) {
    static const struct ds_model described;
    struct ds_device *device;
    struct ds_loader *loader = NULL;
    DS_TRY(ds_device_create("ref", &(struct ds_device_params){.threads = 1, .log = c->log}, &device, err));
    ds_status status = ds_loader_create(device, true, &loader, err);
    if (status == DS_OK) status = ds_draft_load(c->draft, c->target ? c->model : &described, loader, 1, err);
    ds_loader_destroy(loader);
    ds_device_destroy(device);
    return status;
}

ds_status ds_convert_plan_drafter(struct ds_conversion *c, struct ds_error *err) {
    DS_TRY(open_drafter(c, err));
    DS_TRY(check_loadable(c, err));
    DS_TRY(add_table(c, "embed_tokens.weight", "token_embd.weight", false, err));
    DS_TRY(add_table(c, "lm_head.weight", "output.weight", true, err));
    DS_TRY(add_map(c, err));
    DS_TRY(add_ends(c, err));
    DS_TRY(add_layers(c, err));
    DS_TRY(add_factors(c, err));
    return check_complete(c, err);
}
