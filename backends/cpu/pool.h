/*
 * A fixed team of threads that run one function together. Made for the token loop: a run costs about a microsecond when the
 * threads are awake, nothing is allocated, and no thread spins for long on one that the system has put aside.
 *
 * A pool is driven by one thread at a time; that thread is member 0. All members compute in the float state that the
 * numerics contract needs; the caller's own is put back when the run ends.
 */
#ifndef DSPARK_CPU_POOL_H
#define DSPARK_CPU_POOL_H

#include "base/status.h"

struct ds_pool;

enum { DS_POOL_MAX_THREADS = 1024 };

/* Called once by each of the pool's `members` threads, member = 0 .. members - 1. */
typedef void (*ds_pool_fn)(void *context, unsigned member, unsigned members);

/* threads 0: one per processor this process may use. More threads than processors work, they only do not spin. */
ds_status ds_pool_create(unsigned threads, struct ds_pool **out, struct ds_error *err);
void ds_pool_destroy(struct ds_pool *pool); /* accepts NULL; not during a run */
unsigned ds_pool_threads(const struct ds_pool *pool);

/*
 * Runs fn on all threads and returns when every one has finished; what they wrote is then visible to the caller.
 * DS_ERROR_ARGUMENT for a run inside a run (or beside one, on another thread), which would deadlock.
 */
ds_status ds_pool_run(struct ds_pool *pool, ds_pool_fn fn, void *context, struct ds_error *err);

/* Inside fn: waits until every member is here, and makes visible what all wrote before. All members must make the same calls. */
void ds_pool_barrier(struct ds_pool *pool);

/* The share [*first, *end) of `count` items that belongs to a member: contiguous, sizes differ by one at most. */
static inline void ds_pool_share(uint64_t count, unsigned member, unsigned members, uint64_t *first, uint64_t *end) {
    const uint64_t each = count / members, rest = count % members;
    *first = each * member + DS_MIN((uint64_t)member, rest);
    *end = *first + each + (member < rest);
}

#endif
