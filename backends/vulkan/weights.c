/* weight_write: tiles are packed by all processors and written in pieces. */
#include "device.h"
#include "pack.h"

#include "backends/gpu/pack_write.h"
#include "base/os.h"

ds_status ds_vk_weight_write(struct ds_stream *stream, const struct ds_weight *weight, uint32_t first_row, uint32_t rows,
                             const void *from, struct ds_error *err) {
    static const struct ds_gpu_tiles tiles = {ds_vk_tile_bytes, ds_vk_matrix_bytes, ds_vk_pack_tile, ds_vk_write};
    struct ds_vk_device *device = ds_vk_device_of(stream);
    ds_os_mutex_lock(device->pack_mutex);
    const ds_status status = ds_gpu_pack_write(&tiles, &device->pool, device->threads, stream, weight, first_row, rows, from, err);
    ds_os_mutex_unlock(device->pack_mutex);
    return status;
}
