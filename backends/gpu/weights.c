/* weight_write: tiles are packed by all processors into pinned memory, a slot's worth at a time, while the one before is on its way. */
#include "device.h"
#include "pack.h"
#include "pack_write.h"

#include "base/os.h"

ds_status ds_gpu_weight_write(struct ds_stream *stream, const struct ds_weight *weight, uint32_t first_row, uint32_t rows,
                              const void *from, struct ds_error *err) {
    static const struct ds_gpu_tiles tiles = {ds_gpu_tile_bytes, ds_gpu_matrix_bytes, ds_gpu_pack_tile, ds_gpu_write};
    struct ds_gpu_device *device = ds_gpu_device_of(stream);
    ds_os_mutex_lock(device->mutex);
    const ds_status status = ds_gpu_pack_write(&tiles, &device->pool, device->threads, stream, weight, first_row, rows, from, err);
    ds_os_mutex_unlock(device->mutex);
    return status;
}
