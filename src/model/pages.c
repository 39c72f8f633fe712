#include "model/pages.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

ds_status ds_pager_create(uint32_t sequences, uint32_t pages_per_sequence, struct ds_pager *out, struct ds_error *err) {
    const uint32_t pages = sequences * pages_per_sequence;
    *out = (struct ds_pager){.sequences = sequences, .pages_per_sequence = pages_per_sequence, .pages = pages, .generation = 1};
    out->table = calloc(pages, sizeof *out->table);
    out->lengths = calloc(sequences, sizeof *out->lengths);
    out->taken = calloc(sequences, sizeof *out->taken);
    out->free_pages = malloc(pages * sizeof *out->free_pages);
    if (!out->table || !out->lengths || !out->taken || !out->free_pages) {
        ds_pager_free(out);
        return ds_fail_memory(err, pages * sizeof *out->table, "the page table");
    }
    for (uint32_t i = 0; i < pages; i++) out->free_pages[i] = (int32_t)(pages - 1 - i); /* page 0 is taken first */
    out->n_free = pages;
    return DS_OK;
}

void ds_pager_free(struct ds_pager *pager) {
    free(pager->table);
    free(pager->lengths);
    free(pager->taken);
    free(pager->free_pages);
    *pager = (struct ds_pager){0};
}

int32_t ds_pager_take_sequence(struct ds_pager *pager) {
    for (uint32_t s = 0; s < pager->sequences; s++) {
        if (!pager->taken[s]) {
            pager->taken[s] = true;
            return (int32_t)s;
        }
    }
    return -1;
}

void ds_pager_truncate(struct ds_pager *pager, int32_t sequence, uint32_t positions) {
    const uint32_t keep = (positions + DS_PAGE - 1) / DS_PAGE;
    int32_t *row = pager->table + (size_t)sequence * pager->pages_per_sequence;
    while (pager->lengths[sequence] > keep) {
        const uint32_t last = --pager->lengths[sequence];
        pager->free_pages[pager->n_free++] = row[last];
        row[last] = 0;
        pager->generation++;
    }
}

void ds_pager_release_sequence(struct ds_pager *pager, int32_t sequence) {
    ds_pager_truncate(pager, sequence, 0);
    pager->taken[sequence] = false;
}

ds_status ds_pager_reserve(struct ds_pager *pager, int32_t sequence, uint32_t positions, struct ds_error *err) {
    const uint32_t needed = (positions + DS_PAGE - 1) / DS_PAGE;
    if (needed > pager->pages_per_sequence)
        return ds_fail(err, DS_ERROR_LIMIT, "%u positions asked for; the cache of a sequence holds %u", positions,
                       pager->pages_per_sequence * DS_PAGE);
    int32_t *row = pager->table + (size_t)sequence * pager->pages_per_sequence;
    while (pager->lengths[sequence] < needed) {
        assert(pager->n_free > 0); /* every sequence's share is its own until pages are shared */
        row[pager->lengths[sequence]++] = pager->free_pages[--pager->n_free];
        pager->generation++;
    }
    return DS_OK;
}

/* --- the table on a device --- */

void ds_page_table_plan(struct ds_page_table *table, struct ds_device *device, const struct ds_pager *pager) {
    *table = (struct ds_page_table){.device = device};
    table->planned.bytes = 4 * (uint64_t)pager->pages;
}

ds_status ds_page_table_allocate(struct ds_page_table *table, struct ds_error *err) {
    table->generation = 0; /* of no pager's table */
    return table->device->fns->buffer_create(table->device, table->planned.bytes, &table->buffer, err);
}

void ds_page_table_free(struct ds_page_table *table) {
    ds_buffer_drop(&table->buffer);
    *table = (struct ds_page_table){0};
}

struct ds_slice ds_page_table_slice(struct ds_page_table *table) {
    return (struct ds_slice){table->buffer ? table->buffer : &table->planned, 0};
}

ds_status ds_page_table_sync(struct ds_page_table *table, const struct ds_pager *pager, struct ds_stream *stream, struct ds_error *err) {
    if (table->generation == pager->generation) return DS_OK;
    DS_TRY(table->device->fns->write(stream, ds_page_table_slice(table), pager->table, 4 * (uint64_t)pager->pages, err));
    table->generation = pager->generation;
    return DS_OK;
}

/* --- the cache --- */

static uint64_t layer_bytes(const struct ds_kv *kv) { return kv->pages * ds_cache_page_bytes(kv); }

uint64_t ds_cache_page_bytes(const struct ds_kv *kv) {
    return (uint64_t)kv->kv_heads * kv->head_dim * DS_PAGE * (kv->f16 ? 2 : 4);
}

uint64_t ds_cache_pages_bytes(const struct ds_cache_memory *cache) {
    uint64_t bytes = 0;
    for (uint32_t l = 0; l < cache->n; l++)
        if (cache->sources[l] == l) bytes += 2 * ds_cache_page_bytes(&cache->layers[l]);
    return bytes;
}

static void lay_out(struct ds_cache_memory *cache, struct ds_buffer *buffer) {
    uint64_t offset = 0;
    for (uint32_t l = 0; l < cache->n; l++) {
        struct ds_kv *kv = &cache->layers[l];
        if (cache->sources[l] != l) { /* an earlier layer's */
            kv->k = cache->layers[cache->sources[l]].k;
            kv->v = cache->layers[cache->sources[l]].v;
            continue;
        }
        kv->k = (struct ds_slice){buffer, offset};
        offset += layer_bytes(kv);
        kv->v = (struct ds_slice){buffer, offset};
        offset += layer_bytes(kv);
    }
}

ds_status ds_cache_plan_layers(struct ds_cache_memory *cache, struct ds_device *device, const struct ds_kv_shape *layers, uint32_t count,
                               uint32_t pages, bool f16, struct ds_error *err) {
    *cache = (struct ds_cache_memory){.device = device, .n = count};
    cache->layers = calloc(count, sizeof *cache->layers);
    cache->sources = calloc(count, sizeof *cache->sources);
    if (!cache->layers || !cache->sources) {
        ds_cache_free(cache);
        return ds_fail_memory(err, count * sizeof *cache->layers, "the cache's layers");
    }
    for (uint32_t l = 0; l < count; l++) {
        assert(layers[l].source <= l);
        cache->layers[l] = (struct ds_kv){.f16 = f16, .pages = pages, .kv_heads = layers[l].kv_heads, .head_dim = layers[l].head_dim};
        cache->sources[l] = layers[l].source;
    }
    /* Configurations bound layers, heads and their dimensions to 2^10 each, so the sum over layers fits. */
    if (!ds_mul_u64(ds_cache_pages_bytes(cache), pages, &cache->planned.bytes)) {
        ds_cache_free(cache);
        return ds_fail(err, DS_ERROR_MEMORY, "the cache of %u layers for %u pages of %d positions is larger than any memory", count, pages,
                       DS_PAGE);
    }
    lay_out(cache, &cache->planned);
    return DS_OK;
}

ds_status ds_cache_plan(struct ds_cache_memory *cache, struct ds_device *device, uint32_t layers, uint32_t kv_heads, uint32_t head_dim,
                        uint32_t pages, bool f16, struct ds_error *err) {
    struct ds_kv_shape *alike = malloc(layers * sizeof *alike);
    if (!alike) return ds_fail_memory(err, layers * sizeof *alike, "the cache's layers");
    for (uint32_t l = 0; l < layers; l++) alike[l] = (struct ds_kv_shape){kv_heads, head_dim, l};
    const ds_status status = ds_cache_plan_layers(cache, device, alike, layers, pages, f16, err);
    free(alike);
    return status;
}

ds_status ds_cache_allocate(struct ds_cache_memory *cache, struct ds_error *err) {
    DS_TRY(cache->device->fns->buffer_create(cache->device, cache->planned.bytes, &cache->buffer, err));
    lay_out(cache, cache->buffer);
    return DS_OK;
}

void ds_cache_free(struct ds_cache_memory *cache) {
    ds_buffer_drop(&cache->buffer);
    free(cache->layers);
    free(cache->sources);
    *cache = (struct ds_cache_memory){0};
}
