/*
 * The angles of rotary position embeddings: frequencies with the usual scalings, and tables of cos and sin.
 *
 * Computed as the reference implementation (transformers, modeling_rope_utils.py, on CPU in f32) does, step by step in f32
 * where it uses f32 tensors and in binary64 where it uses Python floats, with our own pow, log, sin and cos
 * (numerics64.h), so that the bits are the same on every machine. Pure and thread-safe; nothing fails, nothing allocates.
 */
#ifndef DSPARK_OPS_ROPE_TABLE_H
#define DSPARK_OPS_ROPE_TABLE_H

#include <stdbool.h>
#include <stdint.h>

enum ds_rope_kind {
    DS_ROPE_NONE,         /* no scaling */
    DS_ROPE_LINEAR,       /* frequencies / factor */
    DS_ROPE_YARN,         /* Peng and others 2023: interpolation below, extrapolation above, a ramp between */
    DS_ROPE_LLAMA3,       /* Llama 3.1: long wavelengths / factor, a smooth step between */
    DS_ROPE_PROPORTIONAL, /* Gemma 4: the first `n_pairs` pairs turn, with the exponents of the whole head; / factor */
};

/*
 * The caller has checked what comes from a file: n_rot even and at least 2, theta and factor finite and above 0, for the
 * kinds that use it original_context above 0, high_freq_factor != low_freq_factor. Other values give useless tables, not
 * undefined behaviour. A member that is 0 is absent where it says so.
 */
struct ds_rope_config {
    enum ds_rope_kind kind;
    uint32_t n_rot;                           /* dimensions of a head that turn (proportional: all of the head) */
    uint32_t n_pairs;                         /* proportional: pairs that turn, the others have frequency 0; 0: all */
    double theta;                             /* base of the frequencies */
    double factor;                            /* 0: 1, and for YaRN max_context / original_context */
    uint32_t original_context;                /* YaRN, Llama 3: positions the model was first trained on */
    uint32_t max_context;                     /* YaRN without a factor */
    double beta_fast, beta_slow;              /* YaRN; 0: 32 and 1 */
    double attention_factor;                  /* YaRN; 0: derived */
    double mscale, mscale_all_dim;            /* YaRN; used when both are not 0 */
    bool no_truncate;                         /* YaRN: keep the ramp's ends fractional ("truncate": false) */
    double low_freq_factor, high_freq_factor; /* Llama 3 */
};

/* inv_freq[n_rot / 2] in radians a position, and what cos and sin are multiplied by (1 except for YaRN). */
void ds_rope_inv_freq(const struct ds_rope_config *config, float *inv_freq, float *attention_scale);

/*
 * cos and sin, [count][n_rot / 2] each, of positions first_position, first_position + 1, ..: angle = f32(position) *
 * inv_freq in f32, its cos and sin rounded to f32, times the attention scale in f32. Precise for positions below 2^23.
 * A table may be grown by further calls: a row depends on its position alone.
 */
void ds_rope_table(const struct ds_rope_config *config, uint32_t first_position, uint32_t count, float *cos, float *sin);
/* The same from frequencies at hand: inv_freq[n_pairs], rows of n_pairs. */
void ds_rope_table_from(const float *inv_freq, uint32_t n_pairs, float attention_scale, uint32_t first_position, uint32_t count,
                        float *cos, float *sin);

#endif
