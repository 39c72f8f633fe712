/*
 * Pages of the KV cache: which page holds which 64 positions of which sequence. One pager serves a target and its drafter:
 * page p of the one stands beside page p of the other, so what shares or frees a page does it for both.
 *
 * Host data only; each device keeps a copy of the table (ds_page_table). Not thread-safe: the engine's device lock guards it.
 */
#ifndef DSPARK_MODEL_PAGES_H
#define DSPARK_MODEL_PAGES_H

#include "ops/device.h"

struct ds_pager {
    uint32_t sequences, pages_per_sequence, pages;
    int32_t *table;       /* [sequences][pages_per_sequence]; entries beyond a sequence's length are 0 */
    uint32_t *lengths;    /* [sequences] pages in use */
    uint32_t *promised;   /* [sequences] pages that a sequence will be able to have */
    bool *taken;          /* [sequences] */
    uint32_t *references; /* [pages] places that hold a page: sequences, and whoever keeps pages of past ones */
    int32_t *free_pages;  /* stack */
    uint32_t n_free;
    uint64_t generation;  /* changes whenever the table does */
    /* Pages that are kept for later and can be given back: how many, and giving back at least one (false: there is none). NULL: none are. */
    uint32_t (*spare)(const void *keeper);
    bool (*give_back)(void *keeper);
    void *keeper;
};

/* `pages`: in all; 0: enough for every sequence to be full. */
ds_status ds_pager_create(uint32_t sequences, uint32_t pages_per_sequence, uint32_t pages, struct ds_pager *out, struct ds_error *err);
void ds_pager_free(struct ds_pager *pager); /* accepts a zeroed struct */

/* A row of the table, or -1 when all are taken. */
int32_t ds_pager_take_sequence(struct ds_pager *pager);
void ds_pager_release_sequence(struct ds_pager *pager, int32_t sequence);
/*
 * Room for positions 0..positions-1. DS_ERROR_LIMIT when the sequence would be longer than its table row, or when no page is left that
 * is not promised to another; pages got so far stay. Never allocates.
 */
ds_status ds_pager_reserve(struct ds_pager *pager, int32_t sequence, uint32_t positions, struct ds_error *err);
/* Gives back the pages that hold no position below `positions`. */
void ds_pager_truncate(struct ds_pager *pager, int32_t sequence, uint32_t positions);

/* Promises room for positions 0..positions-1, or withdraws what is promised beyond. False: there is not so much; nothing has changed. */
bool ds_pager_promise(struct ds_pager *pager, int32_t sequence, uint32_t positions);

/* A page in one more place; in one place less: in none it is free. */
void ds_pager_hold(struct ds_pager *pager, int32_t page);
void ds_pager_drop(struct ds_pager *pager, int32_t page);
/* An empty sequence begins with `n` pages that others hold, too. */
void ds_pager_adopt(struct ds_pager *pager, int32_t sequence, const int32_t *pages, uint32_t n);
/*
 * The sequence's page `index` is about to be written: when others hold it, another one takes its place. *from, *to: what must then be
 * copied; equal: nothing. DS_ERROR_LIMIT as above.
 */
ds_status ds_pager_make_private(struct ds_pager *pager, int32_t sequence, uint32_t index, int32_t *from, int32_t *to, struct ds_error *err);

/* The table on one device. */
struct ds_page_table {
    struct ds_device *device;
    struct ds_buffer planned, *buffer;
    uint64_t generation; /* of what the device holds */
};
void ds_page_table_plan(struct ds_page_table *table, struct ds_device *device, const struct ds_pager *pager);
ds_status ds_page_table_allocate(struct ds_page_table *table, struct ds_error *err);
void ds_page_table_free(struct ds_page_table *table);
struct ds_slice ds_page_table_slice(struct ds_page_table *table); /* planned or real */
ds_status ds_page_table_sync(struct ds_page_table *table, const struct ds_pager *pager, struct ds_stream *stream, struct ds_error *err);

/* The cache of all layers of a model on one device: planned, then real. */
struct ds_cache_memory {
    struct ds_device *device;
    struct ds_buffer planned, *buffer;
    struct ds_kv *layers; /* [n], owned */
    uint32_t *sources;    /* [n], owned: the layer whose places a layer has; itself, mostly */
    uint32_t n;
};
/* Keys and values of one layer. `source`: the layer that stores them, itself or an earlier one of the same shape. No heads: they lie elsewhere. */
struct ds_kv_shape {
    uint32_t kv_heads, head_dim, source;
};
ds_status ds_cache_plan_layers(struct ds_cache_memory *cache, struct ds_device *device, const struct ds_kv_shape *layers, uint32_t count,
                               uint32_t pages, bool f16, struct ds_error *err);
/* All layers alike. */
ds_status ds_cache_plan(struct ds_cache_memory *cache, struct ds_device *device, uint32_t layers, uint32_t kv_heads, uint32_t head_dim,
                        uint32_t pages, bool f16, struct ds_error *err);
ds_status ds_cache_allocate(struct ds_cache_memory *cache, struct ds_error *err);
void ds_cache_free(struct ds_cache_memory *cache);
/* All layers' keys and values of one page, into another. */
ds_status ds_cache_copy_page(const struct ds_cache_memory *cache, struct ds_stream *stream, int32_t from, int32_t to, struct ds_error *err);
/* Bytes of one page of one layer, keys or values alone. */
uint64_t ds_cache_page_bytes(const struct ds_kv *kv);
/* Of a page of all layers that have places of their own, keys and values. */
uint64_t ds_cache_pages_bytes(const struct ds_cache_memory *cache);

#endif
