/*
 * What vec.h cannot say portably, for NEON: a part is a register of four lanes. Included by vec.h alone. Compiled three times:
 * plain, with the dot products of Armv8.2 (__ARM_FEATURE_DOTPROD), and with the int8 matrix products of Armv8.6. Dots of linears: neon_dot.h.
 */
#ifndef DSPARK_CPU_VEC_NEON_H
#define DSPARK_CPU_VEC_NEON_H

#include <arm_neon.h>

DS_INLINE ds_pf neon_fma(ds_pf a, ds_pf b, ds_pf c) { return (ds_pf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }

/* FCVTL: exact, denormals too, as long as FPCR is 0 (ds_os_float_begin). */
DS_INLINE ds_pf neon_load_f16(const uint16_t *from) { return (ds_pf)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from))); }
DS_INLINE ds_pf neon_load_bf16(const uint16_t *from) { return (ds_pf)vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(from), 16)); }

/* To nearest even with saturation, denormals too, and widened again; a NaN stays one. */
DS_INLINE ds_pf neon_round_f16(ds_pf x) {
    const float32x4_t bounded = vmaxq_f32(vdupq_n_f32(-65504.0f), vminq_f32(vdupq_n_f32(65504.0f), (float32x4_t)x));
    return (ds_pf)vcvt_f32_f16(vcvt_f16_f32(bounded));
}

DS_INLINE void neon_widen_s8(const void *from, ds_pi *to) {
    const int8x16_t bytes = vld1q_s8(from);
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
    to[0] = (ds_pi)vmovl_s16(vget_low_s16(low));
    to[1] = (ds_pi)vmovl_high_s16(low);
    to[2] = (ds_pi)vmovl_s16(vget_low_s16(high));
    to[3] = (ds_pi)vmovl_high_s16(high);
}

/* acc[lane] += sum over j < 4 of w[4 lane + j] * a[4 lane + j], both signed, a not -128. */
DS_INLINE ds_pi neon_dot(ds_pi acc, ds_pi w, int32x4_t a) {
    const int8x16_t x = vreinterpretq_s8_s32(a);
#if defined(__ARM_FEATURE_DOTPROD)
    return (ds_pi)vdotq_s32((int32x4_t)acc, (int8x16_t)w, x);
#else
    /* A product is within 128 * 127, so neighbours are added as they are widened to 32 bits, never in 16. */
    const int16x8_t low = vmull_s8(vget_low_s8((int8x16_t)w), vget_low_s8(x)), high = vmull_high_s8((int8x16_t)w, x);
    return acc + (ds_pi)vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high));
#endif
}

#if defined(__ARM_FEATURE_MATMUL_INT8)
/* acc[2 i + j] += a's row i times b's row j, of 2 x 8 signed bytes. */
DS_INLINE ds_pi neon_product(ds_pi acc, ds_pi b, int8x16_t a) { return (ds_pi)vmmlaq_s32((int32x4_t)acc, a, (int8x16_t)b); }
#endif

/* acc[lane] += m[2 lane] * s[0] + m[2 lane + 1] * s[1] of int16. */
DS_INLINE ds_pi neon_dot16(ds_pi acc, ds_pi m, int32_t s) {
    const int16x8_t x = vreinterpretq_s16_s32(vdupq_n_s32(s));
    const int32x4_t low = vmull_s16(vget_low_s16((int16x8_t)m), vget_low_s16(x)), high = vmull_high_s16((int16x8_t)m, x);
    return acc + (ds_pi)vpaddq_s32(low, high);
}

/* Every byte (0..15) replaced by its entry of `table`. */
DS_INLINE ds_pi neon_lookup(ds_pi index, const uint8_t table[16]) { return (ds_pi)vqtbl1q_u8(vld1q_u8(table), (uint8x16_t)index); }

#endif
