#include "emu.h"

#include "emu_internal.h"
#include "fiber.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STACK_BYTES = 128 * 1024, POISON = 0xFF /* as a float a NaN, as an index -1 */, MOST_WAVE = 64 };

enum state { READY, AT_WAVE, AT_BARRIER, DONE };

/* What a thread has under way, in groups: of [0, last) of the list, of [last, closed), and one that is still open. */
struct copies {
    struct {
        void *to;
        const void *from;
    } list[EMU_MOST_COPIES];
    uint32_t count, closed, last;
};

struct lane {
    struct emu_fiber fiber;
    struct copies copies;
    struct emu_thread id;
    enum state state;
    uint32_t exchanges; /* how many this thread has made: their parity chooses the buffer */
};

/* One wave's words; two, so that a lane may hand in the next ones while others still read. */
struct slots {
    uint32_t words[2][MOST_WAVE][EMU_WORDS];
};

/* All there is of a processor. One, because launches take turns. */
static struct machine {
    struct emu_fiber scheduler;
    struct lane lanes[EMU_MOST_THREADS];
    struct slots slots[EMU_MOST_THREADS / 32];
    uint32_t ready;            /* lanes that have a stack */
    struct emu_guarded shared; /* EMU_SHARED_BYTES; what a kernel has of it ends where it ends */
    size_t shared_used;        /* static, by the kernel at hand, rounded up as buffers are */
    unsigned char *dynamic;
    struct lane *current;
    const struct emu_launch *launch;
    uint64_t order;            /* state of the random order */
    char fault[160];           /* empty: none */
} machine;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

__thread struct emu_thread *ds_emu_self __attribute__((tls_model("initial-exec")));

const char *ds_emu_last_fault(void) { return machine.fault; }

/* --- inside a kernel --- */

static void leave(enum state state) {
    struct lane *const lane = machine.current;
    lane->state = state;
    emu_fiber_switch(&lane->fiber, &machine.scheduler);
}

static void fault(const char *what) {
    if (machine.fault[0]) return;
    const struct emu_thread *at = &machine.current->id;
    snprintf(machine.fault, sizeof machine.fault, "%s (block %u, %u, %u, thread %u)", what, at->block[0], at->block[1], at->block[2], at->thread);
}

void ds_emu_barrier(void) { leave(AT_BARRIER); }

void *ds_emu_shared(size_t bytes) {
    if (bytes > EMU_SHARED_BYTES) {
        fault("more static shared memory than a block has");
        leave(DONE); /* never continued: the launch ends */
    }
    machine.shared_used = (bytes + 63) / 64 * 64;
    return machine.shared.data + EMU_SHARED_BYTES - machine.shared_used;
}

void *ds_emu_dynamic_shared(void) { return machine.dynamic; }

const uint32_t (*ds_emu_exchange(const uint32_t *given, uint32_t words))[EMU_WORDS] {
    struct lane *const lane = machine.current;
    const uint32_t wave = machine.launch->wave;
    struct slots *const slots = &machine.slots[lane->id.thread / wave];
    const uint32_t buffer = lane->exchanges++ % 2;
    memcpy(slots->words[buffer][lane->id.thread % wave], given, words * sizeof *given);
    leave(AT_WAVE);
    return (const uint32_t(*)[EMU_WORDS])slots->words[buffer];
}

void ds_emu_at_once(const void *at) {
    if ((uintptr_t)at % 16 != 0) fault("16 bytes at once that are not aligned to 16");
}

void ds_emu_copy16(void *to, const void *from) {
    struct copies *const copies = &machine.current->copies;
    ds_emu_at_once(to);
    ds_emu_at_once(from);
    if (copies->count == EMU_MOST_COPIES) {
        fault("more copies under way than the emulator keeps of a thread");
        return;
    }
    copies->list[copies->count].to = to;
    copies->list[copies->count++].from = from;
}

void ds_emu_copy_group(void) {
    struct copies *const copies = &machine.current->copies;
    copies->last = copies->closed;
    copies->closed = copies->count;
}

void ds_emu_copy_wait(bool but_last) {
    struct copies *const copies = &machine.current->copies;
    const uint32_t done = but_last ? copies->last : copies->count;
    for (uint32_t i = 0; i < done; i++) memcpy(copies->list[i].to, copies->list[i].from, 16);
    memmove(copies->list, copies->list + done, (copies->count - done) * sizeof *copies->list);
    copies->count -= done;
    copies->closed -= but_last ? done : copies->closed;
    copies->last = 0;
}

/* --- the scheduler --- */

static void lane_main(void) {
    for (;;) {
        machine.launch->body(machine.launch->closure);
        if (!machine.current->id.begun) fault("a thread that ends without gpu_begin");
        if (machine.current->copies.count) fault("a thread that ends while a copy of its own is under way");
        leave(DONE);
    }
}

static uint32_t random_word(void) {
    machine.order ^= machine.order << 13;
    machine.order ^= machine.order >> 7;
    machine.order ^= machine.order << 17;
    return (uint32_t)(machine.order >> 32);
}

static uint32_t divisor(uint32_t a, uint32_t b) { return b ? divisor(b, a % b) : a; }

/* A random order of n things: i -> (first + i * step) mod n, step prime to n. */
struct order {
    uint64_t n, first, step;
};
static struct order any_order(uint32_t n) {
    struct order order = {.n = n, .first = random_word() % n, .step = 1 + random_word() % n};
    while (divisor((uint32_t)order.step, n) != 1) order.step = 1 + order.step % n;
    return order;
}
static uint32_t in_order(const struct order *order, uint32_t i) { return (uint32_t)((order->first + i * order->step) % order->n); }

/* Runs the lanes of a wave until each is done or at a barrier. False: a rule was broken. */
static bool run_wave(uint32_t first, uint32_t count) {
    for (;;) {
        const struct order order = any_order(count);
        uint32_t at[DONE + 1] = {0}, exchanges = 0;
        for (uint32_t i = 0; i < count; i++) {
            struct lane *const lane = &machine.lanes[first + in_order(&order, i)];
            machine.current = lane;
            ds_emu_self = &lane->id;
            if (lane->state == READY) emu_fiber_switch(&machine.scheduler, &lane->fiber);
            at[lane->state]++;
            if (lane->state == AT_WAVE) exchanges += lane->exchanges;
        }
        if (machine.fault[0]) return false;
        if (at[AT_WAVE] == 0) return true;
        if (at[AT_WAVE] != count) fault("a wave operation that not all lanes of the wave reach");
        else if (exchanges != count * machine.lanes[first].exchanges) fault("lanes of a wave in different wave operations");
        if (machine.fault[0]) return false;
        for (uint32_t i = 0; i < count; i++) machine.lanes[first + i].state = READY;
    }
}

static bool run_block(void) {
    const uint32_t threads = machine.launch->threads, wave = machine.launch->wave, waves = (threads + wave - 1) / wave;
    memset(machine.shared.data + EMU_SHARED_BYTES - machine.shared_used, POISON, machine.shared_used);
    if (machine.launch->shared) memset(machine.dynamic, POISON, machine.launch->shared);
    for (uint32_t t = 0; t < threads; t++) {
        machine.lanes[t].state = READY;
        machine.lanes[t].exchanges = 0;
        machine.lanes[t].copies.count = machine.lanes[t].copies.closed = machine.lanes[t].copies.last = 0;
        machine.lanes[t].id.begun = 0;
    }
    for (;;) {
        const struct order order = any_order(waves);
        for (uint32_t i = 0; i < waves; i++) {
            const uint32_t first = in_order(&order, i) * wave;
            if (!run_wave(first, threads - first < wave ? threads - first : wave)) return false;
        }
        uint32_t waiting = 0;
        for (uint32_t t = 0; t < threads; t++) waiting += machine.lanes[t].state == AT_BARRIER;
        if (waiting == 0) return true;
        if (waiting != threads) {
            fault("a barrier that not all threads of the block reach");
            return false;
        }
        for (uint32_t t = 0; t < threads; t++) machine.lanes[t].state = READY;
    }
}

static void start_lanes(uint32_t from, uint32_t to) {
    for (uint32_t t = from; t < to; t++) emu_fiber_start(&machine.lanes[t].fiber, STACK_BYTES, lane_main);
}

static bool prepare(const struct emu_launch *launch) {
    machine.launch = launch;
    machine.fault[0] = 0;
    machine.shared_used = EMU_SHARED_BYTES;
    if (machine.order == 0) machine.order = UINT64_C(0x9e3779b97f4a7c15);
    if (launch->threads == 0 || launch->threads > EMU_MOST_THREADS || launch->threads % launch->wave != 0) {
        snprintf(machine.fault, sizeof machine.fault, "a block of %u threads; expected a multiple of the wave's %u, at most %d", launch->threads,
                 launch->wave, EMU_MOST_THREADS);
        return false;
    }
    if (!machine.shared.data && !emu_guarded_create(&machine.shared, EMU_SHARED_BYTES)) return false;
    for (; machine.ready < launch->threads; machine.ready++) {
        if (!emu_fiber_init(&machine.lanes[machine.ready].fiber, STACK_BYTES)) return false;
        start_lanes(machine.ready, machine.ready + 1);
    }
    for (uint32_t t = 0; t < launch->threads; t++)
        machine.lanes[t].id = (struct emu_thread){.thread = t, .threads = launch->threads, .wave = launch->wave,
                                                  .grid = {launch->grid[0], launch->grid[1], launch->grid[2]}};
    return true;
}

gpuError_t ds_emu_run(const struct emu_launch *launch) {
    pthread_mutex_lock(&mutex);
    if (launch->library) {
        launch->body(launch->closure);
        pthread_mutex_unlock(&mutex);
        return gpuSuccess;
    }
    const uint32_t blocks = launch->grid[0] * launch->grid[1] * launch->grid[2];
    bool ok = prepare(launch);
    struct emu_guarded dynamic = {0};
    if (ok && launch->shared) ok = emu_guarded_create(&dynamic, launch->shared);
    machine.dynamic = dynamic.data;
    const struct order order = any_order(blocks);
    for (uint32_t i = 0; i < blocks && ok; i++) {
        const uint32_t block = in_order(&order, i);
        for (uint32_t t = 0; t < launch->threads; t++) {
            uint32_t *const at = machine.lanes[t].id.block;
            at[0] = block % launch->grid[0];
            at[1] = block / launch->grid[0] % launch->grid[1];
            at[2] = block / launch->grid[0] / launch->grid[1];
        }
        ok = run_block();
    }
    if (!ok) start_lanes(0, machine.ready); /* some stopped in the middle of the kernel */
    emu_guarded_destroy(&dynamic);
    machine.launch = NULL;
    pthread_mutex_unlock(&mutex);
    return ok ? gpuSuccess : gpuErrorLaunchFailure;
}
