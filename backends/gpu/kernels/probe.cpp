/* The device's answers to probe.h, and one matrix product. */
#include "common.h"

#include "probe.h"

namespace {

enum { THREADS = 64 };

GPU_FN uint32_t four_bytes(uint32_t side, uint32_t first, uint32_t stride) {
    uint32_t word = 0;
    for (uint32_t i = 0; i < 4; i++) word |= (static_cast<uint32_t>(ds_probe_byte(side, first + i * stride)) & 0xffu) << (8 * i);
    return word;
}

/* out[0 .. DS_PROBES): arithmetic; then C [16][8] of A [16][32] = bytes of side 0, B [32][8] = bytes of side 1. */
GPU_KERNEL(THREADS) answer(uint32_t *out, uint32_t count) {
    gpu_begin();
    const uint32_t i = gpu_block_x() * THREADS + gpu_thread();
    if (i < DS_PROBES && i < count) out[i] = ds_probe(i);
    const uint32_t g = gpu_lane() / 4, t = gpu_lane() % 4;
    const uint32_t a[4] = {four_bytes(0, g * 32 + 4 * t, 1), four_bytes(0, (g + 8) * 32 + 4 * t, 1), four_bytes(0, g * 32 + 16 + 4 * t, 1),
                           four_bytes(0, (g + 8) * 32 + 16 + 4 * t, 1)};
    const uint32_t b[2] = {four_bytes(1, 4 * t * 8 + g, 8), four_bytes(1, (16 + 4 * t) * 8 + g, 8)};
    int32_t c[4] = {0, 0, 0, 0};
    gpu_mma(c, a, b);
    if (i >= GPU_TEAM || count < DS_PROBES + 128) return;
    for (uint32_t n = 0; n < 4; n++) out[DS_PROBES + (g + n / 2 * 8) * 8 + 2 * t + n % 2] = static_cast<uint32_t>(c[n]);
}

} // namespace

bool DS_GPU_JOIN(DS_GPU_NAME(overlaps_), DS_GPU_WAVE)(void) { return gpu_overlaps(answer); }

gpuError_t DS_GPU_JOIN(DS_GPU_NAME(probe_), DS_GPU_WAVE)(const struct ds_gpu_launch *launch, uint32_t *out, uint32_t count) {
    return gpu_launch(answer, gpu_grid_of(ceil_div(DS_PROBES, THREADS)), THREADS, 0, where_of(launch), out, count);
}
