#include "draft/draft.h"

#include <stdlib.h>

/* Every drafter: one file and one line. */
static const struct ds_draft_arch *const architectures[] = {&ds_draft_dspark};

ds_status ds_draft_open(const struct ds_ckpt *ckpt, const struct ds_model *target, struct ds_draft_model **out, struct ds_error *err) {
    *out = NULL;
    const struct ds_draft_arch *arch = NULL;
    for (size_t i = 0; i < DS_COUNT(architectures); i++)
        if (architectures[i]->recognise(ckpt)) arch = architectures[i];
    if (!arch)
        return ds_fail(err, DS_ERROR_UNSUPPORTED,
                       "%s is not a drafter this version runs; it runs DSpark (config.json with architectures [\"Qwen3DSparkModel\"], "
                       "or GGUF with general.architecture 'dflash' and a tensor markov_w1.weight)",
                       ds_ckpt_path(ckpt));
    struct ds_draft_model *draft = calloc(1, sizeof *draft);
    if (!draft) return ds_fail_memory(err, sizeof *draft, "the drafter");
    draft->arch = arch;
    draft->ckpt = ckpt;
    ds_status status = arch->configure(draft, target, err);
    if (status == DS_OK) {
        draft->layers = calloc(draft->config.layers, sizeof *draft->layers);
        if (!draft->layers) status = ds_fail_memory(err, draft->config.layers * sizeof *draft->layers, "the drafter's layers");
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
    free(draft->layers);
    free(draft);
}

ds_status ds_draft_load(struct ds_draft_model *draft, const struct ds_model *target, struct ds_loader *loader, uint32_t positions,
                        struct ds_error *err) {
    draft->rope_positions = positions;
    DS_TRY(ds_rope_load(&draft->config.rope, positions, loader, &draft->rope_cos, &draft->rope_sin, err));
    return draft->arch->load(draft, target, loader, err);
}
