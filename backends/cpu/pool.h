/*
 * A fixed team of threads that run one function together. Made for the token loop: a run costs about a microsecond when the
 * threads are awake, nothing is allocated, and no thread spins for long on one that the system has put aside.
 *
 * A pool is driven by one thread at a time; that thread is member 0. All members compute in the float state that the
 * numerics contract needs; the caller's own is put back when the run ends.
 */
#ifndef DSPARK_CPU_POOL_H
#define DSPARK_CPU_POOL_H

#include "base/os.h"

struct ds_pool;

enum { DS_POOL_MAX_THREADS = 1024 };

/* Called once by each of the pool's `members` threads, member = 0 .. members - 1. */
typedef void (*ds_pool_fn)(void *context, unsigned member, unsigned members);

/*
 * threads 0: one per processor this process may use. More threads than processors that are wholly ours (an affinity mask, a quota)
 * work, they only do not spin. Where the system says that its cores differ, members are kept on the biggest ones, one each (but
 * not member 0, the caller's own thread), and their shares differ likewise.
 */
ds_status ds_pool_create(unsigned threads, struct ds_pool **out, struct ds_error *err);

/* The same on a machine as described, for tests. */
struct ds_pool_machine {
    unsigned processors;                    /* that this process may use */
    unsigned whole;                         /* of them those it may keep busy */
    const struct ds_os_processor *cores;    /* [processors], or NULL: all alike */
    bool pin;
};
ds_status ds_pool_create_on(const struct ds_pool_machine *machine, unsigned threads, struct ds_pool **out, struct ds_error *err);
void ds_pool_destroy(struct ds_pool *pool); /* accepts NULL; not during a run */
unsigned ds_pool_threads(const struct ds_pool *pool);

/*
 * Runs fn on all threads and returns when every one has finished; what they wrote is then visible to the caller.
 * DS_ERROR_ARGUMENT for a run inside a run (or beside one, on another thread), which would deadlock.
 */
ds_status ds_pool_run(struct ds_pool *pool, ds_pool_fn fn, void *context, struct ds_error *err);

/* Inside fn: waits until every member is here, and makes visible what all wrote before. All members must make the same calls. */
void ds_pool_barrier(struct ds_pool *pool, unsigned member);

/* How members' waits ended so far, of all together: while they spun, or after a sleep. For tests. */
struct ds_pool_counts {
    uint64_t spins, sleeps;
};
struct ds_pool_counts ds_pool_get_counts(const struct ds_pool *pool);

/*
 * Where cores differ: edges[0] = 0 .. edges[members], what members 0 .. m - 1 together can do. NULL: all alike. A member's share of
 * `count` items is then [count * edges[m] / edges[members], count * edges[m + 1] / edges[members]).
 */
const uint32_t *ds_pool_edges(const struct ds_pool *pool);

/* The share [*first, *end) of `count` items that belongs to a member: contiguous, sizes differ by one at most. */
static inline void ds_pool_share(uint64_t count, unsigned member, unsigned members, uint64_t *first, uint64_t *end) {
    const uint64_t each = count / members, rest = count % members;
    *first = each * member + DS_MIN((uint64_t)member, rest);
    *end = *first + each + (member < rest);
}

#endif
