/*
 * Slabs: pieces of few allocations. Drivers allow as few as 4096 allocations and round each up to pages of their own, while graphs and buffers are
 * many and often small. What is half a slab or more has one to itself.
 *
 * A slab belongs to one type of memory and to one use (with addresses or without), is mapped once where it can be, and goes when its last piece does.
 */
#include "device.h"

#include "base/os.h"

#include <stdlib.h>

enum { SLAB_BYTES = 8 << 20 };

/* Pieces in use, ascending; gaps are what lies between them. */
struct ds_vk_piece {
    struct ds_vk_piece *next;
    struct ds_vk_slab *slab;
    uint64_t first, end;
};

struct ds_vk_slab {
    struct ds_vk_slab *next;
    VkDeviceMemory memory;
    uint8_t *mapped; /* NULL: not mapped */
    uint32_t type;
    bool address;
    uint64_t bytes;
    struct ds_vk_piece *pieces;
};

int64_t ds_vk_slabs_alive;

/* Where the piece goes into the list, and its place: the first gap that holds it. NULL: there is none. */
static struct ds_vk_piece **find_gap(struct ds_vk_slab *slab, uint64_t bytes, uint64_t align, uint64_t *first) {
    struct ds_vk_piece **at = &slab->pieces;
    *first = 0;
    for (; *at; at = &(*at)->next) {
        if (*first + bytes <= (*at)->first) return at;
        *first = DS_ALIGN_UP((*at)->end, align);
    }
    return *first + bytes <= slab->bytes ? at : NULL;
}

static VkResult create_slab(struct ds_vk_device *device, const struct ds_vk_room *room, struct ds_vk_slab **out) {
    struct ds_vk_slab *slab = calloc(1, sizeof *slab);
    if (!slab) return VK_ERROR_OUT_OF_HOST_MEMORY;
    *slab = (struct ds_vk_slab){.type = room->type, .address = room->address,
                                .bytes = room->bytes >= SLAB_BYTES / 2 ? room->bytes : DS_MIN((uint64_t)SLAB_BYTES, device->features.max_memory)};
    const VkMemoryAllocateFlagsInfo flags = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO, .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT};
    const VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .pNext = room->address ? &flags : NULL,
                                       .allocationSize = slab->bytes, .memoryTypeIndex = room->type};
    VkResult result = DS_VK_ALLOCATE(device, device->api.AllocateMemory(device->handle, &info, NULL, &slab->memory));
    void *mapped = NULL;
    if (result == VK_SUCCESS && room->mapped) {
        result = DS_VK_ALLOCATE(device, device->api.MapMemory(device->handle, slab->memory, 0, VK_WHOLE_SIZE, 0, &mapped));
        if (result != VK_SUCCESS) device->api.FreeMemory(device->handle, slab->memory, NULL);
    }
    if (result != VK_SUCCESS) {
        free(slab);
        return result;
    }
    slab->mapped = mapped;
    slab->next = device->slabs;
    device->slabs = slab;
    device->counts.allocations++;
    (void)__atomic_add_fetch(&ds_vk_slabs_alive, 1, __ATOMIC_RELAXED);
    *out = slab;
    return VK_SUCCESS;
}

static void drop_if_empty(struct ds_vk_device *device, struct ds_vk_slab *slab) {
    if (slab->pieces) return;
    struct ds_vk_slab **at = &device->slabs;
    while (*at != slab) at = &(*at)->next;
    *at = slab->next;
    device->api.FreeMemory(device->handle, slab->memory, NULL);
    (void)__atomic_sub_fetch(&ds_vk_slabs_alive, 1, __ATOMIC_RELAXED);
    free(slab);
}

static VkResult take(struct ds_vk_device *device, const struct ds_vk_room *room, struct ds_vk_piece *piece) {
    struct ds_vk_piece **at = NULL;
    struct ds_vk_slab *slab = device->slabs;
    for (; slab; slab = slab->next) {
        if (slab->type != room->type || slab->address != room->address || (room->mapped && !slab->mapped)) continue;
        at = find_gap(slab, room->bytes, room->align, &piece->first);
        if (at) break;
    }
    if (!slab) {
        const VkResult result = create_slab(device, room, &slab);
        if (result != VK_SUCCESS) return result;
        at = &slab->pieces;
        piece->first = 0;
    }
    piece->end = piece->first + room->bytes;
    piece->slab = slab;
    piece->next = *at;
    *at = piece;
    return VK_SUCCESS;
}

VkResult ds_vk_piece_take(struct ds_vk_device *device, const struct ds_vk_room *room, struct ds_vk_piece **out) {
    struct ds_vk_piece *piece = calloc(1, sizeof *piece);
    if (!piece) return VK_ERROR_OUT_OF_HOST_MEMORY;
    ds_os_mutex_lock(device->slab_mutex);
    const VkResult result = take(device, room, piece);
    ds_os_mutex_unlock(device->slab_mutex);
    if (result != VK_SUCCESS) free(piece);
    else *out = piece;
    return result;
}

VkDeviceMemory ds_vk_piece_memory(const struct ds_vk_piece *piece, uint64_t *offset) {
    *offset = piece->first;
    return piece->slab->memory;
}

uint8_t *ds_vk_piece_mapped(const struct ds_vk_piece *piece) { return piece->slab->mapped ? piece->slab->mapped + piece->first : NULL; }

void ds_vk_piece_drop(struct ds_vk_device *device, struct ds_vk_piece *piece) {
    if (!piece) return;
    ds_os_mutex_lock(device->slab_mutex);
    struct ds_vk_piece **at = &piece->slab->pieces;
    while (*at != piece) at = &(*at)->next;
    *at = piece->next;
    drop_if_empty(device, piece->slab);
    ds_os_mutex_unlock(device->slab_mutex);
    free(piece);
}
