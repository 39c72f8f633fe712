/* Reading packed weights (pack.h) in kernels. */
#ifndef DSPARK_GPU_WEIGHTS_H
#define DSPARK_GPU_WEIGHTS_H

#include "common.h"
#include "pack.h"

namespace {

/* What pack.h says of a block type, known when kernels are compiled. */
template <ds_type TYPE> struct packed;
#define PACK(type, low, high, n, has_minimum, u_offset, codebook)                                                   \
    template <> struct packed<DS_TYPE_##type> {                                                                     \
        static constexpr int LOW = low, HIGH = high, GROUPS = n, MINIMUM = has_minimum, OFFSET = u_offset;          \
        static constexpr int LEVELS = DS_GPU_LEVELS_##codebook;                                                     \
        static constexpr bool BF16_SCALE = DS_TYPE_##type == DS_TYPE_MXFP4, NARROW = DS_TYPE_##type == DS_TYPE_Q8_0; \
        GPU_FN_MEMBER static struct ds_gpu_pack get() { return {low, high, n, has_minimum, u_offset, DS_GPU_LEVELS_##codebook}; } \
    };
DS_GPU_PACKS(PACK)
#undef PACK

/* Four bytes at once: u - OFFSET, no borrow crossing bytes since u < 128. */
template <uint32_t OFFSET> GPU_FN uint32_t less_offset(uint32_t u) {
    return OFFSET == 0 ? u : ((u | 0x80808080u) - OFFSET * 0x01010101u) ^ 0x80808080u;
}

/* Four levels at once, of four indices below 16. */
template <int LEVELS> GPU_FN uint32_t level_bytes(uint32_t indices) {
    const uint64_t low = LEVELS == DS_GPU_LEVELS_IQ4 ? DS_GPU_IQ4_LOW : DS_GPU_FP4_LOW;
    const uint64_t high = LEVELS == DS_GPU_LEVELS_IQ4 ? DS_GPU_IQ4_HIGH : DS_GPU_FP4_HIGH;
    uint32_t out = 0;
    GPU_UNROLL for (int i = 0; i < 4; i++) {
        const uint32_t index = indices >> (8 * i) & 15u;
        const uint64_t half = index < 8 ? low : high;
        out |= static_cast<uint32_t>(half >> (index % 8 * 8) & 0xffu) << (8 * i);
    }
    return out;
}

template <ds_type TYPE> GPU_FN uint32_t signed_weights(uint32_t u) {
    if (packed<TYPE>::LEVELS != DS_GPU_LEVELS_NONE) return level_bytes<packed<TYPE>::LEVELS>(u);
    return less_offset<packed<TYPE>::OFFSET>(u);
}

template <ds_type TYPE> GPU_FN float scale_value(uint16_t bits) {
    return packed<TYPE>::BF16_SCALE ? ds_bf16_to_f32(bits) : ds_f16_to_f32(bits);
}

/* The lane's words of one step (32 inputs) in a plane of BITS bits: BITS of them. */
template <int BITS> GPU_FN void plane_words(const uint8_t *plane, uint32_t step, uint32_t lane, uint32_t out[BITS]) {
    GPU_UNROLL for (uint32_t i = 0; i < BITS; i++) {
        const uint32_t word = step * BITS + i;
        out[i] = reinterpret_cast<const uint32_t *>(plane)[(word / 4 * GPU_TEAM + lane) * 4 + word % 4];
    }
}

/* Four weights of word c (pack.h) as they are packed: BITS bits in each byte. */
template <int BITS> GPU_FN uint32_t plane_bytes(const uint32_t words[BITS], uint32_t c) {
    const uint32_t each = 8 / BITS, mask = ((1u << BITS) - 1) * 0x01010101u;
    return words[c / each] >> (c % each * BITS) & mask;
}

/* All weights of a lane in one step: w[c] are four int8 of output g + 8 (c / 2), inputs 8t + 4 (c mod 2) ... */
template <ds_type TYPE> GPU_FN void step_weights(const uint8_t *record, uint32_t step, uint32_t lane, uint32_t w[8]) {
    using P = packed<TYPE>;
    uint32_t low[P::LOW];
    plane_words<P::LOW>(record, step, lane, low);
    GPU_UNROLL for (uint32_t c = 0; c < 8; c++) w[c] = P::LOW == 8 ? low[c % P::LOW] : plane_bytes<P::LOW>(low, c);
    if (P::HIGH) {
        constexpr int BITS = P::HIGH ? P::HIGH : 1;
        uint32_t high[BITS];
        plane_words<BITS>(record + ds_gpu_high_at(P::get()), step, lane, high);
        GPU_UNROLL for (uint32_t c = 0; c < 8; c++) w[c] |= plane_bytes<BITS>(high, c) << P::LOW;
    }
    GPU_UNROLL for (uint32_t c = 0; c < 8; c++) w[c] = signed_weights<TYPE>(w[c]);
}

/* The one weight of (output of the tile, input of the run), for what reads single rows. */
template <ds_type TYPE> GPU_FN int32_t single_weight(const uint8_t *record, uint32_t output, uint32_t input) {
    using P = packed<TYPE>;
    const struct ds_gpu_bit low = ds_gpu_bit_of(P::LOW, output, input);
    uint32_t u = record[low.byte] >> low.shift & ((1u << P::LOW) - 1);
    if (P::HIGH) {
        constexpr uint32_t BITS = P::HIGH ? P::HIGH : 1;
        const struct ds_gpu_bit high = ds_gpu_bit_of(BITS, output, input);
        u |= (record[ds_gpu_high_at(P::get()) + high.byte] >> high.shift & ((1u << BITS) - 1)) << P::LOW;
    }
    return static_cast<int8_t>(signed_weights<TYPE>(u) & 0xffu);
}

GPU_FN uint16_t scale_bits(const uint8_t *record, uint32_t at, uint32_t row, uint32_t place) {
    return reinterpret_cast<const uint16_t *>(record + at)[row * DS_GPU_TILE + place];
}

} // namespace


#endif
