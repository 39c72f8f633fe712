/* What is in the source and what becomes of it. Every tensor has a place in the output or a reason to be left out. */
#include "base/quote.h"
#include "ckpt/quantize.h"
#include "convert/convert_internal.h"

#include <stdio.h>
#include <string.h>

enum { COMPARED_BYTES = 32 << 20 };

static bool is_gguf(const struct ds_ckpt *ckpt) { return ds_ckpt_get_format(ckpt) == DS_CKPT_GGUF; }

/* --- items --- */

static ds_status add_item(struct ds_conversion *c, const struct ds_ckpt *from, const struct ds_ckpt_tensor *source, const char *name, const char *hf,
                          struct ds_error *err) {
    if (c->n_items == c->capacity) return ds_fail(err, DS_ERROR_INTERNAL, "the plan has no room for %s", name);
    struct ds_plan_item *item = &c->items[c->n_items++];
    *item = (struct ds_plan_item){.source = source, .from = from, .dims = source->dims};
    memcpy(item->shape, source->shape, sizeof item->shape);
    item->name = ds_arena_copy(&c->arena, name, strlen(name));
    item->hf = ds_arena_copy(&c->arena, hf, strlen(hf));
    return item->name && item->hf ? DS_OK : ds_fail_memory(err, strlen(name), "a tensor's name");
}

static bool has_item(const struct ds_conversion *c, const char *name) {
    for (size_t i = 0; i < c->n_items; i++)
        if (strcmp(c->items[i].name, name) == 0) return true;
    return false;
}

struct name_pair {
    const char *hf, *gguf;
    uint32_t rows, cols; /* as struct ds_layer_tensor */
    bool optional;
};

static ds_status add_named(struct ds_conversion *c, const struct name_pair *pair, const char *prefix, struct ds_error *err) {
    const struct ds_naming naming = {.ckpt = c->source, .hf_prefix = prefix, .gguf_arch = c->arch};
    if (pair->optional && !ds_naming_has(&naming, pair->hf, pair->gguf, 0)) return DS_OK;
    const struct ds_ckpt_tensor *tensor;
    const bool matrix = pair->rows != 0;
    const uint64_t shape[2] = {matrix ? pair->rows : pair->cols, pair->cols};
    /* Writers of GGUF drop the one row of a matrix [1, n]. */
    const struct ds_ckpt_tensor *flat = is_gguf(c->source) && pair->rows == 1 ? ds_ckpt_find(c->source, pair->gguf) : NULL;
    const bool dropped = flat && flat->dims == 1;
    DS_TRY(ds_naming_tensor(&naming, pair->hf, pair->gguf, 0, matrix && !dropped ? 2 : 1, dropped ? shape + 1 : shape, &tensor, err));
    DS_TRY(add_item(c, c->source, tensor, pair->gguf, pair->hf, err));
    struct ds_plan_item *item = &c->items[c->n_items - 1];
    item->dims = matrix ? 2 : 1;
    memcpy(item->shape, shape, item->dims * sizeof *shape);
    return DS_OK;
}

static ds_status add_layers(struct ds_conversion *c, const char *prefix, struct ds_error *err) {
    const struct ds_naming naming = {.ckpt = c->source, .hf_prefix = prefix, .gguf_arch = c->arch};
    struct ds_layer_tensor tensors[DS_LAYER_TENSORS];
    const uint32_t n = ds_layer_tensors(&c->config, tensors);
    for (uint32_t layer = 0; layer < c->config.layers; layer++) {
        for (uint32_t i = 0; i < n; i++) {
            const struct ds_layer_tensor *t = &tensors[i];
            const uint64_t shape[2] = {t->rows ? t->rows : t->cols, t->cols};
            const struct ds_ckpt_tensor *tensor;
            DS_TRY(ds_naming_tensor(&naming, t->hf, t->gguf, layer, t->rows ? 2 : 1, shape, &tensor, err));
            char name[64], hf[96];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            snprintf(name, sizeof name, t->gguf, layer);
            snprintf(hf, sizeof hf, t->hf, layer);
#pragma GCC diagnostic pop
            DS_TRY(add_item(c, c->source, tensor, name, hf, err));
        }
    }
    return DS_OK;
}

/* --- what is left out --- */

/* A piece of a tensor's bytes, for the release of pages that have been read. */
static void release_piece(const struct ds_ckpt *ckpt, const struct ds_ckpt_tensor *tensor, uint64_t begin, uint64_t bytes) {
    struct ds_ckpt_tensor piece = *tensor;
    piece.offset += begin;
    piece.bytes = bytes;
    ds_ckpt_release(ckpt, &piece);
}

/* The same weights, whatever the files call them. Tables have gigabytes: they are compared piece by piece. */
static bool same_tensor(const struct ds_ckpt *ckpt_a, const struct ds_ckpt_tensor *a, const struct ds_ckpt *ckpt_b, const struct ds_ckpt_tensor *b) {
    if (!a || !b || a->type != b->type || a->bytes != b->bytes || a->dims != b->dims || memcmp(a->shape, b->shape, sizeof a->shape) != 0) return false;
    bool same = true;
    for (uint64_t begin = 0; same && begin < a->bytes; begin += COMPARED_BYTES) {
        const uint64_t bytes = DS_MIN(a->bytes - begin, (uint64_t)COMPARED_BYTES);
        same = memcmp(a->data + begin, b->data + begin, (size_t)bytes) == 0;
        release_piece(ckpt_a, a, begin, bytes);
        release_piece(ckpt_b, b, begin, bytes);
    }
    return same;
}

/* Whether the drafter's table `own` is the target's, so that the drafter's file can do without. */
static bool is_shared(const struct ds_conversion *c, const char *own, bool head) {
    if (c->params->drop_embeddings) return true;
    if (!c->target) return false;
    const struct ds_ckpt_tensor *mine = ds_ckpt_find(c->source, own);
    const bool gguf = is_gguf(c->target);
    const struct ds_ckpt_tensor *theirs = ds_ckpt_find(c->target, gguf ? "output.weight" : "lm_head.weight");
    if (!head || !theirs || (!gguf && c->tied)) theirs = ds_ckpt_find(c->target, gguf ? "token_embd.weight" : "model.embed_tokens.weight");
    const bool same = same_tensor(c->source, mine, c->target, theirs);
    if (mine && !same)
        ds_logf(&c->log, DS_LOG_INFO, "%s is not the target's and is kept (--no-embeddings leaves it out all the same)", own);
    return same;
}

static bool left_out_name(const struct ds_conversion *c, const char *name) {
    const size_t n = strlen(name);
    static const char inv_freq[] = "rotary_emb.inv_freq"; /* computed again from the configuration */
    if (n >= sizeof inv_freq - 1 && strcmp(name + n - (sizeof inv_freq - 1), inv_freq) == 0) return true;
    static const char *const tables[] = {"embed_tokens.weight", "lm_head.weight", "token_embd.weight", "output.weight"};
    for (size_t i = 0; c->is_drafter && i < DS_COUNT(tables); i++)
        if (strcmp(name, tables[i]) == 0) return true;
    return !c->is_drafter && c->tied && strcmp(name, "lm_head.weight") == 0;
}

/* A tensor that is not understood would change what the model says, if it were left out. */
static ds_status check_complete(const struct ds_conversion *c, struct ds_error *err) {
    const char *why;
    if (ds_ckpt_skipped_count(c->source) > 0) {
        const struct ds_ckpt_tensor *tensor = ds_ckpt_skipped_at(c->source, 0, &why);
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor '%s' is %s, which cannot be converted", ds_ckpt_path(c->source),
                       ds_quote_name(tensor->name).text, why);
    }
    for (size_t i = 0, used; i < ds_ckpt_tensor_count(c->source); i++) {
        const struct ds_ckpt_tensor *tensor = ds_ckpt_tensor_at(c->source, i);
        for (used = 0; used < c->n_items && c->items[used].source != tensor; used++) continue;
        if (used < c->n_items || left_out_name(c, tensor->name)) continue;
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor '%s' is not part of the %s models known here; leaving it out would change the model",
                       ds_ckpt_path(c->source), ds_quote_name(tensor->name).text, c->is_drafter ? "DSpark" : c->arch);
    }
    return DS_OK;
}

/* --- the two kinds --- */

static ds_status plan_target(struct ds_conversion *c, struct ds_error *err) {
    struct ds_model *model;
    DS_TRY(ds_model_open(c->source, &model, err));
    c->arch = model->arch->name;
    c->config = model->config;
    c->tied = model->config.tied;
    ds_model_close(model);
    const uint32_t vocabulary = c->config.vocabulary, hidden = c->config.hidden;
    DS_TRY(add_named(c, &(struct name_pair){"embed_tokens.weight", "token_embd.weight", vocabulary, hidden, false}, "model.", err));
    DS_TRY(add_named(c, &(struct name_pair){"norm.weight", "output_norm.weight", 0, hidden, false}, "model.", err));
    if (!c->tied) DS_TRY(add_named(c, &(struct name_pair){"lm_head.weight", "output.weight", vocabulary, hidden, false}, "", err));
    DS_TRY(add_layers(c, "model.", err));
    return ds_convert_family(c, err);
}

/* Rows and columns of a drafter's matrices that its configuration does not state. Vocabulary: rows of its own tables, or its target's. */
static ds_status drafter_sizes(struct ds_conversion *c, struct ds_error *err) {
    const bool gguf = is_gguf(c->source);
    const struct ds_ckpt_tensor *fc = ds_ckpt_find(c->source, "fc.weight"), *table = ds_ckpt_find(c->source, gguf ? "token_embd.weight" : "embed_tokens.weight");
    const struct ds_ckpt_tensor *w1 = ds_ckpt_find(c->source, gguf ? "markov_w1.weight" : "markov_head.markov_w1.weight");
    if (w1) table = w1;
    int64_t vocabulary = table && table->dims == 2 && table->shape[0] <= INT32_MAX ? (int64_t)table->shape[0] : 0;
    if (!vocabulary && !gguf) DS_TRY(ds_ckpt_int(c->source, "vocab_size", 1, INT32_MAX, &vocabulary, err));
    if (!vocabulary && !c->target_vocabulary)
        return ds_fail(err, DS_ERROR_FORMAT, "%s: the drafter has no table of its own that says how large the vocabulary is: name its target (--target)", ds_ckpt_path(c->source));
    c->config.vocabulary = vocabulary ? (uint32_t)vocabulary : c->target_vocabulary;
    c->rank = w1 && w1->dims == 2 && w1->shape[1] <= 1 << 16 ? (uint32_t)w1->shape[1] : 0;
    c->n_taps = fc && fc->dims == 2 && fc->shape[1] <= (uint64_t)DS_MAX_TAPS * c->config.hidden ? (uint32_t)(fc->shape[1] / c->config.hidden) : 1;
    return DS_OK;
}

/* Which heads there are: config.json says it, in GGUF a key and shapes do. */
static ds_status drafter_heads(struct ds_conversion *c, struct ds_error *err) {
    static const char *const known[] = {"vanilla", "gated", "rnn"};
    const bool gguf = is_gguf(c->source);
    const char *key = gguf ? "dspark.markov_head_type" : "markov_head_type";
    const struct ds_ckpt_tensor *confidence = ds_ckpt_find(c->source, gguf ? "conf_proj.weight" : "confidence_head.proj.weight");
    c->confidence_with_markov = c->rank && confidence && confidence->dims > 0 && confidence->shape[confidence->dims - 1] == (uint64_t)c->config.hidden + c->rank;
    if (c->rank == 0 && confidence)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: there is a confidence head but no Markov head (markov_rank 0), for which GGUF has no layout", ds_ckpt_path(c->source));
    if (confidence && !c->confidence_with_markov && c->layout == DS_LAYOUT_GGUF)
        ds_logf(&c->log, DS_LOG_WARNING, "the confidence head has no Markov features: dspark tells that by its shape, other runtimes may refuse it");
    if (c->rank == 0) return DS_OK;
    DS_TRY(ds_ckpt_string_or(c->source, key, "vanilla", &c->head_type, err));
    for (size_t i = 0; i < DS_COUNT(known); i++)
        if (strcmp(c->head_type, known[i]) == 0) return DS_OK;
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: %s is '%s'; expected 'vanilla', 'gated' or 'rnn'", ds_ckpt_path(c->source), key, ds_quote_name(c->head_type).text);
}

/* Embedding or head for a folder, which has copies of its own: the drafter's, or its target's. */
static ds_status add_table(struct ds_conversion *c, const char *hf, const char *gguf, bool head, struct ds_error *err) {
    const struct ds_naming own = {.ckpt = c->source, .hf_prefix = "", .gguf_arch = c->arch};
    const uint32_t vocabulary = c->config.vocabulary, hidden = c->config.hidden;
    if (ds_naming_has(&own, hf, gguf, 0)) return add_named(c, &(struct name_pair){hf, gguf, vocabulary, hidden, false}, "", err);
    if (!c->target)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s: there is no %s in this file and a folder needs one: name the target that has it (--target)", ds_ckpt_path(c->source), hf);
    const bool tied = head && c->tied;
    const char *name = is_gguf(c->target) ? (tied ? "token_embd.weight" : gguf) : head && !tied ? "lm_head.weight" : "model.embed_tokens.weight";
    const struct ds_ckpt_tensor *tensor;
    DS_TRY(ds_ckpt_require(c->target, name, 2, (uint64_t[]){vocabulary, hidden}, &tensor, err));
    return add_item(c, c->target, tensor, gguf, hf, err);
}

static ds_status add_tables(struct ds_conversion *c, struct ds_error *err) {
    const uint32_t vocabulary = c->config.vocabulary, hidden = c->config.hidden;
    const bool gguf = is_gguf(c->source);
    if (c->layout != DS_LAYOUT_GGUF) {
        DS_TRY(add_table(c, "embed_tokens.weight", "token_embd.weight", false, err));
        return add_table(c, "lm_head.weight", "output.weight", true, err);
    }
    if (!is_shared(c, gguf ? "token_embd.weight" : "embed_tokens.weight", false))
        DS_TRY(add_named(c, &(struct name_pair){"embed_tokens.weight", "token_embd.weight", vocabulary, hidden, true}, "", err));
    if (!is_shared(c, gguf ? "output.weight" : "lm_head.weight", true))
        DS_TRY(add_named(c, &(struct name_pair){"lm_head.weight", "output.weight", vocabulary, hidden, true}, "", err));
    return DS_OK;
}

static ds_status plan_drafter(struct ds_conversion *c, struct ds_error *err) {
    c->arch = "dflash";
    const struct ds_naming naming = {.ckpt = c->source, .hf_prefix = "", .gguf_arch = c->arch};
    DS_TRY(ds_config_read(&naming, &c->config, err));
    DS_TRY(drafter_sizes(c, err));
    DS_TRY(drafter_heads(c, err));
    const uint32_t vocabulary = c->config.vocabulary, hidden = c->config.hidden, rank = c->rank;
    const uint32_t confidence = hidden + (c->confidence_with_markov ? rank : 0);
    const bool gated = c->head_type && strcmp(c->head_type, "gated") == 0, rnn = c->head_type && strcmp(c->head_type, "rnn") == 0;
    const struct {
        bool present;
        struct name_pair pair;
    } all[] = {
        {true, {"fc.weight", "fc.weight", hidden, c->n_taps * hidden, false}},
        {true, {"hidden_norm.weight", "enc.output_norm.weight", 0, hidden, false}},
        {true, {"norm.weight", "output_norm.weight", 0, hidden, false}},
        {rank > 0, {"markov_head.markov_w1.weight", "markov_w1.weight", vocabulary, rank, false}},
        {rank > 0, {"markov_head.markov_w2.weight", "markov_w2.weight", vocabulary, rank, false}},
        {gated, {"markov_head.gate_proj.weight", "markov_gate.weight", rank, hidden + rank, false}},
        {gated, {"markov_head.gate_proj.bias", "markov_gate.bias", 0, rank, false}},
        {rnn, {"markov_head.joint_proj.weight", "markov_joint.weight", 3 * rank, 2 * rank + hidden, false}},
        {rnn, {"markov_head.joint_proj.bias", "markov_joint.bias", 0, 3 * rank, false}},
        {rank > 0, {"confidence_head.proj.weight", "conf_proj.weight", 1, confidence, true}},
        {rank > 0, {"confidence_head.proj.bias", "conf_proj.bias", 0, 1, true}},
    };
    DS_TRY(add_tables(c, err));
    for (size_t i = 0; i < DS_COUNT(all); i++)
        if (all[i].present) DS_TRY(add_named(c, &all[i].pair, "", err));
    return add_layers(c, "", err);
}

static bool names_architecture(const struct ds_ckpt *ckpt, const char *gguf, const char *hf) {
    const struct ds_value *value = ds_ckpt_value(ckpt, is_gguf(ckpt) ? "general.architecture" : "architectures");
    if (!value) return false;
    if (is_gguf(ckpt)) return value->kind == DS_VALUE_STRING && strcmp(value->string, gguf) == 0;
    if (value->kind != DS_VALUE_ARRAY || value->element != DS_VALUE_STRING || value->length < 1) return false;
    const struct ds_text *text = value->array;
    return text->length == strlen(hf) && memcmp(text->data, hf, text->length) == 0;
}

ds_status ds_convert_plan(struct ds_conversion *c, struct ds_error *err) {
    c->capacity = ds_ckpt_tensor_count(c->source) + 3; /* two tables of the target, or one of factors */
    c->items = ds_arena_array(&c->arena, c->capacity, sizeof *c->items);
    if (!c->items) return ds_fail_memory(err, c->capacity * sizeof *c->items, "the plan");
    c->is_drafter = names_architecture(c->source, "dflash", "Qwen3DSparkModel");
    if (!c->is_drafter && (c->params->target || c->params->drop_embeddings))
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s is not a drafter: a target to compare with, or leaving out embeddings, is for drafters",
                       ds_ckpt_path(c->source));
    if (c->target) {
        struct ds_model *model;
        DS_TRY(ds_model_open(c->target, &model, err));
        c->tied = model->config.tied;
        c->target_vocabulary = model->config.vocabulary;
        c->target_layers = model->config.layers;
        ds_model_close(model);
    }
    if (!c->is_drafter && c->layout != DS_LAYOUT_GGUF)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s is not a drafter: the layout '%s' is one of drafters", ds_ckpt_path(c->source), c->params->layout);
    DS_TRY(c->is_drafter ? plan_drafter(c, err) : plan_target(c, err));
    DS_TRY(check_complete(c, err));
    if (c->layout != DS_LAYOUT_GGUF) return ds_convert_layout_plan(c, err);
    const char *const head = has_item(c, "output.weight") || c->is_drafter ? "output.weight" : "token_embd.weight";
    for (size_t i = 0; i < c->n_items; i++) {
        struct ds_plan_item *item = &c->items[i];
        if (item->values) continue;
        item->type = ds_convert_type(c, item, strcmp(item->name, head) == 0);
        if (item->source->type == DS_TYPE_I32 || item->source->type == DS_TYPE_I64)
            return ds_fail(err, DS_ERROR_FORMAT, "%s: tensor '%s': expected floats, found %s", ds_ckpt_path(c->source),
                           ds_quote_name(item->source->name).text, ds_type_get(item->source->type)->name);
    }
    return DS_OK;
}
