/* The emulated device keeps the rules that real ones have, and breaks what breaks them. */
#include "gpu.h"

extern "C" {
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
}

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

enum { THREADS = 128 };

struct memory {
    uint32_t *words;
    gpuError_t error;
    explicit memory(size_t n) {
        void *data = nullptr;
        error = gpuMalloc(&data, n * sizeof(uint32_t));
        words = static_cast<uint32_t *>(data);
    }
    ~memory() { gpuFree(words); }
};

template <class... P, class... A> gpuError_t run(void (*kernel)(P...), A... arguments) {
    return gpu_launch(kernel, gpu_grid_of(2), THREADS, 0, nullptr, arguments...);
}

/* --- barriers and shuffles --- */

struct turned {
    uint32_t value[THREADS];
};

/* Every thread reads what another wrote: only a barrier between makes that right. */
template <bool BARRIER> GPU_KERNEL(THREADS) turn(uint32_t *out) {
    gpu_begin();
    GPU_SHARED(struct turned, s);
    for (uint32_t round = 0; round < 8; round++) {
        s.value[gpu_thread()] = 1000 * round + gpu_thread();
        if (BARRIER) gpu_barrier();
        out[(gpu_block_x() * 8 + round) * THREADS + gpu_thread()] = s.value[(gpu_thread() + 33) % THREADS];
        if (BARRIER) gpu_barrier();
    }
}

bool turned_right(const uint32_t *out) {
    for (uint32_t i = 0; i < 2 * 8 * THREADS; i++)
        if (out[i] != 1000 * (i / THREADS % 8) + (i + 33) % THREADS) return false;
    return true;
}

void a_barrier_makes_writes_of_others_visible(void **) {
    memory out(2 * 8 * THREADS);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(run(turn<true>, out.words), gpuSuccess);
        assert_true(turned_right(out.words));
    }
}

void a_missing_barrier_shows(void **) {
    memory out(2 * 8 * THREADS);
    int wrong = 0;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(run(turn<false>, out.words), gpuSuccess);
        wrong += !turned_right(out.words);
    }
    assert_int_equal(wrong, 20);
}

GPU_KERNEL(THREADS) divergent_barrier(uint32_t n) {
    gpu_begin();
    if (gpu_thread() < n) gpu_barrier();
}

void a_barrier_that_some_threads_miss_ends_the_launch(void **) {
    assert_int_equal(run(divergent_barrier, 64u), gpuErrorLaunchFailure);
    assert_non_null(strstr(gpuGetErrorString(gpuErrorLaunchFailure), "barrier"));
    assert_int_equal(run(divergent_barrier, static_cast<uint32_t>(THREADS)), gpuSuccess); /* and the device goes on */
}

GPU_KERNEL(THREADS) divergent_shuffle(uint32_t n) {
    gpu_begin();
    if (gpu_thread() < n) (void)gpu_shuffle(1, 0);
}

void a_shuffle_that_some_lanes_miss_ends_the_launch(void **) {
    assert_int_equal(run(divergent_shuffle, 5u), gpuErrorLaunchFailure);
    assert_int_equal(run(divergent_shuffle, static_cast<uint32_t>(DS_GPU_WAVE)), gpuSuccess); /* whole waves may */
}

GPU_KERNEL(THREADS) never_begins(uint32_t) {}

void a_kernel_that_does_not_begin_is_a_failure(void **) { assert_int_equal(run(never_begins, 1u), gpuErrorLaunchFailure); }

GPU_KERNEL(THREADS) shuffles(uint32_t *out) {
    gpu_begin();
    const uint32_t mine = 100 * gpu_thread();
    const uint32_t other = gpu_shuffle_xor(mine, 5), third = gpu_shuffle(other + 1, 7), again = gpu_shuffle(third + 1, 31 - gpu_lane());
    if (gpu_block_x() == 0) out[gpu_thread()] = other, out[THREADS + gpu_thread()] = again;
}

void shuffles_stay_within_a_team_of_32(void **) {
    memory out(2 * THREADS);
    assert_int_equal(run(shuffles, out.words), gpuSuccess);
    for (uint32_t t = 0; t < THREADS; t++) {
        const uint32_t team = t / 32 * 32;
        assert_int_equal(out.words[t], 100 * (team + (t % 32 ^ 5)));
        assert_int_equal(out.words[THREADS + t], 100 * (team + (7 ^ 5)) + 2);
    }
}

/* --- memory --- */

struct poisoned {
    uint32_t value[16];
};
GPU_KERNEL(THREADS) read_shared(uint32_t *out) {
    gpu_begin();
    GPU_SHARED(struct poisoned, s);
    GPU_DYNAMIC_SHARED(memory);
    uint32_t *const dynamic = reinterpret_cast<uint32_t *>(memory);
    if (gpu_thread() == 0) {
        out[2 * gpu_block_x()] = s.value[3];
        out[2 * gpu_block_x() + 1] = dynamic[5];
        s.value[3] = 7;
        dynamic[5] = 7;
    }
}

void shared_memory_holds_poison_when_a_block_starts(void **) {
    memory out(4);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(gpu_launch(read_shared, gpu_grid_of(2), THREADS, 64, nullptr, out.words), gpuSuccess);
        for (int k = 0; k < 4; k++) assert_int_equal(out.words[k], 0xffffffffu);
    }
}

GPU_KERNEL(THREADS) write_word(uint32_t *out, uint32_t index) {
    gpu_begin();
    if (gpu_block_x() == 0 && gpu_thread() == 0) out[index] = 1;
}

/* In a process of its own, which such a launch must end. */
template <class... P, class... A> bool kills(size_t shared, void (*kernel)(P...), A... arguments) {
    const pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL); /* not cmocka's */
        _exit(gpu_launch(kernel, gpu_grid_of(2), THREADS, shared, nullptr, arguments...) == gpuSuccess ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status);
}

void a_write_behind_a_buffer_does_not_pass(void **) {
    memory out(16); /* a multiple of the alignment: nothing rounds it up */
    assert_false(kills(0, write_word, out.words, 15u));
    assert_true(kills(0, write_word, out.words, 16u));
    assert_true(kills(0, write_word, out.words - 2048, 0u));
}

/* `words` lies at an address that the compiler does not know the end of. */
GPU_FN void touch(volatile uint32_t *words, uint32_t index) {
    if (gpu_thread() == 0) words[index] = words[index] + 1;
}
GPU_KERNEL(THREADS) touch_static(uint32_t index) {
    gpu_begin();
    GPU_SHARED(struct poisoned, s); /* 64 bytes: nothing rounds it up */
    touch(s.value, index);
}
GPU_KERNEL(THREADS) touch_dynamic(uint32_t index) {
    gpu_begin();
    GPU_DYNAMIC_SHARED(memory);
    touch(reinterpret_cast<uint32_t *>(memory), index);
}

void an_access_behind_shared_memory_does_not_pass(void **) {
    assert_false(kills(0, touch_static, 15u));
    assert_true(kills(0, touch_static, 16u));
    assert_false(kills(128, touch_dynamic, 31u));
    assert_true(kills(128, touch_dynamic, 32u));
}

/* --- 16 bytes at once --- */

GPU_KERNEL(THREADS) read_at(const unsigned char *from, uint32_t offset) {
    gpu_begin();
    (void)gpu_read16(from + offset);
}

void sixteen_bytes_at_once_must_be_aligned(void **) {
    memory from(16);
    const unsigned char *const bytes = reinterpret_cast<unsigned char *>(from.words);
    assert_int_equal(run(read_at, bytes, 16u), gpuSuccess);
    assert_int_equal(run(read_at, bytes, 8u), gpuErrorLaunchFailure);
    assert_non_null(strstr(gpuGetErrorString(gpuErrorLaunchFailure), "aligned"));
}

enum waiting { FOR_NONE, FOR_ALL_BUT_LAST, FOR_ALL, NEVER };

struct brought {
    struct gpu_words first[THREADS], second[THREADS];
};
/* Two groups of copies; every thread reads what its neighbour brought. */
GPU_KERNEL(THREADS) bring(const uint32_t *from, uint32_t *out, uint32_t waits) {
    gpu_begin();
    GPU_SHARED(struct brought, s);
    gpu_copy_async16(&s.first[gpu_thread()], from);
    gpu_copy_group();
    gpu_copy_async16(&s.second[gpu_thread()], from + 4);
    gpu_copy_group();
    if (waits == FOR_ALL_BUT_LAST) gpu_copy_wait_but_last();
    if (waits == FOR_ALL) gpu_copy_wait();
    gpu_barrier();
    const uint32_t neighbour = (gpu_thread() + 1) % THREADS;
    out[2 * gpu_thread()] = s.first[neighbour].w[3];
    out[2 * gpu_thread() + 1] = s.second[neighbour].w[0];
    gpu_barrier();
    if (waits != NEVER) gpu_copy_wait();
}

void a_copy_arrives_when_it_is_waited_for_and_no_sooner(void **) {
    enum { POISON = -1, FIRST = 103, SECOND = 104 };
    static const int expected[][2] = {{POISON, POISON}, {FIRST, POISON}, {FIRST, SECOND}};
    memory from(8), out(2 * THREADS);
    for (uint32_t i = 0; i < 8; i++) from.words[i] = 100 + i;
    for (uint32_t waits = FOR_NONE; waits <= FOR_ALL; waits++) {
        assert_int_equal(run(bring, from.words, out.words, waits), gpuSuccess);
        for (uint32_t i = 0; i < 2 * THREADS; i++) assert_int_equal(static_cast<int>(out.words[i]), expected[waits][i % 2]);
    }
    assert_int_equal(run(bring, from.words, out.words, static_cast<uint32_t>(NEVER)), gpuErrorLaunchFailure);
    assert_non_null(strstr(gpuGetErrorString(gpuErrorLaunchFailure), "under way"));
    assert_int_equal(run(bring, from.words, out.words, static_cast<uint32_t>(FOR_ALL)), gpuSuccess);
}

/* --- the matrix product, by its definition --- */

int8_t byte_of(uint32_t side, uint32_t i) { return static_cast<int8_t>((i * 37 + side * 101 + (i >> 3) * 11) % 255 - 127); }

GPU_KERNEL(THREADS) product(int32_t *out) {
    gpu_begin();
    const uint32_t g = gpu_lane() / 4, t = gpu_lane() % 4;
    uint32_t a[4] = {}, b[2] = {};
    for (uint32_t i = 0; i < 4; i++)
        for (uint32_t k = 0; k < 4; k++) {
            const uint32_t row = g + i % 2 * 8, column = i / 2 * 16 + 4 * t + k;
            a[i] |= (static_cast<uint32_t>(byte_of(0, row * 32 + column)) & 0xff) << (8 * k);
            if (i < 2) b[i] |= (static_cast<uint32_t>(byte_of(1, (i * 16 + 4 * t + k) * 8 + g)) & 0xff) << (8 * k);
        }
    int32_t c[4] = {1, 2, 3, 4};
    gpu_mma(c, a, b);
    for (uint32_t i = 0; gpu_block_x() == 0 && i < 4; i++) out[gpu_team() * 128 + (g + i / 2 * 8) * 8 + 2 * t + i % 2] = c[i] - static_cast<int32_t>(i + 1);
}

void the_matrix_product_is_that_of_its_operands(void **) {
    memory out(THREADS / 32 * 128);
    assert_int_equal(run(product, reinterpret_cast<int32_t *>(out.words)), gpuSuccess);
    for (uint32_t team = 0; team < THREADS / 32; team++)
        for (uint32_t row = 0; row < 16; row++)
            for (uint32_t column = 0; column < 8; column++) {
                int32_t sum = 0;
                for (uint32_t k = 0; k < 32; k++) sum += byte_of(0, row * 32 + k) * byte_of(1, k * 8 + column);
                assert_int_equal(static_cast<int32_t>(out.words[team * 128 + row * 8 + column]), sum);
            }
}

/* --- recordings --- */

GPU_KERNEL(THREADS) add_one(uint32_t *word) {
    gpu_begin();
    if (gpu_block_x() == 0 && gpu_thread() == 0) *word += 1;
}

void a_recorded_launch_runs_only_when_it_is_replayed(void **) {
    memory out(1);
    out.words[0] = 0;
    gpuStream_t stream;
    gpuGraph_t graph;
    gpuGraphExec_t exec;
    assert_int_equal(gpuStreamCreateWithFlags(&stream, gpuStreamNonBlocking), gpuSuccess);
    assert_int_equal(gpuStreamBeginCapture(stream, gpuCaptureThreadLocal), gpuSuccess);
    for (int i = 0; i < 3; i++) assert_int_equal(gpu_launch(add_one, gpu_grid_of(2), THREADS, 0, stream, out.words), gpuSuccess);
    assert_int_equal(gpuStreamEndCapture(stream, &graph), gpuSuccess);
    assert_int_equal(out.words[0], 0);
    assert_int_equal(gpuGraphInstantiateWithFlags(&exec, graph, 0), gpuSuccess);
    gpuGraphDestroy(graph);
    for (int i = 0; i < 2; i++) assert_int_equal(gpuGraphLaunch(exec, stream), gpuSuccess);
    assert_int_equal(out.words[0], 6);
    gpuGraphExecDestroy(exec);
    gpuStreamDestroy(stream);
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_barrier_makes_writes_of_others_visible),
        cmocka_unit_test(a_missing_barrier_shows),
        cmocka_unit_test(a_barrier_that_some_threads_miss_ends_the_launch),
        cmocka_unit_test(a_shuffle_that_some_lanes_miss_ends_the_launch),
        cmocka_unit_test(a_kernel_that_does_not_begin_is_a_failure),
        cmocka_unit_test(shuffles_stay_within_a_team_of_32),
        cmocka_unit_test(shared_memory_holds_poison_when_a_block_starts),
        cmocka_unit_test(a_write_behind_a_buffer_does_not_pass),
        cmocka_unit_test(an_access_behind_shared_memory_does_not_pass),
        cmocka_unit_test(sixteen_bytes_at_once_must_be_aligned),
        cmocka_unit_test(a_copy_arrives_when_it_is_waited_for_and_no_sooner),
        cmocka_unit_test(the_matrix_product_is_that_of_its_operands),
        cmocka_unit_test(a_recorded_launch_runs_only_when_it_is_replayed),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
