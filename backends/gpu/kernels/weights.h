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
    return packed<TYPE>::BF16_SCALE ? ds_bf16_to_f32(bits) : gpu_from_f16(bits);
}

/* COUNT words of a lane, of a plane or of a table: pieces of 16 bytes, `stride` bytes apart. */
template <int COUNT> GPU_FN void lane_words(const uint8_t *from, size_t stride, uint32_t out[COUNT]) {
    constexpr int PIECES = COUNT / 4;
    GPU_UNROLL for (int i = 0; i < PIECES; i++) {
        const struct gpu_words words = gpu_load16(from + i * stride);
        GPU_UNROLL for (int k = 0; k < 4; k++) out[4 * i + k] = words.w[k];
    }
    GPU_UNROLL for (int i = PIECES * 4; i < COUNT; i++) out[i] = reinterpret_cast<const uint32_t *>(from)[i];
}

/* Four weights of word c (pack.h) of step s as they are packed: BITS bits in each byte. */
template <int BITS> GPU_FN uint32_t plane_bytes(const uint32_t *words, uint32_t s, uint32_t c) {
    constexpr uint32_t EACH = 8 / BITS, MASK = BITS == 8 ? 0xffffffffu : ((1u << BITS % 8) - 1) * 0x01010101u;
    return words[(8 * s + c) / EACH] >> ((8 * s + c) % EACH * BITS) & MASK;
}

/*
 * What a lane holds of a run's record, all of it read before any of it is used, so that enough of memory is under way. Only whole
 * lanes' worth of constants and unrolled loops may index it: it lives in registers.
 */
template <ds_type TYPE> struct lane_run {
    using P = packed<TYPE>;
    static constexpr bool WIDE = P::GROUPS != 0;
    static constexpr int HIGH_WORDS = P::HIGH ? 8 * P::HIGH : 1, TABLE = P::GROUPS ? P::GROUPS : 1;
    static constexpr int D_WORDS = WIDE ? 2 : 16;
    uint32_t low[8 * P::LOW], high[HIGH_WORDS];
    uint32_t scale[TABLE], minimum[TABLE]; /* four outputs' bytes a group */
    uint32_t d[D_WORDS], dmin[D_WORDS];    /* four outputs' halves a row */

    GPU_FN_MEMBER void load(const uint8_t *record, uint32_t lane) {
        const uint32_t g = lane / 4;
        lane_words<8 * P::LOW>(record + lane * DS_GPU_PIECE, GPU_TEAM * DS_GPU_PIECE, low);
        if (P::HIGH) lane_words<HIGH_WORDS>(record + ds_gpu_high_at(P::get()) + lane * DS_GPU_PIECE, GPU_TEAM * DS_GPU_PIECE, high);
        if (WIDE) lane_words<TABLE>(record + ds_gpu_scale_at(P::get()) + g * TABLE * 4, DS_GPU_PIECE, scale);
        if (WIDE && P::MINIMUM) lane_words<TABLE>(record + ds_gpu_minimum_at(P::get()) + g * TABLE * 4, DS_GPU_PIECE, minimum);
        lane_words<D_WORDS>(record + ds_gpu_d_at(P::get()) + g * D_WORDS * 4, DS_GPU_PIECE, d);
        if (P::MINIMUM) lane_words<D_WORDS>(record + ds_gpu_dmin_at(P::get()) + g * D_WORDS * 4, DS_GPU_PIECE, dmin);
    }
    /* w[c]: four int8 of output g + 8 (c / 2), inputs 8t + 4 (c mod 2) ... of step s. */
    GPU_FN_MEMBER void weights(uint32_t s, uint32_t w[8]) const {
        GPU_UNROLL for (uint32_t c = 0; c < 8; c++) {
            uint32_t u = plane_bytes<P::LOW>(low, s, c);
            if (P::HIGH) u |= plane_bytes<P::HIGH ? P::HIGH : 1>(high, s, c) << (P::LOW % 8);
            w[c] = signed_weights<TYPE>(u);
        }
    }
    GPU_FN_MEMBER int32_t scale_of(uint32_t group, uint32_t j) const { return static_cast<int8_t>(scale[group] >> (8 * j) & 0xffu); }
    GPU_FN_MEMBER int32_t minimum_of(uint32_t group, uint32_t j) const { return static_cast<int32_t>(minimum[group] >> (8 * j) & 0xffu); }
    GPU_FN_MEMBER float d_of(uint32_t row, uint32_t j) const { return half(d[row * 2 + j / 2], j); }
    GPU_FN_MEMBER float dmin_of(uint32_t row, uint32_t j) const { return half(dmin[row * 2 + j / 2], j); }

  private:
    GPU_FN_MEMBER static float half(uint32_t two, uint32_t j) { return scale_value<TYPE>(static_cast<uint16_t>(two >> (16 * (j % 2)) & 0xffffu)); }
};

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

GPU_FN uint16_t scale_bits(const uint8_t *record, uint32_t at, uint32_t place) {
    return reinterpret_cast<const uint16_t *>(record + at)[place];
}

} // namespace

#endif
