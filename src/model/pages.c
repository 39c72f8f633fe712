#include "model/pages.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

ds_status ds_pager_create(uint32_t sequences, uint32_t pages_per_sequence, uint32_t pages, struct ds_pager *out, struct ds_error *err) {
    const uint32_t entries = sequences * pages_per_sequence;
    if (!pages) pages = entries;
    *out = (struct ds_pager){.sequences = sequences, .pages_per_sequence = pages_per_sequence, .pages = pages, .generation = 1};
    out->table = calloc(entries, sizeof *out->table);
    out->lengths = calloc(sequences, sizeof *out->lengths);
    out->promised = calloc(sequences, sizeof *out->promised);
    out->taken = calloc(sequences, sizeof *out->taken);
    out->references = calloc(pages, sizeof *out->references);
    out->free_pages = malloc(pages * sizeof *out->free_pages);
    if (!out->table || !out->lengths || !out->promised || !out->taken || !out->references || !out->free_pages) {
        ds_pager_free(out);
        return ds_fail_memory(err, entries * sizeof *out->table, "the page table");
    }
    for (uint32_t i = 0; i < pages; i++) out->free_pages[i] = (int32_t)(pages - 1 - i); /* page 0 is taken first */
    out->n_free = pages;
    return DS_OK;
}

void ds_pager_free(struct ds_pager *pager) {
    free(pager->table);
    free(pager->lengths);
    free(pager->promised);
    free(pager->taken);
    free(pager->references);
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

static uint32_t pages_for(uint32_t positions) { return (positions + DS_PAGE - 1) / DS_PAGE; }
static int32_t *row_of(const struct ds_pager *pager, int32_t sequence) { return pager->table + (size_t)sequence * pager->pages_per_sequence; }

void ds_pager_hold(struct ds_pager *pager, int32_t page) { pager->references[page]++; }

void ds_pager_drop(struct ds_pager *pager, int32_t page) {
    assert(pager->references[page] > 0);
    if (--pager->references[page] == 0) pager->free_pages[pager->n_free++] = page;
}

void ds_pager_truncate(struct ds_pager *pager, int32_t sequence, uint32_t positions) {
    const uint32_t keep = pages_for(positions);
    int32_t *row = row_of(pager, sequence);
    while (pager->lengths[sequence] > keep) {
        const uint32_t last = --pager->lengths[sequence];
        ds_pager_drop(pager, row[last]);
        row[last] = 0;
        pager->generation++;
    }
}

void ds_pager_release_sequence(struct ds_pager *pager, int32_t sequence) {
    ds_pager_truncate(pager, sequence, 0);
    pager->promised[sequence] = 0;
    pager->taken[sequence] = false;
}

/* --- pages that are free, or can be --- */

static uint32_t available(const struct ds_pager *pager) { return pager->n_free + (pager->spare ? pager->spare(pager->keeper) : 0); }

/* What the others were promised and do not have yet. */
static uint64_t owed_to_others(const struct ds_pager *pager, int32_t sequence) {
    uint64_t owed = 0;
    for (uint32_t s = 0; s < pager->sequences; s++)
        if ((int32_t)s != sequence && pager->promised[s] > pager->lengths[s]) owed += pager->promised[s] - pager->lengths[s];
    return owed;
}

bool ds_pager_promise(struct ds_pager *pager, int32_t sequence, uint32_t positions) {
    const uint32_t wanted = pages_for(positions), has = pager->lengths[sequence];
    if (wanted > pager->pages_per_sequence) return false;
    if (wanted > has && owed_to_others(pager, sequence) + (wanted - has) > available(pager)) return false;
    pager->promised[sequence] = wanted;
    return true;
}

/* A page that nobody holds; it has one holder now. */
static ds_status take_page(struct ds_pager *pager, int32_t sequence, int32_t *page, struct ds_error *err) {
    const bool promised = pager->lengths[sequence] < pager->promised[sequence];
    const bool left = promised || available(pager) > owed_to_others(pager, sequence);
    while (left && !pager->n_free && pager->give_back && pager->give_back(pager->keeper)) continue;
    if (!left || !pager->n_free)
        return ds_fail(err, DS_ERROR_LIMIT, "all %u pages of the cache (%d positions each) are in use or promised; a session must end before another can "
                       "grow, or the engine needs more kv_positions", pager->pages, DS_PAGE);
    *page = pager->free_pages[--pager->n_free];
    pager->references[*page] = 1;
    return DS_OK;
}

ds_status ds_pager_reserve(struct ds_pager *pager, int32_t sequence, uint32_t positions, struct ds_error *err) {
    const uint32_t needed = pages_for(positions);
    if (needed > pager->pages_per_sequence)
        return ds_fail(err, DS_ERROR_LIMIT, "%u positions asked for; the cache of a sequence holds %u", positions,
                       pager->pages_per_sequence * DS_PAGE);
    int32_t *row = row_of(pager, sequence);
    while (pager->lengths[sequence] < needed) {
        DS_TRY(take_page(pager, sequence, &row[pager->lengths[sequence]], err));
        pager->lengths[sequence]++;
        pager->generation++;
    }
    return DS_OK;
}

/* --- pages of several holders --- */

void ds_pager_adopt(struct ds_pager *pager, int32_t sequence, const int32_t *pages, uint32_t n) {
    assert(pager->lengths[sequence] == 0 && n <= pager->pages_per_sequence);
    int32_t *row = row_of(pager, sequence);
    for (uint32_t i = 0; i < n; i++) {
        row[i] = pages[i];
        ds_pager_hold(pager, pages[i]);
    }
    pager->lengths[sequence] = n;
    pager->generation++;
}

ds_status ds_pager_make_private(struct ds_pager *pager, int32_t sequence, uint32_t index, int32_t *from, int32_t *to, struct ds_error *err) {
    int32_t *place = row_of(pager, sequence) + index;
    *from = *to = *place;
    if (pager->references[*place] == 1) return DS_OK;
    DS_TRY(take_page(pager, sequence, to, err));
    ds_pager_drop(pager, *from); /* others hold it still */
    *place = *to;
    pager->generation++;
    return DS_OK;
}

/* --- the table on a device --- */

void ds_page_table_plan(struct ds_page_table *table, struct ds_device *device, const struct ds_pager *pager) {
    *table = (struct ds_page_table){.device = device};
    table->planned.bytes = 4 * (uint64_t)pager->sequences * pager->pages_per_sequence;
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
    DS_TRY(table->device->fns->write(stream, ds_page_table_slice(table), pager->table, table->planned.bytes, err));
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
    if (!cache->planned.bytes) return DS_OK;
    DS_TRY(cache->device->fns->buffer_create(cache->device, cache->planned.bytes, &cache->buffer, err));
    lay_out(cache, cache->buffer);
    return DS_OK;
}

ds_status ds_cache_copy_page(const struct ds_cache_memory *cache, struct ds_stream *stream, int32_t from, int32_t to, struct ds_error *err) {
    for (uint32_t l = 0; l < cache->n; l++) {
        if (cache->sources[l] != l) continue; /* an earlier layer's page */
        const uint64_t bytes = ds_cache_page_bytes(&cache->layers[l]);
        if (!bytes) continue; /* elsewhere */
        const struct ds_slice places[] = {cache->layers[l].k, cache->layers[l].v};
        for (size_t i = 0; i < DS_COUNT(places); i++) {
            struct ds_slice source = places[i], copy = places[i];
            source.offset += (uint64_t)from * bytes;
            copy.offset += (uint64_t)to * bytes;
            DS_TRY(cache->device->fns->copy(stream, copy, source, bytes, err));
        }
    }
    return DS_OK;
}

void ds_cache_free(struct ds_cache_memory *cache) {
    ds_buffer_drop(&cache->buffer);
    free(cache->layers);
    free(cache->sources);
    *cache = (struct ds_cache_memory){0};
}
