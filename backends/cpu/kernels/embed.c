/* Rows of a packed matrix (pack.h), widened as ds_dequantize_row does. Meaning: ref/embed.c. */
#include "kernels.h"
#include "kernels/vec.h"
#include "pack.h"

/* `n` values of one output from input `first` on. */
static void float_values(ds_type type, const uint8_t *tile, uint32_t lane, uint32_t first, uint32_t n, float *out) {
    const uint16_t *bits = (const uint16_t *)(const void *)tile + (size_t)first * DS_TILE + lane;
    const float *floats = (const float *)(const void *)tile + (size_t)first * DS_TILE + lane;
    switch (type) {
    case DS_TYPE_F32:
        for (uint32_t i = 0; i < n; i++) out[i] = floats[(size_t)i * DS_TILE];
        break;
    case DS_TYPE_F16:
        for (uint32_t i = 0; i < n; i++) out[i] = ds_f16_to_f32(bits[(size_t)i * DS_TILE]);
        break;
    default:
        for (uint32_t i = 0; i < n; i++) out[i] = ds_bf16_to_f32(bits[(size_t)i * DS_TILE]);
    }
}

static inline uint32_t plane_bits(const uint8_t *plane, uint32_t bits, uint32_t input, uint32_t lane) {
    const uint32_t vector = input / 4, each = 8 / bits;
    return plane[(vector / each) * 64 + lane * 4 + input % 4] >> (vector % each * bits) & ((1u << bits) - 1);
}

static inline int32_t weight_of(const struct ds_pack *pack, const uint8_t *record, uint32_t input, uint32_t lane) {
    uint32_t u = plane_bits(record, pack->low_bits, input, lane);
    if (pack->high_bits) u |= plane_bits(record + pack->high_at, pack->high_bits, input, lane) << pack->low_bits;
    return pack->levels ? pack->levels[u] : (int32_t)u - pack->offset;
}

static inline float scale_of(const struct ds_pack *pack, const uint8_t *record, uint32_t at, uint32_t row, uint32_t lane) {
    const uint16_t bits = ((const uint16_t *)(const void *)(record + at))[row * DS_TILE + lane];
    return pack->bf16_scale ? ds_bf16_to_f32(bits) : ds_f16_to_f32(bits);
}

/* One run of one output of a block type. */
static void block_values(const struct ds_pack *pack, const uint8_t *record, uint32_t lane, uint32_t n, float *out) {
    for (uint32_t g = 0; g < n / 16; g++) {
        float step, minimum = 0;
        if (pack->groups == 0) {
            step = scale_of(pack, record, pack->d_at, g / 2, lane);
            if (pack->minimum) minimum = scale_of(pack, record, pack->dmin_at, g / 2, lane);
        } else {
            const uint32_t at = (g * pack->groups / 16) * DS_TILE + lane;
            step = scale_of(pack, record, pack->d_at, 0, lane) * (float)(int8_t)record[pack->scale_at + at];
            if (pack->minimum) minimum = -(scale_of(pack, record, pack->dmin_at, 0, lane) * (float)record[pack->minimum_at + at]);
        }
        for (uint32_t i = g * 16; i < g * 16 + 16; i++) {
            const float value = step * (float)weight_of(pack, record, i, lane);
            out[i] = pack->minimum ? value + minimum : value;
        }
    }
}

void DS_CPU_NAME(embed)(const struct ds_cpu_work *work, const union ds_op_params *params) {
    const struct ds_op_embed *p = &params->embed;
    const struct ds_pack *pack = ds_pack_get(p->table.type);
    const uint32_t rows = ds_host_rows(&p->count, p->out.rows), cols = p->table.cols, runs = (cols + DS_RUN - 1) / DS_RUN;
    const uint64_t tile_bytes = ds_pack_tile_bytes(p->table.type, cols);
    const int32_t *ids = ds_host_at(&p->ids);
    uint64_t unit, end;
    ds_cpu_share(work, (uint64_t)rows * runs, &unit, &end);
    for (; unit < end; unit++) {
        const uint32_t r = (uint32_t)(unit / runs), run = (uint32_t)(unit % runs), first = run * DS_RUN;
        const uint32_t n = DS_MIN(cols - first, (uint32_t)DS_RUN), lane = (uint32_t)ids[r] % DS_TILE;
        if (ids[r] < 0) {
            memset((float *)ds_host_row(&p->out, r) + first, 0, n * sizeof(float));
            continue;
        }
        const uint8_t *tile = (const uint8_t *)ds_host_at(&p->table.at) + (uint32_t)ids[r] / DS_TILE * tile_bytes;
        float *out = (float *)ds_host_row(&p->out, r) + first;
        if (pack->low_bits) block_values(pack, tile + (size_t)run * pack->run_bytes, lane, n, out);
        else float_values(p->table.type, tile, lane, first, n, out);
        for (uint32_t i = 0; i < n; i++) out[i] = out[i] * p->scale;
    }
}
