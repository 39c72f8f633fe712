#include "draft/dialect.h"

#include "base/quote.h"

#include <string.h>

static bool is_gguf(const struct ds_ckpt *ckpt) { return ds_ckpt_get_format(ckpt) == DS_CKPT_GGUF; }

/* --- what it is --- */

static ds_status not_a_drafter(const struct ds_ckpt *ckpt, struct ds_error *err) {
    return ds_fail(err, DS_ERROR_UNSUPPORTED,
                   "%s is not a drafter this version runs; it runs DSpark, DFlash and Eagle3: folders of DeepSpec (architectures [\"Qwen3DSparkModel\"], "
                   "[\"Qwen3Eagle3Model\"] and Gemma 4's), of DFlash ([\"DFlashDraftModel\"]) and of speculators (speculators_model_type), and GGUF files with "
                   "general.architecture 'dflash' or 'eagle3'",
                   ds_ckpt_path(ckpt));
}

/* Files of converters that came before GGUF's `dflash` was agreed on: their keys and tap numbers were never fixed. */
static ds_status older_dialect(const struct ds_ckpt *ckpt, const char *name, struct ds_error *err) {
    return ds_fail(err, DS_ERROR_UNSUPPORTED,
                   "%s: general.architecture is '%s', an older dialect whose keys and tap numbers differ between files; expected 'dflash' or 'eagle3'. "
                   "Convert the original folder (config.json and *.safetensors) anew: dspark convert FOLDER FILE.gguf --type bf16",
                   ds_ckpt_path(ckpt), name);
}

/* GGUF has one architecture for layers of Qwen3's kind and Gemma 4's: the activation tells them apart. */
static ds_status read_activation(const struct ds_ckpt *ckpt, const char *arch, bool *gemma, struct ds_error *err) {
    const struct ds_naming naming = {.ckpt = ckpt, .gguf_arch = arch};
    char key[DS_KEY_MAX];
    const char *name;
    DS_TRY(ds_ckpt_string_or(ckpt, ds_naming_key(&naming, "", "hidden_activation", key), "silu", &name, err));
    *gemma = strcmp(name, "gelu_pytorch_tanh") == 0;
    if (*gemma || strcmp(name, "silu") == 0) return DS_OK;
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: %s is '%s'; expected 'silu' (Qwen3's layers) or 'gelu_pytorch_tanh' (Gemma 4's)", ds_ckpt_path(ckpt), key,
                   ds_quote_name(name).text);
}

static ds_status recognise_gguf(const struct ds_ckpt *ckpt, struct ds_draft_kind *kind, struct ds_error *err) {
    const struct ds_draft_arch **const arch = &kind->arch;
    const char *name;
    DS_TRY(ds_ckpt_string(ckpt, "general.architecture", &name, err));
    if (strcmp(name, "dspark") == 0 || strcmp(name, "dflash-draft") == 0) return older_dialect(ckpt, name, err);
    if (strcmp(name, "dflash") == 0) *arch = ds_ckpt_find(ckpt, "markov_w1.weight") ? &ds_draft_dspark : &ds_draft_dflash;
    else if (strcmp(name, "eagle3") == 0) *arch = &ds_draft_eagle3;
    else return not_a_drafter(ckpt, err);
    return read_activation(ckpt, name, &kind->gemma, err);
}

static ds_status recognise_speculators(const struct ds_ckpt *ckpt, const char *type, const struct ds_draft_arch **arch, struct ds_error *err) {
    if (strcmp(type, "dspark") == 0) *arch = &ds_draft_dspark;
    else if (strcmp(type, "dflash") == 0) *arch = &ds_draft_dflash;
    else if (strcmp(type, "eagle3") == 0) *arch = &ds_draft_eagle3;
    else
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: speculators_model_type is '%s'; expected 'dspark', 'dflash' or 'eagle3'", ds_ckpt_path(ckpt),
                       ds_quote_name(type).text);
    return DS_OK;
}

static bool text_is(const struct ds_text *text, const char *word) {
    return text->length == strlen(word) && memcmp(text->data, word, text->length) == 0;
}

static ds_status recognise_folder(const struct ds_ckpt *ckpt, struct ds_draft_kind *kind, struct ds_error *err) {
    static const struct {
        const char *name;
        const struct ds_draft_arch *arch;
        ds_dialect dialect;
        bool gemma;
    } known[] = {{"Qwen3DSparkModel", &ds_draft_dspark, DS_DIALECT_DEEPSPEC},
                 {"Qwen3Eagle3Model", &ds_draft_eagle3, DS_DIALECT_DEEPSPEC},
                 {"Eagle3DraftModel", &ds_draft_eagle3, DS_DIALECT_DEEPSPEC},
                 {"Gemma4DSparkModel", &ds_draft_dspark, DS_DIALECT_DEEPSPEC, true},
                 {"Gemma4Eagle3Model", &ds_draft_eagle3, DS_DIALECT_DEEPSPEC, true},
                 {"DFlashDraftModel", &ds_draft_dflash, DS_DIALECT_DFLASH}};
    const struct ds_value *value = ds_ckpt_value(ckpt, "architectures");
    if (!value || value->kind != DS_VALUE_ARRAY || value->element != DS_VALUE_STRING || value->length < 1) return not_a_drafter(ckpt, err);
    for (size_t i = 0; i < DS_COUNT(known); i++) {
        if (!text_is(value->array, known[i].name)) continue;
        *kind = (struct ds_draft_kind){known[i].arch, known[i].dialect, known[i].gemma};
        return DS_OK;
    }
    return not_a_drafter(ckpt, err);
}

ds_status ds_draft_recognise(const struct ds_ckpt *ckpt, struct ds_draft_kind *kind, struct ds_error *err) {
    *kind = (struct ds_draft_kind){.dialect = DS_DIALECT_GGUF};
    if (is_gguf(ckpt)) return recognise_gguf(ckpt, kind, err);
    const char *type;
    DS_TRY(ds_ckpt_string_or(ckpt, "speculators_model_type", "", &type, err));
    if (!*type) return recognise_folder(ckpt, kind, err);
    kind->dialect = DS_DIALECT_SPECULATORS;
    return recognise_speculators(ckpt, type, &kind->arch, err);
}

/* --- names --- */

struct ds_naming ds_draft_naming_own(const struct ds_draft_model *draft) {
    return (struct ds_naming){.ckpt = draft->ckpt, .hf_prefix = "", .gguf_arch = draft->arch->steps ? "eagle3" : "dflash"};
}

struct ds_naming ds_draft_naming(const struct ds_draft_model *draft) {
    struct ds_naming naming = ds_draft_naming_own(draft);
    if (draft->dialect == DS_DIALECT_SPECULATORS) naming.hf_keys = "transformer_layer_config.";
    return naming;
}

/* --- what must fit the target --- */

static ds_status require_equal(const struct ds_draft_model *draft, const char *key, int64_t found, const char *what, int64_t expected,
                               struct ds_error *err) {
    if (found == expected) return DS_OK;
    return ds_fail(err, DS_ERROR_MISMATCH, "%s: %s is %lld, %s %lld; this drafter was made for another target", ds_ckpt_path(draft->ckpt), key,
                   (long long)found, what, (long long)expected);
}

/* Tokens of both vocabularies as their files list them. Special tokens may be renamed by who tunes a model. */
static ds_status check_tokens(const struct ds_draft_model *draft, const struct ds_model *target, struct ds_error *err) {
    enum { NORMAL = 1 };
    static const char tokens_key[] = "tokenizer.ggml.tokens", types_key[] = "tokenizer.ggml.token_type";
    const struct ds_value *ours = ds_ckpt_value(draft->ckpt, tokens_key), *theirs = target->ckpt ? ds_ckpt_value(target->ckpt, tokens_key) : NULL;
    if (!ours || ours->kind != DS_VALUE_ARRAY || ours->element != DS_VALUE_STRING) return DS_OK;
    if (ours->length > target->config.vocabulary) return require_equal(draft, "the number of tokenizer.ggml.tokens", (int64_t)ours->length, "the target's vocabulary has", target->config.vocabulary, err);
    if (!theirs || theirs->kind != DS_VALUE_ARRAY || theirs->element != DS_VALUE_STRING) return DS_OK;
    const struct ds_value *types = ds_ckpt_value(target->ckpt, types_key);
    const bool typed = types && types->kind == DS_VALUE_ARRAY && types->element == DS_VALUE_INT;
    const struct ds_text *a = ours->array, *b = theirs->array;
    for (size_t i = 0; i < ours->length && i < theirs->length; i++) {
        if (typed && i < types->length && ((const int64_t *)types->array)[i] != NORMAL) continue;
        if (a[i].length == b[i].length && memcmp(a[i].data, b[i].data, a[i].length) == 0) continue;
        return ds_fail(err, DS_ERROR_MISMATCH, "%s: token %zu of %s is '%s', the target's is '%s'; this drafter was made for another tokenizer",
                       ds_ckpt_path(draft->ckpt), i, tokens_key, ds_quote(a[i].data, a[i].length).text, ds_quote(b[i].data, b[i].length).text);
    }
    return DS_OK;
}

ds_status ds_draft_check_target(struct ds_draft_model *draft, const struct ds_model *target, bool own_width, struct ds_error *err) {
    const struct ds_naming naming = ds_draft_naming(draft), own = ds_draft_naming_own(draft);
    char key[DS_KEY_MAX];
    int64_t value;
    if (draft->config.hidden != target->config.hidden && !own_width)
        return ds_fail(err, DS_ERROR_MISMATCH, "%s: the drafter's hidden size is %u, the target's %u; this drafter was made for another target",
                       ds_ckpt_path(draft->ckpt), draft->config.hidden, target->config.hidden);
    draft->config.vocabulary = target->config.vocabulary;
    draft->target_hidden = target->config.hidden;
    DS_TRY(ds_ckpt_int_or(draft->ckpt, ds_naming_key(&own, "target_hidden_size", "target_hidden_size", key), 1, INT32_MAX, target->config.hidden, &value, err));
    DS_TRY(require_equal(draft, key, value, "the target's hidden size", target->config.hidden, err));
    if (draft->dialect == DS_DIALECT_GGUF) return check_tokens(draft, target, err);
    DS_TRY(ds_ckpt_int(draft->ckpt, ds_naming_key(&naming, "vocab_size", "", key), 1, INT32_MAX, &value, err));
    DS_TRY(require_equal(draft, key, value, "the target's vocabulary has", target->config.vocabulary, err));
    DS_TRY(ds_ckpt_int_or(draft->ckpt, "num_target_layers", 1, INT32_MAX, target->config.layers, &value, err));
    if (value == target->config.layers) return DS_OK;
    return ds_fail(err, DS_ERROR_MISMATCH, "%s: num_target_layers is %lld, the target has %u layers; this drafter was made for another target",
                   ds_ckpt_path(draft->ckpt), (long long)value, target->config.layers);
}

/* --- taps --- */

/* speculators and GGUF count the inputs of layers: one higher than outputs. */
static int64_t tap_shift(ds_dialect dialect) { return dialect == DS_DIALECT_SPECULATORS || dialect == DS_DIALECT_GGUF ? 1 : 0; }

/* The last layer's output is stored normalised by the reference, so it cannot be tapped. */
static ds_status set_tap(struct ds_draft_model *draft, const struct ds_model *target, const char *key, int64_t stored, struct ds_error *err) {
    const int64_t shift = tap_shift(draft->dialect), layer = stored - shift, most = (int64_t)target->config.layers - 2;
    if (layer > most)
        return ds_fail(err, DS_ERROR_MISMATCH, "%s: %s taps layer %lld; the target has %u layers and its last cannot be tapped: expected at most %lld",
                       ds_ckpt_path(draft->ckpt), key, (long long)stored, target->config.layers, (long long)(most + shift));
    draft->tap_layers[draft->n_taps++] = (int32_t)layer;
    return DS_OK;
}

ds_status ds_draft_read_taps(struct ds_draft_model *draft, const struct ds_model *target, const char *hf, const int32_t *fallback,
                             struct ds_error *err) {
    enum { FALLBACK_TAPS = 3 };
    const struct ds_naming own = ds_draft_naming_own(draft);
    const int64_t shift = tap_shift(draft->dialect);
    char key[DS_KEY_MAX];
    ds_naming_key(&own, hf, "target_layers", key);
    const struct ds_value *value = ds_ckpt_value(draft->ckpt, key);
    if (fallback && (!value || value->kind == DS_VALUE_NULL)) {
        for (size_t i = 0; i < FALLBACK_TAPS; i++) DS_TRY(set_tap(draft, target, key, fallback[i] + shift, err));
        return DS_OK;
    }
    const int64_t *taps;
    size_t count;
    DS_TRY(ds_ckpt_ints(draft->ckpt, key, 1, DS_MAX_TAPS, -1 + shift, INT32_MAX, &taps, &count, err));
    for (size_t i = 0; i < count; i++) DS_TRY(set_tap(draft, target, key, taps[i], err));
    return DS_OK;
}
