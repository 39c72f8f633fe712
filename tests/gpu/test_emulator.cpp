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
    if (gpu_thread() == 0) {
        out[gpu_block_x()] = s.value[3];
        s.value[3] = 7;
    }
}

void shared_memory_holds_poison_when_a_block_starts(void **) {
    memory out(2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(run(read_shared, out.words), gpuSuccess);
        assert_int_equal(out.words[0], 0xffffffffu);
        assert_int_equal(out.words[1], 0xffffffffu);
    }
}

GPU_KERNEL(THREADS) write_word(uint32_t *out, uint32_t index) {
    gpu_begin();
    if (gpu_block_x() == 0 && gpu_thread() == 0) out[index] = 1;
}

/* In a process of its own, which such a write must end. */
bool writing_kills(uint32_t *words, uint32_t index) {
    const pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL); /* not cmocka's */
        _exit(run(write_word, words, index) == gpuSuccess ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status);
}

void a_write_behind_a_buffer_does_not_pass(void **) {
    memory out(16); /* a multiple of the alignment: nothing rounds it up */
    assert_false(writing_kills(out.words, 15));
    assert_true(writing_kills(out.words, 16));
    assert_true(writing_kills(out.words - 2048, 0));
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
        cmocka_unit_test(the_matrix_product_is_that_of_its_operands),
        cmocka_unit_test(a_recorded_launch_runs_only_when_it_is_replayed),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
