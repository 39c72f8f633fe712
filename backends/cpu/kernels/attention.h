/* Bounds of attention's units and its scratch memory, which scratch.c and the kernel agree on. */
#ifndef DSPARK_CPU_ATTENTION_H
#define DSPARK_CPU_ATTENTION_H

#include "ops/ops.h"

enum {
    DS_ATTENTION_ROWS = 16,      /* rows of one sequence that a unit takes along, at most */
    DS_ATTENTION_PLACES = 64,    /* rows * query heads that a unit tends to: their state stays in the second-level cache */
    DS_ATTENTION_TILE = 32,      /* keys or dimensions that are widened at once: a cache line of the cache */
    DS_ATTENTION_QUERIES = 128,  /* query heads of one kv head; can_run refuses more */
    DS_ATTENTION_SPLIT_ROWS = 64 /* ops of more rows have units enough for all threads: their chunks are never split */
};

/* Rows of a unit: at least 1. */
static inline uint32_t ds_attention_rows(uint32_t queries) {
    const uint32_t rows = DS_ATTENTION_PLACES / queries;
    return rows > DS_ATTENTION_ROWS ? DS_ATTENTION_ROWS : rows < 1 ? 1 : rows;
}

/* Floats of a unit of `n` rows * queries: attention_chunk.h, struct unit. */
static inline uint64_t ds_attention_floats(uint64_t n, uint64_t dim) {
    const uint64_t tile = DS_ATTENTION_TILE * (dim > DS_PAGE ? dim : DS_PAGE);
    return n * (3 * dim + DS_CHUNK + 4) + tile;
}

/*
 * Chunks whose results lie in shared memory at once where they are split among threads, and the floats that takes: for every row
 * and query head o[head_dim], m, l, and M, L of the chunks before.
 */
static inline uint32_t ds_attention_wave(const struct ds_op_attention *p) {
    enum { FLOATS = 1 << 20 };
    const uint64_t each = (uint64_t)p->q.rows * p->heads * (p->kv.head_dim + 2);
    const uint64_t possible = (p->paging.pages_per_sequence * (uint64_t)DS_PAGE + DS_CHUNK - 1) / DS_CHUNK;
    const uint64_t fit = each > FLOATS ? 1 : FLOATS / each;
    return (uint32_t)(fit < possible ? fit : possible);
}
static inline uint64_t ds_attention_shared_floats(const struct ds_op_attention *p) {
    const uint64_t places = (uint64_t)p->q.rows * p->heads;
    return places * (p->kv.head_dim + 2) * ds_attention_wave(p) + 2 * places;
}

#endif
