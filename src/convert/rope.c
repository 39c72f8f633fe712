/*
 * Rope settings in GGUF. Base, linear scaling and YaRN are keys; Llama 3's scaling and the part of a head that Gemma 4 leaves alone are a tensor,
 * `rope_freqs.weight`: factors that frequencies are divided by.
 */
#include "convert/convert_internal.h"

#include <string.h>

static const char factors_name[] = "rope_freqs.weight";

static bool has_factors(const struct ds_rope_config *rope) { return rope->kind == DS_ROPE_LLAMA3 || rope->kind == DS_ROPE_PROPORTIONAL; }

/* Only for these do readers of GGUF look for the tensor. */
static bool takes_factors(const struct ds_conversion *c) {
    static const char *const archs[] = {"llama", "gemma4", "dflash", "eagle3"};
    for (size_t i = 0; i < DS_COUNT(archs); i++)
        if (strcmp(c->arch, archs[i]) == 0) return true;
    return false;
}

ds_status ds_convert_rope_factors(struct ds_conversion *c, struct ds_error *err) {
    const struct ds_rope_config *rope = &c->config->rope;
    if (!has_factors(rope) || !takes_factors(c)) return DS_OK;
    const uint32_t pairs = rope->n_rot / 2;
    struct ds_rope_config plain = *rope;
    plain.kind = DS_ROPE_NONE;
    float *scaled = ds_arena_array(&c->arena, pairs, sizeof *scaled), *factors = ds_arena_array(&c->arena, pairs, sizeof *factors), unused;
    if (!scaled || !factors) return ds_fail_memory(err, pairs * sizeof *factors, "rope factors");
    ds_rope_inv_freq(rope, scaled, &unused);
    ds_rope_inv_freq(&plain, factors, &unused);
    /* A pair that does not turn: so large a factor that no position turns it by a bit. */
    for (uint32_t i = 0; i < pairs; i++) factors[i] = scaled[i] > 0 ? factors[i] / scaled[i] : 1e30f;
    return ds_convert_add_values(c, factors_name, DS_TYPE_F32, pairs, factors, err);
}

static ds_status add_scaling(struct ds_conversion *c, const struct ds_rope_config *rope, struct ds_error *err) {
    if (rope->attention_factor != 0 || rope->mscale != 0 || rope->mscale_all_dim != 0 || rope->no_truncate)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: rope settings attention_factor, mscale, mscale_all_dim and truncate: false have no place in GGUF",
                       ds_ckpt_path(c->source));
    DS_TRY(ds_convert_add_text(c, "rope.scaling.type", rope->kind == DS_ROPE_YARN ? "yarn" : "linear", err));
    DS_TRY(ds_convert_add_real(c, "rope.scaling.factor", rope->factor, err));
    DS_TRY(ds_convert_add_size(c, "rope.scaling.original_context_length", rope->original_context, err));
    if (rope->kind != DS_ROPE_YARN) return DS_OK;
    DS_TRY(ds_convert_add_real(c, "rope.scaling.yarn_beta_fast", rope->beta_fast, err));
    return ds_convert_add_real(c, "rope.scaling.yarn_beta_slow", rope->beta_slow, err);
}

/* Of layers that slide, which have a base of their own and no scaling. */
static ds_status add_local(struct ds_conversion *c, struct ds_error *err) {
    const struct ds_rope_config *local = &c->config->local_rope;
    if (!local->n_rot || c->is_drafter) return DS_OK;
    if (local->kind != DS_ROPE_NONE)
        return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: the rope scaling of sliding layers has no place in a GGUF file of architecture %s", ds_ckpt_path(c->source), c->arch);
    return ds_convert_add_real(c, "rope.freq_base_swa", local->theta, err);
}

ds_status ds_convert_rope_keys(struct ds_conversion *c, struct ds_error *err) {
    const struct ds_rope_config *rope = &c->config->rope;
    DS_TRY(ds_convert_add_real(c, "rope.freq_base", rope->theta, err));
    if ((double)(float)rope->theta != rope->theta)
        ds_logf(&c->log, DS_LOG_WARNING, "rope_theta %.17g becomes %.9g: GGUF keeps it in 32 bits", rope->theta, (double)(float)rope->theta);
    DS_TRY(add_local(c, err));
    if (rope->kind == DS_ROPE_NONE || (has_factors(rope) && takes_factors(c))) return DS_OK;
    if (rope->kind == DS_ROPE_YARN || rope->kind == DS_ROPE_LINEAR) return add_scaling(c, rope, err);
    return ds_fail(err, DS_ERROR_UNSUPPORTED, "%s: this rope scaling has no place in a GGUF file of architecture %s", ds_ckpt_path(c->source), c->arch);
}
