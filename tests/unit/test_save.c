/* A saved session goes on as if it had never been put away, and a file that is not exactly what was saved is refused. */
#include "streams.h"
#include "tiny_pair.h"

#include <sys/stat.h>

static char *other_folder, *files;

static int set_up(void **state) {
    struct tiny_model other = tiny_target();
    other.tensors[3].seed += 77;
    other_folder = tiny_write(&other);
    files = check_make_folder();
    return write_models(state);
}

static int tear_down(void **state) {
    check_remove_folder(other_folder);
    check_remove_folder(files); /* fails when anything was left behind in it that is not a file */
    return remove_models(state);
}

static ds_engine_params tiny_params(bool drafter) {
    ds_engine_params params = ds_engine_defaults();
    params.target = target_folder;
    params.drafter = drafter ? drafter_folder : NULL;
    params.device = "ref";
    params.context = 256;
    params.max_sessions = 2;
    return params;
}

static ds_session_params sampled(void) {
    ds_session_params params = ds_session_defaults();
    params.sampling = (ds_sampling){.temperature = 1.0f, .seed = 5};
    params.ignore_stop = true;
    params.spec = DS_SPEC_FIXED; /* measured times could tell one session that the drafter's context is not worth having, and the other that it is */
    params.spec_length = TINY_BLOCK;
    return params;
}

static const ds_token prompt[] = {3, 1, 4, 1, 5, 9, 2, 6};

static void a_saved_session_goes_on_with_the_same_stream(void **state) {
    (void)state;
    char *path = ds_os_join(files, "session");
    for (int drafter = 0; drafter < 2; drafter++) {
        const ds_engine_params engine_params = tiny_params(drafter);
        const ds_session_params params = sampled();
        static const size_t lengths[] = {1, 55, 56, 57, 120}; /* around a page's end, and with several */
        for (size_t i = 0; i < DS_COUNT(lengths); i++) {
            ds_engine *engine = open_engine(&engine_params);
            struct ds_error err;
            ds_session *session = new_session(engine, &params);
            append(session, prompt, DS_COUNT(prompt));
            generate(session, lengths[i]);
            check_ok(ds_session_save(session, path, &err), &err);
            generate(session, 30);
            const struct stream expected = stream_of(session);
            ds_session_destroy(session);
            ds_engine_destroy(engine);

            engine = open_engine(&engine_params); /* another process, as far as it can see */
            ds_session *in_the_way = new_session(engine, &params);
            append(in_the_way, prompt, 3);
            generate(in_the_way, 80); /* so that the pages are other ones */
            session = new_session(engine, &params);
            append(session, prompt, 2); /* replaced by the load */
            check_ok(ds_session_load(session, path, &err), &err);
            assert_int_equal(ds_session_length(session), DS_COUNT(prompt) + lengths[i]);
            generate(session, 30);
            const struct stream got = stream_of(session);
            same_stream(&got, &expected);
            ds_stats stats = {.size = sizeof stats};
            ds_session_get_stats(session, &stats);
            assert_int_equal(stats.prompt_tokens, 0); /* nothing was computed again */
            ds_session_destroy(session);
            ds_session_destroy(in_the_way);
            ds_engine_destroy(engine);
        }
    }
    free(path);
}

static void an_empty_session_can_be_saved_and_read(void **state) {
    (void)state;
    const ds_engine_params engine_params = tiny_params(true);
    const ds_session_params params = sampled();
    ds_engine *engine = open_engine(&engine_params);
    ds_session *session = new_session(engine, &params);
    char *path = ds_os_join(files, "empty");
    struct ds_error err;
    check_ok(ds_session_save(session, path, &err), &err);
    append(session, prompt, 4);
    check_ok(ds_session_load(session, path, &err), &err);
    assert_int_equal(ds_session_length(session), 0);
    free(path);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
}

/* --- damage --- */

struct damaged {
    ds_engine *engine;
    ds_session *session;
    char *path;
    char *bytes;
    size_t size;
    struct stream expected; /* of 10 tokens behind the prompt */
};

static struct damaged begin_damage(void) {
    struct damaged d = {.path = ds_os_join(files, "damaged")};
    const ds_engine_params engine_params = tiny_params(true);
    const ds_session_params params = sampled();
    struct ds_error err;
    d.engine = open_engine(&engine_params);
    d.session = new_session(d.engine, &params);
    append(d.session, prompt, DS_COUNT(prompt));
    generate(d.session, 10);
    d.expected = stream_of(d.session);
    check_ok(ds_session_save(d.session, d.path, &err), &err);
    check_ok(ds_os_read_file(d.path, 1 << 24, &d.bytes, &d.size, &err), &err);
    return d;
}

static void end_damage(struct damaged *d) {
    free(d->path);
    free(d->bytes);
    ds_session_destroy(d->session);
    ds_engine_destroy(d->engine);
}

/* The session is empty after the refusal, and works. */
static void expect_refused(struct damaged *d, size_t size, bool try_it) {
    FILE *file = fopen(d->path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(d->bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    struct ds_error err;
    const ds_status status = ds_session_load(d->session, d->path, &err);
    if (status == DS_OK) fail_msg("a damaged file was read");
    assert_true(status == DS_ERROR_FORMAT || status == DS_ERROR_MISMATCH || status == DS_ERROR_LIMIT);
    check_contains(err.message, d->path);
    assert_int_equal(ds_session_length(d->session), 0);
    if (!try_it) return;
    append(d->session, prompt, DS_COUNT(prompt));
    generate(d->session, 10);
    const struct stream got = stream_of(d->session);
    same_stream(&got, &d->expected);
}

static void a_file_cut_off_anywhere_is_refused(void **state) {
    (void)state;
    struct damaged d = begin_damage();
    const size_t dense = 64 + 4 * d.expected.count + 64; /* every byte of header and tokens, then in steps */
    for (size_t size = 0; size < d.size; size += size < dense ? 1 : 997) expect_refused(&d, size, size % 50 == 0);
    expect_refused(&d, d.size - 1, true);
    d.bytes = realloc(d.bytes, d.size + 1);
    assert_non_null(d.bytes);
    d.bytes[d.size] = 0;
    expect_refused(&d, d.size + 1, true); /* nor is one with something behind it */
    end_damage(&d);
}

static void a_changed_bit_of_header_or_tokens_is_refused(void **state) {
    (void)state;
    struct damaged d = begin_damage();
    const size_t end = 64 + 4 * d.expected.count;
    for (size_t bit = 0; bit < 8 * end; bit++) {
        d.bytes[bit / 8] ^= (char)(1 << bit % 8);
        expect_refused(&d, d.size, bit % 101 == 0);
        d.bytes[bit / 8] ^= (char)(1 << bit % 8);
    }
    end_damage(&d);
}

static void expect_mismatch(const ds_engine_params *params, const char *path, const char *part) {
    const ds_session_params session_params = sampled();
    ds_engine *engine = open_engine(params);
    ds_session *session = new_session(engine, &session_params);
    struct ds_error err;
    append(session, prompt, 4);
    assert_int_equal(ds_session_load(session, path, &err), DS_ERROR_MISMATCH);
    check_contains(err.message, part);
    assert_int_equal(ds_session_length(session), 0);
    append(session, prompt, 4);
    generate(session, 4);
    ds_session_destroy(session);
    ds_engine_destroy(engine);
}

static void a_session_of_another_model_drafter_or_cache_is_refused(void **state) {
    (void)state;
    struct damaged d = begin_damage();
    ds_engine_params params = tiny_params(true);
    params.target = other_folder;
    expect_mismatch(&params, d.path, "another target");
    params = tiny_params(false);
    expect_mismatch(&params, d.path, "another drafter");
    params = tiny_params(true);
    params.kv = DS_KV_F32;
    expect_mismatch(&params, d.path, "f16 cache");
    params = tiny_params(true);
    params.weights = DS_WEIGHTS_F32;
    expect_mismatch(&params, d.path, "weights");
    params = tiny_params(true);
    params.context = 16;
    ds_engine *small = open_engine(&params);
    const ds_session_params session_params = sampled();
    ds_session *session = new_session(small, &session_params);
    struct ds_error err;
    assert_int_equal(ds_session_load(session, d.path, &err), DS_ERROR_LIMIT);
    check_contains(err.message, "holds 18 tokens; the context of this engine holds 16");
    ds_session_destroy(session);
    ds_engine_destroy(small);
    end_damage(&d);
}

static void paths_that_cannot_be_written_or_read_leave_nothing_behind(void **state) {
    (void)state;
    struct damaged d = begin_damage();
    struct ds_error err;
    char *missing = ds_os_join(files, "no/such/folder"), *taken = ds_os_join(files, "folder");
    assert_int_equal(ds_session_save(d.session, missing, &err), DS_ERROR_IO);
    check_contains(err.message, missing);
    assert_int_equal(mkdir(taken, 0700), 0);
    assert_int_equal(ds_session_save(d.session, taken, &err), DS_ERROR_IO); /* a folder is in the way of the rename */
    assert_int_equal(rmdir(taken), 0);
    char **names;
    size_t count;
    check_ok(ds_os_list_folder(files, &names, &count, &err), &err);
    for (size_t i = 0; i < count; i++)
        if (strstr(names[i], "folder") || strstr(names[i], "such")) fail_msg("left behind: %s", names[i]);
    ds_os_free_names(names, count);
    assert_int_equal(ds_session_length(d.session), d.expected.count); /* a save changes nothing */
    assert_int_equal(ds_session_load(d.session, missing, &err), DS_ERROR_IO);
    assert_int_equal(ds_session_length(d.session), 0);
    free(missing);
    free(taken);
    end_damage(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_saved_session_goes_on_with_the_same_stream),
        cmocka_unit_test(an_empty_session_can_be_saved_and_read),
        cmocka_unit_test(a_file_cut_off_anywhere_is_refused),
        cmocka_unit_test(a_changed_bit_of_header_or_tokens_is_refused),
        cmocka_unit_test(a_session_of_another_model_drafter_or_cache_is_refused),
        cmocka_unit_test(paths_that_cannot_be_written_or_read_leave_nothing_behind),
    };
    return cmocka_run_group_tests_name("save", tests, set_up, tear_down);
}
