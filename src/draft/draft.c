#include "draft/dialect.h"

#include "base/quote.h"
#include "model/gemma.h"

#include <stdlib.h>
#include <string.h>

ds_status ds_draft_open(const struct ds_ckpt *ckpt, const struct ds_model *target, struct ds_draft_model **out, struct ds_error *err) {
    *out = NULL;
    struct ds_draft_kind kind;
    DS_TRY(ds_draft_recognise(ckpt, &kind, err));
    struct ds_draft_model *draft = calloc(1, sizeof *draft);
    if (!draft) return ds_fail_memory(err, sizeof *draft, "the drafter");
    draft->arch = kind.arch;
    draft->dialect = kind.dialect;
    draft->gemma = kind.gemma;
    draft->ckpt = ckpt;
    ds_status status = draft->arch->configure(draft, target, err);
    if (status == DS_OK) {
        if (draft->gemma) draft->gemma_layers = calloc(draft->config.layers, sizeof *draft->gemma_layers);
        else draft->layers = calloc(draft->config.layers, sizeof *draft->layers);
        if (!draft->layers && !draft->gemma_layers) status = ds_fail_memory(err, draft->config.layers, "the drafter's layers");
    }
    if (status != DS_OK) {
        ds_draft_close(draft);
        return status;
    }
    *out = draft;
    return DS_OK;
}

void ds_draft_close(struct ds_draft_model *draft) {
    if (!draft) return;
    free(draft->vocabulary_map);
    free(draft->shortlist);
    free(draft->gemma_layers);
    free(draft->layers);
    free(draft);
}

ds_status ds_draft_restrict(struct ds_draft_model *draft, uint32_t top, struct ds_error *err) {
    if (top && draft->markov == DS_MARKOV_NONE)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%s: draft_top_k is %u, but this %s drafter has no sequential (Markov) head to restrict; expected 0",
                       ds_ckpt_path(draft->ckpt), top, draft->arch->name);
    draft->markov_top = top < draft->draft_vocabulary ? top : 0;
    return DS_OK;
}

bool ds_draft_is_spare(const char *name) {
    static const char *const names[] = {"d2t", "t2d", "rope_freqs.weight", "verifier_norm.weight", "verifier_lm_head.weight"};
    static const char inv_freq[] = "rotary_emb.inv_freq";
    for (size_t i = 0; i < DS_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0) return true;
    const size_t n = strlen(name), m = sizeof inv_freq - 1;
    return n >= m && strcmp(name + n - m, inv_freq) == 0;
}

/* A tensor without a part in it says that the drafter is not what its configuration says: another head, a bias, a norm. */
static ds_status refuse_unused(const struct ds_draft_model *draft, struct ds_loader *loader, struct ds_error *err) {
    const struct ds_ckpt_tensor *tensor;
    DS_TRY(ds_loader_find_unused(&loader, 1, draft->ckpt, ds_draft_is_spare, &tensor, err));
    if (!tensor) return DS_OK;
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: tensor '%s' is not part of a %s drafter of this configuration; leaving it out would change what is drafted",
                   ds_ckpt_path(draft->ckpt), ds_quote_name(tensor->name).text, draft->arch->name);
}

ds_status ds_draft_load(struct ds_draft_model *draft, const struct ds_model *target, struct ds_loader *loader, uint32_t positions,
                        struct ds_error *err) {
    draft->rope_positions = positions;
    DS_TRY(ds_rope_load_from(draft->ckpt, &draft->config.rope, positions, loader, &draft->rope_cos, &draft->rope_sin, err));
    DS_TRY(draft->arch->load(draft, target, loader, err));
    return refuse_unused(draft, loader, err);
}
