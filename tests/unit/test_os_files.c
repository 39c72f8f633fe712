/* Files and folders keep what os.h promises. */
#include "check.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

static void a_mapping_shows_the_file_and_survives_release(void **state) {
    (void)state;
    enum { BYTES = 5 * 4096 + 123 };
    char *folder = check_make_folder(), *content = malloc(BYTES);
    for (size_t i = 0; i < BYTES; i++) content[i] = (char)(i * 7);
    char *path = check_write_file(folder, "data", content, BYTES);
    struct ds_mapping mapping;
    struct ds_error err;
    check_ok(ds_os_map(path, &mapping, &err), &err);
    assert_int_equal(mapping.size, BYTES);
    ds_os_prefetch(&mapping, 5000, BYTES);
    ds_os_release(&mapping, 100, BYTES);
    ds_os_release(&mapping, UINT64_MAX, UINT64_MAX); /* hints outside the file do nothing */
    ds_os_prefetch(&mapping, UINT64_MAX, UINT64_MAX);
    assert_memory_equal(mapping.data, content, BYTES);
    ds_os_unmap(&mapping);
    ds_os_unmap(&mapping);
    free(path);
    free(content);
    check_remove_folder(folder);
}

static void an_empty_file_maps_to_nothing(void **state) {
    (void)state;
    char *folder = check_make_folder(), *path = check_write_file(folder, "empty", "", 0);
    struct ds_mapping mapping;
    struct ds_error err;
    check_ok(ds_os_map(path, &mapping, &err), &err);
    assert_null(mapping.data);
    assert_int_equal(mapping.size, 0);
    ds_os_unmap(&mapping);
    free(path);
    check_remove_folder(folder);
}

static void what_is_no_regular_file_is_not_mapped(void **state) {
    (void)state;
    char *folder = check_make_folder(), *pipe_path = ds_os_join(folder, "pipe");
    struct ds_mapping mapping;
    struct ds_error err;
    assert_int_equal(ds_os_map(folder, &mapping, &err), DS_ERROR_IO);
    check_contains(err.message, "a folder");
    assert_int_equal(mkfifo(pipe_path, 0600), 0); /* opening it carelessly would wait for a writer */
    assert_int_equal(ds_os_map(pipe_path, &mapping, &err), DS_ERROR_IO);
    check_contains(err.message, pipe_path);
    assert_int_equal(ds_os_map("/nonexistent/file", &mapping, &err), DS_ERROR_IO);
    check_contains(err.message, "/nonexistent/file");
    free(pipe_path);
    check_remove_folder(folder);
}

static void reading_stops_at_the_limit(void **state) {
    (void)state;
    char *folder = check_make_folder(), *path = check_write_file(folder, "five", "12345", 5), *text;
    size_t size;
    struct ds_error err;
    check_ok(ds_os_read_file(path, 5, &text, &size, &err), &err);
    assert_int_equal(size, 5);
    assert_string_equal(text, "12345");
    free(text);
    assert_int_equal(ds_os_read_file(path, 4, &text, &size, &err), DS_ERROR_LIMIT);
    assert_null(text);
    check_contains(err.message, "4 bytes");
    assert_int_equal(ds_os_read_file(folder, 10, &text, &size, &err), DS_ERROR_IO);
    free(path);
    check_remove_folder(folder);
}

static void files_that_claim_no_size_are_read_whole(void **state) {
    (void)state;
    char *text;
    size_t size;
    struct ds_error err;
    if (ds_os_path_kind("/proc/self/maps") != DS_PATH_FILE) skip();
    check_ok(ds_os_read_file("/proc/self/maps", 1 << 24, &text, &size, &err), &err);
    assert_true(size > 0 && strlen(text) == size);
    free(text);
}

static size_t count_names(const char *folder) {
    char **names;
    size_t count;
    struct ds_error err;
    check_ok(ds_os_list_folder(folder, &names, &count, &err), &err);
    ds_os_free_names(names, count);
    return count;
}

static void a_written_file_appears_only_when_complete(void **state) {
    (void)state;
    char *folder = check_make_folder(), *path = check_write_file(folder, "out", "old", 3), *text;
    struct ds_os_writer writer;
    struct ds_error err;
    size_t size;
    check_ok(ds_os_write_begin(path, &writer, &err), &err);
    check_ok(ds_os_write(&writer, "new content", 11, &err), &err);
    check_ok(ds_os_read_file(path, 100, &text, &size, &err), &err);
    assert_string_equal(text, "old");
    free(text);
    check_ok(ds_os_write_commit(&writer, &err), &err);
    check_ok(ds_os_read_file(path, 100, &text, &size, &err), &err);
    assert_string_equal(text, "new content");
    free(text);
    assert_int_equal(count_names(folder), 1);
    free(path);
    check_remove_folder(folder);
}

static void an_aborted_file_leaves_nothing(void **state) {
    (void)state;
    char *folder = check_make_folder(), *path = ds_os_join(folder, "out");
    struct ds_os_writer writer = {0};
    struct ds_error err;
    ds_os_write_abort(&writer);
    check_ok(ds_os_write_begin(path, &writer, &err), &err);
    check_ok(ds_os_write(&writer, "x", 1, &err), &err);
    assert_int_equal(count_names(folder), 1);
    ds_os_write_abort(&writer);
    ds_os_write_abort(&writer);
    assert_int_equal(count_names(folder), 0);
    free(path);
    check_remove_folder(folder);
}

static void a_link_is_followed_and_a_device_is_not_replaced(void **state) {
    (void)state;
    char *folder = check_make_folder(), *path = check_write_file(folder, "file", "a", 1),
         *link_path = ds_os_join(folder, "link");
    struct ds_os_writer writer;
    struct ds_error err;
    struct stat info;
    assert_int_equal(symlink(path, link_path), 0);
    check_ok(ds_os_write_begin(link_path, &writer, &err), &err);
    check_ok(ds_os_write_commit(&writer, &err), &err);
    assert_int_equal(lstat(link_path, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_size, 0);
    assert_int_equal(ds_os_write_begin("/dev/null", &writer, &err), DS_ERROR_IO);
    assert_int_equal(ds_os_write_begin(folder, &writer, &err), DS_ERROR_IO);
    free(link_path);
    free(path);
    check_remove_folder(folder);
}

static void a_new_file_is_complete_or_absent_and_replaces_none(void **state) {
    (void)state;
    char *folder = check_make_folder(), *path = ds_os_join(folder, "new"), *text;
    static const char content[4096];
    struct ds_error err;
    size_t size;
    struct rlimit before, tight;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    tight = (struct rlimit){.rlim_cur = 1024, .rlim_max = before.rlim_max};
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is then an error of write */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    const ds_status cut = ds_os_create_file(path, false, content, sizeof content, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(cut, DS_ERROR_IO);
    assert_int_equal(count_names(folder), 0);

    check_ok(ds_os_create_file(path, true, "first", 5, &err), &err);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 077, 0);
    assert_int_equal(ds_os_create_file(path, false, "second", 6, &err), DS_ERROR_IO);
    check_ok(ds_os_read_file(path, 100, &text, &size, &err), &err);
    assert_string_equal(text, "first");
    free(text);
    free(path);
    check_remove_folder(folder);
}

static void folders_are_listed_in_byte_order(void **state) {
    (void)state;
    char *folder = check_make_folder(), **names;
    size_t count;
    struct ds_error err;
    check_write_text(folder, "b", "");
    check_write_text(folder, "B", "");
    check_write_text(folder, ".a", "");
    check_ok(ds_os_list_folder(folder, &names, &count, &err), &err);
    assert_int_equal(count, 3);
    assert_string_equal(names[0], ".a");
    assert_string_equal(names[1], "B");
    assert_string_equal(names[2], "b");
    ds_os_free_names(names, count);
    check_remove_folder(folder);
    assert_int_equal(ds_os_list_folder("/nonexistent", &names, &count, &err), DS_ERROR_IO);
}

static void paths_are_joined_with_one_slash(void **state) {
    (void)state;
    static const char *const cases[][3] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}, {"", "b", "b"}};
    for (size_t i = 0; i < DS_COUNT(cases); i++) {
        char *joined = ds_os_join(cases[i][0], cases[i][1]);
        assert_string_equal(joined, cases[i][2]);
        free(joined);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mapping_shows_the_file_and_survives_release),
        cmocka_unit_test(an_empty_file_maps_to_nothing),
        cmocka_unit_test(what_is_no_regular_file_is_not_mapped),
        cmocka_unit_test(reading_stops_at_the_limit),
        cmocka_unit_test(files_that_claim_no_size_are_read_whole),
        cmocka_unit_test(a_written_file_appears_only_when_complete),
        cmocka_unit_test(an_aborted_file_leaves_nothing),
        cmocka_unit_test(a_link_is_followed_and_a_device_is_not_replaced),
        cmocka_unit_test(a_new_file_is_complete_or_absent_and_replaces_none),
        cmocka_unit_test(folders_are_listed_in_byte_order),
        cmocka_unit_test(paths_are_joined_with_one_slash),
    };
    return cmocka_run_group_tests_name("os_files", tests, NULL, NULL);
}
