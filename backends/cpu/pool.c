#include "pool.h"

#include "base/os.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * How long a thread looks before it sleeps: longer than the gap between two ops, shorter than a scheduler's time slice. Each time
 * that it was in vain, because a peer has lost its processor to somebody else, halves it, down to a sixteenth; each time that it was
 * not doubles it again.
 */
#define SPIN_SECONDS 60e-6
enum { PAUSES_A_LOOK = 32, LEAST_PATIENCE = 4 };

/*
 * A counter that threads wait on. Waiting: spin a bounded time, then sleep. The two-sided check makes a lost wake-up
 * impossible: a sleeper announces itself before it looks at `value` a last time, the opener changes `value` before it looks for
 * sleepers, and both are sequentially consistent.
 */
struct gate {
    _Alignas(64) atomic_uint value;
    atomic_uint sleepers;
    struct ds_os_mutex *mutex;
    struct ds_os_cond *cond;
};

struct ds_pool {
    struct gate start;   /* value: runs begun */
    struct gate round;   /* value: barriers completed */
    _Alignas(64) atomic_uint arrived; /* members at the present barrier */
    _Alignas(64) atomic_bool running;
    atomic_uint impatience; /* halvings of the time to spin */
    bool spin; /* every thread can have a processor of its own */
    uint32_t *edges; /* pool.h; NULL: all alike */
    unsigned threads; /* with the caller */
    unsigned workers; /* started so far */

    /* The run: written by the caller before `start` opens, read by workers after. */
    ds_pool_fn fn;
    void *context;
    bool stop;

    struct worker {
        _Alignas(64) struct ds_pool *pool;
        struct ds_os_thread *thread;
        unsigned member;
        int processor; /* to stay on; -1: any */
        struct counts {
            atomic_ullong spins, sleeps;
        } counts;
    } worker[]; /* [threads]; number 0 is the caller's, without a thread */
};

static inline void pause_processor(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static bool gate_create(struct gate *gate) {
    gate->mutex = ds_os_mutex_create();
    gate->cond = ds_os_cond_create();
    return gate->mutex && gate->cond;
}

static void gate_destroy(struct gate *gate) {
    if (gate->cond) ds_os_cond_destroy(gate->cond);
    if (gate->mutex) ds_os_mutex_destroy(gate->mutex);
}

/* Whether value came to differ from `old` within the time. */
static bool gate_spin(struct gate *gate, unsigned old, double seconds) {
    const double begin = ds_os_seconds();
    do {
        for (int i = 0; i < PAUSES_A_LOOK; i++) {
            if (atomic_load_explicit(&gate->value, memory_order_acquire) != old) return true;
            pause_processor();
        }
    } while (ds_os_seconds() - begin < seconds);
    return false;
}

/* Returns once value differs from `old`. */
static void gate_wait(struct ds_pool *pool, struct gate *gate, unsigned old, struct counts *counts) {
    if (pool->spin) {
        const unsigned impatience = atomic_load_explicit(&pool->impatience, memory_order_relaxed);
        const bool come = gate_spin(gate, old, SPIN_SECONDS / (1u << impatience));
        if (gate == &pool->round) { /* between runs nobody is expected */
            if (come && impatience > 0) atomic_store_explicit(&pool->impatience, impatience - 1, memory_order_relaxed);
            if (!come && impatience < LEAST_PATIENCE) atomic_store_explicit(&pool->impatience, impatience + 1, memory_order_relaxed);
        }
        if (come) {
            atomic_fetch_add_explicit(&counts->spins, 1, memory_order_relaxed);
            return;
        }
    }
    atomic_fetch_add_explicit(&counts->sleeps, 1, memory_order_relaxed);
    ds_os_mutex_lock(gate->mutex);
    atomic_fetch_add(&gate->sleepers, 1);
    while (atomic_load(&gate->value) == old) ds_os_cond_wait(gate->cond, gate->mutex);
    atomic_fetch_sub(&gate->sleepers, 1);
    ds_os_mutex_unlock(gate->mutex);
}

static void gate_open(struct gate *gate) {
    atomic_fetch_add(&gate->value, 1);
    if (atomic_load(&gate->sleepers) == 0) return;
    ds_os_mutex_lock(gate->mutex);
    ds_os_cond_broadcast(gate->cond);
    ds_os_mutex_unlock(gate->mutex);
}

static void barrier(struct ds_pool *pool, struct counts *counts) {
    if (pool->threads == 1) return;
    const unsigned round = atomic_load(&pool->round.value);
    if (atomic_fetch_add(&pool->arrived, 1) + 1 == pool->threads) {
        atomic_store(&pool->arrived, 0);
        gate_open(&pool->round);
    } else {
        gate_wait(pool, &pool->round, round, counts);
    }
}

void ds_pool_barrier(struct ds_pool *pool, unsigned member) { barrier(pool, &pool->worker[member].counts); }

static void worker_main(void *user) {
    struct worker *self = user;
    struct ds_pool *pool = self->pool;
    (void)ds_os_float_begin();
    if (self->processor >= 0) ds_os_thread_pin((unsigned)self->processor);
    for (unsigned seen = 0;; seen++) {
        gate_wait(pool, &pool->start, seen, &self->counts);
        if (pool->stop) return;
        pool->fn(pool->context, self->member, pool->threads);
        barrier(pool, &self->counts); /* no worker can fall a run behind, so a run's fields need no lock */
    }
}

ds_status ds_pool_run(struct ds_pool *pool, ds_pool_fn fn, void *context, struct ds_error *err) {
    if (atomic_exchange(&pool->running, true))
        return ds_fail(err, DS_ERROR_ARGUMENT, "thread pool: a run was started while another one is going on; one thread at a time may use a device's streams");
    const struct ds_float_state state = ds_os_float_begin();
    pool->fn = fn;
    pool->context = context;
    if (pool->workers > 0) gate_open(&pool->start);
    fn(context, 0, pool->threads);
    ds_pool_barrier(pool, 0);
    ds_os_float_restore(state);
    atomic_store(&pool->running, false);
    return DS_OK;
}

unsigned ds_pool_threads(const struct ds_pool *pool) { return pool->threads; }
const uint32_t *ds_pool_edges(const struct ds_pool *pool) { return pool->edges; }

struct ds_pool_counts ds_pool_get_counts(const struct ds_pool *pool) {
    struct ds_pool_counts all = {0};
    for (unsigned i = 0; i < pool->threads; i++) {
        all.spins += atomic_load(&pool->worker[i].counts.spins);
        all.sleeps += atomic_load(&pool->worker[i].counts.sleeps);
    }
    return all;
}

void ds_pool_destroy(struct ds_pool *pool) {
    if (!pool) return;
    if (pool->workers > 0) {
        pool->stop = true;
        gate_open(&pool->start);
    }
    for (unsigned i = 1; i <= pool->workers; i++) ds_os_thread_join(pool->worker[i].thread);
    gate_destroy(&pool->start);
    gate_destroy(&pool->round);
    free(pool->edges);
    free(pool);
}

static ds_status start_workers(struct ds_pool *pool, struct ds_error *err) {
    for (; pool->workers + 1 < pool->threads; pool->workers++) {
        struct worker *worker = &pool->worker[pool->workers + 1];
        char name[24];
        snprintf(name, sizeof name, "dspark-%u", worker->member);
        DS_TRY(ds_os_thread_create(worker_main, worker, name, &worker->thread, err));
    }
    return DS_OK;
}

/* --- cores that differ --- */

static int biggest_first(const void *a, const void *b) {
    const struct ds_os_processor *x = a, *y = b;
    return x->capacity != y->capacity ? (x->capacity < y->capacity ? 1 : -1) : (x->id > y->id) - (x->id < y->id);
}

static bool cores_differ(const struct ds_pool_machine *machine) {
    bool differ = false;
    for (unsigned i = 0; machine->cores && i < machine->processors; i++) {
        if (machine->cores[i].capacity == 0) return false;
        differ |= machine->cores[i].capacity != machine->cores[0].capacity;
    }
    return differ;
}

/* More threads than cores go where the system puts them, and are alike. */
static ds_status place_members(struct ds_pool *pool, const struct ds_pool_machine *machine, struct ds_error *err) {
    if (pool->threads > machine->processors || !cores_differ(machine)) return DS_OK;
    const size_t bytes = machine->processors * sizeof(struct ds_os_processor);
    struct ds_os_processor *cores = malloc(bytes);
    pool->edges = calloc(pool->threads + 1, sizeof *pool->edges);
    if (!cores || !pool->edges) {
        free(cores);
        return ds_fail_memory(err, bytes, "the thread pool's processors");
    }
    memcpy(cores, machine->cores, bytes);
    qsort(cores, machine->processors, sizeof *cores, biggest_first);
    for (unsigned i = 0; i < pool->threads; i++) {
        pool->edges[i + 1] = pool->edges[i] + cores[i].capacity;
        if (machine->pin && i > 0) pool->worker[i].processor = (int)cores[i].id;
    }
    free(cores);
    return DS_OK;
}

ds_status ds_pool_create_on(const struct ds_pool_machine *machine, unsigned threads, struct ds_pool **out, struct ds_error *err) {
    *out = NULL;
    if (threads == 0) threads = DS_MIN(machine->processors, (unsigned)DS_POOL_MAX_THREADS);
    if (threads > DS_POOL_MAX_THREADS)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%u threads asked for; at most %d are possible", threads, DS_POOL_MAX_THREADS);

    const size_t bytes = DS_ALIGN_UP(sizeof(struct ds_pool) + threads * sizeof(struct worker), 64);
    struct ds_pool *pool = aligned_alloc(64, bytes);
    if (!pool) return ds_fail_memory(err, bytes, "the thread pool");
    memset(pool, 0, bytes);
    pool->threads = threads;
    pool->spin = threads <= machine->whole;
    for (unsigned i = 0; i < threads; i++) {
        pool->worker[i].pool = pool;
        pool->worker[i].member = i;
        pool->worker[i].processor = -1;
    }
    ds_status status = DS_OK;
    if (!gate_create(&pool->start) || !gate_create(&pool->round)) status = ds_fail_memory(err, bytes, "the thread pool's locks");
    if (status == DS_OK) status = place_members(pool, machine, err);
    if (status == DS_OK) status = start_workers(pool, err);
    if (status != DS_OK) {
        ds_pool_destroy(pool);
        return status;
    }
    *out = pool;
    return DS_OK;
}

ds_status ds_pool_create(unsigned threads, struct ds_pool **out, struct ds_error *err) {
    struct ds_os_processor cores[DS_POOL_MAX_THREADS];
    const unsigned known = ds_os_processors(NULL, cores, DS_POOL_MAX_THREADS);
    const struct ds_pool_machine machine = {.processors = ds_os_cpu_count(), .whole = ds_os_cpu_whole(), .pin = true,
                                            .cores = known > 0 && known == ds_os_cpu_count() && known <= DS_POOL_MAX_THREADS ? cores : NULL};
    return ds_pool_create_on(&machine, threads, out, err);
}
