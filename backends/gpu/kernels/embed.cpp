/* Rows of a packed matrix, widened as ds_dequantize_row does. Meaning: cpu/ref/embed.c. A thread widens one value. */
#include "weights.h"

namespace {

enum { THREADS = 256 };

struct embed {
    const uint8_t *table;
    uint64_t tile_bytes;
    const int32_t *ids;
    struct matrix<float> out;
    float scale;
};

template <ds_type TYPE> GPU_FN float block_value(const uint8_t *tile, uint32_t output, uint32_t column) {
    using P = packed<TYPE>;
    const uint8_t *const record = tile + static_cast<size_t>(column / DS_RUN) * ds_gpu_run_bytes(P::get());
    const uint32_t input = column % DS_RUN, d_at = ds_gpu_d_at(P::get()), dmin_at = ds_gpu_dmin_at(P::get());
    const uint32_t scale_rows = ds_gpu_scale_rows(P::get()), place = ds_gpu_place(scale_rows, P::GROUPS == 0 ? input / 32 : 0, output);
    const float q = static_cast<float>(single_weight<TYPE>(record, output, input));
    if (P::GROUPS == 0) {
        const float value = q * scale_value<TYPE>(scale_bits(record, d_at, place));
        return P::MINIMUM ? value + scale_value<TYPE>(scale_bits(record, dmin_at, place)) : value;
    }
    const uint32_t at = ds_gpu_place(P::GROUPS, input * P::GROUPS / DS_RUN, output);
    const float step = ds_f16_to_f32(scale_bits(record, d_at, place)) *
                       static_cast<float>(static_cast<int8_t>(record[ds_gpu_scale_at(P::get()) + at]));
    const float value = step * q;
    if (!P::MINIMUM) return value;
    const float minimum = ds_f16_to_f32(scale_bits(record, dmin_at, place)) * static_cast<float>(record[ds_gpu_minimum_at(P::get()) + at]);
    return value - minimum;
}

/* Element `column` of a lane whose pieces hold elements of type T. */
template <class T> GPU_FN T piece_element(const uint8_t *tile, uint32_t output, uint32_t column) {
    constexpr uint32_t EACH = DS_GPU_PIECE / sizeof(T);
    return reinterpret_cast<const T *>(tile)[(static_cast<size_t>(column / EACH) * DS_GPU_TILE + output) * EACH + column % EACH];
}

template <ds_type TYPE> struct element {
    GPU_FN_MEMBER static float get(const uint8_t *tile, uint32_t output, uint32_t column) { return block_value<TYPE>(tile, output, column); }
};
template <> struct element<DS_TYPE_F32> {
    GPU_FN_MEMBER static float get(const uint8_t *tile, uint32_t output, uint32_t column) { return piece_element<float>(tile, output, column); }
};
template <> struct element<DS_TYPE_F16> {
    GPU_FN_MEMBER static float get(const uint8_t *tile, uint32_t output, uint32_t column) {
        return ds_f16_to_f32(piece_element<uint16_t>(tile, output, column));
    }
};
template <> struct element<DS_TYPE_BF16> {
    GPU_FN_MEMBER static float get(const uint8_t *tile, uint32_t output, uint32_t column) {
        return ds_bf16_to_f32(piece_element<uint16_t>(tile, output, column));
    }
};

template <ds_type TYPE> GPU_KERNEL(THREADS) widen(struct embed p, struct active active) {
    gpu_begin();
    const uint32_t r = gpu_block_y(), c = gpu_block_x() * THREADS + gpu_thread();
    if (r >= active.get() || c >= p.out.cols) return;
    if (p.ids[r] < 0) {
        p.out.row(r)[c] = 0.0f;
        return;
    }
    const uint32_t id = static_cast<uint32_t>(p.ids[r]);
    const float value = element<TYPE>::get(p.table + id / DS_GPU_TILE * p.tile_bytes, id % DS_GPU_TILE, c);
    p.out.row(r)[c] = value * p.scale;
}

using kernel = void (*)(struct embed, struct active);

kernel kernel_of(ds_type type) {
    switch (type) {
    case DS_TYPE_F32: return widen<DS_TYPE_F32>;
    case DS_TYPE_F16: return widen<DS_TYPE_F16>;
    case DS_TYPE_BF16: return widen<DS_TYPE_BF16>;
#define PACK(type, ...) \
    case DS_TYPE_##type: return widen<DS_TYPE_##type>;
        DS_GPU_PACKS(PACK)
#undef PACK
    default: return nullptr;
    }
}

} // namespace

gpuError_t GPU_OP(embed)(const struct ds_gpu_launch *launch, const union ds_op_params *params) {
    const struct ds_op_embed &p = params->embed;
    const struct embed embed = {at<const uint8_t>(p.table.at), ds_gpu_tile_bytes(p.table.type, p.table.cols), at<const int32_t>(p.ids),
                                matrix_of<float>(p.out), p.scale};
    return gpu_launch(kernel_of(p.table.type), gpu_grid_of(ceil_div(p.out.cols, THREADS), p.out.rows), THREADS, 0, where_of(launch), embed,
                      active_of(p.count, p.out.rows));
}
