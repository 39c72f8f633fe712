/* Weights on their way to a device: shared where equal, bounded or widened as promised, and never half there. */
#include "engine/engine_internal.h"
#include "base/bytes.h"
#include "streams.h"
#include "tiny_model.h"

/* --- a loader by itself --- */

struct bench {
    struct ds_device *device;
    struct ds_stream *stream;
    struct ds_loader *loader;
    struct ds_error err;
};

static void setup(struct bench *b, bool widen) {
    check_ok(ds_device_create("ref", &(struct ds_device_params){0}, &b->device, &b->err), &b->err);
    check_ok(b->device->fns->stream_create(b->device, &b->stream, &b->err), &b->err);
    check_ok(ds_loader_create(b->device, widen, &b->loader, &b->err), &b->err);
}

static void teardown(struct bench *b) {
    ds_loader_destroy(b->loader);
    b->device->fns->stream_destroy(b->stream);
    ds_device_destroy(b->device);
}

static char *write_arrays(const struct ds_safetensors_array *arrays, size_t count, char **folder) {
    *folder = check_make_folder();
    char *path = ds_os_join(*folder, "x.safetensors");
    struct ds_error err;
    check_ok(ds_safetensors_write(path, arrays, count, &err), &err);
    return path;
}

static struct ds_ckpt *open_arrays(const struct ds_safetensors_array *arrays, size_t count, char **folder) {
    char *path = write_arrays(arrays, count, folder);
    struct ds_ckpt *ckpt;
    struct ds_error err;
    check_ok(ds_ckpt_open(path, &ckpt, &err), &err);
    free(path);
    return ckpt;
}

static const uint16_t bf16_values[] = {0x3f80, 0x0001, 0x8001, 0x2180, 0x217f, 0x5d80, 0x5d81, 0x7f00, 0xff00, 0xbf80, 0x7f80, 0xff80,
                                       0x0000, 0x8000, 0x4000, 0xc000};

static void bf16_weights_are_bounded_so_that_their_products_are_exact(void **state) {
    (void)state;
    const struct ds_safetensors_array array = {.name = "w", .type = DS_TYPE_BF16, .dims = 2, .shape = {2, 8}, .data = bf16_values};
    char *folder;
    struct ds_ckpt *ckpt = open_arrays(&array, 1, &folder);
    struct bench b;
    setup(&b, false);
    struct ds_weight weight;
    check_ok(ds_loader_matrix(b.loader, ckpt, ds_ckpt_find(ckpt, "w"), &weight, &b.err), &b.err);
    check_ok(ds_loader_finish(b.loader, b.stream, NULL, NULL, &b.err), &b.err);
    const uint16_t *got = (const uint16_t *)((const uint8_t *)b.device->fns->host(weight.at.buffer) + weight.at.offset);
    for (size_t i = 0; i < DS_COUNT(bf16_values); i++) {
        const float value = ds_float_from_bits((uint32_t)bf16_values[i] << 16), size = value < 0 ? -value : value;
        float expected = value;
        if (size < 0x1p-60f) expected = 0.0f;
        else if (size > 0x1p60f) expected = value < 0 ? -0x1p60f : 0x1p60f;
        const float found = ds_float_from_bits((uint32_t)got[i] << 16);
        assert_memory_equal(&found, &expected, sizeof found); /* bits: a small negative one is +0 */
    }
    teardown(&b);
    ds_ckpt_close(ckpt);
    check_remove_folder(folder);
}

static void widened_weights_are_the_stored_values_as_f32(void **state) {
    (void)state;
    const struct ds_safetensors_array array = {.name = "w", .type = DS_TYPE_BF16, .dims = 2, .shape = {2, 8}, .data = bf16_values};
    char *folder;
    struct ds_ckpt *ckpt = open_arrays(&array, 1, &folder);
    struct bench b;
    setup(&b, true);
    struct ds_weight weight;
    check_ok(ds_loader_matrix(b.loader, ckpt, ds_ckpt_find(ckpt, "w"), &weight, &b.err), &b.err);
    assert_int_equal(weight.type, DS_TYPE_F32);
    check_ok(ds_loader_finish(b.loader, b.stream, NULL, NULL, &b.err), &b.err);
    const uint32_t *got = (const uint32_t *)(const void *)((const uint8_t *)b.device->fns->host(weight.at.buffer) + weight.at.offset);
    for (size_t i = 0; i < DS_COUNT(bf16_values); i++) assert_int_equal(got[i], (uint32_t)bf16_values[i] << 16);
    teardown(&b);
    ds_ckpt_close(ckpt);
    check_remove_folder(folder);
}

static void matrices_too_tall_for_one_piece_arrive_whole(void **state) {
    (void)state;
    enum { TALL = 3000, WIDE = 2048 }; /* 24 MB as f32: several pieces */
    float *values = malloc(sizeof *values * TALL * WIDE);
    assert_non_null(values);
    for (size_t i = 0; i < (size_t)TALL * WIDE; i++) values[i] = (float)(i % 65521);
    const struct ds_safetensors_array array = {.name = "w", .type = DS_TYPE_F32, .dims = 2, .shape = {TALL, WIDE}, .data = values};
    char *folder;
    struct ds_ckpt *ckpt = open_arrays(&array, 1, &folder);
    struct bench b;
    setup(&b, false);
    struct ds_weight weight;
    check_ok(ds_loader_matrix(b.loader, ckpt, ds_ckpt_find(ckpt, "w"), &weight, &b.err), &b.err);
    check_ok(ds_loader_finish(b.loader, b.stream, NULL, NULL, &b.err), &b.err);
    assert_memory_equal((const uint8_t *)b.device->fns->host(weight.at.buffer) + weight.at.offset, values, sizeof *values * TALL * WIDE);
    teardown(&b);
    ds_ckpt_close(ckpt);
    check_remove_folder(folder);
    free(values);
}

/* --- through an engine --- */

struct folders {
    char *target, *drafter;
};

static struct folders write_pair(bool same_embedding) {
    struct tiny_model target = tiny_target(), drafter = tiny_drafter();
    if (!same_embedding) tiny_find(&drafter, "embed_tokens.weight")->seed++;
    return (struct folders){tiny_write(&target), tiny_write(&drafter)};
}

static void remove_pair(struct folders folders) {
    check_remove_folder(folders.target);
    check_remove_folder(folders.drafter);
}

static ds_engine *open_pair(struct folders folders, bool widen) {
    ds_engine_params params = ds_engine_defaults();
    params.target = folders.target;
    params.drafter = folders.drafter;
    params.device = "ref";
    params.context = 128;
    params.weights = widen ? DS_WEIGHTS_F32 : DS_WEIGHTS_FILE;
    ds_engine *engine;
    struct ds_error err;
    check_ok(ds_engine_open(&params, &engine, &err), &err);
    return engine;
}

static uint64_t weight_bytes(const ds_engine *engine) {
    ds_engine_info info = {.size = sizeof info};
    ds_engine_get_info(engine, &info);
    return info.weight_bytes;
}

static void equal_embeddings_of_target_and_drafter_are_stored_once(void **state) {
    (void)state;
    const struct folders same = write_pair(true), differing = write_pair(false);
    for (int widen = 0; widen < 2; widen++) {
        ds_engine *a = open_pair(same, widen), *b = open_pair(differing, widen);
        const uint64_t table = (uint64_t)TINY_VOCABULARY * TINY_HIDDEN * (widen ? 4 : 2);
        /* The tied head is the same tensor, the drafter's head is the target's: one table in all, and one more where it differs. */
        assert_int_equal(weight_bytes(b) - weight_bytes(a), table);
        ds_engine_destroy(a);
        ds_engine_destroy(b);
    }
    remove_pair(same);
    remove_pair(differing);
}

struct progress {
    uint64_t calls, last, total;
    uint64_t give_up_at; /* call */
};

static bool watch(void *user, uint64_t done, uint64_t total) {
    struct progress *p = user;
    assert_true(done >= p->last && done <= total);
    assert_true(p->calls == 0 || total == p->total);
    p->last = done;
    p->total = total;
    return ++p->calls != p->give_up_at;
}

static void progress_never_goes_back_and_ends_at_the_total(void **state) {
    (void)state;
    const struct folders folders = write_pair(true);
    for (int widen = 0; widen < 2; widen++) {
        ds_engine *engine = open_pair(folders, widen);
        struct progress progress = {0};
        struct ds_error err;
        check_ok(ds_engine_prepare(engine, watch, &progress, &err), &err);
        assert_true(progress.calls > 10);
        assert_int_equal(progress.last, progress.total);
        check_ok(ds_engine_prepare(engine, watch, &progress, &err), &err); /* prepared already: at once */
        ds_engine_destroy(engine);
    }
    remove_pair(folders);
}

static struct stream greedy_stream(ds_engine *engine) {
    static const ds_token prompt[] = {1, 2, 3, 4, 5};
    ds_session_params params = ds_session_defaults();
    params.ignore_stop = true;
    ds_session *session = new_session(engine, &params);
    append(session, prompt, DS_COUNT(prompt));
    assert_int_equal(generate(session, 40), DS_STOP_LENGTH);
    const struct stream stream = stream_of(session);
    ds_session_destroy(session);
    return stream;
}

static void loading_given_up_at_any_point_can_be_done_again(void **state) {
    (void)state;
    const struct folders folders = write_pair(true);
    ds_engine *whole = open_pair(folders, false);
    struct ds_error err;
    struct progress counted = {0};
    check_ok(ds_engine_prepare(whole, watch, &counted, &err), &err);
    const struct stream expected = greedy_stream(whole);
    ds_engine_destroy(whole);
    for (uint64_t at = 1; at < counted.calls; at++) {
        ds_engine *engine = open_pair(folders, false);
        struct progress progress = {.give_up_at = at};
        assert_int_equal(ds_engine_prepare(engine, watch, &progress, &err), DS_ERROR_CANCELLED);
        ds_session *session;
        const ds_session_params params = ds_session_defaults();
        assert_int_equal(ds_session_create(engine, &params, &session, &err), DS_ERROR_ARGUMENT);
        check_contains(err.message, "not prepared");
        check_ok(ds_engine_prepare(engine, NULL, NULL, &err), &err);
        const struct stream stream = greedy_stream(engine);
        same_stream(&stream, &expected);
        ds_engine_destroy(engine);
    }
    remove_pair(folders);
}

static bool prepare_again(void *user, uint64_t done, uint64_t total) {
    (void)done;
    (void)total;
    struct ds_error err;
    assert_int_equal(ds_engine_prepare(user, NULL, NULL, &err), DS_ERROR_ARGUMENT);
    check_contains(err.message, "being prepared");
    return true;
}

static void preparing_from_within_the_preparation_is_refused(void **state) {
    (void)state;
    const struct folders folders = write_pair(true);
    ds_engine *engine = open_pair(folders, false);
    struct ds_error err;
    check_ok(ds_engine_prepare(engine, prepare_again, engine, &err), &err);
    ds_engine_destroy(engine);
    remove_pair(folders);
}

/* --- a device that runs out of memory --- */

static const struct ds_device_fns *real_fns;
static uint32_t created, alive, fail_at; /* fail_at 0: never */

static ds_status counted_create(struct ds_device *device, uint64_t bytes, struct ds_buffer **out, struct ds_error *err) {
    *out = NULL;
    if (++created == fail_at) return ds_fail(err, DS_ERROR_MEMORY, "out of memory: %llu bytes (test)", (unsigned long long)bytes);
    const ds_status status = real_fns->buffer_create(device, bytes, out, err);
    alive += status == DS_OK;
    return status;
}

static void counted_destroy(struct ds_buffer *buffer) {
    alive -= buffer != NULL;
    real_fns->buffer_destroy(buffer);
}

static void a_device_out_of_memory_at_any_buffer_is_an_answer_and_not_an_end(void **state) {
    (void)state;
    const struct folders folders = write_pair(true);
    ds_engine *plain = open_pair(folders, false);
    struct ds_error err;
    check_ok(ds_engine_prepare(plain, NULL, NULL, &err), &err);
    const struct stream expected = greedy_stream(plain);
    ds_engine_destroy(plain);
    uint32_t most = 1;
    for (uint32_t n = 1; n <= most; n++) {
        ds_engine *engine = open_pair(folders, false);
        struct ds_device *device = engine->placements[0].device;
        real_fns = device->fns;
        struct ds_device_fns fns = *real_fns;
        fns.buffer_create = counted_create;
        fns.buffer_destroy = counted_destroy;
        device->fns = &fns;
        created = alive = 0;
        fail_at = n;
        const ds_status status = ds_engine_prepare(engine, NULL, NULL, &err);
        if (status == DS_OK) {
            assert_true(n > 5); /* slab, scratch, page tables, rows, caches, outputs: several were tried */
        } else {
            assert_int_equal(status, DS_ERROR_MEMORY);
            check_contains(err.message, "(test)");
            most = n + 1;
        }
        fail_at = 0;
        check_ok(ds_engine_prepare(engine, NULL, NULL, &err), &err);
        const struct stream stream = greedy_stream(engine);
        same_stream(&stream, &expected);
        ds_engine_destroy(engine);
        assert_int_equal(alive, 0);
    }
    remove_pair(folders);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bf16_weights_are_bounded_so_that_their_products_are_exact),
        cmocka_unit_test(widened_weights_are_the_stored_values_as_f32),
        cmocka_unit_test(matrices_too_tall_for_one_piece_arrive_whole),
        cmocka_unit_test(equal_embeddings_of_target_and_drafter_are_stored_once),
        cmocka_unit_test(progress_never_goes_back_and_ends_at_the_total),
        cmocka_unit_test(loading_given_up_at_any_point_can_be_done_again),
        cmocka_unit_test(preparing_from_within_the_preparation_is_refused),
        cmocka_unit_test(a_device_out_of_memory_at_any_buffer_is_an_answer_and_not_an_end),
    };
    return cmocka_run_group_tests_name("loader", tests, NULL, NULL);
}
