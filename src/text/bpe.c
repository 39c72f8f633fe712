#include "text/bpe.h"

#include "text/utf8.h"

#include <string.h>

enum { NONE = -1 };
static const uint32_t no_rank = UINT32_MAX;

struct ds_bpe_pair {
    int32_t left, right; /* left NONE: a free slot */
    uint32_t rank;
};

/* A token of the piece so far. Links are indices; the list ends in UINT32_MAX on both sides. */
struct ds_bpe_symbol {
    int32_t id;
    uint32_t previous, next;
    uint32_t rank; /* of the pair (this, next); no_rank: none, or this symbol was merged away */
};

/* The longest piece: indices and the heap's capacity stay within 32 bits. */
static const size_t max_piece = 1u << 29;

/* --- the table of merges --- */

ds_status ds_bpe_init(struct ds_bpe *bpe, size_t merges, struct ds_arena *arena, struct ds_error *err) {
    if (merges >= max_piece) return ds_fail(err, DS_ERROR_UNSUPPORTED, "%zu merges, the limit is %zu", merges, max_piece);
    size_t slots = 16;
    while (slots / 3 < merges / 2 + 1) slots *= 2;
    bpe->pairs = ds_arena_array(arena, slots, sizeof *bpe->pairs);
    bpe->results = ds_arena_array(arena, merges, sizeof *bpe->results);
    if (!bpe->pairs || !bpe->results) return ds_fail_memory(err, slots * sizeof *bpe->pairs, "the table of merges");
    for (size_t i = 0; i < slots; i++) bpe->pairs[i].left = NONE;
    bpe->mask = slots - 1;
    return DS_OK;
}

/* The slot of a pair, or the free one where it belongs. The constant is 2^64 / golden ratio. */
static struct ds_bpe_pair *slot_of(const struct ds_bpe *bpe, int32_t left, int32_t right) {
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    h ^= h >> 29;
    h *= 0x9E3779B97F4A7C15u;
    for (size_t i = (size_t)(h >> 32) & bpe->mask;; i = (i + 1) & bpe->mask) {
        struct ds_bpe_pair *slot = &bpe->pairs[i];
        if (slot->left == NONE || (slot->left == left && slot->right == right)) return slot;
    }
}

void ds_bpe_add_merge(struct ds_bpe *bpe, uint32_t rank, int32_t left, int32_t right, int32_t result) {
    *slot_of(bpe, left, right) = (struct ds_bpe_pair){left, right, rank};
    bpe->results[rank] = result;
}

/* --- scratch --- */

/* A piece of n symbols has n - 1 pairs; each of at most n - 1 merges makes two new ones. */
static size_t heap_size(size_t symbols) {
    return 3 * symbols;
}

static ds_status reserve(struct ds_bpe_work *work, size_t symbols, struct ds_error *err) {
    if (symbols <= work->capacity) return DS_OK;
    const size_t capacity = DS_MAX(symbols, (size_t)64);
    ds_bpe_work_free(work);
    work->symbols = malloc(capacity * sizeof *work->symbols);
    work->heap = malloc(heap_size(capacity) * sizeof *work->heap);
    if (!work->symbols || !work->heap) return ds_fail_memory(err, capacity * 40, "merging tokens");
    work->capacity = capacity;
    return DS_OK;
}

void ds_bpe_work_free(struct ds_bpe_work *work) {
    free(work->symbols);
    free(work->heap);
    work->symbols = NULL;
    work->heap = NULL;
    work->capacity = 0;
}

/* --- the queue: a binary heap of rank << 32 | position, so that plain comparison finds the leftmost of the lowest rank --- */

static void heap_push(struct ds_bpe_work *work, uint64_t entry) {
    size_t i = work->n_heap++;
    for (; i > 0 && work->heap[(i - 1) / 2] > entry; i = (i - 1) / 2, work->steps++) work->heap[i] = work->heap[(i - 1) / 2];
    work->heap[i] = entry;
}

static uint64_t heap_pop(struct ds_bpe_work *work) {
    uint64_t *heap = work->heap;
    const uint64_t top = heap[0], last = heap[--work->n_heap];
    size_t i = 0;
    for (size_t child = 1; child < work->n_heap; child = 2 * i + 1, work->steps++) {
        if (child + 1 < work->n_heap && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= last) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

/* --- merging --- */

static bool is_end(uint32_t index) {
    return index == UINT32_MAX;
}

/* Looks up the rank of the pair at `at` and queues it. */
static void queue_pair(const struct ds_bpe *bpe, struct ds_bpe_work *work, uint32_t at) {
    struct ds_bpe_symbol *symbol = &work->symbols[at];
    symbol->rank = no_rank;
    if (is_end(symbol->next)) return;
    const struct ds_bpe_pair *pair = slot_of(bpe, symbol->id, work->symbols[symbol->next].id);
    work->steps++;
    if (pair->left == NONE) return;
    symbol->rank = pair->rank;
    heap_push(work, (uint64_t)pair->rank << 32 | at);
}

/* The list of the piece's byte tokens; returns how many. */
static size_t start_symbols(const struct ds_bpe *bpe, struct ds_bpe_work *work, const char *piece, size_t length) {
    size_t n = 0;
    bool after_unknown = false;
    for (size_t i = 0; i < length; i++) {
        int32_t id = bpe->byte_ids[(uint8_t)piece[i]];
        const bool unknown = id < 0;
        if (unknown) id = bpe->unknown;
        const bool skipped = id < 0 || (unknown && after_unknown && bpe->fuse_unknown);
        after_unknown = unknown;
        if (skipped) continue;
        work->symbols[n] = (struct ds_bpe_symbol){.id = id, .previous = (uint32_t)n - 1, .next = (uint32_t)n + 1};
        n++;
    }
    if (n) work->symbols[n - 1].next = UINT32_MAX;
    return n;
}

static void append_symbol(struct ds_bpe_work *work, size_t *n, int32_t id) {
    work->symbols[*n] = (struct ds_bpe_symbol){.id = id, .previous = (uint32_t)*n - 1, .next = (uint32_t)*n + 1};
    (*n)++;
}

/* The same by characters: each a token, or its bytes' tokens if all of them are there, or unknown. */
static size_t start_characters(const struct ds_bpe *bpe, struct ds_bpe_work *work, const char *piece, size_t length) {
    size_t n = 0;
    bool after_unknown = false;
    for (size_t i = 0, size; i < length; i += size) {
        size = DS_MAX(ds_utf8_classify(piece + i, length - i).length, (size_t)1);
        int32_t id = ds_string_map_find(&bpe->singles, (struct ds_text){piece + i, size});
        bool bytes = id < 0;
        for (size_t k = 0; k < size && bytes; k++) bytes = bpe->byte_ids[(uint8_t)piece[i + k]] >= 0;
        const bool unknown = id < 0 && !bytes;
        if (unknown) id = bpe->unknown;
        if (bytes)
            for (size_t k = 0; k < size; k++) append_symbol(work, &n, bpe->byte_ids[(uint8_t)piece[i + k]]);
        else if (id >= 0 && !(unknown && after_unknown && bpe->fuse_unknown)) append_symbol(work, &n, id);
        after_unknown = unknown;
    }
    if (n) work->symbols[n - 1].next = UINT32_MAX;
    return n;
}

static void merge_all(const struct ds_bpe *bpe, struct ds_bpe_work *work, size_t n) {
    struct ds_bpe_symbol *symbols = work->symbols;
    work->n_heap = 0;
    for (size_t i = 0; i < n; i++) queue_pair(bpe, work, (uint32_t)i);
    while (work->n_heap) {
        const uint64_t entry = heap_pop(work);
        const uint32_t rank = (uint32_t)(entry >> 32), at = (uint32_t)entry;
        /* An entry is stale when its pair has changed since: a pair's rank tells pairs apart. */
        if (symbols[at].rank != rank) continue;
        struct ds_bpe_symbol *right = &symbols[symbols[at].next];
        symbols[at].id = bpe->results[rank];
        symbols[at].next = right->next;
        if (!is_end(right->next)) symbols[right->next].previous = at;
        right->rank = no_rank;
        queue_pair(bpe, work, at);
        if (!is_end(symbols[at].previous)) queue_pair(bpe, work, symbols[at].previous);
    }
}

ds_status ds_bpe_encode(const struct ds_bpe *bpe, struct ds_bpe_work *work, const char *piece, size_t length,
                        struct ds_ids *out, struct ds_error *err) {
    if (length == 0) return DS_OK;
    if (length > max_piece) return ds_fail(err, DS_ERROR_LIMIT, "a word of %zu bytes, the limit is %zu", length, max_piece);
    if (bpe->whole_words) {
        const int32_t id = ds_string_map_find(&bpe->words, (struct ds_text){piece, length});
        if (id >= 0) return ds_ids_push(out, id, err);
    }
    DS_TRY(reserve(work, length, err));
    const size_t n = bpe->characters ? start_characters(bpe, work, piece, length) : start_symbols(bpe, work, piece, length);
    if (n == 0) return DS_OK;
    merge_all(bpe, work, n);
    DS_TRY(ds_ids_reserve(out, n, err));
    for (uint32_t i = 0; !is_end(i); i = work->symbols[i].next) out->ids[out->count++] = work->symbols[i].id;
    return DS_OK;
}
