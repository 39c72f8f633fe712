#include "pool.h"

#include "base/os.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How long a thread looks before it sleeps: longer than the gap between two ops, shorter than a scheduler's time slice. */
#define SPIN_SECONDS 40e-6
enum { PAUSES_A_LOOK = 32 };

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
    bool spin; /* every thread can have a processor of its own */
    unsigned threads; /* with the caller */
    unsigned workers; /* started so far */

    /* The run: written by the caller before `start` opens, read by workers after. */
    ds_pool_fn fn;
    void *context;
    bool stop;

    struct worker {
        struct ds_pool *pool;
        struct ds_os_thread *thread;
        unsigned member;
    } worker[];
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

/* Returns once value differs from `old`. */
static void gate_wait(struct gate *gate, unsigned old, bool spin) {
    if (spin) {
        const double begin = ds_os_seconds();
        do {
            for (int i = 0; i < PAUSES_A_LOOK; i++) {
                if (atomic_load_explicit(&gate->value, memory_order_acquire) != old) return;
                pause_processor();
            }
        } while (ds_os_seconds() - begin < SPIN_SECONDS);
    }
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

void ds_pool_barrier(struct ds_pool *pool) {
    if (pool->threads == 1) return;
    const unsigned round = atomic_load(&pool->round.value);
    if (atomic_fetch_add(&pool->arrived, 1) + 1 == pool->threads) {
        atomic_store(&pool->arrived, 0);
        gate_open(&pool->round);
    } else {
        gate_wait(&pool->round, round, pool->spin);
    }
}

static void worker_main(void *user) {
    const struct worker *self = user;
    struct ds_pool *pool = self->pool;
    (void)ds_os_float_begin();
    for (unsigned seen = 0;; seen++) {
        gate_wait(&pool->start, seen, pool->spin);
        if (pool->stop) return;
        pool->fn(pool->context, self->member, pool->threads);
        ds_pool_barrier(pool); /* no worker can fall a run behind, so a run's fields need no lock */
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
    ds_pool_barrier(pool);
    ds_os_float_restore(state);
    atomic_store(&pool->running, false);
    return DS_OK;
}

unsigned ds_pool_threads(const struct ds_pool *pool) { return pool->threads; }

void ds_pool_destroy(struct ds_pool *pool) {
    if (!pool) return;
    if (pool->workers > 0) {
        pool->stop = true;
        gate_open(&pool->start);
    }
    for (unsigned i = 0; i < pool->workers; i++) ds_os_thread_join(pool->worker[i].thread);
    gate_destroy(&pool->start);
    gate_destroy(&pool->round);
    free(pool);
}

static ds_status start_workers(struct ds_pool *pool, struct ds_error *err) {
    for (; pool->workers + 1 < pool->threads; pool->workers++) {
        struct worker *worker = &pool->worker[pool->workers];
        *worker = (struct worker){.pool = pool, .member = pool->workers + 1};
        char name[24];
        snprintf(name, sizeof name, "dspark-%u", worker->member);
        DS_TRY(ds_os_thread_create(worker_main, worker, name, &worker->thread, err));
    }
    return DS_OK;
}

ds_status ds_pool_create(unsigned threads, struct ds_pool **out, struct ds_error *err) {
    *out = NULL;
    const unsigned processors = ds_os_cpu_count();
    if (threads == 0) threads = DS_MIN(processors, (unsigned)DS_POOL_MAX_THREADS);
    if (threads > DS_POOL_MAX_THREADS)
        return ds_fail(err, DS_ERROR_ARGUMENT, "%u threads asked for; at most %d are possible", threads, DS_POOL_MAX_THREADS);

    const size_t bytes = DS_ALIGN_UP(sizeof(struct ds_pool) + (threads - 1) * sizeof(struct worker), 64);
    struct ds_pool *pool = aligned_alloc(64, bytes);
    if (!pool) return ds_fail_memory(err, bytes, "the thread pool");
    memset(pool, 0, bytes);
    pool->threads = threads;
    pool->spin = threads <= processors;
    ds_status status = DS_OK;
    if (!gate_create(&pool->start) || !gate_create(&pool->round)) status = ds_fail_memory(err, bytes, "the thread pool's locks");
    else status = start_workers(pool, err);
    if (status != DS_OK) {
        ds_pool_destroy(pool);
        return status;
    }
    *out = pool;
    return DS_OK;
}
